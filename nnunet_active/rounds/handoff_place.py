"""Decides where a round is handed over. Each round has its own folder, so that labels are never mistaken for another round's."""

from __future__ import annotations

import os
from pathlib import Path

from nnunet_active.annotation.records import HANDOFF_FILE
from nnunet_active.campaign.campaign import Campaign
from nnunet_active.data.raw_dataset import RawDataset
from nnunet_active.returned.answered_round import own_record
from nnunet_active.util.errors import MissingInput
from nnunet_active.util.log import Log
from nnunet_active.util.outputs import name_aside
from nnunet_active.workspace import Workspace


def default_folder(campaign: Campaign, raw: RawDataset, number: int) -> Path:
    """``nnUNet_raw/DatasetXXX/annotate/fold_0_round_001``: beside the scans, since labels that took hours belong with the data."""
    return _home(raw) / f"fold_{campaign.fold}_round_{number:03d}"


def stays_in_place(campaign: Campaign, number: int, folder: Path | None) -> bool:
    """Whether a round was handed over in or below ``folder``; with None, whether it was handed over at all."""
    recorded = campaign.handoff_folder(number)
    return recorded is not None and (folder is None or _is_within(recorded, folder))


def new_place(campaign: Campaign, raw: RawDataset, number: int, folder: Path | None, alone: bool, log: Log) -> Path:
    """The hand-off folder of a round that was not handed over yet, or that moves.

    Args:
        campaign: opened.
        raw: gives the default folder.
        number: number of the round.
        folder: the named folder; None for :func:`default_folder`.
        alone: whether this is the only round that goes to ``folder``. It then uses the folder itself, unless something was handed
            over there before. Otherwise each round gets a subfolder.
        log: gets a message if the round goes to a subfolder because of an earlier hand-off.
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
    ) is None:  # another campaign's folder, still needed perhaps
        inner = place / f"{campaign.place.dataset}_fold_{campaign.fold}_round_{number:03d}"
    if holder is not None:
        log(f"{place} holds {holder}, so round {number} goes to {inner}.")
    return inner.absolute()


def set_folder_aside(campaign: Campaign, number: int, place: Path, whose: str, log: Log) -> None:
    """Rename a hand-off folder to keep it; do nothing if there is none.

    Other rounds that were handed over in or below it are recorded under the new name.

    Args:
        campaign: locked.
        number: number of the round that will use ``place``.
        place: path of the folder.
        whose: where its predictions come from, for the message: ``of an earlier hand-off``.
        log: gets the message.
    """
    if not (place / HANDOFF_FILE).is_file():
        return
    folders = {one.number: folder for one in campaign.rounds if (folder := campaign.handoff_folder(one.number))}
    # a run that was killed before the rename has already recorded the new name
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
    for other, folder in along.items():  # before the rename: after a kill, every round's labels must still be found
        campaign.record_handoff(other, folder)
    place.rename(kept)
    log(
        f"{place} held the predictions {whose}; it was kept as {kept.name}. If labels in it are finished, "
        f"take them with {Workspace.of(campaign).commands.ingest('--from', str(kept))}."
    )
    for other, folder in along.items():
        log(f"Round {other} is in {folder} now.")


def _holder(campaign: Campaign, number: int, place: Path) -> str | None:
    """Another round of the campaign that was handed over in or below a folder, as text; None if there is none."""
    for one in campaign.rounds:
        folder = campaign.handoff_folder(one.number)
        if one.number != number and folder is not None and _is_within(folder, place):
            return f"round {one.number}"
    return None


def _is_within(folder: Path, other: Path) -> bool:
    return folder.resolve().is_relative_to(other.resolve())


def require_writable(raw: RawDataset, folder: Path | None) -> None:
    """Check that a hand-off folder can be made, before hours are spent on what it is to hold.

    Args:
        raw: gives the default folder.
        folder: the named folder, if any.

    Raises:
        MissingInput: the nearest folder above it that exists cannot be written.
    """
    folder = folder or _home(raw)
    there = next(one for one in (folder, *folder.absolute().parents) if one.exists())
    if there.is_dir() and not os.access(there, os.W_OK | os.X_OK):
        raise MissingInput(
            f"The hand-off cannot be written to {folder}, as {there} is read-only; name another folder with -o, or make it writable."
        )


def _home(raw: RawDataset) -> Path:
    return raw.folder / "annotate"
