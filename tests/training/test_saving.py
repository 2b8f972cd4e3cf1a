from __future__ import annotations

import pytest
import torch
from tiny_target import make_target
from tiny_training import campaign_of, output_folder, start, trainer_of

from nnunet_active.cli.main import main


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
    assert main(f"export -d 902 -c 3d_fullres -tr nnUNetTrainerMmActS -o {exported}".split()) == 0
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
