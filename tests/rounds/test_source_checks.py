from __future__ import annotations

import pytest
import tiny_source
from tiny_rounds import CONFIGURATION, start
from tiny_target import NAME, PLANS

from nnunet_active.cli.main import main
from nnunet_active.models.source_model import read_source_model, source_folder
from nnunet_active.nnunet.safe_checkpoint import weights_digest
from nnunet_active.rounds.source_checks import check_asking_model, check_new_source, prepared_differently
from nnunet_active.util.errors import CampaignError
from nnunet_active.workspace import Workspace


def write(target, name: str, fold: str = "0", **changes):
    """Another trained model; returns where it is."""
    source = tiny_source.source_model(seed=9)
    source.plans.update(changes)
    return tiny_source.write_trained(source, target.root / name, fold=fold)


def kept(target) -> str:
    return weights_digest(read_source_model(source_folder(target.preprocessed, PLANS, CONFIGURATION)).weights)


def test_another_model_than_the_one_that_would_be_trained_is_refused_at_the_start(target):
    other = write(target, "other", dataset_name="Dataset007_Elsewhere")
    workspace = Workspace(NAME, configuration=CONFIGURATION)
    with pytest.raises(CampaignError, match=r"Leave -m out, .* made from another model"):
        check_asking_model(workspace, workspace.model(other))
    assert check_asking_model(workspace, workspace.model(target.model)) == []


def test_another_fold_of_the_same_model_may_ask_and_it_is_said_which_one_is_trained(target):
    tiny_source.write_trained(tiny_source.source_model(seed=7), target.model, fold="1")
    workspace = Workspace(NAME, configuration=CONFIGURATION)
    (sentence,) = check_asking_model(workspace, workspace.model(target.model, "1"))
    assert sentence.startswith("Fold 1 of the model asks; a training starts from its fold 0")


def test_in_a_later_round_any_model_may_ask_and_it_is_said_that_it_is_not_trained(target):
    start()
    workspace = Workspace(NAME)
    (sentence,) = check_asking_model(workspace, workspace.model(write(target, "other")))
    assert "asks; a training starts from the source network" in sentence


def test_a_source_whose_images_were_prepared_otherwise_is_told_with_every_difference(target, capsys):
    workspace = Workspace(NAME, configuration=CONFIGURATION)
    assert prepared_differently(workspace, workspace.model(target.model)) == []
    source = tiny_source.source_model(seed=9)
    source.plans.update(image_reader_writer="NibabelIOWithReorient", transpose_forward=[2, 0, 1])
    there = source.plans["configurations"][CONFIGURATION]
    there["spacing"], there["normalization_schemes"][1] = [0.4, 0.4, 0.4], "RescaleTo01Normalization"
    other = tiny_source.write_trained(source, target.root / "other")
    (said,) = prepared_differently(workspace, workspace.model(other))
    here = workspace.plans["configurations"][CONFIGURATION]
    spacing = " x ".join(f"{one:.3g}" for one in here["spacing"])
    assert f"spacing 0.4 x 0.4 x 0.4 there, {spacing} here" in said and "transpose_forward 2 x 0 x 1 there" in said
    assert "image_reader_writer NibabelIOWithReorient there, SimpleITKIO here" in said
    assert "normalisation of FLAIR RescaleTo01Normalization there, ZScoreNormalization here" in said
    assert "normalisation of T1 " not in said and "nnunet_active plan -d 902" in said and said.count("-plans_name") == 1
    assert main(["init", "-d", "902", "-c", CONFIGURATION, "-m", str(other), "--strategy", "random"]) == 0
    assert said in capsys.readouterr().out.splitlines()


def test_another_range_of_ct_is_another_preparation(target):
    source = tiny_source.source_model(seed=9)
    workspace = Workspace(NAME, configuration=CONFIGURATION)
    for plans, mean in ((source.plans, 40.0), (workspace.plans, -300.0)):
        plans["configurations"][CONFIGURATION]["normalization_schemes"] = ["CTNormalization"] * 3
        facts = {"mean": mean, "std": 10.0, "percentile_00_5": 0.0, "percentile_99_5": 99.0}
        plans["foreground_intensity_properties_per_channel"] = dict.fromkeys("012", facts)
    (said,) = prepared_differently(workspace, source)
    assert "T1 CTNormalization (0 to 99, 40 ± 10) there, CTNormalization (0 to 99, -300 ± 10) here" in said


def test_a_source_that_other_folds_start_from_is_not_replaced(target, capsys):
    other, before = write(target, "other"), kept(target)
    start(fold="all")
    workspace = Workspace(NAME, configuration=CONFIGURATION)
    with pytest.raises(CampaignError, match="the campaigns of fold all start from"):
        check_new_source(workspace, workspace.model(other))
    call = ["init", "-d", "902", "-c", CONFIGURATION, "-m", str(other), "--strategy", "random"]
    assert main(call) == 2 and kept(target) == before
    assert not (target.preprocessed / "active" / "fold_0").exists()
    assert main([*call, "-f", "all", "--restart"]) == 0 and kept(target) != before
    assert any(
        line.endswith("that was kept for the plans nnUNetActivePlans.") for line in capsys.readouterr().out.splitlines()
    )
