"""Every collection at hand by mode and regime, the best baseline beside, and which of the thesis's claims hold."""

from __future__ import annotations

import csv
import math
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.output import table, wrapped
from pipeline.recipes import QUICK, Need, Recipe, Step
from stages.head.modes import BASELINES
from store.errors import EncoreError, RequestError

if TYPE_CHECKING:
    from stages.head.report import ModeReport, Report
    from stages.head.scores.compared import Difference
    from stages.head.scores.metrics import Metric
    from store.layout import Store

_MODES = "song,linear,artist,artist-embedding,gnn,dropedge,gated,label-propagation"
_REGIMES = ("random", "artist")
_COLUMNS = 3  # collections beside each other
_LEAST = 0.02  # share of the labelled songs that carries a label which is kept
_SPOTIFY = "table --table {data}/spotify/ClassicHit.csv"
_MIDI = "folder --data {data}/freemidi/midi --table {data}/freemidi/songs.csv"
_PIANO_ROLL = "--backbone pianoroll --clips 1 --clip-s 60 --set frames=4"

# By name: what is embedded, and the minutes that compare takes.
_COLLECTIONS = {
    "emotify": (
        "folder --data {data}/emotify/mp3 --table {data}/emotify/songs.csv --columns labels=genre --backbone mfcc",
        1,
    ),
    "fma-librosa": ("table --table {data}/fma/librosa.csv --columns song=song_id", 5),
    "freemidi-magd": (f"{_MIDI} --columns labels= --labels {{work}}/magd.csv {_PIANO_ROLL}", 4),
    "freemidi-masd": (f"{_MIDI} --columns labels= --labels {{work}}/masd.csv {_PIANO_ROLL}", 4),
    "freemidi-genius": (f"{_MIDI} --columns labels= --labels {{work}}/midi-tags.csv {_PIANO_ROLL}", 20),
    "classichit": (f"{_SPOTIFY} --columns artist=Artist,labels=Genre,title=Track", 20),
    "classichit-genius": (f"{_SPOTIFY} --columns artist=Artist,labels=,title=Track --labels {{work}}/tags.csv", 8),
    "classichit-spotify": (f"{_SPOTIFY} --columns artist=Artist,labels=,title=Track --labels {{work}}/spotify.csv", 30),
}


def _prepare(data: Path, work: Path) -> None:
    """Labels of the songs of four collections, without the rare ones."""
    rows = _rows(data / "spotify" / "ClassicHit_labels.csv")
    songs = [f"row-{row:06}" for row in range(len(rows))]
    _write(work / "tags.csv", songs, [row["genius_tags"] for row in rows])
    _write(work / "spotify.csv", songs, [row["spotify_artist_genres"] for row in rows])
    rows = _rows(data / "freemidi" / "songs.csv")
    songs = [row["file"] for row in rows]
    for name, column in (("magd", "magd"), ("masd", "masd"), ("midi-tags", "genius_tags")):
        _write(work / f"{name}.csv", songs, [row[column] for row in rows])


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    needed = {"genius_tags", "spotify_artist_genres"} if path.parent.name == "spotify" else {"file", "genius_tags"}
    if not rows or not needed <= set(rows[0]):
        raise RequestError(f"{path} has not the columns {', '.join(sorted(needed))}")
    return rows


def _write(path: Path, songs: list[str], cells: list[str]) -> None:
    """``song, labels``, of the songs that keep any."""
    label_lists = [list(dict.fromkeys(filter(None, (cell or "").split("|")))) for cell in cells]
    counts = Counter(label for labels in label_lists for label in labels)
    least = _LEAST * sum(map(bool, label_lists))
    label_lists = [[label for label in labels if counts[label] >= least] for labels in label_lists]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["song", "labels"])
        writer.writerows([song, "|".join(labels)] for song, labels in zip(songs, label_lists, strict=True) if labels)


def _scores(store: Store) -> list[str]:
    """By regime every mode on every collection that has runs, and how far the gated head is above the best others."""
    lines: list[str] = []
    for regime in _REGIMES:
        columns: dict[str, dict[str, str]] = {}
        for name in filter(store.has_catalog, _COLLECTIONS):
            try:
                columns[name] = _column(store, name, regime)
            except EncoreError as error:
                lines += ["", *wrapped(f"{name}, {regime}: {error}")]
        names = list(columns)
        for first in range(0, len(names), _COLUMNS):
            some = names[first : first + _COLUMNS]
            titles = dict.fromkeys(title for name in some for title in columns[name])
            rows = [[title, *(columns[name].get(title, "-") for name in some)] for title in titles]
            lines += ["", table([regime, *some], rows)]
    return lines


