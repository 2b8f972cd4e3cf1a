from __future__ import annotations

import gzip
import os

import numpy as np
import pytest
import SimpleITK as sitk
from tiny_handoff import ORIGIN, SEGMENTS, SPACING, predicted, voxels
from tiny_nrrd import write_segmentation
from tiny_served import MADE as MADE
from tiny_served import sent, served_campaign, waiting
from tiny_target import NAME, truth

from nnunet_active.server.submission import FOLDER, receive
from nnunet_active.util.errors import BadCase


@pytest.fixture
def where(target):
    service = served_campaign(target, "case_3", "case_1")
    return NAME, "0", service.served.folder, 1


def take(target, where, file, segments=None, case="case_3", name=None):
    image = target.raw / "imagesTr" / f"{case}_0000.nii.gz"
    return receive(where, case, image, file, name or file.name, segments)


def label_of(target, case="case_3") -> np.ndarray:
    return voxels(target.raw / "labelsTr" / f"{case}.nii.gz")


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".nrrd", ".mha"])
def test_a_label_map_and_the_names_of_its_values_are_the_label_voxel_for_voxel(target, where, tmp_path, ending):
    received = take(target, where, sent(tmp_path, truth(3), ending), ["oedema", "core"])
    assert received.taken and waiting(target) == ["case_1"]
    np.testing.assert_array_equal(label_of(target), truth(3))


def test_names_decide_where_a_segment_was_taken_away_or_moved(target, where, tmp_path):
    swapped = np.array([0, 2, 1], dtype=np.uint8)[truth(3)]
    take(target, where, sent(tmp_path, swapped), ["core", "oedema"])
    np.testing.assert_array_equal(label_of(target), truth(3))
    only = (truth(1) == 2).astype(np.uint8)
    take(target, where, sent(tmp_path, only), ["core"], "case_1")
    np.testing.assert_array_equal(label_of(target, "case_1"), 2 * only)


def test_a_segmentation_names_its_segments_itself(target, where, tmp_path):
    file = write_segmentation(tmp_path / "sent.seg.nrrd", truth(3), SEGMENTS, SPACING, ORIGIN)
    take(target, where, file, ["something", "else"])
    np.testing.assert_array_equal(label_of(target), truth(3))


def test_without_names_the_values_are_those_of_the_data_set(target, where, tmp_path):
    take(target, where, sent(tmp_path, truth(3)))
    np.testing.assert_array_equal(label_of(target), truth(3))


def test_an_unchanged_prediction_that_is_sent_counts_as_checked(target, where, tmp_path):
    assert take(target, where, sent(tmp_path, predicted("case_3")), ["oedema", "core"]).taken
    np.testing.assert_array_equal(label_of(target), predicted("case_3"))


def test_what_was_sent_is_kept_beside_the_campaign(target, where, tmp_path):
    take(target, where, sent(tmp_path, truth(3)), ["oedema", "core"])
    (kept,) = (where[2] / FOLDER).rglob("case_3.seg.nrrd")
    image = sitk.ReadImage(str(kept))
    named = {image.GetMetaData(f"Segment{n}_Name"): int(image.GetMetaData(f"Segment{n}_LabelValue")) for n in range(2)}
    for value, name in enumerate(("oedema", "core"), 1):
        np.testing.assert_array_equal(sitk.GetArrayFromImage(image) == named[name], truth(3) == value)


@pytest.mark.parametrize(
    ("label", "segments", "said"),
    [
        (truth(3), ["oedema", "liver"], "segment 'liver'"),
        (truth(3), ["oedema"], r"values from 0 to 2, but names for 1 segment\(s\)"),
        (truth(3).astype(np.float32) / 2, None, "values between integers"),
        (truth(3)[:, :, :-3], ["oedema", "core"], ""),
        (np.zeros((64, 64, 64), dtype=np.uint8), [], "far more than its image"),
    ],
)
def test_a_refused_label_is_one_sentence_and_leaves_everything_as_it_was(
    target, where, tmp_path, label, segments, said
):
    if not said:  # a smaller box is moved onto the grid
        assert take(target, where, sent(tmp_path, label), segments).taken
        return
    with pytest.raises(BadCase, match=said) as caught:
        take(target, where, sent(tmp_path, label), segments)
    assert "\n" not in str(caught.value) and str(where[2] / FOLDER) not in str(caught.value)
    assert waiting(target) == ["case_3", "case_1"] and list((where[2] / FOLDER).iterdir()) == []
    assert not (target.raw / "labelsTr" / "case_3.nii.gz").exists()


