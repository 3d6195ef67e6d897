"""Songs on disk: finding them under a folder, and cutting stretches out of them."""

from __future__ import annotations

import math
import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stages.embed.inputs.audio import AUDIO_SUFFIXES
from stages.embed.inputs.midi import MIDI_SUFFIXES, NOTE_SUFFIXES
from stages.embed.tables import Table
from stages.progress import note, task
from store.errors import ClipError, RequestError
from store.words import counted

SUFFIXES = AUDIO_SUFFIXES | MIDI_SUFFIXES

Stretch = tuple[float | None, float | None]  # start and duration in seconds; (None, None) is the whole song


def is_midi(path: str) -> bool:
    return os.path.splitext(path)[1].lower() in MIDI_SUFFIXES


def stable_id(path: str) -> str:
    """A path as a song's id, the same on disks that compose accented letters and on disks that do not."""
    return unicodedata.normalize("NFC", path)


def folder(path: Path) -> Path:
    if not path.is_dir():
        raise RequestError(f"there is no folder {path}")
    return path.resolve()


def songs_under(root: Path) -> list[str]:
    """Every recording and MIDI file under ``root``, relative to it; hidden files and linked folders are passed over."""
    paths: list[str] = []
    for here, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        inside = Path(here).relative_to(root)
        paths += [(inside / name).as_posix() for name in sorted(files) if not name.startswith(".") and _is_song(name)]
    if not paths:
        raise RequestError(f"there is no song under {root}: no file ends in {', '.join(sorted(SUFFIXES))}")
    return paths


def named_songs(table: Table, column: str, root: Path) -> list[str]:
    """The files that a column names, relative to ``root`` and as the disk spells them; those that are absent stay.

    Raises
    ------
    RequestError
        where a cell is empty, leads out of ``root`` or names no recording or MIDI file, or where no file is there.
    """
    found: dict[str, tuple[str, bool]] = {}
    paths: list[str] = []
    for row, cell in enumerate(table.text(column).to_pylist()):
        if cell is None:
            raise RequestError(f"{table.where(row)}: {column} is empty; name the song's file, or remove the row")
        if cell not in found:
            relative = os.path.normpath(cell)
            if os.path.isabs(relative):
                relative = os.path.relpath(relative, root)
            if relative.split(os.sep)[0] == ".." or "\0" in cell:
                raise RequestError(
                    f"{table.where(row)}: {cell!r} leads out of {root}; give --data a folder that holds all songs, and "
                    f"paths within it"
                )
            if not _is_song(relative):
                raise RequestError(
                    f"{table.where(row)}: {cell!r} is no recording or MIDI file that can be read; have: "
                    f"{', '.join(sorted(SUFFIXES))}"
                )
            found[cell] = _on_disk(root, relative)
        paths.append(found[cell][0])
    if not any(there for _, there in found.values()):
        raise RequestError(
            f"none of the files that {table.path} names ({len(found):,}) is under {root}; the first would be "
            f"{root / paths[0]}. Give the folder that holds them: --data DIR (make: DATA=DIR)"
        )
    _tell_of_absent(root, [path for path, there in found.values() if not there])
    return paths


def _differs_by_case(name: str, other: str) -> bool:
    return name != other and name.casefold() == other.casefold()


def _tell_of_absent(root: Path, paths: list[str]) -> None:
    """Say how many files are not there, and which one is, but for the case of letters."""
    if not paths:
        return
    near = None
    for path in paths:
        beside = root / os.path.dirname(path)
        others = os.listdir(beside) if near is None and beside.is_dir() else []
        near = near or next((name for name in others if _differs_by_case(name, os.path.basename(path))), None)
    hint = f"; there is {near!r}: letters differ by case" if near is not None else ""
    note(f"{counted(len(paths), 'file is', 'files are')} not under {root} ({paths[0]!r} is the first{hint})")


def _is_song(path: str) -> bool:
    return os.path.splitext(path)[1].lower() in SUFFIXES


def _on_disk(root: Path, path: str) -> tuple[str, bool]:
    """A path as the disk spells its accented letters, and whether it is there."""
    forms = [path] if path.isascii() else [path, *(unicodedata.normalize(form, path) for form in ("NFC", "NFD"))]
    there = next((form for form in forms if os.path.isfile(f"{root}/{form}")), None)
    return (path if there is None else there).replace(os.sep, "/"), there is not None


def clip_id(song: str, start_s: float | None, duration_s: float | None) -> str:
    """``song``, ``song@30`` (from there to the end) or ``song@30+14.5``."""
    if start_s is None and duration_s is None:
        return song
    start, length = (None if s is None else np.format_float_positional(s, trim="-") for s in (start_s, duration_s))
    return f"{song}@{start or 0}" + (f"+{length}" if length else "")


def cut(root: Path, paths: Sequence[str], counts: Sequence[int], clip_s: float) -> list[list[Stretch]]:
    """Of each song ``count`` stretches of ``clip_s`` seconds, spread evenly; the whole song where ``count`` is 0.

    As many stretches as fit without overlap; a song that is no longer than one is taken whole, and so is one whose
    length cannot be read: encoding it will say why.
    """
    stretches: list[list[Stretch]] = []
    with task("reading the lengths of songs", sum(count > 0 for count in counts), "songs") as advance:
        for path, count in zip(paths, counts, strict=True):
            length_s = _length_s(root, path) if count else 0.0
            stretches.append(spread(length_s, count, clip_s))
            advance(1 if count else 0)
    return stretches


def check_stretches(clips: int | None, clip_s: float | None) -> None:
    """Raise where ``--clips`` or ``--clip-s`` are no number and length of stretches."""
    if clips is not None and clips < 0:
        raise RequestError(f"--clips must be 0 or more, not {clips}")
    if clip_s is not None and not 0 < clip_s < math.inf:
        raise RequestError(f"--clip-s must be above 0, not {clip_s}")


def cut_columns(root: Path, columns: dict[str, Any], count: int, clip_s: float) -> dict[str, Any]:
    """Catalog columns with a row a song, which have ``song_id`` and ``path``, as columns with a row a stretch."""
    cuts = cut(root, columns["path"], [count] * len(columns["path"]), clip_s)
    stretches = [(row, found) for row, of_song in enumerate(cuts) for found in of_song]
    clips = {name: [values[row] for row, _ in stretches] for name, values in columns.items()}
    clips["start_s"] = [start_s for _, (start_s, _) in stretches]
    clips["duration_s"] = [duration_s for _, (_, duration_s) in stretches]
    clips["clip_id"] = list(map(clip_id, clips["song_id"], clips["start_s"], clips["duration_s"]))
    return clips


def spread(length_s: float, count: int, clip_s: float) -> list[Stretch]:
    """Up to ``count`` stretches, each in the middle of its equal share of the song, to the millisecond."""
    count = min(count, int(length_s // clip_s))
    if count == 0 or length_s <= clip_s:
        return [(None, None)]
    return [(round((2 * i + 1) * length_s / (2 * count) - clip_s / 2, 3), clip_s) for i in range(count)]


def _length_s(root: Path, relative: str) -> float:
    """Seconds; 0 where the song cannot be read."""
    from stages.embed.inputs import audio, midi, song_file

    try:
        path = song_file(root, relative)
        has_notes = path.suffix.lower() in NOTE_SUFFIXES
        return midi.duration_s(path) if has_notes else audio.duration_s(path)
    except ClipError:
        return 0.0
