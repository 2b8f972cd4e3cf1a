from __future__ import annotations

import io

import numpy as np
import pytest
import tiny_source
import torch
from tiny_window import CPU, Case, image
from torch import nn

from nnunet_active.nnunet.inference import SlidingWindow


@pytest.mark.parametrize("shape", [(16, 16, 16), (20, 31, 18), (10, 12, 9), (5, 40, 16)])
@pytest.mark.parametrize("name", ["3d_fullres", "2d"])
@pytest.mark.parametrize("deep_supervision", [False, True])
def test_the_logits_are_those_of_nnunets_own_predictor(name, shape, deep_supervision):
    case = Case(name, deep_supervision=deep_supervision)
    logits = case.window.logits(image(shape))
    assert logits.shape == (3, *shape) and logits.dtype == torch.float16
    assert torch.equal(logits, case.by_nnunet(image(shape)))


def test_an_image_of_one_patch_gives_the_networks_own_output():
    """Away from the corners: there nnU-Net's Gaussian weights leave few bits of the half-precision logits."""
    case, centre = Case(), (slice(None), *[slice(3, -3)] * 3)
    with torch.no_grad():
        expected = case.network(torch.from_numpy(image((16, 16, 16)))[None])[0]
    found = case.window.logits(image((16, 16, 16))).float()
    np.testing.assert_allclose(found[centre], expected[centre], rtol=0.02, atol=0.02)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("deep_supervision", [True, False])
@pytest.mark.parametrize("bad", [False, True])
def test_training_mode_and_deep_supervision_are_as_before_also_after_an_error(training, deep_supervision, bad):
    case = Case(deep_supervision=deep_supervision)
    case.network.train(training)
    x = torch.randn(1, 3, 16, 16, 16)
    before = case.network(x)
    weights = {name: tensor.clone() for name, tensor in case.network.state_dict().items()}
    if bad:
        with pytest.raises(RuntimeError):
            case.window.logits(image(channels=5))
        with pytest.raises(RuntimeError):
            case.window.score(image(channels=5), 1.0, ensemble=True)
        with pytest.raises(AssertionError):
            case.window.logits(image()[0])
        with pytest.raises(ValueError, match="axes"):
            case.window.score(image()[0], 1.0)
    else:
        case.window.logits(image())
        case.window.score(image(), 1.0)
        case.window.predicted_classes(image())
    assert case.network.decoder.deep_supervision is deep_supervision
    assert all(module.training is training for module in case.network.modules())
    assert all(torch.equal(tensor, weights[name]) for name, tensor in case.network.state_dict().items())
    assert isinstance(before, list) is deep_supervision
    after = case.network(x)
    pairs = zip(before, after, strict=True) if deep_supervision else [(before, after)]
    assert all(torch.equal(one, other) for one, other in pairs)


def test_a_training_step_works_after_a_prediction():
    case = Case(deep_supervision=True)
    case.network.train()
    case.window.logits(image())
    case.network(torch.randn(1, 3, 16, 16, 16))[0].sum().backward()
    assert all(parameter.grad is not None for parameter in case.network.encoder.parameters())
    assert not any(parameter.is_inference() for parameter in case.network.parameters())


@pytest.mark.parametrize("wrap", [nn.DataParallel, torch.compile])
def test_wrapped_networks_predict_the_same(wrap):
    wrapped, plain = Case(wrap=wrap), Case()
    assert wrapped.window.network is wrapped.network
    assert torch.equal(wrapped.window.logits(image()), plain.window.logits(image()))


def test_changed_weights_count_at_the_next_prediction():
    case = Case()
    before = case.window.logits(image())
    with torch.no_grad():
        for parameter in case.network.parameters():
            parameter.mul_(0.5)
    assert not torch.equal(before, case.window.logits(image()))
    assert torch.equal(case.window.logits(image()), case.by_nnunet(image()))


def test_the_image_is_not_changed():
    x = image()
    before = x.copy()
    Case().window.score(x, 1.0)
    assert np.array_equal(x, before)


# ---- digest -----------------------------------------------------------------------------------------------------------------


def test_the_digest_follows_the_weights_and_what_else_decides_the_output():
    case, same, other = Case(), Case(), Case(seed=1)
    assert case.window.digest == same.window.digest != other.window.digest
    assert len(case.window.digest) == 32
    before = case.window.digest
    case.window.score(image(), 1.0)
    assert case.window.digest == before
    with torch.no_grad():
        case.network.decoder.seg_layers[-1].bias.data[0] += 1e-3  # also past autograd's own count of changes
    assert case.window.digest != before

    def digest(plans: dict, **how) -> str:
        return SlidingWindow(same.network, plans, "3d_fullres", same.description, CPU, **how).digest

    finer = tiny_source.plans()
    finer["configurations"]["3d_fullres"]["spacing"] = [1.0, 1.0, 1.0]
    larger_batch = tiny_source.plans()
    larger_batch["configurations"]["3d_fullres"]["batch_size"] = 9
    assert digest(finer) != before != digest(tiny_source.plans(), mirror_axes=(0,))
    assert digest(larger_batch) == before


@pytest.mark.parametrize("wrap", [nn.DataParallel, torch.compile])
def test_a_wrapped_network_has_the_digest_of_the_plain_one_also_with_deep_supervision(wrap):
    assert Case(wrap=wrap).window.digest == Case(deep_supervision=True).window.digest == Case().window.digest


@pytest.mark.parametrize("name", ["3d_fullres", "2d"])
def test_a_window_that_goes_to_another_process_says_the_same_there(name):
    window, content = Case(name, deep_supervision=True).window, io.BytesIO()
    torch.save(window, content)
    content.seek(0)
    there = torch.load(content, map_location="cpu", weights_only=False)
    assert there.digest == window.digest and there.mirror_axes == window.mirror_axes
    assert torch.equal(there.logits(image()), window.logits(image()))
