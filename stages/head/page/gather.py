"""Everything that a page tells of a stored collection, gathered from its store."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from stages.head.audit import audit
from stages.head.collection import Collection
from stages.head.map import map_of
from stages.head.open import from_catalog, load
from stages.head.page import details, gate, made, scores, tables
from stages.head.page.clips import Clips, only
from stages.head.page.tables import Table
from stages.head.report import Report, report_on, resampled
from stages.head.runs.pool import ENSEMBLE, PooledRuns, gather, reads_neighbours
from stages.head.thesis import paper_on
from stages.head.training.threads import one_thread
from stages.progress import note
from stages.splits.regimes import PARTS
from store.errors import RequestError
from store.inventory import describe_collection
from store.layout import Store, match, split_layer
from store.runs import count_by_mode, target_of
from store.schema import CatalogInfo

Document = dict[str, Any]
_REGIMES = ("random", "album", "artist", "official")  # the order of tables; folds come behind


@dataclass(frozen=True, kw_only=True)
class Request:
    """Which runs are shown: the options of ``encore report``.

    No ``regime`` means all of them, and folds are of their regime; no ``target`` those of labels. ``audio`` is where a
    page finds the songs' files: what stands before their paths. ``names`` are all collections of the page, ``page``
    is its file, and ``place`` the words that say of any command which store it is of.
    """

    backbone: str | None
    modes: Sequence[str]
    regime: str | None
    against: str
    target: str | None = None
    ensemble: Sequence[str] = ()
    inductive: bool = False
    audio: str | None = None
    names: Sequence[str] = ()
    page: str = "page.html"
    place: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class View:
    """One representation in one regime: its tables and what they are of, or the reason why there are none."""

    representation: str | None
    regime: str
    tables: list[Table]
    report: Report | None = None
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
    scores : who wins where, each mode by regime, backbones side by side; none where there are no runs.
    views : what lies behind them.
    data : what the page's script draws; only plain types.
    todo : the command to give next, where something is missing.
    problem : why there is none.
    """

    name: str
    title: str
    synthetic: bool
    about: list[Table]
    audit: list[Table]
    scores: list[Table]
    views: list[View]
    data: Document
    todo: str
    problem: str = ""

    @property
    def tables(self) -> list[Table]:
        """All of them; what lies behind scores says in its title which runs it is of."""
        behind = (replace(each, title=f"{each.title}: {view.title}") for view in self.views for each in view.tables)
        return [*self.about, *self.audit, *self.scores, *behind]


def story(store: Store, dataset: str, request: Request, *, draws: bool = True) -> Story:
    """Gather what there is to tell of a collection; ``draws`` says whether maps and details are wanted too."""
    catalog = store.read_catalog(dataset)
    data = from_catalog(catalog, store, target=request.target, keeps=False)
    clips = Clips(catalog, data)
    views, documents, runs, reports = [], [], [], []
    for representation, regime in _folders(store, catalog.info, request):
        with one_thread():  # where other work shares the cores, many threads take three times as long
            view, document = _view(store, data, clips, representation, regime, request, draws=draws)
        views.append(view)
        documents.append(document)
        runs += document.pop("runs", [])
        reports += [] if view.report is None else [view.report]
    names = [str(name) for name in store.complete(dataset)]
    todo: list[str] = [] if names else made.embedding(catalog.info)
    trains = request.target is not None or len(data.label_names) > 1
    if names and not documents and trains:
        todo = _comparing(dataset, request.regime or "random,artist", request)
    contents = audit(catalog, store)
    scored = [{**document, "resampled": document.pop("resampled")} for document in documents if "scores" in document]
    backbones = match(names, split_layer(request.backbone)[0]) if draws else []
    maps = _maps(store, data, backbones)
    rows = np.unique(np.concatenate([np.empty(0, np.int64), *(np.array(of["clip"], np.int64) for of in maps)]))
    return Story(
        name=dataset,
        title=catalog.info.title,
        synthetic=catalog.info.synthetic,
        about=[
            *tables.of_collection(describe_collection(store, dataset)),
            *made.how(store, catalog.info, runs, request),
        ],
        audit=tables.of_audit(contents, _genres_per_artist(data)),
        scores=scores.tables_of_scores(scored, reports),
        views=views,
        data=only(
            rows,
            {
                "labels": list(data.label_names),
                "metric": data.task.main.title,
                "views": documents,
                "maps": maps,
                **clips.as_json(),
                **({} if request.audio is None else {"audio": request.audio, "files": clips.files()}),
                "parts": list(PARTS),
            },
        ),
        todo=shlex.join([*todo, *request.place] if todo else []),
        problem="" if trains or documents else "All songs carry the same label, or none: there is nothing to learn.",
    )


