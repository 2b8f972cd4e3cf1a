from __future__ import annotations

import errno
import json
import os
import shutil

import pytest
import tiny_source
import tiny_target
from tiny_target import NAME

from nnunet_active.campaign.campaign import Campaign
from nnunet_active.campaign.fine_tuning import default_recipe, recipe
from nnunet_active.campaign.settings import DEFAULT_STRATEGY
from nnunet_active.cli.main import main

COMMON = ("-d", NAME, "-c", "3d_fullres")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """One target with labels for all cases, one with none for two of them; tests work on copies."""
    folders = {}
    with pytest.MonkeyPatch.context() as patch:
        for kind, labelled, unlabelled in (("all", 6, 0), ("some", 1, 2)):
            root = tmp_path_factory.mktemp(kind)
            for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
                (root / variable).mkdir()
                patch.setenv(variable, str(root / variable))
            tiny_target.make_target(root, labelled, unlabelled)
            folders[kind] = root
    return folders


@pytest.fixture
def target(made, nnunet_folders):
    def copy(kind: str):
        shutil.copytree(made[kind], nnunet_folders, dirs_exist_ok=True)
        return nnunet_folders / "nnUNet_preprocessed" / NAME

    return copy


def init(*flags: str) -> int:
    return main(["init", *COMMON, *flags])


def test_with_all_labels_there_the_campaign_is_retrospective_on_nnunets_own_folds(target, capsys):
    folder = target("all")
    assert init() == 0
    campaign = Campaign.open(folder, 0)
    assert campaign.settings.oracle == "retrospective" and campaign.settings.strategy == DEFAULT_STRATEGY
    assert campaign.split_origin == "nnU-Net's 5-fold cross-validation"
    assert campaign.initial == () and len(campaign.val) in (1, 2)
    assert len(campaign.pool(f"case_{i}" for i in range(6))) == 6 - len(campaign.val)
    out = capsys.readouterr().out
    assert "Next: nnUNetv2_train 902 3d_fullres 0 -tr nnUNetTrainerActive -p nnUNetActivePlans" in out


def test_a_strategy_of_a_paper_is_one_flag_away_and_brings_its_trainer(target, capsys):
    folder = target("all")
    assert init("--strategy", "mmacts") == 0
    assert Campaign.open(folder, 0).settings.strategy == "mmacts"
    out = capsys.readouterr().out
    assert "Next: nnUNetv2_train 902 3d_fullres 0 -tr nnUNetTrainerMmActS -p nnUNetActivePlans" in out


def test_for_a_short_schedule_the_trainer_with_adamw_is_proposed_and_the_reason_is_said(target, capsys):
    target("all")
    assert init("--epochs", "10", "--iterations", "20", "--stride", "2") == 0
    out = capsys.readouterr().out
    assert "In fewer than 1000 steps nnU-Net's SGD learns little" in out
    assert "Next: nnUNetv2_train 902 3d_fullres 0 -tr nnUNetTrainerActiveAdamW " in out


@pytest.mark.parametrize(
    ("recipe", "costs"), [((), True), (("--recipe", "guarded"), False)], ids=["default", "guarded"]
)
def test_what_training_on_unlabelled_cases_costs_is_said_before_it_begins(target, capsys, recipe, costs):
    target("all")
    assert init(*recipe) == 0
    assert ("takes three to four times as long; with --recipe guarded" in capsys.readouterr().out) == costs
    assert main(["next", "-d", "902"]) == 0
    assert ("takes three to four times as long; with --recipe guarded" in capsys.readouterr().out) == costs


def test_with_labels_missing_the_campaign_waits_for_files(target, capsys):
    folder = target("some")
    assert init("--strategy", "random", "-f", "all", "--budget", "2") == 0
    campaign = Campaign.open(folder, "all")
    assert campaign.settings.oracle == "folder" and campaign.initial == ("case_0",)
    assert campaign.pool(f"case_{i}" for i in range(3)) == ["case_1", "case_2"]
    out = capsys.readouterr().out
    assert "WARNING: no labelled case is held out" in out and "-tr nnUNetTrainerActive" in out


