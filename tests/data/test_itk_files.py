"""What ITK reads and writes wrong without an error."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
import tiny_dataset as tiny
from full_disk import files_up_to

from nnunet_active.data.itk_files import read_itk, unpacked_twin, without_twin, write_itk
from nnunet_active.util.sentences import one_sentence


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


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".gipl", ".nrrd", ".mha"])
def test_a_file_that_cannot_be_written_whole_is_an_error_in_every_format(tmp_path, ending):
    voxels = np.random.default_rng(0).integers(0, 60000, (10, 40, 50)).astype(np.uint16)
    image, file = sitk.GetImageFromArray(voxels), tmp_path / f"a{ending}"
    with files_up_to(20_000), pytest.raises(OSError, match=str(file)) as error:
        write_itk(image, file)
    assert one_sentence(error.value)[0].startswith(f"{file}: No space left on device; make room there")
    write_itk(image, file)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(file))), voxels)
