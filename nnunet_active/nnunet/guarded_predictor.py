"""nnU-Net's own predictor with a guard for single scans: if a class collapses, it predicts again, closer to the source network.

Reading, preprocessing, mirroring, resampling and export are nnU-Net's; a case that the guard does not change gets the stock prediction.
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
    """What the guard found in one case; arrays over the network's heads, including the background if it has a head.

    Attributes:
        source_volume: the source network's predicted voxels in the preprocessed array, without mirroring.
        source_confidence: the source network's soft Dice confidence.
        volume: the adapted network's predicted voxels.
        collapsed: bool, which classes have collapsed.
    """

    source_volume: np.ndarray
    source_confidence: np.ndarray
    volume: np.ndarray
    collapsed: np.ndarray


class GuardedPredictor(nnUNetPredictor):
    """Predicts as the stock predictor does until :meth:`guard` is called, but can skip cases. Takes the stock arguments.

    Attributes:
        can_be_used: gets the name and files of each case; a case for which it returns False is not predicted. The stock predictor
            fills a truncated file with zeros, and stops at a file that it cannot read.
        part: number of the part (from 0), and how many parts there are. The stock predictor ignores parts without worker processes.
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
        """Watch every case from now on.

        Args:
            source: state dicts of the source networks, usually one.
            nearer: state dicts of the networks that predict a case with a collapsed class; one per fold.
            tell: gets each case's name and the verdict on it.
        """
        self._source, self._nearer, self._tell = source, nearer, tell

    def _manage_input_and_output_lists(self, *given: Any, **named: Any) -> tuple:
        """The stock lists of this part without the unusable cases; cases are predicted in this order."""
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
        """The stock prediction, with the weights that the guard chooses for this case."""
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
