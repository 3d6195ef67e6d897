"""``encore report --plot``: scores by kind of artist, and what is taken for what, as one picture."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.output import SHORT
from store.errors import EncoreError, RequestError

_MOST_LABELS = 40  # more cannot be read in a matrix of this size
_LABEL_LENGTH = 30
_KINDS = (".pdf", ".png", ".svg")
_SYMBOLS = "osD^vPX*<>hd"  # a second round of them is hollow
_COLOURS = [*range(0, 20, 2), *range(1, 20, 2)]  # of matplotlib's tab20: the strong ones, then the pale ones


def check(path: Path) -> None:
    """RequestError where no picture can be written there; before anything is computed."""
    if path.suffix.lower() not in _KINDS:
        raise RequestError(f"--plot {path}: the name's ending says the format, one of {', '.join(_KINDS)}")
    if path.exists() and not path.is_file():
        raise RequestError(f"--plot {path}: is there, and is no file")
    if not path.parent.is_dir():
        raise RequestError(f"--plot {path}: {path.parent} is no folder")


def draw(found: dict[str, Any], path: Path) -> None:
    """Draw a report: each mode's score by the artist's genres and songs, with 95 % intervals, and the confusions of the
    best mode.
    """
    import matplotlib

    with matplotlib.rc_context({"text.parse_math": False}), warnings.catch_warnings():  # a label's $ is a dollar
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # the font draws a box then
        made = io.BytesIO()
        _figure(found).savefig(made, format=path.suffix.lower()[1:], dpi=150)
    beside = path.with_name(f".{path.name[:100]}.partial")  # a picture that stands is replaced by a whole one
    try:
        beside.write_bytes(made.getvalue())
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise EncoreError(f"--plot {path}: cannot be written: {error.strerror}") from error


def _short(label: str) -> str:
    """A label as it fits a picture: no control characters, which no SVG may hold, and no longer than there is room."""
    plain = "".join(letter if letter.isprintable() else " " for letter in label)
    return plain if len(plain) <= _LABEL_LENGTH else f"{plain[: _LABEL_LENGTH - 3]}..."


def _figure(found: dict[str, Any]) -> Any:
    from matplotlib.figure import Figure

    shows_matrix = len(found["labels"]) <= _MOST_LABELS
    height = 4.2 + (0.6 + 0.3 * max(8, len(found["labels"])) if shows_matrix else 0)
    figure = Figure(figsize=(10, height), layout="constrained")
    grid = figure.add_gridspec(2 if shows_matrix else 1, 2, height_ratios=[4.2, height - 4.2] if shows_matrix else [1])
    panels = (
        ("by_genres_of_artist", "genres that the artist has"),
        ("by_songs_of_artist", "songs that the artist has"),
    )
    for column, (key, title) in enumerate(panels):
        axes = figure.add_subplot(grid[0, column])
        _buckets(axes, found, key, title)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False)
    if shows_matrix:
        _confusion(figure, figure.add_subplot(grid[1, :]), found)
    kind = " (synthetic)" if found["synthetic"] else ""
    seeds = f"seed{'s' if len(found['seeds']) > 1 else ''} {', '.join(map(str, found['seeds']))}"
    figure.suptitle(
        f"{found['dataset']}{kind}, {found['representation'] or 'metadata'}, regime {found['regime']}, {seeds}",
        fontsize="medium",
    )
    return figure


def _buckets(axes: Any, found: dict[str, Any], key: str, title: str) -> None:
    from matplotlib import colormaps

    modes: dict[str, Any] = found["modes"]
    names = list(dict.fromkeys(name for entry in modes.values() for name in entry[key]))
    beside = (np.arange(len(modes)) - (len(modes) - 1) / 2) * min(0.08, 0.6 / len(modes))
    for i, ((mode, entry), shift) in enumerate(zip(modes.items(), beside, strict=True)):
        buckets = [entry[key][name] for name in names]
        scores = np.array([100 * bucket["score"] for bucket in buckets])
        bounds = np.array([bucket["interval"] or [bucket["score"]] * 2 for bucket in buckets])
        spread = np.abs(100 * bounds.T - scores)
        style = {"fmt": _SYMBOLS[i % len(_SYMBOLS)], "color": colormaps["tab20"](_COLOURS[i % len(_COLOURS)])}
        style |= {"markerfacecolor": "white"} if i // len(_SYMBOLS) % 2 else {}
        style |= {"markersize": 5, "elinewidth": 0.8}
        axes.errorbar(np.arange(len(names)) + shift, scores, spread, label=mode, **style)
    clips = {name: entry[key][name]["clips"] for entry in modes.values() for name in entry[key]}
    axes.set_xticks(range(len(names)), [f"{name}\n({clips[name]:,})" for name in names])
    axes.set_xlabel(f"{title} (clips)")
    axes.set_ylabel(f"{SHORT[found['metric']]}, per cent, 95 % interval")
    axes.set_ylim(-2, 102)
    axes.grid(visible=True, axis="y", alpha=0.3)


def _confusion(figure: Any, axes: Any, found: dict[str, Any]) -> None:
    mode, entry = max(found["modes"].items(), key=lambda item: item[1]["score"])
    counts = np.array(entry["confusion"], dtype=float)
    share = counts / np.array(found["label_clips"]).clip(min=1)[:, None]  # rows add up to more where clips get several
    labels = [_short(label) for label in found["labels"]]
    given = [*labels, "none"]
    if not counts[:, -1].any():
        share, given = share[:, :-1], given[:-1]
    image = axes.imshow(100 * share, cmap="Blues", vmin=0, vmax=100, aspect="auto")
    axes.set_xticks(range(len(given)), given, rotation=60, ha="right", fontsize="small")
    axes.set_yticks(range(len(labels)), labels, fontsize="small")
    axes.set_xlabel(f"given by {mode}" + (", the best of these modes" if len(found["modes"]) > 1 else ""))
    axes.set_ylabel("true")
    figure.colorbar(image, ax=axes).set_label("share of the true label's clips, per cent", fontsize="small")
