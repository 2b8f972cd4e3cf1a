"""Where slices are asked for: what the module shows, and what becomes of a label of the whole scan, as it sends one."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from tiny_served import put, sent, waiting
from tiny_target import NAME, truth

from nnunet_active.campaign.campaign import Campaign
from nnunet_active.data.partial_labels import keep_slices
from nnunet_active.rounds.between_rounds import select
from nnunet_active.rounds.target_preparation import SelectOptions
from nnunet_active.util.log import silent

pytest.importorskip("fastapi")

from fastapi.testclient import TestClient

from nnunet_active.server.app import make_app
from nnunet_active.server.served_campaign import ServedCampaign
from nnunet_active.server.service import AnnotationService

MADE = {"labelled": 0, "unlabelled": 2}
IGNORE = 3


def test_only_the_slices_that_were_asked_for_are_named_shown_and_taken(target, tmp_path):
    settings = {"unit": "slice", "per_case": 2}
    options = SelectOptions(NAME, target.configuration, model=target.model, n=2, strategy="random", settings=settings)
    select(SelectOptions(**{**vars(options), "add_ignore_label": True, "processes": 1}), log=silent)
    campaign = Campaign.open(target.preprocessed, "0")
    client = TestClient(make_app(AnnotationService(ServedCampaign(NAME, "0"))))
    assert client.get("/info/").json()["labels"] == ["oedema", "core"]  # nobody draws the ignore label
    sample = client.post("/activelearning/worklist", json={"client_id": "ann"}).json()
    case, request = sample["id"], campaign.rounds[-1].slices[sample["id"]]
    assert sample["PatientID"] == f"{case}: {request.words()} only"
    file = tmp_path / "a.seg.nrrd"
    file.write_bytes(client.post(f"/infer/nnU-Net?image={case}&output=image").content)
    shown = sitk.GetArrayFromImage(sitk.ReadImage(str(file)))
    assert not np.delete(shown, request.slices, axis=0).any()
    drawn = shown.copy()
    drawn[list(request.slices)] = truth(int(case[-1]))[list(request.slices)]
    assert put(client, case, sent(tmp_path, drawn), ["oedema", "core"]).json()["taken"]
    label = sitk.GetArrayFromImage(sitk.ReadImage(str(target.raw / "labelsTr" / f"{case}.nii.gz")))
    np.testing.assert_array_equal(label, keep_slices(truth(int(case[-1])), 0, request.slices, IGNORE))
    assert case not in waiting(target)
