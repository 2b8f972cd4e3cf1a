"""The network that asks and the network that is trained: they begin as the same one, or it is said that they do not."""

from __future__ import annotations

import json

from nnunet_active.data.campaign_files import campaign_files
from nnunet_active.models.source_model import SourceModel, find_source, source_folder
from nnunet_active.nnunet.safe_checkpoint import weights_digest
from nnunet_active.util.errors import ActiveError, CampaignError
from nnunet_active.workspace import Workspace


def check_asking_model(workspace: Workspace, named: SourceModel) -> list[str]:
    """Compare a model that a user names for asking with the source network, from which a training starts.

    Returns:
        Sentences about what will happen.

    Raises:
        CampaignError: no campaign has begun, and the plans were made from another model: it would be trained, and this one would ask.
    """
    kept = _kept(workspace)
    if kept is None or weights_digest(kept.weights) == weights_digest(named.weights):
        return []
    if workspace.found_campaign is not None:
        return [
            f"The model that you named asks; a training starts from the source network, {kept.origin}, not from it."
        ]
    if not _is_same_model(kept, named):
        raise CampaignError(
            f"Leave -m away, or plan with the new model under another name ({workspace.commands.plan()} -plans_name NAME, then "
            f"-p NAME): the plans {workspace.plans_name} of {workspace.dataset} were made from another model, from which a training "
            f"would start while {named.origin} asks."
        )
    return [
        f"Fold {named.fold} of the model asks; a training starts from its fold {kept.fold}, which was kept with the plans."
    ]


def check_new_source(workspace: Workspace, source: SourceModel) -> list[str]:
    """Before a source network is written beside the plans, which all folds share.

    Returns:
        Sentences about what will happen.

    Raises:
        CampaignError: campaigns of other folds start from the one that would be replaced.
    """
    kept = _kept(workspace)
    if kept is None or weights_digest(kept.weights) == weights_digest(source.weights):
        return []
    others = [
        fold
        for fold in campaign_files(workspace.folder)
        if fold != workspace.fold and _same_place(workspace, Workspace(workspace.dataset, fold))
    ]
    if others:
        raise CampaignError(
            f"Leave -m away, or use plans of another name (-p): the campaigns of fold {', '.join(others)} start from the source "
            f"network that is kept for the plans {workspace.plans_name}, and {source.origin} is another one."
        )
    return [f"The source network that was kept for the plans {workspace.plans_name} makes way for {source.origin}."]


def _kept(workspace: Workspace) -> SourceModel | None:
    """The source network beside the plans; one that cannot be read is as good as none."""
    if not source_folder(workspace.folder, workspace.plans_name, workspace.configuration).is_dir():
        return None
    try:
        where = (workspace.folder, workspace.plans_name, workspace.configuration, workspace.fold)
        return workspace.source if "source" in vars(workspace) else find_source(*where, None)
    except ActiveError:
        return None


def _is_same_model(one: SourceModel, other: SourceModel) -> bool:
    """Other folds of a model have its plans and its data set."""

    def text(model: SourceModel) -> str:
        return json.dumps([model.plans, model.dataset_json], sort_keys=True)

    return text(one) == text(other)


def _same_place(one: Workspace, other: Workspace) -> bool:
    return (one.plans_name, one.configuration) == (other.campaign.plans, other.campaign.configuration)
