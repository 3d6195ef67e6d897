"""Names that differ by case, blanks, accents or punctuation alone: AC/DC and ACDC, Beyoncé and BEYONCE."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

_ACCENTS = range(0x300, 0x370)  # of Latin, Greek and Cyrillic letters; elsewhere marks are letters of their own


def plain(name: str) -> str:
    """What all spellings of a name have in common; the name itself where it is punctuation alone (``!!!``)."""
    letters = (c for c in unicodedata.normalize("NFKD", name) if ord(c) not in _ACCENTS)
    characters = "".join(c for c in letters if unicodedata.category(c)[0] in "LNM")
    return unicodedata.normalize("NFC", characters.casefold()) or name


def spellings(names: Iterable[str | None]) -> dict[str, str]:
    """Name -> the most frequent spelling of it (of equals the first in order), for every name."""
    counts = Counter(name for name in names if name)
    best: dict[str, str] = {}
    for name in sorted(counts, key=lambda name: (-counts[name], name)):
        best.setdefault(plain(name), name)
    return {name: best[plain(name)] for name in counts}


def merge_spellings(columns: dict[str, Any], artists: Mapping[str, str], labels: Mapping[str, str]) -> dict[str, Any]:
    """Catalog columns in which every name is spelled as ``artists`` and ``labels`` say, none twice."""
    first = [artists.get(name) if name else name for name in columns["artist_id"]]
    merged = {**columns, "artist_id": first}
    merged["labels"] = [list(dict.fromkeys(labels[name] for name in of_row)) for of_row in columns["labels"]]
    if "other_artist_ids" in columns:
        others = (dict.fromkeys(artists[name] for name in each or () if name) for each in columns["other_artist_ids"])
        pairs = zip(first, others, strict=True)
        merged["other_artist_ids"] = [[name for name in each if name != own] or None for own, each in pairs]
    return merged
