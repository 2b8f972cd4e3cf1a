"""The shape of the package: what lies where, who may import whom, and how large a piece may be."""

from __future__ import annotations

import ast
import gzip
import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "nnunet_active"

FLOORS = (
    {"util", "scoring", "forecast"},
    {"nnunet", "strategies"},
    {"data", "commands"},
    {"models", "campaign", "annotation"},
    {"workspace"},
    {"query", "planners", "returned"},
    {"pseudo"},
    {"training"},
    {"rounds", "trainers"},
    {"benchmark", "demo", "doctor", "report", "server"},
    {"cli"},
    {"__main__"},
)
"""A folder, or a module of the package root, imports from the floors below its own alone. A new one gets its place here."""

DISCOVERY = "nnunet_discovery"
"""The folder that nnUNet_extTrainer points at. Everyone may ask where it is; its one module imports the trainers."""

ADAPTERS = {
    "annotation/resample_back",
    "benchmark/case_metrics",
    "benchmark/execution",
    "benchmark/recorded_training",
    "benchmark/target",
    "data/case_writer",
    "data/cases",
    "data/image_checks",
    "data/label_preprocessing",
    "data/partly_labelled",
    "data/label_reader",
    "data/label_writer",
    "data/maps",
    "demo/demo_run",
    "demo/predict_and_measure",
    "demo/source_training",
    "doctor/doctor_probe",
    "nnunet/guarded_predictor",
    "nnunet/inference",
    "nnunet/networks",
    "nnunet/stock_folds",
    "planners/channel_normalisation",
    "planners/image_reader",
    "planners/source_model_planner",
    "pseudo/pseudo_label_writer",
    "trainers/nnUNetTrainerASSFT",
    "trainers/nnUNetTrainerActive",
    "trainers/nnUNetTrainerActiveAdamW",
    "trainers/nnUNetTrainerMmActS",
    "training/checkpoints",
    "training/loaders",
    "training/pseudo_dataset",
    "training/query_mixin",
    "training/semi_supervised",
}
"""The modules that may import nnunetv2; all others get what they need of it from these."""

MOST_LINES, MEDIAN_LINES, MOST_PARAMETERS, MOST_ROOT_MODULES = 300, 110, 7, 5


SHOWN_BY = {
    "__main__": "cli/test_start_up.py",
    "annotation/case_folder": "annotation/test_handoff.py",
    "benchmark/all_runs": "benchmark/test_benchmark_results.py",
    "benchmark/figures": "benchmark/test_benchmark_summary.py",
    "benchmark/paired_tests": "benchmark/test_comparison_of_ways.py",
    "benchmark/summary_page": "benchmark/test_benchmark_summary.py",
    "campaign/folds": "campaign/test_cross_validation.py",
    "doctor/doctor_probe": "doctor/test_doctor.py",
    "nnunet_discovery/nnunet_active_trainers": "training/test_trainers.py",
    "trainers/nnUNetTrainerASSFT": "training/test_semi_supervised.py",
    "trainers/nnUNetTrainerActive": "training/test_trainers.py",
    "trainers/nnUNetTrainerActiveAdamW": "training/test_trainers.py",
    "trainers/nnUNetTrainerMmActS": "training/test_trainers.py",
    "util/errors": "cli/test_cli_main.py",
}
"""Files whose tests stand in a file of another name. Query strategies are tested by kind, see ``STRATEGY_TESTS``."""

STRATEGY_TESTS = ("test_strategy_scores.py", "test_strategy_embeddings.py", "test_strategy_mixed.py")


def _sources() -> dict[str, Path]:
    """Every module of the package by folder and name, as in ``data/cases``."""
    found = {}
    for file in (ROOT / PACKAGE).rglob("*.py"):
        found[file.relative_to(ROOT / PACKAGE).with_suffix("").as_posix()] = file
    for folder in ("trainers", "planners"):
        found |= {f"{folder}/{file.stem}": file for file in (ROOT / folder).glob("*.py")}
    return dict(sorted(found.items()))


SOURCES = _sources()
WRITTEN = {name: file for name, file in SOURCES.items() if file.name != "__init__.py"}
TREES = {name: ast.parse(file.read_text(encoding="utf-8")) for name, file in SOURCES.items()}
LINES = {name: len(file.read_text(encoding="utf-8").splitlines()) for name, file in WRITTEN.items()}


