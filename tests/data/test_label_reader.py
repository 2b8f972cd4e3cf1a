from __future__ import annotations

import json
import unicodedata

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
import tiny_dataset as tiny
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from nnunetv2.imageio.tif_reader_writer import Tiff3DIO
from tiny_nrrd import write_segmentation
from tiny_spaces import DIRECTIONS, ORIGIN, SHAPE, SPACING, write_with_two_forms

from nnunet_active.data.label_reader import find_label_files, read_label
from nnunet_active.util.errors import BadCase

ENDING = tiny.ENDING
TURNED = (0.0, -1.0, 0.0, 0.8, 0.0, 0.6, -0.6, 0.0, 0.8)  # oblique, and no axis where it was
NAMES = [{"Name": "oedema", "LabelValue": 1, "Layer": 0}, {"Name": "core", "LabelValue": 2, "Layer": 0}]


@pytest.fixture
def image(tmp_path):
    return tiny.write_image(tmp_path / "images" / f"a_0000{ENDING}", tiny.intensities(0), direction=TURNED)


def read(file, image, dataset_json=tiny.DATASET_JSON, reader=SimpleITKIO, ending=ENDING):
    return read_label("a", file, image, dataset_json, reader, ending)


def written(folder, name, array, image, **how):
    """A label file as another program would save it, with the image's geometry unless told otherwise."""
    reference = sitk.ReadImage(str(image))
    how = {
        "spacing": reference.GetSpacing(),
        "origin": reference.GetOrigin(),
        "direction": reference.GetDirection(),
        **how,
    }
    return tiny.write_image(folder / name, array, **how)


def marked() -> np.ndarray:
    return tiny.segmentation(1)


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".nrrd", ".mha", ".mhd"])
@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.float32, np.float64])
def test_integers_are_read_from_every_format_whatever_their_type(tmp_path, image, ending, kind):
    label = read(written(tmp_path, f"a{ending}", marked().astype(kind), image), image)
    assert label.voxels.dtype == np.uint8 and label.notes == ()
    np.testing.assert_array_equal(label.voxels, marked())


def test_a_label_saved_packed_beside_an_unpacked_prediction_is_read_itself(tmp_path, image):
    written(tmp_path, "a.nii", np.zeros_like(marked()), image)
    label = read(written(tmp_path, "a.nii.gz", marked(), image), image)
    np.testing.assert_array_equal(label.voxels, marked())


@pytest.mark.parametrize("layered", [False, True])
def test_a_slicer_segmentation_is_read_by_the_names_of_its_segments(tmp_path, image, layered):
    reference = sitk.ReadImage(str(image))
    geometry = (reference.GetSpacing(), reference.GetOrigin(), reference.GetDirection())
    if layered:
        layers = np.stack([marked() == 2, marked() == 1])
        segments = [{"Name": "core", "LabelValue": 1, "Layer": 0}, {"Name": "Oedema", "LabelValue": 1, "Layer": 1}]
    else:
        layers, segments = (
            np.array([0, 2, 1], dtype=np.uint8)[marked()],
            [{**NAMES[1], "LabelValue": 1}, {**NAMES[0], "LabelValue": 2}],
        )
    label = read(write_segmentation(tmp_path / "a.seg.nrrd", layers, segments, *geometry), image)
    np.testing.assert_array_equal(label.voxels, marked())
    assert label.notes == ()


def test_a_cropped_segmentation_is_put_back_at_its_place(tmp_path, image):
    reference = sitk.ReadImage(str(image))
    box = (slice(1, 6), slice(4, 12), slice(3, 11))
    origin = reference.TransformIndexToPhysicalPoint((3, 4, 1))
    file = write_segmentation(
        tmp_path / "a.seg.nrrd", marked()[box], NAMES, reference.GetSpacing(), origin, reference.GetDirection()
    )
    label = read(file, image)
    np.testing.assert_array_equal(label.voxels, marked())


def test_a_shift_by_a_part_of_a_voxel_is_refused(tmp_path, image):
    reference = sitk.ReadImage(str(image))
    origin = reference.TransformContinuousIndexToPhysicalPoint((3.5, 4.0, 1.0))
    file = write_segmentation(
        tmp_path / "a.seg.nrrd", np.ones((2, 2, 2)), NAMES, reference.GetSpacing(), origin, reference.GetDirection()
    )
    with pytest.raises(BadCase, match=r"Case a: the label .*a\.seg\.nrrd does not lie on the voxel grid.*shifted by"):
        read(file, image)


def test_values_between_integers_are_refused(tmp_path, image):
    array = marked().astype(np.float32)
    array[3, 7, 6] = 1.5
    with pytest.raises(BadCase, match=r"has 1 voxels with values between integers \(e\.g\. 1\.5\)"):
        read(written(tmp_path, "a.nii.gz", array, image), image)


@pytest.mark.parametrize(
    ("value", "said"), [(7, r"has the value\(s\) 7, but dataset.json allows only 0, 1, 2"), (-1, "from -1 to 2")]
)
def test_unknown_values_are_refused(tmp_path, image, value, said):
    array = marked().astype(np.int16)
    array[0, 0, 0] = value
    with pytest.raises(BadCase, match=said):
        read(written(tmp_path, "a.mha", array, image), image)


