"""What counts as no value, in every column of every table.

A cell is missing where it is null, not a number, empty or blank, or holds one of `WORDS` in any case: what pandas, R,
SQL and spreadsheets write for it. A value that happens to be spelled like one of them is kept by naming it
(``--not-missing None``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

WORDS = (
    *("nan", "-nan", "nat", "none", "null", "nil"),
    *("na", "n/a", "#n/a", "#na", "<na>", "n.a."),
    *(r"\n", "?", "-", "--", "\u2013", "\u2014"),
)


@dataclass(frozen=True)
class Missing:
    """Which trimmed texts mean that there is no value: `WORDS` but for the spellings in ``exceptions``."""

    exceptions: frozenset[str] = frozenset()

    @classmethod
    def but(cls, names: str | None) -> Missing:
        """All words but those that a user names, separated by ``|``."""
        return cls(frozenset(name.strip() for name in (names or "").split("|") if name.strip()))

    def __contains__(self, text: str) -> bool:
        return not text or (text.lower() in WORDS and text not in self.exceptions)

    def mask(self, text: Any) -> Any:
        """[rows] whether a trimmed text of an Arrow array stands for no value; False for null."""
        words = pc.or_(pc.equal(text, ""), pc.is_in(pc.utf8_lower(text), value_set=pa.array(WORDS)))
        if self.exceptions:
            words = pc.and_not(words, pc.is_in(text, value_set=pa.array(sorted(self.exceptions))))
        return pc.fill_null(words, False)

    def nulled(self, text: Any) -> Any:
        """An Arrow array of trimmed text with nulls for what stands for no value."""
        return pc.if_else(self.mask(text), pa.scalar(None, text.type), text)
