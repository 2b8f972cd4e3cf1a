"""Where slices are asked for: what the module shows, and what becomes of a label of the whole scan, as it sends one."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
from tiny_served import put, sent, waiting
from tiny_target import NAME, truth

from nnunet_active.campaign.campaign import Campaign
from nnunet_active.campaign.campaign_round import RoundContent
from nnunet_active.campaign.slice_request import SliceRequest
from nnunet_active.data.partial_labels import keep_slices
from nnunet_active.returned.ingest import ingest
from nnunet_active.rounds.between_rounds import select
from nnunet_active.rounds.target_preparation import SelectOptions
from nnunet_active.util.errors import BadCase
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


def ask(target) -> dict:
    """A round of one slice of each case; the slices."""
    settings = {"unit": "slice", "per_case": 1}
    options = SelectOptions(NAME, target.configuration, model=target.model, n=2, strategy="random", settings=settings)
    select(SelectOptions(**{**vars(options), "add_ignore_label": True, "processes": 1}), log=silent)
    return Campaign.open(target.preprocessed, "0").rounds[-1].slices


def label_in_folder(target, number: int, case: str, index: int) -> None:
    """What a colleague does who works in the hand-off folder."""
    file = Campaign.open(target.preprocessed, "0").handoff_folder(number) / case / f"{case}.nii.gz"
    image = sitk.ReadImage(str(file))
    array = sitk.GetArrayFromImage(image)
    array[index] = truth(int(case[-1]))[index]
    edited = sitk.GetImageFromArray(array)
    edited.CopyInformation(image)
    sitk.WriteImage(edited, str(file), True)
    assert case in ingest(NAME, "0", log=silent).taken


def label_of(target, case: str) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(target.raw / "labelsTr" / f"{case}.nii.gz")))


@pytest.mark.parametrize("before", ["taken from a colleague", "sent", "refused"])
def test_slices_that_a_later_round_asks_for_are_not_answered_by_whoever_was_never_shown_them(target, tmp_path, before):
    first = ask(target)
    service = AnnotationService(ServedCampaign(NAME, "0"))
    case = service.next_sample("worklist", "ann")["id"]
    (mine,) = first[case].slices
    drawn = np.zeros_like(truth(0))
    drawn[mine], drawn[mine, 1, 1] = truth(int(case[-1]))[mine], 2

    def submit(who: str = "ann") -> dict:
        return service.submit(case, who, sent(tmp_path, drawn), "x.nii.gz", ["oedema", "core"])

    if before == "sent":
        assert submit()["taken"]
    else:
        label_in_folder(target, 1, case, mine)
    for other in set(first) - {case}:
        label_in_folder(target, 1, other, first[other].slices[0])
    second = ask(target)
    (later,) = second[case].slices
    if before == "refused":
        with pytest.raises(BadCase):
            service.submit(case, "ann", sent(tmp_path, drawn), "x.nii.gz", ["oedema", "liver"])
    answer = submit()
    assert answer["taken"] and any(
        f"slice {later + 1} along z" in note and "press Next Sample" in note for note in answer["notes"]
    )
    np.testing.assert_array_equal(label_of(target, case), keep_slices(drawn, 0, [mine], IGNORE))
    campaign = Campaign.open(target.preprocessed, "0")
    assert campaign.waiting_slices()[case].slices == (later,) and campaign.known_slices()[case].slices == (mine,)
    assert {service.next_sample("worklist", "ann")["id"] for _ in range(2)} == set(second)  # now it is shown
    drawn[later] = truth(int(case[-1]))[later]
    assert submit()["taken"] and case not in waiting(target)
    np.testing.assert_array_equal(label_of(target, case), keep_slices(drawn, 0, [mine, later], IGNORE))


def test_slices_of_a_round_that_is_not_handed_over_yet_are_neither_shown_nor_answered(target):
    first = ask(target)
    service = AnnotationService(ServedCampaign(NAME, "0"))
    campaign = Campaign.open(target.preprocessed, "0")
    case, request = next(iter(first.items()))
    free = next(index for index in range(len(truth(0))) if index not in request.slices)
    scores, utilities = pd.DataFrame({"utility": [1.0]}, index=[case]), pd.DataFrame([[1.0]], columns=[case])
    worklist, asked = pd.DataFrame({"case": [case]}), {case: SliceRequest("z", (free,))}
    new = RoundContent([case], scores, utilities, worklist, slices=asked)
    with campaign.lock():
        campaign.append_round(new, made_by="select")
    assert service.served.cases()[case].slices == request
