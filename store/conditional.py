"""Writes behind a URL that happen only if nobody else has written meanwhile.

S3 and its kin compare an object's ETag in the same step in which they replace it (``If-Match``, ``If-None-Match``).
Where a service cannot, it is compared just before, which leaves a moment in which two writers may meet.
"""

from __future__ import annotations

from typing import Any

_CONFLICT = {"PreconditionFailed", "ConditionalRequestConflict", "412", "409"}
_CANNOT = {"NotImplemented", "501"}


def can(fs: Any) -> bool:
    """Whether a file system belongs to a service that compares."""
    return "s3" in ((fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol)


def put(fs: Any, path: str, data: bytes, etag: str | None) -> bool | None:
    """Put an object if its ETag still is ``etag`` (None: if there is none); whether that was so.

    None where the service cannot compare; then nothing was written. Other errors are the file system's.
    """
    condition = {"IfNoneMatch": "*"} if etag is None else {"IfMatch": etag}
    try:
        fs.pipe_file(path, data, **condition)
    except OSError as error:
        code = _code(error)
        if code in _CANNOT:
            return None
        if code not in _CONFLICT and not isinstance(error, FileExistsError | FileNotFoundError):
            raise
        fs.invalidate_cache()
        # A put whose answer was lost is sent again, and finds what it has written itself.
        return bool(fs.exists(path)) and fs.cat_file(path) == data
    return True


def _code(error: BaseException | None) -> str:
    """What the service calls an error, in whatever wraps it."""
    while error is not None:
        response = getattr(error, "response", None)
        if isinstance(response, dict):
            return str(response.get("Error", {}).get("Code", ""))
        error = error.__cause__ or error.__context__
    return ""
