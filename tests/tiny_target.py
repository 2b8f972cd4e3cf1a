"""A tiny target data set with a tiny source model, planned and preprocessed by the real code: what a campaign starts from."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tiny_source
from tiny_dataset import write_image

from nnunet_active.data.cases import CaseStore, open_store
from nnunet_active.data.preprocessing import preprocess_dataset
from nnunet_active.data.raw_dataset import RawDataset
from nnunet_active.planners.source_model_planner import SourceModelPlanner

NAME = "Dataset902_TinyTarget"
PLANS = "nnUNetActivePlans"
SHAPE = (16, 20, 18)


@dataclass
class Target:
    """Where everything is."""

    root: Path
    raw: Path
    preprocessed: Path
    results: Path
    model: Path
    configuration: str

    @property
    def store(self) -> CaseStore:
        return open_store(NAME, PLANS, self.configuration)

    def preprocess(self) -> None:
        raw = RawDataset(self.raw)
        preprocess_dataset(raw, self.store, raw.dataset_json, processes=1, progress=False)

    def label(self, case: str, seed: int = 0) -> Path:
        """What the annotator does."""
        file = self.raw / "labelsTr" / f"{case}.nii.gz"
        return write_image(file, truth(seed), spacing=(1.5, 1.5, 1.5))


def truth(seed: int) -> np.ndarray:
    label = np.zeros(SHAPE, dtype=np.uint8)
    label[4:11, 5 + seed % 4 : 14, 4:12] = 1
    label[6:9, 8:11, 6:10] = 2
    return label


def image(seed: int, channel: int) -> np.ndarray:
    noise = np.random.default_rng([seed, channel]).standard_normal(SHAPE)
    return (100 + 10 * noise + 15 * (channel + 1) * (truth(seed) == 1 + channel % 2)).astype(np.float32)


def make_target(
    root: Path,
    labelled: int = 6,
    unlabelled: int = 0,
    name: str = "3d_fullres",
    labels: dict | None = None,
    source_labels: dict | None = None,
    residual: bool = False,
    **more,
) -> Target:
    """Raw data, source model, plans, preprocessed cases, below ``root`` (see the fixture nnunet_folders)."""
    raw = root / "nnUNet_raw" / NAME
    raw.mkdir()
    (raw / "dataset.json").write_text(json.dumps(tiny_source.dataset_json(labels=labels, **more)))
    target = Target(root, raw, root / "nnUNet_preprocessed" / NAME, root / "nnUNet_results", root / "model", name)
    for seed in range(labelled + unlabelled):
        for channel in range(3):
            write_image(
                raw / "imagesTr" / f"case_{seed}_{channel:04d}.nii.gz", image(seed, channel), spacing=(1.5, 1.5, 1.5)
            )
        if seed < labelled:
            target.label(f"case_{seed}", seed)
    (raw / "labelsTr").mkdir(exist_ok=True)
    source = tiny_source.source_model(labels=source_labels or labels, name=name, residual=residual, **more)
    tiny_source.write_trained(source, target.model)
    SourceModelPlanner(raw, target.model, [name]).write()
    target.preprocess()
    return target
