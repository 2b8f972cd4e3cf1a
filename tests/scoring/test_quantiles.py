from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import wasserstein_distance

from nnunet_active.scoring.quantiles import quantile_integrals

finite = st.floats(-1e3, 1e3)


@pytest.mark.parametrize("n, m", [(1, 1), (7, 5), (1000, 1000), (4096, 12288)])
def test_heavy_tails_and_unequal_sample_sizes_stay_within_half_a_percent(n: int, m: int) -> None:
    rng = np.random.default_rng(n)
    a, b = rng.standard_t(3, n), 1.3 * rng.standard_t(3, m)
    ours = np.abs(quantile_integrals(a, 2048) - quantile_integrals(b, 2048)).mean()
    assert ours == pytest.approx(wasserstein_distance(a, b), rel=0.005)


@given(
    arrays(np.float64, st.integers(1, 30), elements=finite),
    arrays(np.float64, st.integers(1, 30), elements=finite),
    st.integers(1, 64),
)
def test_the_binned_distance_is_never_above_the_exact_one_and_keeps_the_mean(
    a: np.ndarray, b: np.ndarray, bins: int
) -> None:
    binned_a, binned_b = quantile_integrals(a, bins), quantile_integrals(b, bins)
    assert np.abs(binned_a - binned_b).mean() <= wasserstein_distance(a, b) + 1e-9
    assert binned_a.mean() == pytest.approx(a.mean(), abs=1e-9)


def test_two_point_distributions_that_do_not_cross_are_exact_with_any_number_of_bins() -> None:
    a, b = np.array([0.0, 1.0, 1.0]), np.array([2.0, 5.0])
    for bins in (1, 3, 10):
        ours = np.abs(quantile_integrals(a, bins) - quantile_integrals(b, bins)).mean()
        assert ours == pytest.approx(3.5 - 2 / 3)
