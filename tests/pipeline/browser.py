"""A real browser without a network, to open pages in."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.pipeline.conftest import Encore

# What runs in the page after it is ready; its result is written into the document's title.
_PROBE = """<script>
window.wrong = [];
addEventListener("error", event => wrong.push(event.message));
addEventListener("unhandledrejection", event => wrong.push(String(event.reason)));
addEventListener("securitypolicyviolation", event => wrong.push(event.violatedDirective + " " + event.blockedURI));
window.alert = () => wrong.push("a title ran");
</script>"""
_ASK = """<script>
(async () => {
  for (let i = 0; i < 500 && document.documentElement.dataset.ready !== "yes" && !wrong.length; i++)
    await new Promise(next => setTimeout(next, 20));
  let answer = null;
  try { answer = await (async () => { %s })(); } catch (error) { wrong.push(String(error)); }
  const out = document.createElement("pre");
  out.id = "answer";
  out.textContent = JSON.stringify({ wrong, answer });
  document.body.replaceChildren(out);
})();
</script>"""


@dataclass
class Browser:
    """Chromium without a network."""

    program: str
    folder: Path

    def ask(self, page: Path, script: str, width: int = 1400) -> Any:
        """What a script answers in the page; fails on any error that the page or its policy reports."""
        text = page.read_text(encoding="utf-8")
        text = text.replace("<head>", f"<head>{_PROBE}", 1).replace("</body>", f"{_ASK % script}</body>", 1)
        copy = self.folder / "asked.html"
        copy.write_text(text, encoding="utf-8")
        command = [
            self.program,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--dump-dom",
            f"--window-size={width},900",
        ]
        command += [f"--user-data-dir={self.folder / 'profile'}", "--host-resolver-rules=MAP * ~NOTFOUND"]
        command += ["--virtual-time-budget=20000", "--enable-logging=stderr", copy.as_uri()]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
        assert "CONSOLE" not in ran.stderr, ran.stderr
        match = re.search(r'<pre id="answer">(.*?)</pre>', ran.stdout, flags=re.DOTALL)
        assert match is not None, ran.stdout[-500:] + ran.stderr[-2000:]
        document = json.loads(html.unescape(match[1]))
        assert document["wrong"] == []
        return document["answer"]


def open_browser(tmp_path: Path) -> Browser:
    """Chromium, or the test is skipped."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("there is no Chromium here to open the page in")
    folder = tmp_path / "browser"
    folder.mkdir()
    return Browser(program, folder)


def write_page(encore: Encore, tmp_path: Path, *options: object) -> Path:
    page = tmp_path / "page.html"
    encore("report", *options, "--html", page)
    assert "http://" not in page.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in page.read_text(encoding="utf-8")
    return page
