"""Songs that are in no store: found on disk, looked up among those of a collection, and encoded as these were."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

from stages import registry
from stages.embed.backbones import Backbone
from stages.embed.choose import check_given_weights, rebuild_config, restore_backbone
from stages.embed.datasets.folder import CLIP_S, Folder, along, clips_of, songs_in
from stages.embed.encode import representation_name
from stages.embed.inputs.audio import AUDIO_SUFFIXES
from stages.embed.inputs.midi import NOTE_SUFFIXES
from stages.embed.loading import LoadedBatch, default_workers
from stages.embed.reading import ReadSong, read_artist
from stages.embed.represent import encode_loaded, encode_unstored
from stages.paths import at_home
from stages.progress import note
from store.errors import RequestError
from store.fingerprint import source_tag
from store.layout import RepresentationName, Store
from store.schema import Catalog
from store.words import plural

_BATCH = 16
_FEW = 8  # clips, for which starting worker processes takes longer than loading them
_SUFFIXES = {"audio": AUDIO_SUFFIXES, "midi": NOTE_SUFFIXES}


@dataclass(frozen=True)
class SongFile:
    """A song on disk.

    Attributes
    ----------
    path : absolute.
    name : as its user named it.
    artist : as someone wrote it; None where nobody did.
    """

    path: Path
    name: str
    artist: str | None = None


def find_songs(
    files: Sequence[str],
    *,
    kind: str | None = None,
    artist: str | None = None,
    table: str | None = None,
    columns: str | None = None,
) -> list[SongFile]:
    """The songs that some paths name, each once, in their order, those of a folder sorted.

    Parameters
    ----------
    kind : ``audio`` or ``midi``: what is taken of folders; all for None.
    artist : whose songs they all are.
    table, columns : a table of artists, as ``encore embed folder`` takes it; ``files`` is one folder then. Without
        ``artist`` and ``table`` the files' own tags tell the artist.

    Raises
    ------
    RequestError
        where a path is not there, a folder holds no song, or the table cannot be read.
    """
    if artist is not None and not artist.strip():
        raise RequestError("--artist is empty; name one, or leave it out")
    if table is not None:
        if artist is not None:
            raise RequestError("--artist and --table both tell the artists; give one of them")
        if len(files) > 1 or any(at_home(file).is_file() for file in files):
            raise RequestError("--table describes the songs of one folder; name that folder alone")
        return _of_table(files[0] if files else None, table, columns)
    if columns is not None:
        raise RequestError("--columns names the columns of --table, which is not given")
    if not files:
        raise RequestError("name the files, or folders of files, to be judged")
    songs: dict[Path, SongFile] = {}
    for name in files:
        root = at_home(name)
        if not name or not root.exists():
            raise RequestError(f"there is no file or folder {name or repr(name)}")
        shown = os.fsencode(root.absolute()).decode("utf-8", "backslashreplace")
        if shown != str(root.absolute()):
            raise RequestError(f"the name {shown} is not UTF-8; rename it")
        for path in _under(root, kind) if root.is_dir() else [root]:
            song = SongFile(path.absolute(), str(path), artist)
            songs.setdefault(song.path, song)
    return [song if artist is not None else replace(song, artist=read_artist(song.path)) for song in songs.values()]


def _under(folder: Path, kind: str | None) -> list[Path]:
    paths = songs_in(folder)
    if kind is None:
        return paths
    fitting = [path for path in paths if path.suffix.lower() in _SUFFIXES[kind]]
    if not fitting:
        raise RequestError(f"the head reads {kind}, and none of the {plural(len(paths), 'song')} in {folder} is that")
    return fitting


def _of_table(folder: str | None, table: str, columns: str | None) -> list[SongFile]:
    data = None if folder is None else at_home(folder)
    catalog = Folder(data=data, name="songs", table=table, columns=columns, unlabelled=True, clips=0).catalog()
    root = Path(catalog.info.data_root or ".")
    rows = zip(catalog.strings("path"), catalog.strings("artist_name"), strict=True)
    return [SongFile(root / (path or ""), str(root / (path or "")), artist) for path, artist in dict(rows).items()]


def rows_of(catalog: Catalog, songs: Sequence[SongFile]) -> list[NDArray[np.int64]]:
    """`SongIndex.rows` of songs on disk."""
    return SongIndex(catalog).rows([tag_of(song.path) for song in songs])


class SongIndex:
    """The songs of a collection by the content of their files."""

    def __init__(self, catalog: Catalog) -> None:
        sources = catalog.column("source").combine_chunks()
        # A song that is there as audio and as MIDI has both marks, joined by "+".
        split = pc.split_pattern(sources, "+")
        self._marks, self._owner = pc.list_flatten(split), pc.list_parent_indices(split).to_numpy()
        self._live = ~catalog.retired()
        self._song_ids = catalog.column("song_id")

    def rows(self, tags: Sequence[str | None]) -> list[NDArray[np.int64]]:
        """The live catalog rows of each song by its `tag_of`; none for one that is not in the collection.

        Of equal songs in the collection those of the first are taken.
        """
        distinct = pa.array(sorted({tag for tag in tags if tag is not None}), pa.string())
        number = pc.index_in(self._marks, value_set=distinct).fill_null(-1).to_numpy()
        rows_by_tag: dict[str, NDArray[np.int64]] = {}
        for place, tag in enumerate(distinct.to_pylist()):
            rows = np.unique(self._owner[number == place])
            rows = rows[self._live[rows]]
            if len(rows):
                own = pc.equal(self._song_ids.take(pa.array(rows)), self._song_ids[int(rows[0])]).to_numpy()
                rows_by_tag[tag] = rows[own]
        return [rows_by_tag.get(tag or "", np.empty(0, dtype=np.int64)) for tag in tags]


def tag_of(path: Path) -> str | None:
    """The mark of a file's content (`store.fingerprint.source_tag`); None where it cannot be read."""
    try:
        return source_tag(path)
    except OSError:
        return None


