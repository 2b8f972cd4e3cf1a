"""A campaign: settings, rounds, and which case was labelled when. It lives beside the preprocessed data:

``nnUNet_preprocessed/DatasetXXX/active/fold_F/campaign.json`` and, for every query, ``round_001/`` with ``scores.csv`` (every
component of every score), ``embeddings.npz``, ``selection.json`` (the utilities at each greedy step) and ``worklist.csv``.

Rounds are appended and never rewritten. A round exists once its folder exists (it is renamed into place whole); ``campaign.json`` and
``splits_final.json`` are brought in line with the folders whenever a campaign is opened. So a kill at any moment leaves a state from
which the same command goes on to the same end.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nnunet_active import __version__
from nnunet_active.campaign.campaign_round import Round, round_folder, write_round
from nnunet_active.campaign.folds import assign, split_entries
from nnunet_active.campaign.settings import Settings
from nnunet_active.campaign.splits import write_folds
from nnunet_active.util.atomic import write_json
from nnunet_active.util.errors import CampaignError, MissingInput
from nnunet_active.util.lock import hold

FORMAT = 1


class Campaign:
    """An opened campaign. Build one with :meth:`create` or :meth:`open`; write to it only while :meth:`lock` is held."""

    def __init__(self, folder: Path, state: dict[str, Any]) -> None:
        self.folder = folder
        self.dataset_folder = folder.parent.parent
        self.state = state
        self.settings = Settings.from_json(state["settings"])
        self.fold: str = state["fold"]
        self.configuration: str = state["configuration"]
        self.plans: str = state["plans"]
        self.val: tuple[str, ...] = tuple(state["val"])
        self._seen: tuple[int, int, int] | None = None

    @staticmethod
    def folder_of(dataset_folder: Path, fold: str | int) -> Path:
        """Where the campaign of a fold lives."""
        return dataset_folder / "active" / f"fold_{fold}"

    @classmethod
    def create(
        cls,
        dataset_folder: Path,
        fold: str | int,
        configuration: str,
        plans: str,
        settings: Settings,
        initial: Iterable[str] = (),
        val: Iterable[str] = (),
        excluded: Iterable[str] = (),
        other_folds: list[dict] | None = None,
        split_origin: str = "",
        save: bool = True,
        made_by: str = "init",
    ) -> Campaign:
        """Start a campaign.

        Args:
            dataset_folder: ``nnUNet_preprocessed/DatasetXXX``.
            fold: number, or ``all``.
            configuration: nnU-Net configuration.
            plans: plans identifier.
            settings: how to query and train.
            initial: cases that are labelled, and trained on, from the start.
            val: held-out labelled cases; never queried.
            excluded: cases that the user's split file leaves out; never queried.
            other_folds: content of a fresh ``splits_final.json`` for the other folds.
            split_origin: who defined the fold, for people.
            save: whether to write it; False is for looking at what it would ask for.
            made_by: ``init``, or ``select``: then the budget is not a plan, it grows with every round.

        Raises:
            CampaignError: there is a campaign of this fold already.
        """
        folder = cls.folder_of(dataset_folder, fold)
        if (folder / "campaign.json").exists():
            raise CampaignError(
                f"{folder / 'campaign.json'} exists: fold {fold} has a campaign. Go on with it, or set it aside and start anew "
                f"with nnunet_active init ... --restart."
            )
        state = {
            "format": FORMAT,
            "version": __version__,
            "fold": str(fold),
            "configuration": configuration,
            "plans": plans,
            "settings": settings.to_json(),
            "initial": sorted(initial),
            "val": sorted(val),
            "excluded": sorted(excluded),
            "split_origin": split_origin,
            "other_folds": other_folds,
            "made_by": made_by,
            "rounds": [],
            "labelled": {},
        }
        if settings.folds > 1:
            state["fold_of"] = assign({}, state["initial"], settings.folds, str(fold))
        campaign = cls(folder, state)
        if save:
            campaign._save()
        return campaign

    @classmethod
    def open(cls, dataset_folder: Path, fold: str | int) -> Campaign:
        """Open the campaign of a fold for reading.

        Raises:
            MissingInput: there is none.
            CampaignError: its file is damaged or of a later version.
        """
        folder = cls.folder_of(dataset_folder, fold)
        file = folder / "campaign.json"
        if not file.is_file():
            raise MissingInput(
                f"There is no campaign for fold {fold} ({file} was not found); start one with nnunet_active init."
            )
        try:
            seen = _signature(file)
            state = json.loads(file.read_text())
            found = state["format"]
            if found > FORMAT:
                raise CampaignError(
                    f"{file} has format {found}, this version reads up to {FORMAT}; update nnunet_active."
                )
            campaign = cls(folder, state)
            campaign._seen = seen
            campaign.pool([])  # whatever else must be there
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            reason = f"{type(error).__name__}: {error}"
            raise CampaignError(f"{file} is not a campaign file ({reason}); restore it from a backup.") from error
        return campaign

    @contextmanager
    def lock(self, wait: bool = False) -> Iterator[None]:
        """Hold the campaign for writing, and take over what a killed process left behind.

        Raises:
            CampaignError: another process holds it; the message says which.
        """
        with hold(self.folder, wait):
            self.refresh()
            self.recover()
            yield

    def refresh(self) -> None:
        """Follow what another process wrote; the file is read again only if it is another one by now."""
        if self._seen is None or self._seen != _signature(self.folder / "campaign.json"):
            now = Campaign.open(self.dataset_folder, self.fold)
            self.state, self.settings, self._seen = now.state, now.settings, now._seen

    def recover(self) -> None:
        """Adopt round folders that a kill kept out of ``campaign.json``, and bring ``splits_final.json`` in line."""
        known = len(self.state["rounds"])
        if len(self.adopt().rounds) > known:
            self._save()
        self.write_split()

    def adopt(self) -> Campaign:
        """Take over the rounds that a killed command wrote and could not enter any more; in memory only. Returns itself."""
        rounds = self.state["rounds"]
        while (file := round_folder(self.folder, len(rounds) + 1) / "selection.json").is_file():
            self._seen = None  # it differs from the file
            rounds.append(Round.from_entry(json.loads(file.read_text()), self.folder).entry())
        return self

    # --- what is known -------------------------------------------------------------------------------------------------------

    @property
    def rounds(self) -> list[Round]:
        """All rounds so far, the oldest first."""
        return [Round.from_entry(entry, self.folder) for entry in self.state["rounds"]]

    @property
    def initial(self) -> tuple[str, ...]:
        """Cases labelled from the start."""
        return tuple(self.state["initial"])

    def requested(self) -> list[str]:
        """All cases ever asked for, in order."""
        return [case for one in self.rounds for case in one.requested]

    def labelled(self, epoch: int | None = None) -> list[str]:
        """Cases to train on, sorted. With ``epoch``: only of rounds made before or at it, so that a resumed run repeats itself."""
        rounds = {case: one.epoch for one in self.rounds for case in one.requested}
        revealed = [case for case in self.state["labelled"] if epoch is None or rounds.get(case, 0) <= epoch]
        return sorted({*self.initial, *revealed})

    def waiting(self) -> list[str]:
        """Cases that were asked for and have no label yet, in order of preference; declined ones are not among them."""
        return [case for case in self.requested() if case not in self.state["labelled"] and case not in self.declined]

    @property
    def declined(self) -> dict[str, str]:
        """Cases that were asked for and that nobody can label, with the reason."""
        return dict(self.state.get("declined", {}))

    @property
    def budget(self) -> int:
        """Cases to ask for in all: that of the settings and what later selections added."""
        return self.settings.budget + self.state.get("extra_budget", 0)

    @property
    def ingested(self) -> dict[str, dict[str, Any]]:
        """What is known of the labels that came back: see :meth:`record_label`."""
        return dict(self.state.get("ingested", {}))

    def handoff_folder(self, number: int) -> Path | None:
        """Where the hand-off folder of a round was written, if it was."""
        folder = self.state.get("handoff", {}).get(str(number))
        return None if folder is None else Path(folder)

    def predictions_folder(self, number: int) -> Path:
        """Archive of what the model predicted for the cases of a round, before anybody edited it (original geometry)."""
        return round_folder(self.folder / "predictions", number)

    def pool(self, cases: Iterable[str]) -> list[str]:
        """Of ``cases``, those that may still be queried, sorted: never one of ``val``, never one asked for before."""
        taken = {*self.val, *self.initial, *self.state["excluded"], *self.state["labelled"], *self.requested()}
        return sorted(set(cases) - taken)

    @property
    def exhausted(self) -> bool:
        """Whether the budget is spent; a case that was declined costs nothing."""
        return self.size_of_next_query() == 0

    def budget_left(self) -> int:
        """Cases that may still be asked for; declined ones cost nothing."""
        return max(0, self.budget - len(set(self.requested()) - set(self.declined)))

    def size_of_next_query(self) -> int:
        """Cases that the next query asks for: the query size, or what is left of the budget."""
        left = self.budget_left()
        return left if self.settings.one_off else min(self.settings.query_size, left)

    def query_due(self, epoch: int) -> bool:
        """Whether the next query belongs before ``epoch`` of a training.

        After rounds between trainings the first one is due after a stride: the network has then learnt from their labels. A round
        whose cases were all declined does not count, so that a replacement is asked for at once.
        """
        if self.exhausted:
            return False
        rounds = self.rounds
        made = sum(one.made_by == "training" and not set(one.requested) <= set(self.declined) for one in rounds)
        earlier = any(one.made_by == "select" for one in rounds)
        # later multiples of the stride, too: where the pool was empty at first, new scans may have come in since
        return epoch >= self.settings.epoch_of_query(made + earlier + 1) and epoch % self.settings.stride == 0

    # --- what changes it ---------------------------------------------------------------------------------------------------------

    def append_round(
        self,
        epoch: int,
        requested: Iterable[str],
        scores: pd.DataFrame,
        utilities: pd.DataFrame,
        worklist: pd.DataFrame,
        arrays: Mapping[str, np.ndarray],
        details: Mapping[str, Any],
        made_by: str = "training",
    ) -> Round:
        """Record a query, whole or not at all; see :func:`~nnunet_active.campaign.campaign_round.write_round` for the tables.

        Args:
            epoch: epoch before which it was made.
            requested: the picks in order.
            scores, utilities, worklist, arrays, details: content of the round's files.
            made_by: ``training`` or ``select``.
        """
        number = len(self.state["rounds"]) + 1
        one = Round(number, epoch, tuple(requested), round_folder(self.folder, number), made_by)
        write_round(one, scores, utilities, worklist, arrays, details)
        self.state["rounds"].append(one.entry())
        self._save()
        return one

    def mark_labelled(self, cases: Iterable[str]) -> list[str]:
        """Cases whose label is there from now on; ``splits_final.json`` follows. Returns the new ones."""
        number = {case: one.number for one in self.rounds for case in one.requested}
        new = [case for case in cases if case not in self.state["labelled"] and case not in self.initial]
        if new:
            self.state["labelled"].update({case: number.get(case, 0) for case in new})
            self._save()
        self.write_split()
        return new

    def extend(self, cases: int) -> None:
        """Raise the budget by a number of cases."""
        self.state["extra_budget"] = self.state.get("extra_budget", 0) + cases
        self._save()

    def leave_to_training(self) -> None:
        """What is left of the budget is for the next training to ask for (only a hint for whoever plans the next step)."""
        self.state["left_to_training"] = self.budget
        self._save()

    @property
    def is_left_to_training(self) -> bool:
        """Whether the next training is to ask, and has not done so yet."""
        return self.state.get("left_to_training") == self.budget and not self.exhausted

    def decline(self, cases: Iterable[str], reason: str = "") -> list[str]:
        """Nobody can label these cases: they wait no longer, are never asked for again, and cost nothing of the budget.

        Returns:
            Those that were waiting; others are left as they are.
        """
        waiting = set(self.waiting())
        declined = [case for case in cases if case in waiting]
        if declined:
            self.state["declined"] = {**self.declined, **dict.fromkeys(declined, reason)}
            self._save()
        return declined

    def exclude(self, cases: Iterable[str]) -> None:
        """Cases that are never to be asked for."""
        excluded = sorted({*self.state["excluded"], *cases})
        if excluded != self.state["excluded"]:
            self.state["excluded"] = excluded
            self._save()

    def record_label(self, case: str, facts: Mapping[str, Any]) -> None:
        """Keep what is known of a label that came back (JSON types): time, file, digest, Dice and volumes per class."""
        self.state.setdefault("ingested", {})[case] = dict(facts)
        self._save()

    def record_handoff(self, number: int, folder: Path) -> None:
        """Keep where the hand-off folder of a round is."""
        self.state.setdefault("handoff", {})[str(number)] = str(folder)
        self._save()

    def set_folds(self, folds: int) -> None:
        """Divide the labelled cases among folds of cross-validation from now on (see ``cross_validation.switch_on``)."""
        self.settings = replace(self.settings, folds=folds)
        self.state["settings"]["folds"] = folds
        self._save()
        self.write_split()

    def split_entries(self) -> dict[int, tuple[list[str], list[str]]]:
        """The folds of ``splits_final.json`` that this campaign answers for, as they are now: index -> (train, val)."""
        return split_entries(self.labelled(), self.state.get("fold_of", {}), self.settings.folds, self.fold, self.val)

    def held_out(self) -> list[str]:
        """Labelled cases that its own fold never trains on, sorted."""
        return self.split_entries()[int(self.fold)][1] if self.fold != "all" else sorted(self.val)

    def _assign_folds(self) -> None:
        """Every labelled case gets its fold, once, in the order in which the labels came."""
        if self.settings.folds > 1:
            known = self.state.get("fold_of", {})
            arrivals = [*self.initial, *self.state["labelled"]]
            fold_of = assign(known, arrivals, self.settings.folds, self.fold)
            if fold_of != known:
                self.state["fold_of"] = fold_of
                self._save()

    def write_split(self) -> None:
        """Bring this fold of ``splits_final.json`` in line with the labelled cases (idempotent)."""
        self._assign_folds()
        if self.labelled():
            write_folds(self.dataset_folder, self.split_entries(), self.state["other_folds"])

    def _save(self) -> None:
        file = self.folder / "campaign.json"
        write_json(file, self.state)
        self._seen = _signature(file)


def _signature(file: Path) -> tuple[int, int, int] | None:
    """Changes whenever the file is replaced: each whole write makes a new one."""
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
