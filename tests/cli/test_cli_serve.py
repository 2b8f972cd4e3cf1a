from __future__ import annotations

import contextlib
import json
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request

import pytest
from tiny_served import MADE as MADE
from tiny_served import served_campaign

from nnunet_active.cli.main import main

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")


def served(*words: str) -> tuple[subprocess.Popen, str, str]:
    """A server in a process of its own, its address, and what it said."""
    command = [sys.executable, "-m", "nnunet_active", "serve", "-d", "902", "--port", "0", *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    said = ""
    for line in process.stdout:
        said += line
        if found := re.search(r"http://\S+", line):
            return process, found[0], said
    raise AssertionError(process.stderr.read())


def get(address: str) -> tuple[int, dict]:
    try:
        with urllib.request.urlopen(address, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


GARBAGE = (
    b"",
    b"\x16\x03\x01\x02\x00",  # somebody who thinks that it is HTTPS
    b"GET\r\n\r\n",
    b"GET /info/ HTTP/1.1\r\n\r\n",  # no host
    b"GET /info/ HTTP/9.9\r\nHost: 127.0.0.1\r\n\r\n",
    b"GET /%ff%00/\xff HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    b"GET http://evil.example/info/ HTTP/1.1\r\nHost: evil.example\r\n\r\n",
    b"GET /info/ HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"x" * 200_000 + b"\r\n\r\n",
    b"PUT /datastore/label?image=case_3 HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99999999999\r\n\r\n",
    b"PUT /datastore/label?image=case_3 HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 50\r\n\r\nshort",
    b"POST /activelearning/worklist HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFF\r\nx",
    b"GET /info/ HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: eA==\r\nSec-WebSocket-Version: 13\r\n\r\n",
)


def send(address: str, content: bytes) -> bytes:
    """What a server says to bytes that need not be a request."""
    host, _, port = address.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(content)
        with contextlib.suppress(OSError):  # it may have closed already: then what it said is there to read
            connection.shutdown(socket.SHUT_WR)
        try:
            return connection.recv(1 << 16)
        except ConnectionError:
            return b""


def end(process: subprocess.Popen) -> None:
    process.send_signal(signal.SIGINT)
    _, complaints = process.communicate(timeout=60)
    assert "Traceback" not in complaints and process.returncode in (0, 130)


def test_on_this_machine_alone_it_needs_no_token_says_its_limits_and_survives_what_is_no_request(target, capsys):
    served_campaign(target, "case_3", "case_1")
    process, address, said = served()
    try:
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+", address)
        before = get(f"{address}/info/")[1]["datastore"]
        assert before["total"] == 2
        answers = [send(address, content) for content in GARBAGE]
        assert not any(b" 500 " in one or b"Traceback" in one for one in answers)
        assert get(f"{address}/info/")[1]["datastore"] == before
        assert main(["serve", "-d", "902", "--port", "0"]) == 2  # two would give one case to two annotators
        assert "is in use by process" in capsys.readouterr().err
    finally:
        end(process)
    assert "one scalar volume a case" in said and "Client-ID" in said and "nnunet_active next -d 902" in said


def test_a_label_whose_sender_is_gone_half_way_does_not_keep_the_server_from_ending(target):
    served_campaign(target, "case_3")
    process, address, _ = served()
    host, _, port = address.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(
            b"PUT /datastore/label?image=case_3 HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9000\r\n"
            b'Content-Type: multipart/form-data; boundary=B\r\n\r\n--B\r\nContent-Disposition: form-data; name="label"; '
            b'filename="x.nii.gz"\r\n\r\nhalf'
        )
        assert get(f"{address}/info/")[0] == 200
        try:
            end(process)
        finally:
            process.kill()


def test_for_other_machines_the_address_ends_with_a_token_and_nothing_is_served_without(target):
    served_campaign(target, "case_3")
    process, address, said = served("--host", "0.0.0.0")
    try:
        # nobody can connect to 0.0.0.0 from elsewhere
        assert address.startswith(f"http://{socket.gethostname()}:")
        address = address.replace(socket.gethostname(), "127.0.0.1")
        root, _, token = address.rpartition("/")
        assert len(token) >= 16 and get(f"{address}/info/")[0] == 200
        assert get(f"{root}/info/")[0] == 404 and get(f"{root}/x/info/")[0] == 404
    finally:
        end(process)
    assert "The connection is not encrypted" in said


def test_a_mistake_is_one_sentence(target, capsys):
    assert main(["serve", "-d", "902"]) == 2
    assert "There is no campaign for fold 0" in capsys.readouterr().err
    served_campaign(target, "case_3")
    assert main(["serve", "-d", "902", "--token", "short"]) == 2
    assert "--token needs at least 8 characters." in capsys.readouterr().err
    assert main(["serve", "-d", "902", "--token", "secret?token#1"]) == 2
    assert "--token becomes a part of the address; use letters, digits" in capsys.readouterr().err
    assert main(["serve", "-d", "902", "--host", "192.0.2.1"]) == 2
    assert "Nothing can listen at 192.0.2.1" in capsys.readouterr().err


@pytest.mark.parametrize("library", ["uvicorn", "python_multipart"])
def test_without_its_libraries_one_sentence_says_what_to_install(target, capsys, monkeypatch, library):
    for name in [name for name in sys.modules if name.startswith("nnunet_active.server.app")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    assert main(["serve", "-d", "902"]) == 2
    assert (
        f'needs {library}, which is not installed; pip install "nnunet_active[server]" brings it'
        in capsys.readouterr().err
    )
