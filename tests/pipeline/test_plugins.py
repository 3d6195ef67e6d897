"""Other people's packages: found through their entry points, and kept from breaking anything when they are broken."""

from __future__ import annotations

import contextlib
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from pipeline import arguments
from pipeline.dataset_options import own_options
from pipeline.options import SetOption
from stages import registry
from store.errors import EncoreError, RequestError
from tests.pipeline.conftest import ONE_PART, Encore, embed_table
from tests.pipeline.test_resume import KILLED, ROOT, contents, embed, runs_of
from tests.processes import COMMAND, Process

# In a process that has looked for plug-ins before.
FORGET = "from stages import registry\nregistry._others.cache_clear()\nregistry.load.cache_clear()\n"

PYTEST = "import pytest\nsys.exit(pytest.main(sys.argv[1:]))"

FINE = """
from dataclasses import dataclass
from stages.embed.datasets import Dataset, option
from store.schema import Catalog, CatalogInfo


@dataclass(frozen=True, kw_only=True)
class Fine(Dataset):
    NAME = "fine"
    TITLE = "Fine"
    LICENSE = CITATION = HOMEPAGE = FILES = "-"
    BACKBONE = "pianoroll"

    tunes: int = option("how many tunes", 2)

    def catalog(self) -> Catalog:
        info = CatalogInfo(name="fine", title="Fine", version="1", licence="-", citation="-", backbone="pianoroll")
        ids = [f"tune {i}" for i in range(self.tunes or 0)]
        columns = {"clip_id": ids, "song_id": ids, "artist_id": ["Ann"] * len(ids), "labels": [["jig"]] * len(ids)}
        return Catalog.build(info, {**columns, "path": [f"{name}.mid" for name in ids]})
"""

CLASH = """
from dataclasses import dataclass
from stages.embed.datasets import Dataset, option

print("printed by clash")


@dataclass(frozen=True, kw_only=True)
class Clash(Dataset):
    NAME = "clash"
    store: str = option("where")

    def catalog(self): ...


@dataclass(frozen=True, kw_only=True)
class Retyped(Dataset):
    NAME = "another-type"
    clip_s: str = option("not seconds")

    def catalog(self): ...


@dataclass(frozen=True, kw_only=True)
class Called(Dataset):
    NAME = "called"
    help: str = option("what every command calls so")
    set: str = option("what some commands call so")

    def catalog(self): ...


@dataclass(frozen=True, kw_only=True)
class Unhelpful(Dataset):
    NAME = "unhelpful"
    extra: int = 3

    def catalog(self): ...
"""

ENTRY_POINTS = """
[encore.datasets]
fine = fine_songs:Fine
torn = torn:Songs
gone = no_such_package.songs:Songs
leaves = leaves:Songs
clash = clash:Clash
another-type = clash:Retyped
called = clash:Called
unhelpful = clash:Unhelpful

[encore.backbones]
torn-net = torn:Net

[encore.heads]
torn-head = torn:Head
number = fine_songs:__name__
"""


def install(folder: Path, entry_points: str) -> None:
    """What an installer leaves of a package."""
    about = folder / "encore_extras-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: encore-extras\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(entry_points)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder of packages."""
    folder = tmp_path / "site"
    install(folder, ENTRY_POINTS)
    (folder / "fine_songs.py").write_text(FINE)
    (folder / "clash.py").write_text(CLASH)
    (folder / "torn.py").write_text("import numpy\nnumpy.no_such_function()\n")
    (folder / "leaves.py").write_text("import sys\nsys.exit('needs a licence')\n")
    return folder


def run(site: Path, script: str, *args: str) -> tuple[int, str, str]:
    """The exit code, standard output and standard error of a process that finds the packages of a folder."""
    begin = f"import os, sys\nos.chdir({str(site)!r})\nsys.path.insert(0, {str(site)!r})\n{FORGET}"
    process = Process(begin + script, *args, environment={"COLUMNS": "200"})
    out, err = process.communicate()
    assert process.returncode is not None
    return process.returncode, out, err


