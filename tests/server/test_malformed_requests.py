"""A thousand requests that no client would send: every answer is a sentence, and nothing has changed afterwards."""

from __future__ import annotations

import json
import random

import pytest
from tiny_served import MADE as MADE
from tiny_served import sent, served_campaign, waiting
from tiny_target import truth

pytest.importorskip("fastapi")

from fastapi.testclient import TestClient

from nnunet_active.server.app import make_app

TOKEN = "0123456789"
PATHS = (
    *("/info/", "/datastore/", "/datastore/image", "/datastore/label", "/infer/nnU-Net", "/activelearning/worklist"),
    *["/datastore/label"] * 10,
    *("/train/", "/session/", "/auth/token", "/", "//", "/datastore/../../etc/passwd", "/infer/", "/logs/", "/\u00e4"),
)
NAMES = (
    *["case_3"] * 8,
    "case_3",
    "case_9",
    "../case_3",
    "%00",
    "..%2f..%2fcase_3",
    "",
    "a" * 400,
    "\u00e9\u2028",
    "-rf",
    "CON",
    "null",
)
TEXTS = ("{}", "[]", "null", "{", '{"client_id": 3}', '{"client_id": "\\u0000"}', '{"label_info": 7}', "[" * 2000)
TEXTS += (
    '{"label_info": [{"name": "oedema"}, 3]}',
    '{"label_info": [{"name": ""}]}',
    '{"label_info": {"name": "x"}}',
    "\ud7ff",
)
BODIES = (
    b"",
    b"\x00" * 50,
    b"--x\r\n\r\n--x--\r\n",
    b"\xff\xfe",
    b"params={}",
    b"--x\r\nContent-Disposition: form-data\r\n\r\n",
)
TYPES = (
    "multipart/form-data; boundary=x",
    "multipart/form-data",
    "application/json",
    "text/plain",
    "",
    "\u00fc".encode("latin-1"),
)


def requests(seed: int, label: bytes):
    """Method, URL, and what else httpx is told."""
    draw = random.Random(seed)
    for _ in range(1000):
        how = {"headers": {}}
        key = draw.choice(("image", "image", "image", "label", "tag", "output", "x"))
        params = {key: draw.choice(NAMES), draw.choice(("image", "label", "output")): draw.choice(NAMES)}
        if draw.random() < 0.5:
            how |= {"content": draw.choice(BODIES)}
            how["headers"]["content-type"] = draw.choice(TYPES)
        else:
            cut = label[: draw.randrange(len(label))]
            how |= {"data": {"params": draw.choice(TEXTS)}}
            how |= {
                "files": {draw.choice(("label", "file")): (draw.choice(("a.nii.gz", "../a.nrrd", "", "a.exe")), cut)}
            }
        prefix = draw.choice((f"/{TOKEN}", f"/{TOKEN}", f"/{TOKEN}", "", "/other"))
        method = draw.choice(("GET", "POST", "PUT", "PUT", "PUT", "PUT", "DELETE", "HEAD", "PATCH", "FOO"))
        yield method, prefix + draw.choice(PATHS), {**how, "params": params}


def state(target) -> dict[str, bytes]:
    """Every file but the claims, which a well-formed request among them may make."""
    return {
        str(file.relative_to(target.root)): file.read_bytes()
        for file in target.root.rglob("*")
        if file.is_file() and file.name not in ("served.json", ".lock") and not file.is_symlink()
    }


def test_a_thousand_malformed_requests_are_answered_and_change_nothing(target, tmp_path_factory, capsys):
    service = served_campaign(target, "case_3", "case_1")
    label = sent(tmp_path_factory.mktemp("sent"), truth(3)).read_bytes()
    client = TestClient(make_app(service, TOKEN))
    before, statuses = state(target), {}
    for number, (method, url, how) in enumerate(requests(5, label)):
        answer = client.request(method, url, **how)
        told = f"request {number}: {method} {url} -> {answer.status_code} {answer.text[:200]!r}"
        assert answer.status_code < 500 and "Traceback" not in answer.text, told
        if not url.startswith(f"/{TOKEN}"):
            assert answer.status_code == 404, told
        if answer.status_code >= 400 and method != "HEAD":
            assert json.loads(answer.text)["detail"], told
            assert str(target.root) not in answer.text, told
        statuses[answer.status_code] = statuses.get(answer.status_code, 0) + 1
    assert state(target) == before and waiting(target) == ["case_3", "case_1"]
    assert statuses.get(422, 0) > 90 and statuses.get(404, 0) > 200
    assert "Traceback" not in capsys.readouterr().err
