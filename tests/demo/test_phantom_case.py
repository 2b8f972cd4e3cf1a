from __future__ import annotations

import numpy as np
import pytest

from nnunet_active.demo import phantom_case as p


def _cases(group: str, pattern: str, n: int = 4) -> list[p.PhantomCase]:
    return [p.make_case(group, pattern, np.random.default_rng([i, 7])) for i in range(n)]


@pytest.mark.parametrize("group", ["source", *p.TARGET_GROUPS])
@pytest.mark.parametrize("channel", p.CHANNELS)
def test_the_channel_of_the_pattern_shows_the_lesion_clearest_for_every_scanner(group, channel):
    ratios = []
    for case in _cases(group, channel, 6):
        assert case.truth["dominant_channel"] == channel
        others = [case.truth[f"contrast_{other}"] for other in p.CHANNELS if other != channel]
        ratios.append(case.truth[f"contrast_{channel}"] / max(others))
    assert np.median(ratios) > 1.5


def test_in_the_source_flair_shows_the_oedema_bright_and_t1_the_core_with_a_bright_rim():
    for case in _cases("source", "all"):
        oedema, core = case.label == p.LABELS["oedema"], case.label == p.LABELS["core"]
        t1, flair, _ = case.image
        brain = np.percentile(flair[flair > np.percentile(flair, 60)], 50)
        assert flair[oedema].mean() > 1.3 * brain
        assert flair[oedema].mean() > flair[core].mean()
        assert np.percentile(t1[core], 95) > 1.4 * t1[oedema].mean()


def test_every_case_has_both_classes_and_a_volume_in_cubic_millimetres():
    for group in ("source", *p.TARGET_GROUPS):
        for case in _cases(group, "all", 8):
            assert case.image.shape == (3, *p.SHAPE)
            assert case.image.dtype == np.float32
            assert case.truth["oedema_voxels"] == (case.label == 1).sum() > 0
            assert case.truth["core_voxels"] == (case.label == 2).sum() > 0
            assert case.truth["lesion_mm3"] == pytest.approx((case.label > 0).sum() * 6 * 4 * 4)


def test_the_target_scanners_differ_from_the_source_as_described():
    # the same random numbers, so that heads are alike and only the scanner differs
    source, near, inverted, bright = (
        _cases(g, "all", 1)[0].image for g in ("source", "near", "inverted", "bright_fluid")
    )
    corner = np.s_[:, :, :4, :4]  # air: nothing but noise

    def relative_noise(image):
        return image[corner].std() / image.mean()

    assert relative_noise(near) > relative_noise(source)

    def fluid_against_brain(image, channel):
        middle = image[channel, 4:8, 18:30, 18:30]  # ventricles lie here, in white matter
        return np.percentile(middle, 5) / np.median(middle), np.percentile(middle, 95) / np.median(middle)

    assert fluid_against_brain(source, 0)[0] < 0.5 < fluid_against_brain(inverted, 0)[0]
    assert fluid_against_brain(source, 1)[0] < 0.5 < fluid_against_brain(bright, 1)[0]


def test_lesion_contrast_of_a_known_image_is_the_difference_over_the_spread():
    rng = np.random.default_rng(0)
    background = rng.normal(100, 10, (3, 12, 24, 24))
    parts = np.zeros((12, 24, 24), dtype=int)
    parts[4:8, 10:14, 10:14] = 1
    parts[5:7, 11:13, 11:13] = 2
    background[0][parts == 1] += 50
    background[0][parts == 2] -= 50  # would cancel out in one mean over the lesion
    background[1][parts > 0] += 20
    contrast = p.lesion_contrast(background, parts, np.ones(parts.shape, dtype=bool))
    np.testing.assert_allclose(contrast, [5, 2, 0], atol=0.4)


def test_lesion_contrast_ignores_gain_and_offset():
    case = _cases("near", "all", 1)[0]
    brain = np.ones(p.SHAPE, dtype=bool)
    np.testing.assert_allclose(
        p.lesion_contrast(3.5 * case.image + 40, case.label, brain),
        p.lesion_contrast(case.image, case.label, brain),
        rtol=1e-4,
    )
