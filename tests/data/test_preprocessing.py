import json
import os
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
import SimpleITK as sitk
import tiny_dataset as tiny
from batchgenerators.utilities.file_and_folder_operations import write_pickle
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class, nnUNetDatasetBlosc2

from nnunet_active.data.case_writer import RECORD_KEY
from nnunet_active.data.cases import CaseStore
from nnunet_active.data.preprocessing import preprocess_case, preprocess_dataset, run_all
from nnunet_active.data.raw_dataset import RawDataset
from nnunet_active.nnunet.plain_pickle import read_properties
from nnunet_active.util.errors import BadCase, MissingInput


@pytest.fixture
def raw(tmp_path):
    return tiny.make_raw(tmp_path / "raw")


@pytest.fixture
def store(tmp_path):
    return CaseStore(tmp_path / "preprocessed", tiny.make_plans(), "3d_fullres")


def preprocess(raw, store, **kwargs):
    return preprocess_dataset(
        RawDataset(raw), store, tiny.DATASET_JSON, **{"processes": 1, "progress": False, **kwargs}
    )


def content(*folders):
    return {file: (file.read_bytes(), file.stat().st_mtime_ns) for folder in folders for file in folder.rglob("*.*")}


def later(file, seconds=1):
    time = file.stat().st_mtime_ns + seconds * 10**9
    os.utime(file, ns=(time, time))


def test_labelled_cases_go_to_the_stock_folder_and_unlabelled_ones_beside_it(raw, store):
    report = preprocess(raw, store)
    assert report.done == ["a", "b", "u"] and not report.problems and not report.warnings
    assert store.labelled_identifiers() == ["a", "b"] and store.pool_identifiers() == ["u"]
    dataset = infer_dataset_class(str(store.folder))(str(store.folder))
    assert sorted(dataset.identifiers) == ["a", "b"]
    for case in dataset.identifiers:
        assert set(dataset.load_case(case)[3]["class_locations"]) == {1, 2}


def test_plans_that_came_alone_get_the_files_beside_them_that_a_training_reads(raw, store):
    preprocess(raw, store)
    description, fingerprint = (store.dataset_folder / f"{name}.json" for name in ("dataset", "dataset_fingerprint"))
    assert json.loads(description.read_text()) == tiny.DATASET_JSON
    assert json.loads(fingerprint.read_text())["foreground_intensity_properties_per_channel"] == {"0": {}, "1": {}}
    for file in description, fingerprint:
        file.write_text("{}")
    preprocess(raw, store)
    assert description.read_text() == fingerprint.read_text() == "{}"


def test_a_second_run_changes_no_file(raw, store):
    preprocess(raw, store)
    before = content(store.dataset_folder)
    report = preprocess(raw, store)
    assert report.done == [] and report.skipped == ["a", "b", "u"]
    assert content(store.dataset_folder) == before


def test_only_what_changed_is_made_anew(raw, store):
    preprocess(raw, store)
    tiny.write_label(raw, "a", seed=2)
    later(raw / "labelsTr" / "a.nii.gz")
    later(raw / "imagesTr" / "u_0001.nii.gz")
    before = content(store.folder)
    assert preprocess(raw, store).done == ["a", "u"]
    after = content(store.folder)
    assert {file.name for file in before if before[file] != after[file]} == {"a.b2nd", "a.pkl", "a_seg.b2nd"}
    assert (store.dataset_folder / "gt_segmentations" / "a.nii.gz").read_bytes() == (
        raw / "labelsTr" / "a.nii.gz"
    ).read_bytes()


def test_a_label_that_arrives_moves_its_case_from_the_pool_to_the_stock_folder(raw, store):
    preprocess(raw, store)
    tiny.write_label(raw, "u")
    assert preprocess(raw, store).done == ["u"]
    assert store.labelled_identifiers() == ["a", "b", "u"] and store.pool_identifiers() == []
    assert not any(store.pool_folder.iterdir())
    assert (store.dataset_folder / "gt_segmentations" / "u.nii.gz").is_file()


def test_a_label_that_was_taken_back_is_reported_and_nothing_is_deleted(raw, store):
    preprocess(raw, store)
    (raw / "labelsTr" / "b.nii.gz").unlink()
    before = content(store.dataset_folder)
    report = preprocess(raw, store)
    assert "b has no label file any more" in report.warnings["b"] and "b" in report.skipped
    assert content(store.dataset_folder) == before


def test_the_pool_copy_that_a_kill_left_beside_the_labelled_one_is_removed(raw, store):
    preprocess(raw, store)
    for ending in (".b2nd", ".pkl"):
        shutil.copy(store.folder / f"a{ending}", store.pool_folder / f"a{ending}")
    assert preprocess(raw, store).done == []
    assert not (store.pool_folder / "a.b2nd").exists() and store.pool_identifiers() == ["u"]


