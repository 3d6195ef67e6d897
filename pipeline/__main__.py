"""The ``encore`` command from its first moment on, before the imports of `pipeline.cli` are through."""

from __future__ import annotations

import contextlib
import os
import signal
from types import FrameType

_INTERRUPTED = 130


def main() -> None:
    # Not by an exception: imports of compiled modules turn it into other errors, or lose it. It is one again from the
    # moment a command begins (`pipeline.options`).
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else Ctrl-C is for others (nohup, &)
        signal.signal(signal.SIGINT, _stop)
    try:
        from pipeline.cli import main as run
    except (ImportError, MemoryError, OSError, RuntimeError) as error:
        _refuse(error)
    run()


def _stop(_number: int, _frame: FrameType | None) -> None:
    _end("stopped; nothing was begun yet", _INTERRUPTED)


def _refuse(error: Exception) -> None:
    """End where the libraries themselves do not fit in memory; anything else is raised again."""
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