def test_the_flags_become_the_settings(target):
    folder = target("all")
    flags = "--strategy assft --strategy-option lambda_=0.5 --strategy-option gap=anchor --stride 3 --epochs 20"
    more = "--iterations 2 --val-iterations 1 --budget 4 --query-size 2 --lr 0.1 --modality replicate --wait --seed 5"
    tuning = (
        "--recipe averaged --fine-tuning interpolation=0.5 --pseudo-labels share=0.25 --pseudo-labels nearer_fraction=1"
    )
    assert init(*flags.split(), *more.split(), *tuning.split(), "--restart-from", "source", "--oracle", "folder") == 0
    assert Campaign.open(folder, 0).settings.to_json() == {
        "strategy": "assft",
        "strategy_options": {"lambda_": 0.5, "gap": "anchor"},
        "oracle": "folder",
        "budget": 4,
        "query_size": 2,
        "one_off": False,
        "stride": 3,
        "epochs": 20,
        "iterations": 2,
        "val_iterations": 1,
        "initial_lr": 0.1,
        "modality": "replicate",
        "wait": True,
        "fine_tuning": {"ema_epochs": 4.0, "interpolation": 0.5},
        "pseudo_labels": {"share": 0.25, "nearer_fraction": 1},
        "restart": "source",
        "folds": 1,
        "seed": 5,
    }


@pytest.mark.parametrize(
    ("flags", "kept"),
    [
        ([], recipe(default_recipe())),
        (["--unit", "slice", "--add-ignore-label"], recipe("guarded")),
        (["--recipe", "plain"], {}),
        (["--fine-tuning", "interpolation=1"], {"interpolation": 1, "unlabelled": "mix"}),
        (["--recipe", "guarded:unlabelled=mix"], {**recipe("guarded"), "unlabelled": "mix"}),
    ],
)
def test_the_default_recipe_is_kept_in_the_campaign_and_plain_switches_it_off(target, flags, kept):
    folder = target("all")
    assert init(*flags) == 0
    assert Campaign.open(folder, 0).settings.fine_tuning == kept


@pytest.mark.parametrize(
    ("percent", "count"),
    [(("50%", "25%"), (3, 2)), (("100%", "1%"), (6, 1)), (("34%", "100%"), (3, 6)), (("2", "50%"), (2, 3))],
)
def test_budgets_may_be_percent_of_the_cases_to_choose_from(target, percent, count):
    folder = target("all")  # fold all: six cases to choose from
    assert init("-f", "all", "--budget", percent[0], "--query-size", percent[1]) == 0
    settings = Campaign.open(folder, "all").settings
    assert (settings.budget, settings.query_size) == count


def test_a_percentage_is_not_too_much_for_a_schedule_before_the_cases_are_counted(target):
    folder = target("all")
    assert init("--budget", "20%", "--query-size", "20%", "--epochs", "40", "--stride", "40") == 0
    campaign = Campaign.open(folder, 0)
    assert campaign.settings.queries == 1 and campaign.settings.epochs == 40


@pytest.mark.parametrize("left", ["kept", "nothing"])
def test_where_the_source_cannot_be_kept_no_campaign_begins(target, nnunet_folders, monkeypatch, left):
    folder = target("all")

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if left == "nothing":
        shutil.rmtree(folder / "active")
    with monkeypatch.context() as patch:
        patch.setattr("nnunet_active.models.model_writing.save_source_model", full)
        assert init("-m", str(nnunet_folders / "model")) == 1
    assert not (folder / "active" / "fold_0" / "campaign.json").exists()
    assert init("-m", str(nnunet_folders / "model")) == 0


@pytest.mark.parametrize("budget", ["0%", "101%", "x%", "%", "-5%"])
def test_a_percentage_that_makes_no_sense_is_refused(target, budget):
    target("all")
    assert init(f"--budget={budget}") == 2


@pytest.mark.parametrize(("flag", "kept"), [("on", {}), ("off", {"share": 0})])
def test_pseudo_labels_are_switched_on_and_off_in_one_word(target, flag, kept):
    folder = target("all")
    assert init("--pseudo-labels", flag) == 0
    assert Campaign.open(folder, 0).settings.pseudo_labels == kept


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--fine-tuning", "ema=1"], "no fine-tuning setting ema"),
        (["--fine-tuning", "compare"], "--fine-tuning compare has no '='"),
        (["--recipe", "guarded:mix"], "The recipe guarded:mix: mix has no '='"),
        (["--recipe", "guarded:ema=1"], "no fine-tuning setting ema"),
        (["--fine-tuning", "anchor=30"], "anchor (30) is no longer there"),
        (["--pseudo-labels", "share=2"], "share of pseudo-labels is 2"),
        (["--pseudo-labels", "tau=2"], "no setting tau of pseudo-labels"),
        (["--pseudo-labels", "off", "--pseudo-labels", "share=0.5"], "off goes with no other setting"),
        (["--source-fold", "0"], "name the model with -m"),
    ],
)
def test_a_way_of_training_that_makes_no_sense_is_refused_before_anything_is_written(target, capsys, flags, said):
    folder = target("all")
    assert init(*flags) == 2
    assert said in capsys.readouterr().err
    assert not (folder / "active" / "fold_0").exists()


