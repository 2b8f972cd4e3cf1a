from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from tiny_spaces import DIRECTIONS, SHAPE, write_itk

from nnunet_active.data.nrrd import nrrd_shape, pad_shape, read_nrrd_geometry, write_nrrd

ARRAY = np.arange(np.prod(SHAPE)).reshape(SHAPE)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_voxels_and_metadata_come_back_through_itk(tmp_path, dtype):
    geometry = read_nrrd_geometry(write_itk(tmp_path / "image.nrrd", DIRECTIONS["oblique"]))
    write_nrrd(ARRAY.astype(dtype), geometry, tmp_path / "a.nrrd", {"Segment0_Name": "Rippe (links), ä", "key": "a:=b"})
    image = sitk.ReadImage(str(tmp_path / "a.nrrd"))
    assert np.array_equal(sitk.GetArrayFromImage(image), ARRAY.astype(dtype))
    assert image.GetMetaData("Segment0_Name") == "Rippe (links), ä" and image.GetMetaData("key") == "a:=b"


def test_pynrrd_agrees(tmp_path):
    nrrd = pytest.importorskip("nrrd")
    image = write_itk(tmp_path / "image.nrrd", DIRECTIONS["oblique"])
    write_nrrd(ARRAY.astype(np.uint16), read_nrrd_geometry(image), tmp_path / "a.nrrd")
    voxels, header = nrrd.read(str(tmp_path / "a.nrrd"))
    expected = nrrd.read_header(str(image))
    assert np.array_equal(voxels.transpose(), ARRAY)
    for field in ("space directions", "space origin", "sizes"):
        assert np.array_equal(header[field], expected[field])


@pytest.mark.parametrize("content", [b"", b"NIFTI\n", b"\x89PNG\r\n"])
def test_what_is_no_nrrd_file_is_refused(tmp_path, content):
    (tmp_path / "image.nrrd").write_bytes(content)
    with pytest.raises(ValueError, match="no NRRD"):
        read_nrrd_geometry(tmp_path / "image.nrrd")


def test_a_header_without_sizes_is_refused(tmp_path):
    (tmp_path / "image.nrrd").write_bytes(b"NRRD0004\ntype: float\n\n")
    with pytest.raises(ValueError, match="sizes"):
        nrrd_shape(read_nrrd_geometry(tmp_path / "image.nrrd"))


def test_lines_that_end_as_in_windows_are_read(tmp_path):
    (tmp_path / "image.nrrd").write_bytes(
        b"NRRD0004\r\ntype: float\r\nsizes: 3 4 5\r\nContent: x\r\n\r\nsizes: 1 1 1\n"
    )
    assert read_nrrd_geometry(tmp_path / "image.nrrd") == {"sizes": "3 4 5"}


def test_shapes_are_padded_to_three_axes():
    assert [pad_shape(s) for s in ((4, 5), (4, 5, 6), (4, 5, 6, 1), (4, 5, 6, 2))] == [
        *((4, 5, 1), (4, 5, 6), (4, 5, 6), (4, 5, 6, 2))
    ]


@pytest.mark.parametrize(("kind", "lists"), [("list", True), ("vector", True), ("domain", False), ("space", False)])
def test_a_first_axis_that_lists_one_value_a_voxel_is_none_of_the_image(tmp_path, kind, lists):
    axes = "(1,0,0) (0,1,0) (0,0,3)"
    geometry = {
        "dimension": "4",
        "space": "left-posterior-superior",
        "sizes": "1 5 6 7",
        "space directions": f"none {axes}",
        "kinds": f"{kind} domain domain domain",
        "space origin": "(1,2,3)",
    }
    assert nrrd_shape(geometry) == ((5, 6, 7) if lists else (1, 5, 6, 7))
    if lists:
        array = np.arange(7 * 6 * 5, dtype=np.uint8).reshape(7, 6, 5)
        write_nrrd(array, geometry, tmp_path / "a.nrrd")
        image = sitk.ReadImage(str(tmp_path / "a.nrrd"))
        assert image.GetSize() == (5, 6, 7) and np.array_equal(sitk.GetArrayFromImage(image), array)
