from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from nnunet_active.scoring.class_mean import ClassMeanRecorder


class Toy(nn.Module):
    """Features are the 2x2(x2) block means of channel 0 (and their negative); the logits are the image itself."""

    def __init__(self, dimensions: int = 3) -> None:
        super().__init__()
        self.encoder = nn.Identity()
        self.pool = nn.AvgPool3d(2) if dimensions == 3 else nn.AvgPool2d(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pooled = self.pool(x[:, :1])
        self.encoder(torch.cat([pooled, -pooled], 1))
        return x


def by_loops(x: np.ndarray, regions: bool) -> np.ndarray:
    """Every voxel votes for its class with the features of its cell."""
    classes = x.shape[1]
    total, weight = np.zeros((classes, 2)), np.zeros(classes)
    for batch, *voxel in np.ndindex(x.shape[0], *x.shape[2:]):
        cell = tuple(slice(2 * (i // 2), 2 * (i // 2) + 2) for i in voxel)
        feature = x[(batch, 0, *cell)].mean()
        values = x[(batch, slice(None), *voxel)]
        for c in np.flatnonzero(values > 0) if regions else [int(values.argmax())]:
            total[c] += feature, -feature
            weight[c] += 1
    return total / np.maximum(weight, 1)[:, None]


@pytest.mark.parametrize("regions", [False, True])
@pytest.mark.parametrize("shape", [(1, 3, 4, 4, 4), (2, 3, 4, 6)])
def test_it_is_the_mean_of_the_features_over_the_voxels_of_a_class(shape, regions):
    network = Toy(len(shape) - 2)
    passes = [torch.randn(shape) for _ in range(2)]
    with ClassMeanRecorder(network, regions) as recorder:
        for x in passes:
            network(x)
    found = recorder.class_mean(np.ones(3))
    assert found.shape == (3, 2) and found.dtype == np.float32
    np.testing.assert_allclose(found, by_loops(torch.cat(passes).numpy(), regions), rtol=1e-4, atol=1e-5)
    network(passes[0])  # outside of the context nothing is recorded
    np.testing.assert_array_equal(recorder.class_mean(np.ones(3)), found)


def test_a_class_without_a_voxel_is_zero_and_one_that_only_the_merged_map_holds_has_the_mean_of_all():
    network, x = Toy(), torch.randn(1, 3, 4, 4, 4)
    x[:, 1:] = -100
    with ClassMeanRecorder(network) as recorder:
        network(x)
    everywhere = float(x[:, 0].mean())
    found = recorder.class_mean(np.array([64, 0, 5]))
    np.testing.assert_allclose(found, [[everywhere, -everywhere], [0, 0], [everywhere, -everywhere]], atol=1e-5)


def test_without_a_pass_or_an_encoder_it_says_so():
    with ClassMeanRecorder(Toy()) as recorder:
        pass
    with pytest.raises(ValueError, match="not run"):
        recorder.class_mean(np.ones(3))
    with pytest.raises(ValueError, match=r"no \.encoder"):
        ClassMeanRecorder(nn.Conv3d(1, 1, 1))
