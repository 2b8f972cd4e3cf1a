"""What a network can compute for one preprocessed image (scores, classes, label maps), slab by slab."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from nnunet_active.nnunet.streaming import Recorder, Slab, SlabStream
from nnunet_active.nnunet.window_layout import Layout
from nnunet_active.scoring.arg_max import highest_head
from nnunet_active.scoring.class_mean import ClassMeanRecorder
from nnunet_active.scoring.divergence import Divergence
from nnunet_active.scoring.embedding import EmbeddingRecorder
from nnunet_active.scoring.ensemble import Disagreement
from nnunet_active.scoring.member_agreement import Agreement, pairwise_dice
from nnunet_active.scoring.packed_prediction import pack
from nnunet_active.scoring.statistics import NOT_FINITE, CaseScores, ScoreAccumulator

T = TypeVar("T")
SHARES_OF_ROOM = (1.0, 0.25, 0.05)
"""Shares of the room for logits to try in turn when a GPU runs out of memory."""


class PreparedImage(NamedTuple):
    """A padded image (M, Z, Y, X) on the device of the logits' buffer, and the layout of its windows."""

    image: Tensor
    layout: Layout


class WantedScores(NamedTuple):
    """The requested scores of an image; see :meth:`Window.score` for the fields."""

    voxel_mm3: float
    embedding: bool = True
    class_mean: bool = False
    entropy_bins: int = 0
    ensemble: bool = False
    source: Window | None = None


