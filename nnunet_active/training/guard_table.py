"""Writes ``guard.csv`` beside guarded predictions: one row per case and class, after each predicted case.

Each part of the cases (``-num_parts``) has a table of its own, so that no process waits for another or overwrites its rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from nnunet_active.nnunet.guarded_predictor import Verdict
from nnunet_active.util.tables import read_csv, write_csv

GUARD_COLUMNS = ["case", "label", "source_voxels", "source_confidence", "adapted_voxels", "collapsed"]


def guard_file(part: tuple[int, int] = (0, 1)) -> str:
    """Name of the table of one part of the cases: its number (from 0), and how many there are.

    >>> guard_file(), guard_file((1, 4))
    ('guard.csv', 'guard_part_1_of_4.csv')
    """
    number, parts = part
    return "guard.csv" if parts == 1 else f"guard_part_{number}_of_{parts}.csv"


class GuardTable:
    """The table of one folder of predictions.

    Args:
        folder: the predictions' folder.
        names: names of the network's heads.
        regions: True if all heads are foreground regions; otherwise the first head is the background.
        goes_on: keep the rows of an earlier, interrupted prediction.
        part: see :func:`guard_file`.
    """

    def __init__(
        self,
        folder: Path,
        names: Sequence[str],
        regions: bool,
        goes_on: bool = False,
        part: tuple[int, int] = (0, 1),
    ) -> None:
        self.file, self.first, self.names = Path(folder) / guard_file(part), 0 if regions else 1, names
        self.table = pd.DataFrame(columns=GUARD_COLUMNS)
        if goes_on and self.file.is_file():
            self.table = read_csv(self.file, dtype={"case": str, "label": str})[GUARD_COLUMNS]
        else:  # an old table describes other predictions
            write_csv(self.file, self.table)

    def add(self, case: str, verdict: Verdict) -> None:
        """Add the rows of one case and write the table."""
        rows = pd.DataFrame(
            {
                "case": case,
                "label": list(self.names),
                "source_voxels": verdict.source_volume,
                "source_confidence": verdict.source_confidence.round(5),
                "adapted_voxels": verdict.volume,
                "collapsed": verdict.collapsed,
            }
        ).iloc[self.first :]
        before = self.table[self.table["case"] != case]
        self.table = rows if before.empty else pd.concat([before, rows], ignore_index=True)
        write_csv(self.file, self.table)

    def lines(self) -> list[str]:
        """A summary of what the guard did, for people."""
        found = self.table[self.table["collapsed"].astype(bool)]
        total, touched = self.table["case"].nunique(), found["case"].unique()
        if not len(touched):
            return [
                f"Guard: no class collapsed in {total} cases; every prediction is nnUNetv2_predict's. See {self.file}."
            ]
        said = [f"  {case}: {', '.join(rows['label'])}" for case, rows in found.groupby("case", sort=False)]
        head = f"Guard: in {len(touched)} of {total} cases a class collapsed, so they were predicted nearer to the source network:"
        return [head, *said, f"Look at these first; volumes are in {self.file}."]
