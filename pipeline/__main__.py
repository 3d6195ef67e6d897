"""The ``encore`` command, guarded from its first moment, while `pipeline.cli` is still being imported."""

from __future__ import annotations

import contextlib
import os
import signal
from types import FrameType

_INTERRUPTED = 130


def main() -> None:
    # An exception would be lost, or turned into another error, inside the imports of compiled modules. From the moment
    # that a command begins Ctrl-C raises one again (`pipeline.options`).
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else it is ignored on purpose (nohup, &)
        signal.signal(signal.SIGINT, _stop)
    try:
        from pipeline.cli import main as run
    except (ImportError, MemoryError, OSError, RuntimeError) as error:
        _refuse(error)
    run()


def _stop(_number: int, _frame: FrameType | None) -> None:
    _end("stopped; nothing was begun yet", _INTERRUPTED)


def _refuse(error: Exception) -> None:
    """End with one line if the libraries do not fit in memory; raise any other error again."""
    from store.errors import is_out_of_memory

    if not is_out_of_memory(error):
        raise error
    _end("error: out of memory; not even Encore's libraries could be loaded", 1)


def _end(text: str, code: int) -> None:
    with contextlib.suppress(OSError):
        os.write(2, f"{text}\n".encode())
    os._exit(code)


if __name__ == "__main__":
    main()
