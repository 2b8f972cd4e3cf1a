"""Takes finished labels back: from the hand-off folders, from ``labelsTr``, or from any folder.

First, it reads every file without writing anything (see ``label_finder``). Then it puts each finished label into ``labelsTr`` in one
step, and keeps a label that was there before in ``replaced_labels``. Only then does it lock the campaign, preprocess the label and
count the case as labelled. Every step can be repeated: after a kill, the same command finds what is missing and goes on.
It never changes the annotators' own files.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from nnunet_active.campaign.campaign import Campaign
from nnunet_active.campaign.cross_validation import campaign_for
from nnunet_active.campaign.splits import check_split_files, edited_by_hand
from nnunet_active.nnunet.nnunet_paths import preprocessed_folder
from nnunet_active.returned.ingest_report import IngestReport
from nnunet_active.returned.label_desk import LabelDesk
from nnunet_active.returned.label_finder import LabelFinder
from nnunet_active.util.atomic import sweep
from nnunet_active.util.errors import CampaignInUse
from nnunet_active.util.lock import hold
from nnunet_active.util.log import Log
from nnunet_active.workspace import Workspace


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
    """Take back the finished labels of a campaign.

    Args:
        dataset: full name.
        fold: fold of the campaign, or one that it covers.
        folders: folders to search at any depth; empty for the campaign's hand-off folders and ``labelsTr``.
        accept_unchanged: cases whose prediction is accepted unchanged.
        decline: for each case that nobody can label, the reason; it waits, or was declined before and gets a new reason.
        also_drawn: also take slices that were drawn but not asked for, even from files that were taken before.
        log: gets messages on progress.

    Returns:
        What was done with every case. A refused label changes nothing.

    Raises:
        MissingInput: there is no campaign, data set or folder of that name.
        CampaignError: a named case does not exist; or a case is to be declined while another process holds the campaign.
    """
    campaign = campaign_for(preprocessed_folder(dataset), fold)
    if campaign is None:
        campaign = Campaign.open(preprocessed_folder(dataset), fold)  # raises MissingInput
    report = IngestReport()
    finder = LabelFinder(campaign, [Path(folder) for folder in folders], accept_unchanged, report, also_drawn)
    desk = LabelDesk(campaign, finder, report, log)
    campaign.adopt()
    desk.check_arguments(decline or {})
    check_split_files(campaign.dataset_folder)  # they follow the labels, so change nothing if they cannot
    if edited := edited_by_hand(campaign.dataset_folder, campaign.split_entries()):
        report.notes.append(edited)
    with hold(desk.kept):
        sweep(finder.raw_folder / "labelsTr")  # left by killed runs
        if decline:  # first: if a training holds the campaign, this fails, and no label was put anywhere
            with campaign.lock():
                for case, reason in decline.items():
                    report.declined += campaign.decline([case], reason)
        labels = {} if desk.retrospective else desk.deliver(finder.look())
        try:
            with campaign.lock():
                desk.take_up(labels)
        except CampaignInUse as error:
            report.delivered = sorted(labels)
            report.notes.append(
                f"{error} What is finished lies in {finder.raw_folder / 'labelsTr'} already, where a training that waits finds it."
            )
    report.waiting = [case for case in campaign.waiting() if case not in report.delivered]
    report.unasked = [case for case in report.taken if case not in campaign.requested()]
    settled = {*report.taken, *report.corrected, *report.refused}
    report.astray = {
        case: said for case, said in report.astray.items() if case in report.waiting and case not in settled
    }
    # a prediction is not offered as right while a label of its case may lie beside it
    report.untouched = {
        case: files for case, files in report.untouched.items() if case in report.waiting and case not in report.astray
    }
    for case in sorted(finder.accept - {*report.untouched, *report.refused, *report.taken, *report.corrected}):
        if case not in campaign.requested():
            why = "it was never asked for, so nothing was predicted for anybody."
        elif case in report.waiting:
            why = f"no prediction of it is in a hand-off folder; {Workspace.of(campaign).commands.annotate()} puts it there."
        else:
            continue
        report.refused[case] = f"Case {case} cannot be accepted: {why}"
    return report
