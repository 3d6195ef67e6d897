"""Trainings that are killed and go on, and trainings by several processes: the same numbers as in one go."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from stages.head import train as head
from stages.head.fit import network_seed
from stages.head.runs.resume import Journal
from stages.head.training import loop as training
from stages.head.training.processes import ALONE
from store.layout import Store
from store.runs import RunFolder
from tests.pipeline.conftest import ONE_PART, Encore, embed_table
from tests.processes import COMMAND, Process, together

QUICK = ("--set", "epochs=6", "--set", "steps=1", "--set", "hidden=16", "--set", "batch=64")
ROOT = Path(__file__).resolve().parents[2]
# The command, which kills itself when a network of `head` has been saved after its fourth epoch.
KILLED = """
import os, signal, sys
from stages.head.training import checkpoint
checkpoint._EVERY_S = 0.0
save = checkpoint.Checkpoint.save
def save_and_die(self, state):
    save(self, state)
    if "/gnn-" in self.name and state["progress"]["epoch"] == 4:
        os.kill(os.getpid(), signal.SIGKILL)
checkpoint.Checkpoint.save = save_and_die
from pipeline.cli import main
main()
"""


# The command, which kills itself in the fourth epoch of the second of several networks.
KILLED_MEMBER = """
import os, signal
from stages.head.training import loop as train
from stages.head.fit import network_seed
epoch_of = train.Loop._epoch
def train_and_die(loop, epoch):
    if (loop.seed, epoch) == (network_seed(0, 1), 4):
        os.kill(os.getpid(), signal.SIGKILL)
    return epoch_of(loop, epoch)
train.Loop._epoch = train_and_die
from pipeline.cli import main
main()
"""


# The command, whose first process names each epoch.
COUNTED = """
from stages.head.training import loop as train
epoch_of = train.Loop._epoch
def named(loop, epoch):
    if loop.stretches.processes.rank == 0:
        print("epoch", epoch)
    return epoch_of(loop, epoch)
