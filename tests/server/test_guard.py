from __future__ import annotations

import pytest

pytest.importorskip("fastapi")

from fastapi import FastAPI, Request
from fastapi.testclient import TestClient

from nnunet_active.server import guard
from nnunet_active.server.guard import Guard

TOKEN = "a-long-token"


def inner() -> FastAPI:
    app = FastAPI()

    @app.get("/info/")
    def info():
        return {"fine": True}

    @app.post("/small")
    @app.post("/file/here")
    async def take(request: Request):
        return {"bytes": len(await request.body())}

    return app


def client(**how) -> TestClient:
    return TestClient(Guard(inner(), **how))


def test_with_a_token_nothing_is_served_at_any_other_path():
    caller = client(token=TOKEN)
    assert caller.get(f"/{TOKEN}/info/").json() == {"fine": True}
    for path in ("/info/", "/", f"/{TOKEN[:-1]}/info/", f"//{TOKEN}/info/", f"/{TOKEN}x/info/", "/%2e%2e/info/"):
        assert caller.get(path).status_code == 404, path


def test_a_page_in_a_browser_cannot_call_a_local_server_by_another_name():
    caller = client(hosts=["127.0.0.1", "localhost", "[::1]"])
    for host in ("127.0.0.1:8000", "localhost", "LOCALHOST:1", "[::1]:8000", "[::1]"):
        assert caller.get("/info/", headers={"host": host}).status_code == 200, host
    for host in ("evil.example", "127.0.0.1.evil.example:8000", ""):
        assert caller.get("/info/", headers={"host": host}).status_code == 421, host


def test_a_web_page_gets_no_answer_also_where_it_knows_the_right_name():
    caller = client(hosts=["localhost"])
    said = {"host": "localhost:8000", "content-type": "text/plain"}
    assert caller.post("/small", content=b"{}", headers=said).status_code == 200
    for origin in ("https://evil.example", "null"):
        assert caller.post("/small", content=b"{}", headers={**said, "origin": origin}).status_code == 403


def test_bodies_are_limited_also_where_their_length_is_not_told(monkeypatch):
    monkeypatch.setattr(guard, "SMALL", 100)
    monkeypatch.setattr(guard, "LARGE", 1000)
    caller = client(with_files=["/file"])
    assert caller.post("/small", content=b"x" * 100).json() == {"bytes": 100}
    assert caller.post("/file/here", content=b"x" * 1000).json() == {"bytes": 1000}
    for path, size in (("/small", 101), ("/file/here", 1001)):
        assert caller.post(path, content=b"x" * size).status_code == 413
        assert caller.post(path, content=(b"x" for _ in range(size))).status_code == 413
    assert caller.post("/small", content=b"", headers={"content-length": "-1"}).status_code == 413


def test_what_was_not_foreseen_is_a_sentence():
    async def broken(scope, receive, send):
        raise RuntimeError("of all things")

    answer = TestClient(Guard(broken)).get("/")
    assert answer.status_code == 500 and "did not foresee: RuntimeError: of all things" in answer.json()["detail"]
    assert "Traceback" not in answer.text
