"""Numbers that are written as text.

``1.5``, ``.5``, ``-2e3`` are read in any column. What a comma means is told by the column as a whole: ``1,234.5`` or
``1,234,567`` in any of its cells makes them thousands, ``1,5`` or ``0,123`` decimals. Where every cell would do for
both, as in a column of ``1,100`` and ``2,345`` alone, it is not decided here. Numbers that all end in
``%`` are hundredths. A column of two words for true and false holds 1 and 0.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

_SIGN = r"[+\-\x{2212}]?"
_PLAIN = rf"^{_SIGN}(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
_WHOLE = rf"^{_SIGN}\d+$"
_BLANK = r"[ \x{a0}\x{2009}\x{202f}'\x{2019}]"
_THOUSANDS = rf"^{_SIGN}[1-9]\d{{0,2}}(,\d{{3}})+(\.\d*)?$"
_THOUSANDS_BY_POINT = rf"^{_SIGN}[1-9]\d{{0,2}}(\.\d{{3}})+(,\d*)?$"
_THOUSANDS_BY_BLANK = rf"^{_SIGN}[1-9]\d{{0,2}}({_BLANK}\d{{3}})+([.,]\d*)?$"
_DECIMAL_COMMA = rf"^{_SIGN}(\d+,\d*|,\d+)([eE][+-]?\d+)?$"
_PERCENT = r"[\s\x{a0}\x{2009}\x{202f}]*%$"
_TRUTH = ("true", "yes", "y", "t", "on"), ("false", "no", "n", "f", "off")  # which of a column's words are a pair
_NOT_FINITE = ("inf", "+inf", "-inf", "infinity", "+infinity", "-infinity")


@dataclass(frozen=True)
class Numbers:
    """What a column of text holds.

    Attributes
    ----------
    values : [rows] float64, NaN where there is no number.
    strange : [rows] cells that hold something else.
    readings : of a column that can be read in two ways, one of its cells and both numbers.
    """

    values: NDArray[np.float64]
    strange: NDArray[np.bool_]
    readings: tuple[str, float, float] | None = None


def parse(text: pa.ChunkedArray, missing: Any) -> Numbers:
    """The numbers of a column of trimmed text, null where a cell is empty.

    Parameters
    ----------
    missing : [rows] cells that stand for no value.
    """
    missing = pc.or_(missing, pc.fill_null(pc.is_in(pc.utf8_lower(text), value_set=pa.array(_NOT_FINITE)), False))
    text = pc.if_else(missing, pa.scalar(None, text.type), text)
    is_share = text.null_count < len(text) and pc.all(pc.ends_with(text, "%")).as_py()
    if is_share:
        text = pc.replace_substring_regex(text, _PERCENT, "")
    result = _parsed(text)
    return replace(result, values=result.values / 100) if is_share and result.readings is None else result


def is_number(cell: str) -> bool:
    """Whether a cell is a number in any of the ways that are known."""
    ways = (_PLAIN, _THOUSANDS, _THOUSANDS_BY_POINT, _THOUSANDS_BY_BLANK, _DECIMAL_COMMA)
    return any(_matches(pa.chunked_array([[re.sub(r"\s*%$", "", cell)]]), way)[0].as_py() for way in ways)


def _parsed(text: pa.ChunkedArray) -> Numbers:
    """The same of cells that hold a value or are null."""
    has_text = text.is_valid()
    plain = _matches(text, _PLAIN)
    rest = text.filter(pc.and_not(has_text, plain))
    if not len(rest):
        return Numbers(_cast(text), np.zeros(len(text), dtype=bool))
    truth = _truth(text)
    if truth is not None:
        return Numbers(truth, np.zeros(len(text), dtype=bool))
    comma = pc.or_(pc.or_(_matches(text, _WHOLE), _matches(text, _DECIMAL_COMMA)), _matches(text, _THOUSANDS_BY_POINT))
    readings = [  # what each takes, and what it replaces
        (plain, ()),
        (pc.or_(plain, _matches(text, _THOUSANDS)), ((",", ""),)),
        (comma, ((".", ""), (",", "."))),
        (pc.or_(plain, _matches(text, _THOUSANDS_BY_BLANK)), ((_BLANK, ""), (",", "."))),
    ]
    good = [int(pc.sum(mask).as_py() or 0) for mask, _ in readings]
    best = max(range(len(readings)), key=lambda i: (good[i], -i))
    mask, replaced = readings[best]
    values = _cast(_replaced(pc.if_else(mask, text, pa.scalar(None, text.type)), replaced))
    strange = pc.and_not(has_text, mask).to_numpy()
    if best == 1 and good[2] == good[1]:
        first = next(cell for cell in rest.to_pylist() if "," in cell)
        one, other = (float(_cast(_replaced(pa.chunked_array([[first]]), readings[i][1]))[0]) for i in (1, 2))
        return Numbers(values, strange, (first, one, other))
    return Numbers(values, strange)


def _truth(text: pa.ChunkedArray) -> NDArray[np.float64] | None:
    """1 and 0 for a pair of words such as yes and no, NaN for null; None where there are other words."""
    lower = pc.utf8_lower(text)
    words = pc.unique(lower.drop_null())
    if len(words) <= 2:
        for true, false in zip(*_TRUTH, strict=True):
            if set(words.to_pylist()) <= {true, false}:
                return _to_numpy(pc.equal(lower, true).cast(pa.float64()))
    return None


def _matches(text: pa.ChunkedArray, pattern: str) -> Any:
    return pc.fill_null(pc.match_substring_regex(text, pattern), False)


def _replaced(text: pa.ChunkedArray, pairs: tuple[tuple[str, str], ...]) -> pa.ChunkedArray:
    for old, new in pairs:
        regex = len(old) > 1
        text = pc.replace_substring_regex(text, old, new) if regex else pc.replace_substring(text, old, new)
    return text


def _cast(text: pa.ChunkedArray) -> NDArray[np.float64]:
    return _to_numpy(pc.replace_substring(text, "\u2212", "-").cast(pa.float64()))


def _to_numpy(column: pa.ChunkedArray) -> NDArray[np.float64]:
    values: NDArray[np.float64] = column.to_numpy()  # nulls become NaN
    return values
