"""The reliable set: predictions good enough to train on, kept apart from everything that a person has labelled.

``<campaign>/pseudo/<tag>/`` holds, for each reliable case, a link to its preprocessed image, and its own ``CASE_seg.b2nd`` and
``CASE.pkl``, made as nnU-Net makes them. ``reliability.csv`` lists every case that was examined, and why it is in the set or not. The
folder is written atomically, made anew in each round, and replaces those of earlier rounds. Nothing of it is ever written to
``labelsTr``, ``gt_segmentations`` or nnU-Net's own preprocessed folder. Judging the cases reads no label.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from nnunet_active.campaign.campaign import Campaign
from nnunet_active.campaign.pseudo_label_settings import PseudoLabelSettings
from nnunet_active.data.cases import CaseStore
from nnunet_active.data.partly_labelled import PartlyLabelled
from nnunet_active.models.name_mapping import map_heads
from nnunet_active.models.source_model import SourceModel
from nnunet_active.nnunet.networks import head_names
from nnunet_active.nnunet.window import Window
from nnunet_active.pseudo.pseudo_label_writer import without_properties, write_pseudo_case
from nnunet_active.query.pool_scoring import PoolScores, WhatToScore, score_cases
from nnunet_active.query.score_cache import ScoreCache
from nnunet_active.scoring.reliability import reliability, semantic_distance
from nnunet_active.util.atomic import naming_full_disk, temporary_beside, write_json
from nnunet_active.util.errors import ActiveError
from nnunet_active.util.log import Log
from nnunet_active.util.progress import bar_is_shown
from nnunet_active.util.ranks import Ranks
from nnunet_active.util.tables import read_csv, write_csv

FORMAT = 1
TABLE = "reliability.csv"
RECORD = "reliable_set.json"


@dataclass(frozen=True)
class ReliableSet:
    """The result of :func:`make_reliable_set`.

    Attributes:
        folder: the set's folder.
        cases: the reliable unlabelled cases, sorted; may be empty.
        table: one row per examined case: ``confidence``, ``distance``, ``nearest_labelled``, ``foreground_voxels``, bool
            ``eligible``, ``confident``, ``near``, ``reliable``, and ``reason``, a few words; with partly labelled cases also
            bool ``partly_labelled``.
        record: what the set was made from: settings, labelled cases, digest of the network, notes.
    """

    folder: Path
    cases: tuple[str, ...]
    table: pd.DataFrame
    record: dict

    @property
    def filled(self) -> tuple[str, ...]:
        """Partly labelled cases whose reliable prediction fills the unlabelled part, sorted."""
        return tuple(self.record.get("filled", ()))

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences for the user about fall-backs."""
        return tuple(self.record.get("notes", ()))

    def lines(self) -> list[str]:
        """A summary of the set, for people."""
        labelled = len(self.record.get("labelled", ()))
        partly = int(self.table["partly_labelled"].sum()) if "partly_labelled" in self.table else 0
        lines = [
            f"Pseudo-labels: {len(self.cases)} of {len(self.table) - partly} unlabelled cases are reliable "
            f"(beside {labelled} labelled one{'' if labelled == 1 else 's'})"
        ]
        if self.cases:
            used = self.table.loc[list(self.cases)]
            lines[0] += f"; confidence from {used['confidence'].min():.4f}"
            if used["distance"].notna().any():
                lines[0] += f", distance up to {used['distance'].max():.4g}"
        lines[0] += "."
        if partly:
            lines = lines if len(self.table) > partly else []
            lines.append(
                f"Pseudo-labels: in {len(self.filled)} of {partly} partly labelled cases predictions fill what nobody has labelled"
                + ("." if len(self.filled) == partly else "; the others keep the ignore value there.")
            )
        return lines + [f"  note: {note}" for note in self.notes]


@dataclass(frozen=True)
class Predicting:
    """Network, cases and processes that all steps towards a reliable set share.

    Attributes:
        window: the network whose predictions to use.
        store: the preprocessed cases.
        dataset_json: the target's, for the classes.
        ranks: processes of a distributed training; all take every step and get the same results.
        log: gets a summary, and warnings about cases that cannot be scored.
    """

    window: Window
    store: CaseStore
    dataset_json: dict
    ranks: Ranks = field(default_factory=Ranks)
    log: Log = print


