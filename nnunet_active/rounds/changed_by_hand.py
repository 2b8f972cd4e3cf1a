"""What somebody changed in the files that a campaign rests on, for whoever looks where it stands."""

from __future__ import annotations

from pathlib import Path

from nnunet_active.campaign.splits import edited_by_hand
from nnunet_active.data.dataset_json import changed_description
from nnunet_active.returned.label_places import is_as_recorded
from nnunet_active.workspace import Workspace


def changes_by_hand(workspace: Workspace) -> list[str]:
    """One sentence for each file: what was changed, what counts now, and what to do; none if all is as it was.

    Args:
        workspace: with a campaign.

    Raises:
        MissingInput, CampaignError: a file cannot be used at all.
    """
    description = changed_description(workspace.raw.dataset_json, workspace.dataset_json)
    split = edited_by_hand(workspace.folder, workspace.campaign.split_entries())
    return [*filter(None, (description, split)), *_corrections(workspace), *withdrawn(workspace)]


def withdrawn(workspace: Workspace) -> list[str]:
    """Which cases count as labelled although their label was deleted, in the raw data set and where it was preprocessed."""
    campaign = workspace.campaign
    seen = {*campaign.labelled()} & {*campaign.initial, *campaign.ingested}
    missing = seen - {*workspace.raw.labelled}
    # mostly none is missing, and the preprocessed cases need not be listed
    gone = missing and missing - {*workspace.store.labelled_identifiers()}
    if not gone:
        return []
    what, it = ("label", "it") if len(gone) == 1 else ("labels", "them")
    return [
        f"The {what} of {', '.join(sorted(gone))} cannot be found any more although this campaign counts {it}, so no training can run; "
        f"put {it} back and run {workspace.commands.preprocess()}, or begin a new campaign with nnunet_active init ... --restart."
    ]


def _corrections(workspace: Workspace) -> list[str]:
    """Which labels were edited after they had been taken, if ``ingest`` would take them again, and from where."""
    campaign = workspace.campaign
    edited = {
        case: places
        for case, facts in campaign.ingested.items()
        if (places := [place for place, entry in facts.get("files", {}).items() if _differs(Path(place), entry)])
    }
    if not edited.keys() - {*campaign.waiting()} or not campaign.asks_a_person:
        return []
    from nnunet_active.returned.ingest_report import IngestReport
    from nnunet_active.returned.label_finder import LabelFinder  # not above: reading label images needs slow imports

    told: set[str] = {*campaign.waiting()}
    said = []
    # None: where ingest looks by itself
    for folder in (None, *sorted({str(Path(place).parent) for places in edited.values() for place in places})):
        named = [] if folder is None else ["--from", folder]
        found = edited.keys() & {*LabelFinder(campaign, map(Path, named[1:]), [], IngestReport()).look()} - told
        if found:
            command = workspace.commands.ingest(*named)
            said.append(
                f"Edited since it was taken: the label of {', '.join(sorted(found))}. {command} takes it again."
            )
        told |= found
    return said


def _differs(file: Path, entry: list) -> bool:
    try:
        return not is_as_recorded(file, entry)
    except OSError:  # gone, or in a folder that this user may not read
        return False
