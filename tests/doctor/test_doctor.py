from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from nnunet_active.cli import doctor as command
from nnunet_active.doctor import doctor
from nnunet_active.doctor.doctor_probe import TRAINER
from nnunet_active.nnunet_discovery import discovery_folder
from nnunet_active.util.errors import MissingInput

PACKAGE = Path(doctor.__file__).resolve().parents[2]


def states(checks) -> dict[str, str]:
    return {check.name: check.state for check in checks}


def run_command(*words: str) -> int:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args(list(words)))


def test_a_check_that_crashes_is_a_problem_and_the_others_go_on():
    def half_way():
        yield doctor.Check("first half", "ok", "fine")
        raise KeyError("shape")

    checks = doctor.run_checks([("broken", half_way), ("next", lambda: doctor.Check("next", "ok", "fine"))])
    assert [(check.name, check.state) for check in checks] == [
        ("first half", "ok"),
        ("broken", "problem"),
        ("next", "ok"),
    ]
    assert "KeyError: 'shape'" in checks[1].found
    assert doctor.exit_code(checks) == 1


def test_one_cause_is_told_once():
    def missing():
        raise MissingInput("There are no plans; make them.")

    checks = doctor.run_checks([("plans", missing), ("cases", missing)])
    assert [(check.name, check.found) for check in checks] == [("plans", "There are no plans; make them.")]


def test_warnings_alone_end_well():
    assert doctor.exit_code([doctor.Check("a", "ok", ""), doctor.Check("b", "warning", "x")]) == 0


def test_the_report_counts_and_advises():
    text = doctor.report([doctor.Check("a", "warning", "one\ntwo", "do it"), doctor.Check("b", "problem", "bad")])
    assert text.splitlines() == [
        "[warning] a: one",
        "          two",
        "          -> do it",
        "[problem] b: bad",
        "",
        "0 ok, 1 warning, 1 problem.",
    ]


@pytest.mark.parametrize(("version", "state"), [("2.7.9", "problem"), ("2.8", "ok"), ("2.10.1", "ok"), ("3.0", "ok")])
def test_an_nnunet_that_cannot_find_external_trainers_is_a_problem(version, state):
    checks = states(doctor.check_packages(lambda name: version if name == "nnunetv2" else "1.0"))
    assert checks.pop("nnunetv2") == state
    assert set(checks.values()) == {"ok"}


def test_a_missing_package_is_a_problem_except_torchvision():
    def nothing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    checks = states(doctor.check_packages(nothing))
    assert checks.pop("torchvision") == checks.pop("nnunet_active") == "ok"
    assert set(checks.values()) == {"problem"} and "torch" in checks


def test_the_folder_that_is_named_is_the_packages_own():
    found = {check.name: check.found for check in doctor.check_packages()}
    assert found["nnunet_active"].endswith(f"({PACKAGE / 'nnunet_active'})")


def test_unset_missing_and_unwritable_folders_are_told_apart(tmp_path):
    file = tmp_path / "file"
    file.touch()
    (tmp_path / "raw").mkdir()
    variables = {"nnUNet_raw": str(tmp_path / "raw"), "nnUNet_preprocessed": str(tmp_path / "new")}
    checks = {check.name: check for check in doctor.check_folders(variables)}
    assert checks["nnUNet_raw"].state == "ok"
    assert checks["nnUNet_preprocessed"].state == "warning" and "mkdir" in checks["nnUNet_preprocessed"].advice
    assert checks["nnUNet_results"].state == "problem" and checks["nnUNet_results"].found == "not set"
    variables["nnUNet_results"] = str(file)
    assert "is not a folder" in next(c.found for c in doctor.check_folders(variables) if c.name == "nnUNet_results")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_results_folder_without_write_permission_is_a_problem(tmp_path):
    (tmp_path / "results").mkdir(mode=0o500)
    checks = states(doctor.check_folders({"nnUNet_results": str(tmp_path / "results")}))
    assert checks["nnUNet_results"] == "problem"


def test_the_folder_for_external_trainers_must_be_listed(tmp_path):
    own = str(discovery_folder())
    check = doctor.check_external_trainers
    assert check({}).state == "problem" and "nnunet_active trainers" in check({}).advice
    assert check({"nnUNet_extTrainer": str(tmp_path)}).state == "problem"
    assert check({"nnUNet_extTrainer": str(Path(own).parent)}).state == "problem"
    assert check({"nnUNet_extTrainer": own}).state == "ok"
    assert check({"nnUNet_extTrainer": f"{tmp_path}{os.pathsep}{own}"}).state == "ok"
    assert check({"nnUNet_extTrainer": f"{own}{os.pathsep}{tmp_path / 'gone'}"}).state == "warning"


