"""A Ctrl-C that comes where Python drops exceptions, or turns them into others, still stops the command."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import threading
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pyarrow.csv
import pytest

from stages import interrupts
from stages.embed.tables.text import open_text
from tests import PATIENCE_S
from tests.processes import Process

ROOT = Path(__file__).resolve().parents[1]
# Started in the background of a script, Python would leave Ctrl-C alone.
CTRL_C_WHILE_FORKING = """
import os, signal
from stages import interrupts
signal.signal(signal.SIGINT, signal.default_int_handler)

class Rows:
    def __getitem__(self, rows):
        return rows

def press():
    os.kill(os.getpid(), signal.SIGINT)
    return "the interpreter looks for signals"

os.register_at_fork(before=press)
try:
    {work}
    print("went on")
except KeyboardInterrupt:
    print("stopped")
"""
WORK = {
    "deferred": "with interrupts.deferred(): os.waitpid(pid, 0) if (pid := os.fork()) else os._exit(0)",
    "workers": "from stages.embed.loading import load_in_workers as load; list(load(Rows(), [[0], [1]], 2, pin=False))",
    "trainings": "from stages.head.runs.workers import in_order as f; list(f(lambda *_: 0, [1, 2], 2, print))",
}


def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_S, **options)


@pytest.mark.parametrize("work", WORK)
def test_ctrl_c_while_a_process_is_forked(work: str) -> None:
    process = Process(CTRL_C_WHILE_FORKING.replace("{work}", WORK[work]))
    out, err = process.communicate()
    assert (out, process.returncode) == ("stopped\n", 0), err


# What the import of a compiled module does with the exception: here it becomes another one.
CTRL_C_WHILE_IMPORTING = """
import signal, sys, time
from stages import interrupts
signal.signal(signal.SIGINT, signal.default_int_handler)
with interrupts.raised() as ctrl_c:
    try:
        import pressed
        print("whole" if pressed.whole else "")
        time.sleep(60)
    except KeyboardInterrupt as error:
        print("stopped" if ctrl_c.stops(error) else "")
"""
PRESSED = """
import os, signal
try:
    os.kill(os.getpid(), signal.SIGINT)
    whole = len(range(10)) == 10
except KeyboardInterrupt:
    raise ImportError("half a module")
"""


def test_ctrl_c_while_a_module_is_imported(tmp_path: Path) -> None:
    (tmp_path / "pressed.py").write_text(PRESSED)
    command = [sys.executable, "-c", CTRL_C_WHILE_IMPORTING]
    paths = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path)])}
    process = run(command, env=paths)
    assert (process.stdout, process.returncode) == ("whole\nstopped\n", 0), process.stderr


def test_an_import_that_never_ends_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupts, "_MOMENTS", 0)
    frame = types.SimpleNamespace(f_code=types.SimpleNamespace(co_filename="<frozen importlib._bootstrap>"))
    handler = interrupts.Interrupts()
    with pytest.raises(KeyboardInterrupt) as caught:
        handler(signal.SIGINT, cast(types.FrameType, frame))
    assert handler.stops(caught.value)


# Most that come while numpy chooses are dropped there.
CTRL_C_IN_COMPILED_CODE = """
import os, signal, threading
import numpy as np
from stages import interrupts
signal.signal(signal.SIGINT, signal.default_int_handler)
rng = np.random.default_rng(0)
threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()

def draw():
    while True:
        rng.choice(["a", "b", "c"])

with interrupts.raised() as ctrl_c:
    try:
        draw()
    except KeyboardInterrupt as error:
        print("stopped" if ctrl_c.stops(error) else "")
"""


def test_ctrl_c_in_compiled_code() -> None:
    command = [sys.executable, "-c", CTRL_C_IN_COMPILED_CODE]
    process = run(command, cwd=ROOT)
    assert (process.stdout, process.returncode) == ("stopped\n", 0), process.stderr


# It is raised where the time goes, and there it is dropped, as is what comes to a caller of that.
CTRL_C_THAT_IS_DROPPED_AGAIN = """
import os, signal, sys, threading, time
from stages import interrupts

def work():
    end = time.perf_counter() + 0.05
    while time.perf_counter() < end:
        pass

def drop():
    try:
        work()
    except BaseException:
        pass

def take():
    try:
        drop()
        drop()
    except BaseException:
        pass

def take_for_ever():
    while True:
        take()

def call_back():
    sorted(range(10**5), key=lambda number: drop())

