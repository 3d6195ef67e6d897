"""``encore predict --write-tags``: what a head decided, in the files' own tags."""

from __future__ import annotations

import sys
from pathlib import Path

from pipeline.process import confirmed
from stages.ask.answers import PredictedSongs
from stages.progress import note
from store.errors import ClipError, EncoreError
from store.words import plural


def write_tags(answer: PredictedSongs, *, dry_run: bool, yes: bool) -> None:
    """Put the labels of songs into their tags as genres, after a question; songs without a label keep theirs.

    What a question or ``--dry-run`` is about is printed even where notes are not.

    Raises
    ------
    RequestError
        where there is nobody to ask, and ``--yes`` was not said.
    EncoreError
        where some of the files could not be written, when all others are.
    """
    from stages.embed.genre_tags import read_genres, write_genres

    tell = note if yes and not dry_run else _tell
    changes: list[tuple[Path, tuple[str, ...]]] = []
    for song in answer.songs:
        try:
            before = read_genres(Path(song.file))
        except ClipError as error:
            note(f"{song.file} has no tags to write: {error.reason}")
            continue
        if song.labels and before != song.labels:
            remark = "; a stored song, which embed will take for changed" if song.song_id is not None else ""
            tell(f"{song.file}: genre {', '.join(before) or 'none'} -> {', '.join(song.labels)}{remark}")
            changes.append((Path(song.file), song.labels))
    if dry_run or not changes:
        tell(f"{plural(len(changes), 'file')} would be changed" if dry_run else "no tag is to be changed")
        return
    if not confirmed("write", f"the tags of {plural(len(changes), 'file')}", yes=yes):
        return
    failures = []
    for path, labels in changes:
        try:
            write_genres(path, labels)
        except ClipError as error:
            failures.append(f"{path}: {error}")
        except EncoreError as error:
            failures.append(str(error))
    note(f"{plural(len(changes) - len(failures), 'file')} written")
    if failures:
        raise EncoreError("\n".join(failures))


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