@pytest.mark.parametrize(("value", "state"), [(None, "ok"), ("0", "ok"), ("4", "ok"), ("four", "problem")])
def test_augmentation_in_the_main_process_is_no_fault_and_stock_planning_is_mentioned(value, state):
    variables = {} if value is None else {"nnUNet_n_proc_DA": value}
    checks = list(doctor.check_settings(variables, {"devices": []}))
    assert states(checks)["nnUNet_n_proc_DA"] == state
    assert ("plan_and_preprocess" in checks[0].found) is (value == "0")


def test_compiling_without_a_compiler_is_a_warning_where_a_gpu_would_compile(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    gpu, cpu = {"devices": ["cuda:0 A100"]}, {"devices": []}
    assert states(doctor.check_settings({}, gpu))["nnUNet_compile"] == "warning"
    assert states(doctor.check_settings({"nnUNet_compile": "f"}, gpu))["nnUNet_compile"] == "ok"
    assert states(doctor.check_settings({}, cpu))["nnUNet_compile"] == "ok"


def test_a_search_for_trainers_that_could_find_none_is_not_a_second_problem():
    assert doctor.check_trainer({"error": "AttributeError: x"}, {}).state == "ok"
    assert doctor.check_trainer({"error": "x"}, {"nnUNet_extTrainer": "/somewhere"}).state == "problem"


def test_a_probe_that_dies_says_how():
    dying = 'print(\'{"probe": "device", "devices": [], "built_for": ""}\', flush=True); import os; os.abort()'
    probe = doctor.Probe([sys.executable, "-c", dying])
    assert doctor.check_device(probe.result("device")).state in ("ok", "warning")
    check = doctor.check_torchvision(probe.result("torchvision"))
    assert check.state == "problem" and "ended with code" in check.found


@pytest.fixture
def good_environment(nnunet_folders, monkeypatch):
    monkeypatch.setenv("nnUNet_extTrainer", str(discovery_folder()))
    return nnunet_folders


@pytest.mark.stock
def test_a_sound_installation_has_no_problem_and_the_answer_is_json(good_environment, capsys):
    assert run_command("--json") == 0
    content = json.loads(capsys.readouterr().out)
    found = {check["name"]: check for check in content["checks"]}
    assert content["problems"] == 0
    assert "it pickles" in found["trainer discovery"]["found"]
    assert found["torch and torchvision"]["state"] == "ok"


@pytest.mark.stock
def test_a_torchvision_that_does_not_fit_torch_is_explained(good_environment, tmp_path, monkeypatch):
    """As with a CPU-only torch beside PyPI's torchvision: the import fails while operators are registered."""
    fake = tmp_path / "fake" / "torchvision"
    fake.mkdir(parents=True)
    (fake / "__init__.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')\n")
    monkeypatch.setenv("PYTHONPATH", str(fake.parent))
    check = doctor.check_torchvision(doctor.Probe().result("torchvision"))
    assert check.state == "problem"
    assert "operator torchvision::nms does not exist" in check.found
    assert "pip install" in check.advice


@pytest.mark.stock
def test_trainers_found_as_copies_are_a_problem_because_they_do_not_pickle(good_environment, tmp_path, monkeypatch):
    folder = tmp_path / "copies"
    folder.mkdir()
    code = (PACKAGE / "trainers" / f"{TRAINER}.py").read_text()
    (folder / f"{TRAINER}.py").write_text(code)
    monkeypatch.setenv("nnUNet_extTrainer", str(folder))
    check = doctor.check_trainer(doctor.Probe().result("trainer"), os.environ)
    assert check.state == "problem" and "not the installed" in check.found


def test_a_folder_of_the_packages_name_where_the_user_stands_does_not_hide_the_installed_package(tmp_path, monkeypatch):
    (tmp_path / "nnunet_active").mkdir()
    (tmp_path / "nnunet_active" / "__init__.py").write_text("raise ImportError('the folder of a clone')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("nnUNet_extTrainer", discovery_folder())
    assert f"nnU-Net finds {TRAINER} in " in doctor.Probe().result("trainer")["found"]


def test_the_command_needs_neither_torch_nor_nnunet_to_start():
    code = "import sys, nnunet_active.doctor.doctor, nnunet_active.cli.doctor; print({'torch', 'nnunetv2'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