def test_a_package_of_data_sets_that_works_and_others_that_do_not(site: Path) -> None:
    code, out, _ = run(site, COMMAND, "audit", "--help")
    assert code == 0
    assert "[fine] how many tunes" in " ".join(out.split())
    code, out, err = run(site, COMMAND, "audit", "fine", "--tunes", "3", "--json")
    assert code == 0
    assert '"songs": 3' in out
    lines = err.splitlines()
    assert len(lines) == 8
    assert "printed by clash" in lines  # and not within the document
    for words in (
        "left out: the dataset 'called' offers no options: ValueError: --help is an option of the command itself",
        "left out: the dataset 'torn' of torn:Songs cannot be loaded: AttributeError: ",
        "left out: the dataset 'gone' of no_such_package.songs:Songs cannot be loaded: ModuleNotFoundError: ",
        "left out: the dataset 'leaves' of leaves:Songs cannot be loaded: SystemExit: needs a licence",
        "left out: the dataset 'clash' offers no options: ValueError: --store is an option of the command itself",
        "left out: the dataset 'another-type' offers no options: ValueError: --clip_s is of another type",
        "left out: the dataset 'unhelpful' offers no options: KeyError: 'help'",
    ):
        assert [line for line in lines if line.startswith(words)], words
    code, _, err = run(site, COMMAND, "audit", "torn", "--quiet")
    assert code == 1
    assert err.partition("printed by clash\n")[2].startswith(
        "error: the dataset 'torn' of torn:Songs cannot be loaded: AttributeError: "
    )


@contextlib.contextmanager
def imported(site: Path) -> Iterator[None]:
    """The folder of packages among those that this process imports from."""
    with pytest.MonkeyPatch.context() as patched:
        patched.syspath_prepend(site)
        forget()
        yield
    for name in [name for name, module in sys.modules.items() if str(site) in str(getattr(module, "__file__", ""))]:
        del sys.modules[name]
    forget()


def forget() -> None:
    """Have the registry look for plug-ins anew."""
    registry._others.cache_clear()
    registry.load.cache_clear()


@pytest.fixture
def installed(site: Path) -> Iterator[None]:
    with imported(site):
        yield


def test_what_is_broken_is_refused_when_it_is_asked_for(installed: None) -> None:
    with pytest.raises(EncoreError, match=r"the backbone 'torn-net' of torn:Net cannot be loaded: AttributeError"):
        registry.find("backbone", "torn-net")
    with pytest.raises(EncoreError, match=r"the head 'number' .* it is no class with NAME = 'number'"):
        registry.find("head", "number")
    with pytest.raises(RequestError, match=r"unknown backbone 'torn-nut'; .* Did you mean torn-net\?"):
        registry.find("backbone", "torn-nut")
    heads, left_out = registry.load("head")
    assert {"song", "gnn"} <= set(heads)
    assert len(left_out) == 2


