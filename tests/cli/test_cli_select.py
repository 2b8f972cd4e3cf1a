from __future__ import annotations

import json
import shlex
import shutil

import pytest
from tiny_rounds import plan_another
from tiny_target import NAME

from nnunet_active.campaign.campaign import Campaign
from nnunet_active.campaign.fine_tuning import default_recipe, recipe
from nnunet_active.cli.main import main


def select(*flags: str) -> int:
    return main(["select", "-d", "902", "-c", "3d_fullres", "-np", "1", "-device", "cpu", *flags])


def test_a_round_is_printed_as_a_ranked_table_with_the_next_command(target, capsys):
    assert select("-n", "2", "--strategy", "assft", "--explain") == 0
    out = capsys.readouterr().out
    waiting = Campaign.open(target.preprocessed, 0).waiting()
    table = next(line for line in out.splitlines() if "chosen" in line and "case" in line and "utility" in line)
    assert "knowledge_gap" in table and "open first" in table
    rows = out.split(table)[1].splitlines()[1:6]
    assert [row.split()[:2] for row in rows[:2]] == [["1", waiting[0]], ["2", waiting[1]]]
    assert f"{waiting[0]} was chosen (choice 1 of 2)" in out
    assert "The source network asks" in out and str(target.raw / "annotate" / "fold_0_round_001") in out
    assert out.rstrip().endswith("then: nnunet_active ingest -d 902")


def test_one_json_object_and_nothing_else_on_stdout(target, capsys):
    assert select("-n", "1", "--strategy", "entropy", "--json", "--explain") == 0
    content = json.loads(capsys.readouterr().out)
    assert (
        content["outcome"] == "asked" and content["requested"] == content["waiting"] and len(content["candidates"]) == 5
    )
    assert content["next"] == "nnunet_active ingest -d 902" and set(content["explanations"]) == set(
        content["requested"]
    )
    assert content["candidates"][0]["case"] == content["requested"][0]


def test_a_campaign_with_patients_asks_for_one_scan_of_each_until_all_had_their_turn(target, tmp_path, capsys):
    patient = {f"case_{i}": f"p{i // 2}" for i in range(6)}  # case_0 is labelled
    file = tmp_path / "patients.csv"
    file.write_text("".join(f"{case},{one}\n" for case, one in patient.items()))
    assert main(["preprocess", "-d", "902", "-c", "3d_fullres", "-np", "1"]) == 0
    assert main(["init", "-d", "902", "-c", "3d_fullres", "-f", "0", "--groups", str(file), "--budget", "5"]) == 0
    capsys.readouterr()
    assert select("-n", "2", "--strategy", "strata") == 0
    campaign = Campaign.open(target.preprocessed, 0)
    (made,) = campaign.rounds
    assert sorted(patient[case] for case in made.requested) == ["p1", "p2"]
    assert made.scores()["component_probability"][list(made.requested)].notna().all()
    assert "One scan of a patient can be chosen: 2 of 5 are candidates." in capsys.readouterr().out
    other = next(case for case in patient if patient[case] == "p1" and case not in made.scores().index)
    assert main(["explain", "-d", "902", other]) == 0
    assert "a round asks for one scan of a patient" in capsys.readouterr().out
    assert select("-n", "3", "--more") == 0
    campaign.refresh()
    assert sorted(patient[case] for case in campaign.rounds[1].requested) == ["p0", "p1", "p2"]


def test_a_time_budget_has_room_for_further_scans_of_a_patient_once_all_patients_had_their_turn(target, tmp_path):
    patient = {"case_1": "p", "case_2": "p", "case_3": "p", "case_4": "q", "case_5": "q"}
    file = tmp_path / "patients.csv"
    file.write_text("".join(f"{case},{one}\n" for case, one in patient.items()))
    assert select("--groups", str(file), "--strategy", "random", "--time-budget", "1000") == 0
    (made,) = Campaign.open(target.preprocessed, 0).rounds
    assert sorted(made.requested) == list(patient)
    assert [patient[case] for case in made.requested[:4]].count("p") == 2


def test_while_cases_wait_nothing_new_is_asked_for(target, capsys):
    select("-n", "1", "--strategy", "random")
    capsys.readouterr()
    assert select("-n", "1", "--strategy", "random") == 0
    assert "still wait for their labels" in capsys.readouterr().out
    assert len(Campaign.open(target.preprocessed, 0).rounds) == 1


def test_a_dry_run_says_that_nothing_was_asked_for(target, capsys):
    assert select("-n", "1", "--strategy", "random", "--recipe", "guarded", "--dry-run") == 0
    out = capsys.readouterr().out
    assert (
        "without --dry-run does it" in out
        and "\n\nFrom one or two whole scans, the recipe guarded does not go far" in out
    )


def test_an_empty_pool_is_a_friendly_end(target, capsys):
    for case in range(1, 6):
        assert select("-n", "5", "--strategy", "random") == 0
        target.label(f"case_{case}", case)
    assert main(["ingest", "-d", "902"]) == 0
    capsys.readouterr()
    assert select("-n", "1") == 0
    out = capsys.readouterr().out
    assert "No unlabelled case" in out and "Next: nnUNetv2_train 902 3d_fullres 0" in out


