"""Several values in one cell.

Cells that can be nothing but lists are split: JSON (``["A", "B"]``), Python (``['A', 'B']``, tuples, sets, and numpy's
``['A' 'B']``), and text separated by ``|``. All other separators also stand inside names (``Earth, Wind & Fire``,
``AC/DC``), so they split only where a user says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

from store.errors import RequestError

ALWAYS = "|"

_ITEM = r"""(?:np\.str_\()?(?:"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')\)?|-?\d+(?:\.\d+)?|None|null|nan|NaN"""
_LIST = re.compile(rf"[\[({{]\s*(?:(?:{_ITEM})(?:\s*,\s*|\s+|(?=\s*[\])}}])))*\s*[\])}}]", re.DOTALL)
_ITEMS = re.compile(_ITEM, re.DOTALL)
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2}|.)", re.DOTALL)
_BRACKETED = re.compile(r"\[[^\[\]{}]*\]|\{[^\[\]{}:]*\}", re.DOTALL)
_PAIRS = {"[": "]", "(": ")", "{": "}"}
# What often separates names: a user is told where many cells hold one of these.
_USUAL = {
    ";": r";",
    ",": r",(?!\d)",
    " / ": r"\s/\s|/(?=\w+/\w)",
    " & ": r"\s&\s",
    " feat. ": r"[\s(\[](?:feat|ft|featuring)\.?\s",
    " x ": r"\sx\s",
    " vs ": r"\svs\.?\s",
    "\\": r"\\",
}
_LIKELY = re.compile("|".join(_USUAL.values()) + r"|^\[.*\]$", re.IGNORECASE | re.DOTALL)


def parse(cell: str) -> list[str] | None:
    """The values of a cell that can be nothing but a list; None for any other. ``null`` and NaN are left out."""
    if cell[:1] in _PAIRS and cell[-1:] == _PAIRS[cell[0]] and _LIST.fullmatch(cell):
        items: list[str] = _ITEMS.findall(cell)
        # In other brackets numbers alone may be part of a name: (1999)
        if cell[0] == "[" or any(item[0] in "'\"n" for item in items):
            return [_plain(item) for item in items if item not in ("None", "null", "nan", "NaN")]
    return [value.strip() for value in cell.split(ALWAYS)] if ALWAYS in cell else None


def split(cell: str, separator: re.Pattern[str] | None) -> list[str]:
    """The values of a cell, trimmed; itself where it is no list."""
    values = parse(cell)
    values = [cell] if values is None else values
    if separator is not None:
        if len(values) == 1 and _BRACKETED.fullmatch(cell):  # [A, B], as some print lists of text
            values = [cell[1:-1]]
        values = [_without_lone_bracket(part) for value in values for part in separator.split(value)]
    return [value.strip() for value in values]


def looks_like_list(cell: str) -> bool:
    """Whether a cell that `parse` takes as one value holds what often separates several."""
    return _LIKELY.search(cell) is not None and parse(cell) is None


def looks_like_record(cell: str) -> bool:
    """Whether a cell that looks like a list holds fields with names, or lists in lists."""
    return cell[:1] in ("[", "{") and _BRACKETED.fullmatch(cell) is None


def usual_separator(cells: Iterable[str]) -> str:
    """Which of the usual separators stands in most of the cells."""
    cells = list(cells)
    return max(_USUAL, key=lambda name: sum(bool(re.search(_USUAL[name], cell, re.IGNORECASE)) for cell in cells))


@lru_cache
def separators(text: str | None, roles: Sequence[str]) -> dict[str, re.Pattern[str]]:
    """What ``--separator`` says: role -> pattern.

    Separators are themselves separated by ``|``; ``labels=,`` holds for that role alone, one without a role for all.
    Blanks beside a separator are part of it (`` / `` leaves AC/DC whole), a word (``feat.``) never splits another word.

    Raises
    ------
    RequestError
        where a separator is empty or a letter alone.
    """
    patterns: dict[str, list[str]] = {role: [] for role in roles}
    for part in (text or "").split(ALWAYS) if text else ():
        role, equals, separator = part.partition("=")
        whose, separator = ((role.strip(),), separator) if equals and role.strip() in roles else (tuple(roles), part)
        if not separator.strip() or re.fullmatch(r"\w", separator):
            raise RequestError(
                f"--separator takes what stands between names, such as ';' or ' feat. ' or 'artist=;|labels=,', "
                f"not {separator!r}"
            )
        for each in whose:
            patterns[each].append(_pattern(separator))
    return {role: re.compile("|".join(each), re.IGNORECASE) for role, each in patterns.items() if each}


def _pattern(separator: str) -> str:
    word = separator.strip()
    if word[0].isalnum():
        separator = separator.replace(word, word.rstrip(".") or word)  # feat. stands for feat, too
        word = separator.strip()
    body = r"\s+".join(map(re.escape, separator.split()))
    before = r"(?<!\w)" if word[0].isalnum() else ""
    after = r"(?!\w)" if word[-1].isalnum() or word[0].isalnum() else ""
    if word[-1].isalnum():
        after += r"\.?"  # ft and ft.
    blanks = [r"\s+" if end.isspace() else "" for end in (separator[0], separator[-1])]
    return blanks[0] + before + body + after + blanks[1]


def _without_lone_bracket(text: str) -> str:
    """``A (`` and ``B)`` are what splitting ``A (feat. B)`` leaves."""
    text = text.strip()
    for opening, closing in _PAIRS.items():
        if text.endswith(opening):
            text = text[:-1]
        if text.endswith(closing) and text.count(closing) > text.count(opening):
            text = text[:-1]
    return text


def _plain(item: str) -> str:
    item = item.removeprefix("np.str_(")
    if item[0] not in "'\"":
        return item
    body = item.rstrip(")") if item[-1] == ")" else item
    text = _ESCAPE.sub(_unescaped, body[1:-1])
    # JSON escapes a rare letter as two halves.
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _unescaped(match: re.Match[str]) -> str:
    code = match[1]
    if code[0] in "ux" and len(code) > 1:
        return chr(int(code[1:], 16))
    return {"n": "\n", "t": "\t", "r": "\r"}.get(code, code)
