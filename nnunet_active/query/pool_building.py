"""What a strategy gets to know of a pool: exactly the scores, arrays and summaries that it asks for, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy

import numpy as np
import pandas as pd
import torch

from nnunet_active.campaign.campaign import Campaign
from nnunet_active.data.cases import CaseStore
from nnunet_active.models.source_model import SourceModel, carry_over, find_source, head_is_trained
from nnunet_active.models.source_summary import read_summary, summary_file
from nnunet_active.models.weight_transfer import TransferReport
from nnunet_active.nnunet.ensemble_window import EnsembleWindow
from nnunet_active.nnunet.inference import SlidingWindow
from nnunet_active.nnunet.nnunet_paths import results_root
from nnunet_active.nnunet.safe_checkpoint import weights_digest
from nnunet_active.query.pool_scoring import PoolScores, density_of_cases, score_cases
from nnunet_active.query.score_cache import ScoreCache
from nnunet_active.strategies.base import QueryStrategy
from nnunet_active.strategies.pool import ScoredPool
from nnunet_active.util.errors import ActiveError, EmptyPool, MissingInput
from nnunet_active.util.log import Log
from nnunet_active.util.ranks import Ranks

_BY_NETWORK = frozenset({"predictions", "embedding", "class_mean", "ensemble", "entropy_histogram", "prediction_gap"})
_BY_SOURCE = frozenset({"source_embedding", "prediction_gap"})


def open_cache(campaign: Campaign) -> ScoreCache:
    """The cache of scores of a campaign's data set, plans and configuration; shared by its folds."""
    return ScoreCache.of(campaign.dataset_folder, campaign.plans, campaign.configuration)


def read_source(campaign: Campaign) -> SourceModel:
    """The frozen source network of a campaign.

    Raises:
        MissingInput: there is none; says how to name one.
    """
    try:
        results = results_root()
    except MissingInput:
        results = None
    return find_source(campaign.dataset_folder, campaign.plans, campaign.configuration, campaign.fold, results)


def source_window(source: SourceModel, window: SlidingWindow | EnsembleWindow) -> tuple[SlidingWindow, TransferReport]:
    """The frozen source network, carried over to the target as in a training, in a window like ``window``.

    Heads that the source does not have (an encoder without a trained head) are zero: every class is then equally probable.

    Returns:
        The window, and what was carried over.

    Raises:
        IncompatibleSource: it does not fit the target's plans.
    """
    network = deepcopy(window.network).eval()  # of the same architecture, whichever trainer built it
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    report = carry_over(network, source, window.plans, window.dataset_json)
    return window.with_network(network), report


def has_moved(window: SlidingWindow | EnsembleWindow, frozen: SlidingWindow, report: TransferReport) -> bool:
    """Whether a network was trained on since it was carried over: anything but its heads differs from the source's."""
    now, then = window.network.state_dict(), frozen.network.state_dict()
    heads = set(report.head)
    return any(not torch.equal(now[key], value) for key, value in then.items() if key not in heads)