def _comparing(dataset: str, regimes: str, request: Request) -> list[str]:
    """The words of a command that makes runs."""
    words = ["encore", "compare", dataset, "--regimes", regimes]
    return words + ([] if request.target is None else ["--target", request.target])


def _folders(store: Store, info: CatalogInfo, request: Request) -> list[tuple[str | None, str]]:
    """Every representation and regime of the request that has runs, the collection's default backbone first.

    (None, regime) where no runs read a representation.
    """
    counts = count_by_mode(store, info.name)
    names = [name for name in counts if name != "metadata" and any(counts[name].values())]
    representations: list[str | None] = [
        *sorted(match(names, request.backbone), key=lambda name: not match([name], info.backbone))
    ]
    if request.backbone is not None and not representations and names:
        raise RequestError(f"{info.name} has no runs of {request.backbone!r}; have: {', '.join(names)}")
    unread = counts.get("metadata", {})
    if not representations and any(unread.values()):
        representations = [None]
    pairs = []
    for name in representations:
        folders = [folder for folder, count in {**unread, **counts[name or "metadata"]}.items() if count]
        regimes = {regime for folder in folders for regime in _regimes(folder, request)}
        order = sorted(regimes, key=lambda r: (_REGIMES.index(r.partition("-")[0]), r))
        pairs += [(name, regime) for regime in order if request.regime in (None, regime, regime.partition("-")[0])]
    return pairs