train.Loop._epoch = named
from pipeline.cli import main
main()
"""


TORCHRUN = "from torch.distributed.run import main\nmain()"
# The command, which says so and goes no further when a network of `head` has been saved.
HELD = KILLED.replace("os.kill(os.getpid(), signal.SIGKILL)", 'print("held", flush=True); sys.stdin.read()')
WAITS = "another command trains gnn, random on hits at this moment"


def torchrun(*module: object) -> str:
    """What a module writes to standard error that ``torchrun`` starts in two processes."""
    words = ("--nproc-per-node", 2, "--standalone", "-m", *module)
    process = Process(TORCHRUN, *words, environment={"PYTHONPATH": str(ROOT)})
    err = process.communicate()[1]
    assert process.returncode == 0, err
    return err


def embed(encore: Encore, table: Path) -> None:
    """Another store of the same table is a copy of the first, to the bytes."""
    embed_table(encore, table)


def runs_of(encore: Encore, mode: str) -> Path:
    (folder,) = encore.store.glob(f"hits/runs/*/{mode}-random")
    return folder


def contents(folder: Path) -> dict[str, object]:
    """What lies in a folder of runs, as far as no clock has a part in it."""
    files: dict[str, object] = {path.name: pq.read_table(path).to_pydict() for path in folder.glob("*.parquet")}
    for path in folder.glob("*.pt"):
        state = torch.load(path, weights_only=True)
        facts = {name: value if isinstance(value, list) else value.tolist() for name, value in state["facts"].items()}
        weights = {name: value.tolist() for name, value in (state["network"] or {}).items()}
        files[path.name] = {"facts": facts, "weights": weights}
    return files


def watched_epochs(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, int]]:
    """What is trained from now on: head, seed of the network and epoch."""
    epochs: list[tuple[str, int, int]] = []
    epoch_of = training.Loop._epoch

    def counted(loop: training.Loop, epoch: int) -> float:
        epochs.append((loop.binder.head_type.NAME, loop.seed, epoch))
        return epoch_of(loop, epoch)

    monkeypatch.setattr(training.Loop, "_epoch", counted)
    return epochs


@pytest.mark.parametrize("streamed", [False, True])
def test_a_killed_comparison_goes_on_to_the_same_bits(
    tmp_path: Path, features_csv: Path, monkeypatch: pytest.MonkeyPatch, streamed: bool
) -> None:
    reference, killed = Encore(tmp_path / "whole"), Encore(tmp_path / "killed")
    for encore in (reference, killed):
        embed(encore, features_csv)
    memory = ("--memory", "0.005") if streamed else ()
    monkeypatch.setattr(head, "_COPIES", 3000)  # with --memory 400 clips of 3 numbers are a large collection
    command = ("compare", "hits", "--modes", "song,gnn", "--seeds", "2", *ONE_PART, *QUICK, *memory)
    ran = reference(*command)
    assert ("are read in" in ran.err) == streamed
    expected = ran.out
    process = Process(
        f"from stages.head import train; train._COPIES = 3000\n{KILLED}", *command, "--store", killed.store
    )
    errors = process.communicate()[1]
    assert process.returncode == -signal.SIGKILL, errors
    assert (runs_of(killed, "song") / "unfinished").is_file()
    assert not list(killed.store.glob("hits/runs/*/gnn-random"))

    epochs = watched_epochs(monkeypatch)
    again = killed(*command)
    assert "song, random, seed-1 was done before" in again.err
    assert epochs == [("gnn", 0, 5), ("gnn", 0, 6), *(("gnn", 1, epoch) for epoch in range(1, 7))]
    # All but the last column, the seconds.
    columns = [[line.rpartition("  ")[0].split() for line in text.splitlines()] for text in (again.out, expected)]
    assert columns[0] == columns[1]
    for mode in ("song", "gnn"):
        assert contents(runs_of(killed, mode)) == contents(runs_of(reference, mode))
        assert not [path for path in runs_of(killed, mode).iterdir() if path.suffix not in (".json", ".parquet", ".pt")]

    epochs.clear()
    killed(*command)
    assert len(epochs) == 24  # it was finished: the same command trains everything again


def test_of_several_networks_those_that_are_done_are_kept(
    tmp_path: Path, features_csv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference, killed = Encore(tmp_path / "whole"), Encore(tmp_path / "killed")
    for encore in (reference, killed):
        embed(encore, features_csv)
    command = ("head", "hits", "--mode", "gnn", "--members", "3", *QUICK)
    reference(*command)
    process = Process(KILLED_MEMBER, *command, "--store", killed.store)
    errors = process.communicate()[1]
    assert process.returncode == -signal.SIGKILL, errors
    epochs = watched_epochs(monkeypatch)
    killed(*command)
    seeds = [network_seed(0, member) for member in (1, 2)]
    assert epochs == [("gnn", seed, epoch) for seed in seeds for epoch in range(1, 7)]
    assert contents(runs_of(killed, "gnn")) == contents(runs_of(reference, "gnn"))
    assert len(list(runs_of(killed, "gnn").glob("*.pt"))) == 3
    assert not list(runs_of(killed, "gnn").glob("*.resume"))


def test_another_command_does_not_go_on(encore: Encore, features_csv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    embed(encore, features_csv)
    command = ("compare", "hits", "--modes", "song,gnn", "--seeds", 1, *QUICK)
    validate = training.Loop._validate

    def stopped(loop: training.Loop) -> tuple[float, float]:
        if loop.binder.head_type.NAME == "gnn":
            raise KeyboardInterrupt
        return validate(loop)

    def stop() -> None:
        with monkeypatch.context() as patched:
            patched.setattr(training.Loop, "_validate", stopped)
            encore(*command, code=130)

    stop()
    assert "was done before" not in encore(*command, "--set", "dropout=0.25").err
    stop()
    (runs_of(encore, "gnn") / "seed-0-0.resume").write_bytes(b"not a checkpoint")
    assert "song, random, seed-0 was done before" in encore(*command).err
    assert not list(encore.store.glob("hits/runs/*/*/unfinished"))
    assert not list(encore.store.glob("hits/runs/*/*.unfinished"))
    before = contents(runs_of(encore, "gnn"))
    stop()
    assert contents(runs_of(encore, "gnn")) == before
    assert set(encore("report", "hits", "--json").json["modes"]) == {"song", "gnn"}


@pytest.mark.parametrize("killed", [True, False])
def test_two_commands_that_train_the_same_take_turns(tmp_path: Path, features_csv: Path, killed: bool) -> None:
    """The one that waits goes on when the other has come to its end, however it does; their runs never mix."""
    both, alone = Encore(tmp_path / "both"), Encore(tmp_path / "alone")
    for encore in (both, alone):
        embed(encore, features_csv)
    command = ("compare", "hits", "--modes", "gnn", "--seeds", "2", *ONE_PART, *QUICK)
    other = (*command, "--set", "dropout=0.25")
    alone(*other)
    first = Process(HELD, *command, "--store", both.store)
    assert first.stdout.readline() == "held\n"
    second = Process(COMMAND, *other, "--store", both.store)
    assert any(WAITS in line for line in second.stderr)
    if killed:
        first.kill()
    first.communicate()
    assert (first.returncode != 0) == killed
    message = second.communicate()[1]
    assert second.returncode == 0, message
    assert "was done before" not in message
    assert contents(runs_of(both, "gnn")) == contents(runs_of(alone, "gnn"))
    assert [path.name for path in runs_of(both, "gnn").parent.iterdir() if path.is_dir()] == ["gnn-random"]


def test_a_folder_that_another_command_took_over(
    encore: Encore, features_csv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As can happen behind a URL, where nothing can be locked, or when someone tidies up."""
    embed(encore, features_csv)
    forget = Journal.forget

    def take_over(journal: Journal, folder: RunFolder, name: str) -> None:
        forget(journal, folder, name)
        journal.store.files.write(f"{folder.path}/unfinished", b"another")

    monkeypatch.setattr(Journal, "forget", take_over)
    message = encore("compare", "hits", "--modes", "gnn", "--seeds", 2, *QUICK, code=1).err
    assert "was removed or begun anew by another command while this one trained gnn, random" in message
    monkeypatch.undo()
    encore("compare", "hits", "--modes", "gnn", "--seeds", 2, *QUICK)


