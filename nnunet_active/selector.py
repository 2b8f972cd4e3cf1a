"""Score the pool, ask a strategy, elect the modality to open first: one query, for the trainers and for the command line."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd

from nnunet_active.campaign import Campaign, Round
from nnunet_active.cases import CaseStore
from nnunet_active.errors import EmptyPool
from nnunet_active.inference import SlidingWindow
from nnunet_active.pool_scoring import Log, PoolScores, density_of_cases, score_cases
from nnunet_active.ranks import Ranks
from nnunet_active.scoring.modality import ModalityElection, elect_dominant_modality
from nnunet_active.strategies.base import QueryStrategy, ScoredPool, Selection
from nnunet_active.strategies.registry import get_strategy


def _first_embeddings(campaign: Campaign, cases: Sequence[str]) -> np.ndarray | None:
    """Embeddings by the source network: those of the query at epoch 0, where all ``cases`` were scored by it."""
    rounds = [one for one in campaign.rounds if one.epoch == 0]
    file = rounds[0].folder / "embeddings.npz" if rounds else None
    if file is None or not file.is_file():
        return None
    with np.load(file) as content:
        if "embedding" not in content:
            return None
        known = dict(zip(content["cases"].tolist(), content["embedding"], strict=True))
    return np.stack([known[case] for case in cases]) if all(case in known for case in cases) else None


def build_pool(
    campaign: Campaign,
    store: CaseStore,
    window: SlidingWindow,
    strategy: QueryStrategy,
    candidates: Sequence[str],
    ranks: Ranks,
    log: Log,
) -> tuple[ScoredPool, PoolScores]:
    """All that the strategy may know of the candidates and of the labelled cases, and nothing else."""
    wanted = strategy.needs | strategy.uses
    network_wanted = bool(wanted & {"predictions", "embedding", "class_mean", "ensemble"})
    if network_wanted:
        scored = score_cases(window, store, candidates, ranks, ensemble="ensemble" in wanted)
        for sentence in scored.problems.values():
            log(f"WARNING: {sentence}")
    else:
        scored = PoolScores(pd.DataFrame(index=sorted(candidates)), {}, {})
    if scored.table.empty and network_wanted:
        raise EmptyPool("No unlabelled case is left that can be scored.")
    stored = set(store.identifiers())
    labelled = sorted(set(campaign.labelled()) & stored)
    known = score_cases(window, store, labelled, ranks) if "embedding" in wanted and labelled else None
    if "density" in wanted:
        everyone = sorted({*campaign.pool(stored), *campaign.requested(), *campaign.initial} & stored)
        cache = campaign.dataset_folder / "active" / f"density_{campaign.plans}_{campaign.configuration}.npz"
        scored.table["density"] = density_of_cases(store, everyone, cache, ranks, log)
    source = _first_embeddings(campaign, list(scored.table.index))
    if source is not None:
        scored.arrays["source_embedding"] = source
    return (
        ScoredPool(
            scores=scored.table,
            arrays=scored.arrays,
            labelled_cases=tuple(known.table.index) if known else tuple(labelled),
            labelled_arrays=known.arrays if known else {},
            round_index=len(campaign.rounds) + 1,
            rounds=campaign.settings.queries,
            budget=campaign.settings.budget,
        ),
        scored,
    )


def run_query(
    campaign: Campaign,
    store: CaseStore,
    window: SlidingWindow,
    candidates: Sequence[str],
    epoch: int,
    channel_names: Sequence[str],
    class_names: Sequence[str],
    ranks: Ranks | None = None,
    log: Log = print,
) -> Round:
    """One query of a campaign: score, choose, elect modalities, record the round (rank 0 decides and writes).

    Args:
        campaign: opened and locked (by rank 0).
        store: the preprocessed images.
        window: the network that asks.
        candidates: unlabelled cases that may be asked for.
        epoch: epoch before which the query is made.
        channel_names: names of the image channels.
        class_names: names of the network's heads.
        ranks: processes of a distributed training.
        log: where to tell what was done.

    Raises:
        EmptyPool: nobody is left to ask for.
    """
    ranks = ranks or Ranks()
    start = perf_counter()
    settings = campaign.settings
    strategy = get_strategy(settings.strategy, **settings.strategy_options)
    number = len(campaign.rounds) + 1
    if not candidates:
        raise EmptyPool("No unlabelled case is left to choose from.")
    pool, scored = build_pool(campaign, store, window, strategy, candidates, ranks, log)

    def decide() -> Round:
        rng = np.random.default_rng([settings.seed, number])
        selection = strategy.query(pool, campaign.size_of_next_query(), rng)
        elections = {
            case: elect_dominant_modality(window.predicted_classes, store.load_image(case), settings.modality)
            for case in selection.picks
        }
        table = _score_table(scored, selection, class_names)
        worklist = _worklist(selection, table, elections, channel_names)
        details = {
            "strategy": settings.strategy,
            "strategy_options": settings.strategy_options,
            "seed": settings.seed,
            "candidates": len(pool),
            "dominant_modality": {
                case: {
                    "channel": e.channel,
                    "name": channel_names[e.channel],
                    "dice": list(e.dice),
                    "decided": e.decided,
                }
                for case, e in elections.items()
            },
            "notes": list(selection.notes),
            "set_aside": scored.problems,
            "seconds": round(perf_counter() - start, 2),
        }
        return campaign.append_round(
            epoch, selection.picks, table, selection.utilities, worklist, scored.arrays, details
        )

    made = ranks.decide(decide)
    if ranks.rank > 0:
        campaign.state = Campaign.open(campaign.dataset_folder, campaign.fold).state
    for sentence in describe_round(made):
        log(sentence)
    return made


def _score_table(scored: PoolScores, selection: Selection, class_names: Sequence[str]) -> pd.DataFrame:
    """Every component of every score, the best first."""
    table = scored.table.copy()
    if "class_volume" in scored.arrays:
        volume = scored.arrays["class_volume"]
        for index, name in enumerate(class_names[: volume.shape[1]]):
            if name != "background":
                table[f"voxels_{name}"] = volume[:, index]
    table = table.join(selection.components.rename(columns=lambda name: f"component_{name}"))
    table["utility"] = selection.utilities.iloc[0]
    table["picked"] = pd.Series({case: rank for rank, case in enumerate(selection.picks, 1)})
    return table.sort_values(["picked", "utility"], ascending=[True, False], kind="stable")


def _worklist(
    selection: Selection, table: pd.DataFrame, elections: dict[str, ModalityElection], channel_names: Sequence[str]
) -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    for rank, case in enumerate(selection.picks, 1):
        election = elections[case]
        row: dict[str, Any] = {"rank": rank, "case": case, "open_first": channel_names[election.channel]}
        row.update({f"dice_{name}_alone": dice for name, dice in zip(channel_names, election.dice, strict=True)})
        for column in ("foreground_mm3", "mean_entropy", "utility"):
            if column in table:
                row[column] = table.loc[case, column]
        rows.append(row)
    return pd.DataFrame(rows)


def describe_round(made: Round) -> list[str]:
    """What was asked for and why, in a few lines."""
    selection = made.selection()
    scores = made.scores()
    lines = [
        f"Query {made.number} before epoch {made.epoch}: '{selection['strategy']}' chose {len(made.requested)} of "
        f"{selection['candidates']} cases in {selection['seconds']} s"
    ]
    for case in made.requested:
        row = scores.loc[case]
        parts = [
            f"{name.removeprefix('component_')} {row[name]:.4g}"
            for name in scores.columns
            if name.startswith("component_")
        ]
        election = selection["dominant_modality"][case]
        first = f"; open {election['name']} first" + (
            "" if election["decided"] else " (no channel alone agrees: channel order)"
        )
        lines.append(f"  {case}: utility {row['utility']:.4g}" + (f" ({', '.join(parts)})" if parts else "") + first)
    return lines + [f"  note: {note}" for note in selection["notes"]]
