from __future__ import annotations

import time

import numpy as np
import pytest
import tiny_source
import torch
from tiny_rounds import CONFIGURATION, copy_of, request, start, trained
from tiny_target import NAME

from nnunet_active.nnunet.ensemble_window import EnsembleWindow
from nnunet_active.nnunet.inference import SlidingWindow
from nnunet_active.rounds.asking_model import find_models, make_window
from nnunet_active.util.errors import MissingInput
from nnunet_active.workspace import Workspace

NOW = time.time()


def window(target, found):
    return make_window(found, Workspace(NAME, configuration=CONFIGURATION), torch.device("cpu"))


def test_before_any_training_the_source_asks(target):
    found = find_models(Workspace.of(start()))
    assert found.kind == "source" and found.lines()[0].startswith("The source network asks: ")
    assert isinstance(window(target, found), SlidingWindow)


def test_the_newest_training_of_the_campaign_asks(target):
    campaign = start()
    trained(target, "nnUNetTrainerActive", ["case_0"], saved=NOW - 50, seed=1)
    trained(target, "nnUNetTrainerMmActS", ["case_0"], saved=NOW, seed=2)
    found = find_models(Workspace.of(campaign))
    assert found.kind == "own" and "nnUNetTrainerMmActS" in found.models[0].origin and not found.notes


def test_a_model_that_does_not_know_all_labels_asks_with_a_warning(target):
    campaign = start()
    request(campaign, "case_1")
    with campaign.lock():
        campaign.mark_labelled(["case_1"])
    trained(target, labelled=["case_0"])
    assert find_models(Workspace.of(campaign)).notes == (
        "It was not trained on case_1 yet: a training first makes a better query.",
    )


def test_a_stopped_training_asks_only_where_it_is_wanted(target):
    campaign = start()
    trained(target, labelled=["case_0"], file="checkpoint_latest.pth")
    assert find_models(Workspace.of(campaign)).kind == "source"
    assert find_models(Workspace.of(campaign), unfinished=True).models[0].checkpoint == "checkpoint_latest.pth"


def test_a_named_model_wins_and_its_folds_are_averaged(target):
    campaign = start()
    trained(target, labelled=["case_0"])
    tiny_source.write_trained(tiny_source.source_model(seed=7), target.model, fold="1")
    one, other, both = (
        find_models(Workspace.of(campaign), target.model, folds) for folds in (["0"], ["1"], ["0", "1"])
    )
    assert [found.kind for found in (one, other, both)] == ["named"] * 3
    windows = [window(target, found) for found in (one, other, both)]
    assert isinstance(windows[2], EnsembleWindow)
    image = np.random.default_rng(0).standard_normal((3, 16, 16, 16)).astype(np.float32)
    first, second, mean = (torch.softmax(w.logits(image).float(), 0) for w in windows)
    assert torch.allclose(mean, (first + second) / 2, atol=2e-3)
    assert both.record()["folds"] == ["0", "1"] and len(set(both.record()["weights"])) == 2


def test_without_a_choice_a_named_model_says_which_fold_is_taken(target):
    tiny_source.write_trained(tiny_source.source_model(seed=7), target.model, fold="1")
    found = find_models(Workspace.of(start()), target.model)
    assert found.models[0].fold == "0" and "Folds found: 0, 1" in found.notes[0]


def test_of_a_cross_validation_the_folds_that_know_all_labels_are_averaged(target):
    campaign = start(folds=2, budget=4)
    request(campaign, "case_1", "case_2")
    with campaign.lock():
        campaign.mark_labelled(["case_1", "case_2"])
    from nnunet_active.rounds.trained_models import labels_to_train_on

    for fold in "01":
        trained(target, labelled=labels_to_train_on(campaign, fold), fold=fold, seed=int(fold))
    assert [model.fold for model in find_models(Workspace.of(campaign)).models] == ["0", "1"]
    trained(target, labelled=[], fold="1")
    assert [model.fold for model in find_models(Workspace.of(campaign)).models] == ["0"]
    with pytest.raises(MissingInput, match="has not trained fold 4"):
        find_models(Workspace.of(campaign), folds=["0", "4"])


def test_heads_that_the_model_lacks_are_the_same_each_time(made, nnunet_folders):
    target = copy_of(made, nnunet_folders)
    found = find_models(Workspace.of(start()))
    description = tiny_source.dataset_json(labels={**tiny_source.TUMOUR, "necrosis": 3})
    workspace = Workspace(NAME, configuration=CONFIGURATION)
    workspace.dataset_json = description
    digests = {make_window(found, workspace, torch.device("cpu")).digest for _ in range(2)}
    assert len(digests) == 1 and target.model.is_dir()
