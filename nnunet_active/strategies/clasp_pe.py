"""ClaSP PE: class-stratified predictive entropy with scheduled noise."""

from __future__ import annotations

import numpy as np

from nnunet_active.strategies.base import QueryStrategy, Selection, Steps
from nnunet_active.strategies.foreground_random import predicted_classes
from nnunet_active.strategies.pool import ScoredPool
from nnunet_active.util.errors import ActiveError


class ClaspPeStrategy(QueryStrategy):
    """Entropy, made diverse by classes and by noise that fades over the rounds.

    * noisy score s(x) = ln H(x) + e(x) / beta_r, e ~ Gumbel(0, 1) drawn once for each query ("power noise": sampling without
      replacement with probabilities proportional to H^beta)
    * beta_r = first (last / first)^((r - 1) / (R - 1)): log-scale from ``first_beta`` to ``last_beta`` over the R rounds
    * the first round(``stratified`` * b) picks go through the predicted classes in turn, the rarest first: each takes the
      highest s among the cases in which its class is predicted; the other picks go by s alone.

    Our choices: the values of beta; H = mean voxel entropy, at least 1e-10; classes from ``class_volume``, else all
    foreground is one class; a class with no candidate left is skipped. utility = s, plus the span of s for the cases
    of that step's class. Adapted from patches to cases. Paper: ClaSP PE, TMLR 2026. Cost: O(b n).
    """

    name = "clasp_pe"
    needs = frozenset({"predictions"})
    columns = ("mean_entropy", "foreground_voxels")
    paper = "ClaSP PE, TMLR 2026"
    cost = "O(b n)"
    draws = True

    def __init__(self, stratified: float = 0.66, first_beta: float = 1.0, last_beta: float = 100.0):
        """Args: stratified: share of the picks spread over the classes; first_beta, last_beta: 1 / strength of the noise."""
        if not 0 <= stratified <= 1 or min(first_beta, last_beta) <= 0:
            raise ActiveError("clasp_pe: stratified has to lie in [0, 1] and both betas above 0.")
        self.stratified = stratified
        self.first_beta = first_beta
        self.last_beta = last_beta

    def beta(self, round_index: int, rounds: int) -> float:
        """Inverse strength of the noise in a round (from 1); if there is only one round, ``first_beta``."""
        progress = min(1.0, max(0, round_index - 1) / max(1, rounds - 1))
        return self.first_beta * (self.last_beta / self.first_beta) ** progress

    def _select(self, pool: ScoredPool, n: int, rng: np.random.Generator) -> Selection:
        log_entropy = np.log(np.maximum(pool.column("mean_entropy"), 1e-10))
        noise = rng.gumbel(size=len(pool)) / self.beta(pool.round_index, pool.rounds)
        score = log_entropy + noise
        span = score.max() - score.min() + 1.0
        present = predicted_classes(pool)
        classes = np.argsort(present.sum(axis=0), kind="stable")  # the rarest class first
        steps = Steps(pool, n)
        turn = 0
        for step in range(n):
            utility = score
            open_class = present[~steps.picked].any(axis=0)
            if step < round(self.stratified * n) and open_class.any():
                while not open_class[classes[turn % len(classes)]]:
                    turn += 1
                utility = score + span * present[:, classes[turn % len(classes)]]
                turn += 1
            steps.pick(utility)
        return steps.selection({"log_entropy": log_entropy, "noise": noise, "predicted_classes": present.sum(axis=1)})
