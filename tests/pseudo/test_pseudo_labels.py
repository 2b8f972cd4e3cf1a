from __future__ import annotations

import json

import blosc2
import numpy as np
import pandas as pd
import pytest
import tiny_source
import torch
from batchgenerators.utilities.file_and_folder_operations import load_pickle, write_pickle
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
from tiny_campaign import edit
from tiny_target import NAME, PLANS, make_target, write_image

from nnunet_active.campaign.campaign_start import start_campaign
from nnunet_active.campaign.place import Place
from nnunet_active.campaign.pseudo_label_settings import PseudoLabelSettings
from nnunet_active.campaign.settings import Settings
from nnunet_active.nnunet.inference import SlidingWindow
from nnunet_active.pseudo.pseudo_labels import (
    FORMAT,
    RECORD,
    TABLE,
    Predicting,
    make_reliable_set,
    read_reliable_set,
)
from nnunet_active.scoring.reliability import semantic_distance
from nnunet_active.util.log import silent
from nnunet_active.util.tables import write_csv

EVERYONE = {"confident_fraction": 1.0, "nearer_fraction": 1.0}


def make_window(target, heads=None, **more):
    """A network with random weights; ``heads`` replaces the biases of the last layer."""
    source = tiny_source.source_model(name=target.configuration, **more)
    network = tiny_source.random_network(source.plans, target.configuration, source.dataset_json)
    if heads is not None:
        with torch.no_grad():
            for layer in network.decoder.seg_layers:
                layer.weight.zero_()
                layer.bias.copy_(torch.tensor(heads))
    return (
        SlidingWindow(network, source.plans, target.configuration, source.dataset_json, torch.device("cpu")),
        source.dataset_json,
    )


def start(target, labelled=(), **settings):
    campaign = start_campaign(
        Place.of(NAME, target.configuration, PLANS, "all"),
        Settings(**{"budget": 2, "epochs": 100, "oracle": "retrospective", **settings}),
        "retrospective" if not target.store.pool_identifiers() else None,
        log=silent,
    )
    campaign.mark_labelled(labelled)
    return campaign


def make(target, campaign, window, dataset_json, tag="round_001", said=None, **settings):
    return make_reliable_set(
        campaign,
        Predicting(window, target.store, dataset_json, log=(said if said is not None else []).append),
        campaign.pool(target.store.identifiers()),
        campaign.folder / "pseudo" / tag,
        PseudoLabelSettings(**settings),
    )


@pytest.fixture
def retrospective(nnunet_folders):
    target = make_target(nnunet_folders)
    window, dataset_json = make_window(target)
    return target, start(target, ["case_0", "case_1"]), window, dataset_json


def test_nnunet_reads_the_set_and_finds_the_prediction_as_its_label(retrospective):
    target, campaign, window, dataset_json = retrospective
    made = make(target, campaign, window, dataset_json, **EVERYONE)
    assert made.cases == ("case_2", "case_3", "case_4", "case_5")
    dataset = nnUNetDatasetBlosc2(str(made.folder))
    assert tuple(dataset.identifiers) == made.cases
    for case in made.cases:
        data, seg, _, properties = dataset.load_case(case)
        image = target.store.load_image(case)
        np.testing.assert_array_equal(data[:], image)
        prediction = window.predicted_classes(image)
        np.testing.assert_array_equal(seg[:], prediction[None])
        for value in (1, 2):
            where = np.asarray(properties["class_locations"][value])
            assert len(where) == min(10000, (prediction == value).sum())
            assert all(seg[tuple(place)] == value for place in where[:20])
        stock = load_pickle(str(target.store.folder / f"{case}.pkl"))
        assert set(properties) == set(stock) - {"nnunet_active"}
        assert properties["spacing"] == stock["spacing"]
        stock_seg = blosc2.open(str(target.store.folder / f"{case}_seg.b2nd"), mode="r")
        mine = blosc2.open(str(made.folder / f"{case}_seg.b2nd"), mode="r")
        assert (stock_seg.dtype, stock_seg.shape, stock_seg.chunks) == (mine.dtype, mine.shape, mine.chunks)


def test_no_image_is_copied_and_a_removed_pool_copy_does_not_hurt(nnunet_folders):
    target = make_target(nnunet_folders, labelled=2, unlabelled=2)
    window, dataset_json = make_window(target)
    made = make(target, start(target), window, dataset_json, **EVERYONE)
    assert made.cases == ("case_2", "case_3")
    pool_copy = target.store.image_file("case_2")
    assert (made.folder / "case_2.b2nd").samefile(pool_copy)
    image = target.store.load_image("case_2")
    pool_copy.unlink()  # its label has come in
    data, *_ = nnUNetDatasetBlosc2(str(made.folder), ["case_2"]).load_case("case_2")
    np.testing.assert_array_equal(data[:], image)


