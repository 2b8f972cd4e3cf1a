"""Makes one round between trainings for ``nnunet_active select``: from a folder of scans and a model to requested cases.

Every step can be repeated. Plans, preprocessed cases and scores are made only if they are missing, no new round is made while cases
wait for labels, and the seed fixes the choice. So after a kill, the same command comes to the same result.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
from torch import Tensor

from nnunet_active.campaign.campaign import Campaign
from nnunet_active.campaign.cross_validation import switch_on
from nnunet_active.data.ignore_label import declare_ignore_label
from nnunet_active.nnunet.nnunet_paths import preprocessed_folder, raw_folder
from nnunet_active.nnunet.window import Window
from nnunet_active.query.selector import record
from nnunet_active.rounds.asking_model import find_models, make_window
from nnunet_active.rounds.hand_over import HandedOver, check_records, hand_over
from nnunet_active.rounds.handoff_place import require_writable
from nnunet_active.rounds.map_temperature import fitted_temperature
from nnunet_active.rounds.round_checks import check_round
from nnunet_active.rounds.round_choice import allow, choose, open_or_start, score_share
from nnunet_active.rounds.round_table import Query
from nnunet_active.rounds.target_preparation import Prepared, SelectOptions, open_target, open_workspace, prepare
from nnunet_active.util.errors import CampaignError, EmptyPool
from nnunet_active.util.log import Log, silent
from nnunet_active.workspace import Workspace


@dataclass(frozen=True)
class HandOff:
    """The place of the hand-off folder, and whether to copy the images into it; see :func:`hand_over`."""

    folder: Path | None = None
    copy_images: bool = False


@dataclass
class SelectResult:
    """The result of a call of ``nnunet_active select``.

    Attributes:
        outcome: ``asked`` (a new round), ``waiting`` (earlier requests wait, nothing new was asked), ``proposed`` (dry run),
            ``simulated`` (a new round whose withheld labels are revealed now), ``empty`` (no case is left),
            ``in_training`` (the next training asks) or ``scored`` (one part of the pool was scored, nothing was chosen).
        workspace: the data set, with the campaign in its present state.
        query: the round, or the proposal.
        handed_over: hand-off folders.
        message: a sentence for ``empty`` and ``scored``.
        problems: one sentence for each case that was set aside.
    """

    outcome: str
    workspace: Workspace
    query: Query | None = None
    handed_over: list[HandedOver] = field(default_factory=list)
    message: str = ""
    problems: dict[str, str] = field(default_factory=dict)

    @property
    def campaign(self) -> Campaign:
        """The campaign in its present state; after a dry run, it may exist in memory only."""
        return self.workspace.campaign


def select(
    options: SelectOptions,
    dry_run: bool = False,
    more: bool = False,
    in_training: bool = False,
    place: HandOff = HandOff(),
    log: Log = print,
    show: Callable[[SelectResult], None] = lambda result: None,
) -> SelectResult:
    """Make one round: plan, preprocess, score, choose, record, hand over. Steps that are already done are skipped.

    Args:
        options: the user's options.
        dry_run: choose, but ask for nothing.
        more: ask for further cases although some still wait for their labels.
        in_training: score nothing now; the next training asks for ``n`` cases by itself.
        place: where the hand-off folder goes.
        log: gets messages about each step.
        show: shows the result to people. A round is complete once it was shown: if a command was killed before that, repeating it
            shows the same round and does not ask for another one.
    """
    if dry_run and in_training:
        raise CampaignError(
            "--dry-run shows what select would ask for, and with --in-training the next training asks; leave one out."
        )
    opened = open_target(options)
    check_round(opened, more, in_training, place.folder, log)
    only_look = dry_run or options.part is not None
    if not (only_look or in_training) and _hands_over_anew(opened.workspace, more):
        require_writable(opened.workspace.raw, place.folder)
    if options.add_ignore_label and not only_look:
        # before anything is preprocessed: preprocessing records where a case is labelled
        declare_ignore_label(raw_folder(options.dataset), preprocessed_folder(options.dataset))
        opened = open_target(options)
    prepared = prepare(options, log, opened)
    campaign = open_or_start(prepared, not only_look, in_training, log)
    if only_look:
        campaign.adopt()
        result = SelectResult("proposed", prepared.workspace)
        try:
            if (part := options.part) is None and _only_shows(campaign, more):
                result.outcome, result.query = "waiting", Query.of_round(campaign.rounds[-1])
            elif part is None:
                result.query = Query.of_proposal(choose(prepared, log)[0])
            else:
                scored = score_share(prepared, log)
                result.outcome = "scored"
                result.message = f"Part {part.number} of {part.parts}: the scores of {scored} cases are there; nothing was asked for."
        except EmptyPool as end:
            result.outcome, result.message = "empty", str(end)
        _add_problems(result, prepared)
        show(result)
        return result
    with campaign.lock():
        check_records(campaign)
        result = _select(prepared, more, in_training, place, log)
        _add_problems(result, prepared)
        show(result)
        campaign.note_shown()
    return result


def _only_shows(campaign: Campaign, more: bool) -> bool:
    """Whether ``select`` would make no round, and show the last one again."""
    return campaign.asks_a_person and bool(campaign.waiting()) and (not more or bool(campaign.unshown))


def _hands_over_anew(workspace: Workspace, more: bool) -> bool:
    campaign = workspace.found_campaign
    if campaign is None:
        return bool(workspace.raw.unlabelled)
    return campaign.asks_a_person and (more or not campaign.waiting())


def _add_problems(result: SelectResult, prepared: Prepared) -> None:
    result.problems |= prepared.report.problems
    for one in result.handed_over:
        result.problems |= one.set_aside
    if result.query is not None:
        result.problems |= result.query.selection.get("set_aside", {})


def annotate(
    options: SelectOptions, folder: Path | None = None, copy_images: bool = False, log: Log = print
) -> SelectResult:
    """Write or complete the hand-off folders of all waiting cases, including those that a training asked for.

    Raises:
        MissingInput: there is no campaign.
    """
    open_workspace(options).campaign  # noqa: B018 - raises if there is none
    prepared = prepare(options, log)
    workspace, campaign = prepared.workspace, prepared.workspace.campaign
    with campaign.lock():
        check_records(campaign)
        if not campaign.waiting():
            return SelectResult("empty", workspace, message="No case waits for a label.")
        if not campaign.asks_a_person:
            message = (
                "The labels of this campaign are there and only withheld (retrospective): nothing is to be annotated."
            )
            return SelectResult("empty", workspace, message=message)
        handed = _hand_over(prepared, None, HandOff(folder, copy_images), log)
    problems = {case: sentence for one in handed for case, sentence in one.set_aside.items()}
    return SelectResult("waiting", workspace, handed_over=handed, problems=problems)


def _select(prepared: Prepared, more: bool, in_training: bool, place: HandOff, log: Log) -> SelectResult:
    options, workspace, campaign = prepared.options, prepared.workspace, prepared.workspace.campaign
    if (folds := options.settings.get("folds")) is not None:
        for sentence in switch_on(campaign, folds, raw_folder(options.dataset)):
            log(sentence)
    if in_training:
        campaign.exclude(options.exclude)
        allow(campaign, options.n or max(1, campaign.size_of_next_query()))
        campaign.leave_to_training()
        return SelectResult("in_training", workspace)
    if campaign.waiting():
        last = campaign.rounds[-1]
        if not campaign.asks_a_person:  # a kill came between the request and its answer
            campaign.mark_labelled(campaign.waiting())
            return SelectResult("simulated", workspace, Query.of_round(last))
        if _only_shows(campaign, more):
            campaign.exclude(options.exclude)
            handed = _hand_over(prepared, None, place, log)
            return SelectResult("waiting", workspace, Query.of_round(last), handed)
    elif campaign.unshown and not campaign.asks_a_person:
        return SelectResult("simulated", workspace, Query.of_round(campaign.rounds[-1]))
    try:
        proposal, window = choose(prepared, log)
    except EmptyPool as end:
        kept = " No case was excluded for good." if options.exclude else ""
        return SelectResult("empty", workspace, message=f"{end}{kept}")
    campaign.exclude(options.exclude)
    allow(campaign, proposal.units)
    made = record(campaign, proposal, epoch=0, made_by="select", log=silent)
    if not campaign.asks_a_person:
        campaign.mark_labelled(made.requested)
        return SelectResult("simulated", workspace, Query.of_round(made))
    handed = _hand_over(prepared, window, place, log)
    return SelectResult("asked", workspace, Query.of_round(made), handed)


def _hand_over(prepared: Prepared, window: Window | None, place: HandOff, log: Log) -> list[HandedOver]:
    options, workspace = prepared.options, prepared.workspace

    @cache
    def network() -> Window:
        """The network; read only if some case was not handed over before."""
        if window is not None:
            return window
        found = find_models(workspace, options.model, options.model_folds, options.trust, unfinished=True)
        return make_window(found, workspace, options.device)

    def predict(image: np.ndarray) -> Tensor:
        return network().logits(image)

    @cache
    def temperature() -> float:
        found = fitted_temperature(workspace.campaign, network().digest)
        if found != 1:
            log(f"Uncertainty maps are calibrated by a temperature of {found:.2f}, which a forecast has fitted.")
        return found

    return hand_over(workspace, predict, place.folder, place.copy_images, log, temperature)
