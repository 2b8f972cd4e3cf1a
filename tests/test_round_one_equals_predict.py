"""Before the first query our trainer holds the whole source network: it predicts what the stock nnU-Net predicts with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape

from nnunet_active.data.cases import CaseStore
from nnunet_active.data.preprocessing import preprocess_dataset
from nnunet_active.data.raw_dataset import RawDataset
from nnunet_active.nnunet.inference import SlidingWindow
from nnunet_active.planners.source_model_planner import SourceModelPlanner
from nnunet_active.trainers.nnUNetTrainerMmActS import nnUNetTrainerMmActS

DATASET = "Dataset204_GliomaTarget"
CASES = ("TCGA_CS_4941", "TCGA_FG_5962")
CONFIGURATION = "3d_fullres"
PREDICT = "from nnunetv2.inference.predict_from_raw_data import predict_entry_point_modelfolder as main; main()"


def stock_probabilities(model: Path, images: Path, output: Path) -> dict[str, np.ndarray]:
    """What ``nnUNetv2_predict_from_modelfolder`` writes, in the geometry of the raw images: case -> (C, Z, Y, X) float32."""
    flags = [
        "-i",
        str(images),
        "-o",
        str(output),
        "-m",
        str(model),
        "-f",
        "0",
        "-device",
        "cpu",
        "-npp",
        "1",
        "-nps",
        "1",
    ]
    flags += ["--save_probabilities", "--disable_tta", "--disable_progress_bar"]
    done = subprocess.run([sys.executable, "-c", PREDICT, *flags], capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0, done.stdout + done.stderr
    found = {}
    for file in output.glob("*.npz"):
        with np.load(file) as content:
            found[file.stem] = content["probabilities"]
    return found


def our_probabilities(trainer: nnUNetTrainerMmActS, store: CaseStore, case: str) -> np.ndarray:
    """The same from the network that the trainer holds, on the preprocessed case, resampled back by nnU-Net's own function."""
    plans = trainer.plans_manager
    window = SlidingWindow(trainer.network, plans.plans, CONFIGURATION, trainer.dataset_json, torch.device("cpu"))
    _, probabilities = convert_predicted_logits_to_segmentation_with_correct_shape(
        window.logits(store.load_image(case)),
        plans,
        trainer.configuration_manager,
        trainer.label_manager,
        store.properties(case),
        return_probabilities=True,
    )
    return probabilities


@pytest.mark.data
@pytest.mark.stock
def test_before_round_one_our_trainer_predicts_what_stock_predict_does_with_the_source_model(
    test_data, nnunet_folders, record_property
):
    model = test_data / "models" / "Dataset203_GliomaSource" / f"nnUNetTrainer__nnUNetPlans__{CONFIGURATION}"
    raw = nnunet_folders / "nnUNet_raw" / DATASET
    for kind, pattern in (("imagesTr", "{}_????.nii.gz"), ("labelsTr", "{}.nii.gz")):
        (raw / kind).mkdir(parents=True)
        for case in CASES:
            for file in (test_data / "nnUNet_raw" / DATASET / kind).glob(pattern.format(case)):
                (raw / kind / file.name).symlink_to(file.resolve())
    dataset_json = json.loads((test_data / "nnUNet_raw" / DATASET / "dataset.json").read_text())
    (raw / "dataset.json").write_text(json.dumps(dataset_json))
    plans = json.loads(SourceModelPlanner(raw, model, CONFIGURATION).write().read_text())
    store = CaseStore(nnunet_folders / "nnUNet_preprocessed" / DATASET, plans, CONFIGURATION)
    assert preprocess_dataset(RawDataset(raw), store, dataset_json, 1, progress=False).done == list(CASES)

    trainer = nnUNetTrainerMmActS(
        {**plans, "continue_training": False}, CONFIGURATION, 0, dataset_json, torch.device("cpu")
    )
    trainer.initialize()
    stock = stock_probabilities(model, raw / "imagesTr", nnunet_folders / "predicted")

    assert set(stock) == set(CASES)
    for case in CASES:
        ours = our_probabilities(trainer, store, case)
        assert ours.shape == stock[case].shape
        assert (stock[case][1] > 0.5).any(), "a prediction without a tumour would equal too much"
        difference = float(np.abs(ours.astype(np.float64) - stock[case]).mean())
        record_property(f"mean_absolute_difference_{case}", difference)
        assert difference < 1e-3
