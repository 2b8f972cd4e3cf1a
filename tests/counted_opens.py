"""How often a command or a training opens what it works with."""

from __future__ import annotations

from collections import Counter

import pytest

from nnunet_active import workspace as module
from nnunet_active.campaign.campaign import Campaign
from nnunet_active.models import source_model


def count_opens(monkeypatch: pytest.MonkeyPatch) -> Counter:
    """Counts, from now on, how often each campaign, plans file and checkpoint is read; the readers do what they always do."""
    counts: Counter = Counter()
    read_plans, read_checkpoint, read_campaign = module.read_plans, source_model.load_checkpoint, Campaign.open.__func__

    def plans(dataset, name):
        counts[f"{dataset}/{name}.json"] += 1
        return read_plans(dataset, name)

    def checkpoint(file, *args, **how):
        counts[str(file)] += 1
        return read_checkpoint(file, *args, **how)

    def campaign(cls, folder, fold):
        counts[f"campaign {fold}"] += 1
        return read_campaign(cls, folder, fold)

    monkeypatch.setattr(module, "read_plans", plans)
    monkeypatch.setattr("nnunet_active.data.cases.read_plans", plans)
    monkeypatch.setattr(source_model, "load_checkpoint", checkpoint)
    monkeypatch.setattr(Campaign, "open", classmethod(campaign))
    return counts
