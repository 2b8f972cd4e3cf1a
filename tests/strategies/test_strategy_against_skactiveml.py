"""The same questions put to scikit-activeml, an independent implementation (extra ``oracles``)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategy_pools import from_embedding, indices

from nnunet_active.strategies import get_strategy

pytest.importorskip("skactiveml", reason="scikit-activeml is not installed")
from skactiveml.classifier import ParzenWindowClassifier
from skactiveml.pool import Badge, Clue, CoreSet, TypiClust
from skactiveml.utils import MISSING_LABEL


def query(name, pool, n, **options):
    return get_strategy(name, **options).query(pool, n, np.random.default_rng(0))


def with_labels(z, known):
    """Candidates first, then the labelled cases, as scikit-activeml wants them."""
    y = np.full(len(z) + len(known), MISSING_LABEL)
    y[len(z) :] = np.arange(len(known)) % 2
    return np.concatenate([z, known]), y


def groups(sizes, seed=0, spread=0.5):
    rng = np.random.default_rng(seed)
    return np.concatenate([[60.0 * i, 40.0 * i * i] + spread * rng.normal(size=(k, 2)) for i, k in enumerate(sizes)])


@given(st.integers(2, 40), st.integers(1, 5), st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_coreset_picks_the_same_and_measures_the_same(n, labelled, seed):
    rng = np.random.default_rng(seed)
    z, known = rng.normal(size=(n, 5)), rng.normal(size=(labelled, 5))
    ours = query("coreset", from_embedding(z, known), min(n, 8))
    theirs, utilities = CoreSet(random_state=0).query(
        *with_labels(z, known), batch_size=min(n, 8), return_utilities=True
    )
    assert indices(ours) == theirs.tolist()
    assert np.allclose(ours.utilities.to_numpy(), utilities[:, :n], atol=1e-6, equal_nan=True)


@pytest.mark.parametrize("seed", range(5))
def test_typiclust_picks_the_same_where_clusters_are_large(seed):
    sizes = [23, 18, 31, 14]
    z, known = groups(sizes, seed), groups(sizes, seed + 50)[[45]]  # one label, in the third group
    ours = query("typiclust", from_embedding(z, known), 3, neighbours=5)
    theirs = TypiClust(random_state=0, k=5).query(*with_labels(z, known), batch_size=3)
    assert indices(ours) == theirs.tolist()


@pytest.mark.parametrize("seed", range(5))
def test_clue_picks_the_same_cases(seed):
    z = groups([9, 14, 6, 11], seed, spread=4.0)
    rng = np.random.default_rng(seed)
    known = z[rng.choice(len(z), 6)] + rng.normal(size=(6, 2))
    x, y = with_labels(z, known)
    classifier = ParzenWindowClassifier(classes=[0, 1], metric_dict={"gamma": 1e-3}, class_prior=1.0).fit(x, y)
    p = classifier.predict_proba(z)
    entropy = -(p * np.log(p)).sum(axis=1)
    ours = query("clue", from_embedding(z, mean_entropy=entropy), 4)
    theirs = Clue(random_state=0, cluster_algo_dict={"n_init": 10, "random_state": 1}).query(
        x, y, classifier, fit_estimator=False, batch_size=4
    )
    assert set(indices(ours)) == set(theirs.tolist())


@pytest.mark.parametrize("seed", range(5))
def test_badge_draws_with_the_same_chances(seed):
    """All cases are predicted as one class: then the gradient's other block is its own block with the sign turned."""
    rng = np.random.default_rng(seed)
    z, known = rng.normal(size=(20, 2)), rng.normal(size=(5, 2))
    x, y = with_labels(z, known)
    y[len(z) :] = 1
    y[-1] = 0
    classifier = ParzenWindowClassifier(classes=[0, 1], metric_dict={"gamma": 1e-2}, class_prior=1.0).fit(x, y)
    p = classifier.predict_proba(z)
    assert (p.argmax(axis=1) == 1).all()
    ours = query("badge", from_embedding(z, mean_max_probability=p.max(axis=1)), 2)
    first, utilities = Badge(random_state=0).query(x, y, classifier, fit_clf=False, batch_size=2, return_utilities=True)
    assert ours.picks[0] == f"c{first[0]:03d}"
    chances = ours.utilities.to_numpy().copy()
    # scikit-activeml goes on counting the origin as a centre after the first step; the paper's code does not, nor do we.
    chances[1] = np.minimum(chances[0], chances[1])
    chances = chances / np.nansum(chances, axis=1, keepdims=True)
    assert np.allclose(chances, utilities[:, : len(z)], equal_nan=True)
