"""Errors that libraries raise where memory is short."""

from __future__ import annotations

import errno

import pyarrow as pa
import pytest

from store.errors import FormatError, is_out_of_memory


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        pa.ArrowMemoryError("malloc of size 64 failed"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        OSError("libdgl.so: failed to map segment from shared object"),
        RuntimeError("can't start new thread"),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried to"),
        ImportError("libtorch_cpu.so: failed to map segment from shared object"),
    ],
)
def test_memory_that_was_refused_is_known_also_as_a_cause(error: Exception) -> None:
    assert is_out_of_memory(error)
    wrapper = FormatError("the table is damaged")
    assert not is_out_of_memory(wrapper)
    wrapper.__cause__ = error
    assert is_out_of_memory(wrapper)


def test_other_errors_are_not() -> None:
    assert not is_out_of_memory(OSError(errno.ENOSPC, "No space left on device"))
    assert not is_out_of_memory(RuntimeError("shapes differ"))
