"""A tiny network with random weights, its plans, and a window on it."""

from __future__ import annotations

import numpy as np
import tiny_source
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_active.nnunet.inference import SlidingWindow

CPU = torch.device("cpu")
REGIONS = {"labels": {"background": 0, "whole": [1, 2], "core": [2]}, "regions_class_order": [1, 2]}


class Case:
    """A tiny network with its plans and a window on it."""

    def __init__(
        self, name: str = "3d_fullres", labels: dict | None = None, wrap=lambda net: net, seed: int = 0, **how
    ) -> None:
        more = {key: value for key, value in (labels or {}).items() if key != "labels"}
        self.description = tiny_source.dataset_json(labels=(labels or {}).get("labels"), **more)
        self.plans = tiny_source.plans((name,))
        self.name = name
        self.network = tiny_source.random_network(self.plans, name, self.description, seed, **how)
        self.window = SlidingWindow(wrap(self.network), self.plans, name, self.description, CPU)

    def by_nnunet(self, image: np.ndarray, **how) -> torch.Tensor:
        manager = PlansManager(self.plans)
        predictor = nnUNetPredictor(
            use_mirroring=False, perform_everything_on_device=False, device=CPU, allow_tqdm=False, **how
        )
        network = tiny_source.random_network(self.plans, self.name, self.description)
        network.load_state_dict(self.network.state_dict())
        configuration = manager.get_configuration(self.name)
        predictor.manual_initialization(network, manager, configuration, None, self.description, "", None)
        return predictor.predict_sliding_window_return_logits(torch.from_numpy(image))


def image(shape=(16, 20, 18), channels: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(channels, *shape)).astype(np.float32)
