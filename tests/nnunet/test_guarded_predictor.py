from __future__ import annotations

from collections import deque

import pytest
import torch
from tiny_source import dataset_json, plans, random_network

from nnunet_active.nnunet.guarded_predictor import GuardedPredictor, Verdict
from nnunet_active.nnunet.networks import plans_manager

REGIONS = {"labels": {"background": 0, "whole": [1, 2], "core": [2]}, "regions_class_order": [1, 2]}


def with_bias(weights: dict, *bias: float) -> dict:
    """Heads that see nothing: the same logits everywhere."""
    heads = [name for name in weights if "seg_layers" in name]
    new = {name: torch.tensor(bias) if name.endswith("bias") else torch.zeros_like(weights[name]) for name in heads}
    return {**weights, **new}


def predictor_of(description: dict, adapted: tuple, mirroring: bool = True) -> tuple[GuardedPredictor, dict]:
    network = random_network(plans(), "3d_fullres", description)
    weights = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    predictor = GuardedPredictor(use_mirroring=mirroring, device=torch.device("cpu"), allow_tqdm=False)
    manager = plans_manager(plans())
    configured = manager.get_configuration("3d_fullres")
    parameters = [with_bias(weights, *adapted)]
    predictor.manual_initialization(network, manager, configured, parameters, description, "", (0, 1, 2))
    return predictor, weights


def predict(description: dict, source: tuple, adapted: tuple, nearer: tuple) -> tuple[torch.Tensor, Verdict]:
    predictor, weights = predictor_of(description, adapted)
    found = {}
    predictor.guard([with_bias(weights, *source)], [with_bias(weights, *nearer)], found.__setitem__)
    predictor._cases = deque(["a case"])
    logits = predictor.predict_logits_from_preprocessed_data(torch.randn((3, 16, 16, 16)))
    assert predictor.use_mirroring and len(predictor.list_of_parameters) == 1  # as it was
    return logits, found["a case"]


def test_a_lost_class_is_predicted_by_the_nearer_weights():
    logits, verdict = predict(dataset_json(), (0.0, 0.0, 5.0), (5.0, 0.0, 0.0), (1.0, 2.0, 3.0))
    assert verdict.collapsed.tolist() == [False, False, True]
    assert verdict.source_volume.tolist() == [0, 0, 16**3] and verdict.volume.tolist() == [16**3, 0, 0]
    assert verdict.source_confidence[2] > 0.9
    assert logits[:, 3, 3, 3].tolist() == pytest.approx([1, 2, 3], abs=0.01)


def test_what_the_source_was_not_sure_of_may_vanish():
    logits, verdict = predict(dataset_json(), (0.0, 0.0, 0.1), (5.0, 0.0, 0.0), (1.0, 2.0, 3.0))
    assert not verdict.collapsed.any() and logits[:, 3, 3, 3].tolist() == pytest.approx([5, 0, 0], abs=0.01)


def test_background_that_vanishes_is_no_loss():
    logits, verdict = predict(dataset_json(), (5.0, 0.0, 0.0), (0.0, 5.0, 0.0), (1.0, 2.0, 3.0))
    assert not verdict.collapsed.any() and logits[:, 3, 3, 3].tolist() == pytest.approx([0, 5, 0], abs=0.01)


def test_regions_are_guarded_one_by_one_the_first_included():
    description = dataset_json(**REGIONS)
    logits, verdict = predict(description, (5.0, -5.0), (-5.0, -5.0), (3.0, -3.0))
    assert verdict.collapsed.tolist() == [True, False]
    assert logits[:, 3, 3, 3].tolist() == pytest.approx([3, -3], abs=0.01)


def test_without_a_guard_it_is_the_stock_predictor_and_makes_one_pass(monkeypatch):
    predictor, _ = predictor_of(dataset_json(), (5.0, 0.0, 0.0), mirroring=False)
    passes = []
    original = predictor.predict_sliding_window_return_logits
    monkeypatch.setattr(
        predictor, "predict_sliding_window_return_logits", lambda image: passes.append(1) or original(image)
    )
    predictor.predict_logits_from_preprocessed_data(torch.randn((3, 16, 16, 16)))
    assert passes == [1]


def test_the_source_is_not_mirrored_and_a_third_pass_is_made_only_where_it_is_needed(monkeypatch):
    for adapted, expected in (((0.0, 0.0, 5.0), [True, False]), ((5.0, 0.0, 0.0), [True, False, True])):
        predictor, weights = predictor_of(dataset_json(), adapted)
        source = with_bias(weights, 0.0, 0.0, 5.0)
        predictor.guard([source], [source], lambda case, verdict: None)
        predictor._cases = deque(["a case"])
        mirrored = []
        original = predictor.predict_sliding_window_return_logits
        monkeypatch.setattr(
            predictor,
            "predict_sliding_window_return_logits",
            lambda image, seen=mirrored, by=predictor, work=original: seen.append(by.use_mirroring) or work(image),
        )
        predictor.predict_logits_from_preprocessed_data(torch.randn((3, 16, 16, 16)))
        assert mirrored == expected
