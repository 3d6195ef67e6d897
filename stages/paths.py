"""Paths as people type them."""

from __future__ import annotations

import os
from pathlib import Path


def at_home(path: str | os.PathLike[str]) -> Path:
    """A path with the home folder in place of ``~``; as it is where there is no such user."""
    return Path(os.path.expanduser(path))