def spoil(raw, how):
    image = raw / "imagesTr" / "b_0001.nii.gz"
    nan = tiny.intensities(0)
    nan[1, 1, 1] = np.nan
    {
        "unreadable": lambda: image.write_bytes(b"no image"),
        "truncated": lambda: image.write_bytes(image.read_bytes()[:-200]),
        "NaN": lambda: tiny.write_image(image, nan),
        "shape": lambda: tiny.write_image(image, tiny.intensities(0)[:4]),
        "empty": lambda: [
            tiny.write_image(raw / "imagesTr" / f"b_000{c}.nii.gz", np.ones(tiny.SHAPE)) for c in range(2)
        ],
        "lacks the channel": lambda: image.unlink(),
    }[how]()


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("unreadable", "cannot be read"),
        ("truncated", "cannot be read"),
        ("NaN", "1 NaN or infinite"),
        ("shape", "differ in shape"),
        ("empty", "is empty"),
        ("lacks the channel", "lacks the channel"),
    ],
)
def test_a_bad_image_is_named_and_set_aside_and_the_rest_goes_on(raw, store, how, said):
    spoil(raw, how)
    report = preprocess(raw, store)
    assert list(report.problems) == ["b"] and report.done == ["a", "u"]
    assert "Case b" in report.problems["b"] and said in report.problems["b"]
    assert store.identifiers() == ["a", "u"]


def test_a_refused_label_keeps_its_case_in_the_pool_until_it_is_mended(raw, store):
    label = raw / "labelsTr" / "b.nii.gz"
    tiny.write_image(label, np.full(tiny.SHAPE, 9, np.uint8))
    before = label.read_bytes()
    report = preprocess(raw, store)
    assert "9" in report.problems["b"] and "counts as unlabelled" in report.problems["b"]
    assert store.labelled_identifiers() == ["a"] and store.pool_identifiers() == ["b", "u"]
    assert label.read_bytes() == before
    again = preprocess(raw, store)
    assert list(again.problems) == ["b"] and again.done == []
    tiny.write_label(raw, "b")
    assert preprocess(raw, store).done == ["b"]
    assert store.labelled_identifiers() == ["a", "b"] and store.pool_identifiers() == ["u"]


def test_a_refused_label_leaves_the_earlier_labelled_copy_alone(raw, store):
    preprocess(raw, store)
    before = content(store.dataset_folder)
    tiny.write_image(raw / "labelsTr" / "b.nii.gz", np.zeros((2, 2, 2), np.uint8))
    report = preprocess(raw, store)
    assert "earlier preprocessed copy stays" in report.problems["b"]
    assert content(store.dataset_folder) == before


@pytest.mark.parametrize("copy", ["is missing", "has another time"])
def test_a_refused_label_of_a_case_that_stock_nnunet_preprocessed_stops_no_other_case(raw, store, copy):
    label = raw / "labelsTr" / "b.nii.gz"
    tiny.write_label(raw, "b", seed=1)
    preprocess(raw, store)
    properties = store.folder / "b.pkl"
    content = read_properties(properties)
    del content[RECORD_KEY]
    write_pickle(content, str(properties))
    tiny.write_image(label, np.full(tiny.SHAPE, 9, np.uint8))
    later(label, -1000)
    ground_truth = store.dataset_folder / "gt_segmentations" / "b.nii.gz"
    if copy == "is missing":
        ground_truth.unlink()
    tiny.write_image(raw / "imagesTr" / "new_0000.nii.gz", tiny.intensities(5))
    tiny.write_image(raw / "imagesTr" / "new_0001.nii.gz", tiny.intensities(6))
    report = preprocess(raw, store)
    assert list(report.problems) == ["b"] and "earlier preprocessed copy stays in use" in report.problems["b"]
    assert report.done == ["new"] and report.skipped == ["a", "u"]
    assert store.labelled_identifiers() == ["a", "b"] and ground_truth.is_file() == (copy != "is missing")


def test_an_all_background_label_is_used_with_a_warning(raw, store):
    tiny.write_image(raw / "labelsTr" / "b.nii.gz", np.zeros(tiny.SHAPE, np.uint8))
    report = preprocess(raw, store)
    assert "no foreground" in report.warnings["b"] and not report.problems
    assert store.labelled_identifiers() == ["a", "b"]


def test_what_others_keep_in_the_folders_is_never_touched(raw, store):
    preprocess(raw, store)
    others = [store.folder / "foreign.pkl", store.pool_folder / "foreign.b2nd", store.dataset_folder / "notes.txt"]
    for file in others:
        file.write_text("mine")
    shutil.rmtree(raw / "labelsTr")
    (raw / "imagesTr" / "a_0000.nii.gz").unlink()
    preprocess(raw, store)
    assert all(file.read_text() == "mine" for file in others)
    assert store.labelled_identifiers() == ["a", "b"]


def test_two_processes_make_the_same_as_one(raw, store, tmp_path):
    spoil(raw, "truncated")
    preprocess(raw, store)
    other = CaseStore(tmp_path / "parallel", tiny.make_plans(), "3d_fullres")
    report = preprocess(raw, other, processes=2)
    assert report.done == ["a", "u"] and list(report.problems) == ["b"]
    assert [other.image_fingerprint(c) for c in "au"] == [store.image_fingerprint(c) for c in "au"]


