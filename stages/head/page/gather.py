"""Everything that a page tells of a stored collection, gathered from its store."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stages import registry
from stages.head.audit import audit
from stages.head.collection import Collection
from stages.head.map import map_of
from stages.head.open import from_catalog, load
from stages.head.page import details, tables
from stages.head.page.tables import Cell, Column, Table
from stages.head.report import report_on
from stages.head.runs.tested import ENSEMBLE, Tested, gather, reads_neighbours
from stages.head.thesis import paper_on
from stages.progress import note
from stages.splits.regimes import PARTS
from store.errors import RequestError
from store.inventory import describe_collection
from store.layout import Store, match
from store.runs import count_by_mode
from store.schema import Catalog, CatalogInfo

Document = dict[str, Any]
_LIBRARIES = ("torch", "dgl", "torch-geometric", "numpy", "scikit-learn", "faiss-cpu", "pyarrow", "zarr")
_REGIMES = ("random", "album", "artist", "official")  # the order of tables; folds come behind


@dataclass(frozen=True, kw_only=True)
class Request:
    """Which runs are shown: the options of ``encore report``. No ``regime`` means all; folds are of their regime."""

    backbone: str | None
    modes: Sequence[str]
    regime: str | None
    against: str
    ensemble: Sequence[str] = ()
    inductive: bool = False


@dataclass(frozen=True, kw_only=True)
class View:
    """One representation in one regime: its tables, or why there are none."""

    representation: str | None
    regime: str
    tables: list[Table]
    problem: str = ""

    @property
    def title(self) -> str:
        return f"{self.representation or 'no representation'}, {self.regime}"


@dataclass(frozen=True, kw_only=True)
class Story:
    """What there is to tell of one collection.

    Attributes
    ----------
    about, audit : tables of what it is and of what it holds.
    scores : each mode by regime; None where there are no runs.
    views : what lies behind them.
    data : what the page's script draws; only plain types.
    todo : the command to give next, where something is missing.
    """

    name: str
    title: str
    synthetic: bool
    about: list[Table]
    audit: list[Table]
    scores: Table | None
    views: list[View]
    data: Document
    todo: str

    @property
    def tables(self) -> list[Table]:
        scores = [] if self.scores is None else [self.scores]
        return [*self.about, *self.audit, *scores, *(table for view in self.views for table in view.tables)]


def story(store: Store, dataset: str, request: Request, *, draws: bool = True) -> Story:
    """Gather what there is to tell of a collection; ``draws`` says whether maps and details are wanted too."""
    catalog = store.read_catalog(dataset)
    data = from_catalog(catalog, store, keeps=False)
    clips = _Clips(catalog, data)
    views, documents, runs = [], [], []
    for representation, regime in _folders(store, catalog.info, request):
        view, document = _view(store, data, clips, representation, regime, request, draws=draws)
        views.append(view)
        documents.append(document)
        runs += document.pop("runs", [])
    names = [str(name) for name in store.complete(dataset)]
    todo = "" if names else _embed(dataset, f"{catalog.info.backbone}-")
    if names and not documents:
        todo = f"encore compare {dataset} --regimes {request.regime or 'random,artist'}"
    contents = audit(catalog, store)
    scored = [document for document in documents if "scores" in document]
    drawn = match(names, request.backbone) if draws else []
    return Story(
        name=dataset,
        title=catalog.info.title,
        synthetic=catalog.info.synthetic,
        about=[*tables.of_collection(describe_collection(store, dataset)), *_how(dataset, names, runs)],
        audit=tables.of_audit(contents, _genres_per_artist(data)),
        scores=tables.of_scores(scored),
        views=views,
        data={
            "labels": list(data.label_names),
            "metric": data.task.main.title,
            "views": documents,
            "maps": _maps(store, data, drawn),
            **clips.as_json(),
            "parts": list(PARTS),
        },
        todo=todo,
    )


class _Clips:
    """The clips that the page names: each once, with its title, artist and labels."""

    def __init__(self, catalog: Catalog, data: Collection) -> None:
        self.data = data
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
        packed, which = np.unique(np.packbits(labels, axis=1), axis=0, return_inverse=True)
        numbers = [self.sets.setdefault(each.tobytes(), len(self.sets)) for each in packed]
        return [numbers[place] for place in which.reshape(-1).tolist()]

    def describe(self, clip: int) -> Document:
        labels = np.flatnonzero(self.data.labels[clip]).tolist()
        return {"title": self.titles[clip], "artist": self.artists[self.artist[clip]], "labels": labels}

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


def _folders(store: Store, info: CatalogInfo, request: Request) -> list[tuple[str | None, str]]:
    """Every representation and regime of the request that has runs, the collection's default backbone first.

    (None, regime) where no runs read a representation.
    """
    counts = count_by_mode(store, info.name)
    names = [name for name in counts if name != "metadata" and any(counts[name].values())]
    chosen: list[str | None] = [
        *sorted(match(names, request.backbone), key=lambda name: not match([name], info.backbone))
    ]
    if request.backbone is not None and not chosen and names:
        raise RequestError(f"{info.name} has no runs of {request.backbone!r}; have: {', '.join(names)}")
    unread = counts.get("metadata", {})
    if not chosen and any(unread.values()):
        chosen = [None]
    pairs = []
    for name in chosen:
        folders = [folder for folder, count in {**unread, **counts[name or "metadata"]}.items() if count]
        regimes = {regime for folder in folders for regime in _regimes(folder, request)}
        order = sorted(regimes, key=lambda r: (_REGIMES.index(r.partition("-")[0]), r))
        pairs += [(name, regime) for regime in order if request.regime in (None, regime, regime.partition("-")[0])]
    return pairs


def _regimes(folder: str, request: Request) -> list[str]:
    """The regime of a folder of runs of one of the request's modes; none of another folder."""
    if folder.endswith("-inductive") and not request.inductive:
        return []
    names = [
        folder.removeprefix(f"{mode}-").removesuffix("-inductive")
        for mode in request.modes
        if folder.startswith(f"{mode}-")
    ]
    return [regime for regime in names if regime.partition("-")[0] in _REGIMES]