@dataclass(frozen=True)
class EncodedSongs:
    """The clips of some songs.

    Attributes
    ----------
    values : [clips, *shape] as the store would hold them; None where no backbone read them.
    song : [clips] the number of each clip's song.
    start_s, duration_s : [clips] where it lies in its song; NaN from the beginning, or to the end.
    failures : why a song has no clip, by its number.
    """

    values: NDArray[Any] | None
    song: NDArray[np.int64]
    start_s: NDArray[np.float64]
    duration_s: NDArray[np.float64]
    failures: dict[int, str]

    @property
    def stretches(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Where clips begin and how long they are."""
        return self.start_s, self.duration_s


def together(songs: Sequence[EncodedSongs]) -> EncodedSongs:
    """Songs that were encoded each by itself, and of which none failed, as one set, numbered in their order."""
    values = [song.values for song in songs if song.values is not None]
    return EncodedSongs(
        np.concatenate(values) if values else None,
        np.repeat(np.arange(len(songs)), [len(song.song) for song in songs]),
        np.concatenate([song.start_s for song in songs]),
        np.concatenate([song.duration_s for song in songs]),
        {},
    )


def open_backbone(store: Store, dataset: str, name: RepresentationName, weights: str | None) -> Backbone:
    """The backbone that made a representation of the store.

    Raises
    ------
    RequestError
        where it reads no songs, its weights are not there, or this version of it gives other numbers; where
        ``weights`` are given to one that has none of its own.
    """
    manifest = store.read_manifest(dataset, name)
    if manifest is None:
        raise RequestError(f"{dataset}/{name} is not complete; finish it: encore embed {dataset}")
    what = f"{dataset}/{name}"
    if weights is not None:
        check_given_weights(manifest.settings, weights, what)
    backbone, mark = restore_backbone(manifest.settings, weights or recorded_weights(store, dataset, name), what)
    _check_reads_songs(backbone, what)
    ours = representation_name(backbone, mark)
    if ours != name:
        raise RequestError(
            f"{what} was made by another version of {name.backbone}: it needs the fingerprint {name.fingerprint}, and "
            f"this version gives {ours.fingerprint}; encode {dataset} again and train the head on that"
        )
    return backbone


def takes_words(name: RepresentationName) -> bool:
    """Whether the backbone of a representation turns words into vectors too (`Backbone.encode_text`)."""
    if name.backbone not in registry.names("backbone"):  # of another package, which is not here
        return False
    backbone: type[Backbone] = registry.find("backbone", name.backbone)
    return backbone.encode_text is not Backbone.encode_text


def input_kind(store: Store, dataset: str, name: RepresentationName) -> str:
    """What the files hold that the backbone of a representation reads, audio or midi; RequestError for features."""
    manifest = store.read_manifest(dataset, name)
    backbone: type[Backbone] = registry.find("backbone", name.backbone)
    config = rebuild_config(backbone.Config, manifest.settings if manifest is not None else {})
    made = backbone(config)
    _check_reads_songs(made, f"{dataset}/{name}")
    return made.input.KIND


def _check_reads_songs(backbone: Backbone, what: str) -> None:
    if backbone.input.KIND == "features":
        raise RequestError(
            f"{what} holds ready-made features, which no file of a song gives; songs can be judged by a head on a "
            f"backbone that reads them"
        )


def recorded_weights(store: Store, dataset: str, name: RepresentationName) -> str | None:
    """Where the weights lay with which a representation was last encoded; None where nobody knows."""
    return store.read_line(dataset, name, "weights.txt")


def cutting(catalog: Catalog) -> tuple[int, float]:
    """How the songs of a collection are cut into clips: how many at most, 0 for whole songs, and how many seconds."""
    live = catalog.live()
    lengths = live.column("duration_s").to_pylist()
    most_common = Counter(lengths).most_common(1)
    if not most_common or most_common[0][0] is None:
        return 0, CLIP_S
    counts = pc.value_counts(live.column("song_id").combine_chunks()).field("counts")
    return int(pc.max(counts).as_py()), float(most_common[0][0])


def check_segments(segments_s: float | None, hop_s: float | None) -> None:
    """Raise RequestError for lengths that cut no song."""
    if segments_s is None and hop_s is not None:
        raise RequestError("--hop is the distance of --segments, which is not given")
    for option, value in (("--segments", segments_s), ("--hop", hop_s)):
        if value is not None and not 0.01 <= value < math.inf:
            raise RequestError(f"{option} takes seconds, 0.01 or more, not {value}")


def encode_songs(
    songs: Sequence[SongFile],
    catalog: Catalog,
    backbone: Backbone | None,
    device: torch.device,
    *,
    segments_s: float | None = None,
    hop_s: float | None = None,
) -> EncodedSongs:
    """Encode songs, cut into clips as those of a collection are, or along the song.

    Parameters
    ----------
    catalog : of the collection.
    backbone : None for a head that hears nothing: each song is one clip then.
    segments_s, hop_s : a clip of so many seconds every so many seconds; by default one behind the other.
    """
    if backbone is None:
        everywhere = np.full(len(songs), np.nan)
        return EncodedSongs(None, np.arange(len(songs)), everywhere, everywhere, {})
    kind = backbone.input.KIND
    readable = [i for i, song in enumerate(songs) if reads(kind, song.path)]
    others = dict.fromkeys(set(range(len(songs))) - set(readable), f"not-supported: {backbone.NAME} reads {kind}")
    if not readable:
        nowhere = np.empty(0)
        return EncodedSongs(None, nowhere.astype(np.int64), nowhere, nowhere, dict(sorted(others.items())))
    paths = [songs[i].path for i in readable]
    if segments_s is not None:
        clips = along("songs", paths, segments_s, hop_s or segments_s)
    else:
        clips = clips_of("songs", paths, *cutting(catalog))
    workers = 0 if len(clips) <= _FEW else default_workers(device)
    values, errors = encode_unstored(clips, backbone, device=device, batch=_BATCH, workers=workers)
    song = np.array(readable)[np.array(clips.strings("song_id"), dtype=np.int64)]
    mask = np.ones(len(clips), dtype=bool)
    mask[[row for row, _, _ in errors]] = False
    failures: dict[int, str] = {}
    for row, why, reason in errors:
        failures.setdefault(int(song[row]), f"{why}: {reason}")
    without = {number: why for number, why in failures.items() if number not in set(song[mask].tolist())}
    if len(without) < len(failures):
        note(f"{plural(len(errors), 'clip')} could not be encoded; the songs are judged by their other clips")
    start_s, duration_s = (clips.column(name).to_numpy() for name in ("start_s", "duration_s"))
    return EncodedSongs(
        values[mask], song[mask], start_s[mask], duration_s[mask], dict(sorted({**others, **without}.items()))
    )


def reads(kind: str, path: Path) -> bool:
    """Whether a backbone that reads ``kind`` may be given a file of that name."""
    return path.suffix.lower() in ("", *_SUFFIXES[kind])


def encode_read(songs: Sequence[ReadSong], backbone: Backbone | None, device: torch.device) -> list[EncodedSongs]:
    """Encode songs that are read already, together; each is answered by itself."""
    if backbone is None:
        nowhere = np.full(1, np.nan)
        return [EncodedSongs(None, np.zeros(1, dtype=np.int64), nowhere, nowhere, {}) for _ in songs]
    owner = np.repeat(np.arange(len(songs)), [len(song.counts) for song in songs])
    windows_of_songs = (song.windows for song in songs if song.windows is not None)
    windows = [
        part
        for song, each in zip(songs, windows_of_songs, strict=True)
        for part in np.split(each, np.cumsum(song.counts)[:-1])
    ]
    values = np.zeros((len(windows), *backbone.shape), backbone.dtype)
    reasons: dict[int, str] = {}
    for first in range(0, len(windows), _BATCH):
        rows = list(range(first, min(first + _BATCH, len(windows))))
        counts = [len(windows[row]) for row in rows]
        batch = LoadedBatch(rows, counts, torch.from_numpy(np.concatenate([windows[row] for row in rows])), [])
        places, numbers, errors = encode_loaded(backbone, batch, device)
        values[places] = numbers
        reasons |= {row: f"{kind}: {reason}" for row, kind, reason in errors}
    answers = []
    for number, song in enumerate(songs):
        own = np.flatnonzero(owner == number)
        mask = np.array([row not in reasons for row in own.tolist()])
        failures = {} if mask.any() else {0: reasons[int(own[0])]}
        clips = np.zeros(int(mask.sum()), dtype=np.int64)
        answers.append(EncodedSongs(values[own[mask]], clips, song.start_s[mask], song.duration_s[mask], failures))
    return answers
