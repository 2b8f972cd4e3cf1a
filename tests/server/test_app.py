from __future__ import annotations

import email
import json
import threading

import numpy as np
import pytest
import SimpleITK as sitk
from tiny_handoff import predicted, voxels
from tiny_served import MADE as MADE
from tiny_served import put, sent, served_campaign, waiting
from tiny_target import truth

pytest.importorskip("fastapi")

from fastapi.testclient import TestClient

from nnunet_active.server.app import make_app
from nnunet_active.server.service import MODEL

NAMES = ["oedema", "core"]


@pytest.fixture
def service(target):
    return served_campaign(target, "case_3", "case_1")


@pytest.fixture
def client(service):
    return TestClient(make_app(service))


def next_case(client, who: str):
    return client.post("/activelearning/worklist", json={"client_id": who}).json().get("id")


def test_a_round_as_the_module_makes_it(client, target, tmp_path):
    assert client.get("/auth/").status_code == 404  # no log-in
    assert client.get("/info/").json()["labels"] == NAMES
    assert client.get("/train/?check_if_running=true").status_code == 404
    sample = client.post("/activelearning/worklist", json={"client_id": "ann"}).json()
    image = client.get("/datastore/image", params={"image": sample["id"]})
    assert image.content == (target.raw / "imagesTr" / "case_3_0000.nii.gz").read_bytes()
    assert put(client, sample["id"], sent(tmp_path, truth(3)), NAMES).json()["taken"]
    np.testing.assert_array_equal(voxels(target.raw / "labelsTr" / "case_3.nii.gz"), truth(3))
    assert next_case(client, "ann") == "case_1" and waiting(target) == ["case_1"]


def test_run_gives_the_prediction_in_two_parts_in_one_or_its_names_alone(client, tmp_path):
    url = f"/infer/{MODEL}?image=case_3"
    answer = client.post(url, data={"params": "{}"})
    head = f"Content-Type: {answer.headers['content-type']}\r\n\r\n".encode()
    params, image = email.message_from_bytes(head + answer.content).get_payload()
    assert json.loads(params.get_payload()) == {"label_names": {"oedema": 1, "core": 2}}
    assert image.get_filename() == "case_3.seg.nrrd"
    (tmp_path / "a.seg.nrrd").write_bytes(client.post(f"{url}&output=image").content)
    np.testing.assert_array_equal(
        sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "a.seg.nrrd"))), predicted("case_3")
    )
    assert client.post(f"{url}&output=json").json() == {"label_names": {"oedema": 1, "core": 2}}


def test_the_original_label_is_the_prediction_with_a_name_that_tells_its_ending(client):
    answer = client.get("/datastore/label?label=case_3&tag=original")
    assert answer.headers["content-disposition"] == 'attachment; filename="case_3.seg.nrrd"'
    assert answer.content == client.post(f"/infer/{MODEL}?image=case_3&output=image").content
    assert client.get("/datastore/label?label=case_3&tag=final").status_code == 404


def test_a_refused_label_is_told_in_the_sentence_of_ingest(client, target, tmp_path):
    answer = put(client, "case_3", sent(tmp_path, truth(3)), ["oedema", "liver"])
    assert answer.status_code == 422 and "segment 'liver'" in answer.json()["detail"]
    assert waiting(target) == ["case_3", "case_1"]


@pytest.mark.parametrize(
    "name", ["../case_3", "case_3/../case_3", "/etc/passwd", "case_3\x00", "", "x" * 300, "case_9"]
)
def test_a_name_is_looked_up_and_never_becomes_a_path(client, tmp_path, name):
    calls = [
        client.get("/datastore/image", params={"image": name}),
        client.get("/datastore/label", params={"label": name}),
        client.post(f"/infer/{MODEL}", params={"image": name}),
        put(client, name, sent(tmp_path, truth(3)), NAMES),
    ]
    assert {answer.status_code for answer in calls} <= {404, 422}


def test_the_name_of_the_file_that_a_client_sends_is_no_path_either(client, target, tmp_path):
    before = {file for file in tmp_path.rglob("*") if file.is_file()}
    files = {"label": ("../../../../escaped.nii.gz", sent(tmp_path, truth(3)).read_bytes())}
    answer = client.put("/datastore/label?image=case_3", data={"params": json.dumps({"client_id": "ann"})}, files=files)
    assert answer.status_code == 200
    new = {file for file in tmp_path.rglob("*") if file.is_file()} - before
    assert not [file for file in new if "escaped" in file.name]


def test_what_was_not_foreseen_is_a_sentence(client, service, monkeypatch):
    monkeypatch.setattr(service, "stats", lambda: 1 / 0)
    answer = client.get("/info/")
    assert answer.status_code == 500 and "did not foresee: ZeroDivisionError" in answer.json()["detail"]


def test_what_was_not_foreseen_names_no_folder_of_this_machine(client, service, monkeypatch):
    monkeypatch.setattr(service, "stats", lambda: (service.served.folder / "lost").read_text())
    answer = client.get("/info/")
    assert answer.status_code == 500 and "/lost" in answer.text
    assert str(service.served.folder.parents[2]) not in answer.text


def test_what_is_not_offered_is_said(client):
    assert "nnUNetv2_train does that" in client.post("/train/x", json={}).json()["detail"]
    assert "press Next Sample" in client.put("/session/", content=b"").json()["detail"]
    assert "There is no strategy 'random' here" in client.post("/activelearning/random", json={}).json()["detail"]
    assert "There is no model 'sam' here" in client.post("/infer/sam?image=case_3").json()["detail"]


def test_two_clients_at_once_get_different_cases_and_no_label_is_lost(client, target, tmp_path):
    given, answers = {}, {}

    def annotate(who: str) -> None:
        case = given[who] = next_case(client, who)
        file = sent(tmp_path / who, truth(int(case[-1])))
        answers[who] = put(client, case, file, NAMES, who).json()

    threads = [threading.Thread(target=annotate, args=[who]) for who in ("ann", "bob")]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert sorted(given.values()) == ["case_1", "case_3"] and all(one["taken"] for one in answers.values())
    assert waiting(target) == []
    for case in given.values():
        np.testing.assert_array_equal(voxels(target.raw / "labelsTr" / f"{case}.nii.gz"), truth(int(case[-1])))
