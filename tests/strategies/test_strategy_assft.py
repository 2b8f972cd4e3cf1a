"""ASSFT's query against a plain implementation of the formulas, for every switch."""

from __future__ import annotations

import dataclasses
from itertools import product

import numpy as np
import pytest
from strategy_pools import make_pool

from nnunet_active.strategies import get_strategy
from nnunet_active.strategies.anchors import pseudo_source_anchors
from nnunet_active.strategies.assft import CHOICES
from nnunet_active.util.errors import ActiveError


def query(pool, n, seed=0, **options):
    return get_strategy("assft", **options).query(pool, n, np.random.default_rng(seed))


def pool_with_source(n=18, labelled=2, seed=0, **changes):
    rng = np.random.default_rng(seed + 100)
    pool = make_pool(n=n, labelled=labelled, seed=seed, **changes).sorted()
    drifted = pool.arrays["embedding"] + 0.5 * rng.normal(size=(n, 6))
    return dataclasses.replace(pool, arrays={**pool.arrays, "source_embedding": drifted})


def n01(values):
    values = np.asarray(values, dtype=float)
    return np.zeros(len(values)) if values.max() == values.min() else (values - values.min()) / np.ptp(values)


def cosine(a, b):
    return 1 - a @ b / (np.linalg.norm(a) * np.linalg.norm(b))


def divergence(a, b):
    p, q = (np.exp(v) / np.exp(v).sum() for v in (a, b))
    middle = (p + q) / 2
    return 0.5 * (p * np.log(p / middle)).sum() + 0.5 * (q * np.log(q / middle)).sum()


def by_loops(pool, n, gap, region, empty, lambda_=0.7, support=100.0):
    z0, zt = pool.arrays["source_embedding"], pool.arrays["embedding"]
    if gap == "drift":
        kd = [divergence(a, b) for a, b in zip(z0, zt, strict=True)]
    else:
        anchors = pool.source_summary["centroids"]
        if gap == "anchor":
            anchors = pseudo_source_anchors(pool, z0, 8, 0.2, np.random.default_rng(0))
        kd = [min(np.linalg.norm(z - a) for a in anchors) for z in z0]
    column = {"predicted": "foreground_entropy", "soft": "soft_foreground_entropy"}.get(
        region, "class_balanced_entropy"
    )
    voxels = pool.scores["foreground_voxels"].to_numpy()
    own = pool.scores[column].fillna(pool.scores["soft_foreground_entropy"]).to_numpy()
    mean = own[voxels > 0].mean()
    asd = [(f * a + support * mean) / (f + support) for f, a in zip(voxels, own, strict=True)]
    if empty == "highest":
        asd = [a if f else max(asd) for f, a in zip(voxels, asd, strict=True)]
    references, picks = list(pool.labelled_arrays.get("embedding", ())), []
    for _ in range(n):
        div = [min(cosine(z, r) for r in references or [zt.mean(axis=0)]) for z in zt]
        q = n01(n01(kd) * n01(div)) + lambda_ * n01(asd)
        pick = max((i for i in range(len(pool)) if i not in picks), key=lambda i: (q[i], -i))
        picks.append(pick)
        references.append(zt[pick])
    return tuple(pool.cases[i] for i in picks)


@pytest.mark.parametrize("labelled", [0, 2])
@pytest.mark.parametrize("switches", product(*CHOICES.values()), ids="-".join)
def test_every_combination_of_switches_follows_the_formulas(switches, labelled):
    options = dict(zip(CHOICES, switches, strict=True))
    pool = pool_with_source(labelled=labelled)
    assert query(pool, 5, lambda_=0.7, **options).picks == by_loops(pool, 5, **options)


def test_a_batch_does_not_hold_two_twins():
    """Two copies of the best case: after the first, the second has no diversity left and the product is zero."""
    pool = make_pool(n=12, labelled=2).sorted()
    rng = np.random.default_rng(0)
    z = rng.normal(size=(12, 6))
    z[0] = z[1] = 20 * np.abs(z[0])  # far from every anchor
    pool = dataclasses.replace(pool, arrays={"embedding": z}, labelled_arrays={"embedding": -np.ones((2, 6))})
    twins = set(pool.cases[:2])
    selection = query(pool, 2, lambda_=0)
    assert twins == set(selection.utilities.iloc[0].sort_values(ascending=False).index[:2])
    assert len(twins & set(selection.picks)) == 1


def test_while_nothing_has_drifted_difficulty_picks_first_and_diversity_joins_in_from_there():
    pool = make_pool(labelled=0).sorted()
    selection = query(pool, 3, gap="drift")
    assert (selection.components["knowledge_gap"] == 0).all()
    assert any("not drifted" in note for note in selection.notes)
    assert any("No embedding by the source network" in note for note in selection.notes)
    z, hard = pool.arrays["embedding"], n01(selection.components["difficulty"][list(pool.cases)])
    picks = [int(np.argmax(hard))]
    for _ in range(2):
        div = n01([min(cosine(row, z[i]) for i in picks) for row in z])
        picks.append(max((i for i in range(len(pool)) if i not in picks), key=lambda i: div[i] + hard[i]))
    assert selection.picks == tuple(pool.cases[i] for i in picks)


