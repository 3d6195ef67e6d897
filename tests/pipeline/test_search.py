"""The search for settings: by validation alone, resumable, and what it prints is what it tried."""

from __future__ import annotations

import json
import os
import shlex
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock

from pipeline.output import shell_lines
from stages.head.training import loop as training
from stages.head.training.loop import TrainedNetwork
from store.errors import EncoreError
from store.layout import Store
from tests.pipeline.conftest import Encore, embed_table

QUICK = ("--set", "epochs=3")
Train = Callable[..., TrainedNetwork]


def journal(encore: Encore) -> Path:
    (path,) = (encore.store / "hits" / "runs").rglob("search-*.journal")
    return path


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """The arguments of every training."""
    calls: list[tuple[Any, ...]] = []
    train = training.train

    def spy(*args: Any, **options: Any) -> TrainedNetwork:
        calls.append(args)
        return train(*args, **options)

    monkeypatch.setattr(training, "train", spy)
    return calls


def test_a_search_and_its_command(encore: Encore, several_csv: Path, watched: list[tuple[Any, ...]]) -> None:
    embed_table(encore, several_csv)
    search = ("search", "hits", "--mode", "dropedge", *QUICK)
    answer = encore(*search, "--trials", 6, "--json").json
    assert (answer["trials"], answer["failed"], answer["metric"]) == (6, 0, "micro_f1")
    searched = {"hidden", "dropout", "learning_rate", "decay", "weight_decay", "batch", "neighbours", "drop_edge"}
    assert set(answer["settings"]) == set(answer["defaults"]) == searched
    assert answer["validation"] >= answer["default_validation"]
    for _, data, part, _, _ in watched:  # no label of a test clip was ever there to be looked at
        assert data.labels[part <= 1].any()
        assert not data.labels[part == 2].any()
    text = encore(*search, "--trials", 6).out
    assert max(len(line) for line in text.splitlines() if "--store" not in line) <= 80  # a path is not broken
    command = text.partition("\ntest scores, in place of")[2].partition(":\n")[2].replace("\\\n", " ")
    assert " ".join(command.split()) == answer["command"]
    _, *args = shlex.split(answer["command"])
    assert args[-2:] == ["--store", str(encore.store)]
    result = encore(*args[:-2], "--json").json[0]
    record = json.loads((Path(result["saved"]) / "seed-0.json").read_text())
    assert record["history"][record["best_epoch"] - 1]["validation"] == pytest.approx(answer["validation"], abs=0)
    assert {name: {**record["settings"], **record["config"]}[name] for name in searched} == answer["settings"]
    assert record["settings"]["epochs"] == 3


def test_a_search_goes_on(encore: Encore, several_csv: Path, watched: list[tuple[Any, ...]]) -> None:
    embed_table(encore, several_csv)
    search = ("search", "hits", "--mode", "song", *QUICK, "--trials")
    first = encore(*search, 3, "--json").json
    assert first["settings"].keys() == {"hidden", "dropout", "learning_rate", "decay", "weight_decay", "batch"}
    assert len(watched) == 3
    again = encore(*search, 3, "--json")
    assert again.json == first
    assert "3 trials were made before" in again.err
    assert len(watched) == 3
    encore(*search, 5)
    assert len(watched) == 5
    tried = {json.dumps([asdict(part) for part in args[3:5]]) for args in watched}
    assert len(tried) == 5  # none is tried again
    fixed = encore(*search, 2, "--set", "dropout=0.1", "--json").json  # other trials than those
    assert fixed["trials"] == 2
    assert "dropout" not in fixed["settings"]
    assert "--set dropout=0.1" in fixed["command"]
    several_csv.write_text(several_csv.read_text().replace("genre 0|genre 1", "genre 1", 3))
    encore(*("embed", "table", "--table", several_csv, "--name", "hits", "--columns", "labels=genre"))
    assert encore(*search, 1, "--json").json["trials"] == 1  # other labels: scores that cannot be compared


