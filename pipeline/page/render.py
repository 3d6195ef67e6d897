"""One self-contained HTML file of what there is to tell of collections."""

from __future__ import annotations

import base64
import gzip
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pipeline.arguments import check_output
from store.errors import EncoreError, RequestError

if TYPE_CHECKING:
    from stages.head.page.gather import Story

_HERE = Path(__file__).parent
_SPECIAL = re.compile(r"[\s;,'\"<>]")
_SCRIPTS = ("tables.js", "charts.js", "map.js", "page.js")


def check(path: Path) -> None:
    """RequestError where no page can be written there; before anything is computed."""
    if path.suffix.lower() not in (".html", ".htm"):
        raise RequestError(f"--html {path}: the name must end in .html")
    check_output("--html", path)


def check_audio(base: str) -> None:
    """RequestError for what is no place of songs that a page may play from."""
    parts = urlsplit(base)
    if parts.scheme not in ("", "file", "http", "https") or (parts.scheme.startswith("http") and not parts.netloc):
        raise RequestError(f"--audio-base takes a folder, or an address that begins with http or https, not {base!r}")
    if _SPECIAL.search(base):
        raise RequestError(
            f"--audio-base {base!r}: an address holds no blanks, quotes or semicolons; write %20 and so on"
        )


def _audio_source(base: str | None) -> str:
    """Where the page's policy lets it play from: nowhere, files beside it, or the one address."""
    if base is None:
        return "'none'"
    parts = urlsplit(base)
    return f"{parts.scheme}://{parts.netloc}" if parts.scheme.startswith("http") else "'self' file:"


def page(stories: Sequence[Story], *, audio: str | None = None) -> str:
    """The page as text. All that comes from a store is escaped, or packed as data that the script shows as text."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    document = json.dumps([story.data for story in stories], separators=(",", ":"), allow_nan=False)
    # No time in the header: the same store gives the same page.
    packed = base64.b64encode(gzip.compress(document.encode(), mtime=0)).decode()
    return environment.get_template("page.html").render(
        stories=stories,
        packed=packed,
        audio_source=_audio_source(audio),
        style=(_HERE / "page.css").read_text(encoding="utf-8"),
        scripts=[(_HERE / name).read_text(encoding="utf-8") for name in _SCRIPTS],
    )


def write(stories: Sequence[Story], path: Path, *, audio: str | None = None) -> None:
    """Write the page; one that stands is replaced by a whole one."""
    beside = path.with_name(f".{path.name[:100]}.partial")
    try:
        beside.write_text(page(stories, audio=audio), encoding="utf-8")
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise EncoreError(f"--html {path}: cannot be written: {error.strerror}") from error
