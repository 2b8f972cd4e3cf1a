"""What can be asked of a window: classes, label maps, scores."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import tiny_source
import torch
from tiny_window import CPU, REGIONS, Case, image
from torch import nn

from nnunet_active.nnunet.ensemble_window import EnsembleWindow
from nnunet_active.nnunet.inference import SlidingWindow
from nnunet_active.scoring.divergence import Divergence
from nnunet_active.scoring.packed_prediction import unpack
from nnunet_active.scoring.statistics import score_logits


@pytest.mark.parametrize("name", ["3d_fullres", "2d"])
def test_predicted_classes_are_the_arg_max(name):
    case = Case(name)
    classes = case.window.predicted_classes(image())
    assert not case.window.regions and classes.shape == (16, 20, 18) and classes.dtype == np.int16
    assert np.array_equal(classes, case.window.logits(image()).float().argmax(0).numpy())
    assert len(np.unique(classes)) > 1


def test_predicted_regions_are_masks_that_may_overlap():
    case = Case(labels=REGIONS)
    regions = case.window.predicted_classes(image())
    assert case.window.regions and regions.shape == (2, 16, 20, 18) and regions.dtype == bool
    assert np.array_equal(regions, torch.sigmoid(case.window.logits(image()).float()).numpy() > 0.5)
    scores = case.window.score(image(), 1.0)
    assert scores.arrays["class_volume"].tolist() == regions.sum((1, 2, 3)).tolist()
    assert scores.scalars["foreground_voxels"] == regions.any(0).sum()


def test_the_label_map_is_the_arg_max_and_regions_are_painted_in_their_order():
    logits = torch.from_numpy(np.random.default_rng(0).normal(size=(3, 4, 5, 6)).astype(np.float32))
    found = Case().window.labels_of(logits)
    assert found.dtype == np.int16
    np.testing.assert_array_equal(found, logits.numpy().argmax(0))
    whole, core = (logits[:2] > 0).numpy()
    np.testing.assert_array_equal(
        Case(labels=REGIONS).window.labels_of(logits[:2]), np.where(core, 2, np.where(whole, 1, 0))
    )


@pytest.mark.parametrize(("name", "labels"), [("3d_fullres", None), ("2d", None), ("3d_fullres", REGIONS)])
def test_the_label_map_of_an_image_is_that_of_its_logits(name, labels):
    case = Case(name, labels)
    found = case.window.label_map(image())
    assert found.dtype == np.int16 and len(np.unique(found)) > 1
    np.testing.assert_array_equal(found, case.window.labels_of(case.window.logits(image())))


@pytest.mark.parametrize(("name", "labels"), [("3d_fullres", None), ("2d", None), ("3d_fullres", REGIONS)])
def test_the_scores_are_those_of_the_logits(name, labels):
    case = Case(name, labels)
    scores = case.window.score(image(), voxel_mm3=3.375)
    expected = score_logits(case.window.logits(image()), 3.375, regions=labels is not None)
    assert scores.scalars == pytest.approx(expected.scalars, nan_ok=True)
    assert scores.arrays["embedding"].shape == (8,)
    without = case.window.score(image(), 3.375, embedding=False)
    assert without.scalars == scores.scalars and set(without.arrays) == {"class_volume", "class_soft_dice"}


def test_the_embedding_is_the_mean_over_the_windows_patches():
    case, x = Case(), torch.from_numpy(image((16, 30, 18)))
    features = []
    handle = case.network.encoder.register_forward_hook(lambda module, inputs, output: features.append(output[-1]))
    found = case.window.score(x.numpy(), 1.0).arrays["embedding"]
    handle.remove()
    assert len(features) > 2
    np.testing.assert_allclose(found, torch.cat(features).mean((0, 2, 3, 4)).numpy(), rtol=1e-5)


def test_scoring_twice_gives_the_same_also_with_an_error_in_between():
    case = Case()
    first = case.window.score(image(), 1.0)
    with pytest.raises(RuntimeError):
        case.window.score(image(channels=5), 1.0)
    second = case.window.score(image(), 1.0)
    assert first.scalars == second.scalars
    np.testing.assert_array_equal(first.arrays["embedding"], second.arrays["embedding"])


def test_an_output_that_is_not_a_number_is_refused():
    x = image()
    x[0, 3, 3, 3] = np.nan
    with pytest.raises(ValueError, match="NaN or infinite"):
        Case().window.score(x, 1.0)


def test_a_label_map_stops_at_what_half_precision_cannot_hold_as_nnunet_does():
    case, other = Case(), Case(seed=1)
    with torch.no_grad():
        case.network.decoder.seg_layers[-1].bias[1] = 1e6
    with pytest.raises(RuntimeError, match="Encountered inf"):
        case.window.logits(image())
    for window in (case.window, EnsembleWindow([other.window, case.window])):
        for ask in (window.predicted_classes, window.label_map):
            with pytest.raises(ValueError, match="NaN or infinite"):
                ask(image())


def test_a_network_without_encoder_or_decoder_is_scored_without_an_embedding():
    description, plans = tiny_source.dataset_json(), tiny_source.plans()
    window = SlidingWindow(nn.Conv3d(3, 3, 1), plans, "3d_fullres", description, CPU)
    assert window.score(image(), 1.0, embedding=False).scalars["voxels"] == 16 * 20 * 18
    with pytest.raises(ValueError, match=r"Conv3d has no \.encoder"):
        window.score(image(), 1.0)


def test_nothing_is_printed(capsys):
    Case().window.score(image(), 1.0)
    assert capsys.readouterr() == ("", "")


# ---- what else a pass can bring ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "labels"), [("3d_fullres", None), ("2d", None), ("3d_fullres", REGIONS)])
def test_everything_at_once_is_what_each_is_alone(name, labels):
    case, other = Case(name, labels), Case(name, labels, seed=1)
    plain = case.window.score(image(), 1.0)
    scores = case.window.score(image(), 1.0, class_mean=True, entropy_bins=8, ensemble=True, source=other.window)
    assert {key: scores.scalars[key] for key in plain.scalars} == plain.scalars
    np.testing.assert_array_equal(scores.arrays["embedding"], plain.arrays["embedding"])
    heads = len(plain.arrays["class_volume"])
    assert scores.arrays["class_mean"].shape == (heads, 8) and scores.arrays["entropy_histogram"].shape == (8,)
    absent = plain.arrays["class_volume"] == 0
    assert not scores.arrays["class_mean"][absent].any() and scores.arrays["class_mean"][~absent].any()
    assert scores.scalars["mutual_information"] == case.window.mutual_information(image()) > 0
    gap = Divergence(labels is not None)
    gap.add(other.window.logits(image()), case.window.logits(image()))
    assert scores.scalars["kl_source"] == pytest.approx(gap.mean(), rel=1e-6) and gap.mean() > 0
    assert case.window.score(image(), 1.0, source=case.window).scalars["kl_source"] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(("name", "labels"), [("3d_fullres", None), ("2d", None), ("3d_fullres", REGIONS)])
def test_members_that_are_passed_side_by_side_agree_as_their_whole_label_maps_do(name, labels):
    case = Case(name, labels)
    scores = case.window.score(image(), 1.0, ensemble=True)
    predicted = case.window.predicted_classes(image())
    assert np.array_equal(unpack(scores.slices["prediction"]), predicted)
    maps = [predicted, *(mirrored(case.window, axis) for axis in case.window.mirror_axes)]
    heads = len(scores.arrays["class_volume"])
    masks = [m if m.dtype == bool else np.stack([m == c for c in range(heads)]) for m in maps]
    for head in range(0 if labels else 1, heads):
        pairs = [(a[head], b[head]) for a, b in itertools.combinations(masks, 2)]
        found = [2 * (a & b).sum() / (a.sum() + b.sum()) if (a | b).any() else 1 for a, b in pairs]
        assert scores.arrays["class_agreement"][head] == pytest.approx(np.mean(found))
    assert labels or scores.arrays["class_agreement"][0] == 1


def mirrored(window: SlidingWindow, axis: int) -> np.ndarray:
    """Predicted classes of the pass that is mirrored along one axis."""
    whole = None
    with window._predicting():
        for slab in window.stream(window.prepare(image(), 1), (axis,)):
            part = window._classes(slab.logits)
            whole = np.empty((*part.shape[:-3], *image().shape[1:]), part.dtype) if whole is None else whole
            n, rows = part.shape[-3:-1]
            whole[..., slab.first : slab.first + n, slab.row : slab.row + rows, :] = part
    return whole


def test_a_network_that_must_not_be_mirrored_agrees_with_itself():
    case = Case()
    case.window.mirror_axes = ()
    assert case.window.score(image(), 1.0, ensemble=True).arrays["class_agreement"].tolist() == [1, 1, 1]


def test_a_network_that_only_nnunet_would_compile_is_still_recorded(monkeypatch):
    monkeypatch.setenv("nnUNet_compile", "t")
    case = Case()
    assert case.window.score(image(), 1.0).arrays["embedding"].shape == (8,)
