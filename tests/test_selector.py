from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import tiny_source
import torch
from tiny_target import NAME, PLANS, make_target

from nnunet_active.campaign_start import set_aside, start_campaign
from nnunet_active.errors import EmptyPool
from nnunet_active.inference import SlidingWindow
from nnunet_active.selector import run_query
from nnunet_active.settings import Settings
from nnunet_active.strategies.registry import available_strategies

CHANNELS, CLASSES = ["T1", "FLAIR", "T1ce"], ["background", "oedema", "core"]


@pytest.fixture
def setting(nnunet_folders):
    target = make_target(nnunet_folders)
    source = tiny_source.source_model()
    network = tiny_source.random_network(source.plans, "3d_fullres", source.dataset_json)
    return target, SlidingWindow(network, source.plans, "3d_fullres", source.dataset_json, torch.device("cpu"))


def start(**settings):
    return start_campaign(
        NAME, "3d_fullres", PLANS, "all", Settings(**{"budget": 2, "epochs": 100, **settings}), log=lambda text: None
    )


def query(campaign, target, window, epoch=0):
    candidates = campaign.pool(target.store.labelled_identifiers())
    return run_query(campaign, target.store, window, candidates, epoch, CHANNELS, CLASSES, log=lambda text: None)


def test_a_round_holds_every_component_the_embeddings_the_utilities_and_a_worklist(setting):
    target, window = setting
    made = query(start(), target, window)
    assert {file.name for file in made.folder.iterdir()} == {
        "scores.csv",
        "embeddings.npz",
        "selection.json",
        "worklist.csv",
    }
    scores = made.scores()
    assert list(scores["component_u"]) == pytest.approx(list(scores["mean_entropy"]))
    assert scores.index[0] == made.requested[0]
    with np.load(made.folder / "embeddings.npz") as arrays:
        assert arrays["embedding"].shape == (6, 8)
    assert len(made.selection()["utilities"][0]) == 6
    worklist = pd.read_csv(made.folder / "worklist.csv")
    assert worklist.loc[0, "open_first"] in CHANNELS


def test_the_density_looks_at_the_whole_training_pool_also_after_cases_were_taken(setting):
    target, window = setting
    campaign = start()
    first = query(campaign, target, window)
    campaign.mark_labelled(first.requested)
    second = query(campaign, target, window, epoch=40)
    before, after = first.scores()["density"], second.scores()["density"]
    pd.testing.assert_series_equal(before[after.index].sort_index(), after.sort_index())


@pytest.mark.parametrize("name", sorted(available_strategies()))
def test_every_registered_strategy_queries_by_name_and_never_reads_a_withheld_label(setting, name):
    target, window = setting
    campaign = start(strategy=name)
    first = query(campaign, target, window)
    campaign.mark_labelled(first.requested)
    second = query(campaign, target, window, epoch=40)
    assert len({*first.requested, *second.requested}) == 2
    json.dumps(second.selection(), allow_nan=False)

    for file in target.store.folder.glob("*_seg.b2nd"):
        file.write_bytes(b"poison")
    for file in (target.raw / "labelsTr").iterdir():
        file.write_bytes(b"poison")
    set_aside(campaign.folder, log=lambda text: None)
    again = query(start(strategy=name), target, window)
    assert again.requested == first.requested


def test_bald_asks_mirrored_passes(setting):
    target, window = setting
    made = query(start(strategy="bald"), target, window)
    information = made.scores()["mutual_information"]
    assert (information >= 0).all()
    assert information.idxmax() == made.requested[0]
    assert information[made.requested[0]] > 0


def test_an_empty_pool_is_said_as_such(setting):
    target, window = setting
    with pytest.raises(EmptyPool):
        run_query(start(), target.store, window, [], 0, CHANNELS, CLASSES, log=lambda text: None)
