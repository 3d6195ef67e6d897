"""Folders of songs, and what the data set ``folder`` makes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stages.embed.datasets.folder import Folder
from store.schema import Catalog


def songs(root: Path, *names: str) -> Path:
    """Files that are there; whole recordings are never opened for a catalog."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    return root


def midi(path: Path, length_s: float) -> None:
    """A MIDI file with one note of that length: 1,000 ticks a second."""
    ticks = round(length_s * 1000)
    delta = bytes([0x80 | ticks >> 14, 0x80 | ticks >> 7 & 0x7F, ticks & 0x7F])
    track = b"\0\xff\x51\x03\x0f\x42\x40" + b"\0\x90\x3c\x40" + delta + b"\x80\x3c\x40" + b"\0\xff\x2f\0"
    path.write_bytes(
        b"MThd\0\0\0\6\0\0\0\1" + (1000).to_bytes(2, "big") + b"MTrk" + len(track).to_bytes(4, "big") + track
    )


def read(root: Path, text: str | None = None, **options: Any) -> Catalog:
    if text is not None:
        (root / "songs.csv").write_text(text, encoding="utf-8")
        options.setdefault("table", "songs.csv")
    return Folder(**{"data": root, "name": "own", **options}).catalog()


def by_clip(catalog: Catalog) -> dict[str, dict[str, Any]]:
    return {row["clip_id"]: row for row in catalog.table.to_pylist()}
