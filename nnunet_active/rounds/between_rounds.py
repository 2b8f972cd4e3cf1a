"""One round between trainings: from a folder of scans and a model to requested cases, as ``nnunet_active select`` makes it.

Every step can be repeated: plans, preprocessed cases and scores are made only where they are missing, a round that was made is not
made again while its cases wait, and the seed decides the choice. So after a kill the same command comes to the same end.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
from torch import Tensor

from nnunet_active.campaign.campaign import Campaign
from nnunet_active.campaign.cross_validation import switch_on
from nnunet_active.nnunet.inference import Window
from nnunet_active.nnunet.nnunet_paths import preprocessed_folder, raw_folder
from nnunet_active.query.selector import record
from nnunet_active.rounds.asking_model import find_models, make_window
from nnunet_active.rounds.hand_over import HandedOver, hand_over, is_handed_over
from nnunet_active.rounds.round_choice import allow, choose, open_or_start
from nnunet_active.rounds.round_table import Query
from nnunet_active.rounds.target_preparation import SelectOptions, Target, existing_campaign, prepare
from nnunet_active.util.errors import EmptyPool
from nnunet_active.util.log import Log, silent


@dataclass
class SelectResult:
    """What a call of ``nnunet_active select`` came to.

    Attributes:
        outcome: ``asked`` (a new round), ``waiting`` (earlier requests wait, nothing new was asked), ``proposed`` (dry run),
            ``simulated`` (a new round whose labels were withheld and are revealed now), ``empty`` (nobody is left) or
            ``in_training`` (the next training asks).
        campaign: as it is now; None where none came to be.
        query: the round, or the proposal.
        handed_over: hand-off folders.
        message: for ``empty``.
        problems: case -> sentence, for all that was set aside.
    """

    outcome: str
    campaign: Campaign | None
    query: Query | None = None
    handed_over: list[HandedOver] = field(default_factory=list)
    message: str = ""
    problems: dict[str, str] = field(default_factory=dict)


def select(
    options: SelectOptions,
    dry_run: bool = False,
    more: bool = False,
    in_training: bool = False,
    folder: Path | None = None,
    copy_images: bool = False,
    log: Log = print,
) -> SelectResult:
    """One round: plan, preprocess, score, choose, record, hand over; whatever of it is done already is not done again.

    Args:
        options: what was asked for.
        dry_run: choose, but ask for nothing.
        more: ask for further cases although some still wait for their labels.
        in_training: score nothing now; the next training asks for ``n`` cases by itself.
        folder, copy_images: see :func:`~nnunet_active.rounds.hand_over.hand_over`.
        log: where to tell what happens.
    """
    target = prepare(options, log)
    campaign = open_or_start(target, not dry_run, in_training, log)
    if dry_run:
        campaign.adopt()
        result = SelectResult("proposed", campaign)
        try:
            result.query = Query.of_proposal(choose(campaign, target, log)[0])
        except EmptyPool as end:
            result.outcome, result.message = "empty", str(end)
    else:
        with campaign.lock():
            result = _select(campaign, target, more, in_training, folder, copy_images, log)
    result.problems |= target.report.problems
    for one in result.handed_over:
        result.problems |= one.set_aside
    if result.query is not None:
        result.problems |= result.query.selection.get("set_aside", {})
    return result


def annotate(
    options: SelectOptions, folder: Path | None = None, copy_images: bool = False, log: Log = print
) -> SelectResult:
    """Write, or complete, the hand-off folders of the cases that wait; also of those that a training asked for.

    Raises:
        MissingInput: there is no campaign.
    """
    Campaign.open(preprocessed_folder(options.dataset), options.fold)
    target = prepare(options, log)
    campaign = existing_campaign(options.dataset, options.fold)
    with campaign.lock():
        if not campaign.waiting():
            return SelectResult("empty", campaign, message="No case waits for a label.")
        if not campaign.asks_a_person:
            message = (
                "The labels of this campaign are there and only withheld (retrospective): nothing is to be annotated."
            )
            return SelectResult("empty", campaign, message=message)
        handed = _hand_over(campaign, target, None, folder, copy_images, log)
    problems = {case: sentence for one in handed for case, sentence in one.set_aside.items()}
    return SelectResult("waiting", campaign, handed_over=handed, problems=problems)


def _select(
    campaign: Campaign,
    target: Target,
    more: bool,
    in_training: bool,
    folder: Path | None,
    copy_images: bool,
    log: Log,
) -> SelectResult:
    options = target.options
    if (folds := options.settings.get("folds")) is not None:
        for sentence in switch_on(campaign, folds, raw_folder(options.dataset)):
            log(sentence)
    if in_training:
        allow(campaign, options.n or max(1, campaign.size_of_next_query()))
        campaign.leave_to_training()
        return SelectResult("in_training", campaign)
    if campaign.waiting():
        last = campaign.rounds[-1]
        if not campaign.asks_a_person:  # a kill came between the request and its answer
            campaign.mark_labelled(campaign.waiting())
            return SelectResult("simulated", campaign, Query.of_round(last))
        interrupted = last.made_by == "select" and not is_handed_over(campaign)
        if not more or interrupted:
            handed = _hand_over(campaign, target, None, folder, copy_images, log)
            return SelectResult("waiting", campaign, Query.of_round(last), handed)
    try:
        proposal, window = choose(campaign, target, log)
    except EmptyPool as end:
        return SelectResult("empty", campaign, message=str(end))
    campaign.exclude(options.exclude)
    allow(campaign, len(proposal.picks))
    made = record(campaign, proposal, epoch=0, made_by="select", log=silent)
    if not campaign.asks_a_person:
        campaign.mark_labelled(made.requested)
        return SelectResult("simulated", campaign, Query.of_round(made))
    handed = _hand_over(campaign, target, window, folder, copy_images, log)
    return SelectResult("asked", campaign, Query.of_round(made), handed)


def _hand_over(
    campaign: Campaign, target: Target, window: Window | None, folder: Path | None, copy_images: bool, log: Log
) -> list[HandedOver]:
    options = target.options

    @cache
    def network() -> Window:
        """Read only if a case was not handed over before."""
        if window is not None:
            return window
        found = find_models(campaign, options.model, options.model_folds, options.trust, unfinished=True)
        return make_window(found, target.plans, options.configuration, target.dataset_json, options.device)

    def predict(image: np.ndarray) -> Tensor:
        return network().logits(image)

    return hand_over(campaign, target.raw, target.store, target.dataset_json, predict, folder, copy_images, log)
