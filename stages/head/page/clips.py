"""The clips that a page names, and what it says of them."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from stages.head.collection import Collection
from stages.head.map import MOST_CLIPS
from store.schema import Catalog

Document = dict[str, Any]


class Clips:
    """The clips that the page names: each once, with its title, artist and labels."""

    def __init__(self, catalog: Catalog, data: Collection) -> None:
        self.data, self.catalog = data, catalog
        columns = (catalog.strings(name) for name in ("title", "artist_name", "artist_id", "song_id"))
        self.titles, names, ids, songs = ([values[row] for row in data.rows.tolist()] for values in columns)
        self.titles = [title or song for title, song in zip(self.titles, songs, strict=True)]
        artists = [name or key or "" for name, key in zip(names, ids, strict=True)]
        self.artists = list(dict.fromkeys(artists))
        number = {artist: place for place, artist in enumerate(self.artists)}
        self.artist = [number[artist] for artist in artists]
        self.sets: dict[bytes, int] = {}
        self.truth = self.numbered(data.labels)

    def numbered(self, labels: NDArray[np.bool_]) -> list[int]:
        """[clips] the number of each clip's set of labels; ``labels`` is [clips, labels]."""
        sets, which = np.unique(np.packbits(labels, axis=1), axis=0, return_inverse=True)
        numbers = [self.sets.setdefault(each.tobytes(), len(self.sets)) for each in sets]
        return [numbers[place] for place in which.reshape(-1).tolist()]

    def describe(self, clip: int) -> Document:
        labels = np.flatnonzero(self.data.labels[clip]).tolist()
        return {"title": self.titles[clip], "artist": self.artists[self.artist[clip]], "labels": labels}

    def files(self) -> list[str]:
        """[clips] the path of each clip's file, with the second where the clip begins: ``a.mp3#t=30``."""
        paths, starts = self.catalog.strings("path"), self.catalog.column("start_s").to_pylist()
        places = ((quote(paths[row] or ""), starts[row]) for row in self.data.rows.tolist())
        return [path + (f"#t={start:g}" if start else "") for path, start in places]

    def as_json(self) -> Document:
        width = self.data.labels.shape[1]
        sets = [np.flatnonzero(np.unpackbits(np.frombuffer(key, np.uint8), count=width)) for key in self.sets]
        return {
            "titles": self.titles,
            "artists": self.artists,
            "artist": self.artist,
            "sets": [each.tolist() for each in sets],
            "truth": self.truth,
        }


def only(clips: NDArray[np.int64], document: Document) -> Document:
    """The document with the clips of its maps alone, where there are more than a map shows."""
    count = len(document["titles"])
    if count <= MOST_CLIPS:
        return document
    place = np.full(count, -1, np.int64)
    place[clips] = np.arange(len(clips))
    of_clips: Document = {
        name: [document[name][clip] for clip in clips.tolist()]
        for name in ("titles", "artist", "truth", "files")
        if name in document
    }
    artists = sorted(set(of_clips["artist"]))
    number = {artist: i for i, artist in enumerate(artists)}
    views = []
    for view in document["views"]:
        test_clips = np.array(view.get("tested", []), np.int64)
        places = np.flatnonzero(place[test_clips] >= 0).tolist()
        part = view.get("part", [])
        views.append(
            {
                **view,
                "part": [part[clip] for clip in clips.tolist()] if part else [],
                "tested": place[test_clips[places]].tolist(),
                "given": {mode: [sets[i] for i in places] for mode, sets in view.get("given", {}).items()},
            }
        )
    return {
        **document,
        **of_clips,
        "artists": [document["artists"][artist] for artist in artists],
        "artist": [number[artist] for artist in of_clips["artist"]],
        "views": views,
        "maps": [{**of, "clip": place[np.array(of["clip"], np.int64)].tolist()} for of in document["maps"]],
    }
