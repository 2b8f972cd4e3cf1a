"""Cross-validation in a campaign: every labelled case belongs to one of K folds from its arrival on, for good.

One campaign, that of fold 0 (or ``all``), asks for labels for all K folds. A case that arrives goes to the smallest fold; among equal
ones the campaign's own comes last, so that the network that asks trains on the first K - 1 cases at once and never trains on a case
that it is validated on later. As soon as every fold has a case, ``splits_final.json`` holds K folds; ``val`` of a fold are its own
cases, ``train`` all others. Until then it holds the campaign's own fold only, which has no case yet (``val`` = ``train``).
Assigning the smallest fold is our choice: folds differ by one case at most, whatever the order in which labels arrive.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_active.errors import CampaignError
from nnunet_active.splits import define_fold

if TYPE_CHECKING:
    from nnunet_active.campaign import Campaign


def assign(fold_of: Mapping[str, int], arrivals: Iterable[str], folds: int, own: str) -> dict[str, int]:
    """The folds of cases that have just arrived; nobody who has a fold gets another.

    Args:
        fold_of: folds so far.
        arrivals: labelled cases in the order of their arrival.
        folds: K.
        own: the campaign's own fold, a number or ``all``.

    Returns:
        ``fold_of`` with the new cases.

    >>> assign({}, ["a", "b", "c", "d"], 3, "0")
    {'a': 1, 'b': 2, 'c': 0, 'd': 1}
    """
    known = dict(fold_of)
    order = sorted(range(folds), key=lambda fold: (str(fold) == own, fold))
    size = {fold: 0 for fold in order}
    for fold in known.values():
        size[fold] += 1
    for case in arrivals:
        if case not in known:
            known[case] = min(order, key=lambda fold: (size[fold], order.index(fold)))
            size[known[case]] += 1
    return known


def sides(labelled: Iterable[str], fold_of: Mapping[str, int], fold: str) -> tuple[list[str], list[str]]:
    """Who trains and who validates in a fold (``all``: everybody trains, nobody validates), both sorted."""
    labelled = sorted(labelled)
    return (
        [case for case in labelled if str(fold_of.get(case)) != fold],
        [case for case in labelled if str(fold_of.get(case)) == fold],
    )


def is_complete(labelled: Iterable[str], fold_of: Mapping[str, int], folds: int) -> bool:
    """Whether every fold has a labelled case."""
    return {fold_of[case] for case in labelled if case in fold_of} == set(range(folds))


def split_entries(campaign: Campaign) -> dict[int, tuple[list[str], list[str]]]:
    """The folds of ``splits_final.json`` that a campaign answers for, as they are now: index -> (train, val)."""
    labelled, folds = campaign.labelled(), campaign.settings.folds
    fold_of = campaign.state.get("fold_of", {})
    if folds <= 1:
        return {} if campaign.fold == "all" else {int(campaign.fold): (labelled, list(campaign.val))}
    if is_complete(labelled, fold_of, folds):
        return {fold: sides(labelled, fold_of, str(fold)) for fold in range(folds)}
    return {} if campaign.fold == "all" else {int(campaign.fold): sides(labelled, fold_of, campaign.fold)}


def campaign_for(dataset_folder: Path, fold: str | int) -> Campaign | None:
    """The campaign that a training of ``fold`` belongs to: that of the fold itself, or one with folds that covers it."""
    from nnunet_active.campaign import Campaign

    for own in dict.fromkeys((str(fold), "0", "all")):
        if (Campaign.folder_of(dataset_folder, own) / "campaign.json").is_file():
            campaign = Campaign.open(dataset_folder, own)
            if own == str(fold) or covers(campaign, fold):
                return campaign
    return None


def covers(campaign: Campaign, fold: str | int) -> bool:
    """Whether ``fold`` is one of a campaign's folds of cross-validation (its own fold included)."""
    return campaign.settings.folds > 1 and str(fold).isdecimal() and int(fold) < campaign.settings.folds


def check_can_be_trained(campaign: Campaign, fold: str) -> None:
    """Refuse a fold that the campaign covers but that has no case to validate on yet.

    Raises:
        CampaignError: says how many folds have a case.
    """
    labelled, fold_of = campaign.labelled(), campaign.state.get("fold_of", {})
    if fold != campaign.fold and not is_complete(labelled, fold_of, campaign.settings.folds):
        there = len({fold_of[case] for case in labelled if case in fold_of})
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
        fold: the fold of the campaign that is to be started or changed.
        folds: K; 1 where the campaign has no folds of its own making.
        raw_folder: ``nnUNet_raw/DatasetXXX``.
        generated: nnU-Net's own cross-validation, which is nobody's wish.

    Raises:
        CampaignError: says what is in the way.
    """
    from nnunet_active.campaign import Campaign

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
        file = Campaign.folder_of(dataset_folder, number) / "campaign.json"
        if str(number) != fold and file.is_file():
            raise CampaignError(
                f"--folds {folds} would cover fold {number} of {name}, which has a campaign of its own ({file}); set that folder "
                f"aside first, or leave --folds away."
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
    """Give a campaign that has no folds K of them; the caller holds its lock.

    Returns:
        Sentences for the user: what is trained anew for the folds to be clean.

    Raises:
        CampaignError: it has folds already, or somebody else defined them (see :func:`check_folds`), or cases are held out.
    """
    had = campaign.settings.folds
    if had == folds:
        return []
    if had > 1:
        raise CampaignError(
            f"The campaign of fold {campaign.fold} has {had} folds, and a case never changes its fold; leave --folds away."
        )
    if campaign.val:
        raise CampaignError(
            f"{len(campaign.val)} cases are held out in fold {campaign.fold} ({campaign.state.get('split_origin') or 'split file'}), "
            f"so its folds are decided already; leave --folds away."
        )
    check_folds(campaign.dataset_folder, campaign.fold, folds, raw_folder)
    campaign.set_folds(folds)
    _, val = sides(campaign.labelled(), campaign.state["fold_of"], campaign.fold)
    if val and campaign.rounds:
        return [
            f"WARNING: {', '.join(val)} validate fold {campaign.fold} from now on, but a network trained so far may have seen them; "
            f"train fold {campaign.fold} anew before you trust its validation."
        ]
    return []