def die_on_three(task):
    if task == 3:
        os._exit(9)
    return task


def test_a_process_that_dies_costs_its_own_case_and_no_other():
    outcomes = dict(run_all(die_on_three, {f"case{n}": n for n in (1, 3, 5)}, processes=2, progress=False))
    assert "case3" in outcomes.pop("case3").problem
    assert outcomes == {"case1": 1, "case5": 5}


def test_one_case_can_be_brought_in_by_itself(raw, store):
    preprocess(raw, store)
    tiny.write_label(raw, "u")
    assert preprocess_case(RawDataset(raw).cases["u"], store, tiny.DATASET_JSON) == []
    assert store.labelled_identifiers() == ["a", "b", "u"] and store.pool_identifiers() == []
    before = content(store.dataset_folder)
    preprocess_case(RawDataset(raw).cases["u"], store, tiny.DATASET_JSON)
    assert content(store.dataset_folder) == before


def test_one_case_with_a_bad_label_is_refused_and_stays_in_the_pool(raw, store):
    preprocess(raw, store)
    tiny.write_image(raw / "labelsTr" / "u.nii.gz", np.full(tiny.SHAPE, 5, np.uint8))
    with pytest.raises(BadCase, match="Case u"):
        preprocess_case(RawDataset(raw).cases["u"], store, tiny.DATASET_JSON)
    assert store.pool_identifiers() == ["u"]
    assert not (store.dataset_folder / "gt_segmentations" / "u.nii.gz").exists()


def test_region_and_ignore_labels_are_preprocessed_as_in_stock(tmp_path):
    dataset_json = {
        **tiny.DATASET_JSON,
        "labels": {"background": 0, "whole": [1, 2], "core": [2], "ignore": 3},
        "regions_class_order": [1, 2],
    }
    raw = tiny.make_raw(tmp_path / "raw", dataset_json=dataset_json)
    store = CaseStore(tmp_path / "preprocessed", tiny.make_plans(), "2d")
    assert not preprocess_dataset(RawDataset(raw), store, dataset_json, 1, False).problems
    locations = nnUNetDatasetBlosc2(str(store.folder)).load_case("a")[3]["class_locations"]
    assert (1, 2) in locations and (2,) in locations


def test_labels_that_make_no_sense_are_one_error_before_any_case_is_touched(raw, store):
    with pytest.raises(MissingInput, match="labels"):
        preprocess_dataset(RawDataset(raw), store, {**tiny.DATASET_JSON, "labels": {"0": "background"}}, 1, False)
    assert store.identifiers() == []


_KILLED_RUN = """
import sys
from pathlib import Path
import tiny_dataset as tiny
from nnunet_active.data.cases import CaseStore
from nnunet_active.data.preprocessing import preprocess_dataset
from nnunet_active.data.raw_dataset import RawDataset
store = CaseStore(Path(sys.argv[2]), tiny.make_plans(), "3d_fullres")
print("ready", flush=True)
preprocess_dataset(RawDataset(Path(sys.argv[1])), store, tiny.DATASET_JSON, int(sys.argv[3]), False)
"""


def test_a_run_that_is_killed_is_finished_by_the_next(tmp_path, store):
    raw = tiny.make_raw(tmp_path / "raw", labelled=[f"l{n}" for n in range(12)], unlabelled=["u"])
    command = [sys.executable, "-c", _KILLED_RUN, str(raw), str(store.dataset_folder), "2"]
    environment = {**os.environ, "PYTHONPATH": os.path.dirname(tiny.__file__)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE)
    process.stdout.readline()
    while not list(store.folder.glob("*.b2nd")) and process.poll() is None:
        time.sleep(0.02)
    process.kill()
    process.communicate(timeout=30)  # ends only when no process that it started lives on
    stock = nnUNetDatasetBlosc2.get_identifiers(str(store.folder))
    assert sorted(stock) == store.labelled_identifiers()
    report = preprocess(raw, store)
    assert not report.problems and len(store.identifiers()) == 13
    assert not list(store.dataset_folder.glob(".*.incoming"))


def test_a_class_that_was_added_to_the_raw_dataset_json_is_noticed(raw, store):
    dataset = RawDataset(raw)
    used = dict(dataset.dataset_json)
    dataset.dataset_json = {**used, "labels": {**used["labels"], "cyst": 3}}
    report = preprocess_dataset(dataset, store, used, processes=1, progress=False)
    assert "cyst (3) is new" in report.warnings["dataset.json"] and report.done


def test_a_localizer_among_the_scans_is_set_aside_and_the_rest_goes_on(raw, store):
    flat = sitk.GetImageFromArray(tiny.intensities(0)[2])
    for channel in range(2):
        sitk.WriteImage(flat, str(raw / "imagesTr" / f"localizer_{channel:04d}.nii.gz"))
    report = preprocess(raw, store)
    assert "2-D image" in report.problems["localizer"] and report.done == ["a", "b", "u"]
