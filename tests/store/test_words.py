"""Words that numbers decide."""

from __future__ import annotations

import re
from pathlib import Path

from store.words import plural, rough_time

ROOT = Path(__file__).parents[2]


def test_one_is_one_and_others_are_many() -> None:
    assert [plural(n, "clip") for n in (0, 1, 1234)] == ["0 clips", "1 clip", "1,234 clips"]
    assert [plural(n, "song is", "songs are") for n in (1, 2)] == ["1 song is", "2 songs are"]


def test_times_as_a_person_counts_them() -> None:
    times = {0.01: "1 s", 59: "59 s", 60: "1 min", 7100: "118 min", 7200: "2 hours", 172_800: "2 days"}
    assert {seconds: rough_time(seconds) for seconds in times} == times


def test_messages_count_by_it() -> None:
    """No message puts a number that may be 1 straight before a plural."""
    pattern = re.compile(r"\{(?:len\(\w+\)|\w*count\w*):,\} (?:clips|songs|files|labels|artists|rows|epochs|albums)\b")
    places = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for folder in ("pipeline", "stages", "store")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for match in pattern.finditer(path.read_text(encoding="utf-8"))
    ]
    assert places == []
