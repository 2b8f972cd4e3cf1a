"""The HTTP routes: those of the MONAI Label protocol that its 3D Slicer module uses (github.com/Project-MONAI/MONAILabel)."""

from __future__ import annotations

import json
import secrets
import shutil
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, Response
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from nnunet_active.data.file_endings import SLICER_ENDING
from nnunet_active.server.guard import Guard
from nnunet_active.server.served_campaign import AnotherCampaign
from nnunet_active.server.service import MODEL, AnnotationService, UnknownName, without_folders
from nnunet_active.util.errors import ActiveError, CampaignInUse
from nnunet_active.util.sentences import one_sentence

_Name = Annotated[str, Query(max_length=250)]
_WITH_FILES = ("/datastore/label", "/infer/")
_MOST_SEGMENTS = 1000
_CONFLICTS = (CampaignInUse, AnotherCampaign)


def make_app(service: AnnotationService, token: str = "", hosts: Collection[str] = ()) -> Guard:
    """The whole server.

    Args:
        service: the campaign.
        token, hosts: see :class:`~nnunet_active.server.guard.Guard`.
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    _add_errors(app)
    _add_reading(app, service)
    _add_writing(app, service)
    return Guard(app, token, hosts, _WITH_FILES)


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(ActiveError)
    def refused(request: Request, error: ActiveError) -> JSONResponse:
        status = 404 if isinstance(error, UnknownName) else 409 if isinstance(error, _CONFLICTS) else 422
        return JSONResponse({"detail": str(error)}, status)

    @app.exception_handler(RequestValidationError)
    def malformed(request: Request, error: RequestValidationError) -> JSONResponse:
        places = sorted({str(one["loc"][-1]) for one in error.errors()})
        return JSONResponse({"detail": f"The request is not understood ({', '.join(places)})."}, 422)

    @app.exception_handler(Exception)
    def unforeseen(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"detail": without_folders(one_sentence(error)[0])}, 500)


def _add_reading(app: FastAPI, service: AnnotationService) -> None:
    @app.get("/info/")
    def info() -> dict[str, Any]:
        return service.info()

    @app.get("/datastore/")
    def datastore(output: str = Query("stats", pattern="^(stats|all|train)$")) -> Any:
        return [] if output == "train" else service.stats() if output == "stats" else service.datastore()

    @app.api_route("/datastore/image", methods=["GET", "HEAD"])
    def image(image: _Name) -> FileResponse:
        return FileResponse(service.case(image).image, media_type="application/octet-stream")

    @app.get("/datastore/label")
    def label(label: _Name, tag: str = Query("original", max_length=50)) -> Response:
        if tag != "original":
            raise HTTPException(404, "Only the original labels, the predictions, are served.")
        said = {"content-disposition": _attached(f"{label}{SLICER_ENDING}")}
        return Response(service.predicted(label)[0], media_type="application/octet-stream", headers=said)

    @app.api_route("/train/{model:path}", methods=["GET", "POST", "DELETE"])
    def train(model: str) -> None:
        raise HTTPException(404, "Nothing is trained here; nnUNetv2_train does that.")

    @app.api_route("/session/{name:path}", methods=["GET", "PUT", "DELETE"])
    def session(name: str) -> None:
        raise HTTPException(404, "Volumes of your own are not taken here; press Next Sample.")


def _add_writing(app: FastAPI, service: AnnotationService) -> None:
    @app.post("/activelearning/{strategy}")
    async def next_sample(strategy: str, request: Request) -> dict[str, Any]:
        given = _json(await request.body() or b"{}")
        return await run_in_threadpool(service.next_sample, strategy, _client(given))

    @app.post("/infer/{model}")
    async def infer(model: str, request: Request, image: _Name, output: str = Query("all", max_length=20)) -> Response:
        if model != MODEL:
            raise UnknownName(f"There is no model {model[:50]!r} here; take {MODEL!r}.")
        async for _ in request.stream():  # scribbles and settings do not change the prediction
            pass
        voxels, names = await run_in_threadpool(service.predicted, image)
        name = f"{image}{SLICER_ENDING}"
        if output == "json":
            return JSONResponse({"label_names": names})
        if output == "image":
            said = {"content-disposition": _attached(name)}
            return Response(voxels, media_type="application/octet-stream", headers=said)
        return _in_two_parts({"label_names": names}, name, voxels)

    @app.put("/datastore/label")
    async def submit(request: Request, image: _Name, tag: str = Query("", max_length=50)) -> dict[str, Any]:
        async with request.form(max_files=1, max_fields=3) as form:
            sent, params = form.get("label"), form.get("params") or "{}"
            if not isinstance(sent, UploadFile) or not isinstance(params, str):
                raise HTTPException(422, "The request holds no label.")
            given = _json(params)
            return await run_in_threadpool(_submit, service, image, sent, given)


def _submit(service: AnnotationService, case: str, sent: UploadFile, given: dict) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "sent"
        with file.open("wb") as content:
            shutil.copyfileobj(sent.file, content)
        return service.submit(case, _client(given), file, sent.filename or "", _segments(given))


def _json(text: str | bytes) -> dict[str, Any]:
    try:
        given = json.loads(text)
    except (ValueError, RecursionError):
        given = None
    if not isinstance(given, dict):
        raise HTTPException(422, "The request holds no JSON object.")
    return given


def _client(given: dict) -> str:
    client = given.get("client_id") or ""
    if not isinstance(client, str) or len(client) > 200 or not client.isprintable():
        raise HTTPException(422, "client_id has to be a short text.")
    return client


def _segments(given: dict) -> list[str] | None:
    """The names of the values 1, 2, ... of a label map."""
    told = given.get("label_info")
    if told is None:
        return None
    names = [one.get("name") for one in told if isinstance(one, dict)] if isinstance(told, list) else [None]
    good = all(isinstance(name, str) and 0 < len(name) <= 200 and name.isprintable() for name in names)
    if not good or len(names) != len(told) or len(names) > _MOST_SEGMENTS:
        raise HTTPException(422, "label_info has to be a list of objects with the names of the segments.")
    return names


def _attached(name: str) -> str:
    """The header in which the client finds the file ending; case names contain no quotation marks."""
    return f"attachment; filename*=utf-8''{quote(name)}" if not name.isascii() else f'attachment; filename="{name}"'


def _in_two_parts(params: dict, name: str, content: bytes) -> Response:
    """The reply of ``infer``; the module can only read ``multipart/form-data``."""
    boundary = secrets.token_hex(16)
    parts = (
        (b'name="params"', b"application/json", json.dumps(params).encode()),
        (f'name="image"; filename="{name}"'.encode(), b"application/octet-stream", content),
    )
    body = b"".join(
        b"--%s\r\nContent-Disposition: form-data; %s\r\nContent-Type: %s\r\n\r\n%s\r\n" % (boundary.encode(), *part)
        for part in parts
    )
    return Response(body + f"--{boundary}--\r\n".encode(), media_type=f"multipart/form-data; boundary={boundary}")