def test_the_same_command_twice_at_once(tmp_path: Path) -> None:
    """The first to end leaves the mark of a folder that the second has begun to fill meanwhile."""
    store, folder = Store(str(tmp_path)), RunFolder("hits", None, "artist", "random")
    about = {"code": "-"}
    with Journal(store, ALONE, {}) as first, Journal(store, ALONE, {}) as second:
        filled = first.begin({folder: about})[folder]
        first.whole(filled)
        assert second.begin({folder: about}) == {folder: folder}
        first.end()
        second.whole(folder)
        second.end()
    assert not (tmp_path / folder.path / "unfinished").exists()


def test_a_checkpoint_holds_what_its_weights_mean(encore: Encore, features_csv: Path) -> None:
    embed(encore, features_csv)
    encore("head", "hits", "--mode", "artist-embedding", "--regime", "artist", *QUICK)
    (path,) = encore.store.glob("hits/runs/*/artist-embedding-artist/seed-0.pt")
    state = torch.load(path, weights_only=True)
    artists = state["facts"]["artists"]
    assert len(artists) == len(set(artists)) == len(state["network"]["artist.weight"]) - 1
    assert set(artists) < {f"artist {i}" for i in range(40)}
    assert (state["dim"], state["regime"], state["seed"], state["fold"]) == (3, "artist", 0, None)
    assert state["labels"] == [f"genre {i}" for i in range(4)]
    assert state["representation"] == path.parts[-3]


@pytest.fixture
def some_unknown(features_csv: Path) -> Path:
    lines = features_csv.read_text().splitlines()
    for i in range(1, len(lines), 20):
        lines[i] = "," + lines[i].partition(",")[2]
    features_csv.write_text("\n".join(lines) + "\n")
    return features_csv


