"""A campaign whose waiting cases are served, and what a client of it sends."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from tiny_dataset import write_image
from tiny_handoff import SPACING, ask, hand_out
from tiny_rounds import CONFIGURATION
from tiny_target import NAME, PLANS, Target

from nnunet_active.campaign.campaign import Campaign
from nnunet_active.campaign.campaign_start import start_campaign
from nnunet_active.campaign.place import Place
from nnunet_active.campaign.settings import Settings
from nnunet_active.util.log import silent

MADE = {"labelled": 1, "unlabelled": 3}


def served_campaign(target: Target, *cases: str):
    """Cases that were asked for and handed over; the service of them."""
    pytest.importorskip("fastapi")
    from nnunet_active.server.served_campaign import ServedCampaign
    from nnunet_active.server.service import AnnotationService

    campaign = start_campaign(Place.of(NAME, CONFIGURATION, PLANS, "0"), Settings(budget=3), "folder", log=silent)
    ask(campaign, *cases)
    hand_out(target, campaign, target.root / "handoff")
    return AnnotationService(ServedCampaign(NAME, "0"))


def waiting(target: Target) -> list[str]:
    return Campaign.open(target.preprocessed, "0").waiting()


def sent(folder: Path, label: np.ndarray, ending: str = ".nii.gz") -> Path:
    return write_image(folder / f"sent{ending}", label, spacing=SPACING)


def put(client, case: str, file: Path, names: list[str] | None = None, who: str = "ann", path: str = "", **more):
    """Submit Label, as the module of 3D Slicer sends it."""
    params = {"client_id": who, **more}
    if names is not None:
        params["label_info"] = [{"name": name, "idx": index} for index, name in enumerate(names, 1)]
    files = {"label": (str(file), io.BytesIO(file.read_bytes()))}
    return client.put(
        f"{path}/datastore/label", params={"image": case}, data={"params": json.dumps(params)}, files=files
    )
