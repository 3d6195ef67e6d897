"""What decides a representation's numbers, as one short hash.

Only what changes the numbers goes in: the backbone's name and revision, its resolved configuration, its
input chain's revision and settings, a hash of its weights. Never a path, a date or a label.
"""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import json
import math
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

FORMAT = 1  # raise it by one when the same settings should be hashed in another way
_CHUNK_BYTES = 1 << 20

# The metadata of a field that a dataclass got after stores had been written, and whose default leaves the numbers as
# they were: with that default it is not hashed, so that those stores are found again.
ADDED_LATER = {"added_later": True}


def canonical(value: Any) -> Any:
    """``value`` in JSON's types, the same for equal values on every machine; TypeError for anything else.

    Of a dataclass the fields count, apart from defaults of those marked `ADDED_LATER`, and the class's ``REVISION``
    where it has one.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [
            f for f in dataclasses.fields(value) if f.metadata != ADDED_LATER or getattr(value, f.name) != f.default
        ]
        names = [field.name for field in fields]
        return {name: canonical(getattr(value, name)) for name in (*names, "REVISION") if hasattr(value, name)}
    if isinstance(value, Mapping):
        return {str(key): canonical(value[key]) for key in sorted(value, key=str)}
    if isinstance(value, enum.Enum):
        return canonical(value.value)
    if isinstance(value, (list, tuple)):
        return [canonical(item) for item in value]
    if isinstance(value, bool | int | str) or value is None:
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    raise TypeError(f"a {type(value).__name__} cannot be part of a fingerprint: {value!r}")


def fingerprint(settings: Mapping[str, Any]) -> str:
    """Twelve hexadecimal digits that name the numbers which these settings decide."""
    decides = {**canonical(settings), "format": FORMAT}
    text = json.dumps(decides, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def hash_file(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def hash_ids(ids: Iterable[str]) -> str:
    """A hash of clip ids in their order; it binds the rows of a shard to the clips of the catalog."""
    digest = hashlib.sha256()
    for clip_id in ids:
        data = clip_id.encode()
        digest.update(len(data).to_bytes(4, "little"))
        digest.update(data)
    return digest.hexdigest()[:32]


def hash_values(values: np.ndarray[Any, Any]) -> str:
    """A hash of an array's numbers, the same whatever the chunks or the compression on disk.

    XXH3, which tells damage and not malice: a fifteenth of SHA-256's time, so that every read can be checked.
    """
    little = values.astype(values.dtype.newbyteorder("<"), copy=False)
    return hash_pieces([np.ascontiguousarray(little).data])


def hash_pieces(pieces: Iterable[memoryview]) -> str:
    """`hash_values` of little-endian numbers that come piece by piece."""
    digest = xxhash.xxh3_128()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


def source_tag(path: Path) -> str:
    """A cheap mark of a file's content: its size and a hash of its first and last 64 KiB.

    It tells a replaced file from an untouched one without reading whole collections again, and does not
    depend on where the file lies or when it was copied there. OSError for what is no regular file.
    """
    window = 1 << 16
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError(f"{path} is no regular file")
    size = status.st_size
    digest = hashlib.blake2b(size.to_bytes(8, "little"), digest_size=8)
    with path.open("rb") as file:
        digest.update(file.read(window))
        if size > window:
            file.seek(max(window, size - window))
            digest.update(file.read(window))
    return f"{size}-{digest.hexdigest()}"
