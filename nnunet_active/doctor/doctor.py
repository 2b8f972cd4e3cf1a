"""Check an installation, and a data set that is to be adapted: what is there, what is missing, and what to do about it.

Checks are independent: one that crashes is reported as a problem with its error, and the others go on. Checks that need
torch or nnU-Net run in a process of their own (`doctor_probe`), because a broken installation can crash its process.
Nothing is written or changed.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import nnunet_active
from nnunet_active.util.errors import ActiveError

State = Literal["ok", "warning", "problem"]
OLDEST_PYTHON = (3, 10)
OLDEST_NNUNET = (2, 8)
_PROBE_SECONDS = 300  # nnU-Net imports all of its trainers, which takes long on a network drive


@dataclass(frozen=True)
class Check:
    """Outcome of one check.

    Attributes:
        name: what was checked.
        state: ``ok``, ``warning`` (works, but look at it) or ``problem`` (something will fail).
        found: what was found.
        advice: what to do; empty if there is nothing to do.
    """

    name: str
    state: State
    found: str
    advice: str = ""

    def lines(self) -> list[str]:
        """For a terminal."""
        head = f"{'[' + self.state + ']':<9} {self.name}: "
        indent = " " * 10
        text = [head + line if n == 0 else indent + line for n, line in enumerate(self.found.splitlines() or [""])]
        return text + [f"{indent}-> {line}" for line in self.advice.splitlines()]


_NAMED = 5  # this many cases are named, the others only counted


def name_some(cases: Iterable[str]) -> str:
    """The first cases by name, and how many more there are."""
    cases = list(cases)
    more = f" and {len(cases) - _NAMED} more" if len(cases) > _NAMED else ""
    return ", ".join(cases[:_NAMED]) + more


Examination = Callable[[], "Check | Iterable[Check]"]


def run_checks(examinations: Sequence[tuple[str, Examination]]) -> list[Check]:
    """Run all checks in order; a crash becomes a problem of that check. The same error is reported only once."""
    checks: list[Check] = []
    told: set[str] = set()
    for name, examine in examinations:
        try:
            outcome = examine()
            for check in [outcome] if isinstance(outcome, Check) else outcome:
                checks.append(check)
        except ActiveError as error:
            if str(error) not in told:
                told.add(str(error))
                checks.append(Check(name, "problem", str(error)))
        except (Exception, SystemExit) as error:
            found = f"{type(error).__name__}: {error}"
            if found not in told:
                told.add(found)
                checks.append(Check(name, "problem", found, "This check could not be finished."))
    return checks


def examine_installation() -> list[Check]:
    """Versions, environment variables, and whether stock nnU-Net finds our trainers."""
    probe = Probe()
    return run_checks(
        [
            ("python", check_python),
            ("packages", check_packages),
            ("torch and torchvision", lambda: check_torchvision(probe.result("torchvision"))),
            ("device", lambda: check_device(probe.result("device"))),
            ("folders", lambda: check_folders(os.environ)),
            ("nnUNet_extTrainer", lambda: check_external_trainers(os.environ)),
            ("trainer discovery", lambda: check_trainer(probe.result("trainer"), os.environ)),
            ("settings of nnU-Net", lambda: check_settings(os.environ, probe.result("device"))),
        ]
    )


def exit_code(checks: Iterable[Check]) -> int:
    """1 if there is a problem, else 0."""
    return int(any(check.state == "problem" for check in checks))


def report(checks: Sequence[Check]) -> str:
    """All checks for a terminal, with the totals at the end."""
    number = {state: sum(check.state == state for check in checks) for state in ("ok", "warning", "problem")}
    words = [f"{number['ok']} ok"]
    words += [f"{number[state]} {state}{'' if number[state] == 1 else 's'}" for state in ("warning", "problem")]
    return "\n".join([*(line for check in checks for line in check.lines()), "", f"{', '.join(words)}."])


def as_json(checks: Sequence[Check]) -> str:
    """The same for scripts."""
    content = {"problems": sum(check.state == "problem" for check in checks), "checks": [asdict(c) for c in checks]}
    return json.dumps(content, indent=2)


class Probe:
    """The answers of `doctor_probe`, which runs once in a process of its own."""

    def __init__(self, command: Sequence[str] | None = None) -> None:
        # run by file: -m puts the working directory first, and in a clone its folder would hide the installed package
        self.command = list(command or (sys.executable, str(Path(__file__).with_name("doctor_probe.py"))))
        self._answers: dict[str, dict[str, Any]] | None = None
        self._end = ""

    def result(self, name: str) -> dict[str, Any]:
        """Answer of one probe; with ``error`` if it failed."""
        if self._answers is None:
            self._answers = {}
            try:
                done = subprocess.run(self.command, capture_output=True, text=True, timeout=_PROBE_SECONDS)
            except subprocess.TimeoutExpired:
                self._end = f"it did not end within {_PROBE_SECONDS} s"
            else:
                lines = done.stderr.strip().splitlines() or ["no message"]
                self._end = f"its process ended with code {done.returncode}: {lines[-1]}"
                for line in done.stdout.splitlines():
                    if line.startswith('{"probe": '):  # nnU-Net may print other lines in between
                        answer = json.loads(line)
                        self._answers[answer["probe"]] = answer
        return self._answers.get(name, {"error": f"The trial of torch and nnU-Net broke off, {self._end}"})


def check_python() -> Check:
    """Python's version."""
    found = f"{platform.python_version()} ({sys.executable})"
    if sys.version_info < OLDEST_PYTHON:
        return Check("python", "problem", found, "Use Python 3.10 or newer.")
    return Check("python", "ok", found)


