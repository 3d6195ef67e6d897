"""``encore report``: what lies behind the scores of stored runs."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.arguments import check_mode, open_store, read_modes, split_names
from pipeline.options import DEFAULT_STORE, REGIMES, BackboneOption, JsonOption, StoreOption
from pipeline.output import ARTIST_RULES, SHORT, WIDTH, print_json, table
from stages import progress
from store.errors import RequestError

_BELOW = "<"


def report(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="a name in the store")] = "demo",
    backbone: BackboneOption = None,
    modes: Annotated[str, typer.Option("--modes", help="M,M,... or all", metavar="M,M")] = "all",
    regime: Annotated[str, typer.Option("--regime", help=REGIMES, metavar="R")] = "random",
    against: Annotated[
        str, typer.Option("--against", help="the mode that others are tested against", metavar="M")
    ] = "song",
    ensemble: Annotated[
        str | None, typer.Option("--ensemble", help="report the mean of these modes' scores too", metavar="M,M")
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", help="draw scores by kind of artist, and confusions: .png, .pdf, .svg", metavar="FILE"),
    ] = None,
    neighbours: Annotated[
        str, typer.Option("--neighbours", help="train: the runs made with --neighbours train", metavar="all|train")
    ] = "all",
    store: StoreOption = DEFAULT_STORE,
    json: JsonOption = False,
) -> None:
    """Say what lies behind stored scores. Intervals, paired tests, scores by kind of artist."""
    from pipeline import plot as picture
    from stages.head import report as work

    chosen = read_modes(modes)
    members = split_names(ensemble, "--ensemble") if ensemble is not None else []
    for mode in members:
        check_mode(mode)
    if plot is not None:
        picture.check(plot)
    if neighbours not in ("all", "train"):
        raise RequestError(f"--neighbours takes all or train, not {neighbours!r}")
    scores = work.report(
        open_store(store),
        dataset,
        backbone=backbone,
        modes=chosen,
        regime=regime,
        against=against,
        ensemble=members,
        inductive=neighbours == "train",
    )
    if plot is not None:
        picture.draw(scores, plot)
        progress.note(f"drawn: {plot}")
    if json:
        print_json(scores)
    else:
        print(describe(scores))


def describe(found: dict[str, Any]) -> str:
    """The report in tables of at most 80 columns."""
    kind = " (synthetic)" if found["synthetic"] else ""
    seeds = ", ".join(map(str, found["seeds"]))
    which = f"test clips of seed{'s' if len(found['seeds']) > 1 else ''} {seeds}"
    modes = found["modes"]
    other = next((entry["against"]["mode"] for entry in modes.values() if "against" in entry), None)
    tested = [] if other is None else [f"to {other}", "p"]
    rows = []
    for mode, entry in modes.items():
        bounds = entry["interval"]
        within = f"{100 * bounds[0]:.1f} - {100 * bounds[1]:.1f}" if bounds else "-"
        row = [mode, f"{100 * entry['score']:.1f}", within]
        against = entry.get("against")
        if against:
            row += [f"{100 * against['difference']:+.1f}", "-" if against["p"] is None else f"{against['p']:.3f}"]
        rows.append([*row, *["-"] * (3 + len(tested) - len(row))])
    others = "; ".join(
        f"{mode} ({', '.join(f'{name}={value}' for name, value in values.items())})"
        for mode, values in found["other_settings"].items()
    )
    lines = [
        f"{found['dataset']}{kind}, {found['representation'] or 'metadata'}, regime {found['regime']}",
        f"{which} pooled; 95 % intervals{' and p' if tested else ''} over resampled artists",
        *(["inductive: training clips alone are neighbours"] if found["neighbours"] == "train" else []),
        "",
        table(["mode", SHORT[found["metric"]], "interval", *tested], rows),
        *([ARTIST_RULES] if any(mode.endswith("(top)") for mode in modes) else []),
        *textwrap.wrap(f"made with other settings than the others: {others}" if others else "", WIDTH),
        *textwrap.wrap(f"ensemble: mean scores of {', '.join(found['ensemble'])}" if found["ensemble"] else "", WIDTH),
    ]
    marked = False
    for key, title, more in (
        ("by_genres_of_artist", "genres the artist has", _deviations(modes)),
        ("by_songs_of_artist", "songs the artist has", {}),
    ):
        names = list(dict.fromkeys(name for entry in modes.values() for name in entry[key]))
        if not names:
            continue
        clips = {name: entry[key][name]["clips"] for entry in modes.values() for name in entry[key]}
        body = [["clips", *(f"{clips[name]:,}" for name in names), *("" for _ in more)]]
        for mode, entry, *deviations in zip(modes, modes.values(), *more.values(), strict=True):
            cells = [_cell(entry[key][name]) for name in names]
            marked |= any(cell.endswith(_BELOW) for cell in cells)
            body.append([mode, *cells, *deviations])
        lines += ["", table([title, *names, *more], body)]
    return "\n".join([*lines, *([f"{_BELOW} below {other} there, beyond the interval"] if marked else [])])


def _deviations(modes: dict[str, Any]) -> dict[str, list[str]]:
    """Columns of deviations over the genres that artists have: ours and, where it tells any, the thesis's."""
    ours = [entry["deviation_over_genres"] for entry in modes.values()]
    papers = [entry["paper"] for entry in modes.values()]
    theirs = [paper["deviation_over_genres"] if paper else None for paper in papers]
    columns = {"deviation": ours, **({"thesis": theirs} if any(papers) else {})}
    return {name: ["-" if value is None else f"{value:.4f}" for value in values] for name, values in columns.items()}


def _cell(bucket: dict[str, Any]) -> str:
    bounds = bucket.get("against", {}).get("interval")
    return f"{100 * bucket['score']:.1f}{_BELOW if bounds and bounds[1] < 0 else ''}"
