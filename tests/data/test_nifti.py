from __future__ import annotations

import gzip

import nibabel
import numpy as np
import pytest
from tiny_spaces import DIRECTIONS, SHAPE, write_nifti

from nnunet_active.data.nifti import nifti_shape, read_nifti_header, with_positive_steps, write_nifti_like


def test_the_header_is_read_as_it_is_even_where_it_is_wrong(tmp_path):
    image = write_nifti(tmp_path / "image.nii", DIRECTIONS["identity"])
    content = bytearray(image.read_bytes())
    content[76:80] = np.float32(0.5).tobytes()  # pixdim[0], which ought to be 1 or -1
    content[80:84] = np.float32(-0.78).tobytes()  # a negative spacing
    image.write_bytes(content)
    header = read_nifti_header(image)
    assert header["pixdim"][0] == 0.5 and header["pixdim"][1] == np.float32(-0.78)
    write_nifti_like(np.ones(SHAPE, dtype=np.uint8), image, tmp_path / "label.nii")
    assert read_nifti_header(tmp_path / "label.nii")["pixdim"].tobytes() == header["pixdim"].tobytes()


@pytest.mark.parametrize("order", ["<", ">"])
def test_byte_order_and_compression_do_not_matter(tmp_path, order):
    plain = read_nifti_header(write_nifti(tmp_path / "image.nii", DIRECTIONS["oblique"]))
    other = read_nifti_header(write_nifti(tmp_path / "other.nii.gz", DIRECTIONS["oblique"], order=order))
    for field in ("dim", "pixdim", "srow_x", "srow_y", "srow_z", "quatern_b"):
        assert plain[field].tobytes() == other[field].tobytes()
    assert nifti_shape(plain) == SHAPE[::-1]


@pytest.mark.parametrize("content", [b"", b"\x5c\x01\0\0", b"PNG" * 200, gzip.compress(b"nothing", mtime=0)])
def test_what_is_no_nifti_file_is_refused(tmp_path, content):
    (tmp_path / "image.nii.gz").write_bytes(content)
    with pytest.raises(ValueError, match="no NIfTI"):
        read_nifti_header(tmp_path / "image.nii.gz")


def test_the_same_voxels_give_the_same_bytes(tmp_path):
    image = write_nifti(tmp_path / "image.nii.gz", DIRECTIONS["oblique"])
    for name in ("a", "b"):
        write_nifti_like(np.ones(SHAPE, dtype=np.uint16), image, tmp_path / f"{name}.nii.gz")
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


def test_trailing_axes_of_one_voxel_are_kept(tmp_path):
    voxels = np.zeros((*SHAPE[::-1], 1), dtype=np.float32)
    nibabel.Nifti1Image(voxels, np.diag([2.0, 3, 4, 1])).to_filename(tmp_path / "image.nii.gz")
    write_nifti_like(np.ones(SHAPE, dtype=np.uint8), tmp_path / "image.nii.gz", tmp_path / "label.nii.gz")
    assert nibabel.load(tmp_path / "label.nii.gz").shape == voxels.shape


def test_axes_of_equal_length_in_another_order_are_refused(tmp_path):
    image = write_nifti(tmp_path / "image.nii.gz", DIRECTIONS["identity"])
    with pytest.raises(ValueError, match="not those of the prediction"):
        write_nifti_like(np.ones((*SHAPE[:1], SHAPE[2], SHAPE[1]), dtype=np.uint8), image, tmp_path / "label.nii.gz")


@pytest.mark.parametrize("damage", [lambda content: content[:15], lambda content: content[:20] + bytes(300)])
def test_a_compressed_file_that_is_damaged_is_no_nifti_file(tmp_path, damage):
    file = tmp_path / "image.nii.gz"
    file.write_bytes(damage(gzip.compress(bytes(np.random.default_rng(0).integers(0, 256, 4000, dtype=np.uint8)))))
    with pytest.raises(ValueError, match="its compressed content is damaged"):
        read_nifti_header(file)


def test_spacings_become_positive_in_a_copy(tmp_path):
    file = write_nifti(tmp_path / "image.nii.gz", DIRECTIONS["identity"])
    header = read_nifti_header(file)
    header["pixdim"][2] *= -1
    positive = with_positive_steps(header)
    assert positive["pixdim"][2] > 0 > header["pixdim"][2]
