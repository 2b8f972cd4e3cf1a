"""What every strategy promises, run over the registry: a new strategy is tested by being there."""

from __future__ import annotations

import copy
import dataclasses
import warnings

import numpy as np
import pytest
from strategy_pools import make_pool

from nnunet_active.strategies import ScoredPool, available_strategies, get_strategy
from nnunet_active.strategies.base import NEEDS
from nnunet_active.util.errors import ActiveError, EmptyPool

VARIANTS = [
    ("assft", {"gap": "drift", "region": "predicted"}),
    ("assft", {"gap": "source", "region": "soft", "support": 0}),
    ("assft", {"empty": "highest", "support": 0}),
    ("weighted_sum", {"members": {"mmacts": 1.0, "lamda": 0.3, "random": 0.1}}),
    ("rank_aggregation", {"members": ["bald", "typiclust", "foreground_random"]}),
    ("per_cluster", {"member": "mmacts"}),
    ("lamda", {"gamma": 10.0}),
]
EVERY = [(name, {}) for name in available_strategies()] + VARIANTS
POOLS = {
    "ordinary": {},
    "one candidate": {"n": 1},
    "two candidates": {"n": 2, "labelled": 0},
    "no labelled case": {"labelled": 0},
    "one labelled case": {"labelled": 1},
    "many labelled cases": {"n": 4, "labelled": 20},
    "no class arrays, no summary": {"source_summary": None, "drop": ("class_volume", "class_mean")},
    "centroids only": {"source_summary": {"centroids": np.ones((1, 6))}},
    "labelled cases without embeddings": {"labelled_arrays": {}},
    "zero embeddings": {"arrays": {"embedding": np.zeros((24, 6)), "class_mean": np.zeros((24, 3, 6))}},
    "float32 embeddings": {
        "arrays": {"embedding": np.ones((24, 6), np.float32) * np.arange(24, dtype=np.float32)[:, None]}
    },
    "huge embeddings": {"arrays": {"embedding": np.random.default_rng(0).normal(size=(24, 6)) * 1e6}},
    "empty predictions": {
        "columns": {
            "foreground_voxels": 0.0,
            "foreground_mm3": 0.0,
            "foreground_entropy": np.nan,
            "confidence": np.nan,
            "class_balanced_entropy": np.nan,
            "soft_foreground_entropy": 0.0,
            "mean_entropy": 0.0,
        },
        "arrays": {"class_volume": np.tile([1000.0, 0, 0], (24, 1))},
    },
    "one NaN in every column": {"nan_row": 7},
    "infinite scores": {"columns": {"mean_entropy": np.inf, "foreground_voxels": -np.inf, "density": np.inf}},
    "one region": {
        "first_class": 0,
        "arrays": {
            "class_volume": np.arange(24.0)[:, None] % 5,
            "class_mean": np.random.default_rng(2).normal(size=(24, 1, 6)),
        },
    },
    "entropy histograms": {"arrays": {"entropy_histogram": np.random.default_rng(1).integers(0, 9, size=(24, 16))}},
}


def pool_of(kind: str) -> ScoredPool:
    settings = dict(POOLS[kind])
    drop, nan_row = settings.pop("drop", ()), settings.pop("nan_row", None)
    pool = make_pool(**settings)
    if nan_row is not None:
        scores = pool.scores.copy()
        scores.iloc[nan_row] = np.nan
        pool = dataclasses.replace(pool, scores=scores)
    return dataclasses.replace(pool, arrays={k: v for k, v in pool.arrays.items() if k not in drop})


def identical(pool: ScoredPool) -> ScoredPool:
    """The same pool with every candidate like the first one."""
    scores = pool.scores.copy()
    scores.iloc[:] = scores.iloc[0].to_numpy()
    return dataclasses.replace(
        pool, scores=scores, arrays={k: np.repeat(v[:1], len(pool), axis=0) for k, v in pool.arrays.items()}
    )


def shuffled(pool: ScoredPool, seed: int = 3) -> ScoredPool:
    rng = np.random.default_rng(seed)
    order, labelled = rng.permutation(len(pool)), rng.permutation(len(pool.labelled_cases))
    return dataclasses.replace(
        pool,
        scores=pool.scores.iloc[order],
        arrays={k: v[order] for k, v in pool.arrays.items()},
        labelled_cases=tuple(pool.labelled_cases[i] for i in labelled),
        labelled_arrays={k: v[labelled] for k, v in pool.labelled_arrays.items()},
    )


