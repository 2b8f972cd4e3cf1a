from __future__ import annotations

import json

import pytest

from nnunet_active.campaign.fine_tuning import (
    RECIPES,
    REMOVED,
    REMOVED_RECIPES,
    FineTuning,
    default_recipe,
    recipe,
)
from nnunet_active.campaign.settings import UNITS
from nnunet_active.util.errors import CampaignError


def test_no_setting_is_on_by_itself_and_plain_has_none():
    plain = FineTuning.of(recipe("plain"))
    assert plain == FineTuning()
    assert (plain.ema_epochs, plain.interpolation) == (0.0, 1.0)
    assert plain.lines() == []


def test_the_default_recipe_is_the_plain_training_with_predictions_that_labels_let_leave_the_source():
    assert FineTuning.of(recipe(default_recipe("slice"))) == FineTuning(interpolation="guarded")


def test_where_whole_scans_are_asked_for_the_default_recipe_also_learns_from_unlabelled_ones():
    assert FineTuning.of(recipe(default_recipe())) == FineTuning(interpolation="guarded", unlabelled="mix")
    assert default_recipe() == default_recipe("case") == default_recipe(UNITS[0])


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_valid_survives_json_and_is_a_copy(name):
    options = recipe(name)
    assert FineTuning.of(json.loads(json.dumps(options))) == FineTuning.of(RECIPES[name])
    options["ema_epochs"] = 7.0
    assert RECIPES[name].get("ema_epochs") != 7.0
    assert len(FineTuning.of(RECIPES[name]).lines()) == len(RECIPES[name])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"ema": 1.0}, "no fine-tuning setting ema; those there are: ema_epochs"),
        ({"ema_epochs": -1}, "ema_epochs is -1"),
        ({"ema_epochs": float("nan")}, "ema_epochs is nan"),
        ({"ema_epochs": "four"}, "ema_epochs is 'four'"),
        ({"ema_epochs": True}, "ema_epochs is True"),
        ({"interpolation": 0}, "above 0"),
        ({"interpolation": 1.5}, "at most 1"),
        ({"compare": 1}, "compare is 1"),
        ({"unlabelled": "mixed"}, "unlabelled is 'mixed'; it can be mix"),
        ({"unlabelled": True}, "unlabelled is True"),
        ({"interpolation": "guarded", "cross_fit": 1}, "cross_fit is 1"),
        ({"interpolation": 0.5, "cross_fit": False}, "cross_fit goes with the recipe guarded alone"),
        ({"cross_fit": True}, "take --recipe guarded"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused_by_name(options, said):
    with pytest.raises(CampaignError, match=said):
        FineTuning.of(options)


def test_the_recipe_guarded_is_cross_fitted_unless_that_is_switched_off():
    assert FineTuning.of(recipe("guarded")).is_cross_fitted
    assert not FineTuning.of({**recipe("guarded"), "cross_fit": False}).is_cross_fitted
    assert not any(FineTuning.of(recipe(name)).is_cross_fitted for name in RECIPES if name != "guarded")


def test_a_campaign_of_an_earlier_version_with_the_neutral_values_of_what_is_gone_opens_unchanged():
    options = {**REMOVED, "ema_epochs": 4.0, "compare": True}
    assert FineTuning.of(options) == FineTuning(ema_epochs=4.0)
    assert options.keys() > REMOVED.keys()


@pytest.mark.parametrize(("name", "value"), [("lr_factor", 0.1), ("warmup_epochs", 2), ("anchor", 0.01)])
def test_a_setting_that_is_gone_is_named_with_what_to_do(name, value):
    with pytest.raises(CampaignError, match=rf"{name} \({value}\) is no longer there.*campaign\.json.*--restart"):
        FineTuning.of({name: value})


@pytest.mark.parametrize("name", REMOVED_RECIPES)
def test_a_recipe_that_is_gone_is_named_with_those_that_are_left(name):
    with pytest.raises(CampaignError, match=rf"'{name}' is no longer there.*plain, averaged, interpolated"):
        recipe(name)


def test_an_unknown_recipe_is_refused_with_the_known_ones():
    with pytest.raises(CampaignError, match="no fine-tuning recipe 'soft'; choose one of plain"):
        recipe("soft")


def test_the_average_reaches_back_over_the_epochs_asked_for():
    tuning = FineTuning(ema_epochs=4)
    assert tuning.ema_decay(250) == pytest.approx(0.999)
    # the sum of d^k over all steps is the length of the memory in steps
    assert 1 / (1 - tuning.ema_decay(250)) == pytest.approx(4 * 250)
    assert FineTuning(ema_epochs=0.5).ema_decay(1) == 0.0


@pytest.mark.parametrize("name", RECIPES)
def test_the_unlabelled_pool_goes_with_every_recipe_and_is_told_of(name):
    options = {**recipe(name), "unlabelled": "mix"}
    mixed = FineTuning.of(json.loads(json.dumps(options)))
    assert mixed.unlabelled and len(mixed.lines()) == len(RECIPES[name]) + 1
    assert not FineTuning.of(recipe(name)).unlabelled
