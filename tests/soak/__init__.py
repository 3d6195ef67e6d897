"""Everything that can go wrong, for minutes on end: a module each, whose ``run(short)`` gives a line for each claim.

``make soak`` runs all of it; ``--short``, and ``make test``, a few seconds of each.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Line:
    """One claim: what was done, with its figures, and what did not hold; empty where it does."""

    name: str
    what: str
    wrong: str = ""
