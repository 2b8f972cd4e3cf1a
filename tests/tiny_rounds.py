"""A target whose scans are mostly unlabelled, as rounds between trainings begin with, and trainings made of their checkpoints alone."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny_source
import torch
from tiny_target import NAME, PLANS, Target, make_target

from nnunet_active.campaign.campaign import Campaign
from nnunet_active.campaign.campaign_round import Round, RoundContent
from nnunet_active.campaign.campaign_start import start_campaign
from nnunet_active.campaign.place import Place
from nnunet_active.campaign.settings import Settings
from nnunet_active.util.log import silent

CONFIGURATION = "3d_fullres"
CASES = [f"case_{i}" for i in range(6)]


def make_once(root: Path, labelled: int = 1, unlabelled: int = 5) -> Target:
    """Below ``root``, with environment variables of its own; :func:`copy_of` gives a test its copy."""
    with pytest.MonkeyPatch.context() as patch:
        for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
            (root / variable).mkdir()
            patch.setenv(variable, str(root / variable))
        return make_target(root, labelled, unlabelled)


def copy_of(made: Target, root: Path) -> Target:
    shutil.copytree(made.root, root, dirs_exist_ok=True)
    raw, preprocessed = root / "nnUNet_raw" / NAME, root / "nnUNet_preprocessed" / NAME
    return Target(root, raw, preprocessed, root / "nnUNet_results", root / "model", made.configuration)


def start(fold: str = "0", **settings) -> Campaign:
    content = {"strategy": "random", "budget": 2, "query_size": 2, **settings}
    return start_campaign(Place.of(NAME, CONFIGURATION, PLANS, fold), Settings(**content), log=silent)


def request(campaign: Campaign, *cases: str, made_by: str = "select", epoch: int = 0, others=()) -> Round:
    """A round that asked for these cases."""
    candidates = [*cases, *others]
    table = pd.DataFrame({"mean_entropy": np.linspace(0.9, 0.1, len(candidates))}, index=candidates)
    table["component_entropy"] = table["mean_entropy"]
    table["utility"] = table["mean_entropy"]
    table["picked"] = pd.Series({case: rank for rank, case in enumerate(cases, 1)})
    rows = []
    for step in range(len(cases)):
        row = table["utility"].copy()
        row[list(cases[:step])] = np.nan
        rows.append(row)
    details = {
        "strategy": "entropy",
        "candidates": len(candidates),
        "dominant_modality": {
            c: {"channel": 1, "name": "FLAIR", "dice": [0.1, 0.8, 0.2], "decided": True} for c in cases
        },
        "notes": [],
        "set_aside": {},
        "seconds": 0.1,
    }
    worklist = pd.DataFrame({"rank": range(1, len(cases) + 1), "case": cases})
    with campaign.lock():
        content = RoundContent(cases, table, pd.DataFrame(rows), worklist, {}, details)
        return campaign.append_round(content, epoch, made_by)


def plan_another(target: Target, name: str = "2d") -> None:
    """A second configuration in the plans, like the first."""
    file = target.preprocessed / f"{PLANS}.json"
    content = json.loads(file.read_text())
    content["configurations"][name] = content["configurations"][CONFIGURATION]
    file.write_text(json.dumps(content))


def mark_drawn(one: Round, probability: float | None = None) -> Round:
    """A round as if its strategy had drawn the cases, with that probability where it is known."""
    file = one.folder / "selection.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "drawn": True}))
    if probability is not None:
        table = one.folder / "scores.csv"
        pd.read_csv(table).assign(component_probability=probability).to_csv(table, index=False)
    return one


def trained(
    target: Target,
    trainer: str = "nnUNetTrainerActive",
    labelled=None,
    fold: str = "0",
    file: str = "checkpoint_final.pth",
    begun: float | None = None,
    ended: float | None = None,
    saved: float | None = None,
    seed: int = 5,
    alpha: float = 1.0,
    campaign: str = "",
) -> Path:
    """A training's checkpoint; without ``labelled`` it keeps no record, as a stock trainer's. ``ended``: its last epoch did."""
    source = tiny_source.source_model(seed=seed)
    folder = target.results / NAME / f"{trainer}__{PLANS}__{CONFIGURATION}"
    details = {"trainer_name": trainer, "labelled": list(labelled or ()), "interpolation": alpha}
    details |= {"campaign": campaign} if campaign else {}
    record = {} if labelled is None else {"nnunet_active": details}
    begun = time.time() if begun is None else begun
    log = {"epoch_start_timestamps": [begun], "epoch_end_timestamps": [] if ended is None else [ended]}
    tiny_source.write_trained(source, folder, fold, file, logging=log, **record)
    checkpoint = folder / f"fold_{fold}" / file
    if saved is not None:
        os.utime(checkpoint, (saved, saved))
    assert torch.load(checkpoint, weights_only=False)["network_weights"]
    return checkpoint
