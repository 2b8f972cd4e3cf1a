"""The results as tables: one row per run, round and class, and one per run, round, class and test case."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from nnunet_active.benchmark.configuration import ALL_LABELS, SOURCE
from nnunet_active.benchmark.legs import SCHEDULE
from nnunet_active.benchmark.plan import RunSpec
from nnunet_active.util.errors import CampaignError
from nnunet_active.util.tables import read_csv, write_csv

METRICS = ("dice", "iou", "surface_dice", "hd95")
DISTANCE = "source_distance"
"""Jaccard distance between the predictions of a network and of its source."""
SAME_DICE = 0.001
"""Largest difference in Dice between two runs of one source model on the same cases: other threads or devices round otherwise."""
ROWS, CASES, PSEUDO_LABELS, JUDGED = "results.csv", "cases.csv", "pseudo_labels.csv", "judged.csv"
_RECIPE, _BUDGET = ("fine_tuning", "restart"), ("budget", "query_size", "unit")
_READ = {"keep_default_na": False, "na_values": [""], "float_precision": "round_trip"}


def rows_of(result: dict[str, Any]) -> list[dict[str, Any]]:
    """All rows of one run. Each has everything needed to repeat the run: the whole specification, versions and digests."""
    spec = RunSpec.from_json(result["spec"])
    seconds = {f"seconds_{name}": round(value, 3) for name, value in result["seconds"].items()}
    trained = result["seconds"]["trained_here"]
    settings = {**(spec.settings or {}), **result.get("settings_used", {})}
    rows = []
    for one in result["rounds"]:
        common = {
            "run": result["run"],
            "arm": spec.arm,
            "recipe": spec.recipe,
            "dataset": spec.dataset,
            "configuration": spec.configuration,
            "trainer": spec.trainer,
            "fold": spec.fold,
            "seed": spec.seed,
            "round": one["round"],
            "labels": labels_of_round(one),
            "epoch": one["epoch"],
        }
        details = {
            "requested": " ".join(one["requested"]),
            "labelled": " ".join(one["labelled"]),
            "unit": settings.get("unit", "case"),
            "scans": len(one["labelled"]),
            "opened": one.get("opened", len(one["labelled"])),
            "foreground_voxels": one["foreground"],
            "foreground_share": one["foreground"] / max(1, result["pool_foreground"]),
            "test_cases": len(spec.test),
            "weights": one["weights"],
            "interpolation": one.get("interpolation"),
            **seconds,
            "overhead_share": round(result["seconds"]["overhead"] / trained, 4) if trained else None,
            "lr": settings.get("initial_lr"),
            "epochs": settings.get("epochs"),
            "stride": settings.get("stride"),
            "iterations": settings.get("iterations"),
            "finished": result["finished"],
            "code": result.get("code", ""),
            "versions": json.dumps(result["versions"]),
            "digests": json.dumps(result["digests"]),
            "spec": json.dumps(result["spec"]),
        }
        rows += [
            {**common, "class": name, "cases": int(values["cases"]), **values[[*METRICS, DISTANCE]], **details}
            for name, values in per_class(pd.DataFrame(one["cases"])).iterrows()
        ]
    return rows


def labels_of_round(one: dict[str, Any]) -> int:
    """Labels that a round of a result was trained on: slices if slices are asked for, else scans; old results only have scans."""
    return one.get("labels", len(one["labelled"]))


def per_class(cases: pd.DataFrame) -> pd.DataFrame:
    """Means over the test cases, one row per class, and their mean over the classes as ``mean``.

    A class that is neither in the reference nor predicted in a case is left out there; ``cases`` counts the others. The distance to the
    source is 0 if neither predicts the class; NaN in results from before it was measured.
    """
    measured = [*METRICS, DISTANCE]
    cases = cases.reindex(columns=["class", *measured]).astype(dict.fromkeys(measured, float))
    grouped = cases.groupby("class", sort=False)
    table = grouped[measured].mean().assign(cases=grouped["dice"].count())
    mean = table[measured].mean().to_frame("mean").T.assign(cases=int(table["cases"].max()))
    return pd.concat([table, mean])


def case_rows(result: dict[str, Any]) -> list[dict[str, Any]]:
    """One row per round, class and test case."""
    return _detail_rows(result, "cases")


def pseudo_label_rows(result: dict[str, Any]) -> list[dict[str, Any]]:
    """One row per round of a semi-supervised run and unlabelled case: its reliability, and its true Dice, which the run never saw."""
    return _detail_rows(result, "pseudo_labels")


def judged_rows(result: dict[str, Any]) -> list[dict[str, Any]]:
    """One row per round and case that the recipe ``guarded`` used to choose: how it was judged, its Dice at every alpha, the choice."""
    chosen = {one["round"]: one.get("interpolation") for one in result["rounds"]}
    return [{**row, "chosen": chosen[row["round"]]} for row in _detail_rows(result, "judged")]


def _detail_rows(result: dict[str, Any], key: str) -> list[dict[str, Any]]:
    spec = RunSpec.from_json(result["spec"])
    common = {"run": result["run"], "arm": spec.arm, "recipe": spec.recipe, "fold": spec.fold, "seed": spec.seed}
    return [
        {**common, "round": one["round"], "labels": labels_of_round(one), **row}
        for one in result["rounds"]
        for row in one.get(key, ())
    ]


def write_tables(root: Path, results: Iterable[dict[str, Any]]) -> tuple[Path, Path]:
    """Write ``results.csv`` and ``cases.csv``, each in one step; also ``pseudo_labels.csv`` and ``judged.csv`` if they have rows."""
    results = sorted(results, key=_order)
    for name, make in ((ROWS, rows_of), (CASES, case_rows), (PSEUDO_LABELS, pseudo_label_rows), (JUDGED, judged_rows)):
        table = pd.DataFrame([row for result in results for row in make(result)])
        if name in (ROWS, CASES) or not table.empty:
            write_csv(root / name, table)
    return root / ROWS, root / CASES


def read_rows(*files: Path) -> pd.DataFrame:
    """``results.csv`` (or ``cases.csv``) of one or several benchmarks as one table; what they share, as the source, counts once."""
    text = dict.fromkeys(("run", "arm", "recipe", "class", "case", "requested", "labelled", "weights"), str)
    tables: list[pd.DataFrame] = []
    seen: set[str] = set()
    facts: dict[str, str] = {}
    for file in files:
        table = read_csv(file, dtype=text, **_READ)
        made_with = dict(zip(table["run"], table["digests"], strict=True)) if "digests" in table else {}
        if clash := sorted(run for run, digests in made_with.items() if facts.get(run, digests) != digests):
            raise CampaignError(
                f"{file} has the run {clash[0]} with other plans, source network or cases than the benchmarks before it, so they "
                f"cannot be pooled."
            )
        facts |= made_with
        tables.append(table[~table["run"].isin(seen)])
        seen |= {*table["run"]}
    return pd.concat(tables, ignore_index=True)


def with_one_source(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of pooled benchmarks with one run of the source for each data set, configuration and fold.

    Benchmarks with other settings, as the tolerance of the surface Dice or the number of threads, have a run of their own.

    Raises:
        CampaignError: these runs differ by more than :data:`SAME_DICE`, so they were measured on other cases or of other models.
    """
    place = ["dataset", "configuration", "fold"]
    source = rows[rows["arm"] == SOURCE]
    values = source.groupby([*place, "class"])["dice"]
    differ = values.max() - values.min()
    if (differ > SAME_DICE).any():
        dataset, configuration, fold, _ = differ.idxmax()
        raise CampaignError(
            f"The benchmarks cannot be pooled: on fold {fold} of {dataset} {configuration} their source models have different Dice, so "
            f"they are other models or were tested on other cases."
        )
    first = source.groupby(place)["run"].transform("first") == source["run"]
    return rows.drop(index=first.index[~first]).reset_index(drop=True)