def check_packages(version: Callable[[str], str] = importlib.metadata.version) -> Iterator[Check]:
    """Versions of the packages we depend on. ``version`` looks up a distribution's version."""
    for package in ("nnunetv2", "torch", "torchvision", "numpy", "SimpleITK"):
        try:
            found = version(package)
        except importlib.metadata.PackageNotFoundError:
            if package == "torchvision":
                yield Check(package, "ok", "not installed")
            else:
                yield Check(package, "problem", "not installed", f"pip install {package}")
            continue
        if package == "nnunetv2" and _numbers(found) < OLDEST_NNUNET:
            what = f"{found}; nnUNet_extTrainer, by which nnU-Net finds our trainers, came with 2.8"
            yield Check(package, "problem", what, 'pip install "nnunetv2>=2.8"')
        else:
            yield Check(package, "ok", found)
    yield Check("nnunet_active", "ok", f"{nnunet_active.__version__} ({Path(nnunet_active.__file__).resolve().parent})")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.partition("+")[0])[:2])


def check_torchvision(answer: Mapping[str, Any]) -> Check:
    """Whether torch and torchvision match; nnU-Net's search for trainers imports both."""
    name = "torch and torchvision"
    if "error" in answer:
        return Check(
            name,
            "problem",
            f"{answer['error']}\nnnU-Net imports both when it looks for a trainer, so no trainer but the default one would be found.",
            "Install both from one place, e.g. pip install --force-reinstall torch torchvision (PyPI's torch runs on the CPU "
            "too; a CPU-only torch does not go with PyPI's torchvision).",
        )
    return Check(name, "ok", answer["found"])


def check_device(answer: Mapping[str, Any]) -> Check:
    """Which devices torch can use."""
    if "error" in answer:
        return Check("device", "problem", answer["error"], "Mend torch first.")
    if not answer["devices"]:
        if shutil.which("nvidia-smi"):
            found = f"CPU only, although nvidia-smi is there ({answer['built_for']})"
            return Check("device", "warning", found, "Install a torch that fits the driver, or train with -device cpu.")
        return Check("device", "ok", "CPU only: give nnUNetv2_train, nnUNetv2_predict the flag -device cpu")
    return Check("device", "ok", ", ".join(answer["devices"]))


