"""A NIfTI file beside its unpacked twin."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
import tiny_dataset as tiny

from nnunet_active.data.nifti_twin import read_itk, unpacked_twin, without_twin


@pytest.fixture
def packed(tmp_path):
    tiny.write_image(tmp_path / "a.nii", tiny.segmentation(0))
    return tiny.write_image(tmp_path / "a.nii.gz", tiny.segmentation(1))


def test_only_a_packed_file_has_a_twin(packed):
    twin = packed.with_name("a.nii")
    assert unpacked_twin(packed) == twin and unpacked_twin(twin) is None
    twin.unlink()
    assert unpacked_twin(packed) is None


def test_itk_takes_the_voxels_of_the_twin_and_we_those_of_the_file(packed):
    own, twins = tiny.segmentation(1), tiny.segmentation(0)
    assert not np.array_equal(own, twins)
    # once this fails, ITK has been mended
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(packed))), twins)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(read_itk(packed)), own)


def test_a_file_without_a_twin_is_read_where_it_lies_and_nothing_stays_behind(packed, tmp_path):
    with without_twin(packed) as alone:
        assert alone != packed and alone.name == packed.name
    assert not alone.exists() and packed.is_file()
    packed.with_name("a.nii").unlink()
    with without_twin(packed) as alone:
        assert alone == packed


def test_where_links_are_forbidden_a_copy_is_read(packed, monkeypatch):
    def refuse(*_):
        raise OSError("no links here")

    monkeypatch.setattr("pathlib.Path.symlink_to", refuse)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(read_itk(packed)), tiny.segmentation(1))
