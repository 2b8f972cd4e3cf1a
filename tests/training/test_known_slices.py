from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
from tiny_dataset import write_image
from tiny_target import NAME, SHAPE, make_target, truth
from tiny_training import (
    assert_equal_weights,
    campaign_of,
    checkpoint_of,
    fresh_target,
    run_with_kill,
    start,
    trainer_of,
)

from nnunet_active.campaign.campaign_round import RoundContent
from nnunet_active.campaign.slice_request import SliceRequest
from nnunet_active.data.ignore_label import add_ignore_label
from nnunet_active.data.partial_labels import keep_slices
from nnunet_active.rounds.trained_models import missed_labels, trainings_of
from nnunet_active.training.known_slices import KnownSlices
from nnunet_active.util.errors import MissingInput

IGNORE = 3
SLICES = {"unit": "slice", "budget": 4, "query_size": 2, "per_case": 1, "strategy": "random"}


def ignoring(target):
    add_ignore_label([target.raw / "dataset.json", target.preprocessed / "dataset.json"])
    return target


def known_labels(target) -> dict[str, np.ndarray]:
    folder = target.preprocessed / "active" / "fold_0" / "known_slices" / "fold_0" / target.store.folder.name
    names = sorted(file.name.removesuffix("_seg.b2nd") for file in folder.glob("*_seg.b2nd"))
    return {case: nnUNetDatasetBlosc2(str(folder), [case]).load_case(case)[1][0] for case in names}


@pytest.mark.parametrize("name", ["2d", "3d_fullres"])
def test_a_training_asks_for_slices_and_reads_those_and_nothing_else(nnunet_folders, name):
    target = ignoring(make_target(nnunet_folders, name=name))
    start(target, **SLICES)
    trainer = trainer_of(target)
    seen: list[set[int]] = []
    original = trainer.train_step

    def look(batch):
        target_ = batch["target"][0] if isinstance(batch["target"], list) else batch["target"]
        seen.append(set(np.unique(np.asarray(target_)).astype(int).tolist()))
        return original(batch)

    trainer.train_step = look
    trainer.run_training()
    campaign = campaign_of(target)
    assert [sum(len(one.slices) for one in made.slices.values()) for made in campaign.rounds] == [2, 2]
    assert campaign.exhausted and campaign.labels_known() == 4 and campaign.waiting() == []
    labels = known_labels(target)
    for case, request in campaign.known_slices().items():
        found = [index for index in range(SHAPE[0]) if (labels[case][index] != IGNORE).any()]
        assert request.axis == "z" and found == list(request.slices)
    for case in campaign.val:
        assert IGNORE not in labels[case]
    assert len(seen) == 6 and any(len(values - {IGNORE}) for values in seen)
    if name == "3d_fullres":
        assert all(IGNORE in values for values in seen)


@pytest.mark.parametrize("name", ["2d", "3d_fullres"])
def test_a_poisoned_rest_changes_nothing(tmp_path, monkeypatch, name):
    clean = ignoring(fresh_target(tmp_path / "clean", monkeypatch, name=name))
    start(clean, **SLICES)
    run_with_kill(clean, None)
    known, val = campaign_of(clean).known_slices(), campaign_of(clean).val
    before = checkpoint_of(clean)["network_weights"]
    poisoned = ignoring(fresh_target(tmp_path / "poisoned", monkeypatch, name=name))
    for seed in range(6):
        case, label = f"case_{seed}", truth(seed)
        if case in val:
            continue
        rest = np.full(SHAPE, 2, dtype=np.uint8)
        if case in known:
            kept = keep_slices(label, 0, known[case].slices, IGNORE)
            rest = np.where(kept == IGNORE, rest, label).astype(np.uint8)
        write_image(poisoned.raw / "labelsTr" / f"{case}.nii.gz", rest, spacing=(1.5, 1.5, 1.5))
    poisoned.preprocess()
    start(poisoned, **SLICES)
    run_with_kill(poisoned, None)
    assert campaign_of(poisoned).known_slices() == known
    assert_equal_weights(before, checkpoint_of(poisoned)["network_weights"])


