"""A round between trainings and its hand-off folder, with files as they are handed out, for tests of how labels come back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import SimpleITK as sitk
from tiny_dataset import write_image
from tiny_nrrd import write_segmentation
from tiny_target import Target, truth

from nnunet_active.annotation.records import voxel_digest
from nnunet_active.campaign.campaign import Campaign
from nnunet_active.campaign.campaign_round import RoundContent

SPACING = (1.5, 1.5, 1.5)
ORIGIN = (5.0, -7.0, 2.0)
SEGMENTS = [{"Name": "oedema", "LabelValue": 1, "Layer": 0}, {"Name": "core", "LabelValue": 2, "Layer": 0}]


def predicted(case: str) -> np.ndarray:
    """What the model says of a case: near the truth, and wrong in places."""
    return np.roll(truth(int(case.split("_")[1])), 2, axis=2)


def ask(campaign: Campaign, *picks: str) -> None:
    """A round of ``nnunet_active select``."""
    scores = pd.DataFrame({"mean_entropy": 1.0, "utility": 1.0}, index=sorted(picks))
    utilities = pd.DataFrame(np.ones((1, len(picks))), columns=sorted(picks))
    with campaign.lock():
        campaign.append_round(RoundContent(picks, scores, utilities, pd.DataFrame({"case": picks})), made_by="select")


def hand_out(target: Target, campaign: Campaign, folder: Path, slicer: bool = False) -> Path:
    """The hand-off folder of the last round, and the archive of its predictions."""
    made = campaign.rounds[-1]
    archive = campaign.predictions_folder(made.number)
    entries = {}
    for case in made.requested:
        label = predicted(case)
        write_image(archive / f"{case}.nii.gz", label, spacing=SPACING)
        write_image(folder / case / f"{case}.nii.gz", label, spacing=SPACING)
        write_image(folder / case / f"{case}_uncertainty.nii.gz", label.astype(np.float32), spacing=SPACING)
        (folder / case / f"{case}_0000.nii.gz").symlink_to(target.raw / "imagesTr" / f"{case}_0000.nii.gz")
        if slicer:
            write_segmentation(folder / case / f"{case}.seg.nrrd", label, SEGMENTS, SPACING, ORIGIN)
        entries[case] = {
            "label_file": f"{case}/{case}.nii.gz",
            "digest": voxel_digest(label),
            "open_first": "T1",
            "images": [{"file": f"{case}/{case}_0000.nii.gz", "channel": "T1"}],
            "slices": {},
        }
    content = {
        "format": 1,
        "dataset": target.raw.name,
        "fold": campaign.fold,
        "round": made.number,
        "file_ending": ".nii.gz",
    }
    (folder / "handoff.json").write_text(json.dumps({**content, "cases": entries}))
    with campaign.lock():
        campaign.record_handoff(made.number, folder)
    return folder


def edit(folder: Path, case: str, label: np.ndarray | None = None, ending: str = ".nii.gz") -> Path:
    """What the annotator does."""
    label = truth(int(case.split("_")[1])) if label is None else label
    file = next(folder.rglob(f"{case}{ending}"), folder / case / f"{case}{ending}")
    if ending == ".seg.nrrd":
        return write_segmentation(file, label, SEGMENTS, SPACING, ORIGIN)
    return write_image(file, label, spacing=SPACING)


def voxels(file: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(file)))
