"""The client of the MONAI Label package itself. It needs an older NumPy than nnU-Net, so it runs from its wheel, in its own process:

pip download monailabel --no-deps -d FOLDER; export MONAILABEL_WHEEL=FOLDER/monailabel-...whl
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from tiny_handoff import predicted, voxels
from tiny_served import MADE as MADE
from tiny_served import sent, served_campaign, waiting
from tiny_target import truth

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

import uvicorn

from nnunet_active.server.app import make_app
from nnunet_active.server.listening import open_socket

TOKEN = "0123456789"
ROUND = """
import json, sys
sys.path.insert(0, sys.argv[1])
from monailabel.client import MONAILabelClient
_, _, address, folder, label, names, who = sys.argv
client = MONAILabelClient(address, folder, who)
said = {"auth": client.auth_enabled(), "info": client.info(), "training": client.train_status(True)}
said["sample"] = client.next_sample("worklist", {})
case = said["sample"]["id"]
said["names"] = client.datastore()["objects"][case]["labels"]["original"]["info"]["params"]["label_names"]
said["original"] = client.download_label(case, "original")
said["prediction"], said["params"] = client.infer("nnU-Net", case, {"result_extension": ".nrrd"})
info = [{"name": name, "idx": index} for index, name in enumerate(json.loads(names), 1)]
try:
    said["saved"] = client.save_label(case, label, params={"label_info": info, "model": "nnU-Net"})
except Exception as error:
    said["refused"] = error.msg
print(json.dumps(said))
"""


@pytest.fixture
def wheel() -> Path:
    named = os.environ.get("MONAILABEL_WHEEL")
    if not named or not Path(named).is_file():
        pytest.skip("no wheel of monailabel; name one in MONAILABEL_WHEEL")
    pytest.importorskip("cgi", reason="monailabel's client needs Python's cgi, which 3.13 lacks")
    pytest.importorskip("requests")
    return Path(named)


@contextmanager
def running(service):
    with open_socket("127.0.0.1", 0) as listening:
        config = uvicorn.Config(make_app(service, TOKEN), access_log=False, log_level="warning")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}/{TOKEN}"
        finally:
            server.should_exit = True
            thread.join()


def annotate(wheel: Path, address: str, label: Path, names: list[str], who: str = "ann") -> dict:
    words = [str(wheel), address, str(label.parent), str(label), json.dumps(names), who]
    process = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", ROUND, *words], capture_output=True, text=True, timeout=300
    )
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout)


def test_a_round_with_the_real_client_ends_with_labels_that_are_the_truth_voxel_for_voxel(target, tmp_path, wheel):
    service = served_campaign(target, "case_3", "case_1")
    with running(service) as address:
        first = annotate(wheel, address, sent(tmp_path, truth(3)), ["oedema", "core"])
        swapped = np.array([0, 2, 1], dtype=np.uint8)[truth(1)]
        second = annotate(wheel, address, sent(tmp_path, swapped, ".nrrd"), ["core", "oedema"], "bob")
        with_nothing = service.next_sample("worklist", "carol")
    assert not first["auth"] and not first["training"] and first["info"]["labels"] == ["oedema", "core"]
    assert first["names"] == first["params"]["label_names"] == {"oedema": 1, "core": 2}
    for said in (first["original"], first["prediction"]):
        np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(said)), predicted("case_3"))
    assert first["saved"]["taken"] and second["saved"]["taken"] and with_nothing == {} and waiting(target) == []
    for seed in (3, 1):
        np.testing.assert_array_equal(voxels(target.raw / "labelsTr" / f"case_{seed}.nii.gz"), truth(seed))


def test_a_refusal_reaches_the_annotator_as_the_sentence_of_ingest(target, tmp_path, wheel):
    service = served_campaign(target, "case_3")
    with running(service) as address:
        said = annotate(wheel, address, sent(tmp_path, truth(3)), ["oedema", "liver"])
    assert "Status: 422" in said["refused"] and "segment 'liver'" in said["refused"] and waiting(target) == ["case_3"]