def test_while_nothing_has_drifted_labelled_cases_count_from_the_first_pick_on():
    pool = make_pool(labelled=2).sorted()
    selection = query(pool, 1, gap="drift")
    z, references = pool.arrays["embedding"], pool.labelled_arrays["embedding"]
    div = n01([min(cosine(row, reference) for reference in references) for row in z])
    hard = n01(selection.components["difficulty"][list(pool.cases)])
    assert selection.picks == (pool.cases[int(np.argmax(div + hard))],)


def test_a_handful_of_uncertain_voxels_does_not_win():
    def pool(voxels):
        return make_pool(
            n=6,
            columns={
                "class_balanced_entropy": [0.69, 0.5, 0.4, 0.3, 0.2, 0.1],
                "foreground_voxels": [voxels, 5000, 5000, 5000, 5000, 5000],
            },
        )

    def hardest(voxels, **options):
        difficulty = query(pool(voxels), 1, **options).components["difficulty"]
        return list(pool(voxels).cases).index(difficulty.idxmax())

    assert hardest(4, support=0) == 0  # without support the tiny prediction wins by its own uncertainty
    assert hardest(4) == 1
    assert hardest(5000) == 0  # a prediction of ordinary size keeps its place


def test_an_empty_prediction_has_the_mean_difficulty_of_the_others():
    columns = {"foreground_entropy": [np.nan, 0.2, 0.4], "foreground_voxels": [0, 100, 100]}
    pool = make_pool(n=3, labelled=0, columns=columns)
    difficulty = query(pool, 1, region="predicted").components["difficulty"][list(pool.cases)]
    assert difficulty.iloc[0] == pytest.approx(0.3)
    soft = query(pool, 1, region="predicted", support=0).components["difficulty"][list(pool.cases)]
    assert soft.iloc[0] == pool.scores["soft_foreground_entropy"].iloc[0]
    highest = query(pool, 1, region="predicted", empty="highest").components["difficulty"][list(pool.cases)]
    assert highest.iloc[0] == highest.iloc[2] > highest.iloc[1]


def test_lambda_0_leaves_only_the_divergence():
    pool = pool_with_source()
    changed = dataclasses.replace(pool, scores=pool.scores.assign(foreground_entropy=0.0))
    assert query(pool, 5, lambda_=0).picks == query(changed, 5, lambda_=0).picks


def test_the_gap_source_needs_a_source_summary():
    assert "source_summary" in get_strategy("assft", gap="source").needs
    with pytest.raises(ActiveError, match="source summary"):
        query(dataclasses.replace(make_pool(), source_summary=None), 2, gap="source")


def test_anchors_lie_among_the_surest_cases():
    pool = make_pool(n=40).sorted()
    z = pool.embedding()
    surest = z[np.argsort(pool.scores["mean_entropy"].to_numpy())[:8]]
    anchors = pseudo_source_anchors(pool, z, 3, 0.2, np.random.default_rng(0))
    assert anchors.shape == (3, 6)
    assert (anchors >= surest.min(axis=0) - 1e-9).all() and (anchors <= surest.max(axis=0) + 1e-9).all()
    by_source = dataclasses.replace(pool, scores=pool.scores.assign(source_mean_entropy=-pool.scores["mean_entropy"]))
    assert not np.allclose(pseudo_source_anchors(by_source, z, 3, 0.2, np.random.default_rng(0)), anchors)


def test_a_case_without_an_entropy_is_no_anchor_while_there_are_others():
    pool = make_pool(n=10, columns={"mean_entropy": [np.nan] * 2 + [0.5] * 8}).sorted()
    z = np.where(np.isnan(pool.scores["mean_entropy"].to_numpy())[:, None], 1000.0, pool.embedding())
    assert pseudo_source_anchors(pool, z, 3, 0.8, np.random.default_rng(0)).max() < 100


def test_the_utility_is_made_of_the_two_normalised_components():
    selection = query(pool_with_source(), 1, lambda_=0.7)
    parts = selection.components
    assert list(selection.utilities.iloc[0]) == pytest.approx(list(parts["dkd"] + 0.7 * parts["asd"]))
    assert list(parts["dkd"]) == pytest.approx(n01(n01(parts["knowledge_gap"]) * n01(parts["diversity"])))
    assert list(parts["asd"]) == pytest.approx(n01(parts["difficulty"]))