def _view(
    store: Store,
    data: Collection,
    clips: _Clips,
    representation: str | None,
    regime: str,
    request: Request,
    *,
    draws: bool,
) -> tuple[View, Document]:
    """The tables of one representation in one regime, and what the script draws of it."""
    empty: Document = {"representation": representation, "regime": regime, "modes": {}}
    try:
        tested = gather(
            store,
            data,
            representation=representation,
            modes=request.modes,
            regime=regime,
            against=request.against,
            ensemble=request.ensemble,
            inductive=request.inductive,
        )
    except RequestError as error:  # runs that cannot be compared are said so on the page; the rest of it stands
        note(f"{data.info.name}, {representation}, {regime}: {error}")
        return View(representation=representation, regime=regime, tables=[], problem=str(error)), empty
    if tested is None:
        problem = f"no runs here; make some: encore compare {data.info.name} --regimes {regime}"
        return View(representation=representation, regime=regime, tables=[], problem=problem), empty
    name = f"{representation or 'metadata'}-{regime}"
    others = {mode: _means(values, tested.task.main.name) for mode, values in _metrics(tested).items()}
    of_view = tables.of_report(report_on(tested), others, name)
    document = empty | _scores(tested) | (_drawn(tested, clips) if draws else {})
    return View(representation=representation, regime=regime, tables=of_view), document


def _metrics(tested: Tested) -> dict[str, list[Mapping[str, float | None]]]:
    """By mode the metrics of each of its runs, as the store holds them; an ensemble has no runs of its own."""
    return {str(mode): [run.record.metrics for run in runs] for mode, runs in tested.runs.items() if mode != ENSEMBLE}


def _scores(tested: Tested) -> Document:
    """What the table of scores is made from, and how the runs were made."""
    main = tested.task.main.name
    return {
        "metric": main,
        "scores": {mode: [float(values[main] or 0.0) for values in of] for mode, of in _metrics(tested).items()},
        "thesis": _thesis(tested),
        "unread": [str(mode) for mode, of in tested.runs.items() if of[0].record.representation is None],
        "base": None if tested.base is None else str(tested.base),
        "runs": _runs(tested),
    }


def _drawn(tested: Tested, clips: _Clips) -> Document:
    """What the page's script shows of each mode."""
    return {
        "modes": {str(mode): details.of_mode(tested, mode, clips.describe) for mode in tested.runs},
        "doubtful": details.label_errors(tested, clips.describe),
        **_on_map(tested, clips),
    }


def _means(runs: Sequence[Mapping[str, float | None]], main: str) -> dict[str, float | None]:
    """The means over seeds of all metrics but the main one; None where one is not defined for a seed."""
    names = [name for name in runs[0] if name != main]
    values = {name: [run.get(name) for run in runs] for name in names}
    return {
        name: None if any(v is None for v in of) else float(np.mean([v for v in of if v is not None]))
        for name, of in values.items()
    }


def _thesis(tested: Tested) -> dict[str, float]:
    """By mode the thesis's score of runs like these, in the same metric."""
    paper = paper_on(tested.data.info)
    if paper is None or paper.metric != tested.task.main.name or not paper.is_of(tested.representation, tested.regime):
        return {}
    return {
        str(mode): paper.scores[mode.name]
        for mode in tested.runs
        if mode.name in paper.scores
        and mode.rule in (None, "most frequent")
        and not (tested.inductive and reads_neighbours(mode.name))
    }


