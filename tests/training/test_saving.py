from __future__ import annotations

import pytest
import torch
from full_disk import files_up_to
from tiny_target import make_target
from tiny_training import campaign_of, output_folder, start, trainer_of

from nnunet_active.cli.main import main
from nnunet_active.rounds.trained_models import trainings_of
from nnunet_active.util.sentences import one_sentence


def test_a_training_that_stopped_for_its_first_label_is_a_whole_model_folder(nnunet_folders, monkeypatch):
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    target = make_target(nnunet_folders, labelled=0, unlabelled=4)
    start(target, strategy="random")
    with pytest.raises(SystemExit):
        trainer_of(target).run_training()
    folder = output_folder(target).parent
    monkeypatch.delenv("nnUNet_extTrainer")  # a colleague without this package
    predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(folder), (0,), "checkpoint_latest.pth")
    exported = nnunet_folders / "exported"
    chosen = "-tr nnUNetTrainerMmActS -chk checkpoint_latest.pth"
    assert main(f"export -d 902 -c 3d_fullres {chosen} -o {exported}".split()) == 0
    (exported,) = exported.iterdir()
    predictor.initialize_from_trained_model_folder(str(exported), (0,))
    assert (folder / "dataset_fingerprint.json").is_file() == (
        target.preprocessed / "dataset_fingerprint.json"
    ).is_file()


def test_a_training_killed_between_a_query_and_its_first_epoch_resumes_before_that_epoch(nnunet_folders):
    target = make_target(nnunet_folders)
    start(target, strategy="random", stride=2)
    trainer = trainer_of(target)
    trainer.initialize()
    trainer.current_epoch = 2
    output_folder(target).mkdir(parents=True, exist_ok=True)
    trainer.save_here()
    assert trainer.current_epoch == 2 and trainer_of(target, resume=True).current_epoch == 2
    assert not list(output_folder(target).glob(".*"))
    assert not campaign_of(target).requested()


def test_on_a_full_disk_the_earlier_checkpoint_stays_and_no_part_of_the_new_one(nnunet_folders):
    target = make_target(nnunet_folders)
    start(target, strategy="random", stride=2)
    trainer, folder = trainer_of(target), output_folder(target)
    trainer.initialize()
    folder.mkdir(parents=True, exist_ok=True)
    trainer.save_here()
    before = (folder / "checkpoint_latest.pth").read_bytes()
    with files_up_to(len(before) // 2), pytest.raises(RuntimeError) as error:
        trainer.save_here()
    assert one_sentence(error.value)[0].startswith("A checkpoint cannot be written")
    assert (folder / "checkpoint_latest.pth").read_bytes() == before and not list(folder.glob(".*"))


class KillNine(BaseException):
    """What nobody catches."""


def test_a_kill_before_the_earlier_final_checkpoint_made_way_loses_nothing(nnunet_folders, monkeypatch):
    target = make_target(nnunet_folders)
    start(target, strategy="random")
    trainer_of(target).run_training()
    second = trainer_of(target)

    def kill(written):
        if written.name == "checkpoint_latest.pth":
            raise KillNine

    with monkeypatch.context() as patch, pytest.raises(KillNine):
        patch.setattr("nnunet_active.training.saving.make_way", kill)
        second.save_every = 2  # after the second epoch of three; the campaign has asked for everything already
        second.run_training()
    second.session.end()
    assert second.current_epoch == 1
    folder = output_folder(target)
    assert {"checkpoint_final.pth", "checkpoint_latest.pth"} <= {file.name for file in folder.glob("*.pth")}
    newest, *_ = trainings_of(campaign_of(target), target.results)
    assert newest.resumable and newest.checkpoint.name == "checkpoint_latest.pth"
    third = trainer_of(target, resume=True)
    assert third.current_epoch == 2 and not third.has_ended
    assert {file.name for file in folder.glob("*.pth")} >= {"checkpoint_latest.pth", "checkpoint_previous.pth"}
    third.run_training()
    assert not (folder / "checkpoint_previous.pth").exists() and trainer_of(target, resume=True).has_ended
