"""The source network's predictions for the test cases, kept so that every adapted network of a benchmark can be compared with them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from nnunet_active.scoring.packed_prediction import pack, unpack
from nnunet_active.util.atomic import atomic_file


class SourcePredictions:
    """Label maps in the original geometry, packed, in one file; each is predicted once.

    Args:
        file: where they are; need not exist. Its name must stand for everything that decides them.
        cases: the test cases.
        predict: yields the label map of each case, in any order.
    """

    def __init__(
        self, file: Path, cases: Iterable[str], predict: Callable[[], Iterable[tuple[str, np.ndarray]]]
    ) -> None:
        self.file, self.cases, self._predict = Path(file), tuple(cases), predict
        self._packed: dict[str, np.ndarray] | None = None

    def of(self, case: str) -> np.ndarray:
        """The label map of a case, (Z, Y, X) integers."""
        if self._packed is None:
            self._packed = self._read() or self._made()
        return unpack(self._packed[case])

    def _read(self) -> dict[str, np.ndarray] | None:
        try:
            with np.load(self.file, allow_pickle=False) as stored:
                return {case: stored[str(number)] for number, case in enumerate(self.cases)}
        except (
            OSError,
            ValueError,
            KeyError,
            EOFError,
            BadZipFile,
        ):  # none yet, or damaged: they can be made again
            return None

    def _made(self) -> dict[str, np.ndarray]:
        packed = {case: pack(predicted) for case, predicted in self._predict()}
        with atomic_file(self.file) as temporary, temporary.open("wb") as stream:
            np.savez(stream, **{str(number): packed[case] for number, case in enumerate(self.cases)})
        return packed
