"""Reads ``certificate.csv`` of a training: a bound on how much the adapted and the source network differ on unlabelled cases.

This module measures nothing. It imports pandas only where it needs it, since the import is slow.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_active.util.tables import read_csv

if TYPE_CHECKING:
    import pandas as pd

CERTIFICATE_FILE = "certificate.csv"
CERTIFICATE_COLUMNS = ["network", "source", "epoch", "labelled", "pool", "case", "label", "distance"]


@dataclass(frozen=True)
class Certificate:
    """The bound of :mod:`~nnunet_active.scoring.jaccard` on unlabelled cases.

    Attributes:
        cases: number of cases that were compared.
        pool: number of all unlabelled cases.
        bound: mean over the compared cases of the mean Jaccard distance over labels; the mean IoU cannot differ by more.
        furthest: the case on which the two predictions differ most.
        distance: its mean Jaccard distance.
    """

    cases: int
    pool: int
    bound: float
    furthest: str
    distance: float

    @property
    def sentence(self) -> str:
        """The result as one plain sentence."""
        of = f"{self.cases} of {self.pool}" if self.cases < self.pool else f"{self.cases}"
        return (
            f"On {of} unlabelled case{'' if self.pool == 1 else 's'}, the adapted model's mean IoU can differ from the source model's "
            f"by at most {self.bound:.3f}, whatever the true labels are."
        )


def certificate_of(table: pd.DataFrame) -> Certificate | None:
    """The certificate from rows of ``certificate.csv``, all of one network; None if there are no rows."""
    if table.empty:
        return None
    by_case = table.groupby("case")["distance"].mean()
    return Certificate(
        len(by_case), int(table["pool"].max()), float(by_case.mean()), str(by_case.idxmax()), float(by_case.max())
    )


def read_certificate(file: Path) -> pd.DataFrame:
    """Content of a ``certificate.csv``; empty if the file is missing or damaged (everything is then measured again)."""
    import pandas as pd  # not above, see the module docstring

    texts = dict.fromkeys(("network", "source", "case", "label"), str)
    try:
        return read_csv(file, dtype={**texts, "distance": float})[CERTIFICATE_COLUMNS]
    except (OSError, ValueError, KeyError):
        return pd.DataFrame(columns=CERTIFICATE_COLUMNS)
