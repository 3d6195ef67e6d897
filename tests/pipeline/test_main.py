"""The command from its first moment to its exit code, whatever takes what it prints."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from subprocess import PIPE

import pytest
import typer
from typer.testing import CliRunner

from pipeline.options import DeferringGroup, command
from tests import PATIENCE_S
from tests.pipeline.conftest import QUICK, ROOT, Encore, embed_table
from tests.processes import Process

# Holds the import of the command line until Ctrl-C comes, as a slow disk would; nothing is written to its input.
SLOW = """
import os, signal, sys
class Slow:
    def find_spec(self, name, path=None, target=None):
        if name == "pipeline.cli":
            print("importing", flush=True)
            sys.stdin.read()
sys.meta_path.insert(0, Slow())
signal.signal(signal.SIGINT, signal.default_int_handler)
from pipeline.__main__ import main
main()
"""
# Standard error on a full disk, and closed, as an interpreter finds it so when it starts.
NO_NOTES = (
    "import os\nos.dup2(os.open('/dev/full', os.O_WRONLY), 2)",
    "import os, sys\nos.close(2)\nsys.stderr = sys.__stderr__ = None",
)


def test_ctrl_c_while_libraries_are_imported_is_one_line() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SLOW], cwd=ROOT, stdin=PIPE, stdout=PIPE, stderr=PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "importing\n"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, err) == (130, "stopped; nothing was begun yet\n")


def test_libraries_that_do_not_fit_in_memory() -> None:
    refused = SLOW.replace("sys.stdin.read()", "raise ImportError('libx.so: failed to map segment from shared object')")
    process = subprocess.run([sys.executable, "-c", refused], cwd=ROOT, capture_output=True, text=True)
    assert process.returncode == 1
    assert process.stderr == "error: out of memory; not even Encore's libraries could be loaded\n"


@pytest.mark.parametrize("command", ["compare", "head", "report"])
def test_a_collection_that_is_not_there_is_missed_before_torch_is_imported(command: str, tmp_path: Path) -> None:
    asked = SLOW.replace("pipeline.cli", "torch").replace("sys.stdin.read()", "raise ImportError('too early')")
    asked = asked.replace("main()", f"sys.argv[1:] = [{command!r}, 'nothing', '--store', {str(tmp_path)!r}]\nmain()")
    process = subprocess.run([sys.executable, "-c", asked], cwd=ROOT, capture_output=True, text=True)
    assert process.returncode == 2
    assert process.stderr.startswith("error: unknown data set 'nothing'")


def test_data_sets_that_do_not_fit_in_memory() -> None:
    """Their options, and with them numpy, are imported once a command wants them."""
    refused = SLOW.replace("pipeline.cli", "numpy").replace("main()", "sys.argv[1:] = ['audit', 'demo']\nmain()")
    refused = refused.replace(
        "sys.stdin.read()", "raise ImportError('libx.so: failed to map segment from shared object')"
    )
    process = subprocess.run([sys.executable, "-c", refused], cwd=ROOT, capture_output=True, text=True)
    assert process.returncode == 1
    assert "error: out of memory;" in process.stderr
    assert "Traceback" not in process.stderr


def test_the_list_of_commands_needs_no_heavy_library() -> None:
    code = "import sys; from pipeline.cli import app; app(['--help'], standalone_mode=False); print(*sys.modules)"
    process = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    commands, _, modules = process.stdout.rpartition("\n")[0].rpartition("\n")
    assert "Encode a collection into the store." in commands
    assert not {"numpy", "pyarrow", "torch", "zarr", "librosa"} & set(modules.split())


def test_notes_that_cannot_be_written_change_nothing(encore: Encore, features_csv: Path) -> None:
    embed_table(encore, features_csv)
    head = ("head", "hits", "--mode", "song", "--json", *QUICK)
    outputs = [encore(*head).out.partition('"train_seconds"')[0]]
    for streams in NO_NOTES:
        command = f"{streams}\nfrom pipeline.__main__ import main\nmain()"
        process = Process(command, *head, "--store", encore.store)
        out, err = process.communicate()
        assert (process.returncode, err) == (0, "")
        outputs.append(out.partition('"train_seconds"')[0])
    assert '"metrics"' in outputs[0]
    assert outputs == [outputs[0]] * 3


def test_help_that_no_one_takes() -> None:
    shell = f"'{sys.executable}' -m pipeline --help > /dev/full"
    process = subprocess.run(["/bin/sh", "-c", shell], cwd=ROOT, capture_output=True, text=True, env=dict(os.environ))
    assert process.returncode == 1
    assert process.stderr == "error: standard output: cannot be written or read: No space left on device\n"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError("no such table"), "error: cannot be written or read: no such table\n"),
        (OSError(), "error: cannot be written or read: OSError\n"),
        (OSError(28, "No space left on device", "x"), "error: x: cannot be written or read: No space left on device\n"),
        (RuntimeError("can't start new thread"), "error: out of memory; a smaller hidden, batch or neighbours"),
        (typer.Abort(), "stopped; what was committed is kept"),
    ],
)
def test_errors_are_told_of_what_they_are(error: Exception, message: str) -> None:
    app = typer.Typer(cls=DeferringGroup, callback=lambda: None)

    @command(app)
    def head() -> None:
        raise error

    ran = CliRunner().invoke(app, ["head"])
    assert ran.exit_code == (130 if isinstance(error, typer.Abort) else 1)
    assert ran.stderr.startswith(message)