def build_pool(
    campaign: Campaign,
    store: CaseStore,
    window: SlidingWindow | EnsembleWindow,
    strategy: QueryStrategy,
    candidates: Sequence[str],
    ranks: Ranks,
    log: Log,
    cache: ScoreCache | None = None,
) -> tuple[ScoredPool, PoolScores]:
    """All that the strategy may know of the candidates and of the labelled cases.

    Args:
        campaign: opened campaign.
        store: the preprocessed images.
        window: the network that asks.
        strategy: its ``needs`` and ``uses`` say what is computed.
        candidates: unlabelled cases.
        ranks: processes of a distributed training.
        log: where to tell of cases that are left out.
        cache: scores computed before; by default the campaign's own.

    Returns:
        The pool, and the scores of the candidates with what could not be scored.

    Raises:
        EmptyPool: no candidate can be scored.
        MissingInput: the strategy compares with the source network, and there is none.
    """
    cache = open_cache(campaign) if cache is None else cache
    wanted = strategy.needs | strategy.uses
    source = _find_source(campaign, strategy, log) if wanted & (_BY_SOURCE | {"source_summary"}) else None
    frozen, source_head, head = None, True, True
    if source is not None and wanted & _BY_SOURCE:
        frozen, report = source_window(source, window)
        source_head = report.heads.trained
        head = source_head or has_moved(window, frozen, report)
    embedding = bool(wanted & {"embedding", "class_mean"})
    if wanted & _BY_NETWORK:
        scored = score_cases(
            window,
            store,
            candidates,
            ranks,
            embedding=embedding or window.has_encoder,  # it costs nothing and belongs to the records
            ensemble="ensemble" in wanted,
            class_mean="class_mean" in wanted,
            entropy_histogram="entropy_histogram" in wanted,
            source=frozen if "prediction_gap" in wanted else None,
            cache=cache,
        )
        for sentence in scored.problems.values():
            log(f"WARNING: {sentence}")
    else:
        scored = PoolScores(pd.DataFrame(index=sorted(candidates)), {}, {})
    stored = set(store.identifiers())
    labelled = sorted(set(campaign.labelled()) & stored)
    labelled_arrays: dict[str, np.ndarray] = {}
    if embedding and labelled:
        known = score_cases(window, store, labelled, ranks, cache=cache, description="Scoring labelled cases")
        labelled = list(known.table.index)
        labelled_arrays = {name: known.arrays[name] for name in ("embedding",) if name in known.arrays}
    if frozen is not None and "source_embedding" in wanted:
        labelled, labelled_arrays = _add_source(frozen, store, scored, labelled, labelled_arrays, ranks, cache, log)
    if scored.table.index.empty:
        raise EmptyPool("No unlabelled case is left that can be scored.")
    if "density" in wanted:
        everyone = sorted({*campaign.pool(stored), *campaign.requested(), *campaign.initial} & stored)
        file = campaign.dataset_folder / "active" / f"density_{campaign.plans}_{campaign.configuration}.npz"
        scored.table["density"] = density_of_cases(store, everyone, file, ranks, log)
    if ranks.rank == 0:
        cache.prune()
    source_head = source is None or head_is_trained(source, window.plans, window.dataset_json)
    pool = ScoredPool(
        scores=scored.table,
        arrays=scored.arrays,
        labelled_cases=tuple(labelled),
        labelled_arrays=labelled_arrays,
        source_summary=_summary(campaign, source, log) if source is not None and "source_summary" in wanted else None,
        round_index=len(campaign.rounds) + 1,
        rounds=campaign.settings.queries,
        budget=campaign.budget,
        head_trained=head,
        source_head_trained=source_head,
    )
    return pool, scored


def _find_source(campaign: Campaign, strategy: QueryStrategy, log: Log) -> SourceModel | None:
    """None, and a sentence, where a strategy would use the source network but can do without."""
    try:
        return read_source(campaign)
    except MissingInput as error:
        if strategy.needs & _BY_SOURCE:
            raise
        log(f"{error} The query goes on without the source network.")
        return None


def _add_source(
    frozen: SlidingWindow,
    store: CaseStore,
    scored: PoolScores,
    labelled: list[str],
    labelled_arrays: dict[str, np.ndarray],
    ranks: Ranks,
    cache: ScoreCache,
    log: Log,
) -> tuple[list[str], dict[str, np.ndarray]]:
    """Add what the frozen source network says of candidates (in place) and labelled cases (returned).

    A case that the source network cannot score is set aside: the others keep their arrays.
    """
    candidates = list(scored.table.index)
    by_source = score_cases(
        frozen, store, [*candidates, *labelled], ranks, cache=cache, description="Scoring with the source network"
    )
    if ranks.rank == 0:
        cache.keep(frozen.digest)
    row = {case: i for i, case in enumerate(by_source.table.index)}
    for case, sentence in by_source.problems.items():
        scored.problems[case] = sentence
        log(f"WARNING: {sentence}")
    here = np.array([case in row for case in candidates], dtype=bool)
    scored.table = scored.table[here].copy()
    scored.arrays = {name: values[here] for name, values in scored.arrays.items()}
    order = [row[case] for case in scored.table.index]
    embedding = by_source.arrays.get("embedding", np.zeros((0, 0), dtype=np.float32))
    scored.table["source_mean_entropy"] = by_source.table["mean_entropy"].to_numpy()[order]
    scored.arrays["source_embedding"] = embedding[order]
    kept = np.array([case in row for case in labelled], dtype=bool)
    arrays = {name: values[kept] for name, values in labelled_arrays.items()}
    labelled = [case for case in labelled if case in row]
    if labelled:
        arrays["source_embedding"] = embedding[[row[case] for case in labelled]]
    return labelled, arrays


def _summary(campaign: Campaign, source: SourceModel, log: Log) -> Mapping[str, np.ndarray] | None:
    """The summary of source embeddings kept beside the source network, where there is one and it is of that network."""
    file = summary_file(campaign.dataset_folder, campaign.plans, campaign.configuration)
    if not file.is_file():
        return None
    try:
        return read_summary(file, weights_digest(source.weights)).arrays()
    except ActiveError as error:
        log(f"WARNING: {error} The query goes on without it.")
        return None
