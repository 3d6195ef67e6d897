"""``encore similar``: the songs or artists nearest to a song, a file or an artist."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.answers import Similar, SimilarTo
from pipeline.arguments import open_store
from pipeline.options import DEFAULT_STORE, BackboneOption, DeviceOption, JsonOption, StoreOption
from pipeline.output import print_json, table
from store.errors import EncoreError, RequestError
from store.words import plural

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from stages.head.similar import Query, Space
    from store.layout import Store


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
    weights: Annotated[
        str | None, typer.Option("--weights", help="the backbone's weights, where they moved", metavar="FILE")
    ] = None,
    device: DeviceOption = "auto",
    store: StoreOption = DEFAULT_STORE,
    json: JsonOption = False,
) -> None:
    """Find the nearest songs or artists. By the cosine of their representations; words where a backbone knows them."""
    if m3u is not None and artists:
        raise RequestError("--m3u writes songs, and --artists answers with artists; give one of them")
    answer = find_similar(
        open_store(store),
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


def find_similar(
    store: Store,
    query: str,
    dataset: str,
    *,
    backbone: str | None = None,
    layer: str | None = None,
    count: int = 10,
    artists: bool = False,
    not_same_artist: bool = False,
    filters: Sequence[str] = (),
    weights: str | None = None,
    device: str = "auto",
) -> SimilarTo:
    """What lies nearest to a song, a file or an artist; `encore.similar` tells the parameters."""
    from stages.head import layers
    from stages.head.similar import Space

    space = Space(store, dataset, layers.named(backbone, layer))
    subject, vectors = _subject(store, space, query, weights, device)
    return nearest_to(
        space, subject, vectors, count=count, artists=artists, not_same_artist=not_same_artist, filters=filters
    )


def nearest_to(
    space: Space,
    subject: Query,
    vectors: NDArray[np.floating],
    *,
    count: int,
    artists: bool = False,
    not_same_artist: bool = False,
    filters: Sequence[str] = (),
) -> SimilarTo:
    """What lies nearest to a query, which has the representations ``vectors`` [clips, dim]."""
    import numpy as np
    import pyarrow.compute as pc

    from stages.head.index import nearly_nearest
    from stages.head.similar import EXACT, parse_filters

    among = space.mask(parse_filters(filters))
    among[subject.rows] &= subject.song is None
    is_own = np.zeros(len(among), dtype=bool)
    if subject.artist is not None:
        is_own = pc.equal(space.catalog.column("artist_id"), subject.artist).fill_null(False).to_numpy()
    if not_same_artist or (artists and subject.song is None):
        among &= ~is_own
    column = "artist_id" if artists else "song_id"
    recall, ranked = 1.0, None
    if not artists and not filters and not subject.plain and among.sum() > EXACT:
        recall, ranked = nearly_nearest(space, among, vectors, count)
    if ranked is None:
        cosines = space.plain_cosines(vectors) if subject.plain else space.cosines(vectors)
        recall, ranked = 1.0, space.ranked(cosines, among, column, count)
    items = tuple(_item(space, row, similarity, clips, column) for row, similarity, clips in ranked)
    return SimilarTo(subject.title, space.catalog.info.name, space.name, int(among.sum()), recall, items)


def _subject(
    store: Store, space: Space, query: str, weights: str | None, device: str
) -> tuple[Query, NDArray[np.floating]]:
    """What a query means, and the representations [clips, dim] of its clips."""
    import numpy as np

    from stages.head.similar import Query

    words = _words(space, query)
    if words is not None:
        return _encode_words(store, space, words, weights)
    if not Path(query).expanduser().is_file():
        subject = space.find(query, ", and there is no such file")
        return subject, space.vectors(subject.rows)
    from stages.devices import find_device
    from stages.embed.songs import encode_songs, find_songs, open_backbone, rows_of

    songs = find_songs([query])
    (rows,) = rows_of(space.catalog, songs)
    if space.usable[rows].any():
        subject = space.song(space.catalog.column("song_id")[int(rows[0])].as_py())
        return subject, space.vectors(subject.rows)
    opened = open_backbone(store, space.catalog.info.name, space.stored.name, weights)
    encoded = encode_songs(songs, space.catalog, opened, find_device(device))
    if encoded.failures:
        raise EncoreError(f"{query}: {encoded.failures[0]}")
    assert encoded.values is not None
    nothing = np.empty(0, dtype=np.int64)
    return Query(query, nothing, query, songs[0].artist), space.read(encoded.values)


def _words(space: Space, query: str) -> str | None:
    """The words that a query is, None where it is none: after ``words:``, or what else names nothing and could be."""
    from stages.embed.songs import takes_words

    kind, _, rest = query.partition(":")
    if kind == "words" and rest.strip():
        return rest.strip()
    if (
        kind == "artist"
        or not query.strip()
        or not takes_words(space.stored.name)
        or Path(query).expanduser().is_file()
    ):
        return None
    return query.strip() if space.named(query) is None else None


def _encode_words(store: Store, space: Space, words: str, weights: str | None) -> tuple[Query, NDArray[np.floating]]:
    import numpy as np

    from stages.embed.songs import open_backbone
    from stages.head.similar import Query

    backbone = open_backbone(store, space.catalog.info.name, space.stored.name, weights)
    vector = backbone.encode_text(words).numpy()[None]
    return Query(f"the words {words!r}", np.empty(0, dtype=np.int64), None, None, plain=True), vector


def _item(space: Space, row: int, similarity: float, clips: int, column: str) -> Similar:
    record = space.catalog.table.slice(row, 1).to_pylist()[0]
    if column == "artist_id":
        return Similar(record[column], similarity, None, record["artist_name"], (), None, clips)
    root = space.catalog.info.data_root
    file = str(Path(root, record["path"])) if root is not None and record["source_row"] is None else None
    labels = tuple(record["labels"])
    return Similar(record[column], similarity, record["title"], record["artist_name"], labels, file, clips)


def similar_text(answer: SimilarTo, artists: bool) -> str:
    """A table for a person."""
    compared = f"{answer.dataset}, {answer.representation}, {plural(answer.compared, 'clip')} compared"
    if answer.recall < 1:
        compared += f" by an index that finds {answer.recall:.0%} of what is nearest"
    lines = [f"nearest to {answer.query} ({compared}):"]
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
