"""``encore data``: which files of a collection are there, and fetching those that are not."""

from __future__ import annotations

import textwrap
from typing import Annotated, Any

import typer

from pipeline.options import JsonOption
from pipeline.output import WIDTH, print_result, table
from stages import registry


def data(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help=", ".join(registry.names("dataset")))],
    options: Any = None,
    fetch: Annotated[bool, typer.Option("--fetch", help="fetch what is missing")] = False,
    json: JsonOption = False,
) -> None:
    """Say which files of a collection are missing. --fetch fetches them."""
    from stages.embed.fetch import list_files

    collection = list_files(dataset, options, fetch_missing=fetch)
    print_result(collection, describe, json=json)


def describe(collection: dict[str, Any]) -> str:
    """The lines of `stages.embed.fetch.list_files`."""
    lines = [collection["title"], f"licence: {collection['licence']}", *textwrap.wrap(collection["about"], WIDTH)]
    midi = f"; {collection['midi_backbone']} where the songs are MIDI" if collection["midi_backbone"] else ""
    lines.append(f"default backbone: {collection['backbone']}{midi}")
    if collection["files"]:
        rows = [
            [file["holds"], "there" if file["there"] else "missing", file["size"] or "-"]
            for file in collection["files"]
        ]
        lines += ["", table([f"under {collection['data']}", "", "size"], rows)]
        lines += [f"  {file['url']}" for file in collection["files"] if not file["there"]]
    missing = sum(not file["there"] for file in collection["files"])
    if missing:
        lines += [
            "",
            f"{missing} missing; fetch with: encore data {collection['dataset']} --fetch --data {collection['data']}",
        ]
    elif collection["files"]:
        lines += ["", "whether all songs are there, encore embed tells"]
    return "\n".join(lines)
