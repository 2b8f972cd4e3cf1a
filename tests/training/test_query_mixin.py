from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from counted_opens import count_opens
from nnunetv2.run.run_training import get_trainer_from_args, maybe_load_checkpoint
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from tiny_campaign import edit
from tiny_target import NAME, PLANS, make_target
from tiny_training import campaign_of, fresh_target, run_with_kill, start, trainer_of

from nnunet_active.campaign.running import running_trainings
from nnunet_active.trainers.nnUNetTrainerActive import nnUNetTrainerActive
from nnunet_active.trainers.nnUNetTrainerMmActS import nnUNetTrainerMmActS


def test_the_stock_search_finds_the_importable_class_and_it_pickles():
    from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

    found = recursive_find_trainer_class_by_name("nnUNetTrainerMmActS")
    assert found is nnUNetTrainerMmActS
    assert pickle.loads(pickle.dumps(found)) is nnUNetTrainerMmActS
    assert recursive_find_trainer_class_by_name("nnUNetTrainerActive") is nnUNetTrainerActive


def test_the_published_settings_are_the_defaults_of_the_mmacts_trainer(nnunet_folders):
    target = make_target(nnunet_folders)
    trainer = trainer_of(target)
    assert (trainer.num_epochs, trainer.initial_lr, trainer.num_iterations_per_epoch) == (600, 0.01, 250)
    trainer.initialize()  # finds no campaign and begins one
    settings = trainer.session.campaign.settings
    assert (settings.strategy, settings.budget, settings.stride, settings.queries) == ("mmacts", 3, 40, 3)


def test_a_training_with_two_queries_opens_its_campaign_and_the_source_model_once(nnunet_folders, monkeypatch):
    target = make_target(nnunet_folders)
    start(target)
    opened = count_opens(monkeypatch)
    trainer = trainer_of(target)
    trainer.run_training()
    # the plans are nnU-Net's own, handed to the trainer
    (source,) = [name for name in opened if name.endswith(".pth")]
    assert dict(opened) == {"campaign 0": 1, source: 1}
    assert len(campaign_of(target).rounds) == 2


@pytest.mark.parametrize(
    ("name", "residual"), [("3d_fullres", False), ("2d", False), ("3d_lowres", False), ("3d_fullres", True)]
)
def test_training_queries_between_epochs_and_trains_on_what_is_labelled_by_then(nnunet_folders, name, residual):
    target = make_target(nnunet_folders, name=name, residual=residual)
    start(target)
    trainer = trainer_of(target)
    splits: list[list[str]] = []
    loaded: list[list[str]] = []
    original = trainer.on_train_epoch_start

    def look() -> None:
        splits.append(json.loads((target.preprocessed / "splits_final.json").read_text())[0]["train"])
        loaded.append(list(trainer.dataloader_train.data_loader.indices))
        original()

    trainer.on_train_epoch_start = look
    trainer.run_training()
    campaign = campaign_of(target)
    first, second = (one.requested[0] for one in campaign.rounds)
    assert [len(cases) for cases in splits] == [1, 2, 2]
    assert splits[0] == [first]
    assert splits[2] == sorted([first, second])
    assert loaded == splits
    assert not set(campaign.val) & {first, second}
    selection = campaign.rounds[1].selection()
    assert selection["dominant_modality"][second]["name"] in ("T1", "FLAIR", "T1ce")
    scores = campaign.rounds[0].scores()
    product = scores["mean_entropy"] * scores["foreground_voxels"] * scores["density"]
    np.testing.assert_allclose(scores["utility"], product, rtol=1e-9)


def test_before_the_first_epoch_the_network_is_the_source_network_head_included(nnunet_folders):
    target = make_target(nnunet_folders)
    start(target)
    trainer = trainer_of(target)
    trainer.initialize()
    source = torch.load(target.model / "fold_0" / "checkpoint_final.pth", weights_only=False)["network_weights"]
    for key, value in trainer.network.state_dict().items():
        torch.testing.assert_close(value, source[key], msg=key)


@pytest.mark.parametrize("epoch", [0, 1, 2])
def test_a_run_that_is_killed_and_continued_ends_like_one_that_was_not(tmp_path, monkeypatch, epoch):
    ends = []
    for name, kill in (("whole", None), ("killed", epoch)):
        target = fresh_target(tmp_path / name, monkeypatch)
        start(target)
        run_with_kill(target, kill)
        folder = target.results / NAME / f"nnUNetTrainerMmActS__{PLANS}__3d_fullres" / "fold_0"
        checkpoint = torch.load(folder / "checkpoint_final.pth", weights_only=False)
        splits = json.loads((target.preprocessed / "splits_final.json").read_text())
        ends.append((campaign_of(target).requested(), splits, checkpoint["network_weights"]))
    assert ends[0][:2] == ends[1][:2]
    for key, value in ends[0][2].items():
        torch.testing.assert_close(value, ends[1][2][key], rtol=0, atol=0, msg=key)


