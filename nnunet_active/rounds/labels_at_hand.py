"""Finds waiting cases whose label can be taken back: in ``labelsTr``, or edited in a hand-off folder."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from nnunet_active.annotation.mitk_tasks import case_of_interim, says_accepted
from nnunet_active.annotation.records import read_handoff, voxel_digest
from nnunet_active.campaign.campaign import Campaign
from nnunet_active.campaign.slice_request import SliceRequest
from nnunet_active.data.cases import CaseStore
from nnunet_active.data.dataset_json import ignore_value, used_dataset_json
from nnunet_active.data.geometry import size_then_and_now
from nnunet_active.data.image_checks import image_reader
from nnunet_active.data.label_reader import find_label_files, read_label
from nnunet_active.data.partial_labels import check_slices, forget_background, labelled_slices, merge_slices
from nnunet_active.data.raw_dataset import RawDataset
from nnunet_active.data.slice_map import NUMPY_AXIS
from nnunet_active.returned.astray import advice_on_astray, astray_labels
from nnunet_active.returned.handed_out import given_label, half_done, of_replaced_image, record_of
from nnunet_active.returned.taken_before import TakenBefore
from nnunet_active.util.errors import BadCase, MissingInput

_READY = "Finished labels can be taken back:"
_REFUSED = "A label that came back cannot be taken; correct it, or save it again:"
_NO_FOLDER = "There is no hand-off folder for these cases yet (images, predictions to edit, uncertainty maps):"


@dataclass(frozen=True)
class Returned:
    """The state of a case that waits for its label.

    Attributes:
        ready: whether ``nnunet_active ingest`` can take a label.
        where: the hand-off folder that holds the case, if any.
        sentence: the state in words.
        refused: whether there is a label that ingest refuses, or that lies under another name; the sentence says why.
    """

    ready: bool
    where: Path | None
    sentence: str
    refused: bool = False


def returned_labels(campaign: Campaign, raw: RawDataset, store: CaseStore) -> dict[str, Returned]:
    """The state of every waiting case. Writes nothing."""
    raw, described = copy(raw), raw.dataset_json
    raw.dataset_json = used_dataset_json(campaign.dataset_folder, lambda: described)  # as in ingest
    rounds = {case: one.number for one in campaign.rounds for case in one.requested}
    # all cases, as in ingest, so that each file is matched to one case only
    cases = dict.fromkeys([*raw.cases, *raw.problems, *campaign.requested()])
    folders = dict.fromkeys(campaign.handoff_folder(number) for number in rounds.values())
    handed = {folder: _Handed(folder, tuple(cases), raw.file_ending) for folder in folders}
    return {
        case: _look(campaign, raw, store, case, rounds[case], handed[campaign.handoff_folder(rounds[case])])
        for case in campaign.waiting()
    }


def waiting_lines(returned: Mapping[str, Returned]) -> tuple[str, ...]:
    """The result of :func:`returned_labels` in words: each case under the headline that says what to do about it."""
    under: dict[str, list[str]] = {headline: [] for headline in (_READY, _REFUSED, _NO_FOLDER)}
    for case, one in returned.items():
        if one.ready or one.refused:
            headline = _READY if one.ready else _REFUSED
        elif one.where is None:
            headline = _NO_FOLDER
        else:
            headline = f"A person has to label these cases: in {one.where} (begin with README.txt there)."
        under.setdefault(headline, []).append(f"  {case}: {one.sentence}")
    return tuple(line for headline, lines in under.items() if lines for line in (headline, *lines))


def way_of_last_label(campaign: Campaign) -> list[str]:
    """The words of ``ingest`` that name the folders in which the newest label was found; none if it looked there by itself."""
    newest = max(campaign.ingested.values(), key=lambda facts: facts.get("time", ""), default={})
    folders = [folder for folder in newest.get("from", []) if Path(folder).is_dir()]
    return ["--from", *folders] if folders else []


@dataclass(frozen=True)
class _Handed:
    """A hand-off folder, read on demand and once for all of its cases; ``folder`` is None if there is none."""

    folder: Path | None
    cases: tuple[str, ...]
    ending: str

    @cached_property
    def entries(self) -> dict:
        return handoff_content(self.folder)

    @cached_property
    def files(self) -> dict[str, list[Path]]:
        return self._searched[0]

    @cached_property
    def astray(self) -> dict[str, list[Path]]:
        return astray_labels(file for file in self._searched[1] if case_of_interim(file) is None)

    @cached_property
    def _searched(self) -> tuple[dict[str, list[Path]], list[Path]]:
        return ({}, []) if self.folder is None else find_label_files(self.folder, self.cases, self.ending)


def handoff_content(folder: Path | None) -> dict:
    """The cases in ``handoff.json`` of a hand-off folder; empty if the folder is missing or incomplete."""
    try:
        return {} if folder is None else read_handoff(folder)["cases"]
    except MissingInput:
        return {}


def _look(campaign: Campaign, raw: RawDataset, store: CaseStore, case: str, number: int, handed: _Handed) -> Returned:
    folder, entry = handed.folder, handed.entries.get(case)
    where = folder if entry is not None else None
    if case not in raw.cases:
        return Returned(False, where, raw.problems.get(case, "its images are not in the raw data set any more"))
    label, slices = raw.cases[case].label, campaign.handed_slices(case, number)
    if label is not None and (slices is None or _answers(campaign, raw, store, case)):
        found = _look_into(raw, store, case, label, slices)
        if isinstance(found, str):
            return Returned(False, where, f"ingest refuses its label: {found}", refused=True)
        if voxel_digest(found) != (None if entry is None else entry["digest"]):
            return Returned(True, where, "its label is in labelsTr and not ingested yet")
    if entry is None:
        return Returned(False, None, "not handed over to an annotator yet")
    files, astray = handed.files.get(case, []), handed.astray.get(case)
    if not files and not astray:
        return Returned(False, folder, f"its label file is not in {folder} any more")
    archived = campaign.predictions_folder(number) / f"{case}{raw.file_ending}"
    if size_then_and_now(archived, raw.cases[case].images[0]):
        return Returned(
            False,
            folder,
            f"its image has another size than when it was handed over; move {folder / case} away to have it written anew",
        )
    sentence, refusals = f"{entry['label_file']} is still the untouched prediction", []
    if replaced := of_replaced_image(campaign, raw.cases[case]):
        sentence = f"{replaced}; move {folder / case} away to have it written anew"
    record = record_of(campaign, case, number, raw.file_ending)
    begun = None if record is None else _look_into(raw, store, case, record)
    begun = None if isinstance(begun, str) else begun
    for file in files:
        found, accepted = _look_into(raw, store, case, file, slices, begun), says_accepted(file, case)
        if isinstance(found, str):
            refusals.append(found)
        elif accepted or voxel_digest(found) != entry["digest"]:
            news = slices is None or _brings_news(campaign, raw, store, (case, archived, file), found, begun, accepted)
            if isinstance(news, str):
                refusals.append(news)
            elif news:
                return Returned(True, folder, f"{file.relative_to(folder)} was {'accepted' if accepted else 'edited'}")
            sentence = f"{campaign.waiting_slices()[case].words()} still to be labelled"
    if refusals:
        return Returned(False, folder, f"ingest refuses its label: {refusals[0]}", refused=True)
    if astray:
        return Returned(False, folder, advice_on_astray(case, astray, raw.file_ending), refused=True)
    return Returned(False, folder, sentence)


def _answers(campaign: Campaign, raw: RawDataset, store: CaseStore, case: str) -> bool:
    """Whether the file in ``labelsTr`` labels any waiting slice; it may also be just the label from earlier rounds."""
    request = campaign.waiting_slices()[case]
    label = _look_into(raw, store, case, raw.cases[case].label)
    if isinstance(label, str):
        return True
    there = labelled_slices(label, NUMPY_AXIS[request.axis], ignore_value(raw.dataset_json))
    return bool(set(there) & set(request.slices))


def _brings_news(
    campaign: Campaign,
    raw: RawDataset,
    store: CaseStore,
    of: tuple[str, Path, Path],
    returned: np.ndarray,
    handed: np.ndarray | None,
    accepted: bool,
) -> bool | str:
    """Whether ``ingest`` would take anything new from a label of some slices: a waiting slice, or a correction of an earlier one; or
    why it refuses the label.

    Slices that ingest took before are not new, although the file differs from the prediction and other slices still wait.

    Args:
        campaign, raw, store: opened.
        of: the case, its prediction, and the file.
        returned: content of the file.
        handed: the label that the annotator started from.
        accepted: whether somebody has accepted the file unchanged.
    """
    case, archived, file = of
    request, ignore = campaign.waiting_slices()[case], ignore_value(raw.dataset_json)
    predicted = _look_into(raw, store, case, archived) if archived.is_file() else None
    before = None if (label := raw.cases[case].label) is None else _look_into(raw, store, case, label)
    predicted, before = (None if isinstance(one, str) else one for one in (predicted, before))
    axis = NUMPY_AXIS[request.axis]
    given = given_label(handed, predicted, ignore)
    found = check_slices(returned, given, axis, request.slices, ignore, before)
    if not accepted and (said := half_done(case, request.axis, found)):
        return said
    take = found.to_take(accepted)
    known = campaign.ingested.get(case, {}) if campaign.status_of(case) == "labelled" else {}
    repeated = TakenBefore.of(known).repeated_slices(file, returned, axis, ignore)
    return bool(take) or bool(merge_slices(before, returned, axis, take, ignore, handed, repeated).corrected)


def _look_into(
    raw: RawDataset,
    store: CaseStore,
    case: str,
    file: Path,
    slices: SliceRequest | None = None,
    handed: np.ndarray | None = None,
) -> np.ndarray | str:
    """A label, without the background of slices that were not asked for; or the reason why ingest refuses it."""
    reader = image_reader(store.plans)
    try:
        label = read_label(case, file, raw.cases[case].images[0], raw.dataset_json, reader, raw.file_ending)
    except BadCase as error:
        return str(error)
    if slices is None:
        return label.voxels
    # not every format can mark the other slices as unlabelled
    ignore = ignore_value(raw.dataset_json)
    return forget_background(label.voxels, NUMPY_AXIS[slices.axis], slices.slices, ignore, handed)
