"""Checks that the querying network and the training start from the same source; if they do not, warns or refuses."""

from __future__ import annotations

import json

from nnunet_active.commands import Commands
from nnunet_active.data.campaign_files import campaign_files
from nnunet_active.data.dataset_json import channel_names
from nnunet_active.data.plans import configuration_of
from nnunet_active.models.name_mapping import map_channels
from nnunet_active.models.source_model import SourceModel, find_source, source_folder
from nnunet_active.nnunet.safe_checkpoint import weights_digest
from nnunet_active.util.errors import ActiveError, CampaignError
from nnunet_active.workspace import Workspace


def check_asking_model(workspace: Workspace, named: SourceModel) -> list[str]:
    """Compare a model that the user names for the query with the source network, from which a training starts.

    Returns:
        Sentences about what will happen.

    Raises:
        CampaignError: no campaign has begun, and the plans were made from another model, from which the training would start.
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
            f"Leave -m out, or plan with the new model under another name ({workspace.commands.plan()} -plans_name NAME, then "
            f"-p NAME): the plans {workspace.plans_name} of {workspace.dataset} were made from another model, from which a training "
            f"would start while {named.origin} asks."
        )
    return [
        f"Fold {named.fold} of the model asks; a training starts from its fold {kept.fold}, which was kept with the plans."
    ]


def check_new_source(workspace: Workspace, source: SourceModel) -> list[str]:
    """Check a new source network before it is written beside the plans, which all folds share.

    Returns:
        Sentences about what will happen.

    Raises:
        CampaignError: campaigns of other folds start from the source network that would be replaced.
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
            f"Leave -m out, or use plans of another name (-p): the campaigns of fold {', '.join(others)} start from the source "
            f"network that is kept for the plans {workspace.plans_name}, and {source.origin} is another one."
        )
    return [f"{source.origin} replaces the source network that was kept for the plans {workspace.plans_name}."]


def prepared_differently(workspace: Workspace, source: SourceModel) -> list[str]:
    """What the target's plans do differently with an image than the source's plans did: spacing, axis order, reader, normalisation.

    Returns:
        One sentence; none if all is the same, if the plans were made from this source, or if it is an encoder alone, which is trained
        on.
    """
    theirs, ours = source.plans, workspace.plans
    made_from = ours.get("source_models", {}).get(workspace.configuration, {}).get("weights")
    if source.encoder_only or made_from == weights_digest(source.weights):
        return []
    there, here = configuration_of(theirs, source.configuration), configuration_of(ours, workspace.configuration)
    pairs = {"spacing": ([f"{one:.3g}" for one in there["spacing"]], [f"{one:.3g}" for one in here["spacing"]])}
    pairs |= {key: (theirs.get(key), ours.get(key)) for key in ("transpose_forward", "image_reader_writer")}
    channels = map_channels(channel_names(source.dataset_json), channel_names(workspace.dataset_json))
    feeding = [0] * len(channels.target) if channels.kind == "shared" else channels.indices
    for channel, (name, index) in enumerate(zip(channels.target, feeding, strict=True)):
        if index is not None:
            both = _normalisation(theirs, there, index), _normalisation(ours, here, channel)
            pairs[f"normalisation of {name}"] = both
    differ = [f"{what} {_words(then)} there, {_words(now)} here" for what, (then, now) in pairs.items() if then != now]
    if not differ:
        return []
    plan = Commands(workspace.dataset, workspace.configuration, "NAME").plan()
    return [
        f"WARNING: the plans prepare images differently from the source's plans ({'; '.join(differ)}), so the network sees images "
        f"unlike those it was trained on; {plan} makes plans from the source."
    ]


def _normalisation(plans: dict, configuration: dict, channel: int) -> str:
    """Scheme of a channel in words; with the mask, and for CT with the range and the mean that it uses."""
    scheme = configuration["normalization_schemes"][channel]
    masked = " within the mask" if configuration["use_mask_for_norm"][channel] else ""
    if scheme != "CTNormalization":
        return scheme + masked
    known = plans.get("foreground_intensity_properties_per_channel", {}).get(str(channel), {})
    facts = (known.get(name) for name in ("percentile_00_5", "percentile_99_5", "mean", "std"))
    low, high, mean, std = ("?" if fact is None else f"{fact:.4g}" for fact in facts)
    return f"{scheme}{masked} ({low} to {high}, {mean} ± {std})"


def _words(value: object) -> str:
    return " x ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _kept(workspace: Workspace) -> SourceModel | None:
    """The source network beside the plans; None if there is none that can be read."""
    if not source_folder(workspace.folder, workspace.plans_name, workspace.configuration).is_dir():
        return None
    try:
        where = (workspace.folder, workspace.plans_name, workspace.configuration, workspace.fold)
        return workspace.source if "source" in vars(workspace) else find_source(*where, None)
    except ActiveError:
        return None


def _is_same_model(one: SourceModel, other: SourceModel) -> bool:
    """Whether two folds belong to the same model: they share plans and ``dataset.json``."""

    def text(model: SourceModel) -> str:
        return json.dumps([model.plans, model.dataset_json], sort_keys=True)

    return text(one) == text(other)


def _same_place(one: Workspace, other: Workspace) -> bool:
    return (one.plans_name, one.configuration) == (other.campaign.plans, other.campaign.configuration)
