"""Songs on disk: finding them under a folder, and cutting stretches out of them."""

from __future__ import annotations

import math
import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stages.embed.datasets._walk import Walk, leads_out, walk
from stages.embed.inputs.audio import AUDIO_SUFFIXES
from stages.embed.inputs.midi import MIDI_SUFFIXES
from stages.embed.tables import MAX_ROWS, Table
from stages.progress import note, task
from store.errors import ClipError, RequestError
from store.words import plural

SUFFIXES = AUDIO_SUFFIXES | MIDI_SUFFIXES

Stretch = tuple[float | None, float | None]  # start and duration in seconds; (None, None) is the whole song


def is_midi(path: str) -> bool:
    return os.path.splitext(path)[1].lower() in MIDI_SUFFIXES


def stable_id(path: str) -> str:
    """A path as a song's id, the same on disks that compose accented letters and on disks that do not."""
    return unicodedata.normalize("NFC", path)


def songs_under(root: Path, *, follow_links: bool) -> tuple[list[str], Walk]:
    """Every recording and MIDI file under ``root``, relative to it, and all else that lies there."""
    there = walk(root, follow_links=follow_links)
    paths = [path for path in there.files if is_song(path)]
    if not paths:
        notes = "".join(f"; {text}" for text in there.notes())
        raise RequestError(f"there is no song under {root}: no file ends in {', '.join(sorted(SUFFIXES))}{notes}")
    return paths, there


def named_songs(table: Table, column: str, root: Path, *, follow_links: bool) -> list[str]:
    """The files that a column names, relative to ``root`` and as the disk spells them; those that are absent stay.

    So do those that lead out of ``root`` or are of no format that is read: encoding says so of each.

    Raises
    ------
    RequestError
        where a cell is empty, or where none of the files can be read.
    """
    files: dict[str, tuple[str, str]] = {}
    paths: list[str] = []
    for row, cell in enumerate(table.text(column).to_pylist()):
        if cell is None:
            raise RequestError(f"{table.where(row)}: {column} is empty; name the song's file, or remove the row")
        if cell not in files:
            relative = os.path.normpath(_separated(root, cell))
            if os.path.isabs(relative):
                relative = os.path.relpath(relative, root)
            files[cell] = _on_disk(root, relative, follow_links=follow_links)
        paths.append(files[cell][0])
    by_state: dict[str, list[str]] = {}
    for path, state in files.values():
        by_state.setdefault(state, []).append(path)
    if _THERE not in by_state:
        why = "; ".join(_unread(root, state, names) for state, names in by_state.items())
        where = ". Give the folder that holds them (embed: --data DIR, make: DATA=DIR, predict: name it)"
        remedy = where if "missing" in by_state else ""
        raise RequestError(f"none of the files that {table.path} names ({len(files):,}) can be read: {why}{remedy}")
    for state, names in by_state.items():
        if state != _THERE:
            note(_unread(root, state, names))
    return paths


_THERE = "there"


def _unread(root: Path, state: str, paths: list[str]) -> str:
    """How many files are not read, and why, with the first of them."""
    files, first = plural(len(paths), "file is", "files are"), f"{paths[0]!r} is the first"
    if state == "not-supported":
        return f"{files} of no format that is read ({first}); have: {', '.join(sorted(SUFFIXES))}"
    if state == "not-followed":
        return f"{files} there through links out of {root} ({first}), and not followed; --follow-links follows them"
    if state == "not-a-file":
        return f"{files} folders, pipes, sockets or links to nothing ({first})"
    if state == "outside":
        return f"{plural(len(paths), 'path leads', 'paths lead')} out of {root} ({first})"
    return f"{files} not under {root} ({first}{_near(root, paths)})"


def _differs_by_case(name: str, other: str) -> bool:
    return name != other and name.casefold() == other.casefold()


def _near(root: Path, paths: list[str]) -> str:
    """What is there instead of an absent file, where only the case of letters differs."""
    for path in paths:
        beside = root / os.path.dirname(path)
        others = os.listdir(beside) if beside.is_dir() else []
        near = next((name for name in others if _differs_by_case(name, os.path.basename(path))), None)
        if near is not None:
            return f"; there is {near!r}: letters differ by case"
    return ""


def _separated(root: Path, cell: str) -> str:
    """A path with the separators of this system; Windows writes backslashes, which a name here may hold too."""
    return cell if "\\" not in cell or "\0" in cell or os.path.lexists(root / cell) else cell.replace("\\", "/")


def is_song(path: str) -> bool:
    """Whether a file's name says that it is a recording or MIDI."""
    return os.path.splitext(path)[1].lower() in SUFFIXES