def test_no_withheld_label_is_read_and_nothing_else_is_written(retrospective):
    target, campaign, window, dataset_json = retrospective

    def others():
        files = [file for file in target.root.rglob("*") if file.is_file()]
        kept = [file for file in files if not {"pseudo", "scores"} & set(file.parts)]
        return {file: file.read_bytes() for file in kept}

    before = others()
    first = make(target, campaign, window, dataset_json, **EVERYONE)
    assert others() == before
    content = {file.name: file.read_bytes() for file in first.folder.iterdir()}
    for case in first.cases:
        (target.store.folder / f"{case}_seg.b2nd").write_bytes(b"poison")
        properties = load_pickle(str(target.store.folder / f"{case}.pkl"))
        write_pickle({**properties, "class_locations": "poison"}, str(target.store.folder / f"{case}.pkl"))
    for file in (target.raw / "labelsTr").iterdir():
        file.write_bytes(b"poison")
    again = make(target, campaign, window, dataset_json, **EVERYONE)
    assert {file.name: file.read_bytes() for file in again.folder.iterdir()} == content


def test_the_table_holds_the_formulas_and_a_reason_for_every_case(retrospective):
    target, campaign, window, dataset_json = retrospective
    made = make(target, campaign, window, dataset_json)
    z = {
        case: window.score(target.store.load_image(case), 1.0).arrays["embedding"]
        for case in target.store.identifiers()
    }
    labelled = np.stack([z["case_0"], z["case_1"]])
    for case, row in made.table.iterrows():
        image = torch.softmax(window.logits(target.store.load_image(case)).float(), 0)
        predicted = image.argmax(0) != 0
        assert row["confidence"] == pytest.approx(float(image.amax(0)[predicted].mean()), rel=1e-5)
        distance, nearest = semantic_distance(z[case][None], labelled)
        assert row["distance"] == pytest.approx(distance[0], abs=1e-9)
        assert row["nearest_labelled"] == f"case_{nearest[0]}"
        assert bool(row["reason"] == "confident and near") == bool(row["reliable"])
    assert set(made.cases) == set(made.table.index[made.table["reliable"]])


def test_what_was_made_can_be_read_again_and_replaces_that_of_the_round_before(retrospective):
    target, campaign, window, dataset_json = retrospective
    said: list[str] = []
    first = make(target, campaign, window, dataset_json, said=said)
    assert read_reliable_set(first.folder).cases == first.cases
    assert any(f"{len(first.cases)} of 4" in sentence for sentence in said)
    second = make(target, campaign, window, dataset_json, tag="round_002")
    assert [folder.name for folder in (campaign.folder / "pseudo").iterdir()] == ["round_002"]
    again = read_reliable_set(second.folder)
    pd.testing.assert_frame_equal(again.table, second.table, check_names=False)
    assert again.record["labelled"] == ["case_0", "case_1"]
    (second.folder / f"{second.cases[0]}.b2nd").unlink()
    assert read_reliable_set(second.folder) is None


@pytest.mark.parametrize("case", ["NA", "null", "nan", "001", "1e5"])
def test_a_case_keeps_its_name_whatever_a_table_might_take_it_for(tmp_path, case):
    facts = {"confidence": [0.9, 0.8], "distance": [0.1, np.nan], "nearest_labelled": [case, ""]}
    write_csv(tmp_path / TABLE, pd.DataFrame({**facts, "reliable": [True, False]}, index=[case, "other"]), "case")
    (tmp_path / RECORD).write_text(json.dumps({"format": FORMAT, "cases": [case], "labelled": [case]}))
    (tmp_path / f"{case}.b2nd").touch()
    made = read_reliable_set(tmp_path)
    assert list(made.table.index) == [case, "other"] and list(made.table["nearest_labelled"]) == [case, ""]
    assert np.isnan(made.table["distance"]["other"]) and made.lines()


def test_a_set_made_again_is_the_same_and_a_failure_leaves_nothing_half_done(retrospective, monkeypatch):
    target, campaign, window, dataset_json = retrospective
    made = make(target, campaign, window, dataset_json, **EVERYONE)
    calls: list[int] = []

    def fails(*what, **how):
        calls.append(1)
        if len(calls) == 3:
            raise RuntimeError("the power went out")
        return SlidingWindow.stream(window, *what, **how)

    monkeypatch.setattr(window, "stream", fails)
    with pytest.raises(RuntimeError, match="power"):
        make(target, campaign, window, dataset_json, tag="round_002", **EVERYONE)
    assert [folder.name for folder in (campaign.folder / "pseudo").iterdir()] == ["round_001"]
    assert read_reliable_set(made.folder).cases == made.cases


def test_an_empty_prediction_is_kept_out_unless_asked_for(nnunet_folders):
    target = make_target(nnunet_folders, labelled=4)
    window, dataset_json = make_window(target, heads=[9.0, 0.0, 0.0])
    campaign = start(target, ["case_0"])
    made = make(target, campaign, window, dataset_json, **EVERYONE)
    assert made.cases == () and set(made.table["reason"]) == {"nothing predicted"}
    assert any("nothing is predicted" in note for note in made.notes)
    assert read_reliable_set(made.folder).cases == ()
    allowed = make(target, campaign, window, dataset_json, allow_empty=True, **EVERYONE)
    assert allowed.cases == ("case_1", "case_2", "case_3")
    assert allowed.table["confidence"].notna().all()
    _, seg, _, properties = nnUNetDatasetBlosc2(str(allowed.folder)).load_case("case_1")
    assert not seg[:].any() and properties["class_locations"] == {1: [], 2: []}


