from __future__ import annotations

import pickle
import shutil

import numpy as np
import pytest
import tiny_source
import torch
from tiny_target import make_target

from nnunet_active.nnunet.ensemble_window import EnsembleWindow
from nnunet_active.nnunet.inference import SlidingWindow
from nnunet_active.query import pool_scoring
from nnunet_active.query.pool_scoring import ScoringWork, WhatToScore, score_cases
from nnunet_active.query.score_cache import ScoreCache
from nnunet_active.scoring.statistics import score_logits
from nnunet_active.util.ranks import Ranks

EVERYTHING = WhatToScore(ensemble=True, class_mean=True, entropy_histogram=True)


class CountingWindow(SlidingWindow):
    """A real one that counts its passes, and can be told when to give up."""

    def __init__(self, *args, **how) -> None:
        super().__init__(*args, **how)
        self.passes = 0
        self.until = None

    def stream(self, *what, **how):
        if self.until is not None and self.passes >= self.until:
            raise KeyboardInterrupt
        self.passes += 1
        return super().stream(*what, **how)


def window_of(seed: int = 0) -> CountingWindow:
    source = tiny_source.source_model()
    network = tiny_source.random_network(source.plans, "3d_fullres", source.dataset_json, seed)
    return CountingWindow(network, source.plans, "3d_fullres", source.dataset_json, torch.device("cpu"))


@pytest.fixture
def scored(nnunet_folders):
    return make_target(nnunet_folders, labelled=2, unlabelled=2), window_of()


def assert_equal(one, other):
    assert one.table.equals(other.table) and list(one.table.columns) == list(other.table.columns)
    assert one.arrays.keys() == other.arrays.keys()
    for name, values in one.arrays.items():
        np.testing.assert_array_equal(values, other.arrays[name])


def test_every_case_gets_a_row_whose_numbers_are_those_of_its_own_pass(scored):
    target, window = scored
    pool = score_cases(window, target.store, ["case_3", "case_0"])
    assert list(pool.table.index) == ["case_0", "case_3"]
    alone = score_logits(window.logits(target.store.load_image("case_3")), 1.5**3)
    assert pool.table.loc["case_3"].to_dict() == pytest.approx(alone.scalars, nan_ok=True)
    assert pool.arrays["embedding"].shape == (2, 8)
    assert pool.problems == {}


def test_a_case_that_cannot_be_read_is_named_and_the_rest_goes_on(scored):
    target, window = scored
    (target.store.pool_folder / "case_2.b2nd").write_bytes(b"not an image")
    pool = score_cases(window, target.store, ["case_1", "case_2", "case_3"])
    assert list(pool.table.index) == ["case_1", "case_3"]
    assert "case_2" in pool.problems["case_2"]


def test_cases_queued_one_behind_the_other_as_on_a_gpu_get_the_same_scores(scored, monkeypatch):
    target, window = scored
    cases = target.store.identifiers()
    target.store.image_file("case_2").write_bytes(b"not an image")
    alone = score_cases(window, target.store, cases, EVERYTHING)
    order = []

    def queued(self, image, wanted):
        assert isinstance(image, torch.Tensor)
        order.append("sent")
        wait = self._send(image, wanted, 1.0)
        return lambda: order.append("awaited") or wait()

    monkeypatch.setattr(ScoringWork, "queues", True)
    monkeypatch.setattr(CountingWindow, "begin_score", queued)
    monkeypatch.setattr(pool_scoring, "send_ahead", lambda image, device: torch.from_numpy(image))
    behind = score_cases(window, target.store, cases, EVERYTHING)
    assert order == [
        "sent",
        "sent",
        "awaited",
        "awaited",
        "sent",
        "awaited",
    ]  # the second of the three good ones is followed by the bad one
    assert set(behind.problems) == set(alone.problems) == {"case_2"}
    assert_equal(behind, alone)


def test_a_withheld_label_is_never_opened_while_scoring(scored):
    target, window = scored
    poison = target.store.folder / "case_0_seg.b2nd"
    before = score_cases(window, target.store, ["case_0"], EVERYTHING)
    poison.write_bytes(b"poison")
    after = score_cases(window, target.store, ["case_0"], EVERYTHING)
    assert_equal(before, after)


def test_the_same_network_makes_no_second_pass_and_gives_the_same_bits(scored, tmp_path):
    target, window = scored
    cases, cache = target.store.identifiers(), ScoreCache(tmp_path / "scores")
    plain = score_cases(window, target.store, cases)
    first = score_cases(window, target.store, cases, cache=cache)
    assert first.forward_passes == 4 and window.passes == 8
    again = window_of()  # another process, the same network
    second = score_cases(again, target.store, cases, cache=cache)
    assert second.forward_passes == again.passes == 0
    assert_equal(first, plain)
    assert_equal(second, plain)


def test_only_what_a_question_needs_and_is_not_known_is_computed(scored, tmp_path):
    target, window = scored
    cases, cache = target.store.identifiers(), ScoreCache(tmp_path / "scores")
    score_cases(window, target.store, cases[:3], cache=cache)
    assert window.passes == 3
    score_cases(window, target.store, cases, cache=cache)
    assert window.passes == 4
    rich = score_cases(window, target.store, cases[:1], EVERYTHING, cache=cache)
    assert window.passes == 4 + 1 + 3  # the plain pass once, and one for each mirrored axis
    assert rich.arrays["class_mean"].shape == (1, 3, 8) and rich.arrays["entropy_histogram"].sum() == 16 * 20 * 18
    lean = score_cases(window, target.store, cases[:1], WhatToScore(embedding=False), cache=cache)
    assert window.passes == 8
    assert "mutual_information" not in lean.table and lean.arrays.keys() == {"class_volume"}


