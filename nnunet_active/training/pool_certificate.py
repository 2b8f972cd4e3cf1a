"""Bounds how much the adaptation can have changed the results on unlabelled cases, without opening any label.

The source and the adapted network predict the same cases. The distance between their label maps bounds the change
(:mod:`~nnunet_active.scoring.jaccard`). ``certificate.csv`` holds these distances, for one adapted network at a time. The label maps
are predicted on the preprocessed array (nnU-Net's sliding window, no mirroring, no resampling back).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from nnunet_active.data.cases import CaseStore
from nnunet_active.data.dataset_json import class_masks
from nnunet_active.nnunet.window import Window
from nnunet_active.scoring.jaccard import jaccard_distance
from nnunet_active.training.certificate_table import (
    CERTIFICATE_COLUMNS,
    Certificate,
    certificate_of,
    read_certificate,
)
from nnunet_active.util.errors import BadCase
from nnunet_active.util.log import Log
from nnunet_active.util.ranks import Ranks
from nnunet_active.util.tables import write_csv

MOST_CERTIFIED = 40
"""Most cases to compare. A training of fewer epochs compares one case per epoch, so that it costs two passes per epoch at most."""

CASES_AT_ONCE = 8
"""Cases per process between two writes of the table."""


def drawn_cases(cases: Sequence[str], unlabelled: Sequence[str], number: int, seed: int) -> list[str]:
    """Draw ``number`` of the unlabelled cases at random. A case that is drawn stays drawn while it is unlabelled.

    Args:
        cases: all stored cases, sorted.
        unlabelled: the unlabelled ones among them.
        number: how many to draw; all, if there are fewer.
        seed: the campaign's seed.
    """
    candidates = set(unlabelled)
    order = np.random.default_rng(seed).permutation(len(cases))
    return [cases[index] for index in order if cases[index] in candidates][:number]


@dataclass(frozen=True)
class TwoNetworks:
    """The two networks to compare: one module that changes its weights.

    Attributes:
        window: sliding window on the module.
        source: a context in which the module has the source weights.
        adapted: a context in which the module has the adapted weights that predict.
        names: fingerprints of adapted and source weights.
        epoch: epochs that the adapted network was trained for.
        labelled: number of cases that it was trained on.
    """

    window: Window
    source: Callable[[], AbstractContextManager]
    adapted: Callable[[], AbstractContextManager]
    names: tuple[str, str]
    epoch: int
    labelled: int

    @property
    def are_the_same(self) -> bool:
        """Whether both networks have the same weights, so that nothing can differ."""
        return self.names[0] == self.names[1]


@dataclass(frozen=True)
class _Distances:
    """Jaccard distance of one case by label, or why there is none; see :class:`~nnunet_active.util.ranks.Work`."""

    networks: TwoNetworks
    store: CaseStore
    labels: dict
    queues = False

    def load(self, case: str) -> np.ndarray | str:
        """The preprocessed image, or why it cannot be read."""
        try:
            return self.store.load_image(case)
        except (BadCase, OSError, ValueError, RuntimeError) as error:
            return str(error)

    def begin(self, case: str, loaded: np.ndarray | str) -> Callable[[], dict[str, float] | str]:
        """Return the measurement without starting it."""
        return partial(self._measure, loaded)

    def _measure(self, loaded: np.ndarray | str) -> dict[str, float] | str:
        """Predict with both networks and compare."""
        if isinstance(loaded, str):
            return loaded
        maps = []
        try:
            for weights in (self.networks.source, self.networks.adapted):
                with weights():
                    maps.append(class_masks(self.networks.window.label_map(loaded), self.labels))
        except (
            BadCase,
            OSError,
            ValueError,
            RuntimeError,
        ) as error:  # the training itself succeeded, so it must not fail here
            return str(error)
        return {name: jaccard_distance(mask, maps[1][name]) for name, mask in maps[0].items()}


class PoolCertificate:
    """``certificate.csv`` of a training: keeps what was measured and measures the rest.

    Args:
        file: its path; the file need not exist.
        store: the preprocessed cases.
        labels: ``labels`` of the target's ``dataset.json``.
        ranks: processes of a distributed training; all call every method in the same order.
        log: gets a warning for each case that cannot be predicted.
    """

    def __init__(self, file: Path, store: CaseStore, labels: dict, ranks: Ranks, log: Log) -> None:
        self.file, self.store, self.labels, self.ranks, self.log = Path(file), store, labels, ranks, log

    def measure(self, networks: TwoNetworks, cases: Sequence[str], pool: int) -> Certificate | None:
        """Measure these two networks on those cases that have no row yet; None if there is no case.

        Rows of other networks and cases are dropped, and those that stay take on the facts of now: a later training may end with the
        same weights. After a kill, rows that were written are not computed again.

        Args:
            networks: the networks to compare; if both are the same, nothing is predicted.
            cases: unlabelled cases.
            pool: number of all unlabelled cases.
        """
        table = self.ranks.decide(lambda: read_certificate(self.file))
        same = (table["network"] == networks.names[0]) & (table["source"] == networks.names[1])
        about = {"epoch": networks.epoch, "labelled": networks.labelled, "pool": pool}
        table = table[same & table["case"].isin(cases)].assign(**about)
        self._save(table)
        todo = sorted(set(cases) - set(table["case"]))
        step = CASES_AT_ONCE * self.ranks.world
        for start in range(0, len(todo), step):
            table = self._add(table, networks, self._distances(networks, todo[start : start + step]), pool)
            self._save(table)
        return certificate_of(table)

    def _save(self, table: pd.DataFrame) -> None:
        keep = partial(self.file.unlink, missing_ok=True) if table.empty else partial(write_csv, self.file, table)
        self.ranks.decide(keep)

    def _distances(self, networks: TwoNetworks, cases: Sequence[str]) -> dict[str, dict[str, float]]:
        if networks.are_the_same:
            nothing = dict.fromkeys(class_masks(np.zeros(1, np.int16), self.labels), 0.0)
            return dict.fromkeys(cases, nothing)
        found = self.ranks.each(_Distances(networks, self.store, self.labels), cases)
        for case, outcome in found.items():
            if isinstance(outcome, str):
                self.log(f"WARNING: {case} is left out of the comparison of the unlabelled cases ({outcome}).")
        return {case: outcome for case, outcome in found.items() if not isinstance(outcome, str)}

    @staticmethod
    def _add(table: pd.DataFrame, networks: TwoNetworks, found: dict[str, dict[str, float]], pool: int) -> pd.DataFrame:
        about = (*networks.names, networks.epoch, networks.labelled, pool)
        rows = [
            (*about, case, label, value)
            for case, by_label in sorted(found.items())
            for label, value in by_label.items()
        ]
        parts = [part for part in (table, pd.DataFrame(rows, columns=CERTIFICATE_COLUMNS)) if not part.empty]
        return pd.concat(parts, ignore_index=True) if parts else table
