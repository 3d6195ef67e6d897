"""``encore data``: which files of a collection are there, and fetching those that are not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.output import table
from stages.embed.catalogs import make_dataset
from stages.embed.fetch import fetch, place_of
from stages.progress import note
from store.errors import RequestError


def data(name: str, options: Mapping[str, Any], *, fetched: bool) -> dict[str, Any]:
    """The state of every file that a collection is fetched from, after fetching what is missing where ``fetched``.

    Files lie under ``--data``, or under ``data/<name>`` where that is not given.
    """
    dataset = make_dataset(name, options)
    folder = dataset.data or Path("data", name)
    dataset = replace(dataset, data=folder)
    remotes = dataset.remotes()
    if fetched and not remotes:
        raise RequestError(f"{name} has no files that can be fetched. {dataset.FILES}")
    files = []
    for remote in remotes:
        if fetched and place_of(remote, folder) is None:
            note(f"{remote.url}{f' ({remote.size})' if remote.size else ''}")
            fetch(remote, folder)
        there = place_of(remote, folder)
        files.append(
            {
                "url": remote.url,
                "size": remote.size or None,
                "checksum": remote.checksum,
                "there": None if there is None else str(there),
                "holds": remote.holds[0],
            }
        )
    return {
        "dataset": name,
        "title": dataset.TITLE,
        "licence": dataset.LICENSE,
        "citation": dataset.CITATION,
        "homepage": dataset.HOMEPAGE,
        "backbone": dataset.BACKBONE,
        "midi_backbone": dataset.MIDI_BACKBONE,
        "data": str(folder),
        "about": dataset.FILES,
        "files": files,
    }


def describe(found: dict[str, Any]) -> str:
    """The state for a person."""
    import textwrap

    lines = [found["title"], f"licence: {found['licence']}", *textwrap.wrap(found["about"], 80)]
    midi = f"; {found['midi_backbone']} where the songs are MIDI" if found["midi_backbone"] else ""
    lines.append(f"default backbone: {found['backbone']}{midi}")
    if found["files"]:
        rows = [
            [file["holds"], "there" if file["there"] else "missing", file["size"] or "-"] for file in found["files"]
        ]
        lines += ["", table([f"under {found['data']}", "", "size"], rows)]
        lines += [f"  {file['url']}" for file in found["files"] if not file["there"]]
    missing = sum(not file["there"] for file in found["files"])
    if missing:
        lines += ["", f"{missing} missing; fetch with: encore data {found['dataset']} --fetch --data {found['data']}"]
    elif found["files"]:
        lines += ["", "whether all songs are there, encore embed tells"]
    return "\n".join(lines)
