"""The adapter for nnU-Net's sliding window: a network and its plans become functions of one preprocessed image."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator

import numpy as np
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import Tensor, nn

from nnunet_active.scoring.embedding import EmbeddingRecorder, unwrap
from nnunet_active.scoring.ensemble import mutual_information
from nnunet_active.scoring.statistics import CaseScores, score_logits


class SlidingWindow:
    """nnU-Net's own predictor (step 0.5, Gaussian weights, no mirroring) on preprocessed arrays, without resampling back.

    Args:
        network: any nnU-Net network; wrapped ones (DDP, torch.compile) are unwrapped. Deep supervision is switched off for the
            time of a prediction and put back afterwards.
        plans: content of the plans file.
        configuration: name of the configuration.
        dataset_json: content of the target's ``dataset.json``.
        device: where to predict.
        mirror_axes: spatial axes that :meth:`mutual_information` mirrors; None: all of the network's.
    """

    def __init__(
        self,
        network: nn.Module,
        plans: dict,
        configuration: str,
        dataset_json: dict,
        device: torch.device,
        mirror_axes: tuple[int, ...] | None = None,
    ) -> None:
        self.network = unwrap(network)
        manager = PlansManager(plans)
        with contextlib.redirect_stdout(io.StringIO()):  # it explains a flag that nobody set
            self._predictor = nnUNetPredictor(
                use_mirroring=False,
                perform_everything_on_device=device.type == "cuda",
                device=device,
                allow_tqdm=False,
            )
            self._predictor.manual_initialization(
                self.network, manager, manager.get_configuration(configuration), None, dataset_json, "", None
            )
        self._dimensions = len(manager.get_configuration(configuration).patch_size)
        self.mirror_axes = tuple(range(self._dimensions)) if mirror_axes is None else tuple(mirror_axes)
        self.labels = manager.get_label_manager(dataset_json)

    @property
    def regions(self) -> bool:
        """Whether the heads are sigmoid regions instead of one softmax."""
        return self.labels.has_regions

    def logits(self, image: np.ndarray) -> Tensor:
        """Logits (C, Z, Y, X), float16, on the device or the CPU, for a preprocessed image (M, Z, Y, X) float32.

        The network's training mode and its deep supervision are as before when this returns.
        """
        decoder = getattr(self.network, "decoder", None)
        deep_supervision = getattr(decoder, "deep_supervision", None)
        training = self.network.training
        try:
            if deep_supervision is not None:
                decoder.deep_supervision = False
            return self._predictor.predict_sliding_window_return_logits(torch.from_numpy(image))
        finally:
            if deep_supervision is not None:
                decoder.deep_supervision = deep_supervision
            self.network.train(training)

    def score(self, image: np.ndarray, voxel_mm3: float, embedding: bool = True) -> CaseScores:
        """All statistics of one case, and its embedding, from one pass.

        Args:
            image: preprocessed image (M, Z, Y, X) float32.
            voxel_mm3: volume of a voxel of that array in mm³.
            embedding: also record the embedding; architectures without an encoder have none.

        Raises:
            ValueError: NaN or infinite output, or no encoder.
        """
        if not embedding:
            return score_logits(self.logits(image), voxel_mm3, self.regions)
        with EmbeddingRecorder(self.network) as recorder:
            logits = self.logits(image)
        scores = score_logits(logits, voxel_mm3, self.regions)
        scores.arrays["embedding"] = recorder.embedding()
        return scores

    def mutual_information(self, image: np.ndarray) -> float:
        """BALD over mirrored passes: the plain one and one per mirrored in-plane or spatial axis, each flipped back; in nats.

        Args:
            image: preprocessed image (M, Z, Y, X) float32.

        Raises:
            ValueError: NaN or infinite output.
        """

        def members() -> Iterator[Tensor]:
            yield self.logits(image)
            for axis in self.mirror_axes:
                # axis 0 is the channel; a 2-D network never mirrors across slices
                position = 4 - self._dimensions + axis
                yield torch.flip(self.logits(np.ascontiguousarray(np.flip(image, position))), (position,))

        return mutual_information(members(), self.regions)

    def predicted_classes(self, image: np.ndarray) -> np.ndarray:
        """Arg-max map (Z, Y, X) uint8/int16, or (R, Z, Y, X) bool for regions, of a preprocessed image."""
        logits = self.logits(image)
        if self.regions:
            return (logits > 0).cpu().numpy()
        return logits.argmax(0).to(torch.int16).cpu().numpy()
