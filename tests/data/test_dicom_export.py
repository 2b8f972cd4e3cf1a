from __future__ import annotations

import sys

import numpy as np
import pytest
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from tiny_dicom import TURNS, change, turned, write_enhanced, write_series
from tiny_spaces import DIRECTIONS, SHAPE, affine

from nnunet_active.data.dataset_json import class_masks
from nnunet_active.data.dicom_export import check_segment_names, require_highdicom, write_dicom_seg
from nnunet_active.data.dicom_import import DicomCases
from nnunet_active.data.dicom_series import find_series
from nnunet_active.data.label_reader import read_label
from nnunet_active.util.errors import ActiveError, BadCase, MissingInput

hd = pytest.importorskip("highdicom")
pydicom = pytest.importorskip("pydicom")

STEPS = affine(DIRECTIONS["oblique"])
VOXELS = np.random.default_rng(0).integers(0, 900, SHAPE).astype(np.uint16)
LABELS = {"labels": {"background": 0, "necrosis": 1, "core": 2, "ignore": 3}}
REGIONS = {"labels": {"background": 0, "whole": [1, 2], "core": 2}, "regions_class_order": [1, 2]}
COLOURS = {name: (230, 75, 53) for name in ("necrosis", "core", "whole")}


def drawn() -> np.ndarray:
    label = np.zeros(SHAPE, dtype=np.uint8)
    label[2, 3:7, 1:5] = label[7, 8:, 6:] = 1
    label[2, 7:9, 5:8] = label[4, 0, 0] = 2
    return label


def image_of(series, folder):
    folder.mkdir(exist_ok=True)
    DicomCases(folder, ["CT"], ".nii.gz", [series]).write({"a": {0: (series.study, series.uid)}})
    return folder / "imagesTr" / "a_0000.nii.gz"


def write(folder, label, content=LABELS, name="a.dcm"):
    (series,) = find_series(folder / "scans").series
    image = image_of(series, folder / "raw")
    write_dicom_seg(class_masks(label, content["labels"]), COLOURS, series, folder / name)
    return folder / name, image


@pytest.mark.parametrize("content", [LABELS, REGIONS], ids=["labels", "regions"])
@pytest.mark.parametrize("turn", TURNS.values(), ids=TURNS)
def test_what_is_written_is_read_back_voxel_for_voxel_as_a_label_of_the_imported_image(tmp_path, turn, content):
    array, steps = turned(VOXELS, STEPS, turn)
    write_series(tmp_path / "scans", array, steps)
    label = np.ascontiguousarray(turned(drawn(), STEPS, turn)[0])
    if np.linalg.det(steps[:3, :3]) < 0:  # the slices follow the normal of their planes
        label = label[::-1]
    file, image = write(tmp_path, label, content)
    np.testing.assert_array_equal(read_label("a", file, image, content, SimpleITKIO, ".nii.gz").voxels, label)


def test_highdicom_reads_segments_places_and_the_images_that_each_frame_was_drawn_on(tmp_path):
    sources = write_series(tmp_path / "scans", VOXELS, STEPS)
    label = drawn()
    file, _ = write(tmp_path, label)
    found = hd.seg.segread(file)
    names = {number: found.get_segment_description(number).segment_label for number in (1, 2)}
    assert names == {1: "necrosis", 2: "core"}
    volume = found.get_volume(combine_segments=True)
    at = {tuple(np.round(volume.affine @ (*i, 1), 2)[:3]): v for i, v in np.ndenumerate(volume.array) if v}
    expected = {tuple(np.round(STEPS @ (*i[::-1], 1), 2)[:3]): v for i, v in np.ndenumerate(label) if v}
    assert at == expected
    uids = [pydicom.dcmread(one).SOPInstanceUID for one in sources]
    assert {uid for _, _, uid in found.get_source_image_uids()} == set(uids)
    pixels = found.get_pixels_by_source_instance(uids, combine_segments=True)
    np.testing.assert_array_equal(pixels, label)
    assert str(found.PatientID) == "4711" and found.StudyInstanceUID == pydicom.dcmread(sources[0]).StudyInstanceUID


