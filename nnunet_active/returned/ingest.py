"""Take finished labels back: from the hand-off folders, from ``labelsTr``, or from any folder.

First every file is looked at (see ``label_finder``); nothing is written. Then each finished label is put into ``labelsTr`` in one
step; a label that was there before is kept in ``replaced_labels``. Only then the campaign is locked, the label preprocessed, and the
case moved to the labelled ones. Every step can be repeated: after a kill the same command finds what is missing and goes on.
Annotators' own files are only ever read.
"""

from __future__ import annotations

import glob
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nnunet_active.campaign.campaign import Campaign
from nnunet_active.campaign.cross_validation import campaign_for
from nnunet_active.campaign.splits import check_split_files
from nnunet_active.commands import Commands
from nnunet_active.data.geometry import Geometry
from nnunet_active.data.label_agreement import compare
from nnunet_active.data.label_writer import write_label
from nnunet_active.data.preprocessing import preprocess_case
from nnunet_active.nnunet.nnunet_paths import preprocessed_folder
from nnunet_active.returned.ingest_report import IngestReport
from nnunet_active.returned.label_copies import file_state, keep_copy
from nnunet_active.returned.label_finder import FinishedLabel, LabelFinder
from nnunet_active.returned.slice_merge import merge_returned
from nnunet_active.util.atomic import sweep
from nnunet_active.util.errors import BadCase, CampaignError, CampaignInUse, MissingInput
from nnunet_active.util.lock import hold
from nnunet_active.util.log import Log
from nnunet_active.util.moments import now_in_utc

KEPT = "replaced_labels"


def ingest(
    dataset: str,
    fold: str = "0",
    folders: Sequence[Path] = (),
    accept_unchanged: Iterable[str] = (),
    decline: Mapping[str, str] | None = None,
    log: Log = print,
    *,
    also_drawn: bool = False,
) -> IngestReport:
    """Take finished labels of a campaign back.

    Args:
        dataset: full name.
        fold: fold of the campaign, or one that it covers.
        folders: where to look, at any depth; none: the campaign's hand-off folders and ``labelsTr``.
        accept_unchanged: cases whose prediction is right as it is.
        decline: waiting cases that nobody can label -> why not.
        also_drawn: where slices are asked for, also take others that were drawn.
        log: where to tell of progress.

    Returns:
        What was done with every case; labels that are refused leave everything as it was.

    Raises:
        MissingInput: no campaign, data set or folder of that name.
        CampaignError: a case that was named is not there; another process holds the campaign and a case is to be declined.
    """
    campaign = campaign_for(preprocessed_folder(dataset), fold)
    if campaign is None:
        campaign = Campaign.open(preprocessed_folder(dataset), fold)  # says that there is none
    report = IngestReport()
    finder = LabelFinder(campaign, [Path(folder) for folder in folders], accept_unchanged, report)
    desk = _Desk(campaign, finder, report, log)
    desk.check_arguments(list(decline or ()))
    check_split_files(campaign.dataset_folder)  # they follow the labels: nothing moves while they cannot
    campaign.adopt()
    with hold(campaign.folder / KEPT):
        sweep(finder.raw_folder / "labelsTr")  # of runs that were killed
        labels = {} if desk.retrospective else desk.deliver(finder.look(), also_drawn)
        try:
            with campaign.lock():
                for case, reason in (decline or {}).items():
                    report.declined += campaign.decline([case], reason)
                desk.take_up(labels)
        except CampaignInUse as error:
            if decline:
                raise
            report.delivered = sorted(labels)
            report.notes.append(
                f"{error} What is finished lies in {finder.raw_folder / 'labelsTr'} already, where a training that waits finds it."
            )
    report.waiting = [case for case in campaign.waiting() if case not in report.delivered]
    report.untouched = {case: files for case, files in report.untouched.items() if case in report.waiting}
    for case in sorted(finder.accept - {*report.untouched, *report.refused}):
        if case not in campaign.requested():
            report.warn(
                case, f"Case {case} cannot be accepted: it was never asked for, so nothing was predicted for anybody."
            )
        elif case in report.waiting:
            commands = Commands(dataset, campaign.configuration, campaign.plans, campaign.fold)
            report.warn(
                case,
                f"Case {case} cannot be accepted: no prediction of it was handed over yet; {commands.annotate()} does that.",
            )
    return report


def note_labels(campaign: Campaign, cases: Iterable[str], log: Log = print) -> None:
    """Record what is known of labels that a training found in ``labelsTr`` by itself, as :func:`ingest` does.

    Args:
        campaign: opened and locked; the cases do not count as labelled yet.
        cases: their labels are in ``labelsTr`` and preprocessed.
        log: where to tell.
    """
    cases = list(cases)
    if not cases:
        return
    report = IngestReport()
    finder = LabelFinder(campaign, [], [], report)
    desk = _Desk(campaign, finder, report, log)
    for case in cases:
        try:
            label = FinishedLabel.of(finder.read(case, finder.label_file(case)))
        except BadCase as error:  # it was good enough for nnU-Net; only the comparison is lost
            log(f"WARNING: {error}")
            continue
        desk.record(case, label)


