"""nnU-Net's own predictor, with a guard for single scans: where a class collapses, it predicts again nearer to the source network.

Reading, preprocessing, mirroring, resampling and export are nnU-Net's; a case that the guard leaves alone gets the stock prediction.
"""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from torch import Tensor

from nnunet_active.scoring.collapse import collapsed, predicted_volumes, volumes_and_confidence


@dataclass(frozen=True)
class Verdict:
    """What the guard found in one case; arrays over the network's heads, background included where it is one.

    Attributes:
        source_volume: voxels of the preprocessed array, by the source network without mirroring.
        source_confidence: its soft Dice confidence.
        volume: voxels by the adapted network.
        collapsed: bool.
    """

    source_volume: np.ndarray
    source_confidence: np.ndarray
    volume: np.ndarray
    collapsed: np.ndarray


class GuardedPredictor(nnUNetPredictor):
    """As the stock one until :meth:`guard` is called, but for cases that are left out. Takes the stock arguments.

    Attributes:
        can_be_used: is given the name and the files of every case; one of which it is not true is not predicted. The stock predictor
            fills a file that ends too early up with zeros, and one that cannot be read ends it.
        part: number of the part (from 0) and how many there are, of the cases in a folder; without further processes the stock
            predictor knows no parts and would predict all.
    """

    can_be_used: Callable[[str, Sequence[str]], bool] | None = None
    part: tuple[int, int] = (0, 1)

    _source: Sequence[dict[str, Tensor]] = ()
    _nearer: Sequence[dict[str, Tensor]] = ()
    _tell: Callable[[str, Verdict], None]
    _cases: deque[str]

    def guard(
        self,
        source: Sequence[dict[str, Tensor]],
        nearer: Sequence[dict[str, Tensor]],
        tell: Callable[[str, Verdict], None],
    ) -> None:
        """From now on watch every case.

        Args:
            source: state dicts of the source networks, usually one.
            nearer: of the networks that predict a case whose class has collapsed; as many as there are folds.
            tell: is given the name of every case, and what was found.
        """
        self._source, self._nearer, self._tell = source, nearer, tell

    def _manage_input_and_output_lists(self, *given: Any, **named: Any) -> tuple:
        """As the stock one, of this part and without what cannot be used; the cases are predicted in this order."""
        stock = super()._manage_input_and_output_lists
        bound = inspect.signature(stock).bind(*given, **named)
        bound.arguments["part_id"], bound.arguments["num_parts"] = self.part
        rows = [*zip(*stock(*bound.args, **bound.kwargs), strict=True)]
        if self.can_be_used is not None:
            rows = [row for row in rows if self.can_be_used(Path(row[1]).name, row[0])]
        self._cases = deque(Path(row[1]).name for row in rows)
        return tuple([row[column] for row in rows] for column in range(3))

    @torch.inference_mode()
    def predict_logits_from_preprocessed_data(self, data: Tensor) -> Tensor:
        """As the stock one, of the weights that the guard takes for this case."""
        logits = super().predict_logits_from_preprocessed_data(data)
        if not self._nearer:
            return logits
        regions = self.label_manager.has_regions
        volume = predicted_volumes(logits, regions)
        with self._weights(self._source, mirroring=False):
            before = volumes_and_confidence(super().predict_logits_from_preprocessed_data(data), regions)
        verdict = Verdict(*before, volume, collapsed(volume, *before))
        if not regions:
            verdict.collapsed[0] = False  # background
        if verdict.collapsed.any():
            with self._weights(self._nearer, self.use_mirroring):
                logits = super().predict_logits_from_preprocessed_data(data)
        self._tell(self._cases.popleft(), verdict)
        return logits

    @contextmanager
    def _weights(self, weights: Sequence[dict[str, Tensor]], mirroring: bool) -> Iterator[None]:
        kept = self.list_of_parameters, self.use_mirroring
        self.list_of_parameters, self.use_mirroring = list(weights), mirroring
        try:
            yield
        finally:
            self.list_of_parameters, self.use_mirroring = kept
