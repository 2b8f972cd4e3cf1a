"""Builds the pool that a strategy sees, from the scores, arrays and summaries that it asks for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from typing import Any

import numpy as np
import pandas as pd
import torch

from nnunet_active.campaign.campaign import Campaign
from nnunet_active.models.source_model import SourceModel, carry_over, head_is_trained
from nnunet_active.models.source_summary import read_summary, summary_file
from nnunet_active.models.weight_transfer import TransferReport
from nnunet_active.nnunet.ensemble_window import EnsembleWindow
from nnunet_active.nnunet.inference import SlidingWindow
from nnunet_active.nnunet.safe_checkpoint import weights_digest
from nnunet_active.query.pool_density import density_of_cases
from nnunet_active.query.pool_scoring import PoolScores, WhatToScore, score_cases
from nnunet_active.query.score_cache import ScoreCache
from nnunet_active.strategies.base import QueryStrategy
from nnunet_active.strategies.pool import ScoredPool
from nnunet_active.util.errors import ActiveError, EmptyPool, MissingInput
from nnunet_active.util.log import Log
from nnunet_active.util.ranks import Ranks
from nnunet_active.workspace import Workspace

_BY_NETWORK = frozenset({"predictions", "embedding", "class_mean", "ensemble", "entropy_histogram", "prediction_gap"})
"""What a strategy can ask for that comes from the asking network."""
_BY_SOURCE = frozenset({"source_embedding", "prediction_gap"})


def needs_network(strategy: QueryStrategy) -> bool:
    """Whether a strategy needs the asking network's scores of the candidates."""
    return bool((strategy.needs | strategy.uses) & _BY_NETWORK)


def open_cache(campaign: Campaign) -> ScoreCache:
    """The score cache of a campaign's data set, plans and configuration; all folds share it."""
    return ScoreCache.of(campaign.dataset_folder, campaign.plans, campaign.configuration)


def source_window(source: SourceModel, window: SlidingWindow | EnsembleWindow) -> tuple[SlidingWindow, TransferReport]:
    """The frozen source network, carried over to the target as in a training, in a window like ``window``.

    Heads that the source does not have (an encoder without a trained head) are zero, so that every class is equally probable.

    Returns:
        The window, and a report of what was carried over.

    Raises:
        IncompatibleSource: the source does not fit the target's plans.
    """
    network = deepcopy(window.network).eval()  # the same architecture, whichever trainer built it
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    report = carry_over(network, source, window.plans, window.dataset_json)
    return window.with_network(network), report


def has_moved(window: SlidingWindow | EnsembleWindow, frozen: SlidingWindow, report: TransferReport) -> bool:
    """Whether a network was trained since it was carried over: its weights other than the heads differ from the source's."""
    now, then = window.network.state_dict(), frozen.network.state_dict()
    heads = set(report.head)
    return any(not torch.equal(now[key], value) for key, value in then.items() if key not in heads)


def build_pool(
    workspace: Workspace,
    window: SlidingWindow | EnsembleWindow,
    strategy: QueryStrategy,
    candidates: Sequence[str],
    ranks: Ranks,
    log: Log,
) -> tuple[ScoredPool, PoolScores]:
    """Everything that the strategy may know about the candidates and the labelled cases.

    Args:
        workspace: gives the campaign, the preprocessed images and the source network.
        window: the querying network.
        strategy: its ``needs`` and ``uses`` decide what is computed.
        candidates: unlabelled cases.
        ranks: processes of a distributed training.
        log: gets warnings about cases that are left out.

    Returns:
        The pool, and the scores of the candidates with the problems of cases that could not be scored.

    Raises:
        EmptyPool: no candidate can be scored.
        MissingInput: the strategy needs the source network, and there is none.
    """
    campaign, store, cache = workspace.campaign, workspace.store, open_cache(workspace.campaign)
    wanted = strategy.needs | strategy.uses
    source = _find_source(workspace, strategy, log)
    carried = source is None or head_is_trained(source, window.plans, window.dataset_json)
    frozen, head = None, True
    if source is not None and (wanted & _BY_SOURCE or not carried):
        frozen, report = source_window(source, window)
        head = carried or has_moved(window, frozen, report)
    embedding = bool(wanted & {"embedding", "class_mean"})
    if needs_network(strategy):
        what = WhatToScore(
            embedding=embedding or window.has_encoder,  # costs nothing and is recorded with the round
            ensemble="ensemble" in wanted,
            class_mean="class_mean" in wanted,
            entropy_histogram="entropy_histogram" in wanted,
            source=frozen if "prediction_gap" in wanted else None,
        )
        scored = score_cases(window, store, candidates, what, ranks, cache)
        for sentence in scored.problems.values():
            log(f"WARNING: {sentence}")
    else:
        scored = PoolScores(pd.DataFrame(index=sorted(candidates)), {}, {})
    stored = set(store.identifiers())
    # a partly labelled scan can be a candidate, for its other slices
    labelled = (set(campaign.labelled()) & stored) - set(candidates)
    known = PoolScores(pd.DataFrame(index=sorted(labelled)), {}, {})
    if embedding and len(known.table):
        labelled = list(known.table.index)
        known = score_cases(window, store, labelled, ranks=ranks, cache=cache, description="Scoring labelled cases")
        known.arrays = {name: known.arrays[name] for name in ("embedding",) if name in known.arrays}
    if frozen is not None and "source_embedding" in wanted:
        _add_source(workspace, frozen, scored, known, ranks, log)
    if scored.table.index.empty:
        raise EmptyPool("No unlabelled case is left that can be scored.")
    if "density" in wanted and ranks.whole:
        everyone = sorted({*campaign.pool(stored), *campaign.requested(), *campaign.labelled()} & stored)
        file = campaign.dataset_folder / "active" / f"density_{campaign.plans}_{campaign.configuration}.npz"
        scored.table["density"] = density_of_cases(store, everyone, file, ranks, log)
    if ranks.rank == 0:
        cache.prune()
    pool = ScoredPool(
        scores=scored.table,
        arrays=scored.arrays,
        labelled_cases=tuple(known.table.index),
        labelled_arrays=known.arrays,
        source_summary=_summary(campaign, source, log) if source is not None and "source_summary" in wanted else None,
        round_index=len(campaign.rounds) + 1,
        rounds=campaign.settings.queries,
        head_trained=head,
        source_head_trained=carried,
        answered=campaign.rounds_answered(),
        first_class=0 if window.regions else 1,
        **_patients(campaign, scored.table.index),
    )
    return pool, scored