def _column(store: Store, name: str, regime: str) -> dict[str, str]:
    """By mode the mean of the main metric and its interval on one collection; the best baseline, and PR-AUC."""
    from stages.head.report import report
    from stages.head.scores.metrics import PR_AUC

    def of(against: str) -> Report:
        modes = [*_MODES.split(","), *BASELINES]
        return report(store, name, backbone=None, modes=modes, regime=regime, against=against)

    scores = of("song")
    metric = scores.task.main
    entries = {str(mode): entry for mode, entry in scores.modes.items()}
    column = {
        "metric, seeds": f"{metric.title}, {len(scores.seeds)}",
        **{mode: _cell(metric, entry) for mode, entry in entries.items() if mode not in BASELINES},
    }
    others = [mode for mode in entries if mode not in (*BASELINES, "gated")]
    baselines = [mode for mode in entries if mode in BASELINES]
    for title, names in (("best other mode", others), ("best baseline", baselines)):
        if not names:
            continue
        best = max(names, key=lambda mode: _mean(metric.name, entries[mode]))
        column[title] = best
        if best in BASELINES:
            column["its score"] = _cell(metric, entries[best])
        gated = {str(mode): entry for mode, entry in of(best).modes.items()}.get("gated")
        if gated is not None and gated.overall.against is not None:
            column[f"gated to {title}"] = _difference(metric, gated.overall.against)
    if metric.name != "accuracy":  # PR-AUC knows no threshold, and is told only of several labels a song
        for title, names in (("gated", ["gated"]), ("best other mode", others), ("best baseline", baselines)):
            have = [mode for mode in names if mode in entries]
            if have:
                best = max(have, key=lambda mode: _mean(PR_AUC.name, entries[mode]))
                mean = PR_AUC.text(entries[best].means[PR_AUC.name])
                column[f"PR-AUC, {title}"] = mean if title == best else f"{mean} {best}"
    return column


def _mean(metric: str, entry: ModeReport) -> float:
    mean = entry.means.get(metric, math.nan)
    return -math.inf if math.isnan(mean) else mean


def _cell(metric: Metric, entry: ModeReport) -> str:
    interval = entry.overall.interval
    bounds = "" if interval is None else f" {'-'.join(map(metric.text, interval))}"
    return f"{metric.text(entry.means.get(metric.name, math.nan))}{bounds}"


def _difference(metric: Metric, difference: Difference) -> str:
    bounds = difference.interval
    text = "" if bounds is None else f" {metric.text(bounds[0], '+')} to {metric.text(bounds[1], '+')}"
    return f"{metric.text(difference.difference, '+')}{text}"


RECIPE = Recipe(
    title="Eight collections by mode and regime, and the claims of the thesis",
    study="Encore's own, on claims of S. Lee's thesis (Seoul National University)",
    needs=(
        Need(
            "spotify/ClassicHit.csv", "the GitHub repository TylerFlar/cse158-assignment2-music-genre-predicting (MIT)"
        ),
        Need("spotify/ClassicHit_labels.csv", "a table of the same rows: genius_tags, spotify_artist_genres"),
        Need("fma/librosa.csv", "36 librosa features of songs of FMA: song_id, artist, title, labels and the features"),
        Need("freemidi/midi/*.mid", "MIDI files of free MIDI sites, by way of rp-bot/Ultimate-MIDI-Scraper", 3413),
        Need("freemidi/songs.csv", "a table of these files: file, artist, title, genius_tags, magd, masd"),
        Need("emotify/mp3/*.mp3", "the Emotify set (CC BY-NC-SA), by way of sergi-andreu/ProjectMusicInformatics", 201),
        Need("emotify/songs.csv", "a table of these files: file, artist, title, album, genre"),
    ),
    prepare=_prepare,
    whole=(
        *(Step(0.5, f"embed {words} --name {name}") for name, (words, _) in _COLLECTIONS.items()),
        *(
            Step(minutes, f"compare {name} --modes {_MODES} --baselines --regimes random,artist --seeds 5")
            for name, (_, minutes) in _COLLECTIONS.items()
        ),
        Step(2, f"report {' '.join(_COLLECTIONS)} --claims"),
        Step(5, f"report {' '.join(_COLLECTIONS)} --html {{page}}"),
    ),
    small=(
        Step(0.2, "embed demo --songs 40 --backbone mfcc"),
        Step(0.5, f"compare demo --backbone mfcc --modes {_MODES} --regimes random,artist {QUICK}"),
        Step(0.2, "report demo --backbone mfcc --claims"),
        Step(0.2, "report demo --backbone mfcc --html {page}"),
    ),
    disk="100 MiB",
    closing=_scores,
)