@pytest.mark.parametrize(
    ("name", "content"), [("a.nii.gz", b"no image"), ("a.nii.gz", gzip.compress(b"0" * 400, mtime=0)), ("a.nrrd", b"")]
)
def test_what_is_no_image_is_refused(target, where, tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadCase, match="the label cannot be read"):
        take(target, where, tmp_path / name, ["oedema"])


@pytest.mark.parametrize("kept", [0.6, 0.97])
@pytest.mark.parametrize("name", ["a.nii.gz", "a.nii", "plain.nii.gz", "a.nrrd", "a.mha", "a.seg.nrrd"])
def test_what_was_cut_off_on_its_way_is_refused_and_no_slice_counts_as_background(target, where, tmp_path, name, kept):
    label = np.random.default_rng(0).integers(0, 3, truth(3).shape, dtype=np.uint8)
    if name == "a.seg.nrrd":
        file = write_segmentation(tmp_path / name, label, SEGMENTS, SPACING, ORIGIN)
    else:  # a file that is not compressed, whatever its ending says, is read as what it is
        file = sent(tmp_path, label, ".nii" if name == "plain.nii.gz" else name[1:]).rename(tmp_path / name)
    file.write_bytes(file.read_bytes()[: int(kept * file.stat().st_size)])
    with pytest.raises(BadCase, match=r"the label.* cannot be read") as caught:
        take(target, where, file, ["oedema", "core"])
    assert "\n" not in str(caught.value) and str(where[2])[:40] not in str(caught.value)
    assert waiting(target) == ["case_3", "case_1"] and not (target.raw / "labelsTr" / "case_3.nii.gz").exists()


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int16, np.uint32])
def test_names_decide_whatever_the_type_of_the_numbers(target, where, tmp_path, kind):
    swapped = np.array([0, 2, 1], dtype=kind)[truth(3)]
    assert take(target, where, sent(tmp_path, swapped), ["core", "oedema"]).taken
    np.testing.assert_array_equal(label_of(target), truth(3))


def test_names_decide_in_a_file_of_a_single_volume_along_time_too(target, where, tmp_path):
    flat = sitk.ReadImage(str(sent(tmp_path, np.array([0, 2, 1], dtype=np.uint8)[truth(3)])))
    sitk.WriteImage(sitk.JoinSeries([flat]), str(tmp_path / "a.mha"))
    assert take(target, where, tmp_path / "a.mha", ["core", "oedema"]).taken
    np.testing.assert_array_equal(label_of(target), truth(3))


@pytest.mark.parametrize(
    ("label", "said"),
    [
        (truth(3) * np.float32(0.5), "values between integers"),
        (truth(3).astype(np.float32) - 1, "values from -1 to 1, which are no labels"),
        (np.where(truth(3) == 2, np.nan, truth(3)).astype(np.float32), "NaN or infinite voxels"),
        (np.stack([truth(3)] * 3, axis=-1), "several values per voxel"),
    ],
)
def test_named_numbers_that_are_no_label_map_are_refused(target, where, tmp_path, label, said):
    image = sitk.GetImageFromArray(label, isVector=label.ndim == 4)
    sitk.WriteImage(image, str(tmp_path / "a.nii.gz"))
    with pytest.raises(BadCase, match=said):
        take(target, where, tmp_path / "a.nii.gz", ["oedema", "core"])
    assert waiting(target) == ["case_3", "case_1"] and not (target.raw / "labelsTr" / "case_3.nii.gz").exists()


@pytest.mark.parametrize("name", ["a.exe", "a", "", "../../a", "a.mhd"])
def test_only_formats_of_one_file_are_taken_by_their_ending(target, where, tmp_path, name):
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(BadCase, match=r"choose .nii.gz or .nrrd in the module's settings"):
        take(target, where, tmp_path / "file", ["oedema"], name=name or "-")
    assert sorted(one.name for one in tmp_path.iterdir() if one.is_file()) == ["file"]


