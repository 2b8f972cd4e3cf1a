"""Finds the finished labels of a campaign: reads files onto the image's grid and compares them with what was handed out.

If several files are named after a case, those count whose content has changed since a label was last taken and is not the untouched
prediction. If these differ from each other, the case is refused until somebody says which one to take. Nothing is written here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache, cached_property, partial
from pathlib import Path

import numpy as np

from nnunet_active.annotation.mitk_tasks import says_accepted
from nnunet_active.annotation.records import voxel_digest
from nnunet_active.campaign.campaign import Campaign
from nnunet_active.campaign.slice_request import SliceRequest
from nnunet_active.data.case_writer import is_current
from nnunet_active.data.cases import open_store
from nnunet_active.data.dataset_json import changed_description, ignore_value, used_dataset_json
from nnunet_active.data.file_endings import carries_geometry, is_native
from nnunet_active.data.geometry import size_then_and_now
from nnunet_active.data.image_checks import image_reader
from nnunet_active.data.label_reader import read_label
from nnunet_active.data.partial_labels import forget_background, is_part_of, is_partial, labelled_slices
from nnunet_active.data.raw_dataset import RawDataset, read_pool_folders
from nnunet_active.data.slice_map import NUMPY_AXIS
from nnunet_active.nnunet.nnunet_paths import raw_folder
from nnunet_active.returned.answered_round import answered_round
from nnunet_active.returned.files_to_look_at import files_to_look_at
from nnunet_active.returned.finished_label import FinishedLabel, SeenFile
from nnunet_active.returned.handed_out import digests_of, of_replaced_image, record_of
from nnunet_active.returned.ingest_report import IngestReport
from nnunet_active.returned.label_places import file_state, is_same_place, place_of
from nnunet_active.returned.taken_before import Kind, TakenBefore, slice_digests
from nnunet_active.util.errors import BadCase
from nnunet_active.util.moments import for_people


class LabelFinder:
    """Looks for finished labels.

    Args:
        campaign: opened.
        folders: folders to search at any depth; empty for the campaign's hand-off folders and ``labelsTr``.
        accept: cases whose prediction is accepted unchanged.
        report: gets what was found.
        also_drawn: also take slices that were drawn but not asked for, even in files that were taken before.
    """

    def __init__(
        self,
        campaign: Campaign,
        folders: Sequence[Path],
        accept: Iterable[str],
        report: IngestReport,
        also_drawn: bool = False,
    ) -> None:
        self.campaign, self.report = campaign, report
        self.folders, self.accept, self.also_drawn = list(folders), set(accept), also_drawn
        self._round_of = cache(partial(answered_round, campaign))
        dataset = campaign.dataset_folder.name
        self.raw_folder = raw_folder(dataset)
        self.store = open_store(dataset, campaign.plans, campaign.configuration)
        self.reader = image_reader(self.store.plans_manager.plans)
        self.read_raw()
        # nnU-Net reads the label definitions from the copy beside the plans
        self.dataset_json = used_dataset_json(campaign.dataset_folder, lambda: self.raw.dataset_json)
        if changed := changed_description(self.raw.dataset_json, self.dataset_json):
            report.notes.append(changed)
        self.ending: str = self.dataset_json["file_ending"]
        self.ignore = ignore_value(self.dataset_json)

    def read_raw(self) -> None:
        """Read the raw data set (again)."""
        self.raw = RawDataset(self.raw_folder, read_pool_folders(self.campaign.dataset_folder))

    def look(self) -> dict[str, FinishedLabel]:
        """Finished labels by case, waiting cases first. The report says what is not taken."""
        labels: dict[str, FinishedLabel] = {}
        files = files_to_look_at(self.campaign, self.raw, self.folders, self.report)
        # a prediction that is right as it is comes back with nobody's labels
        if self.folders and (elsewhere := self.accept.intersection(self.campaign.waiting()) - files.keys()):
            usual = files_to_look_at(self.campaign, self.raw, [], self.report)
            files |= {case: usual[case] for case in elsewhere & usual.keys()}
        for case in dict.fromkeys([*self.campaign.waiting(), *sorted(files)]):
            if case in self.raw.problems and files.get(case):
                self.report.refused[case] = self.raw.problems[case]
            elif case not in self.raw.cases:
                self.report.refused[case] = self.raw.problems.get(
                    case,
                    f"Case {case} was asked for, but its images are not in {self.raw_folder} any more; put them back, or take the case "
                    f"off the list with --decline {case}.",
                )
            else:
                label = self._look_at(case, files.get(case, []))
                if label is not None:
                    labels[case] = label
        return labels

    def read(self, case: str, file: Path) -> SeenFile:
        """Read one file of a case. If slices are asked for, background in all other slices becomes the ignore value.

        Raises:
            BadCase: see :func:`~nnunet_active.data.label_reader.read_label`.
        """
        state = file_state(file)
        image = self.raw.cases[case].images[0]
        self._check_image_is_that_of_before(case, file, image)
        label = read_label(case, file, image, self.dataset_json, self.reader, self.ending)
        voxels, known = label.voxels, self.slices_of(case, file)
        content, in_part = voxel_digest(voxels), is_partial(voxels, self.ignore)
        digest, said, accepted = content, [], says_accepted(file, case)
        if known is not None:
            axis, handed = NUMPY_AXIS[known.axis], self.handed_over(case, file)
            voxels = forget_background(voxels, axis, known.slices, self.ignore, handed)
            digest, said = voxel_digest(voxels), slice_digests(voxels, axis, self.ignore)
        return SeenFile(file, state, digest, voxels, content, in_part, label.notes, accepted, said)

    def slices_of(self, case: str, file: Path) -> SliceRequest | None:
        """The slices that a file may label; in a hand-off folder, those of its round and earlier ones. None for the whole scan."""
        return self.campaign.handed_slices(case, self._round_of(case, file))

    def handed_over(self, case: str, file: Path) -> np.ndarray | None:
        """The label that the annotator of slices started from; None if unknown, or if the file is in ``labelsTr`` and counts whole."""
        record = record_of(self.campaign, case, self._round_of(case, file), self.ending)
        if record is None or file == self._archived(case) or self.is_in_use(case, file):
            return None
        image = self.raw.cases[case].images[0]
        try:
            return read_label(case, record, image, self.dataset_json, self.reader, self.ending).voxels
        except BadCase:
            return None

    def taken_before(self, case: str) -> TakenBefore:
        """What was taken before for a case."""
        # a record of a case that does not count as labelled yet is from a killed run: ignore it
        return TakenBefore.of(self.campaign.ingested.get(case, {}) if self.is_settled(case) else {})

    def is_known(self, case: str, file: Path) -> bool:
        """Whether a file is unchanged since the label of its case was taken or preprocessed."""
        before = self.taken_before(case)
        if before.is_untouched(file):
            return True
        if before.files or not self.is_settled(case) or not self.is_in_use(case, file):
            return False
        used = self.used(case)
        copied = used.is_file() and file_state(used) == file_state(file)  # our copies keep the time; a fast check
        return copied or is_current(self.raw.cases[case], True, self.store, self.dataset_json)

    def is_in_use(self, case: str, file: Path) -> bool:
        """Whether a file is the label in the raw data set that training uses."""
        return any(is_same_place(file, one) for one in (self.target(case), self.label_file(case)))

    def _check_image_is_that_of_before(self, case: str, file: Path, image: Path) -> None:
        """Refuse a label drawn on an image that was exported again since: it could look like a crop of the new image."""
        archived = self._archived(case)
        differ = None if archived is None else size_then_and_now(archived, image)
        if differ and size_then_and_now(file, archived) is None and carries_geometry(file.name):
            raise BadCase(
                f"Case {case}: {file} lies on the image as it was handed over, with {differ[0]} voxels; {image} has {differ[1]} now. "
                f"Draw the label on the image as it is, or put the earlier image back."
            )

    def _archived(self, case: str) -> Path | None:
        """The archived file that :meth:`prediction` reads, or None."""
        asked = (one.number for one in reversed(self.campaign.rounds) if case in one.requested)
        files = (self.campaign.predictions_folder(number) / f"{case}{self.ending}" for number in asked)
        return next((file for file in files if file.is_file()), None)

    def target(self, case: str) -> Path:
        """Where to put the label of a case. ``dataset.json`` may list another place; a file in another format is not replaced."""
        listed = self.raw.cases[case].label
        if listed is not None and is_native(listed, self.ending):
            return listed
        return self.raw_folder / "labelsTr" / f"{case}{self.ending}"

    def label_file(self, case: str) -> Path:
        """The label file of a case in the raw data set, in any format; if there is none, its future place."""
        return self.raw.cases[case].label or self.target(case)

    def used(self, case: str) -> Path:
        """The copy of the label that was preprocessed last."""
        return self.store.dataset_folder / "gt_segmentations" / f"{case}{self.ending}"

    def prediction(self, case: str) -> np.ndarray | None:
        """The model's prediction when the case was last handed out, from the archive; None if it is not there."""
        file = self._archived(case)
        try:
            return None if file is None else self.read(case, file).voxels
        except BadCase as error:
            self.report.warn(case, str(error))
        return None

    def is_settled(self, case: str) -> bool:
        """Whether a case is already labelled, held out or excluded, so that only a correction counts."""
        return self.campaign.status_of(case) in ("labelled", "held out", "excluded")

    @cached_property
    def _handed_out(self) -> dict[str, set[str]]:
        """Digests of the predictions as they were handed out, by case."""
        digests, damaged = digests_of(self.campaign, self.folders)
        self.report.notes += damaged
        return digests

    def _predicted_digests(self, case: str) -> set[str]:
        archived = {voxel_digest(one) for one in [self.prediction(case)] if one is not None}
        return archived | self._handed_out.get(case, set())

    # --- what counts -------------------------------------------------------------------------------------------------------------

    def _look_at(self, case: str, files: list[Path]) -> FinishedLabel | None:
        """The finished label of a case, if there is one."""
        before = self.taken_before(case)
        changed, problems = [], []
        for file in files:
            known = self.is_known(case, file)
            if known and not self.also_drawn:
                continue
            try:
                seen = self.read(case, file)
            except BadCase as error:
                problems.append(str(error))
                continue
            if not known or self._draws_more(case, seen):
                changed.append(seen)
        predicted = self._predicted_digests(case) if changed else set()
        news: dict[str, list[SeenFile]] = {}
        for seen in changed:
            kind = self._kind_of(case, before, seen)
            if kind == "news":
                news.setdefault(seen.digest, []).append(seen)
            elif kind == "older" and not self.campaign.asks_for_slices and seen.digest not in predicted:
                self.report.warn(
                    case,
                    f"Case {case}: {seen.file} was taken before and replaced by a newer label, which stays; to go back to it, put it "
                    f"into labelsTr.",
                )
        edited = {d: seen for d, seen in news.items() if d not in predicted or any(one.accepted for one in seen)}
        if edited or case not in self.accept:  # an edited file takes precedence over the flag
            news = edited
        if len(news) > 1:  # just another copy of the label taken before
            news.pop(before.digest, None)
        if len(news) > 1 and self.ignore is not None:
            news = self._without_parts(case, news)
        if len(news) > 1:
            named = ", ".join(f"{one[0].file} ({for_people(one[0].state[1] / 1e9)})" for one in news.values())
            self.report.refused[case] = (
                f"Case {case} has {len(news)} finished labels that differ: {named}; move all but one away, or name the folder of the "
                f"right one with --from."
            )
        elif news:
            (seen,) = news.values()
            if (replaced := of_replaced_image(self.campaign, self.raw.cases[case])) and seen[0].digest in predicted:
                self.report.refused[case] = f"Case {case} cannot be accepted as predicted: {replaced}."
                return None
            problems += [f"Case {case}: {replaced}; see that the label fits it."] if replaced else []
            self.report.warn(case, *problems, *(f"{one.file}: {note}" for one in seen for note in one.notes))
            first = max(seen, key=lambda one: (one.accepted, not is_same_place(one.file, self.target(case))))
            files = {**before.files, **{place_of(one.file): one.entry() for one in changed}}
            contents = tuple(dict.fromkeys([first.content, *(one.content for one in seen)]))
            return FinishedLabel(first.voxels, first.digest, first.file, files, contents, accepted=first.accepted)
        elif problems:
            self.report.refused[case] = problems[0]
        elif untouched := [str(seen.file) for seen in changed if seen.digest in predicted]:
            if case in self.campaign.waiting():
                self.report.untouched[case] = untouched
            elif again := [
                file for file in untouched if place_of(Path(file)) in before.files
            ]:  # other files were never edited
                self.report.warn(case, f"{again[0]} is the untouched prediction again; the label stays as it is.")
        return None

    def _kind_of(self, case: str, before: TakenBefore, seen: SeenFile) -> Kind:
        if place_of(seen.file) not in before.files and not self.label_file(case).is_file():
            return "news"  # a label that has vanished from labelsTr may be taken again
        if self._draws_more(case, seen):
            return "news"
        return before.kind_of(seen.file, seen.digest, seen.content, self.is_in_use(case, seen.file))

    def _draws_more(self, case: str, seen: SeenFile) -> bool:
        """Whether a file has slices to take that nobody asked for and that are not labelled yet."""
        known = self.slices_of(case, seen.file)
        if not self.also_drawn or known is None or self.is_in_use(case, seen.file):
            return False
        counted = self.campaign.known_slices().get(case)
        there = labelled_slices(seen.voxels, NUMPY_AXIS[known.axis], self.ignore)
        return not set(there) <= {*known.slices, *(counted.slices if counted else ())}

    def _without_parts(self, case: str, news: dict[str, list[SeenFile]]) -> dict[str, list[SeenFile]]:
        """Labels of slices, without those that add nothing to the file in ``labelsTr``."""
        there = next((one for seen in news.values() for one in seen if self.is_in_use(case, one.file)), None)
        if there is None or self.slices_of(case, there.file) is None:
            return news

        def adds(seen: SeenFile) -> bool:
            return seen.accepted or not is_part_of(seen.voxels, there.voxels, self.ignore)

        return {key: seen for key, seen in news.items() if key == there.digest or any(map(adds, seen))}
