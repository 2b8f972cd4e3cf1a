"""The combinators: sums, ranks, and one per cluster."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from strategy_pools import from_embedding, indices, make_pool

from nnunet_active.strategies import get_strategy
from nnunet_active.util.errors import ActiveError


def query(name, pool, n, seed=0, **options):
    return get_strategy(name, **options).query(pool, n, np.random.default_rng(seed))


@pytest.mark.parametrize("combinator", ["weighted_sum", "rank_aggregation"])
@pytest.mark.parametrize("member", ["entropy", "coreset", "lamda", "mmacts", "cup"])
@pytest.mark.parametrize("labelled", [0, 3])
def test_a_single_member_picks_what_it_picks_alone(combinator, member, labelled):
    pool = make_pool(labelled=labelled)
    assert query(combinator, pool, 8, members=[member]).picks == query(member, pool, 8).picks


def test_a_weighted_sum_adds_scaled_utilities():
    z = np.zeros((3, 2))
    pool = from_embedding(z, mean_entropy=[0.0, 0.5, 1.0], mean_margin=[0.2, 0.4, 1.0], foreground_voxels=[0, 0, 0])
    selection = query("weighted_sum", pool, 1, members={"entropy": 1.0, "margin": 3.0})
    assert selection.utilities.iloc[0].to_numpy() == pytest.approx([3.0, 0.5 + 3 * 0.75, 1.0])
    assert list(selection.components.columns) == ["0_entropy", "1_margin"]


@pytest.mark.parametrize("entropies", [[0.3, 0.1 + 0.2], [0.1 + 0.2, 0.3]])
@pytest.mark.parametrize(
    ("name", "options"), [("rank_aggregation", {"members": ["entropy"]}), ("cup", {"factor": 1}), ("entropy", {})]
)
def test_rounding_errors_of_the_scores_are_ties(name, options, entropies):
    pool = from_embedding(np.zeros((2, 2)), mean_entropy=entropies, foreground_voxels=[1, 2])
    assert indices(query(name, pool, 1, **options)) == [0]


def test_ranks_share_ties_and_ignore_the_scale():
    pool = from_embedding(np.zeros((4, 2)), mean_entropy=[1e9, 3.0, 2.0, 2.0], mean_margin=[0.9, 0.1, 0.2, 0.3])
    selection = query("rank_aggregation", pool, 1, members=["entropy", "margin"])
    assert selection.utilities.iloc[0].to_numpy() == pytest.approx(np.array([4 + 1, 3 + 4, 1.5 + 3, 1.5 + 2]) / 4)
    assert indices(selection) == [1]


def test_a_batch_stays_diverse_where_one_member_is():
    z = np.array([[0.0], [0.0], [0.0], [10.0], [20.0]])
    pool = from_embedding(z, mean_entropy=[1.0, 0.99, 0.98, 0.9, 0.9])
    assert indices(query("entropy", pool, 3)) == [0, 1, 2]
    assert {3, 4} < set(indices(query("weighted_sum", pool, 3, members={"entropy": 1, "coreset": 2})))


def test_weights_may_stand_beside_the_members():
    pool = make_pool()
    assert (
        query("weighted_sum", pool, 5, members=["entropy", "margin"], weights=[2, 1]).picks
        == query("weighted_sum", pool, 5, members={"entropy": 2, "margin": 1}).picks
    )


def test_needs_are_those_of_the_members():
    assert get_strategy("weighted_sum", members=["mmacts", "bald"]).needs == {"predictions", "density", "ensemble"}
    assert get_strategy("weighted_sum", members=["entropy", "aada"]).uses == {
        "embedding",
        "source_embedding",
        "source_summary",
    }
    assert get_strategy("per_cluster", member="mmacts").needs == {"predictions", "density", "embedding"}


def test_what_a_member_misses_is_said_in_its_name():
    pool = make_pool()
    pool = dataclasses.replace(pool, scores=pool.scores.drop(columns="mean_entropy"))
    for combinator, options in (("per_cluster", {"member": "mmacts"}), ("weighted_sum", {"members": ["mmacts"]})):
        with pytest.raises(ActiveError, match="'mmacts' needs the score column 'mean_entropy'"):
            query(combinator, pool, 2, **options)


def test_notes_of_members_are_passed_on():
    pool = dataclasses.replace(make_pool(), source_summary=None)
    assert any(n.startswith("aada: ") for n in query("weighted_sum", pool, 2, members=["aada", "entropy"]).notes)
    assert any(n.startswith("aada: ") for n in query("per_cluster", pool, 2, member="aada").notes)


def test_combinators_can_be_members_and_members_can_be_made_already():
    inner = get_strategy("per_cluster", member=get_strategy("cup", factor=3))
    selection = query("rank_aggregation", make_pool(), 4, members=[inner, "random"])
    assert len(selection.picks) == 4


def test_one_per_cluster_takes_the_best_of_each_group():
    z = np.array([[0.0], [1.0], [2.0], [100.0], [101.0], [200.0]])
    entropy = [0.7, 0.9, 0.8, 0.1, 0.2, 0.5]
    assert indices(query("per_cluster", from_embedding(z, mean_entropy=entropy), 3)) == [1, 5, 4]
