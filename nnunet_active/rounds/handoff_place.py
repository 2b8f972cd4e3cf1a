"""Where a round is handed over: each has a folder of its own, so that nobody's labels are taken for those of another round."""

from __future__ import annotations

from pathlib import Path

from nnunet_active.annotation.records import HANDOFF_FILE
from nnunet_active.campaign.campaign import Campaign
from nnunet_active.data.raw_dataset import RawDataset
from nnunet_active.returned.answered_round import own_record
from nnunet_active.util.log import Log
from nnunet_active.util.outputs import name_aside


def default_folder(campaign: Campaign, raw: RawDataset, number: int) -> Path:
    """``nnUNet_raw/DatasetXXX/annotate/fold_0_round_001``: beside the scans, where people keep what took them hours."""
    return raw.folder / "annotate" / f"fold_{campaign.fold}_round_{number:03d}"


def stays_in_place(campaign: Campaign, number: int, folder: Path | None) -> bool:
    """Whether a round was handed over in the folder that is named now, or below it; None: anywhere."""
    recorded = campaign.handoff_folder(number)
    return recorded is not None and (folder is None or _is_within(recorded, folder))


def new_place(campaign: Campaign, raw: RawDataset, number: int, folder: Path | None, alone: bool, log: Log) -> Path:
    """Where a round goes that is not handed over yet, or elsewhere.

    Args:
        campaign: opened.
        raw: for the default.
        number: of the round.
        folder: where to; None: :func:`default_folder`.
        alone: whether no other round goes to the folder that was named. One that is alone has it for itself, unless something was
            handed over there before; all others have a folder of their own in it.
        log: where to tell that it goes below ``folder`` for what was handed over there before.
    """
    place = folder or default_folder(campaign, raw, number)
    holder = _holder(campaign, number, place)
    if holder is None and folder is not None and (place / HANDOFF_FILE).is_file():
        holder = "what was handed over earlier"
    if holder is None and (alone or folder is None):
        return place.absolute()
    inner = place / f"round_{number:03d}"
    if (inner / HANDOFF_FILE).is_file() and own_record(
        campaign, inner
    ) is None:  # somebody else's, who may still need it
        inner = place / f"{campaign.place.dataset}_fold_{campaign.fold}_round_{number:03d}"
    if holder is not None:
        log(f"{place} holds {holder}, so round {number} goes to {inner}.")
    return inner.absolute()


def set_folder_aside(campaign: Campaign, number: int, place: Path, whose: str, log: Log) -> None:
    """Keep a hand-off folder under another name; nothing where there is none.

    Other rounds that were handed over in it, or below it, are found under the new name from then on.

    Args:
        campaign: locked.
        number: of the round that begins anew in its place.
        place: of the folder.
        whose: the predictions in it, for people: ``of an earlier hand-off``.
        log: where to tell.
    """
    if not (place / HANDOFF_FILE).is_file():
        return
    folders = {one.number: folder for one in campaign.rounds if (folder := campaign.handoff_folder(one.number))}
    # a run that was killed before it could rename the folder has recorded the new name already
    begun = (above for folder in folders.values() for above in (folder, *folder.parents))
    mark = f"{place.name}_until_"
    kept = next(
        (one for one in begun if one.name.startswith(mark) and one.parent == place.parent and not one.exists()), None
    )
    kept = kept or name_aside(place)
    along = {
        other: kept / folder.resolve().relative_to(place.resolve())
        for other, folder in folders.items()
        if other != number and _is_within(folder, place)
    }
    for other, folder in along.items():  # before it is there: a kill must leave no round whose labels nobody looks for
        campaign.record_handoff(other, folder)
    place.rename(kept)
    log(
        f"{place} held the predictions {whose}; it was kept as {kept.name}. If labels in it are finished, "
        f"take them with nnunet_active ingest --from {kept}."
    )
    for other, folder in along.items():
        log(f"Round {other} is in {folder} now.")


def _holder(campaign: Campaign, number: int, place: Path) -> str | None:
    """Which other round of the campaign was handed over in a folder, or below it."""
    for one in campaign.rounds:
        folder = campaign.handoff_folder(one.number)
        if one.number != number and folder is not None and _is_within(folder, place):
            return f"round {one.number}"
    return None


def _is_within(folder: Path, other: Path) -> bool:
    return folder.resolve().is_relative_to(other.resolve())
