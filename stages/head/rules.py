"""The short names of the rules by which one head decides in several ways."""

from __future__ import annotations

SHORT_RULES = {"most frequent": "top", "at least half": "half"}
