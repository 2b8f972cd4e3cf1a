"""Predictions that were cut short."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from full_disk import files_up_to

from nnunet_active.training.cut_short import remove_parts, without_parts

NOISE = np.random.default_rng(0).integers(0, 3, (10, 40, 50)).astype(np.uint8)


def write(file) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(NOISE), str(file), True)


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".gipl", ".nrrd", ".mha"])
def test_what_is_cut_short_is_gone_and_the_rest_stays(tmp_path, ending):
    whole, part, _ = files = [tmp_path / f"{name}{ending}" for name in ("whole", "part", "absent")]
    with without_parts(files) as gone:
        write(whole)
        with files_up_to(1500):
            try:
                write(part)
            except RuntimeError:
                assert ending in (".nrrd", ".mha")  # of the others ITK says nothing
    assert gone == [part] and whole.is_file() and not part.exists()


def test_what_was_damaged_before_is_not_ours_to_remove(tmp_path):
    earlier, later = tmp_path / "earlier.nii.gz", tmp_path / "later.nii.gz"
    earlier.write_bytes(b"")
    with pytest.raises(KeyError), without_parts([earlier, later]) as gone:
        later.write_bytes(b"half of")
        raise KeyError
    assert gone == [later] and earlier.is_file() and not later.exists()


def test_parts_that_a_kill_left_are_removed_and_named(tmp_path):
    whole, part, absent = (tmp_path / f"{name}.nii.gz" for name in ("whole", "part", "absent"))
    write(whole)
    part.write_bytes(whole.read_bytes()[:-100])
    assert remove_parts([whole, part, absent]) == [part] and whole.is_file() and not part.exists()


def test_probabilities_that_are_cut_short_are_gone(tmp_path):
    whole, part = tmp_path / "whole.npz", tmp_path / "part.npz"
    with pytest.raises(OSError, match="large"), without_parts([whole, part]) as gone:
        np.savez_compressed(whole, probabilities=NOISE)
        with files_up_to(1500):
            np.savez_compressed(part, probabilities=NOISE)
    assert gone == [part] and whole.is_file() and not part.exists()