def test_with_an_untrained_head_only_the_divergence_counts_and_a_note_says_so():
    pool = dataclasses.replace(pool_with_source(), head_trained=False)
    nonsense = dataclasses.replace(
        pool, scores=pool.scores.assign(class_balanced_entropy=pool.scores["density"], mean_entropy=0.1)
    )
    first, second = query(pool, 4), query(nonsense, 4)
    assert first.picks == second.picks
    assert (first.components["asd"] == 0).all()
    assert any("DKD decides alone" in note for note in first.notes)
    # with a source summary the gap is the distance to it
    distance = [
        min(np.linalg.norm(z - centre) for centre in pool.source_summary["centroids"])
        for z in pool.sorted().arrays["source_embedding"]
    ]
    assert list(first.components["knowledge_gap"]) == pytest.approx(distance)


def test_with_an_untrained_head_and_no_summary_the_diversity_is_left():
    pool = dataclasses.replace(pool_with_source(labelled=0), head_trained=False, source_summary=None)
    for gap in ("anchor", "drift"):
        selection = query(pool, 4, gap=gap)
        z = pool.arrays["embedding"]
        expected = [int(np.argmax([cosine(row, z.mean(axis=0)) for row in z]))]
        for _ in range(3):
            div = [min(cosine(row, z[i]) for i in expected) for row in z]
            expected.append(int(np.argmax([-1 if i in expected else d for i, d in enumerate(div)])))
        assert selection.picks == tuple(pool.cases[i] for i in expected)
        assert any("knowledge gap is unknown" in note for note in selection.notes)


def test_an_encoder_without_a_head_is_not_asked_how_sure_it_is():
    """In a later round the network's own entropy finds the anchors: the source's says nothing."""
    pool = pool_with_source()
    pool = dataclasses.replace(pool, source_head_trained=False)
    with_constant = dataclasses.replace(pool, scores=pool.scores.assign(source_mean_entropy=np.log(3)))
    assert query(pool, 4).picks == query(with_constant, 4).picks


def odd_pools():
    """Pools at the edge; every one has a defined answer."""
    zeros = make_pool(n=5, labelled=2, arrays={"embedding": np.zeros((5, 6)), "source_embedding": np.zeros((5, 6))})
    one = make_pool(n=1, labelled=1)
    same = {"embedding": np.ones((4, 6)), "source_embedding": np.ones((4, 6))}
    constant = dict.fromkeys(("mean_entropy", "foreground_entropy", "class_balanced_entropy"), 0.3)
    nothing = {"foreground_voxels": 0, "foreground_entropy": np.nan, "class_balanced_entropy": np.nan}
    equal = make_pool(n=4, labelled=2, arrays=same, columns={**constant, "soft_foreground_entropy": 0.2})
    return {
        "an embedding of zeros": zeros,
        "one case": one,
        "one case and nothing labelled": make_pool(n=1, labelled=0),
        "all cases equal": dataclasses.replace(equal, scores=equal.scores.assign(foreground_voxels=7.0)),
        "nothing predicted anywhere": make_pool(n=4, columns={**nothing, "soft_foreground_entropy": np.nan}),
        "one labelled case": make_pool(n=5, labelled=1),
        "no labelled case": make_pool(n=5, labelled=0),
    }


@pytest.mark.parametrize("trained", [True, False])
@pytest.mark.parametrize("name", odd_pools())
def test_odd_pools_have_a_defined_answer_that_does_not_depend_on_their_order(name, trained):
    pool = dataclasses.replace(odd_pools()[name], head_trained=trained, source_head_trained=trained)
    order = np.random.default_rng(1).permutation(len(pool))
    turned = dataclasses.replace(
        pool, scores=pool.scores.iloc[order], arrays={key: value[order] for key, value in pool.arrays.items()}
    )
    varied = ("gap", "empty")
    for switches in product(*(CHOICES[name] for name in varied)):
        options = dict(zip(varied, switches, strict=True))
        selection = query(pool, 2, **options)
        assert len(selection.picks) == min(2, len(pool))
        assert np.isfinite(selection.components.to_numpy()).all()
        assert np.isfinite(selection.utilities.iloc[0].to_numpy()).all()
        assert query(turned, 2, **options).picks == selection.picks


def test_the_drift_lies_between_0_and_ln_2():
    z = np.zeros((3, 4))
    z[0, 0] = 1000.0  # all of the mass on one feature, and on another one in the source
    z0 = np.zeros((3, 4))
    z0[0, 1] = 1000.0
    z0[1] = [0.5, 0, 0, 0]
    pool = make_pool(n=3, d=4, arrays={"embedding": z, "source_embedding": z0})
    drift = query(pool, 1, gap="drift").components["knowledge_gap"][list(pool.cases)]
    assert drift.iloc[0] == pytest.approx(np.log(2))
    assert drift.iloc[2] == 0
    assert drift.iloc[1] == pytest.approx(divergence(z[1], z0[1]))