def test_a_collection_larger_than_memory(encore: Encore, features_csv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    embed(encore, features_csv)
    monkeypatch.setattr(head, "_COPIES", 3000)  # 400 clips of 3 numbers are no large collection
    command = ("compare", "hits", "--modes", "artist,gnn,gated", "--seeds", 1, *QUICK)
    streamed = encore(*command, "--memory", "0.005")
    assert "all zero" not in streamed.err
    assert re.search(r"400 clips are more than fit in memory; they are read in [3-6] stretches", streamed.err)
    assert "gated*" in streamed.out
    refused = encore("compare", "hits", "--modes", "song,knn,side-edges", "--memory", "0.005", *QUICK, code=2)
    assert "knn, side-edges must see the whole collection at once" in refused.err


def test_silent_songs_of_a_collection_larger_than_memory(
    encore: Encore, features_csv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told of as they are of a small one, in the first command and in one that reads everything twice."""
    lines = features_csv.read_text().splitlines()
    lines[1::9] = [line.rsplit(",", 3)[0] + ",0,0,0" for line in lines[1::9]]
    features_csv.write_text("\n".join(lines) + "\n")
    embed(encore, features_csv)
    monkeypatch.setattr(head, "_COPIES", 3000)
    remark = f"all zero: {len(lines[1::9])} of 400 representations; heads cannot tell these clips apart"
    for more in ((), ("--memory", "0.005")):
        message = encore("compare", "hits", "--modes", "song,gnn", "--seeds", 1, *QUICK, *more).err
        assert ("are read in" in message) == bool(more)
        assert message.count(remark) == 1


def test_two_processes_give_what_one_gives(tmp_path: Path, some_unknown: Path) -> None:
    one, two = Encore(tmp_path / "one"), Encore(tmp_path / "two")
    for encore in (one, two):
        embed(encore, some_unknown)
    modes = "song,artist,gnn,dropedge,gated,artist-embedding,gat,gcnii,sgc,correct-and-smooth,random-features"
    quick = (word.replace("epochs=6", "epochs=3") for word in QUICK)
    command = ("compare", "hits", "--modes", modes, "--seeds", "1", "--json", *ONE_PART, *quick)
    expected = one(*command).json
    code, out, err = together(COMMAND, *command, "--store", two.store)
    assert code == 0, err
    results = json.loads(out)  # one document: the first process speaks alone
    assert [run["mode"] for run in results] == [run["mode"] for run in expected]
    for mode in modes.split(","):
        for path in sorted(runs_of(one, mode).glob("*.parquet")):
            ours, theirs = (pq.read_table(runs_of(e, mode) / path.name) for e in (two, one))
            scores = [np.array(table.column("score").to_pylist()) for table in (ours, theirs)]
            assert ours.column("row") == theirs.column("row")
            np.testing.assert_allclose(*scores, atol=1e-5, rtol=0, err_msg=mode)


def test_two_processes_that_are_killed_go_on(tmp_path: Path, some_unknown: Path) -> None:
    """To the bits that two processes come to which nobody stops; a silent song is told of once."""
    with some_unknown.open("a") as file:
        file.write("artist 0,silence,genre 0,0,0,0\n")
    reference, killed = Encore(tmp_path / "whole"), Encore(tmp_path / "killed")
    for encore in (reference, killed):
        embed(encore, some_unknown)
    command = ("head", "hits", "--mode", "gnn", *QUICK)
    err = torchrun("pipeline.cli", *command, "--store", reference.store)
    assert err.count("all zero: 1 of 401 representations; heads cannot tell these clips apart") == 1
    code, _, _ = together(KILLED, *command, "--store", killed.store)
    assert code == -signal.SIGKILL
    assert len(list(killed.store.glob("hits/runs/*/gnn-random.unfinished/seed-0-0.resume"))) == 1
    assert not list(killed.store.glob("hits/runs/*/gnn-random"))
    code, out, err = together(COUNTED, *command, "--store", killed.store)
    assert code == 0, err
    assert contents(runs_of(killed, "gnn")) == contents(runs_of(reference, "gnn"))
    assert re.findall(r"epoch ([0-9]+)", out) == ["5", "6"]