def make(name, options, pool):
    strategy = get_strategy(name, **options)
    if "source_summary" in strategy.needs and pool.source_summary is None:
        pytest.skip("needs a source summary, which this pool leaves out")
    return strategy


def assert_valid(selection, pool, n):
    expected = min(n, len(pool))
    assert len(selection.picks) == expected
    assert len(set(selection.picks)) == expected
    assert set(selection.picks) <= set(pool.scores.index)
    utilities = selection.utilities
    assert set(utilities.columns) == set(pool.scores.index)
    assert len(utilities) == expected
    for step in range(expected):
        row = utilities.iloc[step]
        gone = list(selection.picks[:step])
        assert row[gone].isna().all()
        assert np.isfinite(row.drop(gone)).all()
    assert set(selection.components.index) == set(pool.scores.index)
    assert all(isinstance(note, str) for note in selection.notes)


every_strategy = pytest.mark.parametrize(("name", "options"), EVERY, ids=[f"{n}-{o}" if o else n for n, o in EVERY])


@every_strategy
@pytest.mark.parametrize("kind", POOLS)
def test_picks_are_n_different_cases_of_the_pool_and_utilities_are_finite(name, options, kind):
    pool = pool_of(kind)
    strategy = make(name, options, pool)
    for n in (1, 5, len(pool) + 7):
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # a warning of numpy or scikit-learn would reach the user as noise
            assert_valid(strategy.query(pool, n, np.random.default_rng(0)), pool, n)


@every_strategy
def test_every_pick_has_the_highest_utility_of_its_step(name, options):
    if name == "badge":
        pytest.skip("draws in proportion to the utility")
    pool = make_pool()
    selection = get_strategy(name, **options).query(pool, 12, np.random.default_rng(0))
    for step, pick in enumerate(selection.picks):
        row = selection.utilities.iloc[step]
        best = row.index[row >= row.max() - 1e-12 * row.abs().max()]
        assert pick == best.min(), "the highest, and the first identifier among equals"


@every_strategy
def test_asking_for_exactly_the_pool_or_for_more_gives_all_of_it(name, options):
    pool = make_pool(n=12)
    exact, more = (get_strategy(name, **options).query(pool, n, np.random.default_rng(0)) for n in (12, 500))
    assert set(exact.picks) == set(pool.cases)
    assert more.picks == exact.picks and more.utilities.equals(exact.utilities)


@every_strategy
@pytest.mark.parametrize("labelled", [0, 3])
def test_identical_cases_are_no_problem(name, options, labelled):
    pool = identical(make_pool(n=12, labelled=labelled))
    for n in (1, 5, 12):
        assert_valid(get_strategy(name, **options).query(pool, n, np.random.default_rng(0)), pool, n)


@every_strategy
def test_the_same_seed_gives_the_same_selection(name, options):
    pool = make_pool()
    first, second = (get_strategy(name, **options).query(pool, 6, np.random.default_rng(5)) for _ in range(2))
    assert first.picks == second.picks
    assert first.utilities.equals(second.utilities)
    assert first.components.equals(second.components)


@every_strategy
def test_one_strategy_object_asked_twice_answers_the_same(name, options):
    strategy, pool = get_strategy(name, **options), make_pool()
    first = strategy.query(pool, 6, np.random.default_rng(5))
    strategy.query(make_pool(n=9, seed=4), 3, np.random.default_rng(1))
    assert strategy.query(pool, 6, np.random.default_rng(5)).picks == first.picks


@every_strategy
@pytest.mark.parametrize("labelled", [0, 3])
def test_the_order_of_the_cases_makes_no_difference(name, options, labelled):
    pool = make_pool(labelled=labelled)
    ordered = get_strategy(name, **options).query(pool, 8, np.random.default_rng(2))
    mixed = get_strategy(name, **options).query(shuffled(pool), 8, np.random.default_rng(2))
    assert mixed.picks == ordered.picks
    assert mixed.utilities.equals(ordered.utilities)


@every_strategy
def test_the_order_makes_no_difference_where_all_cases_are_identical(name, options):
    pool = identical(make_pool())
    ordered = get_strategy(name, **options).query(pool, 8, np.random.default_rng(2))
    assert get_strategy(name, **options).query(shuffled(pool), 8, np.random.default_rng(2)).picks == ordered.picks


