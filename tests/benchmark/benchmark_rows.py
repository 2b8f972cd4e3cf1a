"""Rows as a benchmark writes them, with numbers of a test's own."""

from __future__ import annotations

import pandas as pd

PLACE = {"dataset": "Dataset902_TinyTarget", "configuration": "2d", "fold": 0}


def rows(values: dict[tuple[str, int], dict[int, float]]) -> pd.DataFrame:
    """(arm, seed) -> labels -> mean Dice; every label shows a tenth of the pool's foreground."""
    lines = []
    for (arm, seed), curve in values.items():
        for number, (labels, dice) in enumerate(curve.items(), 1):
            for name in ("tumour", "mean"):
                lines.append(
                    {
                        **PLACE,
                        "run": f"{arm}_{seed}",
                        "arm": arm,
                        "recipe": "-" if arm == "source" else "plain",
                        "trainer": "nnUNetTrainerActive",
                        "seed": seed,
                        "round": number,
                        "labels": labels,
                        "class": name,
                        "dice": dice,
                        "foreground_share": labels / 10,
                        "test_cases": 2,
                        "epochs": 12,
                        "stride": 4,
                        "iterations": 10,
                        "lr": 0.01,
                        **{f"seconds_{part}": 1.0 for part in ("trained_here", "query", "evaluation", "overhead")},
                    }
                )
    return pd.DataFrame(lines)


def case_rows(values: dict[tuple[str, int], dict[int, list[float]]]) -> pd.DataFrame:
    """(arm, seed) -> labels -> Dice of each test case."""
    return pd.DataFrame(
        [
            {
                **PLACE,
                "run": f"{arm}_{seed}",
                "arm": arm,
                "recipe": "-" if arm == "source" else "plain",
                "seed": seed,
                "round": number,
                "labels": labels,
                "case": f"test_{index}",
                "class": "tumour",
                "dice": dice,
            }
            for (arm, seed), curve in values.items()
            for number, (labels, dices) in enumerate(curve.items(), 1)
            for index, dice in enumerate(dices)
        ]
    )
