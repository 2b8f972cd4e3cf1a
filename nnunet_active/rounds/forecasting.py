"""Makes a forecast: the expected Dice of the unlabelled cases, those that will probably fail, and whether the next labels will pay off.

The predicting network ranks the unlabelled cases by their quality (:mod:`~nnunet_active.forecast.expected_dice`). Labelled cases then
relate quality to true Dice. That quality must come from a network that has seen none of the cases, so that it means the same on
labelled and unlabelled ones. This is the predicting network if enough labelled cases are unseen by it (held-out and new ones), else the
source network. Each network runs once per case; the score cache keeps the result.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
import torch

from nnunet_active.forecast.expected_dice import (
    LABELS_NEEDED,
    PRIOR,
    DiceEstimate,
    calibrated,
    estimate_dice,
    expected_classes,
    mean_of_classes,
    quality,
    usual_classes,
)
from nnunet_active.forecast.outlook import Outlook, outlook
from nnunet_active.models.source_model import head_is_trained
from nnunet_active.nnunet.nnunet_paths import results_root
from nnunet_active.nnunet.window import Window
from nnunet_active.query.pool_scoring import PoolScores, WhatToScore, score_cases
from nnunet_active.query.score_cache import ScoreCache
from nnunet_active.rounds.asking_model import FoundModel, make_window
from nnunet_active.rounds.forecast_record import Moved, earlier_networks, moved_since
from nnunet_active.rounds.map_temperature import fit_map_temperature
from nnunet_active.rounds.trained_models import Training, trainings_of
from nnunet_active.rounds.unseen_dice import UnseenDice, unseen_dice
from nnunet_active.util.errors import EmptyPool, MissingInput
from nnunet_active.util.log import Log
from nnunet_active.workspace import Workspace


@dataclass(frozen=True)
class Forecast:
    """The result of a forecast.

    Attributes:
        workspace: the data set.
        training: the predicting network's training; None if the source network predicts.
        digest: fingerprint of the predicting network.
        cases: one row per unlabelled case, worst first: ``expected`` Dice, ``agreement`` and ``confidence`` (means over the
            classes that count; confidence is 0 only if nothing is predicted), ``lost`` (classes that count but are not predicted).
        classes: expected Dice of every case and class, in the same rows.
        overall, by_class: mean Dice of the pool, in all and for every class.
        outlook: whether the next labels will pay off.
        judged: labelled cases that the estimate is based on.
        moved: how far the predictions lie from those of the last forecast's network; None if there was none, or if `is_source`.
        is_source: the training kept the source weights (alpha 0), so the gain of an adapted network is unknown.
        temperature: temperature of the network's uncertainty maps from now on; 1 leaves them unchanged.
        passes: number of forward passes that were needed now, summed over the networks.
        problems: one sentence for each case with a problem.
    """

    workspace: Workspace
    training: Training | None
    digest: str
    cases: pd.DataFrame
    classes: pd.DataFrame
    overall: DiceEstimate
    by_class: dict[str, DiceEstimate]
    outlook: Outlook
    judged: tuple[str, ...] = ()
    moved: Moved | None = None
    is_source: bool = False
    temperature: float = 1.0
    passes: int = 0
    problems: dict[str, str] = field(default_factory=dict)


def make_forecast(workspace: Workspace, device: torch.device, trainer: str | None = None, log: Log = print) -> Forecast:
    """Run the networks on cases that are not in the cache, and make the forecast.

    Args:
        workspace: a preprocessed data set; it needs no campaign, but without one no label counts.
        device: device of the networks.
        trainer: class name of the trainer whose network predicts; None for the fold's newest training, else the source network.
        log: gets messages.

    Raises:
        EmptyPool: every case has a label, or no case can be predicted.
        MissingInput: there is no network, or none that can segment this target yet.
    """
    training, pool = _training(workspace, trainer), _unlabelled(workspace)
    if not pool:
        raise EmptyPool(
            f"Every preprocessed case of {workspace.dataset} has a label, of a few slices at least: there is nothing to forecast."
        )
    source = network = make_window(FoundModel((workspace.source,), "source"), workspace, device)
    source_predicts = head_is_trained(workspace.source, workspace.plans, workspace.dataset_json)
    if training is not None:
        model = workspace.model(training.model_folder, training.fold, training.checkpoint.name)
        network = make_window(FoundModel((model,), "own"), workspace, device)
    elif not source_predicts:
        raise MissingInput("The source network has no output layer for this target; a forecast takes a training first.")
    unseen = (
        UnseenDice.nothing() if workspace.found_campaign is None else unseen_dice(workspace, training, network, source)
    )
    by_itself = training is None or len(unseen.by_itself) >= LABELS_NEEDED
    judged = sorted(unseen.by_itself if by_itself else unseen.network.index)
    asked = _Asked(workspace, log)
    by_network = asked.ask(network, [*pool, *judged] if by_itself else pool)
    by_judge = by_network if by_itself else asked.ask(source, [*pool, *judged])
    pool = [case for case in pool if case in by_network.table.index and case in by_judge.table.index]
    if not pool:
        raise EmptyPool("No unlabelled case can be predicted (see the warnings).")
    asked.cache.keep(source.digest)
    asked.cache.prune()

    names = workspace.class_names[0 if network.regions else 1 :]
    says_nothing = not (by_itself or source_predicts)
    by_class, overall = _estimates(_Quality.of(by_judge, pool, network), pool, judged, unseen, names, says_nothing)
    mine = _Quality.of(by_network, pool, network)
    overall, by_class = (
        _shown(overall, mine.mean(pool)),
        {name: _shown(one, mine.values(pool)[:, c]) for c, (name, one) in enumerate(by_class.items())},
    )
    classes = pd.DataFrame(
        {name: calibrated(mine.values(pool)[:, c], by_class[name]) for c, name in enumerate(names)}, index=pool
    )
    cases = pd.DataFrame(
        {
            "expected": calibrated(mine.mean(pool), overall),
            "agreement": mine.mean(pool, "class_agreement"),
            "confidence": mine.mean(pool, "class_soft_dice"),
            "lost": [", ".join(np.array(names, dtype=object)[lost]) for lost in mine.lost(pool)],
        },
        index=pd.Index(pool, name="case"),
    ).sort_values("expected", kind="stable")
    digest = network.digest
    is_source = training is not None and training.is_source
    earlier = [] if is_source or workspace.found_campaign is None else earlier_networks(workspace.campaign)
    moved = moved_since(earlier, digest, asked.cache, workspace.store, pool, len(names))
    gains = unseen.gains.to_numpy() if training is not None and not is_source else np.empty(0)
    return Forecast(
        workspace=workspace,
        training=training,
        digest=digest,
        cases=cases,
        classes=classes.loc[cases.index],
        overall=overall,
        by_class=by_class,
        outlook=outlook(gains),
        judged=tuple(judged),
        moved=moved,
        is_source=is_source,
        temperature=_temperature(workspace, network, digest, unseen),
        passes=asked.passes,
        problems=asked.problems,
    )


def _training(workspace: Workspace, trainer: str | None) -> Training | None:
    """The newest finished training of the fold.

    Raises:
        MissingInput: the named trainer has finished no training of the fold.
    """
    found = [] if workspace.found_campaign is None else trainings_of(workspace.campaign, results_root())
    found = [one for one in found if one.finished and not one.problem and one.fold == workspace.fold]
    mine = [one for one in found if trainer in (None, one.trainer)]
    if trainer is not None and not mine:
        others = f"; trained: {', '.join(sorted({one.trainer for one in found}))}" if found else ""
        raise MissingInput(f"{trainer} has not trained fold {workspace.fold} of this campaign to its end{others}.")
    return mine[0] if mine else None


def _unlabelled(workspace: Workspace) -> list[str]:
    if workspace.found_campaign is None:
        return workspace.store.pool_identifiers()
    campaign, stored = workspace.campaign, set(workspace.store.identifiers())
    known = {*campaign.labelled(), *campaign.held_out(), *campaign.val}
    return sorted(({*workspace.candidates(), *campaign.waiting(), *campaign.declined} & stored) - known)


def _temperature(workspace: Workspace, network: Window, digest: str, unseen: UnseenDice) -> float:
    if workspace.found_campaign is None:
        return 1.0
    cases = set(unseen.by_itself)
    if workspace.campaign.asks_for_slices:  # other cases may have withheld slices
        cases &= set(workspace.campaign.held_out())
    return fit_map_temperature(workspace, network, digest, sorted(cases))


class _Asked:
    """Runs networks on cases, and counts the passes."""

    def __init__(self, workspace: Workspace, log: Log) -> None:
        self.workspace, self.log = workspace, log
        self.cache = ScoreCache.of(workspace.folder, workspace.plans_name, workspace.configuration)
        self.passes, self.problems = 0, dict[str, str]()

    def ask(self, window: Window, cases: list[str]) -> PoolScores:
        """Score the cases, including what a later query needs, so that the query needs no further pass."""
        what = WhatToScore(embedding=window.has_encoder, agreement=True)
        scores = score_cases(window, self.workspace.store, cases, what, cache=self.cache, description="Forecasting")
        for case, sentence in scores.problems.items():
            if case not in self.problems:
                self.log(f"WARNING: {sentence.replace('this query', 'the forecast')}")
        self.passes, self.problems = self.passes + scores.forward_passes, self.problems | scores.problems
        return scores


@dataclass(frozen=True)
class _Quality:
    """One network's scores of the cases: arrays by name, (n, classes), without the background."""

    row: dict[str, int]
    arrays: dict[str, np.ndarray]
    usual: np.ndarray

    @classmethod
    def of(cls, scores: PoolScores, pool: list[str], window: Window) -> _Quality:
        first = 0 if window.regions else 1
        names = ("class_agreement", "class_soft_dice", "class_volume")
        arrays = {name: scores.arrays[name][:, first:] for name in names}
        row = {case: i for i, case in enumerate(scores.table.index)}
        return cls(row, arrays, usual_classes(arrays["class_volume"][[row[case] for case in pool]]))

    def _of(self, cases: list[str], name: str) -> np.ndarray:
        return self.arrays[name][[self.row[case] for case in cases]]

    def values(self, cases: list[str]) -> np.ndarray:
        return quality(*(self._of(cases, name) for name in self.arrays), self.usual)

    def mean(self, cases: list[str], name: str | None = None) -> np.ndarray:
        values = self.values(cases)
        return mean_of_classes(values if name is None else np.where(np.isnan(values), np.nan, self._of(cases, name)))

    def lost(self, cases: list[str]) -> np.ndarray:
        volume = self._of(cases, "class_volume")
        return expected_classes(volume, self.usual) & (volume == 0)


def _estimates(
    judge: _Quality, pool: list[str], judged: list[str], unseen: UnseenDice, names: list[str], says_nothing: bool
) -> tuple[dict[str, DiceEstimate], DiceEstimate]:
    judged = [case for case in judged if case in judge.row]
    of_pool, known = (judge.values(cases) for cases in (pool, judged))
    if says_nothing:  # an untrained output layer: fall back to the mean Dice of the labelled cases
        of_pool, known = np.ones_like(of_pool), np.ones_like(known)
    dice = unseen.network.reindex(index=judged, columns=names).to_numpy(dtype=float)
    prior = 0 if says_nothing else PRIOR
    by_class = {name: estimate_dice(of_pool[:, c], known[:, c], dice[:, c], prior) for c, name in enumerate(names)}
    overall = estimate_dice(mean_of_classes(of_pool), mean_of_classes(known), mean_of_classes(dice), prior)
    return by_class, overall


def _shown(estimate: DiceEstimate, values: np.ndarray) -> DiceEstimate:
    """The estimate with the uncalibrated mean of the predicting network."""
    mean = float(np.nanmean(values)) if np.isfinite(values).any() else np.nan
    return replace(estimate, uncalibrated=mean, mean=estimate.mean if estimate.calibrated else mean)
