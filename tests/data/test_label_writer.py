from __future__ import annotations

import json

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
import tiny_dataset as tiny
from nnunetv2.imageio.natural_image_reader_writer import NaturalImage2DIO
from nnunetv2.imageio.nibabel_reader_writer import NibabelIO, NibabelIOWithReorient
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO, SimpleITKIOWithReorient
from nnunetv2.imageio.tif_reader_writer import Tiff3DIO
from skimage import io

from nnunet_active.data.label_reader import read_label
from nnunet_active.data.label_writer import companions_of, copy_label, write_label
from nnunet_active.util.errors import BadCase

ENDING = tiny.ENDING
TURNED = (0.0, -1.0, 0.0, 0.8, 0.0, 0.6, -0.6, 0.0, 0.8)  # oblique, and no axis where it was


@pytest.fixture
def image(tmp_path):
    return tiny.write_image(tmp_path / "images" / f"a_0000{ENDING}", tiny.intensities(0), direction=TURNED)


def read(file, image, dataset_json=tiny.DATASET_JSON, reader=SimpleITKIO, ending=ENDING):
    return read_label("a", file, image, dataset_json, reader, ending)


def marked() -> np.ndarray:
    return tiny.segmentation(1)


@pytest.mark.parametrize("reader", [SimpleITKIO, SimpleITKIOWithReorient, NibabelIO, NibabelIOWithReorient])
def test_what_is_written_has_the_geometry_of_the_image_to_the_last_digit(tmp_path, image, reader):
    target = tmp_path / "labelsTr" / f"a{ENDING}"
    assert write_label("a", marked(), target, image, tiny.DATASET_JSON, reader) == []
    one, other = sitk.ReadImage(str(target)), sitk.ReadImage(str(image))
    for what in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
        assert getattr(one, what)() == getattr(other, what)()
    affines = [nibabel.load(file).affine for file in (target, image)]
    np.testing.assert_array_equal(*affines)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(one), marked())
    np.testing.assert_array_equal(read(target, image, reader=reader).voxels, marked())
    assert [file.name for file in target.parent.iterdir()] == [target.name]


def test_what_nnunet_would_refuse_is_not_written(tmp_path, image):
    target = tmp_path / "labelsTr" / f"a{ENDING}"
    with pytest.raises(BadCase, match=r"labelsTr/a\.nii\.gz has the value\(s\) 9"):
        write_label("a", np.full(tiny.SHAPE, 9, dtype=np.uint8), target, image, tiny.DATASET_JSON, SimpleITKIO)
    assert not target.exists()
    warnings = write_label("a", np.zeros(tiny.SHAPE, dtype=np.uint8), target, image, tiny.DATASET_JSON, SimpleITKIO)
    assert "marks no foreground" in warnings[0] and str(target) in warnings[0]


def test_a_sheared_image_which_itk_does_not_read_keeps_its_geometry(tmp_path):
    affine = np.array([[1.0, 0.2, 0, 5], [0, 1, 0, -7], [0, 0, 3, 2], [0, 0, 0, 1]])
    image, label = tmp_path / "a_0000.nii.gz", tmp_path / "hand" / "a.nii.gz"
    label.parent.mkdir()
    nibabel.save(nibabel.Nifti1Image(tiny.intensities(0).T, affine), image)
    nibabel.save(nibabel.Nifti1Image(marked().T, affine), label)
    found = read(label, image, reader=NibabelIO)
    np.testing.assert_array_equal(found.voxels, marked())
    write_label("a", found.voxels, tmp_path / "labelsTr" / "a.nii.gz", image, tiny.DATASET_JSON, NibabelIO)
    np.testing.assert_array_equal(nibabel.load(tmp_path / "labelsTr" / "a.nii.gz").affine, nibabel.load(image).affine)
    nibabel.save(nibabel.Nifti1Image(marked().T, affine + np.diag([0, 0, 1.0, 0])), label)
    with pytest.raises(BadCase, match="does not lie on the grid of its image"):
        read(label, image, reader=NibabelIO)


def test_pictures_are_read_and_written_with_the_data_sets_own_reader(tmp_path):
    dataset_json = {**tiny.DATASET_JSON, "file_ending": ".png"}
    picture = np.random.default_rng(0).integers(0, 255, (9, 8, 3)).astype(np.uint8)
    io.imsave(tmp_path / "a_0000.png", picture, check_contrast=False)
    io.imsave(tmp_path / "a.png", (picture[..., 0] % 3).astype(np.uint8), check_contrast=False)
    label = read(tmp_path / "a.png", tmp_path / "a_0000.png", dataset_json, NaturalImage2DIO, ".png")
    np.testing.assert_array_equal(label.voxels, picture[None, ..., 0] % 3)
    target = tmp_path / "labelsTr" / "a.png"
    target.parent.mkdir()
    write_label("a", label.voxels, target, tmp_path / "a_0000.png", dataset_json, NaturalImage2DIO)
    np.testing.assert_array_equal(io.imread(target), picture[..., 0] % 3)
    io.imsave(tmp_path / "a.png", np.zeros((4, 4), dtype=np.uint8), check_contrast=False)
    with pytest.raises(BadCase, match="does not lie on the grid"):
        read(tmp_path / "a.png", tmp_path / "a_0000.png", dataset_json, NaturalImage2DIO, ".png")


def test_a_tiff_label_gets_its_companion_with_the_spacing_of_the_image(tmp_path):
    tifffile.imwrite(tmp_path / "a_0000.tif", tiny.intensities(0))
    (tmp_path / "a.json").write_text(json.dumps({"spacing": [3, 1, 1]}))
    dataset_json = {**tiny.DATASET_JSON, "file_ending": ".tif"}
    target = tmp_path / "labelsTr" / "a.tif"
    write_label("a", marked(), target, tmp_path / "a_0000.tif", dataset_json, Tiff3DIO)
    assert json.loads((tmp_path / "labelsTr" / "a.json").read_text()) == {"spacing": [3, 1, 1]}
    assert [file.name for file in companions_of(target)] == ["a.json"] and companions_of(tmp_path / "a.nii.gz") == []
    label, properties = Tiff3DIO().read_seg(str(target))
    assert properties["spacing"] == [3, 1, 1] and np.array_equal(label[0], marked())
    copy_label(target, tmp_path / "copies" / "other.tif")
    assert Tiff3DIO().read_seg(str(tmp_path / "copies" / "other.tif"))[1]["spacing"] == [3, 1, 1]