def test_a_changed_image_and_a_changed_network_are_scored_again(scored, tmp_path):
    target, window = scored
    cases, cache = target.store.identifiers(), ScoreCache(tmp_path / "scores")
    score_cases(window, target.store, cases, cache=cache)
    shutil.copyfile(target.store.image_file("case_1"), target.store.image_file("case_0"))
    changed = score_cases(window, target.store, cases, cache=cache)
    assert changed.forward_passes == 1
    assert changed.table.loc["case_0"].equals(changed.table.loc["case_1"])
    with torch.no_grad():
        window.network.decoder.seg_layers[-1].bias[1] += 1
    assert score_cases(window, target.store, cases, cache=cache).forward_passes == 4
    assert score_cases(window_of(1), target.store, cases, cache=cache).forward_passes == 4


def test_a_query_that_was_killed_goes_on_where_it_was(scored, tmp_path):
    target, window = scored
    cases, cache = target.store.identifiers(), ScoreCache(tmp_path / "scores")
    window.until = 3
    with pytest.raises(KeyboardInterrupt):
        score_cases(window, target.store, cases, cache=cache)
    resumed = window_of()
    assert_equal(
        score_cases(resumed, target.store, cases, cache=cache),
        score_cases(window_of(), target.store, cases),
    )
    assert resumed.passes == 1


def test_a_problem_is_not_kept_and_out_of_memory_is_nobodys_fault(scored, tmp_path, monkeypatch):
    target, window = scored
    cache = ScoreCache(tmp_path / "scores")
    file = target.store.image_file("case_2")
    whole = file.read_bytes()
    file.write_bytes(b"not an image")
    assert set(score_cases(window, target.store, ["case_2"], cache=cache).problems) == {"case_2"}
    file.write_bytes(whole)
    assert list(score_cases(window, target.store, ["case_2"], cache=cache).table.index) == ["case_2"]

    def full(*what, **how):
        raise RuntimeError("CUDA out of memory")

    monkeypatch.setattr(window, "stream", full)
    with pytest.raises(RuntimeError, match="out of memory"):
        score_cases(window, target.store, ["case_3"], cache=cache)


def test_the_gap_to_the_source_costs_its_pass_once_and_is_zero_for_the_source_itself(scored, tmp_path):
    target, window = scored
    cases, cache = target.store.identifiers(), ScoreCache(tmp_path / "scores")
    source, other = window_of(1), window_of(2)
    first = score_cases(window, target.store, cases, WhatToScore(source=source), cache=cache)
    assert (first.table["kl_source"] > 0).all() and source.passes == 4
    again = score_cases(window, target.store, cases, WhatToScore(source=source), cache=cache)
    assert source.passes == 4
    assert_equal(first, again)
    another = score_cases(window, target.store, cases, WhatToScore(source=other), cache=cache)
    assert (another.table["kl_source"] != first.table["kl_source"]).all() and other.passes == 4
    itself = score_cases(window, target.store, cases, WhatToScore(source=window_of()), cache=cache)
    assert (itself.table["kl_source"] == 0).all()


def test_an_ensemble_is_cached_as_one_network(scored, tmp_path):
    target, window = scored
    cases, cache = target.store.identifiers(), ScoreCache(tmp_path / "scores")
    members = [window, window_of(1)]
    first = score_cases(EnsembleWindow(members), target.store, cases, WhatToScore(ensemble=True), cache=cache)
    assert [member.passes for member in members] == [4, 4]
    assert (first.table["mutual_information"] > 0).all()
    again = score_cases(EnsembleWindow(members), target.store, cases, WhatToScore(ensemble=True), cache=cache)
    assert [member.passes for member in members] == [4, 4]
    assert_equal(first, again)


class TwoProcesses(Ranks):
    """What a process of two sees, for the shares of the work; the other one's part is given."""

    def __init__(self, rank: int, others: list) -> None:
        self.shared, self.world = True, 2
        self.rank, self.others = rank, others

    def gather(self, value):
        return [value, *self.others]

    def decide(self, action):
        return action()


def test_two_processes_share_the_unknown_cases_and_both_know_all_in_the_end(scored, tmp_path):
    target, window = scored
    cases, cache = target.store.identifiers(), ScoreCache(tmp_path / "scores")
    expected = score_cases(window, target.store, cases)
    score_cases(window, target.store, cases[:1], cache=cache)
    sent = []

    class Second(TwoProcesses):
        def gather(self, value):
            sent.append(value)
            return [value]

    # two caches: in one, the first process would find what the second one has just written
    shutil.copytree(cache.folder, tmp_path / "second")
    score_cases(window, target.store, cases, ranks=Second(1, []), cache=ScoreCache(tmp_path / "second"))
    assert list(pickle.loads(sent[0])[0]) == ["case_2"]
    whole = score_cases(window, target.store, cases, ranks=TwoProcesses(0, sent), cache=cache)
    assert_equal(whole, expected)
