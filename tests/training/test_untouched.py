"""A trainer that was lent out is as it was."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from tiny_target import make_target
from tiny_training import assert_equal_weights, start, trainer_of

from nnunet_active.training.untouched import untouched
from nnunet_active.training.weights import copy_weights


def seed() -> None:
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002 - nnU-Net draws from the legacy generator
    torch.manual_seed(1)


def drawn() -> tuple:
    return random.random(), np.random.rand(), torch.rand(1).item()  # noqa: NPY002


def test_a_trainer_is_as_it_was_also_after_a_training_that_fails(nnunet_folders):
    target = make_target(nnunet_folders)
    start(target)
    trainer = trainer_of(target)
    trainer.initialize()
    weights, optimizer, schedule = copy_weights(trainer.network), trainer.optimizer, trainer.lr_scheduler
    rates = [group["lr"] for group in optimizer.param_groups]
    seed()
    expected = drawn()
    seed()
    trainer.network.eval()
    with pytest.raises(RuntimeError, match="the disk is full"), untouched(trainer):
        trainer.do_split = lambda: (["case_0"], ["case_0"])
        trainer.optimizer, trainer.lr_scheduler = trainer.configure_optimizers()
        trainer.dataloader_train, trainer.dataloader_val = trainer.get_dataloaders()
        trainer.network.train()
        trainer.train_step(next(trainer.dataloader_train))
        assert any(not torch.equal(copy_weights(trainer.network)[name], weights[name]) for name in weights)
        raise RuntimeError("the disk is full")
    assert_equal_weights(copy_weights(trainer.network), weights)
    assert (trainer.optimizer, trainer.lr_scheduler) == (optimizer, schedule)
    assert not optimizer.state and [group["lr"] for group in optimizer.param_groups] == rates
    assert all(parameter.grad is None for parameter in trainer.network.parameters())
    assert not trainer.network.training and trainer.dataloader_train is None and trainer._loaded_cases == ()
    assert "do_split" not in vars(trainer)
    assert drawn() == expected
