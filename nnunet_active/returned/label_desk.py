"""Puts finished labels into ``labelsTr``, preprocesses and records them, for ``ingest`` and for a training that finds labels."""

from __future__ import annotations

import glob
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nnunet_active.campaign.campaign import Campaign
from nnunet_active.data.geometry import Geometry
from nnunet_active.data.label_agreement import compare
from nnunet_active.data.label_writer import write_label
from nnunet_active.data.preprocessing import preprocess_case
from nnunet_active.data.replaced_labels import REPLACED_LABELS, keep_copy
from nnunet_active.data.slice_map import NUMPY_AXIS
from nnunet_active.returned.doubtful_label import doubt_about
from nnunet_active.returned.finished_label import FinishedLabel
from nnunet_active.returned.ingest_report import IngestReport
from nnunet_active.returned.label_finder import LabelFinder
from nnunet_active.returned.label_places import file_state, is_same_place, place_of
from nnunet_active.returned.slice_merge import merge_returned
from nnunet_active.returned.taken_before import TakenBefore, slice_digests
from nnunet_active.util.errors import BadCase, CampaignError, MissingInput
from nnunet_active.util.log import Log
from nnunet_active.util.moments import now_in_utc


class LabelDesk:
    """Delivers, preprocesses and records finished labels.

    Args:
        campaign: opened.
        finder: finds and reads its labels.
        report: gets what was done.
        log: gets messages on progress.
    """

    def __init__(self, campaign: Campaign, finder: LabelFinder, report: IngestReport, log: Log) -> None:
        self.campaign, self.finder, self.report, self.log = campaign, finder, report, log
        self.kept = campaign.folder / REPLACED_LABELS
        self.retrospective = not campaign.asks_a_person

    def check_arguments(self, decline: Mapping[str, str]) -> None:
        """Check that all named cases and folders exist; a case that was declined before may get a new reason.

        Raises:
            MissingInput, CampaignError: one does not; nothing is written.
        """
        finder, waiting = self.finder, self.campaign.waiting()
        for case, reason in decline.items():
            if case not in waiting and not (reason and case in self.campaign.declined):
                raise CampaignError(
                    f"--decline {case}: no label is waited for; waiting in fold {self.campaign.fold}: "
                    f"{', '.join(waiting) or 'none'}."
                )
        for case in sorted(finder.accept):
            if case not in finder.raw.cases:
                raise CampaignError(f"--accept-unchanged {case}: {finder.raw_folder} has no such case.")
        for folder in finder.folders:
            if folder.is_file():
                raise MissingInput(f"--from {folder} is a file; name the folder that it lies in, {folder.parent}.")
            if not folder.is_dir():
                raise MissingInput(f"--from {folder} was not found; name the folder in which the finished labels are.")
        if finder.folders and self.retrospective:
            raise CampaignError(
                "The labels of a retrospective campaign are in labelsTr from the start and are revealed as they are asked for; leave "
                "--from away, or start a campaign with nnunet_active init ... --oracle folder."
            )

    def deliver(self, labels: dict[str, FinishedLabel]) -> dict[str, FinishedLabel]:
        """Put labels into ``labelsTr``; returns those that were delivered."""
        there = {}
        for case, label in labels.items():
            try:
                label = merge_returned(self.finder, case, label)
                self._deliver(case, label)
            except BadCase as error:
                self.report.refused[case] = str(error)
            else:
                there[case] = label
                if doubt := doubt_about(self.finder, case, label, labels):
                    self.report.doubt(case, doubt)
        return there

    def _deliver(self, case: str, label: FinishedLabel) -> None:
        """Keep a copy of the file in ``labelsTr``, then write the label. The label in use is kept later, in preprocessing."""
        finder = self.finder
        target, earlier = finder.target(case), finder.label_file(case)
        stays = not is_same_place(earlier, target) and earlier.is_file() and finder.is_known(case, earlier)
        if self._content(case, target, label) != label.digest:
            kept = keep_copy(target, self.kept, case, finder.ending) if target.is_file() else None
            # new slices are joined with those already there and replace nothing
            joined = finder.slices_of(case, label.file) is not None
            is_new = kept is not None and not joined and not finder.is_known(case, target)
            image = finder.raw.cases[case].images[0]
            said = write_label(case, label.voxels, target, image, finder.dataset_json, finder.reader)
            self.report.warn(case, *said)
            if kept is not None and is_same_place(label.file, target):
                self.report.warn(
                    case,
                    f"Case {case}: {target} holds the slices that were labelled before, too; as it was, it is kept as {kept}.",
                )
            elif is_new:
                self.report.warn(
                    case,
                    f"Case {case}: another label lay in {target} and was not ingested yet; {label.file} takes its place, and it is "
                    f"kept as {kept}. If it is the right one, put it back.",
                )
        label.files[place_of(target)] = [*file_state(target), *self._said(case, label), label.digest]
        if stays:  # a file in another format counts as new only when it is saved again
            label.files.setdefault(place_of(earlier), [*file_state(earlier), ""])

    def _said(self, case: str, label: FinishedLabel) -> list[str]:
        """Digests of the slices of a label of slices; empty for a whole label."""
        known = self.finder.slices_of(case, label.file)
        return [] if known is None else slice_digests(label.voxels, NUMPY_AXIS[known.axis], self.finder.ignore)

    def _content(self, case: str, target: Path, label: FinishedLabel) -> str | None:
        """Digest of the content of the file in ``labelsTr``; None if the file is missing or cannot be read."""
        if not target.is_file():
            return None
        if is_same_place(label.file, target):
            return label.contents[0]
        try:
            return self.finder.read(case, target).content
        except BadCase:
            return None

    def take_up(self, labels: dict[str, FinishedLabel]) -> None:
        """Preprocess labels that are in ``labelsTr``, and count their cases as labelled. The caller holds the lock."""
        campaign, finder = self.campaign, self.finder
        complete = campaign.folds_are_complete
        finder.read_raw()  # with the new labels
        for case in campaign.waiting() if self.retrospective else labels:
            try:
                if case not in finder.raw.cases:
                    raise BadCase(finder.raw.problems.get(case, f"Case {case} is not in {finder.raw_folder} any more."))
                label = self._reveal(case) if self.retrospective else labels[case]
                self.report.warn(case, *preprocess_case(finder.raw.cases[case], finder.store, finder.dataset_json))
            except BadCase as error:
                self.report.refused[case] = str(error)
                continue
            if case in finder.raw.warnings:
                self.report.warn(case, finder.raw.warnings[case])
            if label.slices is not None:  # the record alone does not show which rounds' slices were taken
                self._mark(case, label)
            self.record(case, label)
            self._mark(case, label)
        if campaign.folds_are_complete and not complete:
            self.report.notes.append(
                f"Every one of the {campaign.settings.folds} folds has a labelled case now, so that all of them can be trained."
            )

    def _reveal(self, case: str) -> FinishedLabel:
        """The withheld label of a retrospective campaign."""
        file = self.finder.label_file(case)
        if not file.is_file():
            raise BadCase(
                f"Case {case}: its label {file} is not there any more; a retrospective campaign takes labels from there: put it back."
            )
        return FinishedLabel.of(self.finder.read(case, file))

    def record(self, case: str, label: FinishedLabel) -> None:
        """Record the facts before the case counts as labelled: after a kill in between, the next run does both again."""
        campaign = self.campaign
        earlier = campaign.ingested.get(case, {})
        settled = self.finder.is_settled(case) and (bool(earlier) or campaign.status_of(case) != "excluded")
        # labelled without a record (from the start, or by hand): a kept copy shows that a label was replaced
        kept = any(self.kept.glob(f"{glob.escape(case)}__*"))
        differs = earlier["digest"] != label.digest if earlier.get("digest") else kept
        corrected = settled and differs and label.slices is None
        settled = settled and label.slices is None
        said = [one for entry in label.files.values() for one in entry[2:-1]]
        contents = list(dict.fromkeys([*TakenBefore.of(earlier).contents, *label.contents, label.digest, *said]))
        if settled and earlier and not corrected:  # the same content, saved again
            campaign.record_label(case, {**earlier, "files": label.files, "contents": contents})
            return
        facts = {
            **self._facts(case, label),
            "file": os.path.abspath(label.file),
            "from": [os.path.abspath(folder) for folder in self.finder.folders],
            "digest": label.digest,
            "files": label.files,
            "contents": contents,
            "corrections": int(earlier.get("corrections", 0)) + int(corrected),
        }
        campaign.record_label(case, facts)
        if corrected or not settled:
            (self.report.corrected if corrected else self.report.taken)[case] = facts
            self.log(f"{case}: {'corrected label' if corrected else 'label'} taken over from {label.file}")

    def _facts(self, case: str, label: FinishedLabel) -> dict[str, Any]:
        """When the label arrived, and how it compares with the prediction."""
        finder = self.finder
        # formats without spacing have a spacing of 1
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
            in_part = label.slices is not None or self.finder.slices_of(case, label.file) is not None
            campaign.mark_labelled([case], slices=None if not in_part else {case: label.slices} if label.slices else {})
