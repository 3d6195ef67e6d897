"""Which files lie under a folder: links, names that are no text, and what there is to say of them.

Links within the folder are followed. Links that lead out of it are followed only on request, and are listed otherwise:
a song behind one exists, but is not read.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from store.errors import RequestError
from store.words import plural

FOLLOW_LINKS = "follow symbolic links that lead out of the folder of the songs"

_NAMED = 20  # files that a note lists


@dataclass(frozen=True)
class Walk:
    """What lies under a folder, all relative to it with ``/`` between parts.

    Attributes
    ----------
    files : every file that is not hidden, folder after folder in order of their names; links to files among them.
    not_followed : links to folders that lead out of it.
    undecodable : files and folders whose names are not UTF-8, shown with ``\\x..`` for what is none.
    unreadable : folders whose content cannot be listed.
    """

    root: Path
    files: list[str] = field(default_factory=list)
    not_followed: list[str] = field(default_factory=list)
    undecodable: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)

    def notes(self) -> list[str]:
        """What to tell the user about files that are not among ``files``."""
        notes = []
        if self.undecodable:
            those = plural(len(self.undecodable), "file or folder is", "files or folders are")
            notes.append(
                f"{those} left out, because the name is not UTF-8; rename: {first_few(self.undecodable)} in {self.root}"
            )
        if self.unreadable:
            folders = plural(len(self.unreadable), "folder")
            notes.append(f"{folders} in {self.root} cannot be read: {first_few(self.unreadable)}")
        if self.not_followed:
            links = plural(len(self.not_followed), "link to a folder", "links to folders")
            notes.append(
                f"{links} out of {self.root} not followed: {first_few(self.not_followed)}; --follow-links follows them"
            )
        return notes

    def hides(self, path: str) -> bool:
        """Whether a path lies behind a link that is not followed."""
        return any(path == link or path.startswith(f"{link}/") for link in self.not_followed)


def walk(root: Path, within: Path | None = None, *, follow_links: bool = False) -> Walk:
    """All that lies under ``within`` (or ``root``, resolved), each linked folder entered once."""
    result = Walk(root)
    entered: set[str] = set()
    tops = [str(within or root)]
    if not follow_links and not Path(os.path.realpath(tops[0])).is_relative_to(root):
        result.not_followed.append(os.path.relpath(tops[0], root).replace(os.sep, "/"))
        return result

    def skip(error: OSError) -> None:
        result.unreadable.append(printable(os.path.relpath(error.filename, root).replace(os.sep, "/")))

    for top in tops:
        for here, folders, files in os.walk(top, onerror=skip):
            inside = os.path.relpath(here, root)
            where = "" if inside == "." else inside.replace(os.sep, "/") + "/"
            names = {name: is_text(name) for name in (*folders, *files) if not name.startswith(".")}
            result.undecodable.extend(sorted(printable(where + name) for name, text in names.items() if not text))
            folders[:] = sorted(name for name in folders if names.get(name))
            result.files.extend(where + name for name in sorted(files) if names.get(name))
            for name in folders:
                path = os.path.join(here, name)
                if not os.path.islink(path):
                    continue
                target = os.path.realpath(path)
                if not follow_links and not Path(target).is_relative_to(root):
                    result.not_followed.append(where + name)
                elif target not in entered and not Path(os.path.realpath(here)).is_relative_to(target):
                    entered.add(target)
                    tops.append(path)
    return result


def is_text(name: str) -> bool:
    """Whether a name that the system gave can be written down: bytes that are not UTF-8 come as lone surrogates."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def printable(name: str) -> str:
    """A name with unprintable characters escaped: ``mod\\x85.wav``."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def first_few(names: Sequence[str]) -> str:
    """The names, or the first of many and how many more there are."""
    more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return ", ".join(map(repr, names[:_NAMED])).replace("\\\\", "\\") + more


def root_folder(path: Path) -> Path:
    """A folder that is there, resolved; RequestError where it is not, or has a name that cannot be kept."""
    if not path.is_dir():
        raise RequestError(f"there is no folder {printable(str(path))}")
    target = path.resolve()
    if not is_text(str(target)):
        raise RequestError(f"the name of the folder {printable(str(target))} is not UTF-8; rename it")
    return target


def leads_out(root: Path, relative: str) -> bool:
    """Whether a path under ``root`` is, or goes through, a link out of it to something that is there."""
    path = os.path.realpath(root / relative)
    return os.path.exists(path) and not Path(path).is_relative_to(root)
