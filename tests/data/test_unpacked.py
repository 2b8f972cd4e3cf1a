"""Files that may be packed with gzip whatever they are called."""

from __future__ import annotations

import gzip

import pytest

from nnunet_active.data.unpacked import is_packed, open_unpacked


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("packed", [False, True])
def test_the_content_decides_whether_a_file_is_unpacked(tmp_path, name, packed):
    file = tmp_path / name
    file.write_bytes(gzip.compress(b"voxels") if packed else b"voxels")
    assert is_packed(file) == packed
    with open_unpacked(file) as content:
        assert content.read() == b"voxels"


def test_an_empty_file_is_not_packed_and_a_packed_one_that_is_cut_off_is_an_error(tmp_path):
    file = tmp_path / "a.nii.gz"
    file.write_bytes(b"")
    assert not is_packed(file)
    file.write_bytes(gzip.compress(bytes(100))[:-4])
    with open_unpacked(file) as content, pytest.raises(EOFError):
        content.read()
