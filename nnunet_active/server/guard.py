"""Checks every request first: token, host name and size of the body. Turns every error into a sentence."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
from collections.abc import Callable, Collection

from starlette.exceptions import HTTPException

from nnunet_active.util.sentences import one_sentence

SMALL, LARGE = 1 << 20, 1 << 29
"""Most bytes of a body: for ordinary requests, and for those that send a file."""


class Guard:
    """An ASGI application that wraps another one.

    Args:
        app: the wrapped application.
        token: first part of every served path; empty for none.
        hosts: host names that the server answers to; empty for any. They keep a web page in a browser from reaching this machine's
            server under a host name of its own.
        with_files: beginnings of the paths of requests that send a file.
    """

    def __init__(
        self, app: Callable, token: str = "", hosts: Collection[str] = (), with_files: Collection[str] = ()
    ) -> None:
        self.app, self.token, self.hosts, self.with_files = app, token, set(hosts), tuple(with_files)

    async def __call__(self, scope: dict, receive: Callable, send: Callable) -> None:
        """See the ASGI specification."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        begun = False

        async def watched(message: dict) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            path = self._allowed(scope)
            limited = self._limited(scope, path, receive)
            await self.app({**scope, "path": path, "raw_path": path.encode()}, limited, watched)
        except HTTPException as error:
            await _say(watched, error.status_code, str(error.detail))
        except asyncio.CancelledError:  # the server is being shut down
            if not begun:
                await _say(watched, 503, "The server has ended; send it again.")
        except Exception as error:
            if not begun:
                await _say(watched, 500, one_sentence(error)[0])

    def _allowed(self, scope: dict) -> str:
        """The path without the token."""
        headers = dict(scope["headers"])
        host = re.sub(r":\d*$", "", headers.get(b"host", b"").decode("latin-1").lower())
        if self.hosts and host not in self.hosts:
            raise HTTPException(421, "This server does not answer to that name.")
        if (
            b"origin" in headers
        ):  # only web pages send an origin, and a browser sends some of their requests without asking first
            raise HTTPException(403, "Web pages are not answered here; take the MONAI Label module of 3D Slicer.")
        if not self.token:
            return scope["path"]
        first, _, rest = scope["path"].removeprefix("/").partition("/")
        if not secrets.compare_digest(first.encode(), self.token.encode()):
            raise HTTPException(
                404, "There is nothing here; the address has to end with the token that the server printed."
            )
        return f"/{rest}"

    def _limited(self, scope: dict, path: str, receive: Callable) -> Callable:
        most = LARGE if path.startswith(self.with_files) and self.with_files else SMALL
        told = dict(scope["headers"]).get(b"content-length", b"0")
        if not told.isdigit() or int(told) > most:
            raise HTTPException(413, f"A request of more than {most >> 20} MiB is not taken.")
        read = 0

        async def limited() -> dict:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > most:
                raise HTTPException(413, f"A request of more than {most >> 20} MiB is not taken.")
            return message

        return limited


async def _say(send: Callable, status: int, sentence: str) -> None:
    body = json.dumps({"detail": sentence}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