def _regimes(folder: str, request: Request) -> list[str]:
    """The regime of a folder of runs of one of the request's modes; none of another folder."""
    folder, target = target_of(folder)
    if target != request.target or (folder.endswith("-inductive") and not request.inductive):
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
    clips: Clips,
    representation: str | None,
    regime: str,
    request: Request,
    *,
    draws: bool,
) -> tuple[View, Document]:
    """The tables of one representation in one regime, and what the script draws of it."""
    empty: Document = {"representation": representation, "regime": regime, "modes": {}}
    try:
        pool = gather(
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
    if pool is None:
        command = shlex.join([*_comparing(data.info.name, regime, request), *request.place])
        problem = f"no runs here; make some: {command}"
        return View(representation=representation, regime=regime, tables=[], problem=problem), empty
    name = f"{representation or 'metadata'}-{regime}"
    others = {mode: _means(values, pool.task.main.name) for mode, values in _metrics(pool).items()}
    report = report_on(pool)
    of_view = tables.of_report(report, others, name)
    document = empty | _scores(pool, request) | (_drawn(store, pool, clips) if draws else {})
    return View(representation=representation, regime=regime, tables=of_view, report=report), document


def _metrics(pool: PooledRuns) -> dict[str, list[Mapping[str, float | None]]]:
    """By mode the metrics of each of its runs, as the store holds them; an ensemble has no runs of its own."""
    return {str(mode): [run.record.metrics for run in runs] for mode, runs in pool.runs.items() if mode != ENSEMBLE}


def _scores(pool: PooledRuns, request: Request) -> Document:
    """What the table of scores is made from, and how the runs were made."""
    main = pool.task.main.name
    # Regimes are drawn independently: each has a seed of its own.
    draws = resampled(pool, seed=1 + _REGIMES.index(pool.regime.partition("-")[0]))
    return {
        "resampled": {str(mode): of_mode for mode, of_mode in draws.items()},
        "metric": main,
        "scores": {mode: [float(values[main] or 0.0) for values in of] for mode, of in _metrics(pool).items()},
        "thesis": _thesis(pool),
        "unread": [str(mode) for mode, of in pool.runs.items() if of[0].record.representation is None],
        "base": None if pool.base is None else str(pool.base),
        "runs": made.runs(pool, request.place),
    }


def _drawn(store: Store, pool: PooledRuns, clips: Clips) -> Document:
    """What the page's script shows of each mode; of numbers it shows where the test clips lie, and tables the rest."""
    if not pool.task.CHOOSES:
        return _on_map(pool, clips)
    return {
        "modes": {
            str(mode): {
                **details.of_mode(pool, mode, clips.describe),
                "gate": [] if mode == ENSEMBLE else gate.by_agreement(store, pool, mode),
            }
            for mode in pool.runs
        },
        "doubtful": details.label_errors(pool, clips.describe),
        **_on_map(pool, clips),
    }


def _means(runs: Sequence[Mapping[str, float | None]], main: str) -> dict[str, float | None]:
    """The means over seeds of all metrics but the main one; None where one is not defined for a seed."""
    names = [name for name in runs[0] if name != main]
    values = {name: [run.get(name) for run in runs] for name in names}
    return {
        name: None if any(v is None for v in of) else float(np.mean([v for v in of if v is not None]))
        for name, of in values.items()
    }


def _thesis(pool: PooledRuns) -> dict[str, float]:
    """By mode the thesis's score of runs like these, in the same metric."""
    paper = paper_on(pool.data.info)
    if paper is None or paper.metric != pool.task.main.name or not paper.is_of(pool.representation, pool.regime):
        return {}
    return {
        str(mode): paper.scores[mode.name]
        for mode in pool.runs
        if mode.name in paper.scores
        and mode.rule in (None, "most frequent")
        and not (pool.inductive and reads_neighbours(mode.name))
    }


def _genres_per_artist(data: Collection) -> dict[str, int]:
    """How many artists have songs of one label, of two, ..."""
    has_artist = data.artist >= 0
    genres_of_artist = np.zeros((int(data.artist.max(initial=-1)) + 1, data.labels.shape[1]), dtype=bool)
    np.logical_or.at(genres_of_artist, data.artist[has_artist], data.labels[has_artist])
    counts = np.bincount(genres_of_artist.sum(axis=1))[1:11].tolist() if len(genres_of_artist) else []
    more = len(genres_of_artist) - sum(counts)
    entries = {str(genres): int(count) for genres, count in enumerate(counts, start=1)}
    return entries | ({"11+": more} if more else {})


def _on_map(pool: PooledRuns, clips: Clips) -> Document:
    """What the map shows of the first split: the part of each clip, and each mode's labels of the test clips."""
    seed, fold = pool.keys[0]
    try:
        part = pool.data.parts(pool.regime, seed)[max(fold - 1, 0)].tolist()
    except RequestError:  # labels were corrected since, so that this regime is possible no more
        part = []
    runs = pool.runs if pool.task.CHOOSES else {}
    answers = {str(mode): clips.numbered(of_mode[0].decision) for mode, of_mode in runs.items()}
    return {"seed": seed, "part": part, "tested": pool.clips[0].tolist(), "given": answers}


def _maps(store: Store, data: Collection, names: Sequence[str]) -> list[Document]:
    """The map of each representation, with the places of its points among the clips."""
    maps = []
    place = {row: clip for clip, row in enumerate(data.rows.tolist())}
    for name in names:
        try:
            of = map_of(store, load(store, data.info.name, name, in_memory=False))
        except RequestError as error:  # all of its clips were retired, or lost their labels, since
            note(f"{name} has no map: {error}")
            continue
        grid = np.rint(of.place * 4095).astype(np.int64)
        is_on_map = [row in place for row in of.rows.tolist()]
        maps.append(
            {
                "representation": name,
                "method": of.method,
                "clip": [place[row] for row in of.rows.tolist() if row in place],
                "x": grid[is_on_map, 0].tolist(),
                "y": grid[is_on_map, 1].tolist(),
            }
        )
    return maps
