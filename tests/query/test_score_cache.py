from __future__ import annotations

import os

import numpy as np
import pytest

from nnunet_active.query import score_cache
from nnunet_active.query.score_cache import NETWORKS_KEPT, ScoreCache
from nnunet_active.util.errors import BadCaseIdentifier

A, B = "a" * 32, "b" * 32
STATE = (1234, 1_700_000_000_123_456_789)
SCALARS = {"mean_entropy": 0.1 + 0.2, "confidence": float("nan")}


@pytest.fixture
def cache(tmp_path):
    return ScoreCache(tmp_path / "scores")


def arrays():
    return {"embedding": np.arange(4, dtype=np.float32) / 3, "class_volume": np.array([7, 0, 2**40])}


def test_what_is_kept_comes_back_bit_by_bit(cache):
    cache.add(A, "case 1.2", STATE, SCALARS, arrays())
    entry = cache.get(A, "case 1.2", STATE)
    assert entry.scalars["mean_entropy"] == 0.1 + 0.2 and np.isnan(entry.scalars["confidence"])
    for name, values in arrays().items():
        assert entry.arrays[name].dtype == values.dtype
        np.testing.assert_array_equal(entry.arrays[name], values)


def test_an_entry_is_of_one_network_one_case_and_one_state_of_the_image(cache):
    cache.add(A, "x", STATE, SCALARS, arrays())
    assert cache.get(B, "x", STATE) is None
    assert cache.get(A, "y", STATE) is None
    assert cache.get(A, "x", (STATE[0] + 1, STATE[1])) is None
    assert cache.get(A, "x", (STATE[0], STATE[1] + 1)) is None


def test_later_scores_join_the_earlier_ones_unless_the_image_changed(cache):
    cache.add(A, "x", STATE, SCALARS, arrays())
    cache.add(A, "x", STATE, {"mutual_information": 0.5}, {"class_mean": np.ones((2, 2))})
    entry = cache.get(A, "x", STATE)
    assert entry.scalars.keys() == {*SCALARS, "mutual_information"} and entry.arrays.keys() == {*arrays(), "class_mean"}
    changed = (9, 9)
    cache.add(A, "x", changed, {"mutual_information": 0.7}, {})
    assert cache.get(A, "x", changed).scalars == {"mutual_information": 0.7} and cache.get(A, "x", STATE) is None


def test_of_many_arrays_only_those_that_are_wanted_are_read(cache):
    cache.add(A, "x", STATE, SCALARS, {**arrays(), "class_mean": np.ones((2, 2))})
    entry = cache.get(A, "x", STATE, ["class_mean", "unknown"])
    assert entry.scalars.keys() == SCALARS.keys() and list(entry.arrays) == ["class_mean"]
    assert cache.get(A, "x", STATE, []).arrays == {}


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 half a zip", b"nonsense"])
def test_a_damaged_entry_is_as_good_as_none_and_is_replaced(cache, content):
    cache.add(A, "x", STATE, SCALARS, arrays())
    (cache.folder / A / "x.npz").write_bytes(content)
    assert cache.get(A, "x", STATE) is None
    cache.add(A, "x", STATE, SCALARS, arrays())
    assert cache.get(A, "x", STATE) is not None


def test_every_truncation_of_an_entry_is_as_good_as_none(cache):
    cache.add(A, "x", STATE, SCALARS, arrays())
    file = cache.folder / A / "x.npz"
    whole = file.read_bytes()
    for length in range(0, len(whole), 37):
        file.write_bytes(whole[:length])
        assert cache.get(A, "x", STATE) is None


def test_entries_of_other_formulas_do_not_count(cache, monkeypatch):
    cache.add(A, "x", STATE, SCALARS, arrays())
    monkeypatch.setattr(score_cache, "FORMAT", score_cache.FORMAT + 1)
    assert cache.get(A, "x", STATE) is None


def test_a_pickled_object_is_never_loaded(cache, tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "evil"),)

    file = cache.folder / A / "x.npz"
    file.parent.mkdir(parents=True)
    with file.open("wb") as stream:
        np.savez(stream, format=np.array(Evil(), dtype=object), state=np.array(STATE))
    assert cache.get(A, "x", STATE) is None and not (tmp_path / "evil").exists()


def test_a_disk_that_cannot_be_written_stops_nothing(tmp_path):
    (tmp_path / "scores").write_text("a file where the folder should be")
    cache = ScoreCache(tmp_path / "scores")
    cache.add(A, "x", STATE, SCALARS, arrays())
    cache.keep(A)
    cache.used(A)
    assert cache.get(A, "x", STATE) is None and cache.prune() == []


def test_an_identifier_cannot_leave_the_folder(cache):
    for digest, case in ((A, "../x"), ("..", "x"), ("a/b", "x")):
        with pytest.raises(BadCaseIdentifier):
            cache.get(digest, case, STATE)


def test_pruning_leaves_the_source_and_the_newest(cache):
    digests = [character * 32 for character in "0123456"]
    for age, digest in enumerate(digests):
        cache.add(digest, "x", STATE, SCALARS, {})
        if digest == digests[0]:
            cache.keep(digest)
        os.utime(cache.folder / digest, ns=(10**9 * age, 10**9 * age))
    cache.used(digests[1])  # asked again just now
    gone = cache.prune()
    assert sorted(gone) == digests[2:4] and NETWORKS_KEPT == 4
    assert sorted(child.name for child in cache.folder.iterdir()) == [*digests[:2], *digests[4:]]
    assert cache.get(digests[0], "x", STATE) is not None


def test_pruning_where_there_is_nothing_does_nothing(cache):
    assert cache.prune() == []
