"""The adapter to nnU-Net's sliding window: turns a network and its plans into functions of one preprocessed image."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from acvl_utils.cropping_and_padding.padding import pad_nd_image
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.inference.sliding_window_prediction import compute_gaussian
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import Tensor, nn

from nnunet_active.nnunet.devices import choose_device
from nnunet_active.nnunet.memory import require_memory, room_for_logits
from nnunet_active.nnunet.safe_checkpoint import weights_digest
from nnunet_active.nnunet.sent_ahead import arrived
from nnunet_active.nnunet.streaming import Recorder, Slab, SlabStream
from nnunet_active.nnunet.window import PreparedImage, Window
from nnunet_active.nnunet.window_layout import lay_out
from nnunet_active.scoring.encoder import deepest_stage, unwrap

VOXELS_PER_PASS = 2**21
"""Voxels of small windows that go through a GPU together: as many as in one 128 x 128 x 128 patch, which fills it alone."""


class SlidingWindow(Window):
    """nnU-Net's own predictor (step 0.5, Gaussian weights, no mirroring) on preprocessed arrays, without resampling back.

    Args:
        network: any nnU-Net network; wrapped ones (DDP, torch.compile) are unwrapped. Deep supervision is switched off during
            a prediction and restored afterwards.
        plans: content of the plans file.
        configuration: name of the configuration.
        dataset_json: content of the target's ``dataset.json``.
        device: where to predict.
        mirror_axes: spatial axes that :meth:`mutual_information` mirrors; None for all of the network's.

    Attributes:
        windows_per_pass: windows that go through the network together: 1 on a CPU, so that the numbers equal nnU-Net's bit for bit (4
            took a third less time there with a small network); on a GPU as many small windows as fill it.
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
        with contextlib.redirect_stdout(io.StringIO()):  # it prints an explanation of a flag that nobody set
            self._predictor = nnUNetPredictor(
                use_mirroring=False,
                perform_everything_on_device=device.type == "cuda",
                device=device,
                allow_tqdm=False,
            )
            self._predictor.manual_initialization(self.network, manager, configured, None, dataset_json, "", None)
        # With nnUNet_compile=t, nnU-Net has just wrapped the network again, and hooks added after the compilation would not run.
        # (Compiling would not pay either: it takes a minute per network, and a query uses each network once.)
        self._predictor.network = self.network
        self.dimensions = len(configured.patch_size)
        self.mirror_axes = tuple(range(self.dimensions)) if mirror_axes is None else tuple(mirror_axes)
        self.labels = manager.get_label_manager(dataset_json)
        decides = ("data_identifier", "spacing", "patch_size", "architecture")
        patch = int(np.prod(configured.patch_size))
        self.windows_per_pass = max(1, min(32, VOXELS_PER_PASS // patch)) if device.type == "cuda" else 1
        self._settings = {name: configured.configuration.get(name) for name in decides}

    def __reduce__(self) -> tuple:
        """Pickling for another process, which builds the window anew on a device of its own."""
        return window_here, (
            self.network,
            self.plans,
            self.configuration,
            self.dataset_json,
            self.device.type,
            tuple(self.mirror_axes),
        )

    def with_network(self, network: nn.Module) -> SlidingWindow:
        """The same window with another network of the same architecture."""
        window = SlidingWindow(
            network, self.plans, self.configuration, self.dataset_json, self.device, tuple(self.mirror_axes)
        )
        window.windows_per_pass = self.windows_per_pass
        return window

    @property
    def digest(self) -> str:
        """See :attr:`Window.digest`."""
        settings = {
            **self._settings,
            "heads": self.labels.num_segmentation_heads,
            "regions": self.regions,
            "mirror_axes": self.mirror_axes,
            "step": self._predictor.tile_step_size,
            "device": self.device.type,  # a GPU uses half precision, so the last digits differ
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

    @contextlib.contextmanager
    def _predicting(self) -> Iterator[None]:
        """The network without deep supervision and in evaluation mode; restored at the end."""
        decoder = getattr(self.network, "decoder", None)
        deep_supervision = getattr(decoder, "deep_supervision", None)
        training = self.network.training
        try:
            if deep_supervision is not None:
                decoder.deep_supervision = False
            self.network.to(self.device).eval()
            yield
        finally:
            if deep_supervision is not None:
                decoder.deep_supervision = deep_supervision
            self.network.train(training)

    def logits(self, image: np.ndarray) -> Tensor:
        """Whole logits (C, Z, Y, X), float16, on the device or the CPU, by nnU-Net's own predictor: see :meth:`Window.logits`.

        The network's training mode and its deep supervision are restored before this returns.
        """
        require_memory(self.labels.num_segmentation_heads * image[0].size)
        with self._predicting():
            return self._predictor.predict_sliding_window_return_logits(torch.from_numpy(image))

    def side_by_side(self, members: bool) -> int:
        """See :meth:`Window.side_by_side`: the plain pass, and one per mirrored axis."""
        return 1 + (len(self.mirror_axes) if members else 0)

    def prepare(self, image: np.ndarray | Tensor, passes: int, share: float = 1.0) -> PreparedImage:
        """See :meth:`Window.prepare`."""
        if image.ndim != 4:
            raise ValueError(f"an image has the axes (channel, z, y, x), and this one has the shape {image.shape}")
        place = self.device if self.device.type == "cuda" else torch.device("cpu")
        patch = self._predictor.configuration_manager.patch_size
        padded, inside = pad_nd_image(arrived(image), patch, "constant", {"value": 0}, True, None)
        room = room_for_logits(place)
        layout = lay_out(
            self._predictor._internal_get_sliding_window_slicers(padded.shape[1:]),
            tuple(padded.shape[1:]),
            tuple(inside[1:]),
            self.labels.num_segmentation_heads,
            None if room is None else int(share * room / passes),
            place.type == "cuda",
            self.windows_per_pass if share == 1 else 1,
        )
        return PreparedImage(padded.to(place), layout)

    @contextlib.contextmanager
    def streams(
        self, prepared: PreparedImage, members: bool = False, recorders: Sequence[Recorder] = ()
    ) -> Iterator[list[SlabStream]]:
        """See :meth:`Window.streams`."""
        with self._predicting():
            others = [self.stream(prepared, (axis,)) for axis in self.mirror_axes] if members else []
            yield [self.stream(prepared, recorders=recorders), *others]

    def stream(
        self, prepared: PreparedImage, flip: tuple[int, ...] = (), recorders: Sequence[Recorder] = ()
    ) -> SlabStream:
        """One pass; every window is mirrored along these axes before the network and back after it, as in nnU-Net."""
        patch = tuple(self._predictor.configuration_manager.patch_size)
        gaussian = compute_gaussian(patch, sigma_scale=1.0 / 8, value_scaling_factor=10, device=prepared.image.device)
        return SlabStream(self.network, prepared.image, prepared.layout, gaussian, self.device, flip, recorders)

    def merged(self, slabs: Sequence[Slab]) -> Tensor:
        """See :meth:`Window.merged`: the slab of the plain pass."""
        return slabs[0].logits


def window_here(
    network: nn.Module, plans: dict, configuration: str, dataset_json: dict, kind: str, mirror_axes: tuple[int, ...]
) -> SlidingWindow:
    """A window from another process, moved to a device of the same kind (``cuda``, ``cpu``, ``mps``) in this one."""
    device = choose_device(kind)
    return SlidingWindow(network.to(device), plans, configuration, dataset_json, device, mirror_axes)
