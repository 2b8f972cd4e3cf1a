"""Campaigns of their file alone: no scans, no plans, no network."""

from __future__ import annotations

import json
from pathlib import Path

from nnunet_active.campaign.campaign import Campaign
from nnunet_active.campaign.campaign_state import Roles
from nnunet_active.campaign.place import Place
from nnunet_active.campaign.settings import Settings


def begin(folder: Path, fold: str = "0", settings: Settings | None = None, **roles) -> Campaign:
    """``folder``: nnUNet_preprocessed/DatasetXXX."""
    place = Place(folder, "3d_fullres", "nnUNetActivePlans", fold)
    return Campaign.create(place, settings or Settings(), Roles(**roles))


def edit(campaign: Campaign, **content) -> Campaign:
    """What somebody does to ``campaign.json`` by hand; read again."""
    (campaign.folder / "campaign.json").write_text(json.dumps({**campaign.to_json(), **content}))
    campaign.refresh()
    return campaign