def test_a_second_start_is_refused_and_restart_keeps_the_first(target, capsys):
    folder = target("all")
    assert init("--seed", "1") == 0
    assert init("--seed", "2") == 2
    assert "--restart" in capsys.readouterr().err and Campaign.open(folder, 0).settings.seed == 1
    assert init("--seed", "2", "--restart") == 0
    assert Campaign.open(folder, 0).settings.seed == 2
    (kept,) = (folder / "active").glob("fold_0_until_*")
    assert json.loads((kept / "campaign.json").read_text())["settings"]["seed"] == 1


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--strategy", "magic"], "magic"),
        (["--strategy-option", "radius"], "--strategy-option radius has no '='"),
        (["--budget", "0"], "--budget 0 makes no sense"),
        (["--one-off", "--query-size", "1"], "--one-off asks for the whole budget at once; leave --query-size out"),
        (["--epochs", "50"], "raise --epochs"),
        (["--axis", "x"], "--axis says something of slices; leave it out, or add --unit slice"),
        (["-f", "first"], "-f first is neither a number nor 'all'"),
        (["-f", "9"], "Nothing defines fold 9"),
        (["-p", "nnUNetPlans"], "nnUNetPlans.json was not found"),
        (["-c", "3d_lowres"], "no configuration 3d_lowres"),
        (["-m", "nowhere"], "nowhere"),
    ],
)
def test_what_cannot_be_started_is_said_in_one_line_and_nothing_is_written(target, capsys, flags, said):
    folder = target("all")
    before = sorted(folder.rglob("*"))
    assert init(*flags) == 2
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1
    assert sorted(folder.rglob("*")) == before


def test_a_definition_of_the_folds_in_the_raw_folder_is_followed_in_all_folds(target, nnunet_folders):
    folder = target("all")
    raw = [
        {"train": ["case_0", "case_1", "case_2"], "val": ["case_3"]},
        {"train": ["case_3", "case_4"], "val": ["case_0"]},
    ]
    (nnunet_folders / "nnUNet_raw" / NAME / "splits_final.json").write_text(json.dumps(raw))
    assert init() == 0
    campaign = Campaign.open(folder, 0)
    assert campaign.val == ("case_3",) and campaign.pool(f"case_{i}" for i in range(6)) == raw[0]["train"]
    with campaign.lock():
        campaign.mark_labelled(["case_1"])
    assert json.loads((folder / "splits_final.json").read_text()) == [{"train": ["case_1"], "val": ["case_3"]}, raw[1]]
    assert init("-f", "1") == 0
    assert Campaign.open(folder, 1).val == ("case_0",)
    assert Campaign.open(folder, 1).pool(f"case_{i}" for i in range(6)) == raw[1]["train"]


def test_a_restart_after_labels_came_chooses_from_the_same_cases_again(target):
    folder = target("all")
    assert init() == 0
    campaign = Campaign.open(folder, 0)
    cases = [f"case_{i}" for i in range(6)]
    pool = campaign.pool(cases)
    with campaign.lock():
        campaign.mark_labelled(pool[:2])
    splits = json.loads((folder / "splits_final.json").read_text())
    splits[1]["train"] = splits[1]["train"][:-1]  # and the user edits another fold
    (folder / "splits_final.json").write_text(json.dumps(splits))
    assert init("--restart") == 0
    assert Campaign.open(folder, 0).pool(cases) == pool


