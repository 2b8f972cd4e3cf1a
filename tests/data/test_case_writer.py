import json
import os

import numpy as np
import pytest
import tifffile
import tiny_dataset as tiny
from batchgenerators.utilities.file_and_folder_operations import load_pickle, write_pickle
from killed_process import killed_before_rename, needs_fork
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class, nnUNetDatasetBlosc2, nnUNetDatasetNumpy
from tiny_spaces import make_store, voxels

from nnunet_active.data.case_writer import RECORD_KEY, is_current, write_case
from nnunet_active.data.cases import CaseStore
from nnunet_active.data.raw_dataset import RawCase, RawDataset
from nnunet_active.util.atomic import sweep
from nnunet_active.util.errors import BadCase


@pytest.fixture
def raw(tmp_path):
    return RawDataset(tiny.make_raw(tmp_path / "raw"))


@pytest.fixture(params=["3d_fullres", "2d"])
def store(tmp_path, request):
    return CaseStore(tmp_path / "preprocessed", tiny.make_plans(), request.param)


def names(folder):
    return sorted(file.name for file in folder.iterdir()) if folder.is_dir() else []


def stock(store, case, label):
    return DefaultPreprocessor(verbose=False).run_case(
        [str(f) for f in case.images],
        str(label) if label else None,
        store.plans_manager,
        store.configuration_manager,
        tiny.DATASET_JSON,
    )


def test_a_labelled_case_equals_stock_preprocessing_bit_for_bit(raw, store):
    write_case(raw.cases["a"], True, store, tiny.DATASET_JSON)
    assert infer_dataset_class(str(store.folder)) is nnUNetDatasetBlosc2
    data, seg, _, properties = nnUNetDatasetBlosc2(str(store.folder)).load_case("a")
    expected_data, expected_seg, expected = stock(store, raw.cases["a"], raw.cases["a"].label)
    np.testing.assert_array_equal(data[:], expected_data)
    np.testing.assert_array_equal(seg[:], expected_seg)
    assert data.dtype == np.float32 and seg.dtype == np.int16
    del properties[RECORD_KEY]
    np.testing.assert_equal(properties, expected)
    assert set(expected["class_locations"]) == {1, 2}


def test_an_unlabelled_case_goes_to_the_pool_with_stock_voxels_and_nothing_to_train_on(raw, store):
    write_case(raw.cases["u"], False, store, tiny.DATASET_JSON)
    assert names(store.pool_folder) == ["u.b2nd", "u.pkl"] and names(store.folder) == []
    np.testing.assert_array_equal(store.load_image("u"), stock(store, raw.cases["u"], None)[0])
    assert "class_locations" not in store.properties("u")


@pytest.mark.parametrize("record", ["with our record", "as stock nnU-Net leaves it"])
def test_a_spacing_that_was_corrected_beside_a_tiff_file_makes_its_case_anew(tmp_path, record):
    store, described = make_store(tmp_path / "preprocessed", "Tiff3DIO", ".tif")
    case = RawCase("t", (tmp_path / "t_0000.tif",), None)
    tifffile.imwrite(case.images[0], voxels())
    spacing = tmp_path / "t.json"
    spacing.write_text(json.dumps({"spacing": [3.3, 1.1, 0.78]}))
    write_case(case, False, store, described)
    if record != "with our record":
        file = str(store.pool_folder / "t.pkl")
        properties = load_pickle(file)
        del properties[RECORD_KEY]
        write_pickle(properties, file)
    assert is_current(case, False, store, described)
    spacing.write_text(json.dumps({"spacing": [6.6, 1.1, 0.78]}))
    os.utime(spacing, (4e9, 4e9))
    assert not is_current(case, False, store, described)
    spacing.unlink()
    assert is_current(case, False, store, described) == (record != "with our record")


def test_a_case_that_gets_its_label_leaves_the_pool(raw, store):
    write_case(raw.cases["a"], False, store, tiny.DATASET_JSON)
    write_case(raw.cases["a"], True, store, tiny.DATASET_JSON)
    assert names(store.pool_folder) == [] and store.labelled_identifiers() == ["a"]


def test_temporary_folders_are_gone_afterwards(raw, store):
    write_case(raw.cases["a"], True, store, tiny.DATASET_JSON)
    assert names(store.dataset_folder) == [store.folder.name]


@pytest.mark.parametrize("steps", range(4))
@pytest.mark.parametrize("replacing", [False, True])
def test_a_kill_between_any_two_moves_never_shows_stock_training_half_a_case(raw, store, monkeypatch, steps, replacing):
    if replacing:
        write_case(raw.cases["b"], True, store, tiny.DATASET_JSON)
        tiny.write_label(raw.folder, "b", seed=2)
    write_case(raw.cases["b"], False, store, tiny.DATASET_JSON)
    done, move = [], os.replace

    def move_until_killed(*paths):
        if len(done) == steps:
            raise KeyboardInterrupt
        done.append(move(*paths))

    monkeypatch.setattr(os, "replace", move_until_killed)
    if steps < 3:
        with pytest.raises(KeyboardInterrupt):
            write_case(raw.cases["b"], True, store, tiny.DATASET_JSON)
    else:
        write_case(raw.cases["b"], True, store, tiny.DATASET_JSON)
    monkeypatch.undo()
    whole = steps == 3
    assert nnUNetDatasetBlosc2.get_identifiers(str(store.folder)) == (["b"] if whole else [])
    assert store.labelled_identifiers() == (["b"] if whole else [])
    assert store.identifiers() == ["b"]  # while the labelled copy is not whole, the case is still in the pool
    write_case(raw.cases["b"], True, store, tiny.DATASET_JSON)
    data, seg, _, properties = nnUNetDatasetBlosc2(str(store.folder)).load_case("b")
    expected = stock(store, raw.cases["b"], raw.cases["b"].label)
    np.testing.assert_array_equal(data[:], expected[0])
    np.testing.assert_array_equal(seg[:], expected[1])
    assert "class_locations" in properties and names(store.pool_folder) == []