def test_without_a_labelled_case_the_confidence_decides_and_a_note_says_so(retrospective):
    target, campaign, window, dataset_json = retrospective
    edit(campaign, labelled={})
    made = make(target, campaign, window, dataset_json)
    assert len(made.cases) == 3  # the more confident half of six
    assert made.table["distance"].isna().all()
    assert any("No case is labelled" in note for note in made.notes)
    assert any("No case is labelled" in line for line in made.lines())


def test_an_empty_pool_gives_an_empty_set(retrospective):
    target, campaign, window, dataset_json = retrospective
    folder = campaign.folder / "pseudo" / "round_001"
    made = make_reliable_set(
        campaign, Predicting(window, target.store, dataset_json, log=silent), ["case_0"], folder, PseudoLabelSettings()
    )
    assert made.cases == () and made.table.empty and read_reliable_set(folder).cases == ()


@pytest.mark.parametrize("ending", [".b2nd", ".pkl"])
def test_a_case_that_cannot_be_read_is_named_and_the_others_go_on(nnunet_folders, ending):
    target = make_target(nnunet_folders, labelled=2, unlabelled=3)
    window, dataset_json = make_window(target)
    target.store.image_file("case_3").with_suffix(ending).write_bytes(b"not an image")
    said: list[str] = []
    made = make(target, start(target), window, dataset_json, said=said, **EVERYONE)
    assert made.cases == ("case_2", "case_4")
    assert any("case_3" in sentence for sentence in said)


def test_regions_become_labels_in_their_order(nnunet_folders):
    labels = {"background": 0, "whole": [1, 2], "core": 2}
    more = {"labels": labels, "regions_class_order": [1, 2]}
    target = make_target(nnunet_folders, labelled=3, **more)
    window, dataset_json = make_window(target, **more)
    made = make(target, start(target, ["case_0"]), window, dataset_json, allow_empty=True, **EVERYONE)
    _, seg, _, properties = nnUNetDatasetBlosc2(str(made.folder)).load_case("case_1")
    logits = window.logits(target.store.load_image("case_1"))
    expected = np.zeros(logits.shape[1:])
    expected[(logits[0] > 0).numpy()] = 1
    expected[(logits[1] > 0).numpy()] = 2
    np.testing.assert_array_equal(seg[0], expected)
    np.testing.assert_array_equal(window.labels_of(logits), expected)
    assert set(properties["class_locations"]) == {(1, 2), 2}


def test_an_ignore_label_is_never_predicted_and_all_voxels_can_be_sampled(nnunet_folders):
    labels = {"background": 0, "oedema": 1, "core": 2, "ignore": 3}
    target = make_target(nnunet_folders, labelled=3, labels=labels)
    window, dataset_json = make_window(target, labels=labels)
    made = make(target, start(target, ["case_0"]), window, dataset_json, **EVERYONE)
    _, seg, _, properties = nnUNetDatasetBlosc2(str(made.folder)).load_case("case_1")
    assert seg[:].max() <= 2
    stock = load_pickle(str(target.store.folder / "case_1.pkl"))["class_locations"]
    assert set(properties["class_locations"]) == set(stock)


def test_a_two_dimensional_configuration_works_as_well(nnunet_folders):
    target = make_target(nnunet_folders, labelled=3, name="2d")
    window, dataset_json = make_window(target)
    made = make(target, start(target, ["case_0"]), window, dataset_json, **EVERYONE)
    data, seg, _, _ = nnUNetDatasetBlosc2(str(made.folder)).load_case("case_1")
    assert data.shape[1:] == seg.shape[1:]


def test_a_held_out_case_and_a_labelled_one_are_never_pseudo_labelled(retrospective):
    target, campaign, window, dataset_json = retrospective
    edit(campaign, val=["case_5"])
    everyone = target.store.identifiers()
    folder = campaign.folder / "pseudo" / "round_001"
    settings = PseudoLabelSettings(**EVERYONE)
    made = make_reliable_set(
        campaign, Predicting(window, target.store, dataset_json, log=silent), everyone, folder, settings
    )
    assert made.cases == ("case_2", "case_3", "case_4")


def test_a_new_image_under_an_old_name_is_predicted_anew(retrospective):
    target, campaign, window, dataset_json = retrospective
    before = make(target, campaign, window, dataset_json, **EVERYONE).table
    for channel in range(3):
        noise = np.random.default_rng(99 + channel).standard_normal((16, 20, 18)).astype(np.float32)
        write_image(target.raw / "imagesTr" / f"case_3_{channel:04d}.nii.gz", noise, spacing=(1.5, 1.5, 1.5))
    target.preprocess()
    after = make(target, campaign, window, dataset_json, **EVERYONE).table
    assert after.loc["case_3", "confidence"] != before.loc["case_3", "confidence"]
    assert after.loc["case_2", "confidence"] == before.loc["case_2", "confidence"]
