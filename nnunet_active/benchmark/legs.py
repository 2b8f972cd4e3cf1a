"""Trained legs that runs share: a checkpoint for each leg of a training, stored under what decides it.

A leg lies between two multiples of the stride. Its end depends on the target, the source, the recipe, the seed and on which cases were
labelled when, but not on the strategy that chose them, except with the recipe ``guarded``, whose gate asks how they were drawn. So two
runs that chose the same cases so far train once, and a killed run continues after its last finished leg.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_active.benchmark.plan import digest_of
from nnunet_active.campaign.fine_tuning import GUARDED, FineTuning
from nnunet_active.campaign.settings import Settings
from nnunet_active.util.atomic import atomic_file, atomic_folder

CHECKPOINT = "checkpoint.pth"
SCHEDULE = ("stride", "epochs", "iterations", "val_iterations", "initial_lr")
"""Settings that two trainings must share to be comparable."""

_TRAINING = (*SCHEDULE, "fine_tuning", "pseudo_labels", "restart", "seed")


@dataclass(frozen=True)
class Leg:
    """A finished leg: its folder, and ``facts`` (``epoch`` at its end, ``history``, ``seconds``, ``weights``)."""

    folder: Path
    facts: dict[str, Any]

    @property
    def checkpoint(self) -> Path:
        """Network, optimizer and log at the end of the leg, as nnU-Net saves them."""
        return self.folder / CHECKPOINT

    @property
    def key(self) -> str:
        """The key it is stored under."""
        return self.folder.name


class LegCache:
    """Finished legs in a folder, one folder per key; entries appear whole or not at all.

    Args:
        folder: of the cache.
        context: everything else that decides a training: versions, digests, fold, trainer, device.
        settings: of the campaign.
        whole_rounds: legs end only where rounds end; needed if an epoch uses something made earlier in its round.
    """

    def __init__(self, folder: Path, context: dict[str, Any], settings: Settings, whole_rounds: bool = False) -> None:
        self.folder = folder
        content = settings.to_json()
        self.settings = settings
        self.whole_rounds = whole_rounds
        # the number of queries decides where rounds end, and so where the schedules of each round begin
        self._base = {**context, "queries": settings.queries, **{name: content[name] for name in _TRAINING}}
        if FineTuning.of(settings.fine_tuning).interpolation == GUARDED:
            self._base |= {name: content[name] for name in ("strategy", "strategy_options")}

    def ends(self) -> list[int]:
        """Epochs at which legs end: the multiples of the stride (with whole rounds: those with a query), and the training's end."""
        settings = self.settings
        stop = settings.epoch_of_query(settings.queries) + 1 if self.whole_rounds else settings.epochs
        return [*range(settings.stride, min(stop, settings.epochs), settings.stride), settings.epochs]

    def end_of(self, epoch: int) -> int | None:
        """Where the leg that begins at ``epoch`` ends; None if none begins there."""
        starts = [0, *self.ends()[:-1]]
        return self.ends()[starts.index(epoch)] if epoch in starts else None

    def key(self, history: Sequence[Sequence[str]]) -> str:
        """Key of the last leg of ``history``: for each leg so far, which cases were labelled."""
        return digest_of({**self._base, "history": [sorted(cases) for cases in history]})

    def find(self, history: Sequence[Sequence[str]]) -> Leg | None:
        """The finished leg, if it is in the cache."""
        folder = self.folder / self.key(history)
        file = folder / "leg.json"
        if not file.is_file() or not (folder / CHECKPOINT).is_file():
            return None
        return Leg(folder, json.loads(file.read_text()))

    def add(self, history: Sequence[Sequence[str]], save: Any, facts: dict[str, Any]) -> Leg:
        """Store a leg; ``save`` is called with the file to write. If another process was first, its leg stays."""
        folder = self.folder / self.key(history)
        if found := self.find(history):
            return found
        try:
            with atomic_folder(folder) as temporary:
                save(temporary / CHECKPOINT)
                content = {**facts, "history": [sorted(cases) for cases in history]}
                (temporary / "leg.json").write_text(json.dumps(content, indent=2) + "\n")
        except OSError:  # the folder exists, without a checkpoint or from a faster process
            if not (folder / "leg.json").is_file():
                raise
            with atomic_file(folder / CHECKPOINT) as temporary:
                save(temporary)
        return self.find(history)


def drop_checkpoints(folder: Path) -> int:
    """Delete the checkpoints of all legs, which only unfinished runs need; returns the number of bytes freed."""
    freed = 0
    for file in folder.glob(f"*/{CHECKPOINT}"):
        freed += file.stat().st_size
        file.unlink()
    return freed