def test_all_modes_are_all_that_can_be_loaded(
    installed: None, encore: Encore, features_csv: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    modes = arguments.read_modes("all")
    assert modes[:2] == ["song", "artist"]
    assert not {"torn-head", "number"} & set(modes)
    assert "left out: the head 'torn-head' of torn:Head cannot be loaded" in capsys.readouterr().err
    embed_table(encore, features_csv)
    refused = encore("head", "hits", "--mode", "torn-head", code=1)
    assert "error: the head 'torn-head' of torn:Head cannot be loaded" in refused.err


def test_a_file_of_the_folder_that_cannot_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a library of one head is not there, the others go on."""
    monkeypatch.setitem(sys.modules, "stages.head.heads.gcnii", None)
    registry.load.cache_clear()
    with pytest.raises(EncoreError, match=r"the head 'gcnii' of stages\.head\.heads\.gcnii cannot be loaded"):
        registry.find("head", "gcnii")
    heads, left_out = registry.load("head")
    registry.load.cache_clear()
    assert "gcnii" not in heads
    assert len(left_out) == 1


def test_the_plug_ins_that_the_readme_shows_work(encore: Encore, tmp_path: Path) -> None:
    house = (ROOT / "stages/head/README.md").read_text().split("## Plug-ins")[1]
    points = re.findall(r'`\[project\.entry-points\."(encore\.\w+)"\] ([\w-]+) = "([\w:]+)"`', " ".join(house.split()))
    assert len(points) == 4
    site = tmp_path / "site"
    install(site, "\n".join(f"[{group}]\n{name} = {where}" for group, name, where in points))
    for name, block in zip(("year", "both", "mine", "test_mine"), house.split("```python\n")[1:], strict=True):
        (site / f"{name}.py").write_text(block.split("```")[0])
    rng = np.random.default_rng(0)
    lines = ["file,artist,labels"]
    for i in range(20):
        soundfile.write(site / f"{i}.wav", 0.1 * rng.standard_normal(8_000), 8_000)
        lines.append(f"{i}.wav,{i % 4},{'loud' if i % 4 else 'soft'}")
    (site / "songs.csv").write_text("\n".join(lines) + "\n")
    embed = ("embed", "folder", "--data", site, "--table", "songs.csv", "--name", "own", "--backbone", "loudness")
    with imported(site):
        encore(*embed, "--set", "seconds=2", "--workers", 0)
        head = ("head", "own", "--mode", "artist-mean", "--set", "epochs=2")
        assert "artist-mean*" in encore(*head, "--set", "noise=0.2").out
        assert "noise is -1.0; it must be at least 0" in encore(*head, "--set", "noise=-1", code=2).err
        assert "artist-album*" in encore("head", "own", "--mode", "artist-album", "--set", "epochs=2").out
        lacking = encore("head", "own", "--mode", "same-year", code=2).err
        assert "unknown numeric target of own 'year'; have: none" in lacking
    code, out, _ = run(site, PYTEST, "-q", "-p", "no:cacheprovider", "-k", "several or config", "test_mine.py")
    assert code == 0, out


NOISY = """
import torch
from torch import nn
from stages.head.heads import Spec, TrainedHead


class Noisy(TrainedHead):
    \"\"\"It draws from torch's own generators, wherever it can.\"\"\"

    NAME, TITLE, CITATION = "noisy", "Noisy", "-"

    @staticmethod
    def build(spec):
        return nn.Sequential(nn.Dropout(0.3), nn.Linear(spec.dim, spec.outputs))

    def start_epoch(self, nodes, draw):
        self.order = torch.randperm(len(nodes))

    def training_inputs(self, nodes, places):
        return (self.x[nodes] + 0.1 * self.order[places].unsqueeze(1) / len(self.order),)

    def inputs(self, nodes):
        return (self.x[nodes] + 0.01 * torch.randn(len(nodes), 1),)
"""


def test_a_head_that_draws_from_torchs_generators_is_repeatable(tmp_path: Path, features_csv: Path) -> None:
    """Trained again, after a kill, and under two trainings at once."""
    site = tmp_path / "site"
    install(site, "[encore.heads]\nnoisy = noisy:Noisy\n")
    (site / "noisy.py").write_text(NOISY)
    command = (
        "compare",
        "hits",
        "--modes",
        "noisy,song",
        "--seeds",
        "2",
        *ONE_PART,
        "--set",
        "epochs=6",
        "--set",
        "batch=64",
    )

    def trained(name: str, *scripts: str, threads: int = 1) -> dict[str, object]:
        encore = Encore(tmp_path / name)
        embed(encore, features_csv)
        for script in scripts:
            process = Process(
                f"import sys\nsys.path.insert(0, {str(site)!r})\n{FORGET}{script}",
                *(*command, "--store", encore.store),
                environment={"OMP_NUM_THREADS": str(threads)},
            )
            _, err = process.communicate()
            assert (process.returncode != 0) == (script != COMMAND), err
        return contents(runs_of(encore, "noisy"))

    once = trained("once", COMMAND)
    assert once == trained("again", COMMAND)
    assert once == trained("killed", KILLED.replace("/gnn-", "/noisy-"), COMMAND)
    if sys.platform == "linux":
        assert once == trained("two", COMMAND, threads=2)


def test_an_option_that_a_command_calls_otherwise_than_its_parameter() -> None:
    """``--set`` arrives as ``settings``."""

    def work(settings: SetOption = None, export: str | None = None) -> None: ...

    assert {"set", "settings", "export", "help", "quiet"} <= own_options(inspect.signature(work, eval_str=True))
