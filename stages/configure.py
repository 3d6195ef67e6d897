"""``--set key=value``: change the settings of a frozen dataclass, each value read by the field's type."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from store.errors import RequestError, unknown

T = TypeVar("T")


def parse_pairs(pairs: Sequence[str], option: str) -> dict[str, str]:
    """``["a=1", "b=2"]`` as a dictionary; RequestError for anything else."""
    values = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        key = key.strip().replace("-", "_")
        if not equals or not key:
            raise RequestError(f"{option} takes key=value, not {pair!r}")
        if key in values:
            raise RequestError(f"{option} gives {key} twice")
        values[key] = value.strip()
    return values


def configure(config: T, changes: Mapping[str, str], of_what: str) -> T:
    """``config`` with the changes; RequestError names an unknown key or a value of the wrong type."""
    if not changes:
        return config
    hints = typing.get_type_hints(type(config))
    names = [field.name for field in dataclasses.fields(config)]  # type: ignore[arg-type]
    result = {}
    for key, text in changes.items():
        if key not in names:
            raise unknown(f"setting of {of_what}", key, names)
        result[key] = _parse(hints[key], text, key)
    return dataclasses.replace(config, **result)  # type: ignore[type-var]


def _parse(hint: Any, text: str, key: str) -> Any:
    origin = typing.get_origin(hint)
    if origin in (types.UnionType, typing.Union):
        if text.lower() in ("none", "all"):
            return None
        (hint,) = (kind for kind in typing.get_args(hint) if kind is not type(None))
        return _parse(hint, text, key)
    if origin is tuple:
        return tuple(_parse(typing.get_args(hint)[0], item, key) for item in text.split(",") if item)
    try:
        if hint is bool:
            return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[text.lower()]
        if hint in (int, float, str):
            return hint(text)
    except (ValueError, KeyError) as error:
        raise RequestError(f"{key} takes {_words(hint)}, not {text!r}") from error
    if origin is typing.Literal:
        if text in typing.get_args(hint):
            return text
        raise RequestError(f"{key} takes one of {', '.join(map(str, typing.get_args(hint)))}, not {text!r}")
    raise RequestError(f"{key} cannot be set from the command line")


def _words(hint: Any) -> str:
    return {int: "a whole number", float: "a number", bool: "true or false"}.get(hint, "text")
