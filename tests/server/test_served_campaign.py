from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
from tiny_handoff import ask, hand_out, predicted
from tiny_rounds import CONFIGURATION
from tiny_served import MADE as MADE
from tiny_served import served_campaign
from tiny_target import NAME, PLANS

pytest.importorskip("fastapi")

from fastapi.testclient import TestClient

from nnunet_active.campaign.campaign_start import draft_campaign, start_campaign
from nnunet_active.campaign.place import Place
from nnunet_active.campaign.settings import Settings
from nnunet_active.data.geometry import Geometry
from nnunet_active.data.segments import segments_of
from nnunet_active.server.app import make_app
from nnunet_active.server.served_campaign import ServedCampaign, checksum
from nnunet_active.util.errors import CampaignError, MissingInput
from nnunet_active.util.log import silent


def test_cases_come_in_the_order_of_the_worklist_with_the_channel_to_open_first(target):
    cases = served_campaign(target, "case_3", "case_1").served.cases()
    assert list(cases) == ["case_3", "case_1"] and all(one.waits for one in cases.values())
    assert cases["case_3"].image == target.raw / "imagesTr" / "case_3_0000.nii.gz" and cases["case_3"].channel == "T1"


def test_what_is_not_handed_over_is_not_served(target):
    served = served_campaign(target, "case_3", "case_1").served
    content = json.loads((target.root / "handoff" / "handoff.json").read_text())
    del content["cases"]["case_1"]
    (target.root / "handoff" / "handoff.json").write_text(json.dumps(content))
    assert list(served.cases()) == ["case_3"]
    next(target.preprocessed.rglob("predictions/round_001/case_3.nii.gz")).unlink()
    assert served.cases() == {}


def test_the_prediction_is_that_of_the_archive_with_names_where_the_image_lies(target, tmp_path):
    served = served_campaign(target, "case_3").served
    (target.root / "handoff" / "case_3" / "case_3.nii.gz").unlink()  # an annotator's file
    file = tmp_path / "a.seg.nrrd"
    file.write_bytes(served.prediction("case_3", served.cases()["case_3"]))
    image = sitk.ReadImage(str(file))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), predicted("case_3"))
    assert Geometry.of_itk(image).fits(Geometry.of_file(served.cases()["case_3"].image))
    names = {key: image.GetMetaData(key) for key in image.GetMetaDataKeys()}
    assert [(one.name, one.value) for one in segments_of(names)] == [("oedema", 1), ("core", 2)]
    assert [label.name for label in served.labels()] == ["oedema", "core"]


def test_a_campaign_that_asks_nobody_and_one_that_is_not_there_are_refused(target):
    with pytest.raises(MissingInput, match="no campaign for fold 0"):
        ServedCampaign(NAME, "0")
    start_campaign(Place.of(NAME, CONFIGURATION, PLANS, "0"), Settings(budget=3), "retrospective", log=silent)
    with pytest.raises(CampaignError, match="nothing is to be annotated"):
        ServedCampaign(NAME, "0")


def test_of_a_case_that_is_asked_for_slices_only_these_hold_the_prediction(target, tmp_path, monkeypatch):
    from nnunet_active.campaign.campaign import Campaign
    from nnunet_active.campaign.slice_request import SliceRequest

    served = served_campaign(target, "case_3").served
    case = served.cases()["case_3"]
    file = tmp_path / "a.seg.nrrd"
    asked = replace(case, slices=SliceRequest("z", (5, 7)))
    file.write_bytes(served.prediction("case_3", asked))
    found = sitk.GetArrayFromImage(sitk.ReadImage(str(file)))
    expected = np.zeros_like(found)
    expected[[5, 7]] = predicted("case_3")[[5, 7]]
    np.testing.assert_array_equal(found, expected)
    assert Campaign.open(target.preprocessed, "0").waiting() == ["case_3"]


def test_a_checksum_follows_the_content(tmp_path):
    file = tmp_path / "a"
    for content in (b"one", b"other"):
        file.write_bytes(content)
        assert checksum(file) == f"SHA256:{hashlib.sha256(content).hexdigest()}"


def test_a_round_that_is_handed_over_while_the_server_runs_is_served(target):
    service = served_campaign(target, "case_3")
    campaign = start_campaign.__globals__["Campaign"].open(target.preprocessed, "0")
    with campaign.lock():
        campaign.extend(1)
    ask(campaign, "case_2")
    hand_out(target, campaign, target.root / "second")
    assert {case: one.round for case, one in service.served.cases().items()} == {"case_3": 1, "case_2": 2}


def test_a_label_in_labels_tr_is_seen_whether_it_counts_or_not(target):
    served = served_campaign(target, "case_3").served
    assert not served.has_label("case_3")
    target.label("case_3", 3)
    assert served.has_label("case_3")


def test_of_channels_that_lie_apart_the_first_is_shown_since_the_label_has_to_lie_on_it(target):
    served = served_campaign(target, "case_3").served
    file = target.root / "handoff" / "handoff.json"
    content = json.loads(file.read_text())
    content["cases"]["case_3"]["open_first"] = "FLAIR"
    file.write_text(json.dumps(content))
    assert served.cases()["case_3"].channel == "FLAIR"
    second = target.raw / "imagesTr" / "case_3_0001.nii.gz"
    image = sitk.ReadImage(str(second))
    image.SetOrigin([image.GetOrigin()[0] + 1, *image.GetOrigin()[1:]])
    sitk.WriteImage(image, str(second))
    shown = served.cases()["case_3"]
    assert shown.channel == "T1" and shown.image == target.raw / "imagesTr" / "case_3_0000.nii.gz"


def test_a_server_hands_nothing_out_once_another_campaign_began_in_its_fold(target):
    service = served_campaign(target, "case_3")
    place = Place.of(NAME, CONFIGURATION, PLANS, "0")
    later = draft_campaign(place, Settings(budget=3), "folder").begin(restart=True, log=silent)
    ask(later, "case_3")
    hand_out(target, later, target.root / "handoff2")
    client = TestClient(make_app(service))
    answers = [
        client.get("/info/"),
        client.get("/datastore/image?image=case_3"),
        client.post("/activelearning/worklist", json={"client_id": "ann"}),
    ]
    assert {one.status_code for one in answers} == {409}
    assert "has another campaign by now; end this server and start serve again" in answers[0].json()["detail"]
    assert not (later.folder / "served.json").exists()
    assert list(ServedCampaign(NAME, "0").cases()) == ["case_3"]