def check_folders(environment: Mapping[str, str]) -> Iterator[Check]:
    """``nnUNet_raw``, ``nnUNet_preprocessed``, ``nnUNet_results``: whether they are set, exist and are writable."""
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        value = environment.get(name)
        if not value:
            yield Check(name, "problem", "not set", f"export {name}=/path/to/{name}")
            continue
        folder = Path(value)
        if folder.exists() and not folder.is_dir():
            yield Check(name, "problem", f"{folder} is not a folder", f"Set {name} to a folder.")
        elif not folder.is_dir():
            state: State = "problem" if name == "nnUNet_raw" else "warning"
            yield Check(name, state, f"{folder} does not exist", f"mkdir -p '{folder}', or correct the variable.")
        elif name != "nnUNet_raw" and not os.access(folder, os.W_OK | os.X_OK):
            yield Check(name, "problem", f"{folder} cannot be written", "Change its permissions or the variable.")
        else:
            yield Check(name, "ok", str(folder))


def check_external_trainers(environment: Mapping[str, str]) -> Check:
    """Whether ``nnUNet_extTrainer`` names the folder in which stock nnU-Net finds our trainers."""
    from nnunet_active.nnunet_discovery import VARIABLE, discovery_folder, export_line, is_listed, listed_folders

    value = environment.get(VARIABLE, "")
    if not listed_folders(value):
        return Check(VARIABLE, "problem", "not set, so nnUNetv2_train does not find our trainers", export_line(value))
    if not is_listed(value):
        return Check(VARIABLE, "problem", f"{value} does not list {discovery_folder()}", export_line(value))
    absent = [folder for folder in listed_folders(value) if not Path(folder).is_dir()]
    if absent:
        return Check(VARIABLE, "warning", f"{', '.join(absent)} does not exist", "Take it out of the variable.")
    return Check(VARIABLE, "ok", value)


def check_trainer(answer: Mapping[str, Any], environment: Mapping[str, str]) -> Check:
    """Whether nnU-Net's own search finds our trainer, and as the importable class (otherwise it does not pickle)."""
    name = "trainer discovery"
    if not environment.get("nnUNet_extTrainer", "").strip():
        return Check(name, "ok", "not tried without nnUNet_extTrainer, see above")
    if "error" in answer:
        return Check(
            name,
            "problem",
            answer["error"],
            "Set nnUNet_extTrainer to what nnunet_active trainers prints, and mend what is reported above.",
        )
    return Check(name, "ok", answer["found"])


def check_settings(environment: Mapping[str, str], device: Mapping[str, Any]) -> Iterator[Check]:
    """Other nnU-Net variables that have made commands fail; ``device`` is the answer of that probe."""
    name = "nnUNet_n_proc_DA"
    value = environment.get(name)
    if value is not None and not value.strip().isdigit():
        yield Check(name, "problem", f"{value!r} is not a number", f"unset {name}, or set it to a number.")
    elif value is not None and int(value) == 0:
        yield Check(
            name, "ok", f"0, which stock planning alone does not take ({name}=1 nnUNetv2_plan_and_preprocess ...)"
        )
    else:
        yield Check(name, "ok", "not set" if value is None else value)
    name = "nnUNet_compile"
    value = environment.get(name)
    switched_on = value is None or value.lower() in ("true", "1", "t")
    on_gpu = any(str(one).startswith("cuda") for one in device.get("devices", ()))
    if switched_on and on_gpu and not any(shutil.which(compiler) for compiler in ("cc", "gcc", "clang", "cl")):
        found = (
            f"{'not set' if value is None else value}: nnU-Net compiles networks on a GPU, but there is no C compiler"
        )
        yield Check(name, "warning", found, "export nnUNet_compile=f, or install a C compiler.")
    else:
        yield Check(name, "ok", "not set (nnU-Net compiles networks on a GPU)" if value is None else value)