@pytest.mark.parametrize("epoch", [0, 1, 2])
def test_a_run_that_is_killed_and_continued_ends_like_one_that_was_not(tmp_path, monkeypatch, epoch):
    weights = []
    for folder, kill in ((tmp_path / "whole", None), (tmp_path / "killed", epoch)):
        target = ignoring(fresh_target(folder, monkeypatch, name="2d"))
        start(target, **SLICES)
        run_with_kill(target, kill)
        weights.append((campaign_of(target).known_slices(), checkpoint_of(target)["network_weights"]))
    assert weights[0][0] == weights[1][0]
    assert_equal_weights(weights[0][1], weights[1][1])


def test_a_later_round_of_the_same_case_makes_new_loaders(nnunet_folders):
    target = ignoring(make_target(nnunet_folders, name="2d", labelled=5))
    start(target, **{**SLICES, "budget": 8, "query_size": 4})
    trainer = trainer_of(target)
    loaded = []
    original = trainer.on_train_epoch_start
    trainer.on_train_epoch_start = lambda: loaded.append(trainer._loaded_cases[0]) or original()
    trainer.run_training()
    assert len(loaded[0]) == len(loaded[1]) == 4 and loaded[0] != loaded[1] and loaded[1] == loaded[2]
    assert all(len(one.slices) == 2 for one in campaign_of(target).known_slices().values())


def test_without_an_ignore_label_the_sentence_names_the_line_and_the_flag(nnunet_folders):
    target = make_target(nnunet_folders)
    with pytest.raises(MissingInput, match=r'"ignore": 3.*--add-ignore-label'):
        start(target, **SLICES)
    assert not (target.preprocessed / "active" / "fold_0").exists()


def test_a_label_that_has_gone_from_the_raw_data_set_is_named(nnunet_folders, capsys):
    target = ignoring(make_target(nnunet_folders))
    start(target, **SLICES)
    for file in (target.raw / "labelsTr").iterdir():
        file.unlink()
    with pytest.raises(SystemExit):
        trainer_of(target).run_training()
    assert f"is not in {target.raw} any more" in capsys.readouterr().out
    assert NAME in str(target.raw)


def test_a_case_from_before_there_was_an_ignore_label_is_named_and_mended_by_preprocessing(nnunet_folders):
    target = ignoring(make_target(nnunet_folders, labelled=2, unlabelled=1, name="2d"))
    campaign = start(target, "all", "folder", **SLICES)
    description = json.loads((target.preprocessed / "dataset.json").read_text())
    known = KnownSlices(campaign, target.store, description, "all")
    assert known.folder == target.store.folder and not known.are_withheld
    with pytest.raises(
        MissingInput, match=r"case_0, case_1 were preprocessed before .* nnunet_active preprocess -d 902"
    ):
        known.prepare(campaign.labelled(), [], {})
    target.preprocess()
    known.prepare(campaign.labelled(), [], {})


def test_a_model_that_does_not_know_the_latest_slices_is_to_be_trained_again(nnunet_folders):
    target = ignoring(make_target(nnunet_folders, name="2d"))
    start(target, **{**SLICES, "budget": 2, "epochs": 1})
    trainer_of(target).run_training()
    campaign = campaign_of(target)
    (training,) = trainings_of(campaign, target.results)
    assert missed_labels(campaign, training).missing == ()
    case, request = next(iter(campaign.known_slices().items()))
    table = pd.DataFrame({"x": 1.0}, index=[case])
    further = SliceRequest("z", ((request.slices[0] + 1) % SHAPE[0],))
    with campaign.lock():
        campaign.append_round(RoundContent([case], table, table.T, table, slices={case: further}), made_by="select")
        campaign.mark_labelled([case])
    assert missed_labels(campaign, training).missing == (case,)