def rate_cases(
    by: Predicting,
    candidates: Sequence[str],
    labelled: Sequence[str],
    settings: PseudoLabelSettings,
    cache: ScoreCache | None = None,
) -> tuple[pd.DataFrame, list[str]]:
    """The reliability of every candidate: the table of :class:`ReliableSet`, and notes. Reads no label and writes only cached scores.

    Args:
        by: the network and the preprocessed images; its log gets cases that cannot be scored, which are not in the table.
        candidates: unlabelled cases.
        labelled: labelled cases that the network was trained on.
        settings: the shares.
        cache: cached scores of this network.
    """
    window, store, ranks, log, embedding = by.window, by.store, by.ranks, by.log, by.window.has_encoder
    notes: list[str] = []
    labelled = sorted(set(labelled) & set(store.identifiers()))
    unlabelled = set(candidates) - set(labelled)
    damaged = without_properties(store, sorted(unlabelled))
    scored = score_cases(window, store, sorted(unlabelled - damaged.keys()), WhatToScore(embedding), ranks, cache)
    known = PoolScores(pd.DataFrame(), {}, {})
    if embedding and labelled and not scored.table.empty:
        known = score_cases(window, store, labelled, ranks=ranks, cache=cache, description="Scoring labelled cases")
    for sentence in {**scored.problems, **known.problems, **damaged}.values():
        log(f"WARNING: {sentence}")
    if scored.table.empty:
        columns = ["confidence", "distance", "nearest_labelled", "foreground_voxels", "eligible", "confident", "near"]
        return pd.DataFrame(columns=[*columns, "reliable", "reason"]), ["No unlabelled case could be looked at."]
    if not embedding:
        notes.append("The network has no encoder, so that distances are unknown; confidence decides alone.")
    elif known.table.empty:
        notes.append("No case is labelled yet, so that distances are unknown; confidence decides alone.")
    table = scored.table[["confidence", "foreground_voxels"]].copy()
    empty = table["foreground_voxels"].to_numpy() == 0
    # an empty foreground has no mean confidence; use the mean over all voxels, the confidence that there is nothing
    table.loc[empty, "confidence"] = scored.table.loc[empty, "mean_max_probability"]
    distance, nearest = np.full(len(table), np.nan), np.full(len(table), -1)
    if not known.table.empty:
        distance, nearest = semantic_distance(scored.arrays["embedding"], known.arrays["embedding"])
    names = [*known.table.index, ""]
    table.insert(1, "distance", distance)
    table.insert(2, "nearest_labelled", [names[index] for index in nearest])
    rule = (settings.confident_fraction, settings.nearer_fraction, settings.allow_empty)
    judged = reliability(table["confidence"].to_numpy(), distance, empty, *rule).set_index(table.index)
    table = table.join(judged)
    table["reason"] = [_reason(row, is_empty) for row, is_empty in zip(judged.itertuples(), empty, strict=True)]
    if empty.any() and not settings.allow_empty:
        count = int(empty.sum())
        notes.append(f"In {count} case{'' if count == 1 else 's'} nothing is predicted; these are never reliable.")
    return table.sort_values(["reliable", "confidence"], ascending=False, kind="stable"), notes


