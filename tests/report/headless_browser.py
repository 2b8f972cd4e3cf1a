"""A real browser for the tests: headless Chromium, spoken to through its DevTools pipe, so that nothing but the browser is needed."""

from __future__ import annotations

import base64
import itertools
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
SECONDS = 60

# the browser reads commands from descriptor 3 and writes answers to 4
LAUNCHER = """
import fcntl, os, sys
theirs = [fcntl.fcntl(int(number), fcntl.F_DUPFD, 10) for number in sys.argv[1:3]]
for number, descriptor in enumerate(theirs, 3):
    os.dup2(descriptor, number)
    os.close(descriptor)
os.execv(sys.argv[3], sys.argv[3:])
"""


def find_browser() -> str | None:
    """Its program: ``NNUNET_ACTIVE_TEST_BROWSER``, or what the PATH has."""
    named = os.environ.get("NNUNET_ACTIVE_TEST_BROWSER")
    return shutil.which(named) if named else next((found for name in NAMES if (found := shutil.which(name))), None)


class Page:
    """One page in a browser of its own; a context manager.

    Attributes:
        complaints: errors on the console, exceptions, and what the security policy stopped.
        requests: addresses that the page asked for, data addresses left out.
    """

    def __init__(self, browser: str, width: int = 1200, height: int = 900) -> None:
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self._numbers = itertools.count(1)
        self._buffer = b""
        self._home = tempfile.TemporaryDirectory(prefix="nnunet_active_browser_", ignore_cleanup_errors=True)
        command = [
            browser,
            "--headless",
            "--disable-gpu",
            "--no-first-run",
            "--disable-extensions",
            "--disable-background-networking",
            "--disable-component-update",
            "--remote-debugging-pipe",
            f"--user-data-dir={self._home.name}",
            f"--window-size={width},{height}",
            *(["--no-sandbox", "--disable-dev-shm-usage"] if os.geteuid() == 0 else []),
            "about:blank",
        ]
        theirs_in, self._to = os.pipe()
        self._from, theirs_out = os.pipe()
        launcher = [sys.executable, "-c", LAUNCHER, str(theirs_in), str(theirs_out), *command]
        self._process = subprocess.Popen(
            launcher, pass_fds=(theirs_in, theirs_out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._session: str | None = None
        targets = self.command("Target.getTargets")["targetInfos"]
        target = next(one["targetId"] for one in targets if one["type"] == "page")
        self._session = self.command("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.command(f"{domain}.enable")

    def __enter__(self) -> Page:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._to)
        os.close(self._from)
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._home.cleanup()

    def open(self, file: Path) -> None:
        """Load a file and wait until everything is there."""
        self.requests.clear()
        self.command("Page.navigate", url=file.resolve().as_uri())
        end = time.monotonic() + SECONDS
        while not self.run("document.readyState === 'complete' && [...document.images].every(i => i.complete)"):
            assert time.monotonic() < end, "the page does not finish loading"

    def run(self, script: str) -> Any:
        """Value of a JavaScript expression."""
        found = self.command("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def click(self, element: str) -> None:
        """Press the mouse on what a JavaScript expression names."""
        x, y = self.run(
            f"(e => {{e.scrollIntoView({{behavior: 'instant', block: 'center'}}); const r = e.getBoundingClientRect(); "
            f"return [r.x + r.width / 2, r.y + r.height / 2]}})({element})"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.command("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def press(self, key: str) -> None:
        """Press a key: ``Tab``, ``Enter`` or a space."""
        code, number, text = {"Tab": ("Tab", 9, ""), "Enter": ("Enter", 13, "\r"), " ": ("Space", 32, " ")}[key]
        more = {"key": key, "code": code, "windowsVirtualKeyCode": number}
        self.command("Input.dispatchKeyEvent", type="keyDown", **more, **({"text": text} if text else {}))
        self.command("Input.dispatchKeyEvent", type="keyUp", **more)

    def screenshot(self, file: Path, full: bool = True) -> Path:
        """The page as PNG."""
        content = self.command("Page.captureScreenshot", format="png", captureBeyondViewport=full)
        file.write_bytes(base64.b64decode(content["data"]))
        return file

    def pdf(self, file: Path) -> Path:
        """The page as it prints."""
        content = self.command("Page.printToPDF", preferCSSPageSize=True)
        file.write_bytes(base64.b64decode(content["data"]))
        return file

    def command(self, method: str, **parameters: Any) -> dict:
        """One DevTools command and its answer; events that come in between are noted."""
        number = next(self._numbers)
        content = {"id": number, "method": method, "params": parameters}
        if self._session and not method.startswith("Target."):
            content["sessionId"] = self._session
        message = json.dumps(content).encode() + b"\0"
        while message:
            message = message[os.write(self._to, message) :]
        while (answer := self._read()).get("id") != number:
            self._note(answer)
        assert "error" not in answer, f"{method}: {answer['error']}"
        return answer["result"]

    def _read(self) -> dict:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._from], [], [], SECONDS)
            assert ready, "the browser does not answer"
            part = os.read(self._from, 1 << 20)
            assert part, "the browser has ended"
            self._buffer += part
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def _note(self, event: dict) -> None:
        content = event.get("params", {})
        match event.get("method"):
            case "Runtime.exceptionThrown":
                self.complaints.append(content["exceptionDetails"].get("text", "exception"))
            case "Runtime.consoleAPICalled" if content["type"] in ("error", "warning", "assert"):
                self.complaints.append(str(content["args"]))
            case "Log.entryAdded" if content["entry"]["level"] in ("error", "warning"):
                self.complaints.append(content["entry"]["text"])
            case "Network.requestWillBeSent" if not content["request"]["url"].startswith("data:"):
                self.requests.append(content["request"]["url"])
