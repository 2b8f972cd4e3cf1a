"""One round on real scans, oblique and anisotropic: from DICOM series to cases, and the labels back by every door."""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pytest
import SimpleITK as sitk
from tiny_dicom import contours_of, write_series, write_structure_set
from tiny_mitk import accept
from tiny_served import put
from tiny_spaces import DIRECTIONS

from nnunet_active.campaign.campaign import Campaign
from nnunet_active.cli.main import main
from nnunet_active.data.geometry import Geometry

pytest.importorskip("highdicom")
pytest.importorskip("fastapi")

from fastapi.testclient import TestClient

from nnunet_active.server.app import make_app
from nnunet_active.server.served_campaign import ServedCampaign
from nnunet_active.server.service import AnnotationService

NAME, SOURCE = "Dataset906_Doors", "Dataset201_CardiacCine"
SCANS = [f"patient{number:03d}_frame01" for number in (1, 2, 3, 4, 5)]
LABELS = ["RV", "MYO", "LV"]
SPACING, ORIGIN = (3.125, 3.125, 10.0), (-101.25, 54.5, 7.75)


def voxels(file) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(file)))


def like(image, label: np.ndarray, file):
    """A label map where an image lies."""
    made = sitk.GetImageFromArray(label)
    made.CopyInformation(sitk.ReadImage(str(image)))
    sitk.WriteImage(made, str(file))
    return file


@pytest.fixture
def truths(test_data, nnunet_folders) -> dict[str, np.ndarray]:
    """Case -> its label; the scans were imported from DICOM, and all are handed over."""
    source, raw = test_data / "nnUNet_raw" / SOURCE, nnunet_folders / "nnUNet_raw" / NAME
    raw.mkdir()
    shutil.copy(source / "dataset.json", raw / "dataset.json")
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = DIRECTIONS["oblique"] * np.asarray(SPACING), ORIGIN
    table = nnunet_folders / "series.csv"
    for scan in SCANS:
        image = voxels(source / "imagesTr" / f"{scan}_0000.nii.gz").astype(np.uint16)
        said = {"PatientID": scan, "Modality": "MR", "SeriesDescription": "cine sa"}
        write_series(nnunet_folders / "scans" / scan, image, affine, **said)
    for _ in range(2):
        assert main(["import-dicom", str(nnunet_folders / "scans"), "-d", "906", "--table", str(table)]) == 0
    with table.open() as content:
        case_of = {row["patient_id"]: row["case"] for row in csv.DictReader(content)}
    for scan, case in case_of.items():
        file = raw / "imagesTr" / f"{case}_0000.nii.gz"
        np.testing.assert_array_equal(voxels(file), voxels(source / "imagesTr" / f"{scan}_0000.nii.gz"))
        np.testing.assert_allclose(Geometry.of_file(file).affine, affine, atol=1e-3)
    model = test_data / "models" / SOURCE / "nnUNetTrainer__nnUNetPlans__2d"
    words = ["-d", "906", "-c", "2d", "-m", str(model), "-n", "5", "--strategy", "random", "-np", "1", "-device", "cpu"]
    assert main(["select", *words]) == 0
    return {case: voxels(source / "labelsTr" / f"{scan}.nii.gz").astype(np.uint8) for scan, case in case_of.items()}


@pytest.mark.data
def test_labels_that_come_back_by_every_door_are_the_truth(truths, nnunet_folders, tmp_path):
    raw, preprocessed = (nnunet_folders / kind / NAME for kind in ("nnUNet_raw", "nnUNet_preprocessed"))
    handoff = Campaign.open(preprocessed, "0").handoff_folder(1)
    task_list, case_list, segmentation, contours, client = truths

    accept(handoff, task_list, truths[task_list])
    like(
        raw / "imagesTr" / f"{case_list}_0000.nii.gz",
        truths[case_list],
        handoff / case_list / f"{case_list}_0000_label.nrrd",
    )
    (tmp_path / "drawn").mkdir()
    like(
        raw / "imagesTr" / f"{segmentation}_0000.nii.gz",
        truths[segmentation],
        tmp_path / "drawn" / f"{segmentation}.nii.gz",
    )
    words = ["--scans", nnunet_folders / "scans", "--table", nnunet_folders / "series.csv", "-o", tmp_path / "seg"]
    assert main(["export-dicom", str(tmp_path / "drawn"), "-d", "906", *map(str, words)]) == 0
    shutil.copy(tmp_path / "seg" / f"{segmentation}.dcm", handoff / segmentation)
    affine = Geometry.of_file(raw / "imagesTr" / f"{contours}_0000.nii.gz").affine
    rois = [(name, contours_of(truths[contours] == value, affine)) for value, name in enumerate(LABELS, 1)]
    write_structure_set(handoff / contours / f"{contours}.dcm", rois)
    assert main(["ingest", "-d", "906"]) == 0

    service = TestClient(make_app(AnnotationService(ServedCampaign(NAME, "0"))))
    assert service.post("/activelearning/worklist", json={"client_id": "ann"}).json()["id"] == client
    file = like(raw / "imagesTr" / f"{client}_0000.nii.gz", truths[client], tmp_path / "sent.nii.gz")
    assert put(service, client, file, LABELS).json()["taken"]

    assert Campaign.open(preprocessed, "0").waiting() == []
    for case, truth in truths.items():
        label = voxels(raw / "labelsTr" / f"{case}.nii.gz")
        if case == contours:
            both = [
                2 * ((label == v) & (truth == v)).sum() / ((label == v).sum() + (truth == v).sum()) for v in (1, 2, 3)
            ]
            assert min(both) >= 0.99
        else:
            np.testing.assert_array_equal(label, truth)
    known = json.loads((preprocessed / "active" / "fold_0" / "campaign.json").read_text())
    assert "patient00" not in json.dumps(known)  # no ID of a patient has come along
