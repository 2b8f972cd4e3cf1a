"""The rule for several scans of one patient, for every strategy: two labels of one patient teach little more than one.

The pool says which scans share a patient (``--groups`` of the campaign). If it does not, every scan is a candidate.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

from nnunet_active.strategies.pool import ScoredPool


def whose_turn(pool: ScoredPool) -> list[np.ndarray]:
    """The rows of the candidates of each patient whose turn it is: those with the fewest scans labelled, asked for or picked.

    One scan of each such patient becomes a candidate. A patient who has a label waits until the others have one.

    >>> import pandas as pd
    >>> patients = {"p1_a": "p1", "p2_a": "p2", "p2_b": "p2"}
    >>> pool = ScoredPool(pd.DataFrame(index=list(patients)), patients=patients)
    >>> [rows.tolist() for rows in whose_turn(pool)]
    [[0], [1, 2]]
    """
    begun = Counter(pool.patient(case) for case in {*pool.begun, *pool.labelled_cases})
    rows: dict[str, list[int]] = defaultdict(list)
    for row, case in enumerate(pool.cases):
        rows[pool.patient(case)].append(row)
    fewest = min(begun[patient] for patient in rows)
    return [np.array(found) for patient, found in sorted(rows.items()) if begun[patient] == fewest]


def scan_at_random(patients: Sequence[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """One random row of each patient, (k,); a patient with one scan uses no random number."""
    return np.array([rows[rng.integers(len(rows))] if len(rows) > 1 else rows[0] for rows in patients])
