from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from tiny_window import REGIONS, Case, image

from nnunet_active.nnunet.ensemble_window import EnsembleWindow
from nnunet_active.nnunet.inference import SlidingWindow
from nnunet_active.scoring.divergence import Divergence
from nnunet_active.scoring.ensemble import Disagreement
from nnunet_active.scoring.statistics import score_logits


def folds(name: str = "3d_fullres", labels: dict | None = None) -> list[SlidingWindow]:
    return [Case(name, labels, seed=seed).window for seed in range(3)]


@pytest.mark.parametrize(("name", "labels"), [("3d_fullres", None), ("2d", None), ("3d_fullres", REGIONS)])
def test_an_ensemble_predicts_the_mean_of_its_members_probabilities(name, labels):
    members = folds(name, labels)
    window = EnsembleWindow(members)
    turn = torch.sigmoid if labels else (lambda logits: logits.softmax(0))
    expected = torch.stack([turn(member.logits(image()).float()) for member in members]).mean(0)
    found = window.logits(image())
    torch.testing.assert_close(turn(found.float()), expected, rtol=1e-5, atol=1e-6)
    classes = window.predicted_classes(image())
    assert np.array_equal(classes, (expected > 0.5).numpy() if labels else expected.argmax(0).numpy())
    assert window.regions is (labels is not None)
    scores = window.score(image(), 2.0)
    assert scores.scalars == pytest.approx(score_logits(found, 2.0, labels is not None).scalars, nan_ok=True)


@pytest.mark.parametrize("labels", [None, REGIONS])
def test_an_ensembles_disagreement_is_that_of_its_members_and_its_embedding_the_firsts(labels):
    members = folds(labels=labels)
    window = EnsembleWindow(members)
    both = Disagreement(labels is not None)
    both.add([member.logits(image()) for member in members])
    expected = both.mutual_information()
    assert window.mutual_information(image()) == pytest.approx(expected, rel=1e-6)
    scores = window.score(image(), 1.0, class_mean=True, entropy_bins=8, ensemble=True, source=members[1])
    assert scores.scalars["mutual_information"] == pytest.approx(expected, rel=1e-6)
    first = members[0].score(image(), 1.0)
    np.testing.assert_array_equal(scores.arrays["embedding"], first.arrays["embedding"])
    absent = scores.arrays["class_volume"] == 0
    assert (scores.arrays["class_mean"] == 0).all(1).tolist() == absent.tolist()
    gap = Divergence(labels is not None)
    gap.add(members[1].logits(image()), window.logits(image()))
    assert scores.scalars["kl_source"] == pytest.approx(gap.mean())


def test_an_ensemble_of_one_is_that_member():
    (member,) = folds()[:1]
    window = EnsembleWindow([member])
    assert window.digest == member.digest and window.network is member.network
    assert torch.equal(window.logits(image()), member.logits(image()))
    assert window.mutual_information(image()) == member.mutual_information(image()) > 0
    assert window.score(image(), 1.0, ensemble=True).scalars == member.score(image(), 1.0, ensemble=True).scalars


def test_the_digest_of_an_ensemble_knows_its_members_and_the_first():
    members = folds()
    digest = EnsembleWindow(members).digest
    assert digest == EnsembleWindow(folds()).digest
    assert digest not in {EnsembleWindow(members[:2]).digest, EnsembleWindow(members[::-1]).digest, members[0].digest}


def test_an_ensemble_of_nobody_or_of_different_heads_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        EnsembleWindow([])
    with pytest.raises(ValueError, match="different heads"):
        EnsembleWindow([Case().window, Case(labels=REGIONS).window])


def test_an_ensemble_that_goes_to_another_process_says_the_same_there():
    window = EnsembleWindow(folds())
    there = pickle.loads(pickle.dumps(window))
    assert there.digest == window.digest and torch.equal(there.logits(image()), window.logits(image()))