def test_while_a_training_holds_the_campaign_the_label_waits_in_labels_tr(target, where, tmp_path):
    from nnunet_active.campaign.campaign import Campaign

    with Campaign.open(target.preprocessed, "0").lock():
        received = take(target, where, sent(tmp_path, truth(3)), ["oedema", "core"])
    assert not received.taken and any("in use by process" in note for note in received.notes)
    np.testing.assert_array_equal(label_of(target), truth(3))


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("a.nrrd", "NRRD0004\ntype: uchar\ndimension: 3\nsizes: 1 1 1\nencoding: raw\nbyte skip: 0\ndata file: {}\n\n"),
        ("a.seg.nrrd", "NRRD0004\ntype: uchar\ndimension: 3\nsizes: 1 1 1\nencoding: raw\nDataFile : LIST\n{}\n"),
        ("a.mha", "ObjectType = Image\nNDims = 3\nDimSize = 1 1 1\nElementType = MET_UCHAR\nElementDataFile = {}\n"),
        ("a.mha", "ObjectType = Image\nElementDataFile = LOCAL\nElementType = MET_UCHAR\nElementDataFile = {}\n"),
        ("a.mha", "ObjectType = Image\nNDims = 3\nDimSize = 1 1 1\nElementType = MET_UCHAR\nElementDataFile\0= {}\n"),
        ("a.mha", "ObjectType = Image\nElementDataFile\0= {}\nElementDataFile = LOCAL\n"),
        ("a.mha", "ObjectType = Image\nElementDataFile = LOCAL/../{}\n"),
    ],
)
def test_a_file_whose_header_leads_to_another_file_is_refused_before_anything_is_read(
    target, where, tmp_path, name, header
):
    secret = tmp_path / "secret"
    os.mkfifo(secret)  # whoever opens it waits for ever
    (tmp_path / name).write_text(header.format(secret))
    with pytest.raises(BadCase, match="voxels are in another file"):
        take(target, where, tmp_path / name, ["oedema"], name=name)
    assert waiting(target) == ["case_3", "case_1"]


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
def test_other_formats_of_one_file_are_taken(target, where, tmp_path, ending):
    file = tmp_path / f"a{ending}"
    sitk.WriteImage(sitk.ReadImage(str(sent(tmp_path, truth(3)))), str(file), useCompression=True)
    assert take(target, where, file, ["oedema", "core"], name=file.name).taken
    np.testing.assert_array_equal(label_of(target), truth(3))


ENDINGS = [".nii.gz", ".nii", ".nrrd", ".seg.nrrd", ".mha", ".gipl", ".gipl.gz"]


@pytest.mark.parametrize(
    ("ending", "behind_its_own_start"),
    [*((ending, False) for ending in ENDINGS), (".nii", True), (".nrrd", True), (".mha", True)],
)
def test_what_is_another_format_than_its_ending_says_is_refused_since_its_reader_may_follow_a_path(
    target, where, tmp_path, ending, behind_its_own_start
):
    other = tmp_path / "other.h5"
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((1, 1, 1), np.uint8)), str(other))
    start = b""
    if behind_its_own_start:  # HDF5 may begin after 512 bytes of anything
        start = sent(tmp_path, truth(3), ending).read_bytes()[:512].ljust(512, b"\0")
    file = tmp_path / f"a{ending}"
    file.write_bytes(start + other.read_bytes())
    with pytest.raises(BadCase, match="the label cannot be read"):
        take(target, where, file, ["oedema"], name=file.name)
    assert waiting(target) == ["case_3", "case_1"] and list((where[2] / FOLDER).iterdir()) == []


def test_a_nifti_file_with_a_text_as_its_header_is_refused_since_the_text_may_name_another_file(
    target, where, tmp_path
):
    text = b"<nifti_image\n image_filename = '/etc/passwd'\n".ljust(344) + b"n+1\0" + b"/>" + b"\0" * 200
    (tmp_path / "a.nii").write_bytes(text)
    assert sitk.ImageFileReader.GetImageIOFromFileName(str(tmp_path / "a.nii")) == "NiftiImageIO"
    with pytest.raises(BadCase, match=r"its content is not that of a \.nii file"):
        take(target, where, tmp_path / "a.nii", ["oedema"])


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_format_that_is_taken_is_recognised_by_its_content(target, where, tmp_path, ending):
    if ending == ".seg.nrrd":
        file = write_segmentation(tmp_path / "a.seg.nrrd", truth(3), SEGMENTS, SPACING, ORIGIN)
    else:
        file = sent(tmp_path, truth(3), ending)
    assert take(target, where, file, ["oedema", "core"]).taken
    np.testing.assert_array_equal(label_of(target), truth(3))
