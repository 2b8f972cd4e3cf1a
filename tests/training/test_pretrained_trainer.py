"""The trainers of nnU-Net's coming fine-tuning of self-supervised encoders, made active; skipped where nnU-Net has none yet."""

from __future__ import annotations

import json

import pytest
import tiny_nnssl
import torch
from tiny_target import NAME, PLANS, make_target
from tiny_training import campaign_of, start

from nnunet_active.training.query_mixin import ActiveQueryMixin

pretrained = pytest.importorskip("nnunetv2.training.nnUNetTrainer.pretraining.pretrainedTrainer")


class nnUNetTrainerMine(ActiveQueryMixin, pretrained.PretrainedTrainer):
    """As in the how-to: three lines."""


def test_their_trainer_asks_between_epochs_and_trains_on_what_is_labelled_by_then(nnunet_folders, tmp_path):
    target = make_target(nnunet_folders, residual=True)
    plan = tiny_nnssl.adaptation_plan()
    file = target.preprocessed / f"{PLANS}.json"
    plans = json.loads(file.read_text())
    keys = ("key_to_encoder", "key_to_stem", "keys_to_in_proj", "key_to_lpe")
    plans["pretrain_info"] = {key: plan[key] for key in keys} | {
        "checkpoint_path": str(tiny_nnssl.write_checkpoint(tmp_path / "encoder.pth")),
        "pt_num_in_channels": 1,
        "pt_used_patchsize": [16, 16, 16],
        "citations": [],
    }
    file.write_text(json.dumps(plans))
    start(target)
    dataset_json = json.loads((target.preprocessed / "dataset.json").read_text())
    content = {**plans, "continue_training": False}
    trainer = nnUNetTrainerMine(content, target.configuration, 0, dataset_json, torch.device("cpu"))
    trainer.run_training()
    campaign = campaign_of(target)
    assert len(campaign.rounds) == 2 and len(campaign.labelled()) == 2
    folder = target.results / NAME / f"nnUNetTrainerMine__{PLANS}__3d_fullres" / "fold_0"
    assert (folder / "checkpoint_final.pth").is_file()
