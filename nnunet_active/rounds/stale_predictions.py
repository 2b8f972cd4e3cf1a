"""Replaces stale predictions: those of an earlier campaign, or of a source network that has since been replaced.

A hand-off folder is never deleted. It is kept under another name, and a new one is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nnunet_active.rounds.handoff_place import set_folder_aside
from nnunet_active.rounds.labels_at_hand import returned_labels
from nnunet_active.util.atomic import write_json
from nnunet_active.util.errors import CampaignError
from nnunet_active.util.log import Log
from nnunet_active.util.state_file import read_state
from nnunet_active.workspace import Workspace

_SOURCE = ".source_network.json"  # no case has a name that begins with a dot


def forget_stale_predictions(workspace: Workspace, number: int, cases: Sequence[str], log: Log) -> None:
    """Drop the round's archived predictions if the plans now have another source network than at the time of prediction.

    The archive records the source network of its time. If the hand-off folder holds finished labels, everything stays in place until
    these are taken back, so that nobody has to search for them.

    Args:
        workspace: its campaign is locked.
        number: number of the round.
        cases: the round's waiting cases.
        log: gets messages.
    """
    campaign = workspace.campaign
    now = workspace.plans.get("source_models", {}).get(campaign.configuration, {}).get("weights")
    if now is None:  # nnU-Net's own plans: their source is never replaced during a campaign
        return
    archive = campaign.predictions_folder(number)
    note = archive / _SOURCE
    before = _read(note)
    if before == now:
        return
    if before is not None:
        returned = returned_labels(campaign, workspace.raw, workspace.store)
        if finished := [case for case in cases if returned[case].ready or returned[case].refused]:
            log(
                f"Labels are finished ({', '.join(finished)}), so round {number} keeps the predictions of the source network before; "
                f"{workspace.commands.ingest()} takes them back, and annotate then predicts the others anew."
            )
            return
        place = campaign.handoff_folder(number)
        if place is not None:
            set_folder_aside(campaign, number, place, "of the source network before the present one", log)
        for case in cases:  # the archive predicts a case again if its label map is missing
            (archive / f"{case}{workspace.dataset_json['file_ending']}").unlink(missing_ok=True)
    archive.mkdir(parents=True, exist_ok=True)
    write_json(note, now)


def _read(note: Path) -> str | None:
    """The recorded digest; None if there is none or it cannot be read."""
    try:
        return read_state(note, str, "the digest of a source network") if note.is_file() else None
    except CampaignError:
        return None
