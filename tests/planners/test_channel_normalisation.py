from __future__ import annotations

import pytest
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from tiny_source import plans

from nnunet_active.models.name_mapping import map_channels
from nnunet_active.planners.channel_normalisation import map_normalisation
from nnunet_active.util.errors import IncompatibleSource

STATISTICS = plans()["foreground_intensity_properties_per_channel"]


def normalised(source, target, schemes, masks=None):
    """Schemes, masks, statistics and notes of the target's channels."""
    described = plans(channels=len(source))
    configuration = described["configurations"]["3d_fullres"]
    configuration["normalization_schemes"] = schemes
    configuration["use_mask_for_norm"] = masks or [False] * len(source)
    notes: list[str] = []
    statistics = map_normalisation(PlansManager(described), configuration, map_channels(source, target), notes)
    return configuration["normalization_schemes"], configuration["use_mask_for_norm"], statistics, notes


def test_schemes_masks_and_statistics_follow_the_channel_that_feeds_them():
    schemes, masks, statistics, notes = normalised(
        ["CT", "PET"], ["PET", "T1", "ct"], ["CTNormalization", "ZScoreNormalization"], [False, True]
    )
    assert schemes == ["ZScoreNormalization", "ZScoreNormalization", "CTNormalization"]
    assert masks == [True, True, False]
    assert statistics == {"0": STATISTICS["1"], "1": {}, "2": STATISTICS["0"]} and notes == []


def test_a_new_channel_is_normalised_by_its_name_but_a_new_ct_channel_without_statistics():
    schemes, _, statistics, notes = normalised(["T1"], ["T1", "CT", "noNorm"], ["ZScoreNormalization"])
    assert schemes == ["ZScoreNormalization", "ZScoreNormalization", "NoNormalization"]
    assert statistics == {"0": STATISTICS["0"], "1": {}, "2": {}}
    assert notes == ["There are no CT intensity statistics for the channel CT; it gets ZScoreNormalization."]


def test_channels_that_share_the_stem_are_normalised_alike():
    schemes, _, statistics, notes = normalised(["CT"], ["low dose", "high dose"], ["CTNormalization"])
    assert schemes == ["CTNormalization"] * 2 and notes == []
    assert statistics == {"0": STATISTICS["0"], "1": STATISTICS["0"]}


def test_sharing_a_stem_of_differing_channels_is_said():
    schemes, _, _, notes = normalised(["A", "B"], ["C"], ["NoNormalization", "ZScoreNormalization"])
    assert schemes == ["NoNormalization"] and "as the source's first channel, A" in notes[0]


def test_a_scheme_that_stock_nnunet_lacks_is_named():
    with pytest.raises(IncompatibleSource, match="normalises with TheirNormalization"):
        normalised(["T1"], ["T1"], ["TheirNormalization"])
