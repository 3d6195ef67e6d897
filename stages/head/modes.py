"""The names under which tables and documents show a head."""

from __future__ import annotations

from dataclasses import dataclass

from stages import registry

# No heads: rows beside them (`stages.head.baselines`), by classifier and by what it reads.
BASELINES = tuple(
    f"{classifier}-{inputs}"
    for classifier in ("logistic", "boosting", "svm")
    for inputs in ("song", "neighbours", "labels")
)


@dataclass(frozen=True)
class Rule:
    """One of several ways in which a head decides: its ``short`` name in tables, and ``about``, what it chooses."""

    short: str
    about: str


@dataclass(frozen=True)
class Mode:
    """A head, and the rule by which it decides where it has several (`Head.RULES`).

    ``name`` may also stand for what is no head: a baseline, an ensemble, the majority.
    """

    name: str
    rule: str | None = None

    def __str__(self) -> str:
        """``artist (top)``, as tables and reports show it."""
        if self.rule is None:
            return self.name
        rules = registry.find("head", self.name).RULES
        return f"{self.name} ({rules[self.rule].short if self.rule in rules else self.rule})"

    @property
    def full(self) -> str:
        """``artist (most frequent)``, with the rule's whole name."""
        return self.name if self.rule is None else f"{self.name} ({self.rule})"

    @property
    def about(self) -> str:
        """What the rules of the head choose, in one line; empty where it has but one."""
        rules = registry.find("head", self.name).RULES if self.rule is not None else {}
        texts = "; ".join(f"({rule.short}): {rule.about}" for rule in rules.values())
        return f"{self.name} {texts}" if texts else ""
