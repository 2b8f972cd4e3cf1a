"""Finds the trainings on the target so far: which trainer, on which labels, and whether it finished.

Our trainers record the training cases in every checkpoint. Stock trainers do not: their start time is compared with the times at which
the labels arrived, and a note tells the user what remains uncertain.
"""

from __future__ import annotations

import glob
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunet_active.campaign.campaign import Campaign
from nnunet_active.campaign.splits import FILE_NAME
from nnunet_active.nnunet.checkpoint_record import (
    BEST,
    FINAL,
    LATEST,
    PREVIOUS,
    checkpoint_record,
    damaged,
    latest_is_newer,
)
from nnunet_active.util.errors import ActiveError, UnsafeCheckpoint
from nnunet_active.util.moments import for_people, seconds_of


@dataclass(frozen=True)
class Training:
    """The training of one fold by one trainer, read from its checkpoint.

    Attributes:
        trainer: class name as in ``-tr``.
        fold: a number as text, or ``all``.
        checkpoint: the final one (even if a new training has renamed it), or the latest one of a training that was stopped.
        finished: whether ``checkpoint`` is a final one.
        resumable: whether ``--c`` resumes it.
        saved: when the last epoch in the checkpoint ended (seconds since 1970). The file's time is used only if the checkpoint has no
            epoch or no log, since the file may be a copy.
        begun: when the first epoch began, or None.
        labelled: the training cases, or None if the trainer keeps no record.
        labels: the labelled part of each case as text (``Campaign.label_names``); None if all were labelled whole.
        problem: why the checkpoint could not be read, or empty.
        interpolation: how far its network is from the source (0) to the fine-tuned weights (1); 1 if the trainer records none.
        is_source: whether its network is the source network, because the labels showed no gain.
        campaign: when the campaign that it belongs to began; empty if the checkpoint does not say.
    """

    trainer: str
    fold: str
    checkpoint: Path
    finished: bool
    resumable: bool
    saved: float
    begun: float | None = None
    labelled: tuple[str, ...] | None = None
    labels: tuple[str, ...] | None = None
    problem: str = ""
    interpolation: float = 1.0
    is_source: bool = False
    campaign: str = ""

    @property
    def model_folder(self) -> Path:
        """The folder that ``nnUNetv2_predict_from_modelfolder -m`` takes."""
        return self.checkpoint.parent.parent


@dataclass(frozen=True)
class MissedLabels:
    """``missing``: labelled cases that a training was not, or perhaps not, trained on; ``note``: how certain that is."""

    missing: tuple[str, ...] = ()
    note: str = ""


def find_trainings(results: Path, dataset: str, plans: str, configuration: str, folds: Sequence[str]) -> list[Training]:
    """All trainings of these folds, newest first.

    Args:
        results: ``nnUNet_results``.
        dataset: full name.
        plans: plans identifier.
        configuration: nnU-Net configuration.
        folds: numbers as text, or ``all``.
    """
    found = []
    for model in (results / dataset).glob(f"*__{glob.escape(plans)}__{glob.escape(configuration)}"):
        for fold in folds:
            found += _read(model.name.split("__")[0], fold, model / f"fold_{fold}")
    return sorted(found, key=lambda one: (one.saved, one.trainer, one.fold), reverse=True)


def trainings_of(campaign: Campaign, results: Path) -> list[Training]:
    """The trainings that can have used this campaign's labels, newest first.

    A checkpoint that names another campaign, or was trained on labels that this one has not revealed, belongs to an earlier one
    (``init --restart``). A stock checkpoint from before the campaign is the user's own, perhaps the source network.
    """
    known = {*campaign.labelled(), *campaign.val}
    begun = _begin_of(campaign)
    trainings = find_trainings(
        results, campaign.dataset_folder.name, campaign.plans, campaign.configuration, covered_folds(campaign)
    )

    def is_its_own(one: Training) -> bool:
        if one.labelled is None:
            return one.saved >= begun
        return one.campaign in ("", campaign.begun) and known.issuperset(one.labelled)

    return [one for one in trainings if is_its_own(one)]


def covered_folds(campaign: Campaign) -> list[str]:
    """The folds that a campaign trains, its own first: that one alone, or in a cross-validation all folds that have cases."""
    return list(dict.fromkeys([campaign.fold, *map(str, sorted(campaign.split_entries()))]))


def labels_to_train_on(campaign: Campaign, fold: str) -> list[str]:
    """The cases that a training of ``fold`` would use now, sorted."""
    entries = campaign.split_entries()
    return sorted(entries[int(fold)][0]) if fold.isdecimal() and int(fold) in entries else campaign.labelled()


