from __future__ import annotations

import pickle
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from ranks_of_a_test import on_ranks

from nnunet_active.util.errors import CampaignError
from nnunet_active.util.ranks import Ranks, all_are_leaving, run_through

WORLD = 2
ITEMS = list("abcdefg")


class OddError(Exception):
    """Cannot be unpickled, because its arguments are not those of Exception."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(first)


class Counted:
    """Counts how often it is packed."""

    packed = 0

    def __getstate__(self) -> dict:
        Counted.packed += 1
        return {"value": 1}


class Unreadable:
    """Can be packed, and not unpacked."""

    def __setstate__(self, state: dict) -> None:
        raise ValueError("written by somebody else")

    def __getstate__(self) -> dict:
        return {"value": 1}


def raised_by(ranks: Ranks, error: BaseException) -> BaseException | None:
    def action() -> None:
        raise error

    try:
        ranks.decide(action)
    except BaseException as caught:
        return caught
    return None


class FailingOn:
    """Cannot read one of the items."""

    queues = False

    def __init__(self, bad: str) -> None:
        self.bad = bad

    def load(self, item: str) -> str:
        if item == self.bad:
            raise CampaignError(f"{item} is damaged")
        return item

    def begin(self, item: str, loaded: str) -> Callable[[], str]:
        return lambda: loaded


def work(rank: int, folder: Path) -> None:
    ranks = Ranks()
    decided_by: list[int] = []
    result = {
        "rank": (ranks.rank, ranks.world, ranks.shared),
        "mine": list(ranks.mine(ITEMS)),
        "share of none": list(ranks.mine([])),
        "gathered": ranks.gather({"rank": rank, "items": ranks.mine(ITEMS)}),
        "gathered none": ranks.gather(None),
        "decided": ranks.decide(lambda: decided_by.append(rank) or {"by": rank}),
        "decided by": decided_by,
        "decided none": ranks.decide(lambda: None),
    }
    for name, error in (
        ("error", CampaignError("in use by another process")),
        ("interrupt", KeyboardInterrupt()),
        ("odd error", OddError("one", "two")),
    ):
        caught = raised_by(ranks, error)
        result[name] = (type(caught).__name__, str(caught))
    try:
        ranks.decide(lambda: lambda: None)  # a function inside a function cannot be sent
        result["odd value"] = None
    except RuntimeError as caught:
        result["odd value"] = str(caught)
    for name, ask in (("each", ranks.from_each), ("decided", ranks.decide)):
        try:
            ask(Unreadable)
        except RuntimeError as caught:
            result[f"unreadable, {name}"] = str(caught)
        Counted.packed = 0
        ask(Counted)
        result[f"packed, {name}"] = Counted.packed
    state, seen = folder / "state", []

    def read() -> None:
        time.sleep(0.3 * rank)  # the others are late
        seen.append(state.read_text())

    def fail_elsewhere() -> None:
        if rank == 1:
            raise CampaignError("damaged here")

    ranks.decide(lambda: state.write_text("first"))
    ranks.together(read)
    ranks.decide(lambda: state.write_text("second"))
    result["read together"] = seen
    try:
        ranks.together(fail_elsewhere)
    except CampaignError as caught:
        result["failed elsewhere"] = str(caught)
    result["from each"] = ranks.from_each(lambda: rank * 10)
    try:
        ranks.each(FailingOn("d"), ITEMS)  # an item of rank 1
    except CampaignError as caught:
        result["failed item"] = str(caught)
    result["goes on"] = ranks.gather(rank)
    (folder / f"rank_{rank}").write_bytes(pickle.dumps(result))


@pytest.fixture(scope="module")
def both(tmp_path_factory) -> list[dict]:
    folder = tmp_path_factory.mktemp("ranks")
    on_ranks(work, folder, WORLD)
    return [pickle.loads((folder / f"rank_{rank}").read_bytes()) for rank in range(WORLD)]


def test_each_rank_knows_itself(both):
    assert [result["rank"] for result in both] == [(0, 2, True), (1, 2, True)]


def test_the_shares_are_disjoint_and_complete(both):
    shares = [result["mine"] for result in both]
    assert sorted(shares[0] + shares[1]) == ITEMS
    assert abs(len(shares[0]) - len(shares[1])) <= 1
    assert [result["share of none"] for result in both] == [[], []]


def test_gathered_values_come_in_rank_order_on_every_rank(both):
    assert both[0]["gathered"] == both[1]["gathered"]
    assert [part["rank"] for part in both[0]["gathered"]] == [0, 1]
    assert [part["items"] for part in both[0]["gathered"]] == [result["mine"] for result in both]
    assert both[0]["gathered none"] == both[1]["gathered none"] == [None, None]


def test_rank_0_alone_decides_and_all_follow(both):
    assert [result["decided"] for result in both] == [{"by": 0}, {"by": 0}]
    assert [result["decided by"] for result in both] == [[0], []]
    assert [result["decided none"] for result in both] == [None, None]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("error", ("CampaignError", "in use by another process")),
        ("interrupt", ("KeyboardInterrupt", "")),
        ("odd error", ("RuntimeError", "rank 0 cannot tell the other processes of OddError('one')")),
    ],
)
def test_an_error_of_rank_0_is_raised_on_every_rank(both, name, expected):
    assert [result[name] for result in both] == [expected, expected]


def test_a_result_that_cannot_be_sent_is_an_error_everywhere_instead_of_a_wait_for_ever(both):
    assert all(result["odd value"].startswith("rank 0 cannot tell the other processes") for result in both)
    assert [result["goes on"] for result in both] == [[0, 1], [0, 1]]


def test_a_result_is_packed_once_and_one_that_cannot_be_read_is_an_error_everywhere(both):
    assert [result["packed, each"] for result in both] == [1, 1]
    assert [result["packed, decided"] for result in both] == [1, 0]
    said = "rank 0 cannot tell the other processes of its outcome: written by somebody else"
    assert {result[f"unreadable, {name}"] for result in both for name in ("each", "decided")} == {said}


def test_rank_0_writes_no_more_until_all_have_read(both):
    assert [result["read together"] for result in both] == [["first"], ["first"]]
    assert [result["failed elsewhere"] for result in both] == ["damaged here", "damaged here"]


def test_what_fails_on_one_rank_is_raised_on_all_by_its_name(both):
    assert [result["from each"] for result in both] == [[0, 10], [0, 10]]
    assert [result["failed item"] for result in both] == ["d is damaged", "d is damaged"]


def test_one_process_does_everything_itself():
    ranks = Ranks()
    assert (ranks.rank, ranks.world, ranks.shared) == (0, 1, False)
    assert ranks.mine(ITEMS) == ITEMS and ranks.gather("x") == ["x"]
    assert ranks.decide(lambda: 5) == 5
    error = OddError("one", "two")
    assert raised_by(ranks, error) is error


class Noting:
    """Notes what happens in which order; holds what is read until it is worked on."""

    queues = False

    def __init__(self) -> None:
        self.said: list[str] = []
        self.was_read = {item: threading.Event() for item in ("a", "b", "c", "d", "bad")}

    def load(self, item: str) -> str:
        self.said.append(f"read {item}")
        self.was_read[item].set()
        if item == "bad":
            raise OSError("no such file")
        return item.upper()

    def begin(self, item: str, loaded: str) -> Callable[[], str]:
        self.said.append(f"begin {item}")
        return lambda: self.result(item, loaded)

    def result(self, item: str, loaded: str) -> str:
        return loaded


@pytest.mark.parametrize("on_a_gpu", [False, True])
def test_the_next_item_is_read_while_the_current_one_is_sent_to_the_gpu_and_worked_on(on_a_gpu):
    class Waiting(Noting):
        queues = on_a_gpu

        def begin(self, item: str, loaded: str) -> Callable[[], str]:
            following = {"a": "b", "b": "c"}.get(item)
            assert following is None or self.was_read[following].wait(10), "it was not read ahead"
            return super().begin(item, loaded)

    work = Waiting()
    found = run_through(work, ["a", "b", "c"])
    assert next(found) == ("a", "A") and ("read c" in work.said) == on_a_gpu
    assert list(found) == [("b", "B"), ("c", "C")]
    if not on_a_gpu:
        assert work.said == ["read a", "read b", "begin a", "read c", "begin b", "begin c"]


class OnAGPU(Noting):
    """Queues its work; says when a result is awaited."""

    queues = True

    def result(self, item: str, loaded: str) -> str:
        self.said.append(f"wait for {item}")
        return loaded


def test_on_a_gpu_the_next_item_is_queued_before_the_current_one_is_awaited():
    work = OnAGPU()
    assert list(run_through(work, ["a", "b", "c"])) == [("a", "A"), ("b", "B"), ("c", "C")]
    begun = [one for one in work.said if not one.startswith("read")]
    assert begun == ["begin a", "begin b", "wait for a", "begin c", "wait for b", "wait for c"]


def test_three_items_are_held_at_most():
    work = OnAGPU()
    found = run_through(work, ["a", "b", "c", "d"])
    assert next(found) == ("a", "A") and work.was_read["c"].wait(10)
    assert "read d" not in work.said
    assert [item for item, _ in found] == ["b", "c", "d"]


@pytest.mark.parametrize("kind", [Noting, OnAGPU])
def test_an_item_that_cannot_be_read_fails_in_its_turn(kind):
    work, done = kind(), []
    with pytest.raises(OSError, match="no such file"):
        for item, _ in run_through(work, ["a", "bad", "b"]):
            done.append(item)
    assert done == ["a"] and (work.queues or "read b" not in work.said)


@pytest.mark.parametrize("kind", [Noting, OnAGPU])
def test_where_others_ask_as_well_nothing_is_taken_early(kind):
    work, taken = kind(), []

    def items():
        for item in ("a", "b"):
            taken.append(item)
            yield item

    found = run_through(work, items(), early=lambda: False)
    assert next(found) == ("a", "A") and taken == ["a", "b"][: 1 + work.queues]
    assert list(found) == [("b", "B")]
    assert list(run_through(work, [])) == []


def leave_alone(rank: int, folder: Path) -> None:
    start = time.monotonic()
    if rank == 1:
        (folder / "waited").write_text(str((all_are_leaving(1.0), time.monotonic() - start < 5)))


def leave_together(rank: int, folder: Path) -> None:
    time.sleep(0.5 * rank)
    (folder / f"left_{rank}").write_text(str(all_are_leaving(60.0)))


def test_a_process_that_ends_alone_waits_for_the_others_for_a_while_and_no_longer(tmp_path):
    on_ranks(leave_alone, tmp_path, WORLD)
    assert (tmp_path / "waited").read_text() == "(False, True)"


def test_processes_that_all_end_wait_for_the_slowest(tmp_path):
    on_ranks(leave_together, tmp_path, WORLD)
    assert [(tmp_path / f"left_{rank}").read_text() for rank in range(WORLD)] == ["True"] * WORLD
    assert all_are_leaving()  # one process has nobody to wait for
