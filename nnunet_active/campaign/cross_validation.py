"""Cross-validation in a campaign: when it can be switched on, and which campaign a fold belongs to. ``folds`` assigns the cases."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nnunet_active.campaign.campaign import Campaign
from nnunet_active.campaign.splits import define_fold
from nnunet_active.data.campaign_files import campaign_file
from nnunet_active.util.errors import CampaignError


def campaign_for(dataset_folder: Path, fold: str | int) -> Campaign | None:
    """The campaign that a training of ``fold`` belongs to: the fold's own, or one whose cross-validation covers the fold."""
    for own in dict.fromkeys((str(fold), "0", "all")):
        if campaign_file(dataset_folder, own).is_file():
            campaign = Campaign.open(dataset_folder, own)
            if own == str(fold) or covers(campaign, fold):
                return campaign
    return None


def covers(campaign: Campaign, fold: str | int) -> bool:
    """Whether ``fold`` is one of a campaign's cross-validation folds (including its own fold)."""
    return campaign.settings.folds > 1 and str(fold).isdecimal() and int(fold) < campaign.settings.folds


def check_can_be_trained(campaign: Campaign, fold: str) -> None:
    """Refuse another fold than the campaign's own until every fold has a case to validate on.

    Raises:
        CampaignError: some fold has no case yet; the message says how many have one.
    """
    if fold != campaign.fold and not campaign.folds_are_complete:
        there = len(set(campaign.fold_of.values()))
        raise CampaignError(
            f"Fold {fold} cannot be trained yet: {there} of the campaign's {campaign.settings.folds} folds have a labelled case, "
            f"and each needs one; label more cases first, or train fold {campaign.fold}."
        )


def check_folds(
    dataset_folder: Path, fold: str, folds: int, raw_folder: Path | None = None, generated: Sequence[dict] | None = None
) -> None:
    """Refuse folds that would clash with the user's own split file or with another campaign.

    Args:
        dataset_folder: ``nnUNet_preprocessed/DatasetXXX``.
        fold: the fold of the campaign to start or change.
        folds: K; 1 if the campaign has no cross-validation of its own.
        raw_folder: ``nnUNet_raw/DatasetXXX``.
        generated: nnU-Net's default cross-validation; folds equal to it do not count as the user's.

    Raises:
        CampaignError: there is a clash; the message says with what.
    """
    name = dataset_folder.name
    other = campaign_for(dataset_folder, fold)
    if other is not None and other.fold != fold:
        raise CampaignError(
            f"Fold {fold} of {name} belongs to the campaign of fold {other.fold}, which has {other.settings.folds} folds; train it "
            f"as it is, or choose a fold from {other.settings.folds} on."
        )
    if folds <= 1:
        return
    if fold not in ("0", "all"):
        raise CampaignError(
            f"--folds {folds} goes with -f 0 or -f all, whose campaign then covers folds 0 to {folds - 1}."
        )
    for number in range(folds):
        file = campaign_file(dataset_folder, number)
        if str(number) != fold and file.is_file():
            raise CampaignError(
                f"--folds {folds} would cover fold {number} of {name}, which has a campaign of its own ({file}); set that folder "
                f"aside first, or leave --folds out."
            )
    for number in range(folds):
        definition = define_fold(dataset_folder, str(number), raw_folder)
        made = generated[number] if generated and number < len(generated) else None
        if definition and not (
            made and (definition.train, definition.val) == (tuple(made["train"]), tuple(made["val"]))
        ):
            raise CampaignError(
                f"{definition.origin} defines fold {number} of {name} already, so --folds {folds} would overrule it; leave --folds "
                f"away, or move that file away."
            )


def switch_on(campaign: Campaign, folds: int, raw_folder: Path | None = None) -> list[str]:
    """Give K folds to a campaign that has none; the caller holds its lock.

    Returns:
        Sentences for the user: what to train again so that validation is valid.

    Raises:
        CampaignError: the campaign has folds already, they are defined elsewhere (see :func:`check_folds`), or cases are held out.
    """
    if not check_switch_on(campaign, folds, raw_folder):
        return []
    campaign.set_folds(folds)
    _, val = campaign.sides(campaign.fold)
    if val and campaign.rounds:
        return [
            f"WARNING: {', '.join(val)} validate fold {campaign.fold} from now on, but a network trained so far may have seen them; "
            f"train fold {campaign.fold} anew before you trust its validation."
        ]
    return []


def check_switch_on(campaign: Campaign, folds: int, raw_folder: Path | None = None) -> bool:
    """Whether :func:`switch_on` would change anything. Raises the same errors, but writes nothing."""
    had = campaign.settings.folds
    if had == folds:
        return False
    if had > 1:
        raise CampaignError(
            f"The campaign of fold {campaign.fold} has {had} folds, and a case never changes its fold; leave --folds out."
        )
    if campaign.val:
        raise CampaignError(
            f"{len(campaign.val)} cases are held out in fold {campaign.fold} ({campaign.split_origin or 'split file'}), "
            f"so its folds are decided already; leave --folds out."
        )
    check_folds(campaign.dataset_folder, campaign.fold, folds, raw_folder)
    return True