def test_a_segmentation_of_an_enhanced_file_lies_on_its_frames(tmp_path):
    write_enhanced(tmp_path / "scans" / "all.dcm", VOXELS, STEPS)
    file, image = write(tmp_path, drawn())
    np.testing.assert_array_equal(read_label("a", file, image, LABELS, SimpleITKIO, ".nii.gz").voxels, drawn())


def test_a_label_without_any_foreground_is_written_too(tmp_path):
    write_series(tmp_path / "scans", VOXELS, STEPS)
    file, _ = write(tmp_path, np.zeros(SHAPE, dtype=np.uint8))
    assert not hd.seg.segread(file).get_volume(combine_segments=True).array.any()


def test_headers_without_what_may_be_empty_are_good_enough_and_others_are_refused(tmp_path):
    files = write_series(tmp_path / "scans", VOXELS, STEPS)
    for one in files:
        content = pydicom.dcmread(one)
        del content.AccessionNumber, content.PatientBirthDate, content.StudyID
        content.save_as(one)
    assert write(tmp_path, drawn())[0].is_file()
    for one in files:
        change(one, FrameOfReferenceUID=None)
    with pytest.raises(BadCase, match="has no frame of reference"):
        write(tmp_path, drawn(), name="b.dcm")
    assert not (tmp_path / "b.dcm").exists()


def test_a_file_of_ours_is_replaced_and_no_other(tmp_path):
    files = write_series(tmp_path / "scans", VOXELS, STEPS)
    write(tmp_path, drawn())
    write(tmp_path, drawn())
    (tmp_path / "other.dcm").write_bytes(files[0].read_bytes())
    with pytest.raises(ActiveError, match="is there and is not a DICOM segmentation of nnunet_active"):
        write(tmp_path, drawn(), name="other.dcm")
    assert (tmp_path / "other.dcm").read_bytes() == files[0].read_bytes()


@pytest.mark.parametrize("correct", ["voxels", "a name", "the preamble"])
def test_a_file_of_ours_that_somebody_corrected_is_not_replaced(tmp_path, correct):
    write_series(tmp_path / "scans", VOXELS, STEPS)
    file, _ = write(tmp_path, drawn())
    content = pydicom.dcmread(file)
    if correct == "voxels":
        content.PixelData = bytes(len(content.PixelData))
    elif correct == "a name":
        content.SegmentSequence[0].SegmentLabel = "core"
    else:  # as earlier versions wrote it, and tools that write the file anew
        content.preamble = bytes(128)
    content.save_as(file)
    corrected = file.read_bytes()
    with pytest.raises(ActiveError, match="is no longer as nnunet_active wrote it; somebody may have corrected it"):
        write(tmp_path, drawn())
    assert file.read_bytes() == corrected


@pytest.mark.parametrize(
    ("letters", "person"),
    [
        (None, "Muller"),
        ("ISO_IR 100", "Müller"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎"),
        ("ISO_IR 192", "Łukasz"),
    ],
)
def test_names_come_back_whatever_letters_the_series_is_written_in(tmp_path, letters, person):
    for file in write_series(tmp_path / "scans", VOXELS, STEPS):
        change(file, SpecificCharacterSet=letters, PatientName=person)
    labels = {"labels": {"background": 0, "腫瘍": 1, "Hämatom": 2}}
    (series,) = find_series(tmp_path / "scans").series
    image = image_of(series, tmp_path / "raw")
    masks = class_masks(drawn(), labels["labels"])
    write_dicom_seg(masks, dict.fromkeys(masks, (230, 75, 53)), series, tmp_path / "a.dcm")
    found = read_label("a", tmp_path / "a.dcm", image, labels, SimpleITKIO, ".nii.gz")
    np.testing.assert_array_equal(found.voxels, drawn())
    assert str(pydicom.dcmread(tmp_path / "a.dcm").PatientName) == person


@pytest.mark.parametrize("name", ["a\\b", "x" * 65, "a\nb"])
def test_a_name_that_dicom_cannot_hold_is_refused(name):
    check_segment_names(["Hämatom", "x" * 64])
    with pytest.raises(ActiveError, match=r"cannot be named in DICOM.*; rename it in dataset.json"):
        check_segment_names(["core", name])


def test_without_highdicom_one_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "highdicom", None)
    with pytest.raises(MissingInput, match=r'highdicom, which is not installed; pip install "nnunet_active\[dicom\]"'):
        require_highdicom()