def make_reliable_set(
    campaign: Campaign,
    by: Predicting,
    candidates: Sequence[str],
    folder: Path,
    settings: PseudoLabelSettings,
    labelled: Sequence[str] | None = None,
    partly: PartlyLabelled | None = None,
) -> ReliableSet:
    """Predict the unlabelled cases, keep the reliable ones, and write them so that nnU-Net can train on them.

    Partly labelled cases are compared only with each other, and by confidence alone, since they are labelled cases themselves. Every
    voxel that people drew in them is kept.

    Args:
        campaign: gives the labelled cases and the cached scores.
        by: the network that was trained on the labels, and the preprocessed cases.
        candidates: unlabelled cases; held-out and labelled ones are left out.
        folder: ``campaign.folder / "pseudo" / tag``; the other folders beside it, from earlier rounds, are deleted once it is complete.
        settings: the shares.
        labelled: the labelled cases; by default all of the campaign.
        partly: the partly labelled ones among them.

    Returns:
        The set; without any case if nothing is reliable.
    """
    ranks = by.ranks
    labelled = sorted(campaign.labelled() if labelled is None else labelled)
    candidates = sorted(set(candidates) - set(campaign.val) - set(labelled))
    cache = ScoreCache.of(campaign.dataset_folder, campaign.plans, campaign.configuration)
    digest = ranks.decide(lambda: by.window.digest)
    table, notes = rate_cases(by, candidates, labelled, settings, cache)
    cases, filled = _reliable(table), []
    if partly is not None and partly.cases:
        rated, _ = rate_cases(by, partly.cases, (), settings, cache)
        filled = _reliable(rated)
        parts = [part.assign(partly_labelled=on) for part, on in ((table, False), (rated, True)) if not part.empty]
        table = pd.concat(parts) if parts else table
        notes = notes if candidates else []

    folder = Path(folder)
    temporary = ranks.decide(lambda: temporary_beside(folder))
    try:
        mine = ranks.mine([*cases, *filled])

        def write_mine() -> None:
            for case in tqdm(mine, desc="Pseudo-labels", disable=not bar_is_shown(ranks.rank == 0 and len(mine) > 0)):
                drawn = partly.label(case) if partly is not None and case in filled else None
                write_pseudo_case(case, by.store, by.window, by.dataset_json, temporary, drawn)

        with naming_full_disk(folder):
            ranks.together(write_mine)
        record = {
            "format": FORMAT,
            "settings": asdict(settings),
            "labelled": labelled,
            "candidates": candidates,
            "network": digest,
            "cases": cases,
            "filled": filled,
            "notes": notes,
        }
        ranks.decide(lambda: _finish(temporary, folder, table, record))
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    made = ReliableSet(folder, tuple(cases), table, record)
    for sentence in made.lines():
        by.log(sentence)
    return made


def read_reliable_set(folder: Path) -> ReliableSet | None:
    """The set in a folder; None if there is none that is complete and of this version."""
    try:
        record = json.loads((Path(folder) / RECORD).read_text())
        if record["format"] != FORMAT:
            return None
        table = read_csv(Path(folder) / TABLE, dtype={"case": str, "nearest_labelled": str}).set_index("case")
    except (OSError, ValueError, KeyError):
        return None
    cases = (*record["cases"], *record.get("filled", ()))
    if not all((Path(folder) / f"{case}.b2nd").is_file() for case in cases):  # a link whose image is gone
        return None
    return ReliableSet(Path(folder), tuple(record["cases"]), table.fillna({"nearest_labelled": ""}), record)


def check_trained(
    models: Sequence[SourceModel], plans: dict, dataset_json: dict, labelled: bool, is_source: bool
) -> list[str]:
    """Warnings about a model whose predictions are to be used as labels.

    Raises:
        ActiveError: its head was never trained on the target's classes.
    """
    for model in models:
        heads = map_heads(head_names(model.plans, model.dataset_json), head_names(plans, dataset_json))
        if model.encoder_only or not heads.trained:
            raise ActiveError(
                f"The segmentation head of {model.origin} is not trained on the target's classes, so its predictions are no "
                f"labels; train on the labelled cases first."
            )
    if is_source and labelled:
        return ["This is the source network: it has not been trained on the labelled cases yet; train first."]
    return [] if labelled else ["No case is labelled yet: these are the predictions of an unadapted network."]


def _reliable(table: pd.DataFrame) -> list[str]:
    return sorted(table.index[table["reliable"].astype(bool)])


def _finish(temporary: Path, folder: Path, table: pd.DataFrame, record: dict) -> None:
    write_csv(temporary / TABLE, table, index_label="case")
    write_json(temporary / RECORD, record)
    temporary.chmod(0o755)
    if folder.exists():
        aside = temporary_beside(folder)
        folder.rename(aside / "old")
    temporary.rename(folder)
    for other in folder.parent.iterdir():
        if other != folder and other.is_dir():
            shutil.rmtree(other, ignore_errors=True)


def _reason(row: tuple, empty: bool) -> str:
    """Why a case is in the set or not, in a few words."""
    if row.reliable:
        return "confident and near" if not empty else "confident that there is nothing, and near"
    if not row.eligible:
        return "nothing predicted" if empty else "no confidence"
    missing = [word for word, on in (("not confident enough", row.confident), ("too far", row.near)) if not on]
    return " and ".join(missing)
