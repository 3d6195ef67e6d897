"""Trainings side by side: the numbers of one after another, and nothing left behind by those that end early."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from stages import progress, registry
from stages.head.collection import Collection
from stages.head.options import resolve
from stages.head.runs.workers import in_order
from stages.head.train import _at_once, _Command, _Mode
from stages.head.training.stretches import Stretches
from store.errors import EncoreError, RequestError
from store.layout import Store
from tests import PATIENCE_S
from tests.head.conftest import make_collection
from tests.pipeline.conftest import ONE_PART, Encore
from tests.pipeline.test_resume import KILLED, QUICK, contents, embed, runs_of
from tests.processes import COMMAND, Process

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux copies processes for this")

TWO_AT_ONCE = {"OMP_NUM_THREADS": "2"}


@pytest.mark.parametrize("at_once", [1, 2, 9])
def test_results_come_in_the_order_of_the_jobs(at_once: int, capsys: pytest.CaptureFixture[str]) -> None:
    ended = [multiprocessing.get_context("fork").Event() for _ in range(4)]

    def doubled(job: int, advance: Callable[[int], None]) -> int:
        if at_once > 1 and job % 2 == 0:
            assert ended[job + 1].wait(PATIENCE_S)  # of two neighbours the first is the last to end
        progress.note(f"job {job}")
        advance(1)
        ended[job].set()
        return 2 * job

    steps: list[int] = []
    assert list(in_order(doubled, range(4), at_once, steps.append)) == [0, 2, 4, 6]
    assert steps == [1, 1, 1, 1]
    assert sorted(capsys.readouterr().err.splitlines()) == ["job 0", "job 1", "job 2", "job 3"]


def test_what_fails_in_a_copy_fails_here() -> None:
    def fails(job: int, advance: Callable[[int], None]) -> int:
        if job == 1:
            raise RequestError("no such thing")
        return job

    with pytest.raises(RequestError, match="no such thing"):
        list(in_order(fails, range(6), 2, lambda _n: None))


def test_an_error_that_cannot_be_sent_is_told_in_words() -> None:
    class Own(Exception):
        pass

    def fails(job: int, advance: Callable[[int], None]) -> None:
        raise Own("of my own")

    with pytest.raises(EncoreError, match="Own: of my own"):
        list(in_order(fails, range(2), 2, lambda _n: None))


def test_a_copy_that_was_killed_is_told() -> None:
    def dies(job: int, advance: Callable[[int], None]) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(EncoreError, match=r"ended from outside.*OMP_NUM_THREADS=1"):
        list(in_order(dies, range(2), 2, lambda _n: None))


def test_only_small_trainings_that_fit_go_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.head.train.most_at_once", lambda: 8)
    data = make_collection(dim=64)
    bytes_gib = len(data) * 64 * 4 / 2**30
    assert at_once(data) == 8
    assert at_once(data, memory_gib=10 * bytes_gib) == 3
    assert at_once(data, memory_gib=3 * bytes_gib) == 1
    assert at_once(data, hidden=4096) == 8
    assert at_once(make_collection(dim=640), hidden=4096) == 1
    assert at_once(data, "song,gated", hidden=1024) == 1  # one of them is wide enough
    assert at_once(data, stretches=Stretches(data, most=100)) == 1
    assert at_once(data, device="meta") == 1


def at_once(
    data: Collection,
    modes: str = "song,artist",
    *,
    stretches: Stretches | None = None,
    device: str = "cpu",
    memory_gib: float | None = None,
    hidden: int = 128,
) -> int:
    heads = [registry.find("head", mode) for mode in modes.split(",")]
    settings, configs = resolve(heads, {"hidden": str(hidden)})
    split = data.split("random", 0)
    jobs = [(_Mode(head, configs[head], "random", [], []), 0, None, split) for head in heads]
    journal: Any = None
    where = torch.device(device)
    command = _Command(Store("memory://none"), data, stretches or Stretches(data), settings, where, journal)
    return _at_once(command, jobs, memory_gib)


def test_two_at_once_give_the_bits_of_one_also_after_a_kill(tmp_path: Path, features_csv: Path) -> None:
    one, two = Encore(tmp_path / "one"), Encore(tmp_path / "two")
    for encore in (one, two):
        embed(encore, features_csv)
    arguments = (
        "compare",
        "hits",
        "--modes",
        "song,gnn,cluster-edges,knn,label-propagation",
        "--seeds",
        "2",
        *ONE_PART,
        *QUICK,
    )
    one(*arguments)
    command = (*arguments, "--store", two.store)
    process = Process(KILLED, *command, environment=TWO_AT_ONCE)  # a copy of it kills itself
    _, err = process.communicate()
    assert process.returncode == 1, err
    assert "ended from outside" in err
    assert list(two.store.glob("hits/runs/*/gnn-random.unfinished/*.resume"))
    process = Process(COMMAND, *command, environment=TWO_AT_ONCE)
    _, err = process.communicate()
    assert process.returncode == 0, err
    assert "was done before" in err
    for mode in ("song", "gnn", "cluster-edges", "knn", "label-propagation"):
        assert contents(runs_of(two, mode)) == contents(runs_of(one, mode)), mode


# Started in the background of a script, Python would leave Ctrl-C alone.
SLOW = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from stages.head.training import loop as train
epoch = train.Loop._epoch
def slow(self, number):
    print("an epoch", file=sys.stderr, flush=True)
    while number > 1:
        signal.pause()
    return epoch(self, number)
train.Loop._epoch = slow
from pipeline.cli import main
main()
"""


@pytest.mark.parametrize(
    ("how", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM), (signal.SIGKILL, -signal.SIGKILL)],
)
def test_no_copy_outlives_the_command(how: signal.Signals, code: int, encore: Encore, features_csv: Path) -> None:
    embed(encore, features_csv)
    command = ("compare", "hits", "--modes", "song,gnn", "--store", str(encore.store), *ONE_PART, "--set", "hidden=16")
    # Every copy holds the writing end of this pipe: it is read to its end when the last of them is gone.
    with Process(SLOW, *command, environment=TWO_AT_ONCE, new_session=True) as process:
        assert any("an epoch" in line for line in process.stderr)
        if how == signal.SIGINT:
            os.killpg(process.pid, how)  # as a terminal does
        else:
            process.send_signal(how)
        rest = process.stderr.read()
        process.join()
        assert process.returncode == code
    assert "Traceback" not in rest, rest
