"""What somebody changed in the files that a campaign rests on, for whoever looks where it stands."""

from __future__ import annotations

from nnunet_active.campaign.splits import edited_by_hand
from nnunet_active.data.dataset_json import changed_description
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
    return [sentence for sentence in (description, split) if sentence]