def drop_and_go_on():
    for _ in range(4):
        drop()
    end = time.perf_counter() + 20
    while time.perf_counter() < end:
        pass

def drop_and_end():
    for _ in range(4):
        drop()

def trace(*_):
    return trace

signal.signal(signal.SIGINT, signal.default_int_handler)
threading.Timer(0.01, os.kill, (os.getpid(), signal.SIGINT)).start()
sys.settrace(TRACE)
with interrupts.raised() as ctrl_c:
    try:
        WORK()
        ctrl_c.check()
    except KeyboardInterrupt as error:
        print("stopped" if ctrl_c.stops(error) else "")
print(sys.gettrace() is TRACE)
"""


@pytest.mark.parametrize(
    ("work", "trace"),
    [
        ("take_for_ever", "None"),
        ("take_for_ever", "trace"),
        ("call_back", "None"),
        ("drop_and_go_on", "None"),
        ("drop_and_end", "None"),
    ],
)
def test_ctrl_c_that_is_dropped_again_and_again(work: str, trace: str) -> None:
    script = CTRL_C_THAT_IS_DROPPED_AGAIN.replace("WORK", work).replace("TRACE", trace)
    process = run([sys.executable, "-c", script], cwd=ROOT)
    assert (process.stdout, process.returncode) == ("stopped\nTrue\n", 0), process.stderr


# Python drops what is raised in any of these, wherever in them it is raised.
DROPPED = {
    "destructor": "class Thing:\n    def __del__(self): press()\nThing()",
    "weak reference": "import weakref\nthing = set()\nweakref.finalize(thing, press)\ndel thing",
    "collector": "import gc\ngc.callbacks.append(lambda phase, _: phase == 'start' and press())\ngc.collect()",
    "library": "try: press()\nexcept BaseException: pass",
}
CTRL_C_THAT_IS_DROPPED = """
import signal, sys, time
from pipeline import cli
from stages import interrupts
sys.unraisablehook = cli._take_unraisable
presses = []

def press():
    if not presses:
        presses.append(True)
        signal.raise_signal(signal.SIGINT)

with interrupts.raised() as ctrl_c:
    try:
{work}
        print("went on", bool(presses))
        time.sleep(60)
    except KeyboardInterrupt as error:
        print("stopped" if ctrl_c.stops(error) else "")
"""


@pytest.mark.parametrize("work", DROPPED)
def test_one_that_is_dropped_comes_again(work: str) -> None:
    script = CTRL_C_THAT_IS_DROPPED.replace("{work}", textwrap.indent(DROPPED[work], " " * 8))
    process = Process(script)
    out, err = process.communicate()
    assert (out, err, process.returncode) == ("went on True\nstopped\n", "", 0)


def _turn_into_another_error() -> None:
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        raise RuntimeError("as the import of a module does")  # noqa: B904


def _raise_another_in_its_place() -> None:
    with contextlib.suppress(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    raise TypeError("as numpy does where structured arrays are compared")


@pytest.mark.parametrize("work", [_turn_into_another_error, _raise_another_in_its_place])
def test_another_error_that_came_of_it_stops_the_command(work: Callable[[], None]) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with interrupts.raised() as ctrl_c:
            with pytest.raises((RuntimeError, TypeError)) as caught:
                work()
            assert ctrl_c.stops(caught.value)
            signal.raise_signal(signal.SIGINT)  # pressed once more, while the command ends
            _in_a_while()  # in which none comes again
        with interrupts.raised() as ctrl_c:
            assert not ctrl_c.stops(RuntimeError("of its own"))
    finally:
        signal.signal(signal.SIGINT, before)


def _in_a_while() -> None:
    for thread in threading.enumerate():
        if isinstance(thread, threading.Timer):
            thread.join()


def test_a_command_gives_the_handler_back() -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with interrupts.raised() as outer:
            with interrupts.raised():
                pass
            with pytest.raises(KeyboardInterrupt) as caught:
                signal.raise_signal(signal.SIGINT)
            assert outer.stops(caught.value)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with interrupts.raised():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_arrow_takes_no_ctrl_c_while_it_reads_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "songs.csv").write_text("artist\nsomebody\n")
    events: list[object] = []
    read = pyarrow.csv.read_csv
    monkeypatch.setattr(pyarrow, "enable_signal_handlers", events.append)
    monkeypatch.setattr(pyarrow.csv, "read_csv", lambda *a, **k: events.append("read") or read(*a, **k))
    assert open_text(tmp_path / "songs.csv").rows == 1
    assert events == [False, "read", True]
