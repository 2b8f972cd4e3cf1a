from __future__ import annotations

import shutil

import numpy as np
import pytest
import tiny_dataset as tiny
from batchgenerators.utilities.file_and_folder_operations import load_pickle
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2

from nnunet_active.data.case_writer import RECORD_KEY, pool_image
from nnunet_active.data.cases import CaseStore
from nnunet_active.data.label_preprocessing import preprocessor_class, save_with_known_image
from nnunet_active.data.partial_labels import keep_slices
from nnunet_active.data.preprocessing import preprocess_case, preprocess_dataset
from nnunet_active.data.raw_dataset import RawDataset

REGIONS = {**tiny.DATASET_JSON, "labels": {"background": 0, "whole": [1, 2], "core": [2], "ignore": 3}}
REGIONS["regions_class_order"] = [1, 2]


def stored(folder, case):
    data, seg, _, properties = nnUNetDatasetBlosc2(str(folder), [case]).load_case(case)
    return data, seg, properties


def assert_equal(one, other):
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert list(one) == list(other)
        for key in one:
            assert_equal(one[key], other[key])
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            assert_equal(a, b)
    elif isinstance(one, np.ndarray):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    else:
        assert one == other


def prepared(tmp_path, configuration="3d_fullres", plans=None, dataset_json=tiny.DATASET_JSON, outside=False):
    """A case in the pool whose label has arrived, and the same case as stock nnU-Net preprocesses it."""
    raw = tiny.make_raw(tmp_path / "raw", labelled=(), unlabelled=("u",), dataset_json=dataset_json)
    if outside:
        for channel in range(2):
            image = tiny.intensities(channel)
            image[:, 2:6, 1:5] = 0  # a dark corner of the head's box
            tiny.write_image(raw / "imagesTr" / f"u_{channel:04d}.nii.gz", image)
    store = CaseStore(tmp_path / "preprocessed", plans or tiny.make_plans(), configuration)
    preprocess_dataset(RawDataset(raw), store, dataset_json, 1, progress=False)
    label = tiny.segmentation()
    if outside:
        label[2:4, 3:6, 2:4] = 1  # no foreground of the image, but within its box
    tiny.write_image(raw / "labelsTr" / "u.nii.gz", label)
    case = RawDataset(raw).cases["u"]
    (tmp_path / "stock").mkdir()
    store.configuration_manager.preprocessor_class(verbose=False).run_case_save(
        str(tmp_path / "stock" / "u"),
        [str(file) for file in case.images],
        str(case.label),
        store.plans_manager,
        store.configuration_manager,
        dataset_json,
    )
    return case, store


def without_masks():
    plans = tiny.make_plans()
    for entry in plans["configurations"].values():
        entry["use_mask_for_norm"] = [False, False]
    return plans


@pytest.mark.parametrize("configuration", ["3d_fullres", "2d"])
@pytest.mark.parametrize("dataset_json", [tiny.DATASET_JSON, REGIONS], ids=["labels", "regions"])
def test_a_label_alone_is_preprocessed_to_what_stock_preprocessing_makes_of_both(
    tmp_path, monkeypatch, configuration, dataset_json
):
    case, store = prepared(tmp_path, configuration, dataset_json=dataset_json)

    def never(*_, **__):
        raise AssertionError("the image was normalised again")

    monkeypatch.setattr(
        "nnunetv2.preprocessing.normalization.default_normalization_schemes.ZScoreNormalization.run", never
    )
    preprocess_case(case, store, dataset_json)
    found, wanted = stored(store.folder, "u"), stored(tmp_path / "stock", "u")
    for one, other in zip(found[:2], wanted[:2], strict=True):
        assert (one.dtype, one.shape, one.chunks, one.blocks) == (other.dtype, other.shape, other.chunks, other.blocks)
        np.testing.assert_array_equal(one[:], other[:])
    assert found[2].pop(RECORD_KEY)
    assert_equal(found[2], wanted[2])
    assert all(len(places) for places in found[2]["class_locations"].values())
    assert store.pool_identifiers() == []


def test_where_the_label_changes_the_normalisation_of_the_image_both_are_preprocessed(tmp_path):
    case, store = prepared(tmp_path, outside=True)
    from_pool = pool_image(case, store, tiny.DATASET_JSON)
    preprocess_case(case, store, tiny.DATASET_JSON)
    found, wanted = stored(store.folder, "u"), stored(tmp_path / "stock", "u")
    np.testing.assert_array_equal(found[0][:], wanted[0][:])
    np.testing.assert_array_equal(found[1][:], wanted[1][:])
    assert not np.array_equal(from_pool, wanted[0][:])  # so the copy from the pool would have been wrong


def test_a_label_outside_the_foreground_does_not_matter_where_no_mask_is_used(tmp_path):
    case, store = prepared(tmp_path, plans=without_masks(), outside=True)
    image = pool_image(case, store, tiny.DATASET_JSON)
    (tmp_path / "out").mkdir()
    assert save_with_known_image(str(tmp_path / "out" / "u"), case, image, store, tiny.DATASET_JSON)
    found, wanted = stored(tmp_path / "out", "u"), stored(tmp_path / "stock", "u")
    np.testing.assert_array_equal(found[0][:], wanted[0][:])
    np.testing.assert_array_equal(found[1][:], wanted[1][:])