def _patients(campaign: Campaign, candidates: Iterable[str]) -> dict[str, Any]:
    """The pool's patients, and the cases that were labelled or asked for; empty if no cases belong together."""
    if not campaign.settings.groups:
        return {}
    begun, of = {*campaign.labelled(), *campaign.requested()}, campaign.settings.patients.of
    return {"patients": {case: of(case) for case in {*candidates, *begun}}, "begun": tuple(sorted(begun))}


def _find_source(workspace: Workspace, strategy: QueryStrategy, log: Log) -> SourceModel | None:
    """The source network; None if there is none and the strategy can do without, with a message if it would use it.

    Every strategy that sees predictions, and every choice of slices, must know whether the source's head knows the target's classes.
    """
    wanted = (strategy.needs | strategy.uses) & (_BY_SOURCE | {"source_summary"})
    if not wanted and not (needs_network(strategy) or workspace.campaign.asks_for_slices):
        return None
    try:
        return workspace.source
    except ActiveError as error:
        if strategy.needs & _BY_SOURCE or (wanted and not isinstance(error, MissingInput)):
            raise
        if wanted:
            log(f"{error} The query goes on without the source network.")
        return None


def _add_source(
    workspace: Workspace, frozen: SlidingWindow, scored: PoolScores, known: PoolScores, ranks: Ranks, log: Log
) -> None:
    """Add the frozen source network's scores of the candidates (``scored``) and the labelled cases (``known``), in place.

    A case that the source network cannot score is set aside; the others keep their arrays.
    """
    cache = open_cache(workspace.campaign)
    everyone = [*scored.table.index, *known.table.index]
    by_source = score_cases(
        frozen, workspace.store, everyone, ranks=ranks, cache=cache, description="Scoring with the source network"
    )
    if ranks.rank == 0:
        cache.keep(frozen.digest)
    for case, sentence in by_source.problems.items():
        scored.problems[case] = sentence
        log(f"WARNING: {sentence}")
    embedding = by_source.arrays.get("embedding", np.zeros((0, 0), dtype=np.float32))
    row = {case: i for i, case in enumerate(by_source.table.index)}
    for some in (scored, known):
        here = np.array([case in row for case in some.table.index], dtype=bool)
        some.table = some.table[here].copy()
        some.arrays = {name: values[here] for name, values in some.arrays.items()}
        if len(some.table) or some is scored:
            some.arrays["source_embedding"] = embedding[[row[case] for case in some.table.index]]
    scored.table["source_mean_entropy"] = by_source.table["mean_entropy"].reindex(scored.table.index)


def _summary(campaign: Campaign, source: SourceModel, log: Log) -> Mapping[str, np.ndarray] | None:
    """The summary of source embeddings beside the source network; None if there is none of that very network."""
    file = summary_file(campaign.dataset_folder, campaign.plans, campaign.configuration)
    if not file.is_file():
        return None
    try:
        return read_summary(file, weights_digest(source.weights)).arrays()
    except ActiveError as error:
        log(f"WARNING: {error} The query goes on without it.")
        return None
