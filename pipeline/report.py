"""``encore report``: what lies behind the scores of stored runs."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.arguments import check_mode, is_inductive, open_store, read_modes, split_names
from pipeline.options import (
    DEFAULT_STORE,
    REGIMES,
    BackboneOption,
    JsonOption,
    LayerOption,
    StoreOption,
    TargetOption,
    WhichRunsOption,
)
from pipeline.output import WIDTH, print_json, print_result, rules_text, table, wrapped
from stages import progress
from store.errors import RequestError, unknown

if TYPE_CHECKING:
    from stages.head.claims import Claim, Finding
    from stages.head.modes import Mode
    from stages.head.page.gather import Request
    from stages.head.report import Report
    from stages.head.scores.compared import Score
    from stages.head.scores.metrics import Metric
    from store.layout import Store

_BELOW = "<"
_MODES_A_TABLE = 3  # where cells hold two numbers
_TITLES = {
    "by_genres_of_artist": "genres the artist has",
    "by_songs_of_artist": "songs the artist has",
    "by_neighbours_of_clip": "neighbours the clip has",
}


def report(
    datasets: Annotated[
        list[str] | None,
        typer.Argument(metavar="DATASET...", help="names in the store [demo]; of a page also STORE/NAME"),
    ] = None,
    backbone: BackboneOption = None,
    layer: LayerOption = None,
    modes: Annotated[str, typer.Option("--modes", help="M,M,... or all", metavar="M,M")] = "all",
    baselines: Annotated[
        bool, typer.Option("--baselines", help="those of compare --baselines too, as further modes")
    ] = False,
    regime: Annotated[
        str | None, typer.Option("--regime", help=f"{REGIMES} [random; all in a page]", metavar="R")
    ] = None,
    target: TargetOption = None,
    against: Annotated[
        str, typer.Option("--against", help="the mode that others are tested against", metavar="M")
    ] = "song",
    ensemble: Annotated[
        str | None, typer.Option("--ensemble", help="report the mean of these modes' scores too", metavar="M,M")
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(
            "--html", help="write one page: the collection, all scores, a map, the hardest songs", metavar="F"
        ),
    ] = None,
    audio_base: Annotated[
        str | None,
        typer.Option("--audio-base", help="with --html: the folder or address of the songs, to play them", metavar="P"),
    ] = None,
    form: Annotated[
        str | None, typer.Option("--format", help="the page's tables alone: md, csv, json, latex", metavar="F")
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", help="draw scores by kind of clip, and confusions: .png, .pdf, .svg", metavar="FILE"),
    ] = None,
    claims: Annotated[
        bool, typer.Option("--claims", help="which claims of the thesis hold, over one collection or several")
    ] = False,
    neighbours: WhichRunsOption = "all",
    store: StoreOption = DEFAULT_STORE,
    json: JsonOption = False,
) -> None:
    """Say what lies behind stored scores. Intervals, paired tests, scores by kind of clip."""
    names = list(dict.fromkeys(datasets or ["demo"]))
    inductive = is_inductive(neighbours)
    _check_options(names, html, form, audio_base, plot, claims=claims, json=json)
    tells = html is not None or form is not None
    places = [_locate(name, store) if tells else (open_store(store, name), name) for name in names]
    place = places[0][0]
    from pipeline import plot as picture
    from stages.head import report as work
    from stages.head.layers import with_layer
    from stages.head.modes import BASELINES

    heads = [*read_modes(modes), *(BASELINES if baselines else ())]
    members = split_names(ensemble, "--ensemble") if ensemble is not None else []
    for mode in members:
        check_mode(mode)
    if tells:
        from stages.head.page.gather import Request

        request = Request(
            backbone=with_layer(backbone, layer),
            modes=heads,
            regime=regime,
            target=target,
            against=against,
            ensemble=members,
            inductive=inductive,
            audio=audio_base,
            names=names,
            page=str(html or "page.html"),
            place=[] if store == DEFAULT_STORE else ["--store", store],
        )
        _tell(dict(zip(names, places, strict=True)), html, form, request)
        return
    if claims:
        _judge(names, place, with_layer(backbone, layer), json)
        return
    scores = work.report(
        place,
        names[0],
        backbone=with_layer(backbone, layer),
        modes=heads,
        regime=regime or "random",
        target=target,
        against=against,
        ensemble=members,
        inductive=inductive,
    )
    if plot is not None:
        picture.draw(scores, plot)
        progress.note(f"drawn: {plot}")
    print_result(scores, describe, json=json)


def _locate(name: str, store: str) -> tuple[Store, str]:
    """The store and the collection that are meant: ``NAME`` in the store of the command, or ``STORE/NAME``."""
    folder, _, dataset = name.rpartition("/")
    return open_store(folder or store, dataset), dataset


def _check_options(
    names: Sequence[str],
    html: Path | None,
    form: str | None,
    audio_base: str | None,
    plot: Path | None,
    *,
    claims: bool,
    json: bool,
) -> None:
    """Refuse what cannot be meant, before any store is looked at."""
    from pipeline.page import render
    from stages.head.page import formats

    if audio_base is not None:
        if html is None:
            raise RequestError("--audio-base says where a page finds the songs; give --html FILE")
        render.check_audio(audio_base)
    if html is not None:
        render.check(html)
    if form is not None and form not in formats.FORMATS:
        raise unknown("--format", form, formats.FORMATS)
    tells = html is not None or form is not None
    if tells and (plot is not None or json):
        raise RequestError("--html and --format write the whole story; give --plot or --json without them")
    if not tells and claims and plot is not None:
        raise RequestError("--claims draws nothing; give --plot without it")
    if not tells and not claims and len(names) > 1:
        raise RequestError(f"one report is of one collection; for {', '.join(names)} in one page, give --html FILE")
    if plot is not None:
        from pipeline import plot as picture

        picture.check(plot)


def _tell(places: Mapping[str, tuple[Store, str]], html: Path | None, form: str | None, request: Request) -> None:
    """Write the page of collections, print its tables, or both."""
    from pipeline.page import render
    from stages.head.page import formats, gather

    stories = []
    for name, (store, dataset) in places.items():
        own = request if name == dataset else replace(request, place=["--store", store.files.url])
        stories.append(replace(gather.story(store, dataset, own, draws=html is not None), name=name))
    if html is not None:
        render.write(stories, html, audio=request.audio)
        progress.note(f"written: {html}")
    if form is not None:
        print(formats.tables_as(form, stories))


def _judge(names: Sequence[str], store: Store, backbone: str | None, json: bool) -> None:
    """Print which claims hold."""
    from stages.head import claims

    findings = claims.claims(store, names, backbone=backbone)
    if json:
        print_json(
            [
                {"claim": claim.name, "title": claim.title, "findings": [finding.as_json() for finding in of_claim]}
                for claim, of_claim in findings.items()
            ]
        )
    else:
        print("\n\n".join(_claim_text(claim, of_claim) for claim, of_claim in findings.items()))


def _claim_text(claim: Claim, findings: Sequence[Finding]) -> str:
    """A claim, and what each collection says of it, in at most 80 columns."""
    rows = [
        [
            finding.dataset or "all together",
            finding.regime,
            "-" if finding.figure is None else f"{100 * finding.figure:+.1f}",
            " to ".join(f"{100 * bound:+.1f}" for bound in finding.interval or ()) or "-",
            finding.verdict,
        ]
        for finding in findings
    ]
    whys = dict.fromkeys(
        f"{finding.dataset or 'all together'}, {finding.regime}: {finding.why}" for finding in findings if finding.why
    )
    body = table(["collection", "regime", "points", "95 %", "verdict"], rows) if rows else "no runs"
    return "\n".join([*wrapped(claim.title), body, *(line for why in whys for line in wrapped(why))])


def describe(report: Report) -> str:
    """The report in tables of at most 80 columns."""
    base = next((entry.overall.against.mode for entry in report.modes.values() if entry.overall.against), None)
    lines = [*_head(report, base), ""]
    for metric in report.task.TESTED or (report.task.main,):
        lines += [_scores_table(report, base, metric), ""]
    best = [f"best beyond noise: {mode}" for mode, entry in report.modes.items() if entry.is_best]
    lines = [*lines[:-1], *best, *rules_text(report.modes), *_remarks(report), *_label_tables(report)]
    has_mark = False
    for kind in _TITLES:
        body = _kind_table(report, kind)
        lines += ["", body] if body else []
        has_mark |= any(_is_below(entry.by_kind[kind].values()) for entry in report.modes.values())
    mark = f"{report.task.within.title} is worse than that of" if report.target else "below"
    return "\n".join([*lines, *([f"{_BELOW} {mark} {base} there, beyond the interval"] if has_mark else [])])


def _head(report: Report, base: Mode | None) -> list[str]:
    kind = " (synthetic)" if report.synthetic else ""
    seeds = ", ".join(map(str, report.seeds))
    return [
        f"{report.dataset}{kind}, {report.representation or 'metadata'}, regime {report.regime}",
        *([f"{report.target}; RMSE and MAE in its own unit, less is better"] if report.target else []),
        f"test clips of seed{'s' if len(report.seeds) > 1 else ''} {seeds} pooled; "
        f"95 % intervals{' and p' if base else ''} over resampled artists",
        *(["inductive: training clips alone are neighbours"] if report.neighbours == "train" else []),
    ]


def _scores_table(report: Report, base: Mode | None, metric: Metric) -> str:
    columns = [] if base is None else [f"to {base}", "p"]
    rows = []
    for mode, entry in report.modes.items():
        score = entry.others.get(metric.name, entry.overall)
        row = [str(mode), metric.text(score.score), _interval(metric, score)]
        if score.against is not None:
            p = score.against.p
            row += [metric.text(score.against.difference, "+"), "-" if p is None else f"{p:.3f}"]
        rows.append([*row, *["-"] * (3 + len(columns) - len(row))])
    best = {(place, 1) for place, entry in enumerate(report.modes.values()) if entry.is_best}
    return table(["mode", metric.title, "interval", *columns], rows, best)


def _interval(metric: Metric, score: Score) -> str:
    return "-" if score.interval is None else " - ".join(map(metric.text, score.interval))


def _label_tables(report: Report) -> list[str]:
    """Each mode's error and rank for every label, as many modes beside each other as a line holds."""
    modes = [mode for mode, entry in report.modes.items() if entry.by_label]
    lines = []
    for first in range(0, len(modes), _MODES_A_TABLE):
        some = modes[first : first + _MODES_A_TABLE]
        rows = []
        for label, of in report.modes[some[0]].by_label.items():
            errors = [report.modes[mode].by_label[label] for mode in some]
            cells = [f"{report.task.within.text(error.error)} ({error.rank})" for error in errors]
            rows.append([label, f"{of.clips:,}", *cells])
        title = f"{report.task.within.title} (rank) by label"
        lines += ["", table([title, "clips", *map(str, some)], rows)]
    return lines


