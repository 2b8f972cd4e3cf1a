"""How good a network is on the test cases: stock prediction and stock export into the original geometry, without mirroring.

The test cases are preprocessed already, so nothing is preprocessed again. As in nnU-Net's own final validation, the network sees
the stored array, and its logits are resampled to the original image before the comparison with the reference label.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from nnunetv2.evaluation.evaluate_predictions import compute_tp_fp_fn_tn, region_or_label_to_mask
from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_active.benchmark.surfaces import surface_metrics
from nnunet_active.benchmark.target import SharedTarget
from nnunet_active.campaign.slice_request import SliceRequest
from nnunet_active.data.revealed_labels import in_reader_order
from nnunet_active.models.source_model import carry_over, read_source_model
from nnunet_active.nnunet.networks import build_network, head_names
from nnunet_active.nnunet.safe_checkpoint import load_checkpoint
from nnunet_active.scoring.jaccard import jaccard_distance
from nnunet_active.util.errors import MissingInput


class Evaluator:
    """Predicts and measures the test cases of one fold.

    Args:
        target: planned and preprocessed.
        test: cases to test on.
        device: as in ``nnUNetv2_train``.
        tolerance_mm: of the surface Dice.
    """

    def __init__(self, target: SharedTarget, test: Sequence[str], device: str, tolerance_mm: float) -> None:
        self.target = target
        self.test = tuple(test)
        self.tolerance_mm = tolerance_mm
        self.device = torch.device(device)
        self.store = target.store()
        self.plans = json.loads((target.folder / f"{target.plans}.json").read_text())
        self.dataset_json = json.loads((target.folder / "dataset.json").read_text())
        self.manager = PlansManager(deepcopy(self.plans))
        self.labels = self.manager.get_label_manager(self.dataset_json)
        self.reader = self.manager.image_reader_writer_class()

    @property
    def classes(self) -> dict[str, int | tuple[int, ...]]:
        """Name and label, or region, of every foreground class in nnU-Net's order."""
        names = [
            name
            for name in head_names(self.plans, self.dataset_json)
            if self.labels.has_regions or name != "background"
        ]
        found = self.labels.foreground_regions if self.labels.has_regions else self.labels.foreground_labels
        return dict(zip(names, found, strict=True))

    def foreground(self, cases: Sequence[str], known: Mapping[str, SliceRequest] | None = None) -> int:
        """Foreground voxels in the reference labels of some cases, or in their known slices: what an annotator outlines."""
        references = (self._reference(case, (known or {}).get(case))[0] for case in cases)
        return int(sum(((one > 0) & (one != self.labels.ignore_label)).sum() for one in references))

    def source(self) -> torch.nn.Module:
        """The source network before any training, carried over as the trainers do it."""
        network = build_network(self.plans, self.target.configuration, self.dataset_json)
        source = read_source_model(self.target.source, self.target.configuration)
        carry_over(network, source, self.plans, self.dataset_json)
        return network

    def checkpoint(self, file: Path) -> torch.nn.Module:
        """The network of a checkpoint that one of our trainers wrote."""
        return self.network(load_checkpoint(file, str(file))["network_weights"])

    def network(self, weights: dict[str, torch.Tensor]) -> torch.nn.Module:
        """A separate network with these weights; a network in training has deep supervision on and must not be used for predictions."""
        with torch.random.fork_rng(devices=[]):  # drawing the first weights must not disturb a training under way
            network = build_network(self.plans, self.target.configuration, self.dataset_json)
        network.load_state_dict(weights)
        return network

    def measure(self, network: torch.nn.Module, source: Callable[[str], np.ndarray] | None = None) -> pd.DataFrame:
        """One row per test case and class.

        Dice = 2·TP / (2·TP + FP + FN) and IoU = TP / (TP + FP + FN) are NaN if the class is neither in the reference nor predicted;
        for the surface Dice and the Hausdorff distance see :func:`~nnunet_active.benchmark.surfaces.surface_metrics`.

        Args:
            network: predicts.
            source: returns the source network's label map of a case. If given, ``source_distance`` is the Jaccard distance of the two
                predictions (:mod:`~nnunet_active.scoring.jaccard`). It bounds the difference of their IoU; an IoU of NaN counts 1.
        """
        rows = []
        for case, predicted in self.predictions(network):
            rows += self._measure_case(case, predicted, None if source is None else source(case))
        return pd.DataFrame(rows)

    def predictions(self, network: torch.nn.Module) -> Iterator[tuple[str, np.ndarray]]:
        """Every test case with its label map in the original geometry."""
        with contextlib.redirect_stdout(io.StringIO()):  # nnU-Net prints each time that there is no GPU
            predictor = nnUNetPredictor(
                use_mirroring=False,
                perform_everything_on_device=self.device.type == "cuda",
                device=self.device,
                allow_tqdm=False,
            )
            predictor.manual_initialization(
                network.to(self.device).eval(),
                self.manager,
                self.manager.get_configuration(self.target.configuration),
                None,
                self.dataset_json,
                "nnUNetTrainer",
                None,
            )
        for case in self.test:
            yield case, self._predict(predictor, case)

    def _measure_case(self, case: str, predicted: np.ndarray, source: np.ndarray | None) -> list[dict[str, object]]:
        reference, spacing = self._reference(case)
        ignore = None if self.labels.ignore_label is None else reference == self.labels.ignore_label
        rows = []
        for name, label in self.classes.items():
            masks = [region_or_label_to_mask(array, label) for array in (reference, predicted)]
            true, false, missed, _ = (int(count) for count in compute_tp_fp_fn_tn(*masks, ignore))
            union = true + false + missed
            if ignore is not None:
                masks = [mask & ~ignore for mask in masks]
            surface, distance = surface_metrics(*masks, spacing, self.tolerance_mm)
            rows.append(
                {
                    "case": case,
                    "class": name,
                    "dice": 2 * true / (union + true) if union else np.nan,
                    "iou": true / union if union else np.nan,
                    "surface_dice": surface,
                    "hd95": distance,
                    "reference_voxels": true + missed,
                    "predicted_voxels": true + false,
                }
            )
            if source is not None:
                before = region_or_label_to_mask(source, label)
                before = before if ignore is None else before & ~ignore
                rows[-1]["source_distance"] = jaccard_distance(before, masks[1])
        return rows

    def _predict(self, predictor: nnUNetPredictor, case: str) -> np.ndarray:
        image = torch.from_numpy(self.store.load_image(case))
        with contextlib.redirect_stdout(io.StringIO()):
            logits = predictor.predict_sliding_window_return_logits(image).cpu()
        return convert_predicted_logits_to_segmentation_with_correct_shape(
            logits,
            self.manager,
            self.manager.get_configuration(self.target.configuration),
            self.labels,
            self.store.properties(case),
            num_threads_torch=torch.get_num_threads(),
        )

    def _reference(self, case: str, known: SliceRequest | None = None) -> tuple[np.ndarray, list[float]]:
        ending = self.dataset_json["file_ending"]
        for folder in (self.target.folder / "gt_segmentations", self.target.raw / self.target.dataset / "labelsTr"):
            if (file := folder / f"{case}{ending}").is_file():
                label, properties = self.reader.read_seg(str(file))
                label = label[0].astype(np.int16)
                if known is not None:
                    # counted in the image's voxel order, which may differ from that of the label's file
                    axis, there = in_reader_order(known.axis, known.slices, label.shape, self.store.properties(case))
                    label = label.take(there, axis)
                return label, [float(value) for value in properties["spacing"]]
        raise MissingInput(f"The label of the case {case} was found neither in gt_segmentations nor in labelsTr.")
