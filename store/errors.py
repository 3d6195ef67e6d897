"""Every error that Encore raises on purpose.

A message says what was wrong, where, and what to do about it; the command line prints it as it stands
and leaves with the class's exit code. Anything else that escapes is a defect.
"""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable

# How libraries say that they were given no memory, or that no machine has so much.
_NO_MEMORY = (
    "not enough memory",
    "can't allocate memory",
    "Cannot allocate memory",
    "out of memory",
    "calculation overflowed",
    "multiplication overflow",
    "Overflow when unpacking",
    "can't start new thread",
    "failed to map segment",
)


class EncoreError(Exception):
    """The run failed (exit code 1)."""

    exit_code = 1


class RequestError(EncoreError, ValueError):
    """What was asked for cannot be done as it was asked (exit code 2)."""

    exit_code = 2


class MisfitError(RequestError):
    """Weights that are not those of a network.

    Attributes
    ----------
    missing, unexpected : the names that the network has and the weights lack, and the other way round.
    """

    def __init__(self, message: str, missing: Iterable[str] = (), unexpected: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.missing, self.unexpected = tuple(missing), tuple(unexpected)


class StoreError(EncoreError, OSError):
    """The store cannot be read or written."""


class FormatError(StoreError):
    """Something in the store is not what its format says."""


# Kinds of failure that say nothing of a file's content: the next run tries again.
PASSING = frozenset({"missing", "not-followed", "unreadable"})


class ClipError(EncoreError):
    """One clip cannot be encoded; recorded in ``failures.parquet``, never the end of a run.

    Parameters
    ----------
    kind : a short stable word: ``missing``, ``unreadable``, ``damaged``, ``empty``, ``silent``, ``constant``,
        ``short``, ``truncated``, ``no-notes``, ``not-finite``, ``outside``, ``not-a-file``, ``not-followed``,
        ``not-supported``.
    reason : one line for a person.
    """

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(kind, reason)
        self.kind = kind
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.kind}: {self.reason}"


def unknown(what: str, name: str, have: Iterable[str]) -> RequestError:
    """The error for a name that is not in a list: it shows the list and the nearest name."""
    names = sorted(have)
    return RequestError(f"unknown {what} {name!r}; have: {', '.join(names) or 'none'}.{nearest(name, names)}")


def nearest(name: str, names: Iterable[str]) -> str:
    """`` Did you mean ...?`` with the most similar of the names; empty if none is similar."""
    near = difflib.get_close_matches(name, list(names), n=1)
    return f" Did you mean {near[0]}?" if near else ""


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether this error, or one that caused it, says that memory ran out.

    Each library says so in its own way, and torch has an error of its own for an accelerator alone.
    """
    if error is None:
        return False
    tells = isinstance(error, RuntimeError | TypeError | ImportError | OSError)
    has_words = tells and any(text in str(error) for text in _NO_MEMORY)
    refused = isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
    return has_words or refused or is_out_of_memory(error.__cause__)
