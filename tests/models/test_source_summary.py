from __future__ import annotations

import numpy as np
import pytest

from nnunet_active.models.source_summary import read_summary, summarise, write_summary
from nnunet_active.util.errors import ActiveError, IncompatibleSource, MissingInput

DIGEST = "d" * 32


def groups(*sizes: int, d: int = 5, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.concatenate([10 * i + rng.normal(size=(size, d)) for i, size in enumerate(sizes)])


def test_clusters_that_are_there_are_found_the_largest_first():
    rows = groups(6, 9)
    summary = summarise(rows, DIGEST, "3d_fullres", clusters=2)
    assert summary.counts.tolist() == [9, 6]
    np.testing.assert_allclose(summary.centroids, [rows[6:].mean(0), rows[:6].mean(0)], rtol=1e-5)
    assert summary.centroids.dtype == summary.covariances.dtype == np.float32
    for covariance in summary.covariances:
        np.testing.assert_allclose(covariance, covariance.T, rtol=1e-6)
        assert np.linalg.eigvalsh(covariance).min() > 0, "shrunk: of full rank, also with fewer cases than features"


def test_the_covariance_lies_between_the_sample_one_and_a_multiple_of_the_identity():
    rows = groups(400, d=3) * [1, 2, 3]
    covariance = summarise(rows, DIGEST, "2d", clusters=1).covariances[0]
    np.testing.assert_allclose(covariance, np.cov(rows.T, bias=True), atol=0.5)
    few = summarise(rows[:3], DIGEST, "2d").covariances[0]
    sample = np.cov(rows[:3].T, bias=True)
    assert np.trace(few) == pytest.approx(np.trace(sample), rel=1e-5)
    assert np.linalg.eigvalsh(few).min() > np.linalg.eigvalsh(sample).min()


def test_a_cluster_of_fewer_cases_than_the_floor_is_not_written():
    rows = groups(12, 2)
    summary = summarise(rows, DIGEST, "2d", clusters=2)
    assert summary.counts.tolist() == [12]
    np.testing.assert_allclose(summary.centroids[0], rows[:12].mean(0), rtol=1e-5)
    assert summarise(groups(12, 5), DIGEST, "2d", clusters=2, minimum=6).counts.tolist() == [12]


@pytest.mark.parametrize("n", [3, 4, 5, 7, 11, 40, 200])
def test_whatever_the_number_of_cases_no_cluster_falls_below_the_floor(n):
    for clusters in (None, 1, 8, 1000):
        counts = summarise(groups(n, d=4, seed=n), DIGEST, "2d", clusters).counts
        assert counts.min() >= 3 and counts.sum() <= n


def test_the_order_of_the_cases_leaves_no_trace(tmp_path):
    rows = groups(9, 7, 8)
    files = []
    for i, order in enumerate((np.arange(24), np.random.default_rng(1).permutation(24))):
        files.append(tmp_path / f"{i}.npz")
        write_summary(summarise(rows[order], DIGEST, "2d", 3), files[-1])
    assert files[0].read_bytes() == files[1].read_bytes()


def test_identical_cases_are_one_cluster():
    summary = summarise(np.ones((6, 4)), DIGEST, "2d", clusters=2)
    assert summary.counts.tolist() == [6] and np.isfinite(summary.covariances).all()


@pytest.mark.parametrize(
    ("rows", "how", "said"),
    [
        (np.ones((2, 4)), {}, "at least 3 cases, found 2"),
        (np.ones((0, 0)), {}, "found 0"),
        (np.full((5, 4), np.nan), {}, "NaN"),
        (np.ones((9, 4)), {"minimum": 2}, "the floor is 3"),
        (np.ones((9, 4)), {"minimum": 10}, "at least 10"),
    ],
)
def test_what_cannot_be_summarised_is_said(rows, how, said):
    with pytest.raises(ActiveError, match=said):
        summarise(rows, DIGEST, "2d", **how)


def test_the_file_holds_these_names_and_no_others_and_comes_back(tmp_path):
    summary = summarise(groups(9, 7), DIGEST, "3d_fullres", 2)
    file = tmp_path / "source_summary.npz"
    write_summary(summary, file)
    with np.load(file) as content:
        assert set(content.files) == {
            "format",
            "centroids",
            "covariances",
            "counts",
            "digest",
            "configuration",
            "minimum",
        }
    back = read_summary(file, DIGEST)
    assert back.digest == DIGEST and back.configuration == "3d_fullres" and back.minimum == 3
    for name, values in summary.arrays().items():
        np.testing.assert_array_equal(back.arrays()[name], values)


def test_a_summary_of_another_network_is_refused(tmp_path):
    write_summary(summarise(groups(9), DIGEST, "2d"), tmp_path / "s.npz")
    with pytest.raises(IncompatibleSource, match="another network"):
        read_summary(tmp_path / "s.npz", "e" * 32)


def test_what_is_no_summary_is_refused(tmp_path):
    file = tmp_path / "s.npz"
    with pytest.raises(MissingInput):
        read_summary(file)
    file.write_bytes(b"nonsense")
    with pytest.raises(ActiveError, match="not a source summary"):
        read_summary(file)
    summary = summarise(groups(9), DIGEST, "2d")
    write_summary(summary, file)
    with np.load(file) as content:
        good = dict(content)
    for changed in (
        {"centroids": np.ones(5)},
        {"covariances": np.ones((1, 5, 4))},
        {"centroids": np.full((1, 5), np.nan)},
        {"counts": np.ones((2, 2), dtype=int)},
    ):
        np.savez(file, **{**good, **changed})
        with pytest.raises(ActiveError, match="not a source summary"):
            read_summary(file)
    np.savez(file, **{**good, "format": np.array(99)})
    with pytest.raises(ActiveError, match="update nnunet_active"):
        read_summary(file)
