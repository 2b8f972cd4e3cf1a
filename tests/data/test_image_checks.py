import gzip

import nibabel
import numpy as np
import pytest
import tiny_dataset as tiny

from nnunet_active.data.image_checks import check_image, check_label, image_reader
from nnunet_active.util.errors import BadCase, MissingInput

READER = image_reader(tiny.make_plans())
ALLOWED = {0, 1, 2}


@pytest.fixture
def files(tmp_path):
    return tiny.write_images(tmp_path, "a")


def check(files):
    return check_image("a", files, READER, channels=2)


def label(tmp_path, array=None, **geometry):
    return tiny.write_image(tmp_path / "label.nii.gz", tiny.segmentation() if array is None else array, **geometry)


def test_a_good_case_passes_and_its_geometry_is_returned(files):
    checked = check(files)
    assert checked.geometry.shape == tiny.SHAPE and checked.geometry.spacing == tiny.SPACING
    assert checked.warnings == ()
    assert checked.geometry.position((1, 1, 1)) == (6, -6, 5)


def test_an_unreadable_image_is_named(files):
    files[1].write_bytes(b"this is no image")
    with pytest.raises(BadCase, match=r"Case a: the image .*a_0001\.nii\.gz cannot be read"):
        check(files)


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".nrrd", ".mha", ".gipl"])
@pytest.mark.parametrize("kept", [0.02, 0.1, 0.5, 0.9])
def test_a_truncated_image_is_named_wherever_it_ends(tmp_path, ending, kept):
    file = tiny.write_image(tmp_path / f"scan{ending}", tiny.intensities(0))
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(BadCase, match=r"Case a: the image .*scan.* cannot be read"):
        check_image("a", [file], READER)


