from __future__ import annotations

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.training.nnUNetTrainer.variants.network_architecture.nnUNetTrainerBN import nnUNetTrainerBN

from nnunet_active.trainers.nnUNetTrainerMmActS import nnUNetTrainerMmActS
from nnunet_active.training.checkpoints import make_way, name_in_checkpoint, restamp
from nnunet_active.training.query_mixin import ActiveQueryMixin


class OwnNetwork(ActiveQueryMixin, nnUNetTrainer):
    @staticmethod
    def build_network_architecture(*args, **kwargs):
        raise NotImplementedError


class ActiveBatchNorm(ActiveQueryMixin, nnUNetTrainerBN):
    pass


def test_a_trainer_of_stock_networks_goes_by_the_name_of_its_nearest_stock_ancestor():
    assert name_in_checkpoint(nnUNetTrainerMmActS) == "nnUNetTrainer"
    assert name_in_checkpoint(ActiveBatchNorm) == "nnUNetTrainerBN"


def test_a_trainer_with_a_network_of_its_own_keeps_its_own_name():
    assert name_in_checkpoint(OwnNetwork) == "OwnNetwork"


def test_restamping_keeps_everything_else_and_leaves_no_temporary_file(tmp_path):
    temporary, final = tmp_path / ".a.tmp", tmp_path / "a.pth"
    weights = {"w": torch.arange(3.0)}
    torch.save({"network_weights": weights, "trainer_name": "nnUNetTrainerMmActS", "current_epoch": 4}, temporary)
    restamp(temporary, final, nnUNetTrainerMmActS, {"labelled": ["a"]})
    checkpoint = torch.load(final, weights_only=False)
    assert checkpoint["trainer_name"] == "nnUNetTrainer"
    assert checkpoint["current_epoch"] == 4
    assert checkpoint["nnunet_active"] == {"trainer_name": "nnUNetTrainerMmActS", "labelled": ["a"]}
    torch.testing.assert_close(checkpoint["network_weights"], weights)
    assert [file.name for file in tmp_path.iterdir()] == ["a.pth"]


def test_an_earlier_final_checkpoint_makes_way_so_that_nnunet_goes_on_with_the_latest_one(tmp_path):
    for name in ("checkpoint_final.pth", "checkpoint_latest.pth"):
        (tmp_path / name).write_text(name)
    make_way(tmp_path / "checkpoint_best.pth")
    assert (tmp_path / "checkpoint_final.pth").is_file()
    make_way(tmp_path / "checkpoint_latest.pth")
    assert not (tmp_path / "checkpoint_final.pth").exists()
    assert (tmp_path / "checkpoint_previous.pth").read_text() == "checkpoint_final.pth"
    (tmp_path / "checkpoint_final.pth").write_text("the next one")
    make_way(tmp_path / "checkpoint_final.pth")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["checkpoint_final.pth", "checkpoint_latest.pth"]
