"""Labels that a training finds in ``labelsTr`` by itself: joined with what was labelled before, and noted as ``ingest`` does."""

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
    """Before a training takes labels of some slices from ``labelsTr`` by itself: join them with what was labelled before.

    Args:
        campaign: opened and locked.
        cases: that wait for a label.
        log: where to tell.

    Returns:
        The slices of each case that are new in its joined label; and cases of which nothing may be taken now, with a sentence.
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
                # the training refuses what says something of the whole scan, and passes over what answers nothing
                there = labelled_slices(seen.voxels, NUMPY_AXIS[waiting[case].axis], finder.ignore)
                if seen.in_part and set(there) & set(waiting[case].slices):
                    laid = desk.deliver({case: replace(FinishedLabel.of(seen), accepted=True)})
                    new.update({case: label.slices for case, label in laid.items() if label.slices is not None})
    except CampaignInUse as error:  # labels are being put there at this moment
        return {}, dict.fromkeys(found, str(error))
    for sentence in (one for case, said in report.warnings.items() if case not in report.refused for one in said):
        log(f"WARNING: {sentence}")
    return new, {**refused, **report.refused}


def note_labels(
    campaign: Campaign, cases: Iterable[str], log: Log = print, slices: Mapping[str, SliceRequest] | None = None
) -> None:
    """Record what is known of labels that a training found in ``labelsTr`` by itself, as :func:`ingest` does.

    Args:
        campaign: opened and locked; the cases do not count as labelled yet.
        cases: their labels are in ``labelsTr`` and preprocessed.
        log: where to tell.
        slices: of cases that are labelled in part, the slices that are new.
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
        except BadCase as error:  # it was good enough for nnU-Net; only the comparison is lost
            log(f"WARNING: {error}")
            continue
        desk.record(case, label)
