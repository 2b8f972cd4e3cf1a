"""Whole trainings of the folds of one campaign."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from tiny_target import NAME, PLANS, make_target
from tiny_training import campaign_of, output_folder, start, trainer_of

TRAINER = "nnUNetTrainerActive"


def train(target, fold):
    """Train, and note what the loaders held."""
    trainer = trainer_of(target, TRAINER, fold)
    held: list[tuple[list[str], list[str]]] = []
    original = trainer.on_train_epoch_start

    def look() -> None:
        held.append(tuple(list(one.data_loader.indices) for one in (trainer.dataloader_train, trainer.dataloader_val)))
        original()

    trainer.on_train_epoch_start = look
    trainer.run_training()
    return trainer, held


def test_the_asking_fold_never_trains_on_what_validates_it_and_the_others_follow(nnunet_folders):
    target = make_target(nnunet_folders)
    start(target, budget=3, epochs=4, folds=3)
    _, held = train(target, 0)
    campaign = campaign_of(target)
    first, second, third = campaign.requested()
    assert campaign.fold_of == {first: 1, second: 2, third: 0}
    both = sorted([first, second])
    assert held == [([first], [first]), (both, both), (both, [third]), (both, [third])]
    splits = json.loads((target.preprocessed / "splits_final.json").read_text())
    assert [entry["val"] for entry in splits] == [[third], [first], [second]]
    rounds = campaign.rounds
    with campaign_of(target).lock():  # another fold is being trained
        _, held = train(target, 1)
    assert held == [(sorted([second, third]), [first])] * 4
    assert campaign_of(target).rounds == rounds
    assert not (target.preprocessed / "active" / "fold_1").exists()


def test_a_covered_fold_without_a_case_is_refused_with_one_sentence(nnunet_folders, capsys):
    target = make_target(nnunet_folders, labelled=2, unlabelled=2)
    start(target, oracle="folder", folds=3)
    with pytest.raises(SystemExit) as ended:
        trainer_of(target, TRAINER, 2).run_training()
    assert ended.value.code == 2
    assert "Fold 2 cannot be trained yet: 2 of the campaign's 3 folds have a labelled case" in capsys.readouterr().out


@pytest.mark.stock
def test_nnunet_finds_the_best_configuration_from_all_folds(nnunet_folders):
    """Also where fold 0 was validated on its training cases before the folds were complete."""
    target = make_target(nnunet_folders)
    start(target, budget=2, epochs=2, folds=2)
    stale = output_folder(target, TRAINER, 0) / "validation" / "case_5.nii.gz"
    for fold in (0, 1):
        trainer, _ = train(target, fold)
        if fold == 0:
            stale.parent.mkdir(exist_ok=True)
            for case in campaign_of(target).labelled():
                stale.with_name(f"{case}.nii.gz").write_bytes((target.raw / "labelsTr" / f"{case}.nii.gz").read_bytes())
        trainer.perform_actual_validation()
    command = "import sys; from nnunetv2.evaluation.find_best_configuration import find_best_configuration_entry_point as f; f()"
    flags = [
        "902",
        "-p",
        PLANS,
        "-c",
        target.configuration,
        "-tr",
        TRAINER,
        "-f",
        "0",
        "1",
        "-np",
        "1",
        "--disable_ensembling",
    ]
    done = subprocess.run([sys.executable, "-c", command, *flags], capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0, done.stdout + done.stderr
    found = target.results / NAME / f"{TRAINER}__{PLANS}__{target.configuration}" / "crossval_results_folds_0_1"
    assert sorted(file.name.split(".")[0] for file in found.glob("case_*")) == campaign_of(target).labelled()