def missed_labels(campaign: Campaign, training: Training) -> MissedLabels:
    """The labelled cases of its fold that a training does not know."""
    wanted = labels_to_train_on(campaign, training.fold)
    if training.labelled is not None:
        missing = set(wanted) - set(training.labelled)
        if training.labels is not None:  # a partly labelled case may have got further slices
            names = campaign.label_names()
            missing |= {case for case in wanted if names.get(case, case) not in training.labels}
        corrected = sorted(set(corrected_after(campaign, training.saved)) & set(wanted))
        note = f"The label of {', '.join(corrected)} was corrected after that training." if corrected else ""
        return MissedLabels(tuple(sorted({*missing, *corrected})), note)
    if training.problem:
        return MissedLabels(tuple(wanted), f"{training.problem} What it was trained on is not known.")
    begun = training.begun if training.begun is not None else training.saved
    times = _label_times(campaign)
    late = tuple(case for case in wanted if times.get(case, 0.0) > begun)
    who = f"{training.trainer} keeps no record of its cases"
    if not late:
        return MissedLabels((), f"{who}; it began after the last label came, so it is taken to know them all.")
    if training.begun is None or any(times[case] <= training.saved for case in late):
        return MissedLabels(late, f"{who}; it began {for_people(begun)}, before the label of {', '.join(late)} came.")
    return MissedLabels(
        late, f"{who}; it ended {for_people(training.saved)}, before the label of {', '.join(late)} came."
    )


def corrected_after(campaign: Campaign, seconds: float) -> list[str]:
    """Cases whose label was corrected after a time (seconds since 1970)."""
    times = _label_times(campaign)
    return [
        case
        for case, facts in campaign.ingested.items()
        if facts.get("corrections") and facts.get("time") and times.get(case, 0.0) > seconds
    ]


def _label_times(campaign: Campaign) -> dict[str, float]:
    """When each label arrived: as recorded, else the time when the training set last changed, as an upper bound."""
    splits = campaign.dataset_folder / FILE_NAME
    times = dict.fromkeys(campaign.revealed(), splits.stat().st_mtime if splits.is_file() else 0.0)
    for case, facts in campaign.ingested.items():
        if facts.get("time"):
            times[case] = seconds_of(facts["time"])
    return times


def _begin_of(campaign: Campaign) -> float:
    """When the campaign began. Earlier versions did not record it; then the time of the first round, which is never rewritten."""
    if campaign.begun:
        return seconds_of(campaign.begun)
    files = [campaign.folder / "round_001" / "selection.json", campaign.folder / "campaign.json"]
    return next((file.stat().st_mtime for file in files if file.is_file()), time.time())


def _read(trainer: str, fold: str, folder: Path) -> list[Training]:
    """At most two trainings: a finished and a stopped one. A training that finishes deletes its latest checkpoint."""
    final, latest, previous = folder / FINAL, folder / LATEST, folder / PREVIOUS
    finished = next((file for file in (final, previous) if file.is_file()), None)
    there = [file for file in (finished, latest) if file is not None and file.is_file()]
    goes_on = finished != final or latest_is_newer(folder)
    return [_read_checkpoint(trainer, fold, file, resumable=file == latest and goes_on) for file in there]


def _read_checkpoint(trainer: str, fold: str, file: Path, resumable: bool) -> Training:
    known = {
        "trainer": trainer,
        "fold": fold,
        "checkpoint": file,
        "finished": file.name in (FINAL, PREVIOUS),
        "resumable": resumable,
        "saved": file.stat().st_mtime,
    }
    try:
        content = checkpoint_record(file)
    except UnsafeCheckpoint as error:  # nnU-Net's own reader accepts it, so --c works
        return Training(**known, problem=str(error))
    except ActiveError as error:
        problem = str(error) if known["finished"] else _cannot_go_on(file)
        return Training(**{**known, "resumable": False}, problem=problem)
    record, log = content.get("nnunet_active"), content.get("logging")
    record = record if isinstance(record, dict) else {}
    labelled, labels, alpha = record.get("labelled"), record.get("labels"), float(record.get("interpolation", 1.0))
    log = log if isinstance(log, dict) else {}
    starts, ends = log.get("epoch_start_timestamps"), log.get("epoch_end_timestamps")
    if ends:
        known["saved"] = float(ends[-1])
    return Training(
        **known,
        begun=float(starts[0]) if starts else None,
        labelled=tuple(labelled) if labelled is not None else None,
        labels=tuple(labels) if labels is not None else None,
        interpolation=alpha,
        is_source=record.get("is_source", alpha == 0),  # earlier versions did not record it
        campaign=str(record.get("campaign", "")),
    )


def _cannot_go_on(latest: Path) -> str:
    """What to do about a stopped training whose latest checkpoint is damaged."""
    anew = f"{damaged(str(latest))}; start that training again without --c"
    best, final, previous = (latest.with_name(name) for name in (BEST, FINAL, PREVIOUS))
    # --c prefers a final checkpoint to all others, and the best one may be an earlier training's
    if (
        final.is_file()
        or not best.is_file()
        or (previous.is_file() and best.stat().st_mtime <= previous.stat().st_mtime)
    ):
        return f"{anew}."
    try:
        checkpoint_record(best)
    except ActiveError:
        return f"{anew}."
    return f"{anew}, or move the file away: the same command with --c then goes on from {BEST}, an earlier epoch."