@needs_fork
def test_what_a_killed_run_left_in_a_temporary_folder_is_removed_and_nothing_else(raw, store):
    write_case(raw.cases["a"], True, store, tiny.DATASET_JSON)
    assert killed_before_rename(lambda: write_case(raw.cases["b"], True, store, tiny.DATASET_JSON), 0)
    (leftover,) = store.dataset_folder.glob(".*.tmp")
    assert (leftover / "b.pkl").is_file()
    sweep(store.dataset_folder)
    assert names(store.dataset_folder) == [store.folder.name] and store.labelled_identifiers() == ["a"]


def test_a_folder_in_the_older_npz_format_stays_readable_by_stock_nnunet(raw, store):
    data, seg, properties = stock(store, raw.cases["a"], raw.cases["a"].label)
    store.folder.mkdir(parents=True)
    nnUNetDatasetNumpy.save_case(data, seg, properties, str(store.folder / "a"))
    np.save(store.folder / "b.npy", data)  # unpacked from an earlier copy of b
    write_case(raw.cases["b"], True, store, tiny.DATASET_JSON)
    assert infer_dataset_class(str(store.folder)) is nnUNetDatasetNumpy
    data, seg, _, _ = nnUNetDatasetNumpy(str(store.folder)).load_case("b")
    expected = stock(store, raw.cases["b"], raw.cases["b"].label)
    np.testing.assert_array_equal(data, expected[0])
    np.testing.assert_array_equal(seg, expected[1])
    assert store.labelled_identifiers() == ["a", "b"] and is_current(raw.cases["b"], True, store, tiny.DATASET_JSON)


def test_the_stock_folder_may_be_a_link_to_another_place(raw, store, tmp_path):
    (tmp_path / "ssd").mkdir()
    store.dataset_folder.mkdir()
    store.folder.symlink_to(tmp_path / "ssd")
    write_case(raw.cases["a"], True, store, tiny.DATASET_JSON)
    assert store.labelled_identifiers() == ["a"] and (tmp_path / "ssd" / "a.b2nd").is_file()


def test_a_copy_is_current_until_an_image_or_the_label_changes(raw, store):
    case = raw.cases["a"]
    assert not is_current(case, True, store, tiny.DATASET_JSON)
    write_case(case, True, store, tiny.DATASET_JSON)
    assert is_current(case, True, store, tiny.DATASET_JSON)
    for file in (case.images[1], case.label):
        before = file.stat()
        for time in (before.st_mtime_ns + 10**9, before.st_mtime_ns - 10**12):  # a restored older file is a change too
            os.utime(file, ns=(time, time))
            assert not is_current(case, True, store, tiny.DATASET_JSON)
        os.utime(file, ns=(before.st_mtime_ns, before.st_mtime_ns))
        assert is_current(case, True, store, tiny.DATASET_JSON)


def test_a_copy_is_outdated_by_plans_that_make_other_arrays_and_not_by_others(raw, store):
    case = raw.cases["a"]
    write_case(case, True, store, tiny.DATASET_JSON)

    def current_with(**changes):
        plans = tiny.make_plans()
        plans["configurations"][store.configuration].update(changes)
        return is_current(case, True, CaseStore(store.dataset_folder, plans, store.configuration), tiny.DATASET_JSON)

    assert current_with(batch_size=7, patch_size=[4, 4, 4])
    assert not current_with(normalization_schemes=["NoNormalization", "ZScoreNormalization"])
    assert not is_current(case, True, store, {**tiny.DATASET_JSON, "labels": {"background": 0, "lesion": [1, 2]}})


def test_a_copy_that_stock_nnunet_made_is_current_if_it_is_not_older_than_its_files(raw, store):
    case = raw.cases["a"]
    write_case(case, True, store, tiny.DATASET_JSON)
    properties = store.properties("a")
    del properties[RECORD_KEY]
    write_pickle(properties, str(store.folder / "a.pkl"))
    assert is_current(case, True, store, tiny.DATASET_JSON)
    os.utime(case.label)
    now = case.label.stat().st_mtime_ns + 10**9
    os.utime(case.label, ns=(now, now))
    assert not is_current(case, True, store, tiny.DATASET_JSON)


def test_a_copy_with_damaged_properties_is_not_current(raw, store):
    write_case(raw.cases["a"], True, store, tiny.DATASET_JSON)
    (store.folder / "a.pkl").write_bytes(load_pickle.__name__.encode())
    assert not is_current(raw.cases["a"], True, store, tiny.DATASET_JSON)


@pytest.mark.parametrize(("place", "left"), [(np.s_[:, 0], False), (np.s_[3], True)], ids=["cropped away", "there"])
def test_of_a_partly_labelled_case_something_has_to_be_left(tmp_path, store, place, left):
    labels = {**tiny.DATASET_JSON["labels"], "ignore": 3}
    folder = tiny.make_raw(tmp_path / "partly")
    label = np.full_like(tiny.segmentation(0), 3)
    label[place] = 1
    tiny.write_image(folder / "labelsTr" / "a.nii.gz", label)
    case = RawDataset(folder).cases["a"]
    if left:
        write_case(case, True, store, {**tiny.DATASET_JSON, "labels": labels})
    else:
        with pytest.raises(BadCase, match="Case a: nothing of what is labelled in it is left"):
            write_case(case, True, store, {**tiny.DATASET_JSON, "labels": labels})
    assert store.labelled_identifiers() == (["a"] if left else [])