def count_as_the_runs(details: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of ``cases.csv`` or ``pseudo_labels.csv`` with the ``labels`` of their run and round from ``results.csv``.

    If slices were asked for, earlier versions counted scans in these files but slices in ``results.csv``.
    """
    key = ["run", "round"]
    counted = details.join(rows.drop_duplicates(key).set_index(key)["labels"].rename("counted"), on=key)["counted"]
    return details.assign(labels=counted.fillna(details["labels"]).astype(int))


def finished(root: Path, runs: Sequence[RunSpec]) -> list[dict[str, Any]]:
    """Results of the finished runs among these."""
    found = []
    for run in runs:
        file = root / "runs" / run.identifier / "result.json"
        if file.is_file():
            found.append(json.loads(file.read_text()))
    return found


def _order(result: dict[str, Any]) -> tuple[Any, ...]:
    spec = result["spec"]
    kind = {SOURCE: 0, ALL_LABELS: 1}.get(spec["arm"], 2)
    return kind, spec["arm"], spec["recipe"], spec["fold"], spec["seed"]


def finished_before(root: Path, runs: Sequence[RunSpec]) -> list[dict[str, Any]]:
    """Results in this folder that are not among ``runs`` but comparable: from arms, recipes or seeds named in earlier calls.

    They were tested on the same cases of the same folds, could ask for the same cases, and had the same trainer, schedule, learning
    rate and budget. If a name (arm, recipe, fold and seed; or a recipe) now means something else, its earlier results are left out;
    of two earlier meanings the later one counts.
    """
    named = {_name(run) for run in runs}
    recipes = {run.recipe: _settings(run, *_RECIPE) for run in runs}
    schedules = {_schedule(run) for run in runs}
    budgets = {_settings(run, *_BUDGET) for run in runs}
    found: dict[tuple, dict[str, Any]] = {}
    results = [json.loads(file.read_text()) for file in sorted((root / "runs").glob("*/result.json"))]
    for result in sorted(results, key=lambda result: result["finished"]):
        spec = RunSpec.from_json(result["spec"])
        recipe = _settings(spec, *_RECIPE)
        if (
            _name(spec) not in named
            and recipes.get(spec.recipe, recipe) == recipe
            and _schedule(spec) in schedules
            and (spec.arm == ALL_LABELS or _settings(spec, *_BUDGET) in budgets)
        ):
            found[_name(spec)] = result
    return list(found.values())


def _name(spec: RunSpec) -> tuple:
    return spec.arm, spec.recipe, spec.fold, spec.seed


def _settings(spec: RunSpec, *names: str) -> tuple:
    return tuple((spec.settings or {}).get(name) for name in names)


def _schedule(spec: RunSpec) -> tuple:
    pool = tuple(sorted({*spec.train, *spec.val}))
    measured = (spec.fold, pool, len(spec.val), spec.test, spec.device, spec.tolerance_mm)
    return (*measured, spec.trainer, *_settings(spec, *SCHEDULE))