def _on_disk(root: Path, path: str, *, follow_links: bool) -> tuple[str, str]:
    """A path as the disk spells its accented letters, and whether it is there, or why it is not read."""
    if path.split(os.sep)[0] == "..":
        return path.replace(os.sep, "/"), "outside"
    forms = [path] if path.isascii() else [path, *(unicodedata.normalize(form, path) for form in ("NFC", "NFD"))]
    spelling = None if "\0" in path else next((form for form in forms if os.path.lexists(f"{root}/{form}")), None)
    state = _THERE
    if spelling is None:
        state = "missing"
    elif not follow_links and leads_out(root, spelling):
        state = "not-followed"
    elif not os.path.isfile(root / spelling):
        state = "not-a-file"
    elif not is_song(path) and os.path.splitext(path)[1]:
        state = "not-supported"
    return (path if spelling is None else spelling).replace(os.sep, "/"), state


def clip_id(song: str, start_s: float | None, duration_s: float | None) -> str:
    """``song``, ``song@30`` (from there to the end) or ``song@30+14.5``."""
    if start_s is None and duration_s is None:
        return song
    start, length = (None if s is None else np.format_float_positional(s, trim="-") for s in (start_s, duration_s))
    return f"{song}@{start or 0}" + (f"+{length}" if length else "")


def cut(
    root: Path, paths: Sequence[str], counts: Sequence[int], clip_s: float, *, follow_links: bool
) -> list[list[Stretch]]:
    """Of each song ``count`` stretches of ``clip_s`` seconds, spread evenly; the whole song where ``count`` is 0.

    As many stretches as fit without overlap; a song that is no longer than one is taken whole, and so is one whose
    length cannot be read: encoding it will say why.

    Raises
    ------
    RequestError
        if that could be more rows than a catalog may have, before any length is read.
    """
    most = sum(counts)
    if most > MAX_ROWS:
        raise RequestError(
            f"--clips {max(counts):,} could cut {most:,} clips from {plural(len(paths), 'song')}, and {MAX_ROWS:,} "
            f"are the most; give a smaller --clips"
        )
    stretches: list[list[Stretch]] = []
    with task("reading the lengths of songs", sum(count > 0 for count in counts), "songs") as advance:
        for path, count in zip(paths, counts, strict=True):
            length_s = _length_s(root, path, follow_links=follow_links) if count else 0.0
            stretches.append(spread(length_s, count, clip_s))
            advance(1 if count else 0)
    return stretches


def check_stretches(clips: int | None, clip_s: float | None) -> None:
    """Raise where ``--clips`` or ``--clip-s`` are no number and length of stretches."""
    if clips is not None and clips < 0:
        raise RequestError(f"--clips must be 0 or more, not {clips}")
    if clip_s is not None and not 0 < clip_s < math.inf:
        raise RequestError(f"--clip-s must be above 0, not {clip_s}")


def cut_columns(
    root: Path, columns: dict[str, Any], counts: Sequence[int], clip_s: float, *, follow_links: bool
) -> dict[str, Any]:
    """Catalog columns with a row a song, which have ``song_id`` and ``path``, as columns with a row a stretch.

    ``counts`` are those of `cut`.
    """
    cuts = cut(root, columns["path"], counts, clip_s, follow_links=follow_links)
    stretches = [(row, stretch) for row, of_song in enumerate(cuts) for stretch in of_song]
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


def stretches_along(path: Path, clip_s: float, hop_s: float, of: Stretch = (None, None)) -> list[Stretch]:
    """A stretch of ``clip_s`` seconds every ``hop_s`` seconds; the whole song where it is no longer than one.

    Parameters
    ----------
    of : the stretch of the song that is cut, in place of all of it.
    """
    begin_s, length_s = of[0] or 0.0, of[1]
    if length_s is None:
        length_s = _length_s(Path("/"), path.relative_to("/").as_posix(), follow_links=True) - begin_s
    if length_s <= clip_s:
        return [of]
    count = int((length_s - clip_s) / hop_s + 1e-3) + 1  # files end some samples early
    if count > MAX_ROWS:
        raise RequestError(f"{path}: {count:,} stretches, and {MAX_ROWS:,} are the most; give a longer --hop")
    return [(round(begin_s + i * hop_s, 3), clip_s) for i in range(count)]


def _length_s(root: Path, relative: str, *, follow_links: bool) -> float:
    """Seconds; 0 where the song cannot be read."""
    from stages.embed.inputs import audio, midi, song_file

    try:
        path = song_file(root, relative, follow_links=follow_links)
        return midi.duration_s(path) if midi.has_notes(path) else audio.duration_s(path)
    except (ClipError, OSError):
        return 0.0
