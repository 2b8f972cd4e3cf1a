from __future__ import annotations

import numpy as np
import pytest

from nnunet_active.scoring.packed_prediction import class_distances, pack, unpack


@pytest.mark.parametrize("most", [3, 255, 4000])
def test_a_label_map_comes_back_as_it_was(most):
    labels = np.random.default_rng(0).integers(0, most + 1, (4, 5, 6)).astype(np.int16)
    packed = pack(labels)
    assert packed.dtype == np.uint8 and packed.ndim == 1
    assert np.array_equal(unpack(packed), labels)


@pytest.mark.parametrize("heads", [1, 3, 9])
def test_regions_come_back_as_they_were(heads):
    masks = np.random.default_rng(0).random((heads, 4, 5, 6)) > 0.5
    assert np.array_equal(unpack(pack(masks)), masks)
    assert unpack(pack(masks)).dtype == bool


def test_a_prediction_takes_far_fewer_bytes_than_voxels():
    labels = np.zeros((64, 64, 64), dtype=np.int16)
    labels[20:40, 10:50, 5:60] = 2
    assert len(pack(labels)) < labels.size / 50


def test_other_bytes_are_refused():
    with pytest.raises(ValueError, match="no packed prediction"):
        unpack(np.arange(50, dtype=np.uint8))


def test_label_maps_are_compared_class_by_class():
    one, other = np.array([[[1, 1, 1, 2, 0, 0]]]), np.array([[[0, 1, 1, 1, 0, 0]]])
    assert class_distances(one, other, 3) == pytest.approx([0.5, 1, 0])


def test_regions_are_compared_one_by_one():
    one = np.array([[True, True, False], [True, False, False]])[:, None, None]
    other = np.array([[True, False, False], [True, False, False]])[:, None, None]
    assert class_distances(one, other, 2) == pytest.approx([0.5, 0])
