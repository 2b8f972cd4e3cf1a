"""The adapter for nnU-Net's sliding window: a network and its plans become functions of one preprocessed image."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import Tensor, nn

from nnunet_active.nnunet.safe_checkpoint import weights_digest
from nnunet_active.scoring.class_mean import ClassMeanRecorder
from nnunet_active.scoring.divergence import mean_divergence
from nnunet_active.scoring.embedding import EmbeddingRecorder, deepest_stage, unwrap
from nnunet_active.scoring.ensemble import MeanPrediction
from nnunet_active.scoring.statistics import CaseScores, score_logits


class Pass(NamedTuple):
    """Logits (C, Z, Y, X), what the recorders saw during that pass, and the mutual information in nats; None: not wanted."""

    logits: Tensor
    features: EmbeddingRecorder | None
    classes: ClassMeanRecorder | None
    information: float | None


class Window(ABC):
    """What can be asked of one network (:class:`SlidingWindow`), or of several
    (:class:`~nnunet_active.nnunet.ensemble_window.EnsembleWindow`).

    Attributes:
        plans, configuration, dataset_json, device: what the network was put into.
        dimensions: spatial dimensions of the network, 2 or 3.
        mirror_axes: spatial axes that a mutual information over mirrored passes mirrors.
        labels: nnU-Net's label manager.
    """

    plans: dict
    configuration: str
    dataset_json: dict
    device: torch.device
    dimensions: int
    mirror_axes: tuple[int, ...]

    @property
    def regions(self) -> bool:
        """Whether the heads are sigmoid regions instead of one softmax."""
        return self.labels.has_regions

    @property
    @abstractmethod
    def digest(self) -> str:
        """Fingerprint (32 hexadecimal digits) of the weights and of all else that decides the scores of an image.

        It is computed anew each time (0.1 s for a network of 30 million weights), since weights change: take it once per query.
        """

    @property
    @abstractmethod
    def has_encoder(self) -> bool:
        """Whether embeddings can be taken (architectures without an ``encoder`` have none)."""

    @abstractmethod
    def logits(self, image: np.ndarray) -> Tensor:
        """Logits (C, Z, Y, X) of any float dtype, on the device or the CPU, for a preprocessed image (M, Z, Y, X) float32."""

    def score(
        self,
        image: np.ndarray,
        voxel_mm3: float,
        embedding: bool = True,
        class_mean: bool = False,
        entropy_bins: int = 0,
        ensemble: bool = False,
        source: Window | None = None,
    ) -> CaseScores:
        """All statistics of one case from one pass (further ones for ``ensemble`` and ``source``).

        Args:
            image: preprocessed image (M, Z, Y, X) float32.
            voxel_mm3: volume of a voxel of that array in mm³.
            embedding: array ``embedding`` (d,) float32.
            class_mean: array ``class_mean`` (C, d) float32, the embedding over each predicted class; needs ``embedding``.
            entropy_bins: array ``entropy_histogram`` (bins,) of so many bins; 0: none.
            ensemble: column ``mutual_information``, in nats.
            source: column ``kl_source``, the mean voxel KL(source || this network) in nats; the source's own pass comes on top.

        Raises:
            ValueError: NaN or infinite output, or no encoder.
        """
        one = self.one_pass(image, embedding, class_mean, ensemble)
        scores = score_logits(one.logits, voxel_mm3, self.regions, entropy_bins)
        if one.features is not None:
            scores.arrays["embedding"] = one.features.embedding()
        if one.classes is not None:
            scores.arrays["class_mean"] = one.classes.class_mean(scores.arrays["class_volume"])
        if one.information is not None:
            scores.scalars["mutual_information"] = one.information
        if source is not None:
            scores.scalars["kl_source"] = mean_divergence(source.logits(image), one.logits, self.regions)
        return scores

    @abstractmethod
    def one_pass(self, image: np.ndarray, embedding: bool, class_mean: bool, ensemble: bool) -> Pass:
        """The pass that :meth:`score` takes everything from; its arguments say what is wanted.

        Raises:
            ValueError: NaN or infinite output, or no encoder to record.
        """

    @abstractmethod
    def mutual_information(self, image: np.ndarray) -> float:
        """BALD's mutual information of a preprocessed image (M, Z, Y, X), in nats.

        Raises:
            ValueError: NaN or infinite output.
        """

    def predicted_classes(self, image: np.ndarray) -> np.ndarray:
        """Arg-max map (Z, Y, X) uint8/int16, or (R, Z, Y, X) bool for regions, of a preprocessed image."""
        logits = self.logits(image)
        if self.regions:
            return (logits > 0).cpu().numpy()
        return logits.argmax(0).to(torch.int16).cpu().numpy()


class SlidingWindow(Window):
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
        self.plans, self.configuration, self.dataset_json, self.device = plans, configuration, dataset_json, device
        manager = PlansManager(plans)
        configured = manager.get_configuration(configuration)
        with contextlib.redirect_stdout(io.StringIO()):  # it explains a flag that nobody set
            self._predictor = nnUNetPredictor(
                use_mirroring=False,
                perform_everything_on_device=device.type == "cuda",
                device=device,
                allow_tqdm=False,
            )
            self._predictor.manual_initialization(self.network, manager, configured, None, dataset_json, "", None)
        # nnUNet_compile=t has just wrapped it again, and hooks that come after the compilation would be passed over
        self._predictor.network = self.network
        self.dimensions = len(configured.patch_size)
        self.mirror_axes = tuple(range(self.dimensions)) if mirror_axes is None else tuple(mirror_axes)
        self.labels = manager.get_label_manager(dataset_json)
        decides = ("data_identifier", "spacing", "patch_size", "architecture")
        self._settings = {name: configured.configuration.get(name) for name in decides}

    def with_network(self, network: nn.Module) -> SlidingWindow:
        """The same window on another network of the same architecture."""
        return SlidingWindow(
            network, self.plans, self.configuration, self.dataset_json, self.device, tuple(self.mirror_axes)
        )

    @property
    def digest(self) -> str:
        """See :attr:`Window.digest`."""
        settings = {
            **self._settings,
            "heads": self.labels.num_segmentation_heads,
            "regions": self.regions,
            "mirror_axes": self.mirror_axes,
            "step": self._predictor.tile_step_size,
            "device": self.device.type,  # half precision on a GPU: the last digits differ
            "weights": weights_digest(self.network.state_dict()),
        }
        return hashlib.blake2b(json.dumps(settings, sort_keys=True).encode(), digest_size=16).hexdigest()

    @property
    def has_encoder(self) -> bool:
        """See :attr:`Window.has_encoder`."""
        try:
            deepest_stage(self.network)
        except ValueError:
            return False
        return True

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

    def one_pass(self, image: np.ndarray, embedding: bool, class_mean: bool, ensemble: bool) -> Pass:
        """See :meth:`Window.one_pass`."""
        with contextlib.ExitStack() as stack:
            features = stack.enter_context(EmbeddingRecorder(self.network)) if embedding else None
            classes = stack.enter_context(ClassMeanRecorder(self.network, self.regions)) if class_mean else None
            logits = self.logits(image)
        information = self._mirrored_information(image, logits) if ensemble else None
        return Pass(logits, features, classes, information)

    def _mirrored_information(self, image: np.ndarray, plain: Tensor) -> float:
        mean = MeanPrediction(self.regions)
        mean.add(plain)
        for other in self._mirrored(image):
            mean.add(other)
        return mean.mutual_information()

    def _mirrored(self, image: np.ndarray) -> Iterator[Tensor]:
        for axis in self.mirror_axes:
            # axis 0 is the channel; a 2-D network never mirrors across slices
            position = 4 - self.dimensions + axis
            yield torch.flip(self.logits(np.ascontiguousarray(np.flip(image, position))), (position,))

    def mutual_information(self, image: np.ndarray) -> float:
        """BALD over mirrored passes: the plain one and one per mirrored in-plane or spatial axis, each flipped back; in nats.

        Args:
            image: preprocessed image (M, Z, Y, X) float32.

        Raises:
            ValueError: NaN or infinite output.
        """
        return self._mirrored_information(image, self.logits(image))