def test_a_run_started_again_without_c_asks_for_nothing_twice(nnunet_folders):
    target = make_target(nnunet_folders)
    start(target)
    trainer_of(target).run_training()
    requested = campaign_of(target).requested()
    trainer_of(target).run_training()
    assert campaign_of(target).requested() == requested


def test_without_init_the_trainer_starts_a_campaign_with_its_class_defaults(nnunet_folders):
    target = make_target(nnunet_folders)
    trainer = trainer_of(target, "nnUNetTrainerActive")
    trainer.initialize()
    assert campaign_of(target).settings.strategy == "random"
    assert campaign_of(target).settings.oracle == "retrospective"


def test_three_lines_make_a_stock_variant_active(nnunet_folders):
    from nnunetv2.training.nnUNetTrainer.variants.training_length.nnUNetTrainer_Xepochs import nnUNetTrainer_5epochs

    from nnunet_active.training.query_mixin import ActiveQueryMixin

    class nnUNetTrainerMine(ActiveQueryMixin, nnUNetTrainer_5epochs):
        strategy = "entropy"
        active_stride = 2

    target = make_target(nnunet_folders)
    plans = json.loads((target.preprocessed / f"{PLANS}.json").read_text())
    plans["continue_training"] = False
    dataset_json = json.loads((target.preprocessed / "dataset.json").read_text())
    trainer = nnUNetTrainerMine(plans, "3d_fullres", 0, dataset_json, torch.device("cpu"))
    assert trainer.num_epochs == 5
    trainer.num_iterations_per_epoch = trainer.num_val_iterations_per_epoch = 1
    trainer.run_training()
    assert [one.epoch for one in campaign_of(target).rounds] == [0, 2, 4]
    assert len(campaign_of(target).labelled()) == 3


def test_the_checkpoint_names_the_stock_trainer_and_the_stock_predictor_reads_it(nnunet_folders, monkeypatch):
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    target = make_target(nnunet_folders)
    start(target, epochs=2)
    trainer_of(target).run_training()
    monkeypatch.delenv("nnUNet_extTrainer")  # a colleague without this package
    predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
    folder = target.results / NAME / f"nnUNetTrainerMmActS__{PLANS}__3d_fullres"
    predictor.initialize_from_trained_model_folder(str(folder), (0,))
    assert predictor.trainer_name == "nnUNetTrainer"


def test_the_folder_oracle_writes_its_request_stops_and_goes_on_when_the_label_is_there(nnunet_folders, capsys):
    target = make_target(nnunet_folders, labelled=0, unlabelled=5)
    start(target)
    assert campaign_of(target).settings.oracle == "folder"
    with pytest.raises(SystemExit) as stop:
        trainer_of(target).run_training()
    assert stop.value.code == 0
    (first,) = campaign_of(target).waiting()
    shown = capsys.readouterr().out
    assert f"Please label: {first}" in shown
    assert f"-tr nnUNetTrainerMmActS -p {PLANS} -device cpu --c" in shown
    assert (campaign_of(target).rounds[0].folder / "worklist.csv").is_file()

    with pytest.raises(SystemExit):  # too early: asks for the same case again, and for no other
        trainer_of(target, resume=True).run_training()
    assert campaign_of(target).requested() == [first]

    label = target.label(first, int(first[-1]))
    content = label.read_bytes()
    with pytest.raises(SystemExit):  # trains an epoch, then asks for the second one
        trainer_of(target, resume=True).run_training()
    second = campaign_of(target).waiting()[0]
    assert second != first
    target.label(second, int(second[-1]))
    trainer_of(target, resume=True).run_training()
    assert campaign_of(target).labelled() == sorted([first, second])
    assert label.read_bytes() == content
    assert json.loads((target.preprocessed / "splits_final.json").read_text())[0]["train"] == sorted([first, second])


def test_a_label_that_is_refused_is_named_and_asked_for_again(nnunet_folders, capsys):
    target = make_target(nnunet_folders, labelled=0, unlabelled=3)
    start(target)
    with pytest.raises(SystemExit):
        trainer_of(target).run_training()
    (case,) = campaign_of(target).waiting()
    from tiny_dataset import write_image

    file = target.raw / "labelsTr" / f"{case}.nii.gz"
    write_image(file, np.full((16, 20, 18), 9, dtype=np.uint8), spacing=(1.5, 1.5, 1.5))
    with pytest.raises(SystemExit):
        trainer_of(target, resume=True).run_training()
    shown = capsys.readouterr().out
    assert case in shown
    assert "9" in shown
    assert file.is_file()
    assert campaign_of(target).waiting() == [case]


