"""Work shared out over the processes of a distributed training: rank 0 decides, all ranks follow."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any, Protocol, TypeVar

from torch import distributed
from tqdm import tqdm

from nnunet_active.util.progress import bar_is_shown

Item = TypeVar("Item")

PATIENCE = 10
"""Seconds for which a process that ends early waits for the others to do the same."""


class Work(Protocol):
    """The same work on many items, each by itself: what is read for it, and what is done with that."""

    def load(self, item: str) -> Any:
        """What :meth:`begin` needs from the disk."""

    def begin(self, item: str, loaded: Any) -> Callable[[], Any]:
        """Send the work on an item to where it is done; the function that is returned waits for the result, or does it all."""


def run_through(
    work: Work, items: Iterable[str], early: Callable[[], bool] = lambda: True
) -> Iterator[tuple[str, Any]]:
    """Each item with its result, one after the other; the next one is read while the current one is worked on, so two are held.

    The reading starts once the current item has begun: blosc2 reads with Python's lock, so that nothing could be sent to a GPU in the
    meantime (seen: reading and computing one after the other).

    Args:
        work: what to do with each item.
        items: may be an iterator that says late what comes next.
        early: whether to ask it for the next item before the current one is done; where others ask as well, that takes it from them.
    """
    coming = iter(items)
    with ThreadPoolExecutor(1, "read ahead") as reader:
        item = next(coming, None)
        read = None if item is None else reader.submit(work.load, item)
        while item is not None:
            finish = work.begin(item, read.result())
            read, following = None, next(coming, None) if early() else None
            if following is not None:
                read = reader.submit(work.load, following)
            result = finish()
            del finish  # and what was read
            yield item, result
            if following is None and (following := next(coming, None)) is not None:
                read = reader.submit(work.load, following)
            item = following


class Ranks:
    """The processes of ``-num_gpus N`` (one process: everything is done here).

    Every method must be called by all ranks in the same order, as all collective operations.
    """

    whole = True
    """Whether the processes see all items together."""

    def __init__(self) -> None:
        self.shared = distributed.is_available() and distributed.is_initialized()
        self.rank = distributed.get_rank() if self.shared else 0
        self.world = distributed.get_world_size() if self.shared else 1

    def mine(self, items: Sequence[Item]) -> Sequence[Item]:
        """This rank's share of ``items``: every N-th one, so that large and small cases are mixed."""
        return items[self.rank :: self.world]

    def only(self, items: Sequence[str]) -> Sequence[str]:
        """Those of ``items`` that these processes care about at all."""
        return items

    def each(self, work: Work, items: Sequence[str], description: str = "") -> dict[str, Any]:
        """The result of every item, on every rank.

        Args:
            work: what to do with each item.
            items: without repetition.
            description: what the progress bar says; a terminal shows one, a file of messages does not.
        """
        mine = self.mine(items)

        def do_mine() -> dict[str, Any]:
            done: dict[str, Any] = {}
            shown = bar_is_shown(self.rank == 0 and len(mine) > 0)
            with tqdm(total=len(mine), desc=description, disable=not shown) as bar:
                for item, result in run_through(work, mine):
                    done[item] = result
                    bar.update()
            return done

        return {item: result for part in self.from_each(do_mine) for item, result in part.items()}

    def gather(self, value: Any) -> list[Any]:
        """The values of all ranks, in rank order, on every rank."""
        if not self.shared:
            return [value]
        values: list[Any] = [None] * self.world
        distributed.all_gather_object(values, value)
        return values

    def from_each(self, action: Callable[[], Item]) -> list[Item]:
        """Run ``action`` on every rank; its results, in rank order, on every rank. What fails on one rank is raised on all of them."""
        if not self.shared:
            return [action()]
        outcome: list[Any] = [None, None]
        try:
            outcome[0] = action()
        except Exception as error:  # else the other ranks would wait for ever
            outcome[1] = error
        sent = self.gather(self._packed(outcome))
        outcomes = [_unpacked(one, rank) for rank, one in enumerate(sent)]
        for _, error in outcomes:
            if error is not None:
                raise error
        return [result for result, _ in outcomes]

    def together(self, action: Callable[[], Any]) -> None:
        """Run ``action`` on every rank, and go on once all have: it reads what rank 0 wrote, and rank 0 may write anew right after.

        What fails on one rank is raised on all of them.
        """
        self.from_each(action)

    def decide(self, action: Callable[[], Item]) -> Item:
        """Run ``action`` on rank 0 and return its result on every rank; an exception on rank 0 is raised on every rank."""
        if not self.shared:
            return action()
        outcome: list[Any] = [None, None]
        sent = [b""]
        if self.rank == 0:
            try:
                outcome[0] = action()
            except BaseException as error:  # else the other ranks would wait for ever
                outcome[1] = error
            sent = [self._packed(outcome)]
        distributed.broadcast_object_list(sent, src=0)
        result, error = _unpacked(sent[0], 0)
        if error is not None:
            raise error
        return result

    def _packed(self, outcome: list[Any]) -> bytes:
        """A result and an error, or that they cannot be sent: the sending itself would fail on one side."""
        try:
            packed = pickle.dumps(outcome)
            if outcome[1] is not None:
                pickle.loads(packed)  # one whose class takes other arguments cannot be read, and its text would be lost
            return packed
        except Exception:  # pickle raises quite different things
            what = outcome[1] if outcome[1] is not None else outcome[0]
            return pickle.dumps([None, RuntimeError(f"rank {self.rank} cannot tell the other processes of {what!r}")])


def _unpacked(sent: bytes, rank: int) -> list[Any]:
    """What a rank sent; also on that rank itself, so that what cannot be read fails on all of them alike."""
    try:
        return pickle.loads(sent)
    except Exception as error:
        return [None, RuntimeError(f"rank {rank} cannot tell the other processes of its outcome: {error}")]


def all_are_leaving(seconds: float = PATIENCE) -> bool:
    """To be called by a process that ends early: whether all others come here as well, each waited for so long and no longer.

    One that has failed alone must not wait for the others, which may be waiting for it.
    """
    ranks = Ranks()
    if not ranks.shared:
        return True
    store = distributed.distributed_c10d._get_default_store()
    names = [f"nnunet_active/leaving/{rank}" for rank in range(ranks.world)]
    try:
        store.set(names[ranks.rank], "")
        store.wait(names, timedelta(seconds=seconds))
    except RuntimeError:  # somebody is not here by now, or whoever keeps the store has gone
        return False
    return True