def _imported(tree: ast.AST) -> Iterator[str]:
    """Dotted names of what a module imports, also inside functions and under TYPE_CHECKING."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "the package imports by full names"
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def _folder(name: str) -> str:
    """The folder of a module; a module of the package root stands for itself, and ``__init__`` for the root."""
    return "" if name == "__init__" else name.partition("/")[0]


def _folders_imported(name: str) -> set[str]:
    parts = [dotted.split(".") for dotted in _imported(TREES[name]) if dotted.split(".")[0] == PACKAGE]
    folders = {_folder(source) for source in SOURCES}
    return {part[1] for part in parts if len(part) > 1 and part[1] in folders} - {_folder(name)}


def _floor(folder: str) -> int:
    return next((number for number, floor in enumerate(FLOORS) if folder in floor), -1)


def test_the_package_root_holds_no_more_than_a_few_modules() -> None:
    assert (ROOT / PACKAGE / "__init__.py").is_file()
    assert len([name for name in WRITTEN if "/" not in name]) <= MOST_ROOT_MODULES


def test_every_folder_of_the_package_stands_on_one_floor() -> None:
    folders = {_folder(name) for name in SOURCES} - {"", DISCOVERY}
    assert folders == set().union(*FLOORS)
    assert sum(map(len, FLOORS)) == len(folders)


def test_imports_run_from_a_floor_to_lower_ones_and_never_back_up() -> None:
    against = [
        f"{name} imports from {folder}"
        for name in SOURCES
        if _folder(name) not in ("", DISCOVERY)
        for folder in _folders_imported(name) - {DISCOVERY}
        if _floor(folder) >= _floor(_folder(name))
    ]
    assert against == []


def test_no_circle_runs_through_the_folders() -> None:
    # the trainers are found through the discovery folder by nnU-Net itself; nobody imports that module
    edges: dict[str, set[str]] = {}
    for name in SOURCES:
        if not name.startswith(f"{DISCOVERY}/nnunet_active_trainers"):
            edges.setdefault(_folder(name), set()).update(_folders_imported(name))

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        todo = [start]
        while todo:
            todo += (new := edges.get(todo.pop(), set()) - seen)
            seen |= new
        return seen

    assert [folder for folder in edges if folder in reached(folder)] == []


def test_nobody_imports_the_module_through_which_the_trainers_are_found() -> None:
    hidden = f"{PACKAGE}.{DISCOVERY}.nnunet_active_trainers"
    assert [name for name, tree in TREES.items() if hidden in _imported(tree)] == []


def test_only_adapter_modules_import_nnunetv2() -> None:
    importing = {name for name, tree in TREES.items() if any(m.split(".")[0] == "nnunetv2" for m in _imported(tree))}
    assert importing == ADAPTERS


@pytest.mark.parametrize("folder", ["scoring", "strategies"])
def test_scoring_and_strategies_know_nothing_of_nnunet(folder: str) -> None:
    inside = {name: file for name, file in SOURCES.items() if _folder(name) == folder}
    assert inside
    assert [name for name, file in inside.items() if "nnunetv2" in file.read_text(encoding="utf-8")] == []


def test_no_file_is_long_and_half_of_them_are_short() -> None:
    assert {name for name, lines in LINES.items() if lines > MOST_LINES} == set()
    assert statistics.median(LINES.values()) <= MEDIAN_LINES


def _own_parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    given = function.args
    names = [one.arg for one in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    return len(names) - (names[:1] in (["self"], ["cls"])) + bool(given.vararg) + bool(given.kwarg)


def test_no_function_has_more_than_seven_parameters() -> None:
    many = {
        f"{name}:{node.name}"
        for name, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and _own_parameters(node) > MOST_PARAMETERS
    }
    assert many == set()


def _twins(name: str) -> list[Path]:
    folder, stem = _folder(name), WRITTEN[name].stem
    if name in SHOWN_BY:
        return [ROOT / "tests" / SHOWN_BY[name]]
    if "/" not in name:
        return [ROOT / "tests" / f"test_{stem}.py"]
    if folder == "strategies":
        own = {ast.unparse(node.bases[0]) for node in TREES[name].body if isinstance(node, ast.ClassDef) and node.bases}
        if own & {"QueryStrategy", "ScoreStrategy"} or stem == "anchors":
            return [ROOT / "tests" / folder / file for file in STRATEGY_TESTS]
    kinds = {
        "cli": f"test_cli_{stem}.py",
        "benchmark": f"test_benchmark_{stem}.py",
        "strategies": f"test_strategy_{stem}.py",
    }
    names = [f"test_{stem}.py", *([kinds[folder]] if folder in kinds else [])]
    return [ROOT / "tests" / folder / file for file in names]


def test_every_source_file_has_tests_of_its_own() -> None:
    assert [name for name in WRITTEN if not any(twin.is_file() for twin in _twins(name))] == []


def test_the_list_of_other_test_files_names_no_file_that_has_one_of_its_own() -> None:
    assert set(SHOWN_BY) <= set(WRITTEN)
    own = {name: ROOT / "tests" / _folder(name) / f"test_{WRITTEN[name].stem}.py" for name in SHOWN_BY}
    assert [name for name, file in own.items() if file.is_file()] == []


SAME_IN_EVERY_COMMAND = {"add_arguments", "run", "main"}


def test_no_public_name_of_a_class_or_a_function_stands_for_two_things() -> None:
    places: dict[str, list[str]] = {}
    for name, tree in TREES.items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(name)
    assert {name: found for name, found in places.items() if len(found) > 1 and name not in SAME_IN_EVERY_COMMAND} == {}


OLDEST = (3, 10)


def test_every_file_is_written_in_the_syntax_of_the_oldest_python_that_setup_cfg_promises() -> None:
    promised = (ROOT / "setup.cfg").read_text(encoding="utf-8").split("python_requires = >=")[1].split()[0]
    assert tuple(map(int, promised.split("."))) == OLDEST
    for folder in (PACKAGE, "trainers", "planners", "benchmarks", "tests"):
        for file in (ROOT / folder).rglob("*.py"):
            ast.parse(file.read_text(encoding="utf-8"), str(file), feature_version=OLDEST)


YOUNGER = {
    "tomllib",
    "asyncio.TaskGroup",
    "datetime.UTC",
    "enum.StrEnum",
    "itertools.batched",
    "typing.Self",
    "typing.override",
    "typing.assert_never",
    "contextlib.chdir",
    "builtins.ExceptionGroup",
}
"""What came with Python 3.11 and later, and reads as if it had always been there."""


def test_nothing_is_imported_that_the_oldest_python_lacks() -> None:
    assert {dotted for tree in TREES.values() for dotted in _imported(tree)} & YOUNGER == set()


@pytest.mark.parametrize("content", [gzip.compress(b"packed when the tests are collected")])
def test_no_test_is_named_after_bytes_since_each_process_must_collect_the_same_names(
    request: pytest.FixtureRequest, content: bytes
) -> None:
    assert content and request.node.name.endswith("[content]")
