"""Work shared out over the processes of a distributed training: rank 0 decides, all ranks follow."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

from torch import distributed
from tqdm import tqdm

from nnunet_active.util.progress import bar_is_shown

Item = TypeVar("Item")


class Work(Protocol):
    """The same work on many items, each by itself: what is read for it, and what is done with that."""

    def load(self, item: str) -> Any:
        """What :meth:`do` needs from the disk."""

    def do(self, item: str, loaded: Any) -> Any:
        """The result of one item."""


def run_through(
    work: Work, items: Iterable[str], early: Callable[[], bool] = lambda: True
) -> Iterator[tuple[str, Any]]:
    """Each item with its result, one after the other; the next one is read while the current one is worked on, so two are held.

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
            loaded = read.result()
            read, following = None, next(coming, None) if early() else None
            if following is not None:
                read = reader.submit(work.load, following)
            result = work.do(item, loaded)
            del loaded
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
        mine, done = self.mine(items), {}
        shown = bar_is_shown(self.rank == 0 and len(mine) > 0)
        with tqdm(total=len(mine), desc=description, disable=not shown) as bar:
            for item, result in run_through(work, mine):
                done[item] = result
                bar.update()
        return {item: result for part in self.gather(done) for item, result in part.items()}

    def gather(self, value: Any) -> list[Any]:
        """The values of all ranks, in rank order, on every rank."""
        if not self.shared:
            return [value]
        values: list[Any] = [None] * self.world
        distributed.all_gather_object(values, value)
        return values

    def together(self, action: Callable[[], Any]) -> None:
        """Run ``action`` on every rank, and go on once all have: it reads what rank 0 wrote, and rank 0 may write anew right after.

        What fails on one rank is raised on all of them.
        """
        error = None
        try:
            action()
        except Exception as found:  # else the other ranks would wait for ever
            error = found
        failed = [one for one in self.gather(error) if one is not None]
        if failed:
            raise failed[0]

    def decide(self, action: Callable[[], Item]) -> Item:
        """Run ``action`` on rank 0 and return its result on every rank; an exception on rank 0 is raised on every rank."""
        if not self.shared:
            return action()
        outcome: list[Any] = [None, None]
        if self.rank == 0:
            try:
                outcome[0] = action()
            except BaseException as error:  # else the other ranks would wait for ever
                outcome[1] = error
            try:
                pickle.loads(pickle.dumps(outcome))
            except Exception:  # as above: the broadcast itself would fail on one side
                what = outcome[1] if outcome[1] is not None else outcome[0]
                outcome = [None, RuntimeError(f"rank 0 cannot tell the other processes of {what!r}")]
        distributed.broadcast_object_list(outcome, src=0)
        if outcome[1] is not None:
            raise outcome[1]
        return outcome[0]