def _runs(tested: Tested) -> list[tuple[list[Cell], Mapping[str, Any]]]:
    """How the runs were made, a row a mode, with its settings."""
    rows: list[tuple[list[Cell], Mapping[str, Any]]] = []
    for mode, runs in tested.runs.items():
        record = runs[0].record
        if mode == ENSEMBLE:
            continue
        seeds = ", ".join(dict.fromkeys(str(run.record.seed) for run in runs))
        command = f"encore head {record.dataset}"
        command += f" --backbone {record.representation}" if record.representation else ""
        command += f" --mode {mode.name} --regime {record.regime} --seeds {max(r.record.seed for r in runs) + 1}"
        command += " --neighbours train" if tested.inductive and reads_neighbours(mode.name) else ""
        seconds = sum(run.record.seconds for run in runs)
        row: list[Cell] = [record.representation, str(mode), record.regime, seeds, seconds, command]
        rows.append((row, record.all_settings() or {}))
    return rows


def _how(dataset: str, names: Sequence[str], runs: Sequence[tuple[list[Cell], Mapping[str, Any]]]) -> list[Table]:
    """The commands that make all of this again, and what they ran on."""
    embeds: dict[str, Cell] = {f"encode {name}": _embed(dataset, name) for name in names}
    embeds |= {"audit": f"encore audit {dataset}", "this page": f"encore report {dataset} --html FILE"}
    versions: dict[str, Cell] = {"Encore": _version("encore-mir"), "Python": platform.python_version()}
    versions |= {name: _version(name) for name in _LIBRARIES}
    versions["machine"] = f"{platform.system()} {platform.machine()}"
    versions["accelerator"] = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none (CPU)"
    page = tables.pairs("versions", "This page was written by", ("what", "version"), versions)
    commands = tables.pairs("commands", "Commands", ("what for", "command"), embeds)
    return [commands, *([_trained(runs)] if runs else []), page]


def _trained(runs: Sequence[tuple[list[Cell], Mapping[str, Any]]]) -> Table:
    """A row for each mode, representation and regime; settings that all share stand in the note alone."""
    trained = [{key: str(value) for key, value in settings.items()} for _, settings in runs if settings]
    shared = dict(set.intersection(*(set(settings.items()) for settings in trained))) if trained else {}
    rows: dict[tuple[Cell, ...], list[Cell]] = {}
    for row, settings in runs:
        own = ", ".join(f"{key}={value}" for key, value in settings.items() if shared.get(key) != str(value))
        rows[tuple(row[:4])] = [*row[:5], own, row[5]]
    titles = ("representation", "mode", "regime", "seeds", "training, s", "other settings", "command")
    columns = tuple(Column(title, digits=1 if title == "training, s" else 0) for title in titles)
    common = ", ".join(f"{key}={value}" for key, value in sorted(shared.items()))
    return Table("runs", "Trained heads", columns, list(rows.values()), f"Settings of all: {common}." if common else "")


def _embed(dataset: str, representation: str) -> str:
    backbone = representation.rpartition("-")[0]
    if dataset in registry.names("dataset"):
        return f"encore embed {dataset} --backbone {backbone}"
    kind = "table --table FILE" if backbone == "features" else f"folder --data DIR --backbone {backbone}"
    return f"encore embed {kind} --name {dataset}"


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _genres_per_artist(data: Collection) -> dict[str, int]:
    """How many artists have songs of one label, of two, ..."""
    known = data.artist >= 0
    carried = np.zeros((int(data.artist.max(initial=-1)) + 1, data.labels.shape[1]), dtype=bool)
    np.logical_or.at(carried, data.artist[known], data.labels[known])
    counts = np.bincount(carried.sum(axis=1))[1:11].tolist() if len(carried) else []
    more = len(carried) - sum(counts)
    named = {str(genres): int(count) for genres, count in enumerate(counts, start=1)}
    return named | ({"11+": more} if more else {})


def _on_map(tested: Tested, clips: _Clips) -> Document:
    """What the map shows of the first split: the part of each clip, and each mode's labels of the test clips."""
    seed, fold = tested.keys[0]
    try:
        part = tested.data.parts(tested.regime, seed)[max(fold - 1, 0)].tolist()
    except RequestError:  # labels were corrected since, so that this regime is possible no more
        part = []
    given = {str(mode): clips.numbered(runs[0].chosen) for mode, runs in tested.runs.items()}
    return {"seed": seed, "part": part, "tested": tested.clips[0].tolist(), "given": given}


def _maps(store: Store, data: Collection, names: Sequence[str]) -> list[Document]:
    """The map of each representation, with the places of its points among the clips."""
    maps = []
    place = {row: clip for clip, row in enumerate(data.rows.tolist())}
    for name in names:
        made = map_of(store, load(store, data.info.name, name, held=False))
        grid = np.rint(made.place * 4095).astype(np.int64)
        known = [row in place for row in made.rows.tolist()]
        maps.append(
            {
                "representation": name,
                "method": made.method,
                "clip": [place[row] for row in made.rows.tolist() if row in place],
                "x": grid[known, 0].tolist(),
                "y": grid[known, 1].tolist(),
            }
        )
    return maps
