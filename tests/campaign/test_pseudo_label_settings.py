from __future__ import annotations

import pytest

from nnunet_active.campaign.pseudo_label_settings import PseudoLabelSettings
from nnunet_active.util.errors import CampaignError


@pytest.mark.parametrize(
    "wrong", [{"rule": "best"}, {"confident_fraction": 1.5}, {"share": 1.0}, {"share": -0.1}, {"tau_d": 3}]
)
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(CampaignError, match=next(iter(wrong)).split("_")[0]):
        PseudoLabelSettings(**wrong)


def test_nothing_or_a_share_of_nothing_is_no_semi_supervised_training():
    assert PseudoLabelSettings.of(None) is None
    assert PseudoLabelSettings.of({"share": 0}) is None
    assert PseudoLabelSettings.of({}) == PseudoLabelSettings()
    assert PseudoLabelSettings.of({"share": 0.25}).share == 0.25


def test_an_unknown_setting_is_named():
    with pytest.raises(CampaignError, match="no setting tau of pseudo-labels"):
        PseudoLabelSettings.of({"tau": 1})
