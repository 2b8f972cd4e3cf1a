"""Every check that needs a GPU, in at most eight minutes on a machine that has torch with CUDA; one table and one JSON file.

    python benchmarks/gpu_check.py --json gpu_check.json
    python benchmarks/gpu_check.py --tiny -device cpu      # the same steps on a CPU, with small networks and images

The data are the demo's phantom, stretched to 160³ voxels; plans are nnU-Net's own for ``3d_fullres`` (batch 2, patch 128³). Each
check (a function of ``gpu_parts``, ``gpu_scoring`` or ``gpu_training``) is a process of its own with a time limit. A check that fails
is named in the table, and the others go on. The JSON file is written after each of them. While a check runs, the whole card is
watched five times a second: ``memory`` is the highest memory in use on it, ``busy`` the mean share of time in which a kernel ran.
Those that only have to come to a right end run side by side, last; their seconds are not to be compared.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
PARTS = {
    "setup": ("gpu_parts", 200),
    "select": ("gpu_parts", 90),
    "predict": ("gpu_parts", 120),
    "scoring": ("gpu_scoring", 120),
    "ct": ("gpu_scoring", 180),
    "training": ("gpu_training", 240),
    "precision": ("gpu_scoring", 180),
    "resume": ("gpu_training", 180),
    "ddp": ("gpu_training", 180),
    "guarded": ("gpu_training", 240),
}
"""Check, its module and its time limit in seconds."""
SIDE_BY_SIDE = ("precision", "resume", "ddp", "guarded")
START = """
import importlib, pathlib, sys
import gpu_parts
module, name, folder, device, tiny = sys.argv[1:]
getattr(importlib.import_module(module), name)(gpu_parts.Check(name, pathlib.Path(folder), device, tiny == "1"))
"""


class Card(threading.Thread):
    """Watches the first GPU, through NVIDIA's library; without it, nothing is known."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.memory, self.busy = [], []
        self._ended = threading.Event()
        try:
            import pynvml

            pynvml.nvmlInit()
            self._nvml, self._card = pynvml, pynvml.nvmlDeviceGetHandleByIndex(0)
        except Exception:
            self._nvml = None

    def run(self) -> None:
        while self._nvml is not None and not self._ended.wait(0.2):
            self.memory.append(self._nvml.nvmlDeviceGetMemoryInfo(self._card).used / 2**20)
            self.busy.append(self._nvml.nvmlDeviceGetUtilizationRates(self._card).gpu / 100)

    def seen(self) -> dict[str, float]:
        self._ended.set()
        if not self.memory:
            return {}
        return {"memory_mib": round(max(self.memory)), "busy": round(sum(self.busy) / len(self.busy), 3)}


def machine(device: str) -> dict[str, str]:
    import torch

    card = torch.cuda.get_device_name(0) if device == "cuda" else platform.processor() or platform.machine()
    return {
        "device": card,
        "cores": str(os.cpu_count()),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def environment(check: str, work: Path, tiny: bool) -> dict[str, str]:
    paths = [str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])]
    made = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        made[name] = str(work / name)
        (work / name).mkdir(parents=True, exist_ok=True)
    if check in SIDE_BY_SIDE:  # each training would start a dozen processes
        made |= {"nnUNet_n_proc_DA": "3"}
    if tiny:
        made |= {"nnUNet_n_proc_DA": "1", "nnUNet_def_n_proc": "1", "nnUNet_compile": "f"}
    return made


def run_part(name: str, limit: float, args: argparse.Namespace, work: Path) -> dict:
    """One check in a process of its own: what it found, or why it did not get there.

    It starts in ``work``: in the source folder, Python would take ``nnunet_active`` from there, without its trainers and planners.
    """
    answer, log = work / f"{name}.json", work / f"{name}.log"
    command = [sys.executable, "-c", START, PARTS[name][0], name, str(work), args.device, str(int(args.tiny))]
    card, begin = Card(), time.perf_counter()
    if name not in SIDE_BY_SIDE:
        card.start()
    with log.open("w") as file:
        process = subprocess.Popen(
            command, env=environment(name, work, args.tiny), cwd=work, stdout=file, stderr=subprocess.STDOUT
        )
        try:
            code = process.wait(limit)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            code = f"no end after {limit:.0f} s"
    result = {"check": name, "seconds": round(time.perf_counter() - begin, 1), **card.seen()}
    result["rows"] = json.loads(answer.read_text()) if answer.is_file() else []
    if code != 0:
        result["failed"] = f"exit {code}" if isinstance(code, int) else code
        result["log"] = log.read_text()[-3000:]
        print(f"--- {name}: {result['failed']}\n{result['log']}", flush=True)
    return result


def table(results: list[dict]) -> str:
    lines = ["| check | what | figure | wanted | met |", "|---|---|---|---|---|"]
    for result in results:
        told = f"{result['seconds']:.0f} s" + (f", {result['memory_mib']} MiB" if "memory_mib" in result else "")
        told += f", busy {result['busy']:.0%}" if "busy" in result else ""
        lines.append(f"| **{result['check']}** | {result.get('failed', 'done')} | {told} | | |")
        for row in result["rows"]:
            met = {True: "yes", False: "NO", None: ""}[row["met"]]
            value = f"{row['value']:.4g}" if isinstance(row["value"], float) else row["value"]
            lines.append(f"| | {row['what']} | {value} {row['unit']} | {row['wanted']} | {met} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="small images and networks, for a try on a CPU")
    parser.add_argument("--only", nargs="+", choices=PARTS, help="these checks alone; those before must be in --work")
    parser.add_argument("--work", type=Path, help="folder to work in (default: a temporary one)")
    parser.add_argument("--json", type=Path, help="write everything to this file")
    parser.add_argument("--limit", type=float, default=480, help="seconds for all checks together (default: 480)")
    args = parser.parse_args()
    work = (args.work or Path(tempfile.mkdtemp(prefix="gpu_check_"))).resolve()
    work.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + args.limit
    found: dict = {"machine": machine(args.device), "tiny": args.tiny, "checks": []}

    def check(name: str) -> dict:
        left = end - time.monotonic()
        if left < 5:
            return {"check": name, "seconds": 0.0, "rows": [], "failed": "not begun: no time left"}
        return run_part(name, min(PARTS[name][1], left), args, work)

    def results() -> Iterator[dict]:
        names = [name for name in PARTS if not args.only or name in args.only]
        yield from (check(name) for name in names if name not in SIDE_BY_SIDE)
        with ThreadPoolExecutor(len(SIDE_BY_SIDE)) as pool:
            yield from pool.map(check, [name for name in names if name in SIDE_BY_SIDE])

    for result in results():
        found["checks"].append(result)
        if args.json:
            args.json.write_text(json.dumps(found, indent=1))
        print(f"{result['check']}: {result['seconds']:.0f} s", flush=True)
    print(", ".join(f"{key}: {value}" for key, value in found["machine"].items()))
    print(table(found["checks"]))
    failed = any("failed" in check or any(row["met"] is False for row in check["rows"]) for check in found["checks"])
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