class _Desk:
    """Where finished labels are laid, checked in and noted."""

    def __init__(self, campaign: Campaign, finder: LabelFinder, report: IngestReport, log: Log) -> None:
        self.campaign, self.finder, self.report, self.log = campaign, finder, report, log
        self.kept = campaign.folder / KEPT
        self.retrospective = not campaign.asks_a_person

    def check_arguments(self, decline: list[str]) -> None:
        finder, waiting = self.finder, self.campaign.waiting()
        for case in decline:
            if case not in waiting:
                raise CampaignError(
                    f"--decline {case}: no label is waited for; {', '.join(waiting) or 'no case'} is waiting in fold "
                    f"{self.campaign.fold}."
                )
        for case in sorted(finder.accept):
            if case not in finder.raw.cases:
                raise CampaignError(f"--accept-unchanged {case}: {finder.raw_folder} has no such case.")
        for folder in finder.folders:
            if not folder.is_dir():
                raise MissingInput(f"--from {folder} was not found; name the folder in which the finished labels are.")
        if finder.folders and self.retrospective:
            raise CampaignError(
                "The labels of a retrospective campaign are in labelsTr from the start and are revealed as they are asked for; leave "
                "--from away, or start a campaign with nnunet_active init ... --oracle folder."
            )

    def deliver(self, labels: dict[str, FinishedLabel], also_drawn: bool = False) -> dict[str, FinishedLabel]:
        """Put labels into ``labelsTr``; returns those that are there."""
        there = {}
        for case, label in labels.items():
            try:
                label = merge_returned(self.finder, case, label, also_drawn)
                self._deliver(case, label)
            except BadCase as error:
                self.report.refused[case] = str(error)
            else:
                there[case] = label
        return there

    def _deliver(self, case: str, label: FinishedLabel) -> None:
        """What was in ``labelsTr``, or was used until now, is kept."""
        finder = self.finder
        target, used = finder.target(case), finder.used(case)
        if used.is_file() and not (target.is_file() and used.read_bytes() == target.read_bytes()):
            keep_copy(used, self.kept, case, finder.ending)  # somebody wrote over the label in labelsTr
        written = label.file == target
        if target.is_file() and not written:
            try:
                written = finder.read(case, target).digest == label.digest
            except BadCase:
                written = False
            if not written:
                keep_copy(target, self.kept, case, finder.ending)
        if not written:
            image = finder.raw.cases[case].images[0]
            said = write_label(case, label.voxels, target, image, finder.dataset_json, finder.reader)
            self.report.warn(case, *said)
        label.files[str(target)] = [*file_state(target), label.digest]

    def take_up(self, labels: dict[str, FinishedLabel]) -> None:
        """Preprocess labels that are in ``labelsTr``, and count their cases as labelled; the caller holds the campaign."""
        campaign, finder = self.campaign, self.finder
        complete = campaign.folds_are_complete
        finder.read_raw()  # with the new labels
        for case in campaign.waiting() if self.retrospective else labels:
            try:
                if case not in finder.raw.cases:
                    raise BadCase(finder.raw.problems.get(case, f"Case {case} is not in {finder.raw_folder} any more."))
                label = (
                    FinishedLabel.of(finder.read(case, finder.label_file(case))) if self.retrospective else labels[case]
                )
                self.report.warn(case, *preprocess_case(finder.raw.cases[case], finder.store, finder.dataset_json))
            except BadCase as error:
                self.report.refused[case] = str(error)
                continue
            if label.slices is not None:  # facts of some slices do not say that a later round was taken up
                self._mark(case, label)
            self.record(case, label)
            self._mark(case, label)
        if campaign.folds_are_complete and not complete:
            self.report.notes.append(
                f"Every one of the {campaign.settings.folds} folds has a labelled case now, so that all of them can be trained."
            )

    def record(self, case: str, label: FinishedLabel) -> None:
        """Keep the facts, before the case counts as labelled: a kill in between makes the next run do both again."""
        campaign = self.campaign
        earlier = campaign.ingested.get(case, {})
        settled = self.finder.is_settled(case) and (bool(earlier) or campaign.status_of(case) != "excluded")
        # labelled without a record (from the start, or by hand): something was replaced if something was kept
        kept = any(self.kept.glob(f"{glob.escape(case)}__*"))
        differs = earlier["digest"] != label.digest if earlier.get("digest") else kept
        corrected = settled and differs and label.slices is None
        settled = settled and label.slices is None
        if settled and earlier and not corrected:  # the same content, saved again
            campaign.record_label(case, {**earlier, "files": label.files})
            return
        facts = {
            **self._facts(case, label),
            "file": str(label.file),
            "digest": label.digest,
            "files": label.files,
            "corrections": int(earlier.get("corrections", 0)) + int(corrected),
        }
        campaign.record_label(case, facts)
        if corrected or not settled:
            (self.report.corrected if corrected else self.report.taken)[case] = facts
            self.log(f"{case}: {'corrected label' if corrected else 'label'} taken over from {label.file}")

    def _facts(self, case: str, label: FinishedLabel) -> dict[str, Any]:
        """When the label came, and how it compares with the prediction."""
        finder = self.finder
        # formats without millimetres have unit steps
        voxel = Geometry.of_file(finder.raw.cases[case].images[0], label.voxels.shape).voxel_mm3
        return {
            "time": now_in_utc(),
            **compare(label.voxels, finder.prediction(case), finder.dataset_json["labels"], voxel),
        }

    def _mark(self, case: str, label: FinishedLabel) -> None:
        campaign = self.campaign
        status = campaign.status_of(case)
        if status == "held out":
            self.report.notes.append(f"Case {case} is held out; its label is used for validation only.")
        elif status == "excluded":
            self.report.notes.append(
                f"Case {case} is left out of fold {campaign.fold}; its label is kept, but not trained on."
            )
        else:
            in_part = label.slices is not None or campaign.slices_of_file(case, label.file) is not None
            campaign.mark_labelled([case], slices=None if not in_part else {case: label.slices} if label.slices else {})
