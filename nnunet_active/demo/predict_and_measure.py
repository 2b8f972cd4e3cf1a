"""Predicts a folder of test cases with nnU-Net's predictor and measures Dice and IoU with nnU-Net's metrics."""

from __future__ import annotations

import contextlib
import io
import os
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from nnunetv2.evaluation.evaluate_predictions import compute_metrics
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from nnunetv2.utilities.utils import create_lists_from_splitted_dataset_folder
from tqdm import tqdm

from nnunet_active.models.model_files import DEFAULT_CHECKPOINT
from nnunet_active.util.errors import MissingInput
from nnunet_active.util.progress import bar_is_shown


@dataclass(frozen=True)
class Evaluation:
    """Overlap of predictions with reference labels.

    Attributes:
        per_case: one row per case and class: ``identifier``, ``label`` (its name), ``dice``, ``iou``; NaN if the class is
            neither in the reference nor in the prediction.
        per_class: index: names of the classes; columns ``dice``, ``iou``: the means over the cases that are not NaN, and
            ``cases``, the number of these.
    """

    per_case: pd.DataFrame
    per_class: pd.DataFrame

    @property
    def mean_dice(self) -> float:
        """Mean over the classes of their mean Dice."""
        return float(self.per_class["dice"].mean())

    @property
    def mean_iou(self) -> float:
        """Mean over the classes of their mean intersection over union."""
        return float(self.per_class["iou"].mean())


def evaluate(
    model_folder: Path,
    images: Path,
    labels: Path,
    output: Path,
    fold: int | str = 0,
    device: str = "cpu",
    progress: bool = True,
) -> Evaluation:
    """Predict every case of ``images`` that has a label in ``labels`` and compare it with the label.

    One network, no mirroring, sliding window with nnU-Net's defaults. Dice = 2·TP / (2·TP + FP + FN), IoU = TP / (TP + FP +
    FN), both on the reference's voxels. A class's mean is over the cases where it is in the reference or predicted, so a
    class predicted where it does not exist counts as 0.

    Args:
        model_folder: a trained model in nnU-Net's format, e.g. ``nnUNet_results/.../nnUNetTrainer__nnUNetPlans__2d``.
        images: folder in the format of ``imagesTs``.
        labels: folder in the format of ``labelsTs``.
        output: folder for the predictions (made if it does not exist; existing predictions are replaced).
        fold: which fold's final checkpoint.
        device: "cpu" or "cuda".
        progress: show a bar over the cases.

    Raises:
        MissingInput: no case has both images and a label.
    """
    predictor = load_predictor(model_folder, fold, device)
    plans_manager: PlansManager = predictor.plans_manager
    ending = predictor.dataset_json["file_ending"]
    cases = {}
    for files in create_lists_from_splitted_dataset_folder(str(images), ending):
        identifier = Path(files[0]).name[: -len(ending) - len("_0000")]
        if (labels / f"{identifier}{ending}").is_file():
            cases[identifier] = files
    if not cases:
        raise MissingInput(
            f"No case has both images in {images} and a label in {labels} (file ending {ending}); "
            f"test cases go to imagesTs and labelsTs as training cases go to imagesTr and labelsTr."
        )
    output.mkdir(parents=True, exist_ok=True)
    manager = plans_manager.get_label_manager(predictor.dataset_json)
    classes = list(manager.foreground_regions if manager.has_regions else manager.foreground_labels)
    names = _class_names(predictor.dataset_json)
    rows = []
    for identifier, files in tqdm(cases.items(), desc="Predicting", unit="case", disable=not bar_is_shown(progress)):
        with contextlib.redirect_stdout(io.StringIO()):
            predictor.predict_from_files_sequential([files], [str(output / identifier)], overwrite=True)
        metrics = compute_metrics(
            str(labels / f"{identifier}{ending}"),
            str(output / f"{identifier}{ending}"),
            plans_manager.image_reader_writer_class(),
            classes,
            manager.ignore_label,
        )["metrics"]
        rows += [
            {"identifier": identifier, "label": name, "dice": metrics[c]["Dice"], "iou": metrics[c]["IoU"]}
            for c, name in zip(classes, names, strict=True)
        ]
    per_case = pd.DataFrame(rows).astype({"dice": float, "iou": float})
    grouped = per_case.groupby("label", sort=False)
    per_class = grouped[["dice", "iou"]].mean().assign(cases=grouped["dice"].count())
    return Evaluation(per_case=per_case, per_class=per_class)


def load_predictor(model_folder: Path, fold: int | str = 0, device: str = "cpu") -> nnUNetPredictor:
    """nnU-Net's predictor for the final checkpoint of one fold, without mirroring.

    Raises:
        MissingInput: the checkpoint does not exist.
    """
    path = model_folder / f"fold_{fold}" / DEFAULT_CHECKPOINT
    if not path.is_file():
        raise MissingInput(f"{path} was not found; train that fold to its end, or name another fold.")
    on_device = torch.device(device)
    with contextlib.redirect_stdout(io.StringIO()):
        predictor = nnUNetPredictor(
            use_mirroring=False,
            perform_everything_on_device=on_device.type == "cuda",
            device=on_device,
            allow_tqdm=False,
        )
        predictor.initialize_from_trained_model_folder(os.fspath(model_folder), (fold,), DEFAULT_CHECKPOINT)
    return predictor


def _class_names(dataset_json: dict) -> list[str]:
    """Names of the classes in the order of nnU-Net's labels or regions."""
    labels = {name: value for name, value in dataset_json["labels"].items() if name not in ("background", "ignore")}
    if "regions_class_order" in dataset_json:  # nnU-Net keeps the regions in file order
        return list(labels)
    return sorted(labels, key=lambda name: labels[name])
