"""The temperature of uncertainty maps: a forecast fits it on labelled cases that the network has not seen; the hand-off uses it.

``temperature.json`` keeps one number per network. If there are too few such cases, there is no number and maps stay uncalibrated.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nnunet_active.campaign.campaign import Campaign
from nnunet_active.data.cases import label_state
from nnunet_active.data.dataset_json import class_masks, ignore_value
from nnunet_active.data.partly_labelled import read_label_map
from nnunet_active.forecast.expected_dice import LABELS_NEEDED
from nnunet_active.nnunet.window import Window
from nnunet_active.rounds.forecast_record import forecast_folder
from nnunet_active.scoring.temperature import doubtful, fit_temperature
from nnunet_active.util.atomic import write_json
from nnunet_active.util.state_file import read_remade_json
from nnunet_active.workspace import Workspace

TEMPERATURES = "temperature.json"
MOST_CASES = 10
"""Most cases to fit a temperature on."""
VOXELS = 40_000
"""Most voxels per case, drawn at random; a single number needs no more."""


def fitted_temperature(campaign: Campaign, digest: str) -> float:
    """The temperature of a network; 1 if none was fitted."""
    value = _read(campaign).get(digest, {}).get("temperature", 1.0)
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) and value > 0 else 1.0


def fit_map_temperature(workspace: Workspace, window: Window, digest: str, cases: Sequence[str]) -> float:
    """Fit and save the temperature of a network. On the same cases, with the same images and labels, it is not fitted again.

    Args:
        workspace: its campaign may see the labels of these cases, which are whole.
        window: the network.
        digest: the network's fingerprint.
        cases: labelled cases that the network has not seen.

    Returns:
        The temperature; 1 with fewer than `LABELS_NEEDED` cases.
    """
    campaign, chosen, store = workspace.campaign, sorted(cases)[:MOST_CASES], workspace.store
    known = _read(campaign)
    made_from = {case: [*(label_state(store.folder, case) or ()), *store.image_state(case)] for case in chosen}
    if known.get(digest, {}).get("cases") == made_from:
        return fitted_temperature(campaign, digest)
    if len(chosen) < LABELS_NEEDED:
        return 1.0
    found = fit_temperature([_sample(workspace, window, case) for case in chosen], window.regions)
    write_json(
        forecast_folder(campaign) / TEMPERATURES,
        {**known, digest: {"temperature": round(found, 4), "cases": made_from}},
    )
    return fitted_temperature(campaign, digest)


def _read(campaign: Campaign) -> dict[str, Any]:
    content = read_remade_json(forecast_folder(campaign) / TEMPERATURES)
    return {k: v for k, v in content.items() if isinstance(v, dict)} if isinstance(content, dict) else {}


def _sample(workspace: Workspace, window: Window, case: str) -> tuple[Tensor, Tensor]:
    """Logits and true labels of a sample of doubtful labelled voxels, computed slab by slab."""
    image, label = workspace.store.load_image(case), read_label_map(workspace.store.folder, case)[0]
    labels = workspace.dataset_json["labels"]
    labelled = (label >= 0) & (label != (-1 if (ignore := ignore_value(workspace.dataset_json)) is None else ignore))
    truth = np.stack([*class_masks(label, labels).values()]) if window.regions else label.astype(np.int64)
    rng = np.random.default_rng(0)
    kept: list[Tensor] = []  # logits, truth, and a random number to draw voxels by
    with window.slabs(image) as slabs:
        for slab in slabs:
            n, rows = slab.logits.shape[1:3]
            box = (slice(slab.first, slab.first + n), slice(slab.row, slab.row + rows))
            here = torch.from_numpy(labelled[box]) & doubtful(slab.logits, window.regions).cpu()
            found = slab.logits[:, here.to(slab.logits.device)].float().cpu()
            true = torch.from_numpy(np.ascontiguousarray(truth[(..., *box, slice(None))][..., here.numpy()]))
            new = [found, true, torch.from_numpy(rng.random(found.shape[1]))]
            kept = [torch.cat(both, -1) for both in zip(kept, new, strict=True)] if kept else new
            drawn = kept[2].argsort()[:VOXELS]
            kept = [part[..., drawn] for part in kept]
    return kept[0], kept[1]
