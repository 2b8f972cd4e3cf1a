"""Combinators: several strategies in one, and any score made diverse."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence

import numpy as np

from nnunet_active.strategies.base import QueryStrategy, Selection, Steps
from nnunet_active.strategies.pool import ScoredPool
from nnunet_active.strategies.registry import get_strategy
from nnunet_active.strategies.vectors import cluster, minmax, on_grid
from nnunet_active.util.errors import ActiveError

Members = Mapping[str, float] | Sequence[str | QueryStrategy]


class _Combination(QueryStrategy):
    """What the combinators share: members, their weights, and their utilities at every greedy step."""

    def __init__(self, members: Members = ("entropy", "coreset"), weights: Sequence[float] | None = None):
        """Members by name or as strategies, with weights, all 1 by default.

        Args:
            members: ``{"entropy": 1.0, "coreset": 0.5}``, or a sequence of names or strategies.
            weights: one for each member, if ``members`` is a sequence.
        """
        if isinstance(members, Mapping):
            weights = list(members.values()) if weights is None else weights
        elif isinstance(members, str):
            members = (members,)
        self.members = [get_strategy(m) if isinstance(m, str) else m for m in members]
        self.weights = [1.0] * len(self.members) if weights is None else [float(w) for w in weights]
        if not self.members or len(self.weights) != len(self.members):
            raise ActiveError(
                f"{self.name}: {len(self.members)} members and {len(self.weights)} weights; give as many of one as of the other."
            )
        self.needs = frozenset().union(*(m.needs for m in self.members))
        self.uses = frozenset().union(*(m.uses for m in self.members)) - self.needs
        self.draws = any(member.draws for member in self.members)

    @abstractmethod
    def _merge(self, utilities: np.ndarray) -> np.ndarray:
        """Merge the members' utilities (members, n) into one (n,)."""

    def _select(self, pool: ScoredPool, n: int, rng: np.random.Generator) -> Selection:
        seeds = rng.integers(2**63, size=len(self.members))
        utilities = np.zeros((len(self.members), len(pool)))
        components: dict[str, np.ndarray] = {}
        notes: tuple[str, ...] = ()
        steps = Steps(pool, n)
        for step in range(n):
            left = ~steps.picked
            pool_left = pool.moved_to_labelled(steps.picked) if step else pool
            for i, (member, seed) in enumerate(zip(self.members, seeds, strict=True)):
                if step and not member.batch_aware:
                    continue
                member_rng = np.random.default_rng([int(seed), step])
                # query() checked the first answer in full; what is left of that pool is still sorted and sound.
                answer = member._select(pool_left, 1, member_rng) if step else _first_step(member, pool, n, member_rng)
                utilities[i, left] = answer.utilities.to_numpy()[0]
                if step == 0:
                    components[f"{i}_{member.name}"] = utilities[i].copy()
                    notes += tuple(f"{member.name}: {note}" for note in answer.notes)
            merged = np.zeros(len(pool))
            merged[left] = self._merge(utilities[:, left])
            steps.pick(merged)
        return steps.selection(components, notes)


def _first_step(member: QueryStrategy, pool: ScoredPool, n: int, rng: np.random.Generator) -> Selection:
    """The member's answer; only the first row of its utilities counts.

    A member that is asked only once is asked for all n picks, because its utilities may depend on n (as in cup).
    """
    return member.query(pool, 1 if member.batch_aware else n, rng)


class WeightedSumStrategy(_Combination):
    """Several strategies, their scaled utilities added up.

    utility(x) = sum_i w_i n(utility_i(x)), n(.) = min-max over the candidates that are left.

    Members whose picks depend on one another (``batch_aware``) are asked again after every pick, with the picks so far
    counted as labelled; the others are asked once. So entropy + coreset stays diverse within a batch. Paper: none (our
    choice). Cost: the members', b times for the batch-aware ones.
    """

    name = "weighted_sum"
    needs = frozenset({"predictions", "embedding"})
    paper = "- (combines other strategies)"
    cost = "the members', b times where batch-aware"

    def _merge(self, utilities: np.ndarray) -> np.ndarray:
        return sum(weight * minmax(values) for weight, values in zip(self.weights, utilities, strict=True))


class RankAggregationStrategy(_Combination):
    """Several strategies, their ranks added up.

    Borda count: utility(x) = sum_i w_i rank_i(x) / n, rank n for the highest utility, ties share the mean rank.

    Scale-free: an outlier of one member cannot outvote the others. Members are asked as in ``weighted_sum``.
    Paper: Borda 1781 (our choice of rule). Cost: the members', b times for the batch-aware ones.
    """

    name = "rank_aggregation"
    needs = frozenset({"predictions", "embedding"})
    paper = "Borda count (combines other strategies)"
    cost = "the members' + O(n log n), b times where batch-aware"

    def _merge(self, utilities: np.ndarray) -> np.ndarray:
        from scipy.stats import rankdata  # not at the top, as in vectors

        return sum(
            weight * rankdata(on_grid(values)) / len(values)
            for weight, values in zip(self.weights, utilities, strict=True)
        )


class PerClusterStrategy(QueryStrategy):
    """The most informative case per cluster: makes any score diverse.

    k-means on the embeddings makes b clusters of the candidates. Clusters take turns, the one with the highest utility first;
    each gives its candidate with the highest utility. If k-means left a cluster empty, the next pass through the clusters
    takes its turn. utility = n(member's utility) + 2 in the cluster of that step, n(member's utility) elsewhere; the
    member is asked once. Paper: none (our choice). Cost: the member's + O(n b d).
    """

    name = "per_cluster"
    needs = frozenset({"predictions", "embedding"})
    paper = "- (wraps another strategy)"
    cost = "the member's + O(n b d)"

    def __init__(self, member: str | QueryStrategy = "entropy"):
        """Args: member: the strategy whose utility ranks the cases within a cluster, by name or as a strategy."""
        self.member = get_strategy(member) if isinstance(member, str) else member
        self.needs = self.member.needs | {"embedding"}
        self.uses = self.member.uses - self.needs
        self.draws = self.member.draws

    def _select(self, pool: ScoredPool, n: int, rng: np.random.Generator) -> Selection:
        answer = _first_step(self.member, pool, n, np.random.default_rng(int(rng.integers(2**63))))
        utility = minmax(answer.utilities.to_numpy()[0])
        labels = cluster(pool.embedding(), n, rng)[0]
        taken = np.zeros(labels.max() + 1)
        steps = Steps(pool, n)
        for _ in range(n):
            left = np.flatnonzero(~steps.picked)
            turn = left[taken[labels[left]] == taken[labels[left]].min()]
            target = labels[turn[np.argmax(utility[turn])]]
            picked = steps.pick(utility + (labels == target) * 2.0)
            taken[labels[picked]] += 1
        notes = tuple(f"{self.member.name}: {note}" for note in answer.notes)
        return steps.selection({"utility": utility, "cluster": labels}, notes)