def test_an_existing_pipeline_gains_unlabelled_cases_and_keeps_its_own_folds(nnunet_folders):
    target = make_target(nnunet_folders, labelled=4, unlabelled=3)
    splits = [{"train": ["case_0", "case_1"], "val": ["case_2", "case_3"]}, {"train": ["case_2"], "val": ["case_0"]}]
    (target.preprocessed / "splits_final.json").write_text(json.dumps(splits))
    start(target, oracle="folder")
    campaign = campaign_of(target)
    assert campaign.initial == ("case_0", "case_1")
    assert campaign.val == ("case_2", "case_3")
    with pytest.raises(SystemExit):
        trainer_of(target).run_training()
    (case,) = campaign_of(target).waiting()
    target.label(case)
    with pytest.raises(SystemExit):
        trainer_of(target, resume=True).run_training()
    now = json.loads((target.preprocessed / "splits_final.json").read_text())
    assert now[0] == {"train": sorted(["case_0", "case_1", case]), "val": ["case_2", "case_3"]}
    assert now[1] == splits[1]
    assert json.loads((target.preprocessed / "active" / "splits_before_nnunet_active.json").read_text()) == splits


def test_region_based_labels_and_an_ignore_label_do_not_break_a_query(nnunet_folders):
    labels = {"background": 0, "whole": [1, 2], "core": [2], "ignore": 3}
    target = make_target(nnunet_folders, labels=labels, regions_class_order=[1, 2])
    start(target, epochs=2)
    trainer_of(target).run_training()
    scores = campaign_of(target).rounds[0].scores()
    assert {"voxels_whole", "voxels_core"} <= set(scores.columns)
    assert len(campaign_of(target).labelled()) == 2


def test_fold_all_trains_on_queried_cases_only(nnunet_folders):
    target = make_target(nnunet_folders)
    start(target, fold="all", epochs=2)
    trainer = trainer_of(target, fold="all")
    trainer.run_training()
    assert len(trainer.do_split()[0]) == 2
    assert not (target.preprocessed / "splits_final.json").exists()


def test_a_pool_smaller_than_the_budget_is_a_friendly_end(nnunet_folders, capsys):
    target = make_target(nnunet_folders, labelled=2)
    start(target, fold="all", budget=4, epochs=5)
    trainer_of(target, fold="all").run_training()
    assert len(campaign_of(target, "all").labelled()) == 2
    assert "No unlabelled case is left" in capsys.readouterr().out


def test_one_off_takes_the_whole_budget_in_the_first_query(nnunet_folders):
    target = make_target(nnunet_folders)
    start(target, one_off=True, epochs=1)
    trainer_of(target).run_training()
    (only,) = campaign_of(target).rounds
    assert len(only.requested) == 2


def test_pretrained_weights_are_noticed(nnunet_folders, capsys):
    import tiny_source
    from nnunetv2.run.load_pretrained_weights import load_pretrained_weights

    target = make_target(nnunet_folders)
    start(target)
    tiny_source.write_trained(tiny_source.source_model(seed=5), nnunet_folders / "other")
    trainer = trainer_of(target)
    trainer.initialize()
    load_pretrained_weights(trainer.network, str(nnunet_folders / "other" / "fold_0" / "checkpoint_final.pth"))
    trainer.on_train_start()
    trainer.session.end()
    assert "-pretrained_weights replaces all but the segmentation" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("mistake", "said"),
    [
        ("no source", "No source network was found"),
        ("no cases", "no preprocessed case was found"),
        ("other configuration", "is for nnUNetActivePlans 2d"),
        ("in use", "is in use by process"),
    ],
)
def test_a_mistake_ends_the_stock_command_with_one_sentence_and_code_2(nnunet_folders, capsys, mistake, said):
    import shutil

    target = make_target(nnunet_folders)
    if mistake == "no source":
        shutil.rmtree(target.preprocessed / "active" / "source")
    if mistake == "no cases":
        shutil.rmtree(target.store.folder)
    if mistake == "other configuration":
        edit(start(target), configuration="2d")
    if mistake == "in use":
        start(target)
        held = campaign_of(target).lock()
        held.__enter__()
    with pytest.raises(SystemExit) as stop:
        trainer_of(target).run_training()
    if mistake == "in use":
        held.__exit__(None, None, None)
    assert stop.value.code == 2
    assert said in capsys.readouterr().out


