"""A campaign with everything that a report shows, made without a network: two rounds, predictions, uncertainty, one label back."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import SimpleITK as sitk
from tiny_campaign import begin
from tiny_dataset import NAME, make_plans, write_image

from nnunet_active.campaign.campaign import Campaign
from nnunet_active.campaign.campaign_round import RoundContent
from nnunet_active.campaign.settings import Settings
from nnunet_active.campaign.slice_request import SliceRequest
from nnunet_active.data.raw_dataset import RawDataset
from nnunet_active.workspace import Workspace

SHAPE = (8, 20, 18)
SPACING = (1.0, 1.0, 3.0)
CASES = tuple(f"case_{i}" for i in range(6))
HOSTILE = '<script>alert(1)</script> & "T1" $x^2$'
LPS, RAS = (1, 0, 0, 0, 1, 0, 0, 0, 1), (-1, 0, 0, 0, -1, 0, 0, 0, 1)


@dataclass
class Setting:
    """Where everything is."""

    root: Path
    raw_folder: Path
    campaign: Campaign
    plans: dict

    @property
    def raw(self) -> RawDataset:
        return RawDataset(self.raw_folder)

    @property
    def workspace(self) -> Workspace:
        workspace = Workspace.of(self.campaign)
        workspace.raw, workspace.plans = self.raw, self.plans
        return workspace

    @property
    def results(self) -> Path:
        return self.root / "nnUNet_results"


def voxels(seed: int) -> np.ndarray:
    return (100 + 20 * np.random.default_rng(seed).standard_normal(SHAPE)).astype(np.float32)


def prediction() -> np.ndarray:
    label = np.zeros(SHAPE, dtype=np.uint8)
    label[2:6, 5:12, 4:10] = 1
    label[3:5, 7:9, 6:8] = 2
    return label


def uncertainty() -> np.ndarray:
    """Highest around z 4, y 10, x 12."""
    values = np.zeros(SHAPE, dtype=np.float32)
    values[3:6, 8:13, 10:15] = 0.4
    values[4, 10, 12] = 0.69
    return values


def make_setting(root: Path, channels=("T1", "FLAIR"), direction=LPS, archive=True, rounds=2, **settings) -> Setting:
    """``root`` holds nnUNet_raw, nnUNet_preprocessed and nnUNet_results (fixture nnunet_folders)."""
    raw = root / "nnUNet_raw" / NAME
    raw.mkdir(parents=True)
    dataset_json = {
        "channel_names": {str(i): name for i, name in enumerate(channels)},
        "labels": {"background": 0, "oedema": 1, "core": 2},
        "numTraining": 0,
        "file_ending": ".nii.gz",
    }
    (raw / "dataset.json").write_text(json.dumps(dataset_json))
    (raw / "labelsTr").mkdir()
    for i, case in enumerate(CASES):
        for c in range(len(channels)):
            file = raw / "imagesTr" / f"{case}_{c:04d}.nii.gz"
            write_image(file, voxels(10 * i + c), spacing=SPACING, direction=direction)
    folder = root / "nnUNet_preprocessed" / NAME
    folder.mkdir(parents=True)
    plans = make_plans()
    (folder / "nnUNetActivePlans.json").write_text(json.dumps(plans))
    (folder / "dataset.json").write_text(json.dumps(dataset_json))
    settings = {"oracle": "folder", "budget": 5, "epochs": 400, "query_size": 2, **settings}
    campaign = begin(folder, settings=Settings(**settings))
    setting = Setting(root, raw, campaign, plans)
    if rounds:
        add_round(setting, ["case_0", "case_1"], archive=archive)
        facts = {
            "time": "2026-05-01T10:00:00",
            "dice": {"oedema": 0.75, "core": None},
            "volume_predicted_mm3": {"oedema": 5000.0, "core": 0.0},
            "volume_label_mm3": {"oedema": 4000.0, "core": 0.0},
            "changed_voxels": 321,
            "corrections": 1,
        }
        campaign.record_label("case_0", facts)
        campaign.mark_labelled(["case_0"])
        campaign.decline(["case_1"], "moved <b>a lot</b>")
    if rounds > 1:
        add_round(setting, ["case_2", "case_3"], archive=archive, made_by="select")
    return setting


def add_round(
    setting: Setting,
    picks: list[str],
    archive: bool = True,
    made_by: str = "training",
    arrays=None,
    slices: dict[str, list[int]] | None = None,
) -> None:
    campaign, channel = setting.campaign, setting.raw.channel_names[-1]
    pool = campaign.pool(CASES)
    order = [*picks, *(case for case in pool if case not in picks)]
    n = len(order)
    table = pd.DataFrame(
        {
            "mean_entropy": np.linspace(0.05, 0.01, n),
            "foreground_voxels": np.linspace(200.0, 0.0, n),
            "foreground_mm3": np.linspace(600.0, 0.0, n),
            "component_u": np.linspace(0.05, 0.01, n),
            "component_rho": [np.nan, *np.linspace(-0.5, 1.0, n - 1)],
            "utility": np.linspace(9.0, 1.0, n),
        },
        index=order,
    )
    table["picked"] = pd.Series({case: float(rank) for rank, case in enumerate(picks, 1)})
    numbers = [CASES.index(case) for case in order]
    embedding = np.array([[i, i**2, 1.0] for i in numbers], dtype=np.float32)
    details = {
        "strategy": "mmacts",
        "strategy_options": {},
        "candidates": n,
        "dominant_modality": {
            case: {"channel": 1, "name": channel, "dice": [0.1, 0.8], "decided": True} for case in picks
        },
        "notes": ["a note <i>with</i> marks"],
        "set_aside": {"case_9": "case_9 could not be scored."},
        "seconds": 1.25,
    }
    if slices:
        numbers_of = {"axis": "z", "rule": "spread", "of": SHAPE[0], "extent": [1, 6]}
        details["slice_choice"] = {
            case: {
                **numbers_of,
                "slices": found,
                "foreground": [40.0 + index for index in found],
                "difficulty": [0.25] * len(found),
            }
            for case, found in slices.items()
        }
    requests = {case: SliceRequest("z", tuple(found)) for case, found in (slices or {}).items()}
    utilities, worklist = pd.DataFrame([table["utility"]] * len(picks)), pd.DataFrame({"case": picks})
    arrays = {"embedding": embedding} if arrays is None else arrays
    content = RoundContent(picks, table, utilities, worklist, arrays, details, slices=requests)
    campaign.append_round(content, 40 * len(campaign.rounds), made_by)
    if archive:
        number = len(campaign.rounds)
        for case in picks:
            write_archive(setting, number, case, prediction(), ".nii.gz")
            write_archive(setting, number, case, uncertainty(), "_uncertainty.nii.gz")


def write_archive(setting: Setting, number: int, case: str, array: np.ndarray, ending: str) -> Path:
    """A map in the geometry of the case's image."""
    image = sitk.ReadImage(str(setting.raw.cases[case].images[0]))
    file = setting.campaign.predictions_folder(number) / f"{case}{ending}"
    return write_image(file, array, image.GetSpacing(), image.GetOrigin(), image.GetDirection())