def test_in_training_prints_the_training_command(target, capsys):
    assert select("-n", "2", "--in-training", "--epochs", "100") == 0
    out = capsys.readouterr().out
    assert "Next: nnUNetv2_train 902 3d_fullres 0 -tr nnUNetTrainerActive -p" in out
    settings = Campaign.open(target.preprocessed, 0).settings
    assert (settings.budget, settings.query_size, settings.epochs) == (2, 1, 100)
    assert settings.fine_tuning == recipe(default_recipe())


def test_the_schedule_of_the_training_can_be_set_where_the_campaign_begins(target):
    flags = "-n 1 --strategy random --epochs 9 --iterations 3 --val-iterations 2 --lr 0.1 --folds 2 --recipe averaged:unlabelled=mix"
    assert select(*shlex.split(flags)) == 0
    settings = Campaign.open(target.preprocessed, 0).settings
    assert (settings.epochs, settings.iterations, settings.val_iterations, settings.initial_lr) == (9, 3, 2, 0.1)
    assert settings.folds == 2
    assert settings.fine_tuning == {**recipe("averaged"), "unlabelled": "mix"}


def test_a_set_aside_case_changes_the_exit_code(target, capsys):
    (target.raw / "imagesTr" / "case_2_0002.nii.gz").unlink()
    assert select("-n", "1", "--strategy", "random") == 1
    assert "Set aside: case_2" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("-n 0", "-n 0 makes no sense"),
        ("--time-budget -5", "--time-budget -5 makes no sense"),
        ("--minutes -1 0 0", "--minutes -1 makes no sense"),
        ("--minutes 5", "--minutes takes three numbers"),
        ("--minutes 2 1", "for whole cases it takes three"),
        ("--minutes 5 2 0.2 --unit slice --add-ignore-label", "for slices it takes two"),
        ("--strategy-option radius", "has no '='"),
        ("--recipe hot", "hot"),
        ("--recipe guarded:unlabelled=none", "unlabelled is 'none'"),
        ("--exclude nobody", "has no case nobody"),
        ("-m nowhere", "nowhere"),
        ("-f 3", "Nothing defines fold 3"),
        ("-p nnUNetPlans", "name the source model with -m"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_two(target, capsys, flags, said):
    assert select(*shlex.split(flags)) == 2
    err = [line for line in capsys.readouterr().err.splitlines() if line.startswith("nnunet_active")]
    assert len(err) == 1 and said in err[0]
    assert not list((target.preprocessed / "active").glob("fold_*"))


def test_without_a_configuration_and_without_a_campaign_it_is_asked_for(target, capsys):
    plan_another(target)
    assert main(["select", "-d", NAME, "-device", "cpu"]) == 2
    assert "hold 3d_fullres, 2d: name the configuration with -c" in capsys.readouterr().err


def test_without_a_configuration_the_only_one_is_taken_and_that_is_said(target, capsys):
    assert main(["select", "-d", NAME, "-n", "1", "--strategy", "random", "-device", "cpu", "--dry-run"]) == 0
    assert (
        "Configuration: 3d_fullres, the only one in use with the plans nnUNetActivePlans.\n" in capsys.readouterr().out
    )


def test_several_folds_of_a_model_are_averaged_and_the_fold_flag_names_one_campaign(target, capsys):
    import tiny_source

    tiny_source.write_trained(tiny_source.source_model(seed=3), target.model, fold="1")
    assert select("-n", "1", "--strategy", "entropy", "-m", str(target.model), "--model-folds", "0", "1", "--json") == 0
    assert "mean of the probabilities of folds 0, 1" in capsys.readouterr().err


def test_why_the_trainer_of_short_trainings_is_printed_is_said(target, capsys):
    assert select("-n", "1", "--in-training", "--epochs", "2", "--iterations", "5") == 0
    said = capsys.readouterr().out
    assert "nnU-Net's SGD learns little; nnUNetTrainerActiveAdamW takes AdamW" in said
    assert "-tr nnUNetTrainerActiveAdamW" in said.split("Next: ")[1]


def test_an_unreadable_case_that_must_be_included_is_refused_before_anything_is_written(target, capsys):
    shutil.rmtree(target.preprocessed)
    (target.raw / "imagesTr" / "case_2_0000.nii.gz").write_bytes(b"broken")
    assert select("-n", "1", "-m", str(target.model), "--must-include", "case_2") == 2
    assert "--must-include case_2 is not possible: Case case_2: the image " in capsys.readouterr().err
    assert not target.preprocessed.exists()


def test_without_plans_the_configuration_is_that_of_the_source_model(target, capsys):
    shutil.rmtree(target.preprocessed)
    assert (
        main(["select", "-d", "902", "-m", str(target.model), "-n", "1", "-np", "1", "-device", "cpu", "--dry-run"])
        == 0
    )
    assert "3d_fullres: source model" in capsys.readouterr().out