def test_an_image_whose_voxels_end_early_inside_a_whole_gzip_file_is_named(files):
    content = gzip.decompress(files[0].read_bytes())
    files[0].write_bytes(gzip.compress(content[: len(content) // 2]))
    with pytest.raises(BadCase, match=r"a_0000\.nii\.gz cannot be read"):
        check(files)


def test_a_file_that_nnunet_can_read_in_spite_of_its_name_passes(tmp_path):
    file = tiny.write_image(tmp_path / "scan.nii", tiny.intensities(0)).rename(tmp_path / "scan.nii.gz")
    assert check_image("a", [file], READER).geometry.shape == tiny.SHAPE


def test_such_a_file_is_named_where_it_was_cut_off(tmp_path):
    file = tiny.write_image(tmp_path / "scan.nii", tiny.intensities(0)).rename(tmp_path / "scan.nii.gz")
    file.write_bytes(file.read_bytes()[: int(0.7 * file.stat().st_size)])
    with pytest.raises(BadCase, match=r"Case a: the image .*scan.* cannot be read"):
        check_image("a", [file], READER)


def test_an_image_that_nnunet_would_read_from_the_file_beside_it_is_named_unless_they_are_alike(files):
    twin = files[0].with_suffix("")
    twin.write_bytes(gzip.decompress(files[0].read_bytes()))
    assert check(files).warnings == ()
    tiny.write_image(twin, tiny.intensities(5))
    with pytest.raises(BadCase, match=r"Case a: .* voxels of a_0000\.nii for .*a_0000\.nii\.gz, .*move one of them"):
        check(files)


def test_a_label_that_nnunet_would_read_from_the_file_beside_it_is_named_also_where_it_has_another_size(
    files, tmp_path
):
    file = label(tmp_path)
    tiny.write_image(tmp_path / "label.nii", tiny.segmentation()[1:])
    with pytest.raises(BadCase, match=r"Case a: .* voxels of label\.nii for .* the label .*label\.nii\.gz"):
        check_label("a", file, files, ALLOWED, READER)


def test_an_image_that_is_not_there_is_named(files):
    files[0].unlink()
    with pytest.raises(BadCase, match="was not found"):
        check(files)


@pytest.mark.parametrize("ending", [".nii.gz", ".mha"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinite_voxels_are_counted_and_named(tmp_path, ending, value):
    array = tiny.intensities(1)
    array[0, 0, :3] = value
    file = tiny.write_image(tmp_path / f"scan{ending}", array)
    with pytest.raises(BadCase, match=r"scan.*3 NaN or infinite"):
        check_image("a", [file], READER)


def test_an_integer_image_with_a_scale_in_its_header_passes(tmp_path):
    array = tiny.intensities(0).transpose().astype(np.int16)
    scan = nibabel.Nifti1Image(array, np.diag([1, 1, 3, 1]))
    scan.header.set_slope_inter(0.5, -10)
    nibabel.save(scan, tmp_path / "scan.nii.gz")
    assert check_image("a", [tmp_path / "scan.nii.gz"], READER).geometry.shape == tiny.SHAPE


@pytest.mark.parametrize("value", [0, 7])
def test_a_case_that_is_constant_in_every_channel_is_empty(files, value):
    for file in files:
        tiny.write_image(file, np.full(tiny.SHAPE, value, np.float32))
    with pytest.raises(BadCase, match="empty"):
        check(files)


def test_one_constant_channel_beside_a_good_one_is_a_warning(files):
    tiny.write_image(files[1], np.zeros(tiny.SHAPE, np.float32))
    (warning,) = check(files).warnings
    assert "a_0001" in warning


@pytest.mark.parametrize("change", [{"spacing": (1.0, 1.0, 2.0)}, {"shape": (5, 16, 14)}])
def test_channels_on_different_grids_are_named_with_both_values(files, change):
    array = tiny.intensities(1)[tuple(slice(0, n) for n in change.get("shape", tiny.SHAPE))]
    tiny.write_image(files[1], array, spacing=change.get("spacing", tiny.SPACING))
    with pytest.raises(BadCase, match=f"differ in {next(iter(change))}.*a_0000.*a_0001"):
        check(files)


def test_channels_whose_spacing_differs_by_rounding_alone_are_one_grid_as_in_nnunet(files):
    tiny.write_image(files[1], tiny.intensities(1), spacing=(1.000001, 1.0, 3.000001))
    assert check(files).warnings == ()
    tiny.write_image(files[1], tiny.intensities(1), spacing=(1.0, 1.0, 3.001))
    with pytest.raises(BadCase, match=r"differ in spacing by up to 0\.001 mm"):
        check(files)


def test_channels_with_another_origin_are_a_warning_as_in_nnunet(files):
    tiny.write_image(files[1], tiny.intensities(1), origin=(9.0, -7.0, 2.0))
    (warning,) = check(files).warnings
    assert "origin" in warning


def test_the_wrong_number_of_channels_is_named(files):
    with pytest.raises(BadCase, match=r"hold 1 channel\(s\), but 2"):
        check(files[:1])


def test_a_good_label_passes_without_a_warning_and_is_left_as_it_is(tmp_path, files):
    file = label(tmp_path)
    before = file.read_bytes()
    assert check_label("a", file, files, ALLOWED, READER) == []
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    ("value", "shown"),
    [(7, "7"), (-1, "-1"), (1.5, "1.5")],
    ids=["unknown", "negative", "half"],
)
def test_a_label_with_unknown_values_is_refused_by_name_and_left(tmp_path, files, value, shown):
    array = tiny.segmentation().astype(np.float32)
    array[0, 0, 0] = value
    file = label(tmp_path, array)
    with pytest.raises(BadCase, match=rf"Case a: the label .*label\.nii\.gz has the value\(s\) {shown}, .*0, 1, 2"):
        check_label("a", file, files, ALLOWED, READER)
    assert file.is_file()


def test_a_label_with_nan_is_refused_by_name(tmp_path, files):
    array = tiny.segmentation().astype(np.float32)
    array[0, 0, 0] = np.nan
    with pytest.raises(BadCase, match=r"label\.nii\.gz has 1 NaN"):
        check_label("a", label(tmp_path, array), files, ALLOWED, READER)


@pytest.mark.parametrize(
    ("geometry", "what"),
    [
        ({"array": np.zeros((6, 16, 13), np.uint8)}, "shape"),
        ({"spacing": (1.0, 1.0, 3.1)}, "spacing"),
        ({"origin": (5.0, -7.0, 5.0)}, "origin"),
        ({"direction": (-1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)}, "direction"),
    ],
    ids=["shape", "spacing", "origin", "direction"],
)
@pytest.mark.parametrize("reader", ["SimpleITKIO", "NibabelIO"])
def test_a_label_on_another_grid_is_refused_by_name(tmp_path, files, geometry, what, reader):
    reader = image_reader({**tiny.make_plans(), "image_reader_writer": reader})
    with pytest.raises(BadCase, match=rf"label\.nii\.gz does not lie on the grid of its image .*{what}"):
        check_label("a", label(tmp_path, **geometry), files, ALLOWED, reader)


def test_rounding_in_the_geometry_is_forgiven(tmp_path, files):
    file = label(tmp_path, spacing=(1.00001, 1.0, 2.99999), origin=(5.004, -7.0, 2.0))
    assert check_label("a", file, files, ALLOWED, READER) == []


def test_an_unreadable_label_is_named(tmp_path, files):
    file = label(tmp_path)
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(BadCase, match=r"the label .*label\.nii\.gz cannot be read"):
        check_label("a", file, files, ALLOWED, READER)


def test_a_label_that_is_all_background_or_ignored_is_a_warning(tmp_path, files):
    array = np.zeros(tiny.SHAPE, np.uint8)
    (warning,) = check_label("a", label(tmp_path, array), files, ALLOWED, READER)
    assert "label.nii.gz marks no foreground" in warning
    array[0] = 3
    assert check_label("a", label(tmp_path, array), files, {0, 1, 2, 3}, READER, ignore=3)
    assert not check_label("a", label(tmp_path, array), files, {0, 1, 2, 3}, READER)


def test_a_reader_that_nnunet_does_not_have_is_named():
    with pytest.raises(MissingInput, match="HolographicIO"):
        image_reader({**tiny.make_plans(), "image_reader_writer": "HolographicIO"})