def _remarks(report: Report) -> list[str]:
    others = "; ".join(
        f"{mode} ({', '.join(f'{name}={value}' for name, value in values.items())})"
        for mode, values in report.other_settings.items()
    )
    members = ", ".join(report.ensemble)
    return [
        *textwrap.wrap(f"made with other settings than the others: {others}" if others else "", WIDTH),
        *textwrap.wrap(f"ensemble: mean scores of {members}" if members else "", WIDTH),
    ]


def _kind_table(report: Report, kind: str) -> str:
    """Each mode's score in each bucket of a kind of clips; empty where no clip is in any."""
    first = next(iter(report.modes.values())).by_kind[kind]
    if not first:
        return ""
    more = _deviations(report) if kind == "by_genres_of_artist" else {}
    rows = [["clips", *(f"{score.clips:,}" for score in first.values()), *("" for _ in more)]]
    for mode, entry, *deviations in zip(report.modes, report.modes.values(), *more.values(), strict=True):
        scores = entry.by_kind[kind].values()
        cells = [f"{report.task.within.text(score.score)}{_BELOW if _is_below([score]) else ''}" for score in scores]
        rows.append([str(mode), *cells, *deviations])
    of = f", {report.task.within.title}" if report.target else ""
    return table([f"{_TITLES[kind]}{of}", *first, *more], rows)


def _is_below(scores: Iterable[Score]) -> bool:
    """Whether any of the scores is worse than that of the mode tested against, beyond the interval."""
    return any(score.against.is_worse for score in scores if score.against)


def _deviations(report: Report) -> dict[str, list[str]]:
    """Columns of deviations over the genres that artists have: ours and, where it has any, the thesis's."""
    entries = report.modes.values()
    columns = {"deviation": [entry.deviation for entry in entries]}
    if any(entry.thesis_deviation is not None for entry in entries):
        columns["thesis"] = [entry.thesis_deviation for entry in entries]
    return {name: ["-" if value is None else f"{value:.4f}" for value in values] for name, values in columns.items()}
