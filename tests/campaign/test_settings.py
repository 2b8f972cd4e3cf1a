from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnunet_active.campaign.fine_tuning import STANDS_FOR_THE_POOL
from nnunet_active.campaign.settings import DEFAULT_STRATEGY, Settings
from nnunet_active.util.errors import CampaignError


def test_the_schedule_is_the_published_one_and_how_long_to_train_is_left_to_the_trainer():
    settings = Settings()
    assert (settings.budget, settings.query_size, settings.stride) == (3, 1, 40)
    assert (settings.epochs, settings.iterations, settings.val_iterations, settings.initial_lr) == (None,) * 4
    assert not settings.one_off
    assert [settings.epoch_of_query(number) for number in (1, 2, 3)] == [0, 40, 80]


def test_a_strategy_of_a_file_is_found_by_a_training_in_another_folder(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text("")
    monkeypatch.chdir(tmp_path)
    place = f"{tmp_path / 'mine.py'}:Mine"
    settings = Settings(strategy="mine.py:Mine", strategy_options={"members": {"mine.py:Mine": 1.0, "entropy": 2.0}})
    assert settings.strategy == place and settings.strategy_options == {"members": {place: 1.0, "entropy": 2.0}}
    assert Settings(strategy="other.py:Mine").strategy == "other.py:Mine", "what is not there is named as it was given"


def test_the_default_strategy_draws_from_the_pool_and_its_trainer_queries_with_any_strategy():
    settings = Settings()
    assert settings.strategy == DEFAULT_STRATEGY == "foreground_random" == STANDS_FOR_THE_POOL[0]
    assert settings.trainer == "nnUNetTrainerActive"
    assert Settings(strategy="mmacts").trainer == "nnUNetTrainerMmActS"
    assert Settings.from_json({"strategy": "mmacts"}).strategy == "mmacts", "a campaign goes on with what it has"


@given(
    budget=st.integers(1, 60),
    size=st.integers(1, 20),
    stride=st.integers(1, 30),
    one_off=st.booleans(),
)
def test_the_queries_spend_the_budget_exactly_and_end_before_the_training(budget, size, stride, one_off):
    settings = Settings(budget=budget, query_size=size, stride=stride, one_off=one_off, epochs=60 * 30 + 1)
    most = budget if one_off else size
    assert (settings.queries - 1) * most < budget <= settings.queries * most
    last = settings.epoch_of_query(settings.queries)
    changes = {"budget": budget, "query_size": size, "stride": stride, "one_off": one_off}
    assert Settings(**changes, epochs=last + 1) and Settings(**changes, epochs=None)
    if last:
        with pytest.raises(CampaignError, match=f"reach epoch {last}, but the training ends after {last} epochs"):
            Settings(**changes, epochs=last)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"budget": 0}, "--budget 0"),
        ({"query_size": -1}, "--query-size -1"),
        ({"stride": 0}, "--stride 0"),
        ({"epochs": 0}, "--epochs 0"),
        ({"iterations": 0}, "--iterations 0"),
        ({"val_iterations": 0}, "--val-iterations 0"),
        ({"initial_lr": 0.0}, "learning rate 0.0"),
        ({"initial_lr": float("nan")}, "learning rate nan"),
        ({"initial_lr": float("inf")}, "learning rate inf"),
        ({"oracle": "folders"}, "--oracle folders is unknown; choose one of retrospective, folder"),
        ({"modality": "one"}, "--modality one is unknown; choose one of zero, replicate"),
    ],
)
def test_settings_that_make_no_sense_are_refused_by_name(wrong, said):
    with pytest.raises(CampaignError, match=said):
        Settings(**wrong)


def test_a_trainer_whose_own_epochs_do_not_reach_the_last_query_is_refused():
    settings = Settings()
    settings.check_reach(81)
    with pytest.raises(CampaignError, match="reach epoch 80, but the training ends after 80 epochs"):
        settings.check_reach(80)


def test_json_gives_the_same_settings_back_and_later_additions_are_ignored():
    settings = Settings(strategy="assft", strategy_options={"lambda_": 0.5}, budget=4, epochs=None, seed=7)
    content = json.loads(json.dumps(settings.to_json()))
    assert Settings.from_json(content) == settings
    assert Settings.from_json({**content, "of_tomorrow": 1}) == settings
    assert Settings.from_json({}) == Settings()


def test_two_settings_share_no_options():
    assert Settings().strategy_options is not Settings().strategy_options
