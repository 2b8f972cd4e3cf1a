"""Finds the round that a returned file answers: the round of the hand-off folder it lies in, wherever that folder is now."""

from __future__ import annotations

from pathlib import Path

from nnunet_active.annotation.records import HANDOFF_FILE, read_handoff
from nnunet_active.campaign.campaign import Campaign
from nnunet_active.util.errors import MissingInput


def answered_round(campaign: Campaign, case: str, file: Path) -> int | None:
    """The number of the round; None if the file answers all requests of the case.

    Args:
        campaign: opened.
        case: identifier.
        file: a file of the case; its path may be relative or contain links, and its folder may have been moved or copied.
    """
    recorded: dict[Path, int] = {}
    for one in campaign.rounds:  # if several rounds share a folder, the last one counts
        if (folder := campaign.handoff_folder(one.number)) is not None:
            recorded[folder.resolve()] = one.number
    for folder in _folders_above(file):
        number = recorded.get(folder.resolve()) or own_record(campaign, folder)
        if number is not None and any(case in one.slices for one in campaign.rounds[:number]):
            return number
    return None


def _folders_above(file: Path) -> list[Path]:
    """The folders above a file, innermost first: as the path names them, then with links resolved."""
    return list(dict.fromkeys([*file.absolute().parents, *(file.parent.resolve() / file.name).parents]))


def own_record(campaign: Campaign, folder: Path) -> int | None:
    """The round recorded in a hand-off folder; None if the folder is not of this campaign."""
    if not (folder / HANDOFF_FILE).is_file():
        return None
    try:
        content = read_handoff(folder)
    except MissingInput:
        return None
    ours = (content.get("dataset"), str(content.get("fold"))) == (campaign.place.dataset, campaign.fold)
    number = content.get("round")
    return number if ours and isinstance(number, int) and 0 < number <= len(campaign.rounds) else None
