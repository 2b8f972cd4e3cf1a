"""Chooses the cases of a round between trainings: opens the campaign, collects its pool, finds the querying network and chooses."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from nnunet_active.campaign.campaign import Campaign
from nnunet_active.campaign.campaign_start import draft_campaign
from nnunet_active.data.campaign_files import campaign_file
from nnunet_active.data.case_writer import is_current
from nnunet_active.models.model_writing import save_source_model
from nnunet_active.models.source_model import source_folder
from nnunet_active.nnunet.ensemble_window import EnsembleWindow
from nnunet_active.nnunet.inference import SlidingWindow, Window
from nnunet_active.query.part_of_pool import score_part
from nnunet_active.query.pool_building import open_cache
from nnunet_active.query.question import Question
from nnunet_active.query.selector import Proposal, propose
from nnunet_active.query.slice_query import SliceQuery
from nnunet_active.rounds.asking_model import FoundModel, find_models, make_window
from nnunet_active.rounds.round_checks import check_named_cases, check_unchanged, settings_of, why_not
from nnunet_active.rounds.source_checks import prepared_differently
from nnunet_active.rounds.target_preparation import Prepared
from nnunet_active.rounds.time_budget import AnnotationTime, SliceMinutes
from nnunet_active.rounds.timed_choice import CaseMinutes, choose_in_time
from nnunet_active.rounds.timed_slices import add_slice_minutes, plan_slices
from nnunet_active.util.errors import CampaignError, EmptyPool
from nnunet_active.util.log import Log


def open_or_start(prepared: Prepared, save: bool = True, in_training: bool = False, log: Log = print) -> Campaign:
    """The campaign of the fold; if there is none, a new one whose budget is this round.

    Args:
        prepared: from :func:`prepare`.
        save: False starts a campaign in memory only.
        in_training: the training asks, one case at a time.
        log: gets messages about what was decided.
    """
    options, workspace = prepared.options, prepared.workspace
    if workspace.found_campaign is not None:
        check_unchanged(workspace.campaign, options)
        labelled, unlabelled = workspace.stored
        if said := workspace.campaign.settings.patients.about_unnamed({*labelled, *unlabelled}):
            log(f"WARNING: {said}")
        return workspace.campaign
    _keep_source(prepared, save, log)
    made_by = "init" if in_training else "select"
    draft = draft_campaign(workspace.place, settings_of(options, in_training), made_by=made_by, cases=workspace.stored)
    if save and campaign_file(workspace.folder, workspace.fold).is_file():
        # another call has started a campaign since this call looked: use that one
        workspace.campaign = Campaign.open(workspace.folder, workspace.fold)
        check_unchanged(workspace.campaign, options)
    else:
        workspace.campaign = draft.begin(log=log) if save else draft.in_memory(log)
    return workspace.campaign


def candidates_of(prepared: Prepared) -> list[str]:
    """The cases that may be asked for, without those excluded now.

    Raises:
        EmptyPool: no such case is left.
        CampaignError: an excluded or included case was asked for before, or has a label.
    """
    options, campaign = prepared.options, prepared.workspace.campaign
    pool = prepared.workspace.candidates(prepared.workspace.raw)
    check_named_cases(campaign, prepared.workspace, options)
    for case in options.must_include:
        if case not in pool or not _is_usable(case, prepared):
            reason = prepared.report.problems.get(case) or why_not(campaign, case) or "it is not preprocessed."
            raise CampaignError(f"--must-include {case} is not possible: {reason}")
    left = [case for case in pool if case not in options.exclude and _is_usable(case, prepared)]
    if not left:
        raise EmptyPool(f"No unlabelled case of {options.dataset} is left to ask for.")
    return left


def choose(prepared: Prepared, log: Log = print) -> tuple[Proposal, Window]:
    """Score the pool and choose. Writes only cached scores.

    Raises:
        EmptyPool: no case is left, or the budget is spent and no number was named.
        ActiveError: see the message.
    """
    options, workspace, campaign = prepared.options, prepared.workspace, prepared.workspace.campaign
    candidates = candidates_of(prepared)
    size = options.n
    if size is None and options.minutes is None:
        size = campaign.size_of_next_query()
        if size == 0:
            raise EmptyPool(
                f"The budget of {campaign.counted(campaign.budget, 'cases')} is spent; -n N asks for N more."
            )
    if size is not None and size > len(candidates) and not campaign.asks_for_slices:
        log(f"Only {len(candidates)} of the {size} cases that you want can be asked for.")
        size = len(candidates)
    found, window, asked = _who_asks(prepared, log)

    def ask(
        number: int | None, must: Sequence[str], left_out: Iterable[str] = (), scans: int | None = None
    ) -> Proposal:
        question = replace(asked, size=number, scans=scans, exclude=tuple(left_out), must_include=tuple(must))
        return propose(workspace, window, candidates, question, options.ranks, log)

    must, available = options.must_include, options.minutes
    if campaign.asks_for_slices:
        time, scans = options.time or SliceMinutes(), None
        if available is not None:
            plan = plan_slices(SliceQuery(campaign, workspace.store), candidates, time, available, must, size)
            size, scans = plan.slices, plan.scans
        proposal = add_slice_minutes(ask(size, must, scans=scans), time, available)
    elif available is None:
        proposal = ask(size, must)
    else:
        minutes = CaseMinutes(workspace.store, window, open_cache(campaign), options.time or AnnotationTime())
        proposal = choose_in_time(ask, minutes, available, size, must)
    details = {**proposal.details, "model": found.record(), "excluded": sorted(options.exclude)}
    return replace(proposal, details=details), window


def score_share(prepared: Prepared, log: Log = print) -> int:
    """Score one part of the pool for a later choice. Writes only cached scores.

    Returns:
        Number of candidates in that part that have scores now.

    Raises:
        EmptyPool: no case is left.
    """
    options = prepared.options
    candidates = candidates_of(prepared)
    _, window, asked = _who_asks(prepared, log)
    question = replace(asked, size=options.n or 1, must_include=options.must_include)
    return score_part(prepared.workspace, window, candidates, question, options.part, log)


def _who_asks(prepared: Prepared, log: Log) -> tuple[FoundModel, SlidingWindow | EnsembleWindow, Question]:
    options, workspace = prepared.options, prepared.workspace
    found = find_models(workspace, options.model, options.model_folds, options.trust)
    for line in found.lines():
        log(line)
    asked = Question(strategy=options.strategy, strategy_options=options.strategy_options or None, seed=options.seed)
    return found, make_window(found, workspace, options.device), asked


def allow(campaign: Campaign, more: int) -> None:
    """Extend the budget so that it allows ``more`` cases or slices. What is left counts first, so repeating it adds nothing."""
    if (lacking := more - campaign.budget_left()) > 0:
        campaign.extend(lacking)


def _keep_source(prepared: Prepared, save: bool, log: Log) -> None:
    """Keep the named model as the source network if the plans existed before and have no source yet."""
    opened, workspace = prepared.opened, prepared.workspace
    kept = source_folder(workspace.folder, workspace.plans_name, workspace.configuration)
    if not opened.models or kept.is_dir():
        return
    if opened.transfer is not None:
        for line in (*opened.transfer.lines(), *prepared_differently(workspace, opened.models[0])):
            log(line)
    workspace.source = opened.models[0]
    if save:
        save_source_model(workspace.source, kept)


def _is_usable(case: str, prepared: Prepared) -> bool:
    """Whether the stored case is current: its images exist, and were not replaced by others that cannot be read."""
    workspace = prepared.workspace
    if case not in workspace.raw.cases:
        return False
    raw = workspace.raw.cases[case]
    known = case not in prepared.report.problems or is_current(raw, False, workspace.store, workspace.dataset_json)
    return known or is_current(raw, True, workspace.store, workspace.dataset_json)
