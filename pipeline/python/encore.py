"""Encore in a notebook: what a store holds, as arrays and tables; heads trained on it, and asked.

The examples below run one after another, in a folder with a file ``song.mp3`` and a store ``stores`` that holds a
collection ``hits``. Row ``i`` of a
catalog, of a representation and of a split is the same clip. Everything heavy is imported when it is first used.

>>> import encore
>>> store = encore.open_store("stores")
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from stages.ask.answers import (
    Collection,
    HeadScores,
    PredictedSongs,
    Predictions,
    Representation,
    Segment,
    Similar,
    SimilarTo,
    SongPrediction,
    TrainedHead,
)
from store.errors import EncoreError, FormatError, RequestError, StoreError

if TYPE_CHECKING:
    import os

    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from stages.head.clips import ClipDataset
    from store.layout import Store
    from store.reader import Representations

__all__ = [
    "Collection",
    "EncoreError",
    "FormatError",
    "HeadScores",
    "PredictedSongs",
    "Predictions",
    "Representation",
    "RequestError",
    "Segment",
    "Similar",
    "SimilarTo",
    "SongPrediction",
    "StoreError",
    "TrainedHead",
    "catalog",
    "clip_dataset",
    "collections",
    "open_store",
    "predict",
    "representation",
    "restore",
    "score",
    "similar",
    "split",
    "train_head",
]


def open_store(path: str | os.PathLike[str]) -> Store:
    """The store in a folder, or behind an fsspec URL (``s3://bucket/stores``); nothing is created.

    Raises
    ------
    RequestError
        if there is none.
    """
    from store.layout import Store

    store = Store(path)
    if not store.files.exists(""):
        raise RequestError(f"there is no store {store.files.show('')}; fill one on the command line: encore embed demo")
    return store


def collections(store: Store) -> list[Collection]:
    """The collections of a store, sorted by name.

    >>> [(each.name, each.clips) for each in encore.collections(store)]
    [('hits', 400)]
    """
    entries = []
    for name in store.datasets():
        catalog = store.read_catalog(name)
        representations = tuple(str(each) for each in store.complete(name))
        entries.append(Collection(name, catalog.info.title, len(catalog), catalog.info.synthetic, representations))
    return entries


def catalog(store: Store, name: str) -> pa.Table:
    """The catalog of a collection, one row a clip, as an Arrow table; ``.to_pandas()`` makes a data frame of it.

    Columns: clip_id, song_id, artist_id, artist_name, title, labels, targets, path, start_s, duration_s, retired, ...

    >>> table = encore.catalog(store, "hits")
    >>> table.num_rows, table.column("labels").to_pylist()[0]
    (400, ['genre 0'])

    Raises
    ------
    RequestError
        if the store has no such collection.
    """
    return store.read_catalog(name).table


def representation(store: Store, name: str, backbone: str | None = None) -> Representation:
    """The representations of all clips of a collection, in memory.

    Parameters
    ----------
    backbone : a backbone, or the beginning of a representation's name; may be left out if there is only one.

    >>> vectors = encore.representation(store, "hits")
    >>> vectors.values.shape, vectors.values.dtype.name
    ((400, 3), 'float32')

    Raises
    ------
    RequestError
        if the collection or the representation is not there, or several fit.
    FormatError
        if a shard does not hold what was committed.
    """
    representations, rows = _encoded(store, name, backbone)
    values = representations.read()
    return Representation(str(representations.name), rows, values if len(rows) == len(values) else values[rows])


def clip_dataset(
    store: Store, name: str, backbone: str | None = None, rows: Sequence[int] | NDArray[np.integer[Any]] | None = None
) -> ClipDataset:
    """Representations and labels as a PyTorch data set that reads a clip when it is asked for.

    Each item is a pair: the representation [*shape] and the labels [labels] as 0 and 1, both float32.

    Parameters
    ----------
    rows : the catalog rows to take, in this order, those that are not encoded left out; by default all that are.

    >>> from torch.utils.data import DataLoader
    >>> train = (encore.split(store, "hits", "artist") == "train").nonzero()[0]
    >>> clips = encore.clip_dataset(store, "hits", rows=train)
    >>> vectors, labels = next(iter(DataLoader(clips, batch_size=16, shuffle=True)))
    >>> vectors.shape, labels.shape, clips.labels
    (torch.Size([16, 3]), torch.Size([16, 4]), ('genre 0', 'genre 1', 'genre 2', 'genre 3'))

    Raises
    ------
    RequestError
        as `representation`, or if a row is none of the catalog's.
    """
    import numpy as np

    from stages.head.clips import ClipDataset
    from store import columns
    from store.rows import Rows

    representations, encoded = _encoded(store, name, backbone)
    label_names, labels = columns.labels(store.read_catalog(name))
    selection = encoded if rows is None else np.asarray(rows, dtype=np.int64)
    if len(selection) and not 0 <= selection.min() <= selection.max() < len(labels):
        raise RequestError(f"{name} has the rows 0 to {len(labels) - 1:,}, and {selection.max():,} is none of them")
    selection = selection[np.isin(selection, encoded)]
    present: NDArray[np.bool_] = np.any(labels[encoded], axis=0)
    names = tuple(label for label, has in zip(label_names, present.tolist(), strict=True) if has)
    return ClipDataset(Rows(representations), selection, labels[selection][:, present], names)


def split(store: Store, name: str, regime: str, seed: int = 0, fold: int = 1) -> NDArray[Any]:
    """The part of each catalog row: "train", "validation", "test", or None for a clip that stands in none.

    It is the split that ``encore head`` uses; one that is new is kept in the store, where it can be written.

    Parameters
    ----------
    regime : random, album, artist or official, or one with folds, as artist-5fold.
    fold : which of a regime with folds, from 1.

    >>> import collections
    >>> sorted(collections.Counter(encore.split(store, "hits", "random")).items())
    [('test', 40), ('train', 320), ('validation', 40)]

    Raises
    ------
    RequestError
        if there is no such regime or fold, or the collection cannot have it.
    """
    import numpy as np

    from stages.splits.kept import KeptSplits
    from stages.splits.regimes import PARTS

    parts = KeptSplits(store.read_catalog(name), store).parts(regime, seed)
    if not 1 <= fold <= len(parts):
        raise RequestError(f"{regime} has the folds 1 to {len(parts)}, not {fold}")
    return np.array([*PARTS, None], dtype=object)[parts[fold - 1]]  # -1, in none, is the last


def train_head(
    store: Store,
    name: str,
    mode: str = "gnn",
    *,
    backbone: str | None = None,
    regime: str = "random",
    seeds: int = 1,
    target: str | None = None,
    device: str = "auto",
    **settings: Any,
) -> list[HeadScores]:
    """Train a head as ``encore head`` does; one result for each rule by which it decides.

    Parameters
    ----------
    target : a numeric target of the collection, to be estimated in place of the labels.
    settings : those of ``--set``, as ``epochs=5``.

    >>> (scores,) = encore.train_head(store, "hits", "gnn", regime="artist", epochs=5)
    >>> 0 <= scores.metrics["accuracy"] <= 1
    True

    Raises
    ------
    RequestError
        if there is no such mode, regime, setting, collection or representation.
    """
    from stages.devices import find_device
    from stages.head.train import train_heads

    results = train_heads(
        store,
        name,
        backbone=backbone,
        modes=[mode],
        regimes=[regime],
        seeds=seeds,
        target=target,
        changes={key: str(value) for key, value in settings.items()},
        device=find_device(device),
    )
    return [_head_scores(result.as_json()) for result in results]


def restore(
    store: Store,
    name: str,
    mode: str = "gnn",
    *,
    backbone: str | None = None,
    regime: str = "random",
    seed: int = 0,
    fold: int = 1,
    rule: str | None = None,
    inductive: bool = False,
    target: str | None = None,
) -> TrainedHead:
    """A head that was trained before, back from its files in the store.

    Parameters
    ----------
    fold : which, of a regime with folds, from 1.
    rule : by which of its rules it decides, of a head that has several (`HeadScores.rule`).
    inductive : the head of ``--neighbours train``.
    target : the numeric target that it estimates; None for one of labels.

    >>> trained = encore.restore(store, "hits", "gnn", regime="artist")
    >>> trained.labels
    ('genre 0', 'genre 1', 'genre 2', 'genre 3')

    Raises
    ------
    RequestError
        if there is no such run; the message has the command that trains it.
    FormatError
        if its files are damaged, or of another version of Encore.
    """
    from stages import registry
    from stages.head.layers import with_layer
    from stages.head.restore import restore as read_head
    from stages.splits.regimes import parse
    from store.layout import split_layer
    from store.runs import RunFolder, run_name

    reads_songs = registry.find("head", mode).READS_SONGS
    base, layer = split_layer(backbone)
    representation = with_layer(str(store.find(name, base)), layer) if reads_songs else None
    folder = RunFolder(name, representation, mode, regime, inductive, target)
    head = read_head(store, folder, run_name(seed, fold if parse(regime)[1] else None, rule))
    return TrainedHead(name, representation, mode, regime, seed, fold, head.labels, head)


def score(store: Store, trained: TrainedHead, name: str | None = None, *, device: str = "auto") -> Predictions:
    """What a trained head says of the labelled clips of a collection, by default of the one it was trained on.

    Of that one, the clips that it was trained on are known to it as they were in training. Of another one it knows
    nothing; that must hold the same representation.

    >>> predictions = encore.score(store, trained)
    >>> predictions.scores.shape, predictions.decisions.dtype.name
    ((400, 4), 'bool')

    Raises
    ------
    RequestError
        if the collection is not there, or lacks the representation that the head reads.
    """
    import numpy as np

    from stages.devices import find_device
    from stages.head.open import from_catalog, load

    own = name is None or name == trained.dataset
    name = trained.dataset if name is None else name
    if trained.representation is None:
        clips = from_catalog(store.read_catalog(name), store, target=trained.head.target)
    else:
        clips = load(store, name, trained.representation, target=trained.head.target)
    unseen = np.full(len(clips), 2, dtype=np.int8)  # as test clips are
    part = clips.parts(trained.regime, trained.seed)[trained.fold - 1] if own else unseen
    prediction = trained.head.score(clips, part, find_device(device))
    return Predictions(clips.rows, trained.labels, prediction.score, prediction.decision)


def predict(
    store: Store,
    files: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    head: str,
    *,
    artist: str | None = None,
    table: str | os.PathLike[str] | None = None,
    columns: str | None = None,
    threshold: float | None = None,
    segments_s: float | None = None,
    hop_s: float | None = None,
    by: str = "mean",
    weights: str | os.PathLike[str] | None = None,
    device: str = "auto",
) -> PredictedSongs:
    """Ask a trained head about songs, as ``encore predict`` does.

    Parameters
    ----------
    files : recordings, MIDI files, or folders of them.
    head : a collection (its best mode by validation), ``DATASET/MODE``, ``DATASET/MODE-REGIME``, or a run's path.
    artist : who made them all; by default as the files' own tags say.
    table, columns : who made each, as ``encore embed folder`` takes it; ``files`` is one folder then.
    threshold : decide for the labels that score as much or more, rather than as the head does.
    segments_s, hop_s : cut songs into clips of so many seconds, one every so many seconds.
    by : ``mean`` or ``vote``: how the answers of clips make that of their song.
    weights : of the backbone, where they no longer lie where they were.

    >>> _ = encore.train_head(store, "hits", "artist")
    >>> answer = encore.predict(store, "song.mp3", "hits/artist", artist="artist 3")
    >>> answer.songs[0].labels, answer.songs[0].clips
    (('genre 3',), 1)

    Raises
    ------
    RequestError
        if there is no such head or file, or the head cannot read it; a file that is damaged is among the ``failures``.
    """
    import os

    from stages.ask.predict import predict_songs

    names = [files] if isinstance(files, str | os.PathLike) else files
    return predict_songs(
        store,
        [os.fspath(name) for name in names],
        head,
        artist=artist,
        table=None if table is None else os.fspath(table),
        columns=columns,
        threshold=threshold,
        segments_s=segments_s,
        hop_s=hop_s,
        by=by,
        weights=None if weights is None else os.fspath(weights),
        device=device,
    )


def similar(
    store: Store,
    query: str | os.PathLike[str],
    name: str,
    *,
    backbone: str | None = None,
    layer: str | None = None,
    count: int = 10,
    artists: bool = False,
    not_same_artist: bool = False,
    filters: Sequence[str] = (),
    weights: str | os.PathLike[str] | None = None,
    device: str = "auto",
) -> SimilarTo:
    """The songs of a collection nearest to a song, a file, an artist or words, by the cosine of their representations.

    Parameters
    ----------
    layer : of a representation with layers: its number, ``mean``, or ``mix`` (all side by side); by default the last.
    query : a song by its id, its title or ``ARTIST - TITLE``; a file; an artist, also as ``artist:NAME``;
        words, also as ``words:...``, where the collection was encoded with ``clap``.
    artists : answer with artists.
    not_same_artist : leave the artist's own songs out.
    filters : as ``label=jazz``, ``artist=NAME`` or ``album=ID``; all must hold.
    weights : as in `predict`.

    >>> near = encore.similar(store, "artist 3", "hits", count=2, artists=True)
    >>> len(near.similar), near.similar[0].artist != "artist 3"
    (2, True)

    Raises
    ------
    RequestError
        if there is no such collection, song, artist or label, or several songs have that title.
    """
    import os

    from stages.ask.similar import find_similar

    return find_similar(
        store,
        os.fspath(query),
        name,
        backbone=backbone,
        layer=layer,
        count=count,
        artists=artists,
        not_same_artist=not_same_artist,
        filters=filters,
        weights=None if weights is None else os.fspath(weights),
        device=device,
    )


def _head_scores(document: dict[str, Any]) -> HeadScores:
    metrics = document["metrics"]
    return HeadScores(
        mode=document["mode"],
        rule=document["rule"],
        backbone=document["backbone"],
        regime=document["regime"],
        seeds=document["seeds"],
        metrics={metric: value["mean"] for metric, value in metrics.items()},
        deviations={metric: value["std"] for metric, value in metrics.items()},
        train_seconds=document["train_seconds"],
        path=document["saved"],
    )


def _encoded(store: Store, name: str, backbone: str | None) -> tuple[Representations, NDArray[np.int64]]:
    """A complete representation, and the catalog rows that it has numbers for and that are not retired."""
    import numpy as np

    from store.reader import Representations

    stored_catalog = store.read_catalog(name)
    representations = Representations(store, stored_catalog, store.find(name, backbone))
    return representations, np.flatnonzero(
        representations.encoded() & ~stored_catalog.retired()[: representations.rows]
    )
