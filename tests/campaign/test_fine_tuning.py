from __future__ import annotations

import json

import pytest

from nnunet_active.campaign.fine_tuning import DEFAULT_RECIPE, RECIPES, FineTuning, recipe
from nnunet_active.util.errors import CampaignError


def test_no_setting_is_on_by_itself_and_plain_has_none():
    plain = FineTuning.of(recipe("plain"))
    assert plain == FineTuning()
    assert (plain.lr_factor, plain.warmup_epochs, plain.anchor, plain.ema_epochs) == (1.0, 0, 0.0, 0.0)
    assert plain.interpolation == 1.0
    assert plain.lines() == []


def test_the_default_recipe_is_the_plain_training_with_interpolated_predictions():
    assert FineTuning.of(recipe(DEFAULT_RECIPE)) == FineTuning(interpolation=0.75)


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_valid_survives_json_and_is_a_copy(name):
    options = recipe(name)
    assert FineTuning.of(json.loads(json.dumps(options))) == FineTuning.of(RECIPES[name])
    options["anchor"] = 7.0
    assert RECIPES[name].get("anchor") != 7.0
    assert len(FineTuning.of(RECIPES[name]).lines()) == len(RECIPES[name])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"ancor": 1.0}, "no fine-tuning setting ancor; those there are: lr_factor"),
        ({"anchor": -1}, "anchor is -1"),
        ({"anchor": float("nan")}, "anchor is nan"),
        ({"lr_factor": 0}, "nothing would be learnt"),
        ({"warmup_epochs": 1.5}, "warmup_epochs is 1.5"),
        ({"ema_epochs": "four"}, "ema_epochs is 'four'"),
        ({"lr_factor": True}, "lr_factor is True"),
        ({"interpolation": 0}, "above 0"),
        ({"interpolation": 1.5}, "at most 1"),
        ({"compare": 1}, "compare is 1"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused_by_name(options, said):
    with pytest.raises(CampaignError, match=said):
        FineTuning.of(options)


def test_an_unknown_recipe_is_refused_with_the_known_ones():
    with pytest.raises(CampaignError, match="no fine-tuning recipe 'soft'; choose one of plain"):
        recipe("soft")


def test_the_average_reaches_back_over_the_epochs_asked_for():
    tuning = FineTuning(ema_epochs=4)
    assert tuning.ema_decay(250) == pytest.approx(0.999)
    # the sum of d^k over all steps is the length of the memory in steps
    assert 1 / (1 - tuning.ema_decay(250)) == pytest.approx(4 * 250)
    assert FineTuning(ema_epochs=0.5).ema_decay(1) == 0.0
