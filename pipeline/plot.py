"""``encore report --plot``: scores by kind of clip, shares of layers, and which labels are confused, as one picture."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.arguments import check_output
from store.errors import EncoreError, RequestError

if TYPE_CHECKING:
    from stages.head.report import Report

_MOST_LABELS = 40  # more cannot be read in a matrix of this size
_LABEL_LENGTH = 30
_ENDINGS = (".pdf", ".png", ".svg")
_PANELS = {
    "by_genres_of_artist": "genres that the artist has",
    "by_songs_of_artist": "songs that the artist has",
    "by_neighbours_of_clip": "neighbours that the clip has",
}
_SYMBOLS = "osD^vPX*<>hd"  # a second round of them is hollow
_COLOURS = [*range(0, 20, 2), *range(1, 20, 2)]  # of matplotlib's tab20: the strong ones, then the pale ones


def check(path: Path) -> None:
    """RequestError where no picture can be written there; before anything is computed."""
    if path.suffix.lower() not in _ENDINGS:
        raise RequestError(f"--plot {path}: the name's ending says the format, one of {', '.join(_ENDINGS)}")
    check_output("--plot", path)


def draw(report: Report, path: Path) -> None:
    """Draw a report: each mode's score by kind of clip, with 95 % intervals, the shares of layers where they are mixed,
    and the confusions of the best mode.
    """
    save(lambda: figure(report), path)


def save(figure: Callable[[], Any], path: Path) -> None:
    """Write what a function draws; a picture that stands there is replaced by a whole one."""
    import matplotlib

    with matplotlib.rc_context({"text.parse_math": False}), warnings.catch_warnings():  # a label's $ is a dollar
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # the font draws a box then
        picture = io.BytesIO()
        figure().savefig(picture, format=path.suffix.lower()[1:], dpi=150)
    beside = path.with_name(f".{path.name[:100]}.partial")
    try:
        beside.write_bytes(picture.getvalue())
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise EncoreError(f"--plot {path}: cannot be written: {error.strerror}") from error


def _short(label: str) -> str:
    """A label as it fits a picture: no control characters, which no SVG may hold, and no longer than there is room."""
    plain = "".join(letter if letter.isprintable() else " " for letter in label)
    return plain if len(plain) <= _LABEL_LENGTH else f"{plain[: _LABEL_LENGTH - 3]}..."


def figure(report: Report) -> Any:
    """The picture of a report as a matplotlib figure."""
    from matplotlib.figure import Figure

    shows_matrix = report.task.CHOOSES and len(report.labels) <= _MOST_LABELS
    mixtures = {str(mode): entry.mixture for mode, entry in report.modes.items() if entry.mixture is not None}
    heights = [4.2, *([2.4] if mixtures else []), *([0.6 + 0.3 * max(8, len(report.labels))] if shows_matrix else [])]
    picture = Figure(figsize=(5 * len(_PANELS), sum(heights)), layout="constrained")
    grid = picture.add_gridspec(len(heights), len(_PANELS), height_ratios=heights)
    for column, (kind, title) in enumerate(_PANELS.items()):
        axes = picture.add_subplot(grid[0, column])
        _buckets(axes, report, kind, title)
    picture.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False)
    if mixtures:
        _mixtures(picture.add_subplot(grid[1, :]), mixtures)
    if shows_matrix:
        _confusion(picture, picture.add_subplot(grid[-1, :]), report)
    synthetic = " (synthetic)" if report.synthetic else ""
    seeds = f"seed{'s' if len(report.seeds) > 1 else ''} {', '.join(map(str, report.seeds))}"
    picture.suptitle(
        f"{report.dataset}{synthetic}, {report.representation or 'metadata'}, regime {report.regime}, {seeds}",
        fontsize="medium",
    )
    return picture


def _buckets(axes: Any, report: Report, kind: str, title: str) -> None:
    from matplotlib import colormaps

    metric, modes = report.task.within, report.modes
    first = next(iter(modes.values())).by_kind[kind]
    beside = (np.arange(len(modes)) - (len(modes) - 1) / 2) * min(0.08, 0.6 / len(modes))
    for i, ((mode, entry), shift) in enumerate(zip(modes.items(), beside, strict=True)):
        scores = entry.by_kind[kind].values()
        values = np.array([metric.scale * score.score for score in scores])
        bounds = np.array([score.interval or [score.score] * 2 for score in scores])
        distances = np.abs(metric.scale * bounds.T - values)
        style = {"fmt": _SYMBOLS[i % len(_SYMBOLS)], "color": colormaps["tab20"](_COLOURS[i % len(_COLOURS)])}
        style |= {"markerfacecolor": "white"} if i // len(_SYMBOLS) % 2 else {}
        style |= {"markersize": 5, "elinewidth": 0.8}
        axes.errorbar(np.arange(len(first)) + shift, values, distances, label=str(mode), **style)
    axes.set_xticks(range(len(first)), [f"{name}\n({score.clips:,})" for name, score in first.items()])
    axes.set_xlabel(f"{title} (clips)")
    axes.set_ylabel(f"{metric.title}, {metric.unit}, 95 % interval")
    if report.task.CHOOSES:
        axes.set_ylim(-0.02 * metric.scale, 1.02 * metric.scale)
    axes.grid(visible=True, axis="y", alpha=0.3)


def _mixtures(axes: Any, mixtures: Mapping[str, Sequence[float]]) -> None:
    """The share of each layer, a bar a mode."""
    width = 0.8 / len(mixtures)
    for i, (mode, shares) in enumerate(mixtures.items()):
        places = np.arange(len(shares)) + (i - (len(mixtures) - 1) / 2) * width
        axes.bar(places, 100 * np.array(shares), width, label=mode)
    axes.set_xticks(range(len(shares)))
    axes.set_xlabel("layer")
    axes.set_ylabel("share of the mixture, per cent")
    axes.legend(frameon=False, fontsize="small", ncols=5)


def _confusion(picture: Any, axes: Any, report: Report) -> None:
    mode, entry = max(report.modes.items(), key=lambda item: item[1].overall.score)
    counts = entry.confusion
    assert counts is not None
    share = counts / np.array(report.label_clips).clip(min=1)[:, None]  # rows exceed 1 where clips get several
    labels = [_short(label) for label in report.labels]
    columns = [*labels, "none"]
    if not counts[:, -1].any():
        share, columns = share[:, :-1], columns[:-1]
    image = axes.imshow(100 * share, cmap="Blues", vmin=0, vmax=100, aspect="auto")
    axes.set_xticks(range(len(columns)), columns, rotation=60, ha="right", fontsize="small")
    axes.set_yticks(range(len(labels)), labels, fontsize="small")
    axes.set_xlabel(f"given by {mode}" + (", the best of these modes" if len(report.modes) > 1 else ""))
    axes.set_ylabel("true")
    picture.colorbar(image, ax=axes).set_label("share of the true label's clips, per cent", fontsize="small")
