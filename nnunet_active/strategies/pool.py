"""The input of a query strategy: the unlabelled candidates of one round as a table and arrays, checked before use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from nnunet_active.util.errors import ActiveError

if TYPE_CHECKING:
    import pandas as pd

_NONE: Mapping[str, np.ndarray] = MappingProxyType({})


@dataclass(frozen=True)
class ScoredPool:
    """The unlabelled candidates of one round, as a table and arrays.

    Attributes:
        scores: index: case identifiers (unique strings); numeric columns such as ``mean_entropy`` (nats, over all
            voxels), ``foreground_voxels``, ``foreground_entropy`` (NaN where nothing is predicted), ``density``.
        arrays: first axis aligned with ``scores.index``: ``embedding`` (n, d), ``source_embedding`` (n, d),
            ``class_volume`` (n, C) in voxels, ``class_mean`` (n, C, d), ``entropy_histogram`` (n, bins), where available.
        labelled_cases: identifiers of the cases labelled so far.
        labelled_arrays: first axis aligned with ``labelled_cases``: ``embedding`` (m, d), ``source_embedding`` (m, d).
        source_summary: ``centroids`` (k, d) and optionally ``covariances`` (k, d, d) of source-domain embeddings.
        round_index: the current round, from 1.
        rounds: the number of rounds planned.
        head_trained: False if the network's segmentation head is still at its initial weights, so predictions mean nothing.
        source_head_trained: the same for the source network.
        answered: how many earlier rounds have brought a label.
        patients: the patient of each case, by identifier; a case that is missing here is a patient of its own.
        begun: cases that are labelled or were asked for, including those that are candidates again for other slices; only the
            patient rule uses them.
        first_class: the index of the first foreground class along C: 0 if the heads are regions, else 1, after the background.
    """

    scores: pd.DataFrame
    arrays: Mapping[str, np.ndarray] = field(default_factory=lambda: _NONE)
    labelled_cases: tuple[str, ...] = ()
    labelled_arrays: Mapping[str, np.ndarray] = field(default_factory=lambda: _NONE)
    source_summary: Mapping[str, np.ndarray] | None = None
    round_index: int = 1
    rounds: int = 1
    head_trained: bool = True
    source_head_trained: bool = True
    answered: int = 0
    patients: Mapping[str, str] = field(default_factory=dict)
    begun: tuple[str, ...] = ()
    first_class: int = 1

    def __len__(self) -> int:
        """The number of candidates."""
        return len(self.scores)

    @property
    def has_source_summary(self) -> bool:
        """Whether the source model came with centroids of source-domain embeddings."""
        return self.source_summary is not None and len(self.source_summary.get("centroids", ())) > 0

    @property
    def cases(self) -> tuple[str, ...]:
        """The candidates' identifiers, in the table's order."""
        return tuple(self.scores.index)

    def patient(self, case: str) -> str:
        """The patient of a case."""
        return self.patients.get(case, case)

    def column(self, name: str, missing: float = 0.0) -> np.ndarray:
        """A copy of a score column, float64 (n,); every value that is not finite becomes ``missing``."""
        values = self.scores[name].to_numpy(dtype=np.float64, copy=True)
        values[~np.isfinite(values)] = missing
        return values

    def embedding(self, name: str = "embedding") -> np.ndarray:
        """A copy of an array as float64 (n, d); longer shapes are flattened to (n, -1)."""
        values = np.array(self.arrays[name], dtype=np.float64)
        return values.reshape(len(self), -1)

    def labelled_embedding(self) -> np.ndarray:
        """The array ``embedding`` of the labelled cases, float64 (m, d); (0, d) if there are none or they have none."""
        width = int(np.prod(self.arrays["embedding"].shape[1:]))
        values = self.labelled_arrays.get("embedding")
        if values is None or not len(values):
            return np.zeros((0, width))
        return np.array(values, dtype=np.float64).reshape(len(values), -1)

    def sorted(self) -> ScoredPool:
        """A copy with candidates and labelled cases sorted by identifier."""
        order = np.argsort(np.array(self.cases, dtype=object), kind="stable")
        labelled_order = np.argsort(np.array(self.labelled_cases, dtype=object), kind="stable")
        return replace(
            self,
            scores=self.scores.iloc[order].copy(),
            arrays={name: np.asarray(values)[order] for name, values in self.arrays.items()},
            labelled_cases=tuple(self.labelled_cases[i] for i in labelled_order),
            labelled_arrays={name: np.asarray(values)[labelled_order] for name, values in self.labelled_arrays.items()},
        )

    def only(self, rows: np.ndarray) -> ScoredPool:
        """The pool with only the candidates in ``rows``, which is sorted."""
        if len(rows) == len(self):
            return self
        arrays = {name: np.asarray(values)[rows] for name, values in self.arrays.items()}
        return replace(self, scores=self.scores.iloc[rows], arrays=arrays)

    def moved_to_labelled(self, picked: np.ndarray) -> ScoredPool:
        """The pool as if the candidates with ``picked`` (n,) bool had been labelled."""
        # Labelled cases without any arrays cannot stay beside new ones with arrays: the rows would not match.
        kept = self.labelled_cases if self.labelled_arrays else ()
        names = [name for name in self.arrays if name in self.labelled_arrays or not kept]
        labelled_arrays = {
            name: np.concatenate([self.labelled_arrays[name], self.arrays[name][picked]])
            if kept
            else self.arrays[name][picked]
            for name in names
        }
        return replace(
            self,
            scores=self.scores[~picked],
            arrays={name: values[~picked] for name, values in self.arrays.items()},
            labelled_cases=(*kept, *self.scores.index[picked]),
            labelled_arrays=labelled_arrays,
            begun=(*self.begun, *self.labelled_cases) if self.patients else self.begun,
        )


def check_pool(pool: ScoredPool, name: str) -> None:
    """Check the pool before the strategy ``name`` sees it.

    Raises:
        ActiveError: an identifier is not unique or is both candidate and labelled, an array does not fit the table or
            another array, or a value is not finite.
    """
    cases = pool.cases
    if not all(isinstance(case, str) for case in cases) or len(set(cases)) < len(cases):
        raise ActiveError(f"The pool given to '{name}' has case identifiers that are not unique strings.")
    if overlap := sorted(set(cases) & set(pool.labelled_cases)):
        raise ActiveError(f"The pool given to '{name}' lists labelled cases as candidates: {', '.join(overlap[:5])}.")
    for what, arrays, owners in (
        ("candidates", pool.arrays, cases),
        ("labelled cases", pool.labelled_arrays, pool.labelled_cases),
    ):
        for key, values in arrays.items():
            if len(values) != len(owners):
                raise ActiveError(f"The array '{key}' has {len(values)} rows for {len(owners)} {what}.")
            if not len(owners):
                continue
            bad = ~np.isfinite(np.asarray(values)).reshape(len(owners), -1).all(axis=1)
            if bad.any():
                raise ActiveError(
                    f"The array '{key}' has values that are not finite for the case '{owners[int(np.argmax(bad))]}'; "
                    "score that case again or leave it out."
                )
    volume, mean = pool.arrays.get("class_volume"), pool.arrays.get("class_mean")
    if volume is not None and mean is not None and np.shape(volume)[1:] != np.shape(mean)[1:2]:
        raise ActiveError(
            f"The arrays 'class_volume' {np.shape(volume)} and 'class_mean' {np.shape(mean)} differ in the number of classes."
        )
    for key, values in pool.labelled_arrays.items():
        if len(values) and key in pool.arrays and np.shape(values)[1:] != np.shape(pool.arrays[key])[1:]:
            raise ActiveError(
                f"The array '{key}' has the shape {np.shape(values)[1:]} for labelled cases and "
                f"{np.shape(pool.arrays[key])[1:]} for candidates; compute both with the same network."
            )
