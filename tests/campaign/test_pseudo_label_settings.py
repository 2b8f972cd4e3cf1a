from __future__ import annotations

import pytest

from nnunet_active.campaign.pseudo_label_settings import PseudoLabelSettings
from nnunet_active.util.errors import CampaignError


@pytest.mark.parametrize(
    "wrong",
    [{"confident_fraction": 1.5}, {"nearer_fraction": "abc"}, {"share": 1.0}, {"share": -0.1}, {"allow_empty": 3}],
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


def test_a_campaign_of_an_earlier_version_opens_unless_it_used_the_rule_that_is_gone():
    assert PseudoLabelSettings.of({"rule": "rank", "tau_c": 0.8, "share": 0.25}) == PseudoLabelSettings(share=0.25)
    with pytest.raises(CampaignError, match=r"'threshold' for pseudo-labels is no longer there.*campaign\.json"):
        PseudoLabelSettings.of({"rule": "threshold", "tau_c": 0.8})