def test_a_model_that_does_not_fit_is_refused_before_anything_is_written(nnunet_folders, capsys):
    import tiny_source
    from tiny_target import NAME, make_target

    target = make_target(nnunet_folders)
    other = tiny_source.source_model(residual=True)
    tiny_source.write_trained(other, nnunet_folders / "other")
    kept = sorted((target.preprocessed / "active").rglob("*"))
    assert main(["init", "-d", NAME, "-c", "3d_fullres", "-m", str(nnunet_folders / "other")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert sorted((target.preprocessed / "active").rglob("*")) == kept


def test_a_model_of_ones_own_is_kept_beside_the_plans(nnunet_folders, capsys):
    import tiny_source
    import torch
    from tiny_target import NAME, PLANS, make_target

    target = make_target(nnunet_folders)
    other = tiny_source.source_model(seed=9)
    tiny_source.write_trained(other, nnunet_folders / "other")
    assert main(["init", "-d", NAME, "-c", "3d_fullres", "-m", str(nnunet_folders / "other")]) == 0
    kept = target.preprocessed / "active" / "source" / f"{PLANS}__3d_fullres" / "fold_0" / "checkpoint_final.pth"
    weights = torch.load(kept, weights_only=False)["network_weights"]
    assert all(torch.equal(weights[key], value) for key, value in other.weights.items())
    assert "Channels matched by name" in capsys.readouterr().out


def labels_of(folder):
    return json.loads((folder / "dataset.json").read_text())["labels"]


def test_slices_are_asked_for_once_the_data_set_has_an_ignore_label(target, capsys):
    folder = target("all")
    raw = folder.parents[1] / "nnUNet_raw" / NAME
    slices = ("--unit", "slice", "--budget", "9", "--query-size", "3", "--per-case", "2", "--slices", "centre")
    assert init(*slices) == 2
    message = capsys.readouterr().err
    assert '"ignore": 3' in message and "--add-ignore-label" in message
    assert not (folder / "active" / "fold_0").exists() and "ignore" not in labels_of(raw)
    assert init(*slices, "--add-ignore-label") == 0
    assert "budget 9 slices, at most 2 of a case" in capsys.readouterr().out
    assert labels_of(raw)["ignore"] == labels_of(folder)["ignore"] == 3
    settings = Campaign.open(folder, 0).settings
    assert (settings.unit, settings.budget, settings.per_case, settings.slices) == ("slice", 9, 2, "centre")
    assert settings.axis == "auto"


def test_what_is_wrong_shows_before_the_data_set_is_changed(target, capsys):
    folder = target("all")
    for wrong in (("--strategy", "nosuch"), ("-f", "x"), ("--budget", "10%"), ("--budget", "90", "--epochs", "2")):
        assert init("--unit", "slice", "--add-ignore-label", *wrong) == 2, wrong
        assert "ignore" not in labels_of(folder)
    capsys.readouterr()
    assert init("--unit", "case", "--per-case", "2") == 2
    assert "--per-case says something of slices" in capsys.readouterr().err


def test_slices_without_an_ignore_label_are_refused_before_the_source_is_replaced(target, nnunet_folders, capsys):
    folder = target("some")
    model = tiny_source.write_trained(tiny_source.source_model(seed=9), nnunet_folders / "other")
    kept = {file: file.read_bytes() for file in (folder / "active" / "source").rglob("*") if file.is_file()}
    assert init("-m", str(model), "--unit", "slice", "--restart") == 2
    assert "Slices can be asked for only where" in capsys.readouterr().err
    assert kept and all(file.read_bytes() == content for file, content in kept.items())


def test_a_campaign_in_the_way_shows_before_the_data_set_is_changed(target, capsys):
    folder = target("some")
    assert init("-f", "all") == 0
    slices = ("-f", "all", "--unit", "slice", "--add-ignore-label", "--budget", "20")
    assert init(*slices) == 2 and "ignore" not in labels_of(folder)
    with Campaign.open(folder, "all").lock():
        capsys.readouterr()
        assert init(*slices, "--restart") == 2 and "ignore" not in labels_of(folder)
        assert "is in use by process" in capsys.readouterr().err
    assert init(*slices, "--restart") == 0 and labels_of(folder)["ignore"] == 3


def test_a_person_can_be_asked_for_slices_too(target, capsys):
    folder = target("some")
    assert init("--unit", "slice", "--add-ignore-label", "-f", "all", "--budget", "20", "--query-size", "10") == 0
    campaign = Campaign.open(folder, "all")
    assert campaign.asks_a_person and campaign.asks_for_slices and labels_of(folder)["ignore"] == 3
    assert "budget 20 slices" in capsys.readouterr().out
