"""``encore recipe``: a study, from its data to the page that tells of it."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline import recipes
from pipeline.arguments import open_store
from pipeline.options import DEFAULT_STORE, StoreOption
from pipeline.output import shell_lines, table, wrapped
from pipeline.recipes import Figure, Journal, Need, Recipe, Step
from stages.progress import note
from store.errors import EncoreError, RequestError
from store.words import rough_time

if TYPE_CHECKING:
    from store.layout import Store


def recipe(
    name: Annotated[str, typer.Argument(metavar="NAME", help=f"one of: {', '.join(recipes.names())}")],
    data: Annotated[Path, typer.Option("--data", help="the folder that holds what it reads", metavar="DIR")] = Path(
        "data"
    ),
    small: Annotated[
        bool, typer.Option("--small", help="the same commands on generated music, in a minute or less")
    ] = False,
    page: Annotated[
        Path | None, typer.Option("--html", help="the page that it ends in [recipe-NAME.html]", metavar="FILE")
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="from the first command, whatever was done before")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="say what it needs, takes and does; nothing is done")
    ] = False,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Repeat a study. Says first what it lacks and takes; goes on where it was stopped."""
    from pipeline.page import render

    plan = recipes.find(name)
    kind = f"{name}-small" if small else name
    page = page or Path(f"recipe-{kind}.html")
    render.check(page)
    work = page.with_suffix("")
    if not small:
        _check_needs(plan.needs, data, dry_run=dry_run)
    steps = plan.steps(open_store(store), small=small)
    places = {"data": str(data), "page": str(page), "work": str(work)}
    commands = [[word.format_map(places) for word in shlex.split(step.command)] for step in steps]
    journal = Journal(open_store(store), kind, again=again)
    print("\n".join(_plan(plan, steps, commands, journal, small=small)))
    if dry_run:
        return
    work.mkdir(parents=True, exist_ok=True)
    if not small:
        plan.prepare(data, work)
    for number, command in enumerate(commands, start=1):
        if journal.has(command):
            continue
        print("\n" + "\n".join(shell_lines(f"$ encore {shlex.join(command)}")), flush=True)
        _run([*command, "--store", store], number, name)
        journal.add(command)
    if plan.closing is not None and (lines := plan.closing(open_store(store))):
        print("\n".join(lines))
    if plan.figures and not small:
        print("\n" + "\n".join(_beside(open_store(store), plan)))


def _check_needs(needs: Sequence[Need], data: Path, *, dry_run: bool) -> None:
    """RequestError that names everything that is not there, or is there in part, and where it comes from."""
    lacking = []
    for entry in needs:
        count = sum(1 for _ in data.glob(entry.files)) if data.is_dir() else 0
        if count < entry.count:
            there = f"{count:,} of {entry.count:,} are there" if count else "not there"
            lacking.append(f"{data / entry.files}: {there}; {entry.get}")
    if lacking and not dry_run:
        raise RequestError("\n  ".join(["this recipe lacks (--data names another folder):", *lacking]))
    for line in lacking:
        note(f"lacking: {line}")


def _plan(
    recipe: Recipe, steps: Sequence[Step], commands: Sequence[list[str]], journal: Journal, *, small: bool
) -> list[str]:
    """What is done, and what it takes."""
    minutes = [step.minutes for step, command in zip(steps, commands, strict=True) if not journal.has(command)]
    width = len(str(len(steps)))
    rows = [
        [
            f"{number:>{width}}  {' '.join(command[:2])}",
            "done" if journal.has(command) else rough_time(60 * step.minutes),
        ]
        for number, (step, command) in enumerate(zip(steps, commands, strict=True), start=1)
    ]
    count = len(steps) - len(minutes)
    before = f", {count} of {len(steps)} steps done before" if count else ""
    takes = f"about {rough_time(60 * sum(minutes))} on two CPU cores without a GPU"
    if not small:
        takes += f"{'' if recipe.measured else ' (estimated, never run)'}; the store then holds about {recipe.disk}"
    return [
        *wrapped(recipe.title),
        *wrapped(f"study: {recipe.study}"),
        "",
        table(["step", "takes"], rows),
        *wrapped(takes + before),
    ]


def _run(words: Sequence[str], number: int, name: str) -> None:
    """One command, in this process."""
    from pipeline.cli import app

    command = typer.main.get_command(app)
    code = command.main(list(words), prog_name="encore", standalone_mode=False)
    if code:
        note(
            f"step {number} of the recipe ended with an error; once that is mended, encore recipe {name} goes on there"
        )
        raise typer.Exit(code)


def _beside(store: Store, recipe: Recipe) -> list[str]:
    """The study's figures beside ours."""
    rows = []
    for figure in recipe.figures:
        study = "-" if figure.study is None else f"{figure.study:.{figure.digits}f}"
        rows.append([figure.title, study, *_ours(store, figure)])
    return [table(["", "study", "ours", "interval"], rows), *wrapped(recipe.why)]


def _ours(store: Store, figure: Figure) -> tuple[str, str]:
    """A stored score, and its interval over resampled artists where it is one that reports test."""
    from stages.head.report import report

    def text(value: float) -> str:
        return f"{figure.scale * value:.{figure.digits}f}"

    try:
        scores = report(
            store,
            figure.dataset,
            backbone=figure.backbone,
            modes=[figure.mode],
            regime=figure.regime,
            against=figure.mode,
            target=figure.target,
            inductive=figure.inductive,
        )
    except EncoreError as error:
        note(str(error))
        return "-", "-"
    entry: Any = next(iter(scores.modes.values()))
    score = entry.overall if figure.metric == scores.task.main.name else entry.others.get(figure.metric)
    if score is None:
        mean = entry.means.get(figure.metric, math.nan)
        return "-" if math.isnan(mean) else text(mean), "-"
    return text(score.score), "-" if score.interval is None else " - ".join(map(text, score.interval))