class Window(ABC):
    """What one network (:class:`~nnunet_active.nnunet.inference.SlidingWindow`) or several
    (:class:`~nnunet_active.nnunet.ensemble_window.EnsembleWindow`) can compute for an image.

    Attributes:
        network: the network whose features are recorded.
        plans, configuration, dataset_json, device: the network's setting.
        dimensions: spatial dimensions of the network, 2 or 3.
        mirror_axes: spatial axes that are mirrored for a mutual information over mirrored passes.
        labels: nnU-Net's label manager.
    """

    network: nn.Module
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
    def queues(self) -> bool:
        """Whether :meth:`begin_score` queues its work, on a GPU."""
        return self.device.type == "cuda"

    @property
    @abstractmethod
    def digest(self) -> str:
        """Fingerprint (32 hexadecimal digits) of the weights and of everything else that decides the scores of an image.

        Weights can change, so it is computed anew each time (0.1 s for a network of 30 million weights): use it once per query.
        """

    @property
    @abstractmethod
    def has_encoder(self) -> bool:
        """Whether embeddings are available (architectures without an ``encoder`` have none)."""

    @abstractmethod
    def side_by_side(self, members: bool) -> int:
        """How many passes run in step; with ``members``, including those that only measure how far an ensemble disagrees."""

    @abstractmethod
    def prepare(self, image: np.ndarray | Tensor, passes: int, share: float = 1.0) -> PreparedImage:
        """Prepare what all passes over an image share.

        Args:
            image: preprocessed image (M, Z, Y, X) float32; it may be on the device already, by
                :func:`~nnunet_active.nnunet.sent_ahead.send_ahead`.
            passes: how many run in step and share the room for logits.
            share: of that room; below 1 after a GPU has run out of memory.
        """

    @abstractmethod
    def streams(
        self, prepared: PreparedImage, members: bool = False, recorders: Sequence[Recorder] = ()
    ) -> contextlib.AbstractContextManager[list[SlabStream]]:
        """Passes over one image, whose slabs are read in step; leaving the context restores the networks.

        Args:
            prepared: the image.
            members: also the passes that only measure how far an ensemble disagrees.
            recorders: listen to the first pass.
        """

    @abstractmethod
    def merged(self, slabs: Sequence[Slab]) -> Tensor:
        """The logits (C, n, r, X) that all passes together predict, from the same slab of each pass."""

    @abstractmethod
    def logits(self, image: np.ndarray) -> Tensor:
        """Whole logits (C, Z, Y, X) of any float dtype, on the device or the CPU, for a preprocessed image (M, Z, Y, X) float32.

        Only for work that needs whole logits, such as resampling; everything else uses slabs.

        Raises:
            BadCase: the logits do not fit into memory.
        """

    @contextlib.contextmanager
    def slabs(self, image: np.ndarray, share: float = 1.0) -> Iterator[Iterator[Slab]]:
        """The slabs of the prediction of a preprocessed image (M, Z, Y, X) float32, which together form its :meth:`logits`.

        Raises:
            ValueError: infinite output, which stops nnU-Net's own predictor as well.
        """
        prepared = self.prepare(image, self.side_by_side(False), share)
        with self.streams(prepared) as streams:
            yield (Slab(self.merged(_finite(slabs)), *slabs[0][1:]) for slabs in zip(*streams, strict=True))

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
        """All statistics of one case from one pass (plus others for ``ensemble`` and ``source``), slab by slab.

        Args:
            image: preprocessed image (M, Z, Y, X) float32.
            voxel_mm3: volume of a voxel of that array in mm³.
            embedding: array ``embedding`` (d,) float32.
            class_mean: array ``class_mean`` (C, d) float32, the embedding over each predicted class; needs ``embedding``.
            entropy_bins: number of bins of the array ``entropy_histogram`` (bins,); 0 for none.
            ensemble: column ``mutual_information``, in nats; array ``class_agreement`` (C,) float64, the members' mean pairwise Dice of
                every head (1 for the background, and with a single member); ``slices["prediction"]``, the
                predicted classes, packed (:mod:`nnunet_active.scoring.packed_prediction`).
            source: column ``kl_source``, the mean voxel KL(source || this network) in nats; the source needs a pass of its own. Its
                windows lie where this network's do.

        Raises:
            ValueError: NaN or infinite output, or no encoder.
        """
        return self.begin_score(image, WantedScores(voxel_mm3, embedding, class_mean, entropy_bins, ensemble, source))()

    def begin_score(self, image: np.ndarray | Tensor, wanted: WantedScores) -> Callable[[], CaseScores]:
        """:meth:`score` in two halves: the returned function waits for the scores.

        By then a GPU has its work queued and goes on; a CPU does nothing before the function is called.
        """

        def send() -> Callable[[], CaseScores]:
            return _with_room(lambda share: self._send(image, wanted, share))

        return send() if self.queues else lambda: send()()

    def _send(self, image: np.ndarray | Tensor, wanted: WantedScores, share: float) -> Callable[[], CaseScores]:
        source = wanted.source
        passes = self.side_by_side(wanted.ensemble) + (source.side_by_side(False) if source is not None else 0)
        prepared = self.prepare(image, passes, share)
        shape, heads = image.shape[1:], prepared.layout.heads
        scores = ScoreAccumulator(heads, self.regions, wanted.entropy_bins, shape)
        disagreement, agreement, gap = Disagreement(self.regions), Agreement(self.regions), Divergence(self.regions)
        predicted = _Whole(image.shape[1:])
        with contextlib.ExitStack() as stack:
            features = stack.enter_context(EmbeddingRecorder(self.network)) if wanted.embedding else None
            classes = stack.enter_context(ClassMeanRecorder(self.network, self.regions)) if wanted.class_mean else None
            recorders = [recorder for recorder in (features, classes) if recorder is not None]
            own = stack.enter_context(self.streams(prepared, wanted.ensemble, recorders))
            theirs = [] if source is None else stack.enter_context(source.streams(prepared))
            for slabs in zip(*own, *theirs, strict=True):
                logits = self.merged(slabs[: len(own)])
                scores.update(logits, slabs[0].first, slabs[0].row)
                if wanted.ensemble:
                    members = [slab.logits for slab in slabs[: len(own)]]
                    disagreement.add(members)
                    agreement.add(members)
                    predicted.put(self._classes(logits), slabs[0])
                if source is not None:
                    gap.add(source.merged(slabs[len(own) :]), logits)

        def wait() -> CaseScores:
            found = scores.result(wanted.voxel_mm3)
            if features is not None:
                found.arrays["embedding"] = features.embedding()
            if classes is not None:
                found.arrays["class_mean"] = classes.class_mean(found.arrays["class_volume"])
            if wanted.ensemble:
                found.scalars["mutual_information"] = disagreement.mutual_information()
                of_classes = pairwise_dice(agreement.shared())
                background = np.ones(heads - len(of_classes))
                found.arrays["class_agreement"] = np.concatenate([background, of_classes])
                found.slices["prediction"] = pack(predicted.whole)
            if source is not None:
                found.scalars["kl_source"] = gap.mean()
            return found

        return wait

    def mutual_information(self, image: np.ndarray) -> float:
        """BALD's mutual information of a preprocessed image (M, Z, Y, X), in nats.

        Raises:
            ValueError: NaN or infinite output.
        """
        return self.score(image, 1.0, embedding=False, ensemble=True).scalars["mutual_information"]

    def predicted_classes(self, image: np.ndarray) -> np.ndarray:
        """Arg-max map (Z, Y, X) int16, or (R, Z, Y, X) bool for regions, of a preprocessed image."""
        return _with_room(lambda share: self._predicted(image, share, self._classes))

    def label_map(self, image: np.ndarray) -> np.ndarray:
        """The label map (Z, Y, X) int16 that nnU-Net makes from a preprocessed image: arg-max, or the regions in their order."""
        return _with_room(lambda share: self._predicted(image, share, self.labels_of))

    def labels_of(self, logits: Tensor) -> np.ndarray:
        """The label map (Z, Y, X) int16 from logits (C, Z, Y, X)."""
        if not self.regions:
            return self._classes(logits)
        return np.asarray(self.labels.convert_logits_to_segmentation(logits.float().cpu())).astype(np.int16)

    def _classes(self, logits: Tensor) -> np.ndarray:
        if self.regions:
            return (logits > 0).cpu().numpy()
        return highest_head(logits).to(torch.int16).cpu().numpy()

    def _predicted(self, image: np.ndarray, share: float, turn: Callable[[Tensor], np.ndarray]) -> np.ndarray:
        predicted = _Whole(image.shape[1:])
        with self.slabs(image, share) as slabs:
            for slab in slabs:
                predicted.put(turn(slab.logits), slab)
        return predicted.whole


class _Whole:
    """An array (..., Z, Y, X) assembled from the results of its slabs.

    Args:
        shape: (Z, Y, X).
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape
        self.whole: np.ndarray | None = None

    def put(self, part: np.ndarray, slab: Slab) -> None:
        """Insert the result of a slab, (..., n, r, X)."""
        if self.whole is None:
            self.whole = np.empty((*part.shape[:-3], *self.shape), dtype=part.dtype)
        n, rows = part.shape[-3:-1]
        self.whole[..., slab.first : slab.first + n, slab.row : slab.row + rows, :] = part


def _finite(slabs: Sequence[Slab]) -> Sequence[Slab]:
    if any(bool(slab.logits.isinf().any()) for slab in slabs):
        raise ValueError(NOT_FINITE)
    return slabs


def _with_room(work: Callable[[float], T]) -> T:
    """Do the work, with ever less room for logits as long as a GPU runs out of memory."""
    for share in SHARES_OF_ROOM[:-1]:
        try:
            return work(share)
        except torch.cuda.OutOfMemoryError:  # another process may have taken the free memory
            pass
        torch.cuda.empty_cache()
    return work(SHARES_OF_ROOM[-1])
