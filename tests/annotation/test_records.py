from __future__ import annotations

import json

import numpy as np
import pytest

from nnunet_active.annotation.records import read_handoff, voxel_digest
from nnunet_active.util.errors import MissingInput

LABEL = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)


def test_the_digest_is_that_of_shape_type_and_voxels():
    import hashlib

    assert voxel_digest(LABEL) == hashlib.sha256(b"(2, 3, 4) uint8" + bytes(range(24))).hexdigest()
    wide = LABEL.astype(np.uint16) + 300
    expected = hashlib.sha256(b"(2, 3, 4) uint16" + wide.astype("<u2").tobytes()).hexdigest()
    assert voxel_digest(wide) == voxel_digest(wide.astype(">u2")) == expected


@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.float32, np.float64, ">i4"])
def test_the_same_labels_in_another_type_have_the_same_digest(dtype):
    assert voxel_digest(LABEL.astype(dtype)) == voxel_digest(LABEL)
    assert voxel_digest(LABEL[None].astype(dtype)) == voxel_digest(LABEL)
    assert voxel_digest(np.asfortranarray(LABEL)) == voxel_digest(LABEL)


def test_one_voxel_or_another_shape_changes_the_digest():
    other = LABEL.copy()
    other[1, 2, 3] = 0
    assert len({voxel_digest(LABEL), voxel_digest(other), voxel_digest(LABEL.reshape(2, 4, 3))}) == 3


@pytest.mark.parametrize("value", [-1, 0.5, 65536, np.nan, np.inf])
def test_what_is_no_label_has_no_digest(value):
    array = LABEL.astype(np.float64)
    array[0, 0, 0] = value
    with pytest.raises(ValueError, match="label values"):
        voxel_digest(array)


def test_an_empty_array_has_a_digest():
    assert voxel_digest(np.zeros((0, 3, 4), dtype=np.uint8))


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 1}', '{"format": 1, "cases": []}', '{"cases": {}}'])
def test_a_damaged_handoff_json_is_one_sentence(tmp_path, text):
    (tmp_path / "handoff.json").write_text(text)
    with pytest.raises(MissingInput, match="damaged"):
        read_handoff(tmp_path)


def test_a_folder_without_one_and_a_later_format_are_refused(tmp_path):
    with pytest.raises(MissingInput, match="was not found"):
        read_handoff(tmp_path)
    (tmp_path / "handoff.json").write_text(json.dumps({"format": 2, "cases": {}}))
    with pytest.raises(MissingInput, match="update nnunet_active"):
        read_handoff(tmp_path)
