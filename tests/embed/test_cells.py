"""What a cell means: no value, several values, a number."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stages.embed.datasets._spellings import plain, spellings
from stages.embed.tables import Missing, Table, lists, read_table
from stages.embed.tables.missing import WORDS
from stages.embed.tables.numbers import parse
from store.errors import RequestError

NAMES = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zs", "Zl", "Zp"), exclude_characters="|"), min_size=1
)
MANY = [HealthCheck.function_scoped_fixture]


def table(folder: Path, **columns: object) -> Table:
    pq.write_table(pa.table(columns), folder / "t.parquet")
    return read_table(folder / "t.parquet")


@pytest.mark.parametrize("word", ["", "  ", *WORDS, *map(str.upper, WORDS), *map(str.title, WORDS)])
def test_every_word_for_no_value(tmp_path: Path, word: str) -> None:
    missing = table(tmp_path, artist=["A", word, f" {word} "], number=["1", word, "2"])
    assert missing.strings("artist") == ["A", None, None]
    assert missing.lists("artist") == [["A"], [], []]
    values, strange = missing.floats("number")
    np.testing.assert_array_equal(values, [1, np.nan, 2])
    assert not strange.any()
    assert missing.why_no_numbers("number") is None
    in_lists = table(tmp_path, artist=pa.array([["A", word], [word], None]))
    assert in_lists.lists("artist") == [["A"], [], []]


@settings(max_examples=30, suppress_health_check=MANY)
@given(st.lists(NAMES, min_size=1, max_size=4))
def test_a_name_is_itself_unless_it_is_a_word_for_none(tmp_path: Path, names: list[str]) -> None:
    every = table(tmp_path, artist=names).strings("artist")
    composed = [unicodedata.normalize("NFC", name.strip()) for name in names]
    assert every == [None if not name or name.lower() in WORDS else name for name in composed]


def test_numbers_that_are_none(tmp_path: Path) -> None:
    """In Parquet and HDF5; ids beside NaN are whole numbers again."""
    ids = np.array([10_000_003, np.nan, 12])
    with h5py.File(tmp_path / "t.h5", "w") as file:
        file["artist"] = ids
    for each in (table(tmp_path, artist=ids), read_table(tmp_path / "t.h5")):
        assert each.strings("artist") == ["10000003", None, "12"]
    assert table(tmp_path, artist=[1.5, float("nan")]).strings("artist") == ["1.5", None]


def test_a_word_may_be_a_name(tmp_path: Path) -> None:
    table(tmp_path, artist=["None", "none", "NA"])
    assert read_table(tmp_path / "t.parquet", Missing.but("None|NA")).strings("artist") == ["None", None, "NA"]
    assert read_table(tmp_path / "t.parquet").words_for_missing("artist") == {"None": 1, "none": 1, "NA": 1}


@given(st.lists(NAMES.filter(lambda name: name not in ("None", "null", "nan", "NaN")), max_size=4))
def test_lists_that_can_be_nothing_else(names: list[str]) -> None:
    expected = [name.strip() for name in names]
    assert lists.split(json.dumps(names), None) == expected
    assert lists.split(json.dumps(names, ensure_ascii=False), None) == expected
    if len(names) > 1:
        assert lists.parse("|".join(f" {name} " for name in names)) is not None
    plain_names = [name for name in names if name.isprintable()]
    assert lists.split(str(plain_names), None) == [name.strip() for name in plain_names]
    if len(plain_names) > 1:
        assert lists.split(str(tuple(plain_names)), None) == [name.strip() for name in plain_names]
        assert lists.split(str(np.array(plain_names)), None) is not None


@pytest.mark.parametrize(
    ("cell", "values"),
    [
        ("['A' 'B']", ["A", "B"]),
        ("[np.str_('A'), np.str_('B')]", ["A", "B"]),
        ("['A', None, nan]", ["A"]),
        ("{'A'}", ["A"]),
        ("[21, 76]", ["21", "76"]),
        ("[]", []),
        ("A | B|C", ["A", "B", "C"]),
        ("(1999)", ["(1999)"]),
        ("(Sandy) Alex G", ["(Sandy) Alex G"]),
        ("[unknown]", ["[unknown]"]),
        ("Earth, Wind & Fire", ["Earth, Wind & Fire"]),
        ("A;B", ["A;B"]),
    ],
)
def test_cells(cell: str, values: list[str]) -> None:
    assert lists.split(cell, None) == values


@pytest.mark.parametrize(
    ("separator", "cell", "values"),
    [
        (";", "A; B;C", ["A", "B", "C"]),
        (" / ", "AC/DC / B", ["AC/DC", "B"]),
        ("/", "A/B", ["A", "B"]),
        ("feat.", "A (feat. B)", ["A", "B"]),
        (" feat. |&", "A FEAT. B & C", ["A", "B", "C"]),
        ("artist=;|labels=,", "A, b;C", ["A, b", "C"]),
        (" x ", "A x Xerxes", ["A", "Xerxes"]),
        (" and ", "Band and Brandy", ["Band", "Brandy"]),
        (", ", "10,000 Maniacs, B", ["10,000 Maniacs", "B"]),
        (",", "[A, B]", ["A", "B"]),
        (",", "{A,B}", ["A", "B"]),
        (";", "[unknown]", ["unknown"]),
        ("feat.", "A Feat B", ["A", "B"]),
    ],
)
def test_other_separators_are_said(separator: str, cell: str, values: list[str]) -> None:
    assert lists.split(cell, lists.separators(separator, ("artist", "labels"))["artist"]) == values


@pytest.mark.parametrize("separator", [" ", "a", "labels= "])
def test_what_separates_nothing(separator: str) -> None:
    with pytest.raises(RequestError, match="--separator takes what stands between names"):
        lists.separators(separator, ("artist", "labels"))


STYLES = {
    "plain": lambda v: repr(v),
    "comma": lambda v: repr(v).replace(".", ","),
    "thousands": lambda v: f"{v:,.2f}",
    "german": lambda v: f"{v:,.2f}".translate(str.maketrans(",.", ".,")),
    "blank": lambda v: f"{v:,.2f}".replace(",", " "),
    "swiss": lambda v: f"{v:,.2f}".replace(",", "'"),
    "minus": lambda v: repr(v).replace("-", "\u2212"),
}


@settings(max_examples=30)
@given(
    st.sampled_from(sorted(STYLES)),
    st.lists(st.integers(-(10**9), 10**9).filter(lambda cents: cents % 10), min_size=1, max_size=9),
)
def test_a_column_tells_how_its_numbers_are_written(style: str, cents: list[int]) -> None:
    """Two decimals, the last of them not 0, leave no doubt."""
    numbers = [each / 100 for each in cents]
    text = pa.chunked_array([[STYLES[style](number) for number in numbers]])
    parsed = parse(text, Missing().mask(text))
    assert parsed.readings is None
    assert not parsed.strange.any()
    np.testing.assert_array_equal(parsed.values, numbers)
    for sign in ("%", " %", "\u00a0%"):
        shares = pa.chunked_array([[*(STYLES[style](number) + sign for number in numbers), "n/a"]])
        of_share = parse(shares, Missing().mask(shares))
        assert not of_share.strange.any()
        np.testing.assert_array_equal(of_share.values, [*(number / 100 for number in numbers), np.nan])


@given(st.lists(st.integers(1000, 999_999), min_size=1, max_size=9), st.lists(st.integers(0, 999), max_size=9))
def test_a_column_that_may_be_read_in_two_ways(thousands: list[int], small: list[int]) -> None:
    cells = [*map(str, small), *(f"{number:,}" for number in thousands)]
    text = pa.chunked_array([cells])
    parsed = parse(text, Missing().mask(text))
    assert parsed.readings is not None
    cell, one, other = parsed.readings
    assert one == float(cell.replace(",", "")) == pytest.approx(1000 * other)
    for telling, expected in (("1,234,567", 1_234_567), ("0.5", 0.5)):
        text = pa.chunked_array([[*cells, telling]])
        values = parse(text, Missing().mask(text)).values
        np.testing.assert_array_equal(values, [*small, *thousands, expected])


def test_truth_is_a_number_and_words_are_none() -> None:
    for cells, values, strange in (
        (["True", "false", ""], [1, 0, np.nan], [False] * 3),
        (["yes", "No", "?"], [1, 0, np.nan], [False] * 3),
        (["y", "y", "N"], [1, 1, 0], [False] * 3),
        (["yes", "no", "maybe"], [np.nan] * 3, [True] * 3),
        (["yes", "false"], [np.nan] * 2, [True] * 2),
        (["5%", "6"], [np.nan, 6], [True, False]),
        (["1", "inf", "x"], [1, np.nan, np.nan], [False, False, True]),
    ):
        text = pa.chunked_array([cells])
        parsed = parse(text, Missing().mask(text))
        np.testing.assert_array_equal(parsed.values, values)
        assert parsed.strange.tolist() == strange


SPELLINGS = [("AC/DC", "ACDC", "Ac-Dc"), ("Beyoncé", "BEYONCE", "Beyonce\u0301"), ("The  Who", "the who"), ("ß", "SS")]


@pytest.mark.parametrize("names", SPELLINGS)
def test_spellings_of_one_name(names: tuple[str, ...]) -> None:
    assert len({plain(name) for name in names}) == 1
    assert set(spellings([*names, names[0]]).values()) == {names[0]}


@pytest.mark.parametrize("names", [("!!!", "???"), ("か", "が"), ("A", "B"), ("Sum 41", "Sum 4")])
def test_other_names(names: tuple[str, ...]) -> None:
    assert len({plain(name) for name in names}) == len(names)
