"""Songs that come, change and go, kills, damage, repairs, copies, in random order: the store does as its model says."""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.soak import Line
from tests.store.test_machine import SmallShards


def run(short: bool) -> Iterator[Line]:
    """Other examples each time; what fails is made as short as it can be, and printed."""
    examples, steps = (3, 10) if short else (200, 30)
    how = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        derandomize=False,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    wrong = ""
    try:
        run_state_machine_as_test(SmallShards, settings=how)
    except Exception as error:  # whatever it is, it does not hold
        notes = "\n".join(getattr(error, "__notes__", ()))
        wrong = f"{type(error).__name__}: {error}\n{notes}"
    yield Line("machine", f"{examples} runs of up to {steps} steps", wrong)