def test_an_image_that_changed_since_or_a_damaged_copy_is_preprocessed_again(tmp_path):
    case, store = prepared(tmp_path)
    assert pool_image(case, store, tiny.DATASET_JSON) is not None
    content = (store.pool_folder / "u.b2nd").read_bytes()
    (store.pool_folder / "u.b2nd").write_bytes(content[: len(content) // 2])
    assert pool_image(case, store, tiny.DATASET_JSON) is None
    (store.pool_folder / "u.b2nd").write_bytes(content)
    tiny.write_image(case.images[0], tiny.intensities(77))
    assert pool_image(case, store, tiny.DATASET_JSON) is None
    preprocess_case(case, store, tiny.DATASET_JSON)
    assert not np.array_equal(stored(store.folder, "u")[0][:], stored(tmp_path / "stock", "u")[0][:])
    assert "class_locations" in load_pickle(str(store.folder / "u.pkl"))


def test_a_copy_of_another_shape_and_a_preprocessor_of_somebody_elses_are_refused(tmp_path, monkeypatch):
    case, store = prepared(tmp_path)
    image = pool_image(case, store, tiny.DATASET_JSON)
    (tmp_path / "out").mkdir()
    output = str(tmp_path / "out" / "u")
    assert not save_with_known_image(output, case, image[:, 1:], store, tiny.DATASET_JSON)
    assert not any((tmp_path / "out").iterdir())

    class Other(DefaultPreprocessor):
        def run_case_npy(self, *args):
            raise AssertionError

    monkeypatch.setattr(type(store.configuration_manager), "preprocessor_class", Other)
    assert not save_with_known_image(output, case, image, store, tiny.DATASET_JSON)
    shutil.rmtree(tmp_path / "out")


IGNORING = {**tiny.DATASET_JSON, "labels": {**tiny.DATASET_JSON["labels"], "ignore": 3}}


@pytest.mark.parametrize("configuration", ["3d_fullres", "2d"])
@pytest.mark.parametrize("known", [True, False])
def test_a_partly_labelled_scan_has_the_image_that_is_predicted_later(tmp_path, configuration, known):
    """Stock preprocessing would count the air around the body, where the ignore value stands, as body."""
    case, store = prepared(tmp_path, configuration, dataset_json=IGNORING)
    dark = tiny.intensities(1)
    dark[:, 2:5, 1:4] = 0
    for file in case.images:
        tiny.write_image(file, dark)
    tiny.write_image(case.label, keep_slices(tiny.segmentation(), 0, [3], 3))
    case = RawDataset(tmp_path / "raw" / tiny.NAME).cases["u"]
    files = [str(file) for file in case.images]
    alone, _, _ = DefaultPreprocessor(verbose=False).run_case(
        files, None, store.plans_manager, store.configuration_manager, IGNORING
    )
    stock, seg, properties = DefaultPreprocessor(verbose=False).run_case(
        files, str(case.label), store.plans_manager, store.configuration_manager, IGNORING
    )
    (tmp_path / "out").mkdir()
    if known:
        assert save_with_known_image(str(tmp_path / "out" / "u"), case, alone, store, IGNORING)
    else:
        preprocessor_class(store, IGNORING)(verbose=False).run_case_save(
            str(tmp_path / "out" / "u"),
            files,
            str(case.label),
            store.plans_manager,
            store.configuration_manager,
            IGNORING,
        )
    found = stored(tmp_path / "out", "u")
    np.testing.assert_array_equal(found[0][:], alone)
    assert not np.array_equal(stock, alone)
    np.testing.assert_array_equal(found[1][:], seg)
    assert_equal(found[2]["class_locations"], properties["class_locations"])
    assert {3} == set(np.unique(found[1][0, [0, 1, 2, 4, 5]])) and 3 not in found[1][0, 3]


def test_a_change_of_the_label_comes_before_everything_else(tmp_path):
    case, store = prepared(tmp_path, dataset_json=IGNORING)
    image = pool_image(case, store, IGNORING)
    (tmp_path / "out").mkdir()
    (tmp_path / "wanted").mkdir()

    def third(seg, properties):
        assert properties["spacing"] == [3.0, 1.0, 1.0]
        return keep_slices(seg, 1, [3], 3)

    assert save_with_known_image(str(tmp_path / "out" / "u"), case, image, store, IGNORING, third)
    tiny.write_image(case.label, keep_slices(tiny.segmentation(), 0, [3], 3))
    assert save_with_known_image(str(tmp_path / "wanted" / "u"), case, image, store, IGNORING)
    found, wanted = stored(tmp_path / "out", "u"), stored(tmp_path / "wanted", "u")
    np.testing.assert_array_equal(found[1][:], wanted[1][:])
    assert_equal(found[2], wanted[2])
