from __future__ import annotations

import json
import os

import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
import tiny_dataset as tiny
from tiny_nrrd import write_segmentation

from nnunet_active.data.cases import CaseStore
from nnunet_active.data.label_intake import check_raw_label, ground_truth, names_segments, readable_label
from nnunet_active.data.preprocessing import preprocess_dataset
from nnunet_active.data.raw_dataset import RawDataset
from nnunet_active.util.errors import BadCase


@pytest.fixture
def raw(tmp_path):
    return tiny.make_raw(tmp_path / "raw")


@pytest.fixture
def store(tmp_path):
    return CaseStore(tmp_path / "preprocessed", tiny.make_plans(), "3d_fullres")


def drawn() -> np.ndarray:
    return tiny.segmentation(4)


def stored(store, case="u") -> np.ndarray:
    """Values of the voxels that nnU-Net will train on."""
    import blosc2

    return np.asarray(blosc2.open(str(store.folder / f"{case}_seg.b2nd"), mode="r")[:])


def preprocess(raw, store):
    dataset = RawDataset(raw)
    return preprocess_dataset(dataset, store, dataset.dataset_json, processes=1, progress=False)


def as_native(raw, store):
    """What stock preprocessing would store for the same label in the data set's own format."""
    tiny.write_image(raw / "labelsTr" / "u.nii.gz", drawn())
    assert preprocess(raw, store).done == ["a", "b", "u"]
    expected = stored(store)
    (raw / "labelsTr" / "u.nii.gz").unlink()
    for file in store.folder.glob("u*"):
        file.unlink()
    ground_truth(RawDataset(raw).cases["u"], store, RawDataset(raw).dataset_json).unlink()
    return expected


@pytest.mark.parametrize("name", ["u.nii", "u.mha", "u.nrrd", "u.seg.nrrd", "box.seg.nrrd"])
def test_a_label_in_any_format_is_preprocessed_like_one_in_the_data_sets_own(raw, store, name):
    expected = as_native(raw, store)
    file = raw / "labelsTr" / name.replace("box", "u")
    names = [{"Name": name, "LabelValue": v} for name, v in tiny.DATASET_JSON["labels"].items() if v]
    image = sitk.ReadImage(str(raw / "imagesTr" / "u_0000.nii.gz"))
    if name.endswith(".seg.nrrd"):
        z, y, x = (slice(None),) * 3
        if name.startswith("box"):
            z, y, x = (slice(found.min(), found.max() + 1) for found in np.nonzero(drawn()))
        start = tuple(int(part.start or 0) for part in (x, y, z))
        origin = image.TransformIndexToPhysicalPoint(start)
        write_segmentation(file, drawn()[z, y, x], names, image.GetSpacing(), origin)
    else:
        tiny.write_image(file, drawn())
    before = file.read_bytes()
    report = preprocess(raw, store)
    assert report.done == ["u"] and not report.problems and store.labelled_identifiers() == ["a", "b", "u"]
    np.testing.assert_array_equal(stored(store), expected)
    assert file.read_bytes() == before
    case = RawDataset(raw).cases["u"]
    native = readable_label(case, store, RawDataset(raw).dataset_json)
    assert native.name == "u.nii.gz" and np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(native))), drawn())
    assert preprocess(raw, store).done == []  # and nothing is done twice
    assert ("put at voxel" in report.warnings.get("u", "")) == name.startswith("box")


def test_the_names_of_a_slicer_segmentation_decide_also_where_its_format_is_the_data_sets_own(tmp_path):
    raw = tiny.make_raw(tmp_path / "raw", (), dataset_json={**tiny.DATASET_JSON, "file_ending": ".nrrd"})
    for file in sorted((raw / "imagesTr").iterdir()):
        sitk.WriteImage(sitk.ReadImage(str(file)), str(file).replace(tiny.ENDING, ".nrrd"))
        file.unlink()
    store = CaseStore(tmp_path / "preprocessed", tiny.make_plans(), "3d_fullres")
    first, second = (name for name, value in tiny.DATASET_JSON["labels"].items() if value)
    swapped = np.where(drawn() > 0, 3 - drawn(), 0).astype(np.uint8)
    image = sitk.ReadImage(str(raw / "imagesTr" / "u_0000.nrrd"))
    names = [{"Name": second, "LabelValue": 1}, {"Name": first, "LabelValue": 2}]
    file = write_segmentation(raw / "labelsTr" / "u.nrrd", swapped, names, image.GetSpacing(), image.GetOrigin())
    assert names_segments(file)
    case = RawDataset(raw).cases["u"]
    ready = check_raw_label(case, store, RawDataset(raw).dataset_json, None)
    np.testing.assert_array_equal(ready.voxels, drawn())


