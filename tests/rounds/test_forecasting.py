"""What becomes a forecast; the whole way through the command is in test_cli_forecast.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_rounds import copy_of, make_once, request, start, trained

from nnunet_active.forecast.expected_dice import estimate_dice
from nnunet_active.forecast.outlook import EARLY
from nnunet_active.rounds.forecast_record import write_forecast
from nnunet_active.rounds.forecasting import make_forecast
from nnunet_active.util.errors import EmptyPool
from nnunet_active.util.log import silent
from nnunet_active.workspace import Workspace

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_once(tmp_path_factory.mktemp("made"), labelled=4, unlabelled=4)


@pytest.fixture
def target(made, nnunet_folders):
    return copy_of(made, nnunet_folders)


def test_the_estimate_is_that_of_the_sources_quality_and_the_measured_dice(target):
    campaign = start()
    found = make_forecast(Workspace.of(campaign), CPU, log=silent)
    assert found.training is None and found.judged == ("case_0", "case_1", "case_2", "case_3")
    both = (found.cases["agreement"] * found.cases["confidence"]).sort_index() ** 1.25
    assert found.overall.uncalibrated == pytest.approx(
        both.mean(), abs=0.1
    )  # the mean of products is not that of means
    assert found.overall.labels == 4 and 0 <= found.overall.low <= found.overall.mean
    shift = (found.overall.mean - found.overall.uncalibrated) * 4 / 6
    assert found.cases["expected"].mean() == pytest.approx(found.overall.uncalibrated + shift, abs=1e-6)
    assert list(found.cases.index) == list(found.classes.index) and found.cases["expected"].is_monotonic_increasing
    assert set(found.by_class) == set(found.classes.columns)


def test_cases_that_wait_for_a_label_belong_to_the_pool_and_one_that_cannot_be_read_is_set_aside(target):
    campaign = start()
    request(campaign, "case_4", others=["case_5"])
    workspace = Workspace.of(campaign)
    (workspace.store.pool_folder / "case_6.b2nd").write_bytes(b"not an image")
    said: list[str] = []
    found = make_forecast(workspace, CPU, log=said.append)
    assert sorted(found.cases.index) == ["case_4", "case_5", "case_7"]
    assert list(found.problems) == ["case_6"] and "left out of the forecast" in said[-1]


def test_a_case_without_a_class_that_nearly_all_others_show_is_named_and_expected_to_fail_there(target, monkeypatch):
    workspace = Workspace.of(start())
    plain = make_forecast(workspace, CPU, log=silent)
    monkeypatch.setattr("nnunet_active.forecast.expected_dice.USUAL", 0.0)  # so that every class is a usual one
    found = make_forecast(workspace, CPU, log=silent)
    counted = plain.classes.isna()
    assert counted.any().any() == (found.cases["lost"] != "").any()
    for case, names in found.cases["lost"].items():
        for name in filter(None, names.split(", ")):
            assert found.classes.loc[case, name] == found.classes[name].min()


def test_an_adapted_network_ranks_and_the_source_network_calibrates(target):
    campaign = start()
    by_source = make_forecast(Workspace.of(campaign), CPU, log=silent)
    trained(target, labelled=["case_0"], seed=11)
    adapted = make_forecast(Workspace.of(campaign), CPU, log=silent)
    assert adapted.training is not None and adapted.digest != by_source.digest
    assert adapted.judged == ("case_1", "case_2", "case_3") and adapted.outlook.cases == 3
    assert adapted.overall.uncalibrated != by_source.overall.uncalibrated
    assert (
        adapted.passes == 7
    )  # three labelled cases that it has not seen are enough: the source network is not asked again
    assert adapted.moved is None  # nobody has written a forecast


def edited(checkpoint: Path, edit: Callable[[dict], None]) -> None:
    content = torch.load(checkpoint, weights_only=False)
    edit(content)
    torch.save(content, checkpoint)


def finds_nothing(content: dict) -> None:
    for name, values in content["network_weights"].items():
        if "seg_layers" in name and name.endswith("bias"):
            values[0] = 100


def test_a_network_that_finds_nothing_is_expected_to_fail_everywhere(target):
    campaign = start()
    edited(trained(target, labelled=["case_0"]), finds_nothing)
    found = make_forecast(Workspace.of(campaign), CPU, log=silent)
    assert found.judged == ("case_1", "case_2", "case_3")
    assert found.overall.labels == 3 and found.overall.calibrated and found.overall.mean == 0
    assert (found.cases["expected"] == 0).all() and (found.cases["confidence"] == 0).all()
    assert set(found.cases["lost"]) == {", ".join(found.by_class)}


def test_a_training_that_kept_the_source_network_says_nothing_of_the_next_labels(target):
    campaign = start()
    workspace = Workspace.of(campaign)
    with campaign.lock():
        write_forecast(campaign, {"sentences": []}, make_forecast(workspace, CPU, log=silent).digest)
    checkpoint = trained(target, labelled=["case_0"], seed=11)
    adapted = make_forecast(workspace, CPU, log=silent)
    assert not adapted.is_source and adapted.outlook.cases == 3 and adapted.moved is not None
    edited(checkpoint, lambda content: content["nnunet_active"].update(interpolation=0.0))
    found = make_forecast(workspace, CPU, log=silent)
    assert found.is_source and found.overall.labels == 3
    assert found.outlook.verdict == EARLY and found.outlook.cases == 0 and found.moved is None


def test_a_withheld_label_is_never_opened(nnunet_folders):
    from tiny_target import make_target

    make_target(nnunet_folders, 5, 0)
    campaign = start(oracle="retrospective", budget=3)
    request(campaign, "case_1", others=["case_2"])
    with campaign.lock():
        campaign.mark_labelled(["case_1"])
    store = Workspace.of(campaign).store
    known = {*campaign.labelled(), *campaign.held_out()}
    withheld = sorted(set(store.identifiers()) - known)
    assert "case_1" in known and len(withheld) >= 3
    for case in withheld:
        (store.folder / f"{case}_seg.b2nd").write_bytes(b"poison")
    found = make_forecast(Workspace.of(campaign), CPU, log=silent)
    assert set(found.judged) == known and sorted(found.cases.index) == withheld


def test_where_everything_is_labelled_there_is_nothing_to_forecast(nnunet_folders):
    from tiny_target import make_target

    make_target(nnunet_folders, 2, 0)
    with pytest.raises(EmptyPool, match="nothing to forecast"):
        make_forecast(Workspace("Dataset902_TinyTarget", "0", "3d_fullres"), CPU, log=silent)


def test_estimates_are_numbers_that_json_takes(target):
    found = make_forecast(Workspace.of(start()), CPU, log=silent)
    assert isinstance(found.overall.mean, float)
    assert isinstance(estimate_dice(np.array([0.5]), np.array([]), np.array([])).mean, float)
