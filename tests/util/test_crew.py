"""The processes of a crew as threads that share a store; real processes are in tests/rounds/test_together.py."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import numpy as np
import pytest
from torch import distributed

from nnunet_active.util import crew as module
from nnunet_active.util.crew import Crew, CrewBroken

ITEMS = [f"case_{i}" for i in range(7)]
done_by: Counter = Counter()
first_of: dict[str, threading.Event] = {}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(module, "PULSE", 0.05)
    monkeypatch.setattr(module, "_LOOK", 0.01)
    done_by.clear()


@pytest.fixture
def soon_dead(monkeypatch):
    """Only where somebody dies: on a busy machine the living are silent for as long."""
    monkeypatch.setattr(module, "DEAD_AFTER", 0.5)
    monkeypatch.setattr(module, "_FAREWELL", 0.2)


@dataclass
class Doubled:
    """Says an item twice; notes who did it."""

    payload: np.ndarray = field(default_factory=lambda: np.zeros(1))
    queues = False

    def load(self, item: str) -> str:
        return item

    def begin(self, item: str, loaded: str) -> Callable[[], str]:
        return lambda: self.result(item, loaded)

    def result(self, item: str, loaded: str) -> str:
        done_by[threading.current_thread().name, item] += 1
        return f"{loaded} {item}"


@dataclass
class FirstOfOthers(Doubled):
    """The first item that another than the leader takes may have a fate of its own; until then the leader waits."""

    fate: str = ""

    def result(self, item: str, loaded: str) -> str:
        if threading.current_thread() is threading.main_thread():
            assert first_of["taken"].wait(20)
        elif not first_of["taken"].is_set():
            first_of["taken"].set()
            if self.fate == "slow":
                assert first_of["rest"].wait(20)
            elif self.fate == "killed":
                raise SystemExit
            elif self.fate == "no memory":
                raise MemoryError
        return super().result(item, loaded)


@contextmanager
def crew(helpers: int = 1):
    """The leader, with others at work in threads; yields it with what they ended with."""
    store, ends = distributed.HashStore(), {}

    def helper(number: int) -> None:
        with Crew(store, number, helpers + 1, print) as one:
            try:
                ends[number] = one.help()
            except CrewBroken as error:
                ends[number] = str(error)

    threads = [threading.Thread(target=helper, args=(number,), name=str(number)) for number in range(1, helpers + 1)]
    said: list[str] = []
    with Crew(store, 0, helpers + 1, said.append) as leader:
        for thread in threads:
            thread.start()
        first_of.update(taken=threading.Event(), rest=threading.Event())
        try:
            yield leader, ends, said
        finally:
            for thread in threads:
                thread.join(20)
                assert not thread.is_alive()


@pytest.mark.parametrize("helpers", [0, 1, 3])
def test_every_item_is_done_once_and_the_exit_code_is_the_leaders(helpers):
    with crew(helpers) as (leader, ends, _):
        for _ in range(3):
            done_by.clear()
            assert leader.each(Doubled(), ITEMS) == {item: f"{item} {item}" for item in ITEMS}
            assert sorted(item for _, item in done_by.elements()) == ITEMS
        assert leader.each(Doubled(), []) == {} and leader.each(Doubled(), ["a"]) == {"a": "a a"}
        leader.end(3)
    assert ends == dict.fromkeys(range(1, helpers + 1), 3)


def test_to_its_callers_the_leader_is_alone_but_for_the_work():
    with crew(2) as (leader, _, _):
        assert (leader.rank, leader.world, leader.shared) == (0, 1, False)
        assert leader.decide(lambda: 5) == 5 and leader.gather(7) == [7] and list(leader.mine(ITEMS)) == ITEMS
        leader.end(0)


def test_while_plenty_is_left_the_next_item_is_taken_early_and_all_are_done_once(monkeypatch):
    items, most = [f"case_{number}" for number in range(60)], []
    hold = Crew._hold

    def noted(self, job, held):
        if not self.leads:
            most.append(len(held))
        hold(self, job, held)

    monkeypatch.setattr(Crew, "_hold", noted)
    with crew() as (leader, _, _):
        assert leader.each(FirstOfOthers(), items) == {item: f"{item} {item}" for item in items}
        leader.end(0)
    assert sum(done_by.values()) == 60 and max(most) == 2


def test_a_slow_item_holds_nobody_up():
    with crew() as (leader, _, said):
        real = leader._lost

        def lost(*given):
            first_of["rest"].set()  # the leader has done all the others, and waits
            yield from real(*given)

        leader._lost = lost
        found = leader.each(FirstOfOthers(fate="slow"), ITEMS)
        leader.end(0)
    assert list(found) == ITEMS and sum(done_by.values()) == len(ITEMS)
    assert sum(number for (who, _), number in done_by.items() if who == "1") == 1 and not said


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_the_item_of_one_that_dies_is_done_by_the_leader(soon_dead):
    with crew() as (leader, ends, said):
        assert list(leader.each(FirstOfOthers(fate="killed"), ITEMS)) == ITEMS
        leader.end(0)
    assert ends == {} and sum(done_by.values()) == len(ITEMS)
    assert len(said) == 1 and "is gone; it is done again" in said[0]


def test_one_that_cannot_go_on_ends_the_command_with_its_reason():
    with crew() as (leader, ends, _):
        with pytest.raises(CrewBroken, match=r"Process 1 of 2 could not go on: There is not enough memory"):
            leader.each(FirstOfOthers(fate="no memory"), ITEMS)
        leader.end(1)
    assert ends == {1: 1}


def test_without_a_leader_the_others_end_and_one_of_them_says_why(soon_dead):
    store, said = distributed.HashStore(), []
    with Crew(store, 0, 3, print):
        pass
    for number in (1, 2):
        with (
            Crew(store, number, 3, said.append) as helper,
            pytest.raises(CrewBroken, match="leads this command is gone"),
        ):
            helper.help()
    assert len(said) == 1 and "the same command goes on where it was" in said[0]


def test_work_that_cannot_be_sent_is_done_by_the_leader_alone():
    with crew() as (leader, _, said):
        work = Doubled()
        work.load = lambda item: item
        assert list(leader.each(work, ITEMS)) == ITEMS
        leader.end(0)
    assert {who for who, _ in done_by} == {"MainThread"} and "cannot be handed to the other processes" in said[0]


def test_work_and_results_that_are_larger_than_the_store_takes_go_in_parts():
    store = distributed.TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
    content = np.random.default_rng(0).bytes(10 << 20)
    with Crew(store, 0, 2, print) as one:
        one._put("key", content)
        assert one._get("other") is None and one._get("key") == content
        assert one._get("key", forget=True) == content and one._get("key") is None
        assert store.num_keys() <= 3  # the pulse, and what the store itself keeps


def test_one_that_comes_late_finds_no_old_work():
    store = distributed.HashStore()
    with Crew(store, 0, 2, print) as leader:
        assert list(leader.each(Doubled(), ITEMS)) == ITEMS
        leader.end(0)
        with Crew(store, 1, 2, print) as late:
            assert late.help() == 0
    assert sum(done_by.values()) == len(ITEMS)


def test_work_that_is_forgotten_while_it_is_read_is_as_good_as_done():
    class ForgottenMeanwhile(distributed.HashStore):
        def compare_set(self, key, *values):
            found = super().compare_set(key, *values)
            if key == "job_1_part_0":
                self.delete_key("job_1_part_1")
            return found

    store = ForgottenMeanwhile()
    store.set_timeout(timedelta(seconds=1))
    with Crew(store, 0, 2, print) as one:
        one._put("job_1", bytes(module._PART + 1))
        assert one._get("job_1") is None


def test_once_the_command_has_ended_nobody_takes_another_item():
    with Crew(distributed.HashStore(), 0, 1, print) as leader:
        claimed = leader._claimed("job_1", ITEMS)
        assert next(claimed) == ITEMS[0]
        leader.end(1)
        assert list(claimed) == []


def test_work_that_is_forgotten_right_after_a_look_at_it_is_not_waited_for():
    class ForgottenAfterTheLook(distributed.HashStore):
        def check(self, keys):
            seen = super().check(keys)
            for key in keys:
                self.delete_key(key)
            return seen

    store = ForgottenAfterTheLook()
    store.set_timeout(timedelta(seconds=1))
    with Crew(store, 0, 2, print) as one:
        one._put("job_1", b"content")
        assert one._get("job_1") in (None, b"content")


@pytest.mark.parametrize("part", ["key", "key_part_0"])
def test_what_is_gone_in_part_is_not_there(part):
    with Crew(distributed.HashStore(), 0, 1, print) as one:
        one._put("key", b"content")
        assert one._get("key") == b"content"
        one.store.delete_key(part)
        assert one._get("key") is None
