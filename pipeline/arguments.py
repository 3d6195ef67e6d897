"""Read the values of options that several commands share; what cannot be meant is a RequestError."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from stages import progress, registry
from store.errors import RequestError

if TYPE_CHECKING:
    from store.layout import Store

_FIRST_MODES = ("song", "artist", "artist-embedding", "gnn", "dropedge", "gated")  # the order of the thesis's tables
_PART_DIGITS = 9  # more would be more parts than any store has shards, and int() refuses thousands of them


def open_store(place: str, *datasets: str) -> Store:
    """The store that ``--store`` names; nothing is created yet.

    Parameters
    ----------
    datasets : collections that must be in it, looked for before anything slow is imported.
    """
    from store.layout import Store

    if not place.strip():
        raise RequestError("--store is empty; name a folder, or an fsspec URL")
    store = Store(place)
    for dataset in datasets:
        store.check_there(dataset)
    return store


def check_output(option: str, path: Path) -> None:
    """RequestError where no file can be written there; before anything is computed."""
    if path.exists() and not path.is_file():
        raise RequestError(f"{option} {path}: is there, and is no file")
    if not path.parent.is_dir():
        raise RequestError(f"{option} {path}: {path.parent} is no folder")


def split_names(text: str, option: str) -> list[str]:
    """``"a, b,a"`` as ``["a", "b"]``; at least one name."""
    names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not names:
        raise RequestError(f"{option} names nothing")
    return names


def check_mode(mode: str) -> None:
    """Refuse a mode that no head has, without importing any head."""
    if mode not in registry.names("head"):
        registry.find("head", mode)  # raises with the list of modes


def read_modes(text: str) -> list[str]:
    """The modes of ``--modes``: those named, or for ``all`` every one that can be loaded, the thesis's first."""
    if text != "all":
        modes = split_names(text, "--modes")
        for mode in modes:
            check_mode(mode)
        return modes
    heads, errors = registry.load("head")
    for line in errors:
        progress.note(f"left out: {line}")
    return sorted(heads, key=lambda mode: (_FIRST_MODES.index(mode) if mode in _FIRST_MODES else len(heads), mode))


def read_settings(
    pairs: Sequence[str] | None,
    *,
    neighbours: str | None = None,
    members: int | None = None,
    checkpoints: int | None = None,
    threshold: str | None = None,
    tune: str | None = None,
) -> dict[str, str]:
    """The settings of ``--set`` together with those that have an option of their own."""
    from stages.configure import parse_pairs

    own = {**_read_neighbours(neighbours), "members": members, "checkpoints": checkpoints}
    own |= {"threshold": threshold, "tune": tune}
    return parse_pairs([*(pairs or []), *(f"{key}={value}" for key, value in own.items() if value)], "--set")


def _read_neighbours(text: str | None) -> dict[str, str]:
    """``8``, ``all``, ``train`` or ``8,train`` as settings."""
    if text is None:
        return {}
    words = [word.strip() for word in text.split(",") if word.strip()]
    counts = [word for word in words if word != "train"]
    if not words or len(counts) > 1:
        raise RequestError(f"--neighbours takes a number or all, train, or both (8,train), not {text!r}")
    inductive = {"inductive": "true"} if "train" in words else {}
    return {**({"neighbours": counts[0]} if counts else {}), **inductive}


def is_inductive(neighbours: str) -> bool:
    """Whether ``--neighbours`` of a report means the runs in which training clips alone were neighbours."""
    if neighbours not in ("all", "train"):
        raise RequestError(f"--neighbours takes all or train, not {neighbours!r}")
    return neighbours == "train"


def read_folds(text: str) -> int | Literal["auto"] | None:
    """``auto``, ``off`` as None, or a number of folds."""
    from stages.splits.regimes import MAX_FOLDS

    if text == "auto":
        return "auto"
    if text == "off":
        return None
    if text.isascii() and text.isdigit() and len(text) <= _PART_DIGITS and 3 <= int(text) <= MAX_FOLDS:
        return int(text)
    raise RequestError(f"--folds takes auto, off, or a number from 3 to {MAX_FOLDS}, not {text!r}")


def read_part(text: str) -> tuple[int, int]:
    """``2/3`` as ``(2, 3)``, which is the second of three parts."""
    part, _, parts = text.partition("/")
    digits = (part + parts).isascii() and part.isdigit() and parts.isdigit()  # "²" is a digit, and no number to int
    if digits and max(len(part), len(parts)) <= _PART_DIGITS and 1 <= int(part) <= int(parts):
        return int(part), int(parts)
    raise RequestError(f"--part takes i/n with i from 1 to n, not {text!r}")
