from __future__ import annotations

import json

import numpy as np
import pytest
import tiny_dataset as tiny
from batchgenerators.utilities.file_and_folder_operations import load_pickle
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class, nnUNetDatasetBlosc2

from nnunet_active.data.cases import CaseStore
from nnunet_active.data.preprocessing import preprocess_dataset
from nnunet_active.data.raw_dataset import RawDataset
from nnunet_active.data.revealed_labels import reveal
from nnunet_active.util.errors import BadCase

IGNORE = 3
IGNORING = {**tiny.DATASET_JSON, "labels": {**tiny.DATASET_JSON["labels"], "ignore": IGNORE}}
KNOWN = (1, 3)


def prepared(tmp_path, configuration="3d_fullres", plans=None):
    """A case with its whole label, preprocessed by a data set that knows no ignore label yet."""
    raw = tiny.make_raw(tmp_path / "raw", labelled=("a",), unlabelled=())
    store = CaseStore(tmp_path / "preprocessed", plans or tiny.make_plans(), configuration)
    preprocess_dataset(RawDataset(raw), store, tiny.DATASET_JSON, 1, progress=False)
    return raw, store


def stored(folder, case="a"):
    data, seg, _, properties = nnUNetDatasetBlosc2(str(folder), [case]).load_case(case)
    return data[:], seg[:], properties


def poison(raw):
    """Everything outside of the known slices is something else."""
    label = tiny.segmentation(0)
    others = [index for index in range(len(label)) if index not in KNOWN]
    label[others] = 2 - label[others] // 2
    tiny.write_image(raw / "labelsTr" / "a.nii.gz", label)


@pytest.mark.parametrize("configuration", ["2d", "3d_fullres", "resampled"])
def test_a_poisoned_rest_changes_nothing(tmp_path, configuration):
    plans = tiny.make_plans()
    if configuration == "resampled":
        configuration = "3d_fullres"
        plans["configurations"][configuration]["spacing"] = [1.3, 1.25, 1.25]
    raw, store = prepared(tmp_path, configuration, plans)
    reveal(RawDataset(raw).cases["a"], "z", KNOWN, store, IGNORING, tmp_path / "clean")
    poison(raw)
    reveal(RawDataset(raw).cases["a"], "z", KNOWN, store, IGNORING, tmp_path / "poisoned")
    clean, poisoned = stored(tmp_path / "clean"), stored(tmp_path / "poisoned")
    np.testing.assert_array_equal(clean[0], poisoned[0])
    np.testing.assert_array_equal(clean[1], poisoned[1])
    assert clean[2]["class_locations"].keys() == poisoned[2]["class_locations"].keys()
    for key, places in clean[2]["class_locations"].items():
        np.testing.assert_array_equal(places, poisoned[2]["class_locations"][key])


def test_the_known_slices_are_as_in_the_whole_label_and_the_rest_is_ignored(tmp_path):
    raw, store = prepared(tmp_path, "2d")
    reveal(RawDataset(raw).cases["a"], "z", KNOWN, store, IGNORING, tmp_path / "out")
    whole, found = stored(store.folder), stored(tmp_path / "out")
    np.testing.assert_array_equal(found[0], whole[0])
    for index in range(tiny.SHAPE[0]):
        expected = whole[1][0, index] if index in KNOWN else np.full_like(whole[1][0, index], IGNORE)
        np.testing.assert_array_equal(found[1][0, index], expected)
    assert (tmp_path / "out" / "a.b2nd").is_symlink()


@pytest.mark.parametrize("axis", ["x", "y"])
def test_slices_along_any_axis_of_the_stored_image_can_be_known(tmp_path, axis):
    raw, store = prepared(tmp_path)
    reveal(RawDataset(raw).cases["a"], axis, [7], store, IGNORING, tmp_path / "out")
    seg = stored(tmp_path / "out")[1][0]
    known = [np.flatnonzero((seg != IGNORE).any(axis=tuple({0, 1, 2} - {n}))) for n in range(3)]
    place = {"x": 2, "y": 1}[axis]
    assert len(known[place]) == 1 and all(len(known[n]) == seg.shape[n] for n in range(3) if n != place)


