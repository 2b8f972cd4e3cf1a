"""Real trainings of a few steps on the tiny target, made and killed as the stock nnUNetv2_train and a power cut do it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from nnunetv2.run.run_training import get_trainer_from_args, maybe_load_checkpoint
from tiny_target import NAME, PLANS, Target, make_target

from nnunet_active.campaign.campaign import Campaign
from nnunet_active.campaign.campaign_start import start_campaign
from nnunet_active.campaign.place import Place
from nnunet_active.campaign.settings import Settings

SHORT = {"strategy": "mmacts", "budget": 2, "stride": 1, "epochs": 3, "iterations": 2, "val_iterations": 1, "seed": 7}


def trainer_of(target: Target, name: str = "nnUNetTrainerMmActS", fold: int | str = 0, resume: bool = False):
    """As the stock nnUNetv2_train makes it."""
    trainer = get_trainer_from_args(
        NAME, target.configuration, fold, name, PLANS, continue_training=resume, device=torch.device("cpu")
    )
    trainer.logger.plot_progress_png = lambda folder: (
        None
    )  # most of the time of so short an epoch; the stock commands plot
    maybe_load_checkpoint(trainer, resume, False)
    return trainer


def campaign_of(target: Target, fold: int | str = 0) -> Campaign:
    """The campaign of a fold."""
    return Campaign.open(target.preprocessed, fold)


def start(target: Target, fold: str = "0", oracle: str | None = None, **settings) -> Campaign:
    """As ``nnunet_active init``, of a short training."""
    return start_campaign(Place.of(NAME, target.configuration, PLANS, fold), Settings(**{**SHORT, **settings}), oracle)


class Killed(RuntimeError):
    """What ends a training in the middle."""


def run_with_kill(target: Target, epoch: int | None, name: str = "nnUNetTrainerMmActS") -> None:
    """Train; where an epoch is given, die before its first step and continue with --c in a new trainer."""
    trainer = trainer_of(target, name)
    if epoch is None:
        trainer.run_training()
        return
    original = trainer.on_train_epoch_start

    def die() -> None:
        if trainer.current_epoch == epoch:
            raise Killed
        original()

    trainer.on_train_epoch_start = die
    with pytest.raises(Killed):
        trainer.run_training()
    trainer.session.end()  # the operating system does this for a process that dies
    trainer_of(target, name, resume=True).run_training()


def fresh_target(folder: Path, monkeypatch: pytest.MonkeyPatch, **options) -> Target:
    """A target in nnU-Net folders of its own, for a test that compares two runs."""
    for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        (folder / variable).mkdir(parents=True)
        monkeypatch.setenv(variable, str(folder / variable))
    return make_target(folder, **options)


def output_folder(target: Target, name: str = "nnUNetTrainerMmActS", fold: int | str = 0) -> Path:
    """Where a training writes."""
    return target.results / NAME / f"{name}__{PLANS}__{target.configuration}" / f"fold_{fold}"


def interpolations_of(target: Target, fold: int | str = 0) -> list[dict]:
    """Every choice of an interpolation that its log tells of."""
    lines = (output_folder(target, fold=fold) / "active_log.jsonl").read_text().splitlines()
    return [entry for line in lines if (entry := json.loads(line))["event"] == "interpolation"]


def checkpoint_of(target: Target, name: str = "nnUNetTrainerMmActS", file: str = "checkpoint_final.pth") -> dict:
    """What it wrote."""
    return torch.load(output_folder(target, name) / file, weights_only=False)


def assert_equal_weights(one: dict, other: dict) -> None:
    """Bit for bit."""
    assert one.keys() == other.keys()
    for key, value in one.items():
        torch.testing.assert_close(value, other[key], rtol=0, atol=0, msg=key)
