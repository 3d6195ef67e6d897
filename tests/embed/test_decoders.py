"""Processes that read songs for a server: what one song does to its own harms no other."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from stages.embed.decoders import Decoders
from store.errors import ClipError, RequestError
from tests import PATIENCE_S


def double(value: int) -> int:
    return 2 * value


def die() -> None:
    os._exit(3)


def sleep() -> None:
    time.sleep(PATIENCE_S)


def refuse() -> None:
    raise ClipError("damaged", "as it should be")


def stumble() -> None:
    raise KeyError("a defect")


def own_process() -> int:
    return os.getpid()


@pytest.fixture
def decoders() -> Iterator[Decoders]:
    pool = Decoders(2, PATIENCE_S)
    yield pool
    pool.close()


def test_calls_are_answered_by_other_processes(decoders: Decoders) -> None:
    assert [decoders.submit(double, value).result() for value in range(5)] == [0, 2, 4, 6, 8]
    assert decoders.submit(own_process).result() != os.getpid()


def test_errors_come_back(decoders: Decoders) -> None:
    with pytest.raises(ClipError, match="as it should be"):
        decoders.submit(refuse).result()
    with pytest.raises(RuntimeError, match="KeyError: 'a defect'"):
        decoders.submit(stumble).result()


def test_a_process_that_dies_is_replaced(decoders: Decoders) -> None:
    calls = [decoders.submit(die) if number % 3 == 0 else decoders.submit(double, number) for number in range(12)]
    for number, call in enumerate(calls):
        if number % 3 == 0:
            with pytest.raises(ClipError, match="came to an end"):
                call.result()
        else:
            assert call.result() == 2 * number


def test_a_call_that_takes_too_long_is_ended() -> None:
    pool = Decoders(1, 0.05)
    try:
        with pytest.raises(ClipError, match="more than 0 seconds"):
            pool.submit(sleep).result()
    finally:
        pool.close()


def test_closing_ends_what_is_at_work() -> None:
    pool = Decoders(2, PATIENCE_S)
    call = pool.submit(sleep)
    assert pool.submit(double, 4).result() == 8
    pool.close()
    with pytest.raises((ClipError, RequestError)):
        call.result()
