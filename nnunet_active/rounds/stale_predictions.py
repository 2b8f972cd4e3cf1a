"""Predictions that are not those of the present model: of an earlier campaign, or of a source network that another one replaced.

A hand-off folder is never deleted: it is kept under another name, and written anew.
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
    """See to it that what is handed over was not predicted before another source network was planned with.

    The archive notes the source network of its time. Where finished labels wait in the folder, it stays as it is until they were taken
    back: nobody has to look for them.

    Args:
        workspace: its campaign is locked.
        number: of the round.
        cases: those of the round that wait.
        log: where to tell.
    """
    campaign = workspace.campaign
    now = workspace.plans.get("source_models", {}).get(campaign.configuration, {}).get("weights")
    if now is None:  # plans of nnU-Net's own: their source is never replaced under a campaign
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
        for case in cases:  # without a label map the archive predicts anew
            (archive / f"{case}{workspace.dataset_json['file_ending']}").unlink(missing_ok=True)
    archive.mkdir(parents=True, exist_ok=True)
    write_json(note, now)


def _read(note: Path) -> str | None:
    """None: nothing is noted, or it cannot be read."""
    try:
        return read_state(note, str, "the digest of a source network") if note.is_file() else None
    except CampaignError:
        return None