def test_what_is_finished_stays(encore: Encore, several_csv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    embed_table(encore, several_csv)
    train, calls = training.train, []

    def stopped(*args: Any, **options: Any) -> TrainedNetwork:
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        if len(calls) == 4:
            raise EncoreError("the training loss of song became nan in epoch 1")
        return train(*args, **options)

    monkeypatch.setattr(training, "train", stopped)
    search = ("search", "hits", "--mode", "song", *QUICK, "--trials", 4)
    assert "the same command goes on from there" in encore(*search, code=130).err
    ran = encore(*search)
    assert "2 trials were made before" in ran.err
    assert "song: 4 trials, 1 with a loss that did not stay finite" in ran.out
    assert len(calls) == 5


def test_a_stopped_search_ends_as_one_that_was_not(
    encore: Encore, several_csv: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Also where it is stopped within its first trial, and within one that the sampler drew."""
    embed_table(encore, several_csv)
    search = ("search", "hits", "--mode", "song", *QUICK, "--trials", 4)
    train, tried = training.train, []
    shutil.copytree(encore.store, tmp_path / "other")
    other = Encore(tmp_path / "other")

    def noted(*args: Any, **options: Any) -> TrainedNetwork:
        tried.append(args[3:5])
        if stops:
            stops.pop()
            raise KeyboardInterrupt
        return train(*args, **options)

    monkeypatch.setattr(training, "train", noted)
    stops: list[int] = []
    whole = encore(*search, "--json").json
    expected, tried[:] = list(tried), []
    for trial in range(4):
        stops = [trial]
        other(*search[:-1], trial + 1, code=130)
        other(*search[:-1], trial + 1)
    assert tried == [each for each in expected for _ in range(2)]
    again = other(*search, "--json").json
    assert {**again, "command": ""} == {**whole, "command": ""}


def test_searches_side_by_side_try_other_settings(
    encore: Encore, several_csv: Path, watched: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    embed_table(encore, several_csv)
    search = ("search", "hits", "--mode", "song", *QUICK, "--trials")
    encore(*search, 1)
    (file,) = (path.relative_to(encore.store) for path in encore.store.rglob("*.journal"))
    content = journal(encore).read_bytes()
    encore(*search, 2)
    journal(encore).write_bytes(content)
    give_back = Store(str(encore.store)).files.take(f"{file}.0.lock", 0)
    assert give_back is not None
    encore(*search, 2)
    give_back()
    assert watched[1][3:5] != watched[2][3:5]


def test_searches_that_cannot_be(encore: Encore, several_csv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    embed_table(encore, several_csv)
    for args, expected in (
        (("--mode", "artist"), "artist counts and is not trained"),
        (("--mode", "sing"), "unknown mode 'sing'"),
        (("--regime", "random-5fold"), "search in random"),
        (("--set", "epoch=3"), "unknown setting 'epoch'"),
        (
            ("--mode", "sgc", *(f"--set={name}=1" for name in ("learning_rate", "decay", "weight_decay", "batch"))),
            "is given",
        ),
    ):
        assert expected in encore("search", "hits", *args, code=2).err
    encore("search", "hits", "--mode", "song", "--trials", 1, *QUICK)
    with journal(encore).open("a") as file:
        file.write("no line of a journal\n{}\n")
    message = encore("search", "hits", "--mode", "song", *QUICK, code=1).err
    assert "is damaged" in message
    assert "remove it to begin the search anew" in message

    def diverged(*args: Any, **options: Any) -> TrainedNetwork:
        raise EncoreError("nan")

    monkeypatch.setattr(training, "train", diverged)
    message = encore("search", "hits", "--mode", "gnn", "--trials", 2, code=1).err
    assert "no trial ended with a finite loss" in message


def test_a_store_that_is_no_folder(several_csv: Path) -> None:
    encore = Encore(Path("memory:/searched"))
    encore.store = "memory://searched"  # type: ignore[assignment]
    embed_table(encore, several_csv)
    assert "needs one on a local disk" in encore("search", "hits", code=2).err


def test_a_search_is_no_run(encore: Encore, features_csv: Path) -> None:
    """A report has no choice to ask about; and who removes runs is told that a search lies among them."""
    embed_table(encore, features_csv)
    encore("compare", "hits", "--modes", "song", "--seeds", 1, *QUICK)
    columns = ("--columns", "labels=genre,features=tempo")
    name = encore("embed", "table", "--table", features_csv, "--name", "hits", *columns, "--json").json[
        "representation"
    ]
    encore("search", "hits", "--backbone", name, "--mode", "song", "--trials", 1, *QUICK)
    assert encore("report", "hits", "--json").json["representation"] != name
    assert "hits has no runs of" in encore("report", "hits", "--backbone", name, code=2).err
    runs = encore("store", "ls", "--json").json[0]["runs"]
    assert {run["representation"] == name: (run["runs"], run["searches"]) for run in runs} == {
        True: (0, 1),
        False: (1, 0),
    }
    assert any(line.split()[-4:-1:2] == [name, "-"] for line in encore("store", "ls").out.splitlines())
    assert f"trained heads on {name}: 0 runs and 1 search, " in encore("store", "show", "hits").out
    remove = ("store", "remove", "hits", "--runs")
    assert " MiB), with 1 search for settings; say --yes" in encore(*remove, code=2).err
    assert encore(*remove, "--yes", "--json").json["searches"] == 1


def test_commands_are_broken_before_options() -> None:
    command = "encore head hits " + " ".join(f"--set name_{i}={i}" for i in range(12))
    lines = shell_lines(command)
    assert len(lines) > 2
    assert max(map(len, lines)) <= 80
    assert all(line.startswith("  --") for line in lines[1:])
    assert shlex.split("\n".join(lines).replace("\\\n", "")) == shlex.split(command)


def test_a_full_disk_costs_one_trial(encore: Encore, several_csv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The journal ends in a torn line then, which the next command must not write behind."""
    embed_table(encore, several_csv)
    search = ("search", "hits", "--mode", "song", *QUICK, "--trials")
    encore(*search, 2)
    (journal,) = encore.store.rglob("*.journal")
    writes = JournalFileBackend.append_logs

    def torn(self: JournalFileBackend, logs: list[dict[str, Any]]) -> None:
        if any(log.get("state") == 1 for log in logs):  # a trial that is complete
            with journal.open("ab") as file:
                file.write(b'{"op_code":6,"worker')
            raise OSError(28, "No space left on device")
        writes(self, logs)

    with monkeypatch.context() as patched:
        patched.setattr(JournalFileBackend, "append_logs", torn)
        message = encore(*search, 4, code=1).err
    assert "a trial cannot be written to the store: [Errno 28] No space left on device" in message
    assert "2 trials were made before" in encore(*search, 3).err
    assert "3 trials were made before" in encore(*search, 3).err


def test_a_line_that_another_search_writes_is_not_torn(
    encore: Encore, several_csv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is waited for: the other gives back the lock when its line is whole."""
    embed_table(encore, several_csv)
    search = ("search", "hits", "--mode", "song", *QUICK, "--trials", 2)
    encore(*search)
    content = journal(encore).read_bytes()
    journal(encore).write_bytes(content[:-10])
    rest, acquire = [content[-10:]], JournalFileSymlinkLock.acquire

    def waits(self: JournalFileSymlinkLock) -> bool:
        with journal(encore).open("ab") as file:
            file.write(rest.pop() if rest else b"")
        return acquire(self)

    monkeypatch.setattr(JournalFileSymlinkLock, "acquire", waits)
    assert "2 trials were made before" in encore(*search).err
    assert journal(encore).read_bytes().startswith(content)


def test_a_journal_that_is_no_file(encore: Encore, several_csv: Path) -> None:
    embed_table(encore, several_csv)
    encore("search", "hits", "--mode", "song", *QUICK, "--trials", 1)
    (journal,) = encore.store.rglob("*.journal")
    journal.unlink()
    os.mkfifo(journal)
    assert "a pipe" in encore("search", "hits", "--mode", "song", *QUICK, "--trials", 1, code=1).err
