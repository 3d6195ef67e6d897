"""Songs and artists near to a song on disk, a song of a collection, an artist, or words."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from stages.ask.answers import Similar, SimilarTo
from stages.paths import at_home
from store.errors import EncoreError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from stages.embed.backbones import Backbone
    from stages.head.similar import Query, Space
    from store.layout import Store


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
    """What lies nearest to a song, a file, an artist or words; `encore.similar` tells the parameters."""
    from stages.head import layers
    from stages.head.similar import Space

    space = Space(store, dataset, layers.with_layer(backbone, layer))

    @functools.cache
    def backbone_of() -> Backbone:
        from stages.embed.songs import open_backbone

        return open_backbone(store, dataset, space.stored.name, weights)

    if weights is not None:
        backbone_of()  # raises where they are of no use, whatever the query needs
    subject, vectors = _subject(space, query, backbone_of, device)
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
    if subject.artist is not None and (not_same_artist or (artists and subject.song is None)):
        among &= ~pc.equal(space.catalog.column("artist_id"), subject.artist).fill_null(False).to_numpy()
    column = "artist_id" if artists else "song_id"
    recall, nearest = 1.0, None
    if not artists and not filters and not subject.plain and np.count_nonzero(among) > EXACT:
        recall, nearest = nearly_nearest(space, among, vectors, count)
    if nearest is None:
        cosines = space.plain_cosines(vectors) if subject.plain else space.cosines(vectors)
        recall, nearest = 1.0, space.rank(cosines, among, column, count)
    items = tuple(_item(space, row, similarity, clips, column) for row, similarity, clips in nearest)
    return SimilarTo(subject.title, space.catalog.info.name, space.name, int(np.count_nonzero(among)), recall, items)


def _subject(
    space: Space, query: str, open_backbone: Callable[[], Backbone], device: str
) -> tuple[Query, NDArray[np.floating]]:
    """What a query means, and the representations [clips, dim] of its clips."""
    import numpy as np

    from stages.head.similar import Query

    words = _words(space, query)
    if words is not None:
        return _encode_words(words, open_backbone())
    if not at_home(query).is_file():
        there = query and at_home(query).exists()
        subject = space.find(query, ", and what lies there is no file" if there else ", and there is no such file")
        return subject, space.vectors(subject.rows)
    from stages.devices import find_device
    from stages.embed.songs import encode_songs, find_songs, rows_of

    songs = find_songs([query])
    (rows,) = rows_of(space.catalog, songs)
    if space.usable[rows].any():
        subject = space.song(space.catalog.column("song_id")[int(rows[0])].as_py())
        return subject, space.vectors(subject.rows)
    clips = encode_songs(songs, space.catalog, open_backbone(), find_device(device))
    if clips.failures:
        raise EncoreError(f"{query}: {clips.failures[0]}")
    assert clips.values is not None
    nothing = np.empty(0, dtype=np.int64)
    return Query(query, nothing, query, songs[0].artist), space.read(clips.values)


def _words(space: Space, query: str) -> str | None:
    """The words that a query is, None where it is none: after ``words:``, or what else names nothing and could be."""
    from stages.embed.songs import takes_words

    kind, _, rest = query.partition(":")
    if kind == "words" and rest.strip():
        return rest.strip()
    if kind == "artist" or not query.strip() or not takes_words(space.stored.name) or at_home(query).is_file():
        return None
    return query.strip() if space.by_name(query) is None else None


def _encode_words(words: str, backbone: Backbone) -> tuple[Query, NDArray[np.floating]]:
    import numpy as np

    from stages.head.similar import Query

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
