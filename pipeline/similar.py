"""``encore similar``: the songs or artists nearest to a song, a file or an artist."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from pipeline.arguments import check_output, open_store
from pipeline.options import DEFAULT_STORE, BackboneOption, DeviceOption, JsonOption, StoreOption, WeightsOption
from pipeline.output import print_json, table
from stages.ask.answers import SimilarTo
from stages.ask.similar import find_similar
from store.errors import EncoreError, RequestError
from store.words import plural, visible


def similar(
    query: Annotated[
        str, typer.Argument(metavar="QUERY", help="a song (id, title, 'ARTIST - TITLE'), a file, an artist, or words")
    ],
    dataset: Annotated[str, typer.Option("--dataset", help="a name in the store", metavar="D")] = "demo",
    backbone: BackboneOption = None,
    layer: Annotated[
        str | None,
        typer.Option(
            "--layer",
            help="of a representation with layers: K from 0, mean, or mix: all side by side [the last]",
            metavar="K|mean|mix",
        ),
    ] = None,
    count: Annotated[int, typer.Option("--count", min=1, help="how many", metavar="K")] = 10,
    artists: Annotated[bool, typer.Option("--artists", help="answer with artists")] = False,
    not_same_artist: Annotated[bool, typer.Option("--not-same-artist", help="others' songs alone")] = False,
    filters: Annotated[
        list[str] | None,
        typer.Option("--filter", help="label=, artist= or album=NAME (repeatable)", metavar="KEY=NAME"),
    ] = None,
    m3u: Annotated[Path | None, typer.Option("--m3u", help="write the songs as a playlist", metavar="FILE")] = None,
    weights: WeightsOption = None,
    device: DeviceOption = "auto",
    store: StoreOption = DEFAULT_STORE,
    json: JsonOption = False,
) -> None:
    """Find the nearest songs or artists. By the cosine of their representations; words where a backbone knows them."""
    if m3u is not None and artists:
        raise RequestError("--m3u writes songs, and --artists answers with artists; give one of them")
    if m3u is not None:
        check_output("--m3u", m3u)
    answer = find_similar(
        open_store(store, dataset),
        query,
        dataset,
        backbone=backbone,
        layer=layer,
        count=count,
        artists=artists,
        not_same_artist=not_same_artist,
        filters=filters or (),
        weights=weights,
        device=device,
    )
    if m3u is not None:
        _write_playlist(answer, m3u)
    if json:
        print_json(dataclasses.asdict(answer))
    else:
        print(similar_text(answer, artists))


def similar_text(answer: SimilarTo, artists: bool) -> str:
    """A table for a person."""
    heading = f"{answer.dataset}, {answer.representation}, {plural(answer.compared, 'clip')} compared"
    if answer.recall < 1:
        heading += f" by an index that finds {answer.recall:.0%} of what is nearest"
    lines = [f"nearest to {visible(answer.query)} ({heading}):"]
    if artists:
        rows = [
            [_short(item.artist or item.id), f"{item.similarity:.3f}", f"{item.clips:,}"] for item in answer.similar
        ]
        head = ["artist", "cosine", "clips"]
    else:
        rows = [
            [
                _short(item.title or item.id),
                _short(item.artist or "-"),
                f"{item.similarity:.3f}",
                _short(", ".join(item.labels)),
            ]
            for item in answer.similar
        ]
        head = ["song", "artist", "cosine", "labels"]
    return "\n".join([*lines, table(head, rows) if rows else "nothing fits"])


def _short(text: str, width: int = 28) -> str:
    return text if len(text) <= width else f"{text[: width - 3]}..."


def _write_playlist(answer: SimilarTo, path: Path) -> None:
    files = [item for item in answer.similar if item.file is not None]
    if not files:
        raise RequestError("there is no file to put into a playlist")
    lines = ["#EXTM3U"]
    for item in files:
        name = " - ".join(part for part in (item.artist, item.title or item.id) if part)
        lines += [f"#EXTINF:-1,{' '.join(name.split())}", item.file or ""]
    try:
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    except OSError as error:
        raise EncoreError(f"{path} cannot be written: {error.strerror or error}") from error