def test_disable_checkpointing_writes_none(nnunet_folders):
    target = make_target(nnunet_folders)
    start(target, epochs=2)
    trainer = trainer_of(target)
    trainer.disable_checkpointing = True
    trainer.run_training()
    assert not list(Path(trainer.output_folder).glob("*.pth"))


def test_the_mixin_leaves_the_constructor_as_nnunet_reads_it():
    import inspect

    ours = list(inspect.signature(nnUNetTrainerMmActS.__init__).parameters)
    assert ours == list(inspect.signature(nnUNetTrainer.__init__).parameters)


def test_stock_plans_and_the_users_own_stock_training_need_no_plan_and_no_init(nnunet_folders):
    import tiny_source

    target = make_target(nnunet_folders)
    plans = json.loads((target.preprocessed / f"{PLANS}.json").read_text())
    plans["plans_name"] = "nnUNetPlans"
    del plans["source_models"]
    (target.preprocessed / "nnUNetPlans.json").write_text(json.dumps(plans))
    own = tiny_source.source_model(seed=3)
    tiny_source.write_trained(own, target.results / NAME / "nnUNetTrainer__nnUNetPlans__3d_fullres")
    trainer = get_trainer_from_args(
        NAME, "3d_fullres", 0, "nnUNetTrainerMmActS", "nnUNetPlans", device=torch.device("cpu")
    )
    trainer.num_iterations_per_epoch = trainer.num_val_iterations_per_epoch = 1
    trainer.initialize()
    trainer.num_epochs = 1
    for key, value in trainer.network.state_dict().items():
        torch.testing.assert_close(value, own.weights[key], msg=key)
    trainer.run_training()
    assert len(campaign_of(target).requested()) == 1


def test_validation_alone_knows_the_folds_of_the_campaign(nnunet_folders):
    target = make_target(nnunet_folders)
    start(target, epochs=2)
    trained = trainer_of(target)
    trained.run_training()
    again = get_trainer_from_args(NAME, "3d_fullres", 0, "nnUNetTrainerMmActS", PLANS, device=torch.device("cpu"))
    maybe_load_checkpoint(again, False, True)
    assert again.do_split() == trained.do_split()


@pytest.mark.stock
def test_the_stock_commands_train_with_workers_find_the_best_configuration_and_predict(nnunet_folders, monkeypatch):
    target = make_target(nnunet_folders)
    start(target, epochs=2)
    monkeypatch.setenv("nnUNet_n_proc_DA", "2")  # background workers must see the new case, and end
    programs = Path(sys.executable).parent

    def call(program: str, *arguments: str) -> str:
        command = [str(programs / program), *arguments, "-tr", "nnUNetTrainerMmActS", "-p", PLANS]
        run = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert run.returncode == 0, run.stdout + run.stderr
        return run.stdout

    shown = call("nnUNetv2_train", NAME, "3d_fullres", "0", "-device", "cpu")
    assert "Mean Validation Dice" in shown
    assert len(campaign_of(target).labelled()) == 2
    best = call(
        "nnUNetv2_find_best_configuration", NAME, "-c", "3d_fullres", "-f", "0", "--disable_ensembling", "-np", "1"
    )
    assert "nnUNetTrainerMmActS__nnUNetActivePlans__3d_fullres" in best
    images, output = nnunet_folders / "images", nnunet_folders / "predicted"
    images.mkdir()
    for channel in range(3):
        name = f"case_0_{channel:04d}.nii.gz"
        (images / name).symlink_to(target.raw / "imagesTr" / name)
    where = ["-i", str(images), "-o", str(output), "-d", NAME, "-c", "3d_fullres", "-f", "0"]
    call("nnUNetv2_predict", *where, "-device", "cpu", "--disable_tta", "-npp", "1", "-nps", "1")
    assert (output / "case_0.nii.gz").is_file()


def test_others_see_that_a_training_runs_and_where_it_is_and_its_log_says_once_that_nobody_is_held_out(
    nnunet_folders, capsys
):
    target = make_target(nnunet_folders, labelled=3)
    start(target, fold="all", epochs=2)
    trainer = trainer_of(target, fold="all")
    seen, original = [], trainer.on_train_epoch_start

    def look() -> None:
        seen.extend(
            (one.trainer, one.fold, one.epoch, one.epochs) for one in running_trainings(trainer.session.campaign.folder)
        )
        original()

    trainer.on_train_epoch_start = look
    capsys.readouterr()
    trainer.run_training()
    assert seen == [("nnUNetTrainerMmActS", "all", 0, 2), ("nnUNetTrainerMmActS", "all", 1, 2)]
    assert running_trainings(campaign_of(target, "all").folder) == []
    trainer.perform_actual_validation()
    assert capsys.readouterr().out.count("no labelled case is held out; validation") == 1
