"""Repeats a run from its row in ``results.csv``, in a folder of its own, and compares the results."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pandas as pd

from nnunet_active.benchmark.execution import Job, execute
from nnunet_active.benchmark.measures import MEAN
from nnunet_active.benchmark.plan import RunSpec
from nnunet_active.benchmark.provenance import versions
from nnunet_active.benchmark.results import per_class, read_rows
from nnunet_active.benchmark.target import SharedTarget
from nnunet_active.util.errors import ActiveError, MissingInput


def run_again(file: Path, run: str, target: SharedTarget) -> pd.DataFrame:
    """Repeat a run from its row and the target alone; nothing in the first run's folder is used.

    Args:
        file: ``results.csv``.
        run: name of the run.
        target: prepared; must match the row's digests.

    Returns:
        One row per round: ``labels``, ``requested``, Dice then and now, and whether the weights are identical to the bit.

    Raises:
        MissingInput: there is no such run.
        ActiveError: the target differs, or the run fails.
    """
    rows = read_rows(file)
    rows = rows[(rows["run"] == run) & (rows["class"] == MEAN)].sort_values("round")
    if rows.empty:
        raise MissingInput(f"{file} has no run {run}.")
    spec = RunSpec.from_json(json.loads(rows.iloc[0]["spec"]))
    known, digests = json.loads(rows.iloc[0]["digests"]), target.digests()
    changed = sorted(name for name in known if known[name] != digests.get(name))
    if changed:
        raise ActiveError(f"The target is not the one of that run: {', '.join(changed)} differ.")
    then = json.loads(rows.iloc[0]["versions"])
    others = [f"{name} {then[name]}" for name, value in versions().items() if name in then and then[name] != value]
    if others:
        print(f"  the run was made with {', '.join(others)}")
    with tempfile.TemporaryDirectory(prefix="nnunet_active_again_") as scratch:
        job = Job(spec, target, digests, Path(scratch))
        result = execute(job)
    lines = []
    for (_, row), one in zip(rows.iterrows(), result["rounds"], strict=True):
        lines.append(
            {
                "labels": int(row["labels"]),
                "requested": " ".join(one["requested"]),
                "same request": " ".join(one["requested"]) == (row["requested"] if pd.notna(row["requested"]) else ""),
                "dice then": row["dice"],
                "dice now": per_class(pd.DataFrame(one["cases"])).loc[MEAN, "dice"],
                "same weights": one["weights"] == (row["weights"] if pd.notna(row["weights"]) else ""),
            }
        )
    return pd.DataFrame(lines)
