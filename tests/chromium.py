"""A headless Chromium that a test drives through a pipe, by the DevTools protocol; it needs no package.

It reaches pages of this machine alone: files, and servers on 127.0.0.1.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import PATIENCE_S

_NAMES = ("chromium", "chromium-browser", "google-chrome")
# The browser reads from descriptor 3 and writes to 4.
_START = """
import os, sys
ends = [os.dup2(int(end), 100 + place) for place, end in enumerate(sys.argv[1:3])]
for place, end in enumerate(ends):
    os.dup2(end, 3 + place)
os.execvp(sys.argv[3], sys.argv[3:])
"""
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--remote-debugging-pipe",
    "--mute-audio",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
)
_START_S = 120.0  # that a browser may take until it answers


@contextlib.contextmanager
def open_browser(folder: Path) -> Iterator[Chromium]:
    """A browser; a test that wants it is skipped where there is none, or none that starts. ``folder`` is new."""
    program = next(filter(None, map(shutil.which, _NAMES)), None)
    if program is None:
        pytest.skip("there is no Chromium here to open the page in")
    folder.mkdir()
    browser = Chromium(program, folder)
    try:
        try:
            browser.start()
        except BrowserEndedError as error:
            pytest.skip(f"{program} is here and does not start: {error}")
        yield browser
    finally:
        browser.close()


class BrowserEndedError(Exception):
    """The browser ended, or does not answer; with the end of what it printed."""


class Chromium:
    """One page, in place of which another can be opened.

    Attributes
    ----------
    complaints : what the console, the page's policy or its scripts complained of, and dialogs that it opened.
    """

    def __init__(self, program: str, folder: Path) -> None:
        theirs_in, self._write = os.pipe()
        self._read, theirs_out = os.pipe()
        self.complaints: list[str] = []
        self._buffer, self._number, self._session, self._patience_s = b"", 0, "", _START_S
        self._context = ""
        self._printed = folder / "printed"
        command = [program, *_FLAGS, f"--user-data-dir={folder / 'profile'}", "about:blank"]
        with self._printed.open("wb") as printed:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _START, str(theirs_in), str(theirs_out), *command],
                pass_fds=(theirs_in, theirs_out),
                env={**os.environ, "TMPDIR": "/tmp"},  # where it leaves files behind, not in memory
                stdout=printed,
                stderr=printed,
            )
        os.close(theirs_in)
        os.close(theirs_out)

    def start(self) -> None:
        """Open the page; BrowserEndedError where the program cannot."""
        self.renew()
        self._patience_s = PATIENCE_S

    def renew(self) -> None:
        """Another page, as if there had been none before: nothing stored, and nothing complained of."""
        self._session = ""
        if self._context:
            self.send("Target.disposeBrowserContext", browserContextId=self._context)
        self._context = self.send("Target.createBrowserContext")["browserContextId"]
        new = {"url": "about:blank", "browserContextId": self._context}
        target = self.send("Target.createTarget", **new)["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "DOM"):
            self.send(f"{domain}.enable")
        self.complaints = []

    def close(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self._write)
        self._process.kill()
        self._process.wait(PATIENCE_S)
        os.close(self._read)

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The result of a command of the protocol."""
        number = self._tell(method, **parameters)
        while True:
            message = self._next()
            if message.get("id") == number:
                assert "error" not in message, (method, message["error"])
                result: dict[str, Any] = message["result"]
                return result
            self._note(message)

    def open(self, url: str) -> None:
        self.send("Page.navigate", url=url)

    def show(self, page: Path, script: str, width: int = 1400) -> Any:
        """Open a page of a report and return what `ask` does of it; fails on anything that the browser complains of."""
        self.look(width, "light")
        self.open(page.as_uri())
        self.wait_for("document.documentElement?.dataset.ready === 'yes'")
        answer = self.ask(script)
        assert self.complaints == []
        return answer

    def ask(self, script: str) -> Any:
        """What the body of an async function returns in the page."""
        answer = self.send(
            "Runtime.evaluate", expression=f"(async () => {{ {script} }})()", awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait_for(self, condition: str) -> None:
        """Wait until an expression is true in the page; fails after a while."""
        waited = self.ask(
            f"for (let i = 0; i < {50 * PATIENCE_S:.0f}; i++) {{ if ({condition}) return true; "
            "await new Promise(next => setTimeout(next, 20)); } return false;"
        )
        assert waited, f"{condition} never came true; {self.complaints}"

    def choose_file(self, selector: str, path: Path) -> None:
        root = self.send("DOM.getDocument")["root"]["nodeId"]
        node = self.send("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.send("DOM.setFileInputFiles", nodeId=node, files=[str(path)])

    def press(self, key: str, code: int) -> None:
        """A key, as a keyboard sends it."""
        text = {"text": "\r"} if key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            self.send("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **text)

    def look(self, width: int, scheme: str, path: Path | None = None) -> None:
        """Show the page so wide and ``light`` or ``dark``; ``path`` is for a picture of all of it."""
        self.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        self.send("Emulation.setDeviceMetricsOverride", **size)
        if path is not None:
            shot = self.send("Page.captureScreenshot", captureBeyondViewport=True)
            path.write_bytes(base64.b64decode(shot["data"]))

    def _tell(self, method: str, **parameters: Any) -> int:
        """Send a command; its number."""
        self._number += 1
        session = {"sessionId": self._session} if self._session else {}
        command = {"id": self._number, "method": method, "params": parameters, **session}
        try:
            os.write(self._write, json.dumps(command).encode() + b"\0")
        except BrokenPipeError:
            raise self._ended("it ended") from None
        return self._number

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            if not select.select([self._read], [], [], self._patience_s)[0]:
                raise self._ended(f"it says nothing for {self._patience_s:g} s")
            piece = os.read(self._read, 1 << 16)
            if not piece:
                raise self._ended("it ended")
            self._buffer += piece
        message, _, self._buffer = self._buffer.partition(b"\0")
        document: dict[str, Any] = json.loads(message)
        return document

    def _ended(self, what: str) -> BrowserEndedError:
        printed = self._printed.read_text(errors="replace").strip().splitlines()
        return BrowserEndedError(": ".join([what, *printed[-1:]]))

    def _note(self, message: dict[str, Any]) -> None:
        method, parameters = message.get("method"), message.get("params", {})
        if message.get("sessionId", "") != self._session:
            return
        if method == "Runtime.exceptionThrown":
            self.complaints.append(str(parameters["exceptionDetails"]))
        elif method == "Log.entryAdded":
            self.complaints.append(f"{parameters['entry']['text']} {parameters['entry'].get('url', '')}")
        elif method == "Runtime.consoleAPICalled":
            self.complaints.append(str(parameters["args"]))
        elif method == "Page.javascriptDialogOpening":
            self.complaints.append(f"a dialog: {parameters['message']}")
            self._tell("Page.handleJavaScriptDialog", accept=False)