@pytest.mark.parametrize("ending", [".nrrd", ".nii.gz"])
def test_nan_is_refused(tmp_path, image, ending):
    array = marked().astype(np.float32)
    array[0, 0, 0] = np.nan
    with pytest.raises(BadCase, match="NaN or infinite voxels"):
        read(written(tmp_path, f"a{ending}", array, image), image)


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha", ".seg.nrrd", ".gipl", ".gipl.gz"])
def test_a_truncated_file_is_refused(tmp_path, image, ending):
    array = np.random.default_rng(0).integers(0, 3, tiny.SHAPE).astype(np.uint8)
    file = written(tmp_path, f"a{ending}", array, image)
    content = file.read_bytes()
    file.write_bytes(content[: len(content) * 2 // 3])
    with pytest.raises(BadCase, match=r"Case a: the label .* cannot be read"):
        read(file, image)


def test_several_values_per_voxel_without_segments_are_refused(tmp_path, image):
    colours = sitk.GetImageFromArray(np.zeros((*tiny.SHAPE, 3), dtype=np.uint8), isVector=True)
    sitk.WriteImage(colours, str(tmp_path / "a.nrrd"))
    with pytest.raises(BadCase, match="has 3 values per voxel and names no segments"):
        read(tmp_path / "a.nrrd", image)


def test_a_label_value_that_is_no_number_is_refused(tmp_path, image):
    file = write_segmentation(tmp_path / "a.seg.nrrd", marked(), [{"Name": "oedema", "LabelValue": "one"}])
    with pytest.raises(BadCase, match="cannot be read"):
        read(file, image)


def test_files_are_found_by_the_names_of_the_cases_at_any_depth(tmp_path):
    names = [
        "a.nii.gz",
        "deep/er/a.seg.nrrd",
        "deep/x.1.MHA",
        "a_0000.nii.gz",
        "a_uncertainty.nii.gz",
        "a_final.nii.gz",
        "notes.txt",
        ".hidden/a.nrrd",
        ".a.nii.gz.abc.tmp",
        "b.nii.gz",
    ]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found, others = find_label_files(tmp_path, ["a", "x.1"], ENDING)
    assert found == {"a": [tmp_path / names[0], tmp_path / names[1]], "x.1": [tmp_path / names[2]]}
    assert others == [tmp_path / "a_final.nii.gz", tmp_path / "b.nii.gz"]


def test_labels_are_found_in_a_case_folder_that_was_moved_to_another_disk_and_linked_back(tmp_path):
    (tmp_path / "disk" / "accepted").mkdir(parents=True)
    (tmp_path / "handoff").mkdir()
    for name in ("a.seg.nrrd", "accepted/a.nrrd"):
        (tmp_path / "disk" / name).touch()
    (tmp_path / "handoff" / "a").symlink_to(tmp_path / "disk")
    (tmp_path / "disk" / "back").symlink_to(tmp_path / "handoff")
    found, others = find_label_files(tmp_path / "handoff", ["a"], ENDING)
    assert found == {"a": [tmp_path / "handoff" / "a" / name for name in ("a.seg.nrrd", "accepted/a.nrrd")]}
    assert others == []


def test_a_label_that_was_moved_says_so(tmp_path, image):
    reference = sitk.ReadImage(str(image))
    box = marked()[1:5, 2:12, 3:13]
    origin = reference.TransformIndexToPhysicalPoint((3, 2, 1))
    label = read(written(tmp_path, "a.nii.gz", box, image, origin=origin), image)
    (note,) = label.notes
    assert "put at voxel 3 x 2 x 1" in note


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha"])
def test_a_label_of_the_images_size_that_lost_its_origin_is_refused(tmp_path, image, ending):
    origin = sitk.ReadImage(str(image)).TransformIndexToPhysicalPoint((2, 0, -1))
    with pytest.raises(BadCase, match="has the size of its image"):
        read(written(tmp_path, f"a{ending}", marked(), image, origin=origin), image)


def test_a_label_that_is_all_ignored_is_refused(tmp_path, image):
    dataset_json = {**tiny.DATASET_JSON, "labels": {"background": 0, "a": 1, "ignore": 2}}
    file = written(tmp_path, "a.nii.gz", np.full(tiny.SHAPE, 2, np.uint8), image)
    with pytest.raises(BadCase, match="has the ignore value in every voxel"):
        read(file, image, dataset_json)


@pytest.mark.parametrize("ending", [".tif", ".nii.gz", ".nrrd"])
def test_the_label_of_an_image_without_geometry_lies_where_the_image_lies(tmp_path, ending):
    tifffile.imwrite(tmp_path / "a_0000.tif", tiny.intensities(0))
    (tmp_path / "a.json").write_text(json.dumps({"spacing": [3, 1, 1]}))
    back = tmp_path / "back"
    back.mkdir()
    if ending == ".tif":  # as an annotator's program writes it, without a word about the spacing
        tifffile.imwrite(back / "a.tif", marked())
    else:
        tiny.write_image(back / f"a{ending}", marked(), spacing=(2, 2, 2), origin=(9, 9, 9))
    found = read(back / f"a{ending}", tmp_path / "a_0000.tif", reader=Tiff3DIO, ending=".tif")
    np.testing.assert_array_equal(found.voxels, marked())
    assert found.notes == ()
    wrong = tiny.write_image(back / "a.mha", marked()[:3])
    with pytest.raises(BadCase, match="voxels, its image"):
        read(wrong, tmp_path / "a_0000.tif", reader=Tiff3DIO, ending=".tif")


def test_a_name_in_macos_spelling_is_the_same_case(tmp_path):
    (tmp_path / unicodedata.normalize("NFD", "M\u00fcller_1.nii.gz")).write_bytes(b"x")
    found, others = find_label_files(tmp_path, ["M\u00fcller_1"], ENDING)
    assert list(found) == ["M\u00fcller_1"] and others == []


def test_a_label_with_a_channel_number_is_told_of_unless_the_case_has_another_file(tmp_path):
    for name in ("a.nii.gz", "a_0000.nii.gz", "b_0000.nii.gz", "b_uncertainty.nii.gz"):
        (tmp_path / name).write_bytes(b"x")
    found, others = find_label_files(tmp_path, ["a", "b"], ENDING)
    assert list(found) == ["a"] and [file.name for file in others] == ["b_0000.nii.gz"]


def test_in_a_folder_of_a_case_its_channel_is_no_label_of_a_case_with_that_name(tmp_path):
    names = "a/a.nii.gz", "a/a_0000.nii.gz", "a_0000/a_0000.nii.gz", "a_0000/a_0000_0000.nii.gz", "all/a_0000.nii.gz"
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found, others = find_label_files(tmp_path, ["a", "a_0000"], ENDING)
    expected = {"a": [names[0]], "a_0000": [names[2], names[4]]}
    assert found == {case: [tmp_path / name for name in files] for case, files in expected.items()} and not others


FORMS = [(1, 1), (1, 2), (2, 1), (0, 0)]


def label_of(image, array, form, ending=ENDING):
    """As nibabel saves a label with one of the two geometries of an image's header alone."""
    reference = nibabel.load(image)
    matrix = {"qform": reference.get_qform(), "sform": reference.affine, "header": None}[form]
    label = nibabel.Nifti1Image(array.transpose(), matrix, reference.header if matrix is None else None)
    label.to_filename(image.parent / f"a{ending}")
    return image.parent / f"a{ending}"


@pytest.mark.parametrize("codes", FORMS)
@pytest.mark.parametrize("form", ["qform", "sform", "header"])
def test_a_label_with_either_geometry_of_an_image_that_has_two_stays_where_it_was_drawn(tmp_path, codes, form):
    image = write_with_two_forms(tmp_path / f"a_0000{ENDING}", codes, DIRECTIONS["oblique"])
    drawn = np.zeros(SHAPE, dtype=np.uint8)
    drawn[2:4, 5:9, 1:3] = 1
    if codes == (0, 0) and form == "qform":  # no program goes by a form without a code
        return
    label = read(label_of(image, drawn, form), image)
    np.testing.assert_array_equal(label.voxels, drawn)
    other = {(1, 1): "qform", (1, 2): "sform", (2, 1): "qform", (0, 0): "sform"}[codes]
    assert any("the one that nnU-Net does not go by" in note for note in label.notes) == (form == other)


@pytest.mark.parametrize(("codes", "form"), [((1, 1), "qform"), ((1, 2), "sform")])
def test_a_label_is_refused_that_each_geometry_of_its_image_would_put_elsewhere(tmp_path, codes, form):
    """The two differ by a mirror, so that neither is wrong in itself."""
    there = (ORIGIN[0] + (SHAPE[2] - 1) * SPACING[0], *ORIGIN[1:])
    mirrored = np.diag([-1.0, 1.0, 1.0])
    image = write_with_two_forms(tmp_path / f"a_0000{ENDING}", codes, mirrored, origin=there)
    drawn = np.zeros(SHAPE, dtype=np.uint8)
    drawn[2:4, 5:9, 1:3] = 1
    with pytest.raises(BadCase, match=r"can be read in two ways, since the header of its image has two geometries"):
        read(label_of(image, drawn, form), image)
    np.testing.assert_array_equal(read(label_of(image, drawn, "header"), image).voxels, drawn)
    both = np.ones_like(drawn)
    np.testing.assert_array_equal(read(label_of(image, both, form), image).voxels, both)


def test_a_label_that_slicer_saved_in_a_folder_in_macos_spelling_is_found(tmp_path):
    folder = tmp_path / unicodedata.normalize("NFD", "Müller_1")
    folder.mkdir()
    (folder / unicodedata.normalize("NFD", "Müller_1(1).seg.nrrd")).touch()
    assert list(find_label_files(tmp_path, ["Müller_1"], ".nii.gz")[0]) == ["Müller_1"]
