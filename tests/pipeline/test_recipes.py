"""``encore recipe``: what a recipe says of itself, what it lacks, that it goes on, and its figures."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

import pytest
import typer.main

from pipeline import recipes
from pipeline.cli import app
from pipeline.recipes import Figure, Need, Recipe, Step
from store.layout import Store
from tests.pipeline.conftest import Encore

EVERY_RECIPE = pytest.mark.parametrize("name", recipes.names())


@EVERY_RECIPE
def test_a_recipe_is_made_of_commands_that_there_are(name: str) -> None:
    """Each line is parsed as the command line would parse it; the last one writes the page."""
    recipe = recipes.find(name)
    commands = typer.main.get_command(app)
    forms = [recipe.small] if callable(recipe.whole) else [recipe.whole, recipe.small]
    for steps in forms:
        for step in steps:
            words = [word.format(data="data", page="page.html", work="work") for word in shlex.split(step.command)]
            context = commands.make_context("encore", [*words, "--store", "s"], resilient_parsing=False)
            _, command, rest = commands.resolve_command(context, [*words, "--store", "s"])
            command.make_context(command.name, rest)
            assert step.minutes > 0
        assert steps[-1].command.startswith("report ")
        assert "{page}" in steps[-1].command
    assert all(need.get and need.count > 0 for need in recipe.needs)
    assert recipe.title[0].isupper()


@EVERY_RECIPE
def test_a_recipe_says_what_it_lacks_and_takes_before_it_begins(encore: Encore, tmp_path: Path, name: str) -> None:
    request = ("recipe", name, "--data", tmp_path)
    if callable(recipes.find(name).whole):
        assert "holds no representation yet" in encore(*request, "--dry-run", code=2).err
        return
    ran = encore(*request, "--dry-run")
    assert "without a GPU" in ran.out
    assert max(map(len, ran.out.splitlines())) <= 80
    needs = recipes.find(name).needs
    assert ran.err.count("lacking: ") == len(needs)
    if needs:
        refused = encore(*request, code=2).err
        assert refused.count("not there; ") == len(needs)
    assert not encore.store.exists()


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch, features_csv: Path) -> Recipe:
    """A recipe of three commands on a table of features."""
    recipe = Recipe(
        title="A study of a table",
        study="nobody",
        needs=(Need("features.csv", "made here"), Need("extra/*.wav", "made here, too", 2)),
        whole=(
            Step(0.1, "embed table --name hits --table {data}/features.csv --columns artist=artist,labels=genre"),
            Step(0.1, "compare hits --modes song --seeds 1 --set epochs=2"),
            Step(0.1, "report hits --html {page}"),
        ),
        small=(Step(0.1, "report demo --html {page}"),),
        disk="1 MiB",
        figures=tuple(
            Figure(title, metric, study, "hits", "features", "song")
            for title, metric, study in (("accuracy", "accuracy", 51.0), ("macro F1", "macro_f1", None))
        ),
        why="They are random numbers.",
    )
    monkeypatch.setattr(recipes, "find", lambda _name: recipe)
    (features_csv.parent / "extra").mkdir()
    (features_csv.parent / "extra" / "one.wav").touch()
    return recipe


def test_data_that_are_half_there(encore: Encore, table: Recipe, features_csv: Path) -> None:
    refused = encore("recipe", "table", "--data", features_csv.parent, code=2).err
    assert "extra/*.wav: 1 of 2 are there; made here, too" in refused
    assert "features.csv" not in refused


def test_it_goes_on_where_it_was_stopped(
    encore: Encore, table: Recipe, features_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (features_csv.parent / "extra" / "two.wav").touch()
    page = tmp_path / "page.html"
    request = ("recipe", "table", "--data", features_csv.parent, "--html", page)
    broken = replace(table, whole=(*table.whole[:2], Step(0.1, "report hits --modes nothing --html {page}")))
    monkeypatch.setattr(recipes, "find", lambda _name: broken)
    stopped = encore(*request, code=2)
    assert "step 3 of the recipe ended with an error" in stopped.err
    monkeypatch.setattr(recipes, "find", lambda _name: table)
    ran = encore(*request)
    assert ["2", "compare", "hits", "done"] in [line.split() for line in ran.out.splitlines()]
    assert "$ encore compare" not in ran.out
    assert "$ encore report hits" in ran.out
    assert page.exists()
    lines = [line.split() for line in ran.out.splitlines()]
    (accuracy,) = (line for line in lines if line[:1] == ["accuracy"])
    assert accuracy[1] == "51.00"
    assert 0 <= float(accuracy[2]) <= 100
    assert next(line[2] for line in lines if line[:2] == ["macro", "F1"]) == "-"
    assert "$ encore compare" in encore(*request, "--again").out
    (encore.store / "recipe-table.json").write_text("{")
    assert "--again begins anew" in encore(*request, code=1).err


def test_the_artist_gap_of_what_is_stored(encore: Encore, features_csv: Path, tmp_path: Path) -> None:
    encore("embed", "table", "--name", "hits", "--table", features_csv, "--columns", "labels=genre")
    plan = encore("recipe", "artist-gap", "--dry-run").out
    assert plan.count("compare hits") == 1
    encore("compare", "hits", "--modes", "song,gnn", "--regimes", "random,artist", "--seeds", 1, "--set", "epochs=2")
    text = "\n".join(recipes.find("artist-gap").closing(Store(encore.store)))  # type: ignore[misc]
    lines = [line.split() for line in text.splitlines()]
    (song,) = (line for line in lines if line[:1] == ["song"])
    random, artist, gap, low, _, high = map(float, (*song[1:5], "0", song[6]))
    assert gap == pytest.approx(random - artist, abs=0.11)
    assert low < gap < high


def test_a_wrong_name(encore: Encore) -> None:
    assert "Did you mean emotify?" in encore("recipe", "emotifi", code=2).err


@pytest.mark.parametrize("journal", ["{", "5", "[1]", "null"])
def test_a_damaged_journal(encore: Encore, journal: str) -> None:
    encore.store.mkdir()
    (encore.store / "recipe-emotify-small.json").write_text(journal)
    assert "--again begins anew" in encore("recipe", "emotify", "--small", "--dry-run", code=1).err
    encore("recipe", "emotify", "--small", "--dry-run", "--again")


@pytest.mark.parametrize("page", ["", "page", "there.html", "nowhere/page.html"])
def test_a_page_that_cannot_be_written(encore: Encore, tmp_path: Path, page: str) -> None:
    """Before anything is done, not at the end."""
    (tmp_path / "there.html").mkdir()
    refused = encore("recipe", "emotify", "--small", "--html", tmp_path / page if page else "", code=2)
    assert "error: --html " in refused.err
    assert refused.out == ""
