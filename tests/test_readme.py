"""The READMEs know everything that a user can name, and the Makefile's targets explain themselves."""

from __future__ import annotations

import os
import re
import subprocess
from itertools import takewhile
from pathlib import Path

import pytest
import typer.main

from pipeline.cli import app
from stages import registry
from stages.embed.testing import undrawn_weights

ROOT = Path(__file__).resolve().parents[1]
PAGES = {
    page: (ROOT / page).read_text(encoding="utf-8")
    for page in (
        "README.md",
        "stages/embed/README.md",
        "stages/head/README.md",
        "store/README.md",
        "pipeline/python/README.md",
        "tests/bench/README.md",
    )
}
README = PAGES["README.md"]
STAGE_ONE = PAGES["stages/embed/README.md"]
TABLES = {
    "dataset": STAGE_ONE,
    "backbone": STAGE_ONE,
    "engine": STAGE_ONE,
    "head": PAGES["stages/head/README.md"],
}
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", registry.FOLDERS)
def test_every_plug_in_stands_in_its_table(kind: str) -> None:
    missing = [name for name in registry.names(kind) if f"| `{name}` |" not in TABLES[kind]]
    assert not missing, f"no row for {missing}"


# Each of their models has a size of its own, or is a file.
OF_MODELS = {"clap", "effnet", "encodec", "hf", "maest", "mert", "mert2", "music2vec", "musicfm", "muq"}


@pytest.mark.parametrize("name", sorted({*registry.names("backbone")} - {"features"} - OF_MODELS))
def test_the_table_of_backbones_is_true(name: str) -> None:
    """Width, parameters, licence and whose method it is."""
    kind = registry.find("backbone", name)
    with undrawn_weights():
        backbone = kind(kind.Config())
    (row,) = (line for line in STAGE_ONE.splitlines() if line.startswith(f"| `{name}` |"))
    _, _, width, parameters, clips, weights, licence, method = (cell.strip() for cell in row.strip("|").split(" | "))
    count = sum(p.numel() for p in backbone.module.parameters()) if backbone.module is not None else 0
    assert (width, parameters) == (" x ".join(f"{size:,}" for size in backbone.shape), f"{count:,}")
    assert float(clips.replace(",", "")) > 0
    assert (weights == "none") == (backbone.WEIGHTS is None)
    assert backbone.LICENSE.startswith(licence)
    authors = backbone.CITATION.split(":")[0]
    assert any(word in authors for word in re.findall(r"[A-Z][a-z]+", method)), authors


def test_every_command_is_documented() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for name, command in commands.items():
        assert f"`encore {name} " in README, name
        for inner in getattr(command, "commands", {}):
            assert re.search(rf"encore {name} [a-z\\\\|]*{inner}", README), inner


def test_every_target_has_its_line_of_help() -> None:
    targets = re.findall(r"^([a-z-]+):", MAKEFILE, flags=re.MULTILINE)
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in targets:
        assert f"make {target} " in listed
    assert max(map(len, listed.splitlines())) <= 80


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("embed DATASET=mtg", "encore embed 'mtg'"),
        ("head MODE=dropedge", "encore head 'demo' --mode 'dropedge'"),
        (
            "embed DATASET=own BACKBONE=fcn DATA=/a STORE=/b WEIGHTS=w.pth DEVICE=cpu ARGS=--strict",
            "encore embed 'own' --backbone 'fcn' --weights 'w.pth' --data '/a' --store '/b' --device 'cpu' --strict",
        ),
        ("compare REGIME=random,artist SEEDS=5", "encore compare 'demo' --regimes 'random,artist' --seeds '5'"),
        ("predict FILES=a.mp3 DATASET=own", "encore predict a.mp3 --head 'own'"),
        ("predict FILES=a.mp3 MODE=gnn", "encore predict a.mp3 --head 'demo/gnn'"),
        ("compare MODE=gnn,song", "encore compare 'demo' --modes 'gnn,song'"),
    ],
)
def test_make_is_a_thin_line_over_encore(line: str, expected: str) -> None:
    output = subprocess.run(
        ["make", "--no-print-directory", "-n", "-o", ".venv/.ready", *line.split()],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": os.environ["PATH"]},  # and nothing that `make test` was given
    ).stdout
    assert re.sub(r" +", " ", output).strip().endswith(expected)


def tree_paths() -> set[str]:
    """The files and folders that the README's tree shows; folders end in ``/``."""
    tree = README.split("## Source tree")[1].split("```")[1]
    folders: list[str] = []
    paths = set()
    for line in tree.strip().splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        first, *others = line.split()
        names = [first, *takewhile(lambda name: name.endswith(".py"), others)]
        folders = [*folders[:depth], first]
        paths |= {"".join([*folders[:depth], name]) for name in names}
    return paths


def test_the_tree_is_true() -> None:
    """Every file that it shows is there, and every folder of sources is shown."""
    paths = tree_paths()
    missing = [path for path in paths if not (ROOT / path).exists()]
    assert not missing
    sources = [path for folder in ("pipeline", "stages", "store") for path in (ROOT / folder).rglob("*.py")]
    folders = {f"{path.parent.relative_to(ROOT).as_posix()}/" for path in sources}
    assert not folders - paths


def anchors(page: str) -> set[str]:
    """The headings of a page as links name them."""
    headings = re.findall(r"^#+ (.*)$", page, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    """Every relative link and image of a page is a file of the tree, and its anchor one of that page's headings."""
    links = re.findall(r"\]\(([^)\s]+)\)|src=\"([^\"]+)\"", PAGES[page])
    for link in (one or other for one, other in links):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target.read_text(encoding="utf-8")), link


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 260