@every_strategy
def test_the_pool_is_not_changed(name, options):
    pool = make_pool()
    before = copy.deepcopy(pool)
    for values in (*pool.arrays.values(), *pool.labelled_arrays.values(), *pool.source_summary.values()):
        values.flags.writeable = False
    get_strategy(name, **options).query(pool, 6, np.random.default_rng(0))
    assert pool.scores.equals(before.scores)
    assert list(pool.scores.index) == list(before.scores.index)
    for side in ("arrays", "labelled_arrays", "source_summary"):
        assert getattr(pool, side).keys() == getattr(before, side).keys()
        assert all(np.array_equal(getattr(pool, side)[k], v) for k, v in getattr(before, side).items())


@every_strategy
def test_a_missing_score_or_array_is_one_clear_error(name, options):
    strategy = get_strategy(name, **options)
    if not strategy.needs:
        pytest.skip("needs nothing")
    bare = dataclasses.replace(make_pool(), arrays={}, source_summary=None, labelled_arrays={})
    bare = dataclasses.replace(bare, scores=bare.scores[[]])
    with pytest.raises(ActiveError, match=r"needs the (score column|array|source summary)") as caught:
        strategy.query(bare, 2, np.random.default_rng(0))
    assert "\n" not in str(caught.value)


@every_strategy
def test_only_what_is_declared_is_read(name, options):
    strategy = get_strategy(name, **options)
    words = strategy.needs | strategy.uses
    pool = make_pool()
    columns = set(pool.scores.columns) - {"density", "mutual_information"}
    columns |= {"density"} & words
    if "ensemble" in words:
        columns |= {"mutual_information"}
    arrays = {k: v for k, v in pool.arrays.items() if k in words or (k == "class_volume" and "predictions" in words)}
    lean = dataclasses.replace(
        pool,
        scores=pool.scores[sorted(columns)] if "predictions" in words else pool.scores[sorted({"density"} & words)],
        arrays=arrays,
        source_summary=pool.source_summary if "source_summary" in words else None,
    )
    expected = strategy.query(pool, 4, np.random.default_rng(0)).picks
    assert strategy.query(lean, 4, np.random.default_rng(0)).picks == expected


@every_strategy
def test_an_empty_pool_is_a_friendly_end(name, options):
    pool = make_pool()
    empty = dataclasses.replace(pool, scores=pool.scores.iloc[:0], arrays={k: v[:0] for k, v in pool.arrays.items()})
    with pytest.raises(EmptyPool):
        get_strategy(name, **options).query(empty, 2, np.random.default_rng(0))


@every_strategy
def test_zero_cases_cannot_be_asked_for(name, options):
    with pytest.raises(ActiveError, match="at least one"):
        get_strategy(name, **options).query(make_pool(), 0, np.random.default_rng(0))


@every_strategy
def test_an_embedding_with_nan_names_the_case(name, options):
    pool = make_pool()
    embedding = pool.arrays["embedding"].copy()
    embedding[4, 2] = np.nan
    broken = dataclasses.replace(pool, arrays={**pool.arrays, "embedding": embedding})
    with pytest.raises(ActiveError, match=pool.scores.index[4]):
        get_strategy(name, **options).query(broken, 2, np.random.default_rng(0))


@every_strategy
def test_what_the_listing_shows_is_declared(name, options):
    strategy = get_strategy(name, **options)
    assert strategy.needs <= NEEDS and strategy.uses <= NEEDS
    assert not strategy.needs & strategy.uses
    assert strategy.paper and strategy.cost.strip()
    doc = type(strategy).__doc__
    assert "Cost:" in doc and ("Paper:" in doc or "arXiv" in doc), "paper and cost belong to the docstring"


def test_a_pool_has_no_field_that_could_hold_a_label():
    fields = {field.name for field in dataclasses.fields(ScoredPool)}
    assert fields == {
        "scores",
        "arrays",
        "labelled_cases",
        "labelled_arrays",
        "source_summary",
        "round_index",
        "rounds",
        "head_trained",
        "source_head_trained",
        "answered",
        "patients",
        "begun",
        "first_class",
    }


def test_a_poisoned_label_column_changes_no_pick():
    for name, options in EVERY:
        pool = make_pool()
        poisoned = dataclasses.replace(
            pool,
            scores=pool.scores.assign(label=np.arange(len(pool)), dice=1.0),
            arrays={**pool.arrays, "label": np.ones((len(pool), 4))},
        )
        strategy = get_strategy(name, **options)
        expected = strategy.query(pool, 4, np.random.default_rng(0)).picks
        assert strategy.query(poisoned, 4, np.random.default_rng(0)).picks == expected, name