def test_an_ordinary_label_is_left_to_nnunet_as_it_is(raw, store):
    dataset = RawDataset(raw)
    assert check_raw_label(dataset.cases["a"], store, dataset.dataset_json, None).voxels is None
    assert not names_segments(dataset.cases["a"].label)


def test_a_label_of_the_images_size_that_lost_its_origin_stays_refused(raw, store):
    tiny.write_image(raw / "labelsTr" / "u.nii.gz", drawn(), origin=(0.0, 0.0, 0.0))
    dataset = RawDataset(raw)
    with pytest.raises(BadCase, match="does not lie on the voxel grid of its image: it is shifted by"):
        check_raw_label(dataset.cases["u"], store, dataset.dataset_json, None)


def test_an_empty_label_of_another_format_is_used_with_a_warning(raw, store):
    tiny.write_image(raw / "labelsTr" / "u.mha", np.zeros(tiny.SHAPE, np.uint8))
    assert "marks no foreground" in preprocess(raw, store).warnings["u"]


def test_a_pipe_in_the_labels_does_not_stop_preprocessing(raw, store):
    os.mkfifo(raw / "labelsTr" / "u.nii.gz")
    report = preprocess(raw, store)
    assert report.done == ["a", "b", "u"] and "no regular file" in report.warnings["u"]
    assert store.pool_identifiers() == ["u"]


def test_a_tiff_label_is_taken_with_the_spacing_of_its_image_whether_it_has_a_companion_or_not(tmp_path):
    raw = tmp_path / "raw" / tiny.NAME
    (raw / "imagesTr").mkdir(parents=True)
    (raw / "labelsTr").mkdir()
    (raw / "dataset.json").write_text(json.dumps({**tiny.DATASET_JSON, "file_ending": ".tif"}))
    for case in ("a", "b"):
        for channel in range(2):
            tifffile.imwrite(raw / "imagesTr" / f"{case}_{channel:04d}.tif", tiny.intensities(channel))
        (raw / "imagesTr" / f"{case}.json").write_text(json.dumps({"spacing": [3, 1, 1]}))
        tifffile.imwrite(raw / "labelsTr" / f"{case}.tif", drawn())
    (raw / "labelsTr" / "b.json").write_text(json.dumps({"spacing": [3, 1, 1]}))
    store = CaseStore(tmp_path / "preprocessed", {**tiny.make_plans(), "image_reader_writer": "Tiff3DIO"}, "3d_fullres")
    report = preprocess(raw, store)
    assert report.done == ["a", "b"] and not report.problems and not report.warnings
    np.testing.assert_array_equal(stored(store, "a"), stored(store, "b"))
    truth = store.dataset_folder / "gt_segmentations"
    assert sorted(file.name for file in truth.iterdir()) == ["a.tif", "b.json", "b.tif"]


@pytest.mark.parametrize("before", [None, b"the label in use"])
def test_what_validation_looks_for_is_what_it_was_if_nothing_of_the_label_is_left(raw, store, before):
    content = json.loads((raw / "dataset.json").read_text())
    content["labels"]["ignore"] = 3
    (raw / "dataset.json").write_text(json.dumps(content))
    label = np.full_like(drawn(), 3)
    # cropped away with the empty border of the image
    label[:, 0] = 0
    file = tiny.write_image(raw / "labelsTr" / "u.nii.gz", label)
    copy = ground_truth(RawDataset(raw).cases["u"], store, content)
    if before:
        copy.parent.mkdir(parents=True)
        copy.write_bytes(before)
        os.utime(copy, ns=(10**9, 10**9))
    written, report = file.read_bytes(), preprocess(raw, store)
    assert "nothing of what is labelled in it is left" in report.problems["u"]
    assert store.labelled_identifiers() == ["a", "b"] and store.pool_identifiers() == ["u"]
    assert file.read_bytes() == written and copy.is_file() == bool(before)
    assert not before or (copy.read_bytes(), copy.stat().st_mtime_ns) == (before, 10**9)
