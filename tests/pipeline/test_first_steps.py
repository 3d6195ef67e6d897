"""What a newcomer runs into: refused at once, with the next step named."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.dataset_options import OF_COLLECTION
from pipeline.options import COMMON
from stages import registry
from stages.embed import catalogs as collections
from stages.embed.choose import Choice, find_backbone
from tests.pipeline.conftest import COLUMNS, Encore

COMMANDS = ("embed", "train", "audit", "data", "head", "compare", "search", "report")


@pytest.mark.parametrize(
    ("args", "pattern"),
    [
        (
            ("train", "mfcc", "--dataset", "demo"),
            "mfcc cannot be trained; those that can: cnn1d, cola, fcn, fcn4, mfcc-cnn, mixcnn, musicbert",
        ),
        (("train", "colla", "--dataset", "demo"), "unknown backbone 'colla'.*Did you mean cola"),
        (("train", "cola", "--dataset", "demo", "--regime", "random-5fold"), "trained on one split"),
        (
            ("train", "cola", "--dataset", "demo", "--set", "colour=red"),
            "setting of the backbone cola 'colour'",
        ),
        (("embed", "demo", "--backbone", "pianorol"), "unknown backbone 'pianorol'.*Did you mean pianoroll"),
        (("embed", "demo", "--backbone", "mfcc", "--weights", "x.pt"), "mfcc has no weights"),
        (
            ("embed", "demo", "--backbone", "cola"),
            r"cola needs weights: --weights FILE.*Backbones without weights: features, fma-features, mfcc, pianoroll\n",
        ),
        (("embed", "demo", "--backbone", "musicbert"), "Backbones without weights: features, fma-features, mfcc"),
        (("embed", "demo", "--backbone", "hf"), "Backbones without weights: features, fma-features, mfcc"),
    ],
)
def test_a_request_is_refused_before_a_collection_is_read(
    encore: Encore, monkeypatch: pytest.MonkeyPatch, args: tuple[str, ...], pattern: str
) -> None:
    def read(*_args: Any) -> None:
        raise AssertionError("the collection was read")

    def build(*_args: Any) -> None:
        raise ImportError("a backbone was built")

    monkeypatch.setattr(collections, "make_dataset", read)
    for kind in registry.load("backbone")[0].values():
        monkeypatch.setattr(kind, "__init__", build)
    assert re.search(pattern, encore(*args, code=2).err)


@pytest.mark.parametrize("options", [("--backbone", "features"), ()])
def test_a_backbone_is_looked_up_once(
    encore: Encore, features_csv: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]
) -> None:
    lookups: list[str] = []

    def find(name: str, *args: Any, **more: Any) -> Choice:
        lookups.append(name)
        return find_backbone(name, *args, **more)

    monkeypatch.setattr("stages.embed.run.find_backbone", find)
    encore("embed", "table", "--table", features_csv, "--name", "hits", "--columns", COLUMNS, *options)
    assert lookups == ["features"]


def test_the_default_backbone_is_told(encore: Encore, audio_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By `encore data`, and where it needs weights: then before the songs are looked at."""
    monkeypatch.setattr("stages.embed.run.mark_sources", None)
    own = ("embed", "folder", "--data", audio_folder, "--table", "songs.csv", "--name", "own")
    message = encore(*own, code=2).err
    assert "fcn, the default of own, needs weights: --weights FILE" in message
    assert "default backbone: fcn\n" in CliRunner().invoke(app, ["data", "mtg"]).output
    assert (
        "default backbone: fcn; pianoroll where the songs are MIDI"
        in CliRunner().invoke(app, ["data", "folder"]).output
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_help_stands_in_groups(command: str) -> None:
    lines = CliRunner().invoke(app, [command, "--help"], terminal_width=80).output.splitlines()
    assert max(map(len, lines)) <= 80
    titles = [line.removesuffix(":") for line in lines if line and not line.startswith((" ", "Usage"))]
    middle = [OF_COLLECTION] if command in ("embed", "train", "audit", "data") else []
    assert titles == ["Arguments", "Options", *middle, COMMON]
    common = lines[lines.index(f"{COMMON}:") :]
    assert [line.split()[0] for line in common if line.startswith("  --")] == [
        *(["--store"] if command != "data" else []),
        "--json",
        "--quiet",
        "--debug",
        "--log",
        "--help",
    ]
    assert not re.search("<(str|int|list)", "\n".join(lines))


def test_short_helps_are_whole() -> None:
    for group in ([], ["store"]):
        text = CliRunner().invoke(app, [*group, "--help"], terminal_width=80).output
        assert "..." not in text.replace("[ARGS]...", "")


def test_what_follows_a_training_is_printed_and_runs(encore: Encore, tmp_path: Path) -> None:
    """The commands as they stand: same songs, same store, the regime of the training; the warning names it too."""
    demo = ("--songs", 30, "--data", tmp_path / "demo songs", "--seed", 0)
    train = ("train", "pianoroll-cnn", "--dataset", "demo", *demo, "--out", tmp_path / "p.pt", "--regime", "artist")
    output = encore(*train, "--set", "steps=2", "--set", "batch=4", "--workers", 0).out
    joined = output.split("in the same split:\n")[1].replace("\\\n", " ")
    embed, head = (shlex.split(line) for line in joined.splitlines())
    assert embed[:3] == ["encore", "embed", "demo"]
    assert embed[embed.index("--data") + 1] == str(tmp_path / "demo songs")
    assert embed[embed.index("--seed") + 1] == "0"  # a value as any other, and not an option that is off
    assert " ".join(head) == f"encore head demo --backbone pianoroll-cnn --regime artist --store {encore.store}"
    encore(*embed[1:], "--workers", 0)
    quick = ("--set", "epochs=1", "--set", "hidden=8")
    assert "was trained on" not in encore(*head[1:], *quick).err
    warned = encore("head", "demo", "--backbone", "pianoroll-cnn", "--regime", "random", *quick).err
    assert "with seed 0, has none (--regime artist --seeds 1)" in warned


def test_libraries_are_quiet_where_they_should_be() -> None:
    """What a library warns of, or logs, in this process and in others, is not shown by --quiet."""
    program = """
import logging, subprocess, sys, warnings
import typer
from pipeline.options import DeferringGroup, command
app = typer.Typer(cls=DeferringGroup, callback=lambda: None)
@command(app)
def warn() -> None:
    warnings.warn("of a library")
    logging.getLogger("library").warning("logged")
    subprocess.run([sys.executable, "-c", "import warnings; warnings.warn('of a worker')"])
app()
"""
    quiet, loud = (
        subprocess.run([sys.executable, "-c", program, "warn", *args], capture_output=True, text=True, check=True)
        for args in (["--quiet"], [])
    )
    assert quiet.stderr == ""
    assert [word in loud.stderr for word in ("of a library", "logged", "of a worker")] == [True] * 3
