"""A Ctrl-C that comes while a process is forked, where Python drops exceptions, still stops the command."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

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


@pytest.mark.parametrize("work", WORK)
def test_ctrl_c_while_a_process_is_forked(work: str) -> None:
    code = CTRL_C_WHILE_FORKING.replace("{work}", WORK[work])
    process = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (process.stdout, process.returncode) == ("stopped\n", 0), process.stderr
