"""Handles labels that a training finds in ``labelsTr`` by itself: joins them with earlier ones and records them as ``ingest`` does."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from nnunet_active.campaign.campaign import Campaign
from nnunet_active.campaign.slice_request import SliceRequest
from nnunet_active.data.partial_labels import labelled_slices
from nnunet_active.data.slice_map import NUMPY_AXIS
from nnunet_active.returned.finished_label import FinishedLabel
from nnunet_active.returned.ingest_report import IngestReport
from nnunet_active.returned.label_desk import LabelDesk
from nnunet_active.returned.label_finder import LabelFinder
from nnunet_active.util.errors import BadCase, CampaignInUse
from nnunet_active.util.lock import hold
from nnunet_active.util.log import Log


def settle_found(
    campaign: Campaign, cases: Iterable[str], log: Log = print
) -> tuple[dict[str, SliceRequest], dict[str, str]]:
    """Join labels of slices in ``labelsTr`` with what was labelled before, so that a training can take them.

    Args:
        campaign: opened and locked.
        cases: cases that wait for a label.
        log: gets warnings.

    Returns:
        The new slices in the joined label of each case; and for each case that cannot be taken now, a sentence that says why.
    """
    new: dict[str, SliceRequest] = {}
    refused: dict[str, str] = {}
    if not (campaign.asks_for_slices and campaign.asks_a_person):
        return new, refused
    report = IngestReport()
    finder = LabelFinder(campaign, [], [], report)
    desk, waiting = LabelDesk(campaign, finder, report, log), campaign.waiting_slices()
    found = {case: finder.label_file(case) for case in cases if case in finder.raw.cases and case in waiting}
    found = {case: file for case, file in found.items() if file.is_file() and not finder.is_known(case, file)}
    if not found:
        return new, refused
    try:
        with hold(desk.kept):
            for case, file in found.items():
                try:
                    seen = finder.read(case, file)
                except BadCase as error:
                    refused[case] = str(error)
                    continue
                # the training itself refuses labels of the whole scan, and skips labels without a waiting slice
                there = labelled_slices(seen.voxels, NUMPY_AXIS[waiting[case].axis], finder.ignore)
                if seen.in_part and set(there) & set(waiting[case].slices):
                    laid = desk.deliver({case: replace(FinishedLabel.of(seen), accepted=True)})
                    new.update({case: label.slices for case, label in laid.items() if label.slices is not None})
    except CampaignInUse as error:  # another process is delivering labels right now
        return {}, dict.fromkeys(found, str(error))
    for sentence in (one for case, said in report.warnings.items() if case not in report.refused for one in said):
        log(f"WARNING: {sentence}")
    return new, {**refused, **report.refused}


def note_labels(
    campaign: Campaign, cases: Iterable[str], log: Log = print, slices: Mapping[str, SliceRequest] | None = None
) -> None:
    """Record facts about labels that a training found in ``labelsTr`` by itself, as :func:`ingest` does.

    Args:
        campaign: opened and locked; the cases do not count as labelled yet.
        cases: cases whose labels are in ``labelsTr`` and preprocessed.
        log: gets warnings.
        slices: the new slices of partly labelled cases.
    """
    cases = list(cases)
    if not cases:
        return
    report = IngestReport()
    finder = LabelFinder(campaign, [], [], report)
    desk = LabelDesk(campaign, finder, report, log)
    for case in cases:
        try:
            label = FinishedLabel.of(finder.read(case, finder.label_file(case)))
            label.slices = (slices or {}).get(case)
        except BadCase as error:  # nnU-Net has accepted the label; only the comparison is lost
            log(f"WARNING: {error}")
            continue
        desk.record(case, label)
