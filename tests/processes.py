"""Encore's commands as processes of their own: they can be killed, wait for each other, and train together.

An interpreter that starts anew takes two seconds for PyTorch alone. These are forked from a server that has imported
what all of them need; once forked, a process has its own memory, streams, signals and exit code like any other. So are,
where a test asks for it, the processes that it starts itself: by a server of its own, which is forked too.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.util
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import forkserver
from multiprocessing.connection import wait
from multiprocessing.reduction import DupFd
from pathlib import Path
from types import ModuleType
from typing import IO, Any

from tests import PATIENCE_S

ROOT = Path(__file__).resolve().parents[1]
COMMAND = "from pipeline.cli import main\nmain()"
_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["tests.preloaded"])
multiprocessing.util.get_temp_dir()  # where its socket lies: tests move temporary files, and such paths must be short


class Process:
    """``script`` as if by ``python -c``, with pipes for its three streams.

    Parameters
    ----------
    script : Python; ``COMMAND`` is ``encore`` with ``arguments``.
    environment : what differs from this process's environment.
    new_session : whether it leads a process group of its own, as a command in a terminal does.
    forks : whether what it starts by ``spawn`` is forked from a server of its own, too: its child, while the processes
        are its grandchildren.
    """

    def __init__(
        self,
        script: str,
        *arguments: object,
        environment: Mapping[str, str] | None = None,
        new_session: bool = False,
        forks: bool = False,
    ) -> None:
        theirs_in, ours_in = os.pipe()
        ours_out, theirs_out = os.pipe()
        ours_err, theirs_err = os.pipe()
        theirs = (theirs_in, theirs_out, theirs_err)
        variables = {**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})}
        self._process = _SERVER.Process(
            target=_run, args=(script, [*map(str, arguments)], variables, new_session, forks, _Ends(theirs))
        )
        self._process.start()
        for end in theirs:
            os.close(end)
        self.stdin: IO[str] = os.fdopen(ours_in, "w")
        self.stdout: IO[str] = os.fdopen(ours_out)
        self.stderr: IO[str] = os.fdopen(ours_err)

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        if self.returncode is None:
            self.kill()
        self.communicate()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def sentinel(self) -> int:
        """Is ready when the process has ended."""
        return self._process.sentinel

    @property
    def returncode(self) -> int | None:
        """As of `subprocess.Popen`: below zero the signal that ended it, None while it runs."""
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def communicate(self, text: str = "") -> tuple[str, str]:
        """What it writes from now on to standard output and standard error, once it has ended."""
        texts = self.read(text)
        self.join()
        return texts

    def join(self) -> None:
        self._process.join(PATIENCE_S)
        assert self.returncode is not None

    def read(self, text: str = "") -> tuple[str, str]:
        """As `communicate`, but without waiting for more than the ends of the streams."""
        if not self.stdin.closed:
            try:
                self.stdin.write(text)
                self.stdin.close()
            except BrokenPipeError:
                pass
        with ThreadPoolExecutor(2) as readers:
            out, err = readers.map(lambda stream: "" if stream.closed else stream.read(), (self.stdout, self.stderr))
        self.stdout.close()
        self.stderr.close()
        return out, err


class _Ends:
    """Ends of pipes on their way to the server's child."""

    def __init__(self, ends: tuple[int, ...]) -> None:
        self.ends = ends

    def __reduce__(self) -> tuple[Any, ...]:
        return _received, tuple(DupFd(end) for end in self.ends)


def _received(*ends: Any) -> _Ends:
    return _Ends(tuple(end.detach() for end in ends))


def _run(
    script: str, arguments: list[str], variables: dict[str, str], new_session: bool, forks: bool, ends: _Ends
) -> None:
    for number, end in enumerate(ends.ends):
        os.dup2(end, number)
        os.close(end)
    sys.stdin, sys.stdout, sys.stderr = (
        open(number, mode, closefd=False, buffering=1)  # noqa: SIM115
        for number, mode in enumerate(("r", "w", "w"))
    )
    os.environ.clear()
    os.environ.update(variables)
    os.chdir(ROOT)
    multiprocessing.set_start_method(multiprocessing.get_all_start_methods()[0], force=True)  # and not by the server
    signal.signal(signal.SIGINT, signal.default_int_handler)
    import torch

    torch.set_num_threads(int(variables["OMP_NUM_THREADS"]))  # it was read when torch was imported
    if "dask" in sys.modules:
        sys.modules["dask"].config.refresh()  # from the variables
    if new_session:
        os.setsid()
    if forks:
        _fork_what_is_spawned()
    sys.argv = ["-c", *arguments]
    main = sys.modules["__main__"] = ModuleType("__main__")
    exec(compile(script, "<script>", "exec"), main.__dict__)


def _fork_what_is_spawned() -> None:
    """Give this process a server of its own, forked while it has no threads yet, for the start method ``spawn``."""
    server = forkserver._forkserver = forkserver.ForkServer()  # type: ignore[attr-defined]
    server.set_forkserver_preload([])
    for name in ("ensure_running", "get_inherited_fds", "connect_to_new_process"):
        setattr(forkserver, name, getattr(server, name))
    spawn, multiprocessing.util.spawnv_passfds = multiprocessing.util.spawnv_passfds, _fork  # type: ignore[attr-defined]
    server.ensure_running()
    multiprocessing.util.spawnv_passfds = spawn  # type: ignore[attr-defined]
    contexts = multiprocessing.context._concrete_contexts  # type: ignore[attr-defined]
    contexts["spawn"] = contexts["forkserver"]


def _fork(_path: object, command: Sequence[str], ends: Sequence[int]) -> int:
    """As `multiprocessing.util.spawnv_passfds` of a ``python -c``, but without another interpreter."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            for end in {int(name) for name in os.listdir("/proc/self/fd")} - {0, 1, 2, *ends}:
                with contextlib.suppress(OSError):
                    os.close(end)
            exec(command[-1], {})
            code = 0
        except SystemExit:
            code = 0
        finally:
            os._exit(code)
    return child


def together(script: str, *arguments: object, processes: int = 2) -> tuple[int, str, str]:
    """The exit code, standard output and standard error of processes that train together, as ``torchrun`` starts them.

    The code is that of the first that fails; it ends the others.
    """
    from torch.distributed import TCPStore

    meeting = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    everyone = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(meeting.port),
        "WORLD_SIZE": str(processes),
        "LOCAL_WORLD_SIZE": str(processes),
        "TORCHELASTIC_RUN_ID": "together",
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "GLOO_SOCKET_IFNAME": "lo",
    }
    group = [
        Process(script, *arguments, environment={**everyone, "RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank in range(processes)
    ]
    with ThreadPoolExecutor(processes) as readers:
        texts = [readers.submit(process.read) for process in group]
        running, code = list(group), 0
        while running:
            ended = wait([process.sentinel for process in running], PATIENCE_S)
            assert ended
            for process in [process for process in running if process.sentinel in ended]:
                running.remove(process)
                failed = process.returncode
                if failed and not code:
                    code = failed
                    for other in running:
                        other.kill()
        out, err = ("".join(part) for part in zip(*(text.result() for text in texts), strict=True))
    return code, out, err