def test_a_reader_that_turns_images_is_followed(tmp_path):
    plans = tiny.make_plans()
    plans["image_reader_writer"] = "NibabelIOWithReorient"
    raw, store = prepared(tmp_path, plans=plans)
    turned = (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, -1.0)
    for channel in range(2):
        tiny.write_image(raw / "imagesTr" / f"a_{channel:04d}.nii.gz", tiny.intensities(channel) + 1, direction=turned)
    label = np.zeros(tiny.SHAPE, dtype=np.uint8)
    label[1, 3:12, 3:10] = 1
    label[4, 3:12, 3:10] = 2
    tiny.write_image(raw / "labelsTr" / "a.nii.gz", label, direction=turned)
    preprocess_dataset(RawDataset(raw), store, tiny.DATASET_JSON, 1, progress=False)
    reveal(RawDataset(raw).cases["a"], "z", [1], store, IGNORING, tmp_path / "out")
    assert set(np.unique(stored(tmp_path / "out")[1])) == {0, 1, IGNORE}


def test_a_whole_case_is_as_it_was_and_can_be_drawn_from_under_an_ignore_label(tmp_path):
    raw, store = prepared(tmp_path)
    reveal(RawDataset(raw).cases["a"], "z", None, store, IGNORING, tmp_path / "out")
    whole, found = stored(store.folder), stored(tmp_path / "out")
    np.testing.assert_array_equal(found[1], whole[1])
    assert len(found[2]["class_locations"][(-1, 0, 1, 2)]) > 0
    assert (-1, 0, 1, 2) not in whole[2]["class_locations"]


def test_stock_loaders_draw_every_patch_from_known_slices(tmp_path):
    raw, store = prepared(tmp_path, "2d")
    reveal(RawDataset(raw).cases["a"], "z", KNOWN, store, IGNORING, tmp_path / "out")
    dataset = infer_dataset_class(str(tmp_path / "out"))(str(tmp_path / "out"), ["a"])
    labels = store.plans_manager.get_label_manager(IGNORING)
    loader = nnUNetDataLoader(dataset, 8, (8, 8), (8, 8), labels, oversample_foreground_percent=0.33)
    for _ in range(20):
        target = loader.generate_train_batch()["target"]
        assert ((np.asarray(target) != IGNORE).reshape(8, -1).any(axis=1)).all()


def test_what_is_there_already_is_left_and_more_slices_are_added(tmp_path):
    raw, store = prepared(tmp_path)
    case, out = RawDataset(raw).cases["a"], tmp_path / "out"
    reveal(case, "z", [1], store, IGNORING, out)
    before = (out / "a_seg.b2nd").stat().st_ino
    reveal(case, "z", [1], store, IGNORING, out)
    assert (out / "a_seg.b2nd").stat().st_ino == before
    reveal(case, "z", [1, 3], store, IGNORING, out)
    seg = stored(out)[1][0]
    assert [index for index in range(len(seg)) if (seg[index] != IGNORE).any()] == [1, 3]
    assert sorted(file.name for file in out.iterdir()) == ["a.b2nd", "a.pkl", "a_seg.b2nd"]
    (out / "a.pkl").write_bytes(b"damaged")
    reveal(case, "z", [1, 3], store, IGNORING, out)
    assert "class_locations" in load_pickle(str(out / "a.pkl"))


def test_a_slice_that_is_not_there_or_was_cropped_away_is_refused_and_nothing_is_left(tmp_path):
    raw, store = prepared(tmp_path)
    with pytest.raises(BadCase, match=r"slice 8 along z .* there are 6"):
        reveal(RawDataset(raw).cases["a"], "z", [7], store, IGNORING, tmp_path / "out")
    with pytest.raises(BadCase, match="nothing of what is labelled in it is left"):
        reveal(RawDataset(raw).cases["a"], "y", [0], store, IGNORING, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
    assert json.loads((raw / "dataset.json").read_text()) == tiny.DATASET_JSON


def test_the_image_is_found_where_the_folder_is_reached_by_a_link(tmp_path):
    raw, store = prepared(tmp_path)
    (tmp_path / "another" / "disk" / "active").mkdir(parents=True)
    (tmp_path / "active").symlink_to(tmp_path / "another" / "disk" / "active")
    out = tmp_path / "active" / "known_slices"
    reveal(RawDataset(raw).cases["a"], "z", KNOWN, store, IGNORING, out)
    assert (out / "a.b2nd").is_symlink()
    np.testing.assert_array_equal(stored(out)[0], stored(store.folder)[0])
