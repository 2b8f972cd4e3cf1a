"""Work shared among the processes of a distributed training: rank 0 decides, all ranks follow."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from typing import Any, Protocol, TypeVar

from torch import distributed
from tqdm import tqdm

from nnunet_active.util.progress import bar_is_shown

Item = TypeVar("Item")
_Read = tuple[str, Future]

PATIENCE = 10
"""Seconds that a process ending early waits for the others to end too."""


class Work(Protocol):
    """The same work on many independent items: what is read for an item, and what is done with it."""

    @property
    def queues(self) -> bool:
        """Whether :meth:`begin` queues the work on a GPU, which then does it while the next item's work is queued."""

    def load(self, item: str) -> Any:
        """Read what :meth:`begin` needs from disk."""

    def begin(self, item: str, loaded: Any) -> Callable[[], Any]:
        """Start the work on an item if it is queued; the returned function waits for the result, or does all the work."""


def run_through(
    work: Work, items: Iterable[str], early: Callable[[], bool] = lambda: True
) -> Iterator[tuple[str, Any]]:
    """Yield each item with its result, in turn; the next item is read during the work on the current one.

    Two items are held, or three if the work is queued on a GPU. Reading must release Python's lock, or nothing reaches the GPU
    meanwhile.

    Args:
        work: what to do with each item.
        items: may be an iterator that decides late what comes next.
        early: whether to take the next item before the current one is done, which keeps it from other processes.
    """
    coming = iter(items)
    with ThreadPoolExecutor(1, "read ahead") as reader:

        def read_next() -> _Read | None:
            item = next(coming, None)
            return None if item is None else (item, reader.submit(work.load, item))

        yield from (_queued if work.queues else _one_by_one)(work, read_next, early)


def _one_by_one(
    work: Work, read_next: Callable[[], _Read | None], early: Callable[[], bool]
) -> Iterator[tuple[str, Any]]:
    read = read_next()
    while read is not None:
        item, loaded = read[0], read[1].result()
        ahead = early()
        read = read_next() if ahead else None
        finish = work.begin(item, loaded)
        del loaded  # the work holds the item's data as long as it needs them
        result = finish()
        del finish
        yield item, result
        if not ahead:
            read = read_next()


def _queued(work: Work, read_next: Callable[[], _Read | None], early: Callable[[], bool]) -> Iterator[tuple[str, Any]]:
    """Queue each item's work before the result of the one before is awaited, so that the GPU never waits for this process.

    The next item is read from then on: a GPU's queue takes about a thousand operations, so queueing an image lasts nearly as long as
    the work on it, and what is read only afterwards comes too late.
    """

    def begin(item: str, reading: Future) -> Callable[[], Any]:
        try:
            return work.begin(item, reading.result())
        except Exception as error:  # its turn comes after the item that the GPU is still at work on
            return partial(_fail, error)

    read, current = read_next(), None
    while read is not None or current is not None:
        now, read = read, read_next() if read is not None and early() else None
        following = None if now is None else (now[0], begin(*now))
        result = None if current is None else current[1]()
        done, current = current, following
        if read is None and current is None:
            read = read_next()
        if done is not None:
            yield done[0], result


def _fail(error: Exception) -> None:
    raise error


class Ranks:
    """The processes of ``-num_gpus N`` (with one process, everything is done here).

    All ranks must call every method in the same order, as with any collective operation.
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
        """The ``items`` that these processes handle at all."""
        return items

    def each(self, work: Work, items: Sequence[str], description: str = "") -> dict[str, Any]:
        """The result of every item, on every rank.

        Args:
            work: what to do with each item.
            items: without repetition.
        description: the text of the progress bar, which appears only on a terminal.
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
        """Run ``action`` on every rank; returns all results, in rank order, on every rank. An error on one rank is raised on all."""
        if not self.shared:
            return [action()]
        outcome: list[Any] = [None, None]
        try:
            outcome[0] = action()
        except Exception as error:  # otherwise the other ranks would wait for ever
            outcome[1] = error
        sent = self.gather(self._packed(outcome))
        outcomes = [_unpacked(one, rank) for rank, one in enumerate(sent)]
        for _, error in outcomes:
            if error is not None:
                raise error
        return [result for result, _ in outcomes]

    def together(self, action: Callable[[], Any]) -> None:
        """Run ``action`` on every rank and wait for all. It may read what rank 0 wrote, and rank 0 may overwrite that afterwards.

        An error on one rank is raised on all.
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
            except BaseException as error:  # otherwise the other ranks would wait for ever
                outcome[1] = error
            sent = [self._packed(outcome)]
        distributed.broadcast_object_list(sent, src=0)
        result, error = _unpacked(sent[0], 0)
        if error is not None:
            raise error
        return result

    def _packed(self, outcome: list[Any]) -> bytes:
        """Pickle a result and an error; if that fails, an error that says so, because sending would fail on one side only."""
        try:
            packed = pickle.dumps(outcome)
            if outcome[1] is not None:
                pickle.loads(packed)  # fails for an exception class with other arguments, whose text would be lost
            return packed
        except Exception:  # pickle raises very different errors
            what = outcome[1] if outcome[1] is not None else outcome[0]
            return pickle.dumps([None, RuntimeError(f"rank {self.rank} cannot tell the other processes of {what!r}")])


def _unpacked(sent: bytes, rank: int) -> list[Any]:
    """What a rank sent, unpickled on that rank too, so that an unreadable result fails on all of them alike."""
    try:
        return pickle.loads(sent)
    except Exception as error:
        return [None, RuntimeError(f"rank {rank} cannot tell the other processes of its outcome: {error}")]


def all_are_leaving(seconds: float = PATIENCE) -> bool:
    """Call it in a process that ends early: whether all others end too, waiting for each at most ``seconds``.

    A process that has failed alone must not wait for the others, which may be waiting for it.
    """
    ranks = Ranks()
    if not ranks.shared:
        return True
    store = distributed.distributed_c10d._get_default_store()
    names = [f"nnunet_active/leaving/{rank}" for rank in range(ranks.world)]
    try:
        store.set(names[ranks.rank], "")
        store.wait(names, timedelta(seconds=seconds))
    except RuntimeError:  # a process did not come in time, or the keeper of the store is gone
        return False
    return True
