"""Files of a store, on a local disk or behind an fsspec URL, each replaced as a whole or not at all."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import io
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from store import conditional
from store.errors import RequestError, StoreError, is_out_of_memory

_PATIENCE_S = 600.0  # what is done under a lock takes seconds
_AT_WORK_S = 86_400.0  # no file takes so long to be written
_CLIENT_OF = {"s3": "s3fs", "gs": "gcsfs"}  # what the extra of that name installs
_NO_FILE = "it is a folder, a pipe or a device, and no file"
# Without waiting for the other end of a pipe; Windows has bytes of text and no such pipes.
_OPEN_AT_ONCE = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_NO_FOLDERS = ("data",)  # a URL that is itself the one file
WORK = ".compact-"  # how the folder begins in which a collection is written anew
# Names that only `Files` and Zarr give: a folder may be full of other people's files too.
_REMOVED = re.compile(r".+\.[0-9a-f]{8}\.removed")
_PARTIAL = re.compile(r"(\..+\.\d+-\d+|.+\.[0-9a-f]{32})\.partial")


class Files:
    """The folder at ``root`` (a path or a URL such as ``s3://bucket/stores``).

    Names are relative, with ``/`` between parts. Every failure of the file system is a `StoreError`
    that names the file.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.url = os.fspath(root)
        try:
            fs, path = fsspec.core.url_to_fs(self.url)
        except Exception as error:  # each file system has errors of its own (zip:// those of damaged archives)
            if is_out_of_memory(error):
                raise
            service = self.url.partition("://")[0]
            if isinstance(error, ImportError) and service in _CLIENT_OF:
                raise RequestError(
                    f"the store {self.url!r} needs {_CLIENT_OF[service]}: pip install 'encore-mir[{service}]'"
                ) from error
            raise RequestError(f"cannot open the store {self.url!r}: {error}") from error
        self.fs: Any = fs
        self.path: str = path
        self.local: Path | None = Path(path) if isinstance(fs, LocalFileSystem) else None
        if fs.protocol in _NO_FOLDERS:
            raise RequestError(f"cannot open the store {self.url!r}: a {fs.protocol}: URL has no folders")

    def at(self, name: str) -> str:
        """The full address of ``name``, as `fsspec` and Zarr take it."""
        return f"{self.path.rstrip('/')}/{name}" if name else self.path

    def show(self, name: str) -> str:
        """The address of ``name`` as a person would type it."""
        return str(self.local / name) if self.local is not None else f"{self.url.rstrip('/')}/{name}"

    def exists(self, name: str) -> bool:
        with _failing(f"cannot look at {self.show(name)}"):
            return bool(self.fs.exists(self.at(name)))

    def read(self, name: str) -> bytes:
        """The bytes of ``name``; FileNotFoundError where there is no such file."""
        with _failing(f"cannot read {self.show(name)}"):
            self.check_file(name)
            data: bytes = self.fs.cat_file(self.at(name))
        return data

    def pieces(self, name: str, buffer: memoryview) -> Iterator[memoryview]:
        """The bytes of ``name``, piece by piece, of which each is good until the next; errors are those of `read`.

        A piece that is hashed at once still lies in the processor's cache, and with one ``buffer`` for many files no
        memory is asked for anew.
        """
        if self.local is None:
            yield memoryview(self.read(name))
            return
        with _failing(f"cannot read {self.show(name)}"), io.FileIO(self.open_local(name)) as file:
            while count := file.readinto(buffer):
                yield buffer[:count]

    def open_local(self, name: str) -> int:
        """The descriptor of a file of a local store; like `check_file` and opening it, at half the cost."""
        descriptor = os.open(f"{self.local}/{name}", _OPEN_AT_ONCE)
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return descriptor
        os.close(descriptor)
        raise OSError(errno.EINVAL, _NO_FILE)

    def check_file(self, name: str) -> None:
        """OSError if ``name`` exists but is no regular file: a pipe would block, and a device might never end."""
        if self.local is not None and not stat.S_ISREG(os.stat(f"{self.local}/{name}").st_mode):
            raise OSError(errno.EINVAL, _NO_FILE)

    def write(self, name: str, data: bytes, *, durable: bool = True) -> None:
        """Put ``data`` at ``name``. A reader sees the old file or the new one, never a part of either.

        Parameters
        ----------
        durable : whether it is on the disk before it is in its place; else a loss of power may leave it torn.
        """
        with _failing(f"cannot write {self.show(name)}"):
            try:
                if self.local is not None:
                    _replace(self.local / name, data, durable)
                else:
                    # One object is put at once on every object store that fsspec knows.
                    self.fs.pipe_file(self.at(name), data)
            except FileNotFoundError as error:  # there is no such bucket, or the folder went
                raise StoreError(f"cannot write {self.show(name)}: {_why(error)}") from error

    def write_if(self, name: str, data: bytes, mark: str | None) -> bool:
        """`write` where the file's `mark` still is ``mark``; whether it was.

        Behind a URL whose service can compare while it writes, nobody can come in between. Elsewhere a lock must keep
        others away, or there is a moment in which another writer's file may be lost.
        """
        with _failing(f"cannot write {self.show(name)}"):
            answer = conditional.put(self.fs, self.at(name), data, mark) if conditional.can(self.fs) else None
        if answer is not None:
            return answer
        if self.mark(name) != mark:
            return False
        self.write(name, data)
        return True

    def mark(self, name: str) -> str | None:
        """A mark of the file ``name`` that changes whenever it is written; None where there is none."""
        try:
            with _failing(f"cannot look at {self.show(name)}"):
                self.fs.invalidate_cache()
                if conditional.can(self.fs):
                    return str(self.fs.info(self.at(name))["ETag"])
                return str(self.fs.ukey(self.at(name)))
        except (FileNotFoundError, NotADirectoryError):
            return None

    def modified(self, name: str) -> float:
        """When the file ``name`` was last written, in seconds since 1970; 0 where the file system does not say."""
        try:
            return float(self.fs.modified(self.at(name)).timestamp())
        except (NotImplementedError, OSError):
            return 0.0

    @contextlib.contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Hold the lock file ``name``; of all processes that ask for it, one at a time goes on; see `take`."""
        give_back = self.take(name, _PATIENCE_S)
        if give_back is None:
            raise StoreError(
                f"another process has held {self.show(name)} for {_PATIENCE_S / 60:.0f} minutes; end it if it hangs, "
                f"and run the same command again"
            )
        try:
            yield
        finally:
            give_back()

    def take(self, name: str, patience_s: float) -> Callable[[], None] | None:
        """Take the lock file ``name``; returns what releases it, or None where another process held it throughout.

        A lock is released when its process ends, however it ends. Behind a URL nothing can be locked and nothing is
        waited for. There, the shards of one collection may be shared out among processes (``--part``), since each is
        written by one; growing a collection is for one at a time.
        """
        if self.local is None:
            return lambda: None
        import filelock

        lock = filelock.FileLock(self.local / name, timeout=patience_s)
        try:
            (self.local / name).parent.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except filelock.Timeout:
            return None
        except OSError as error:
            raise StoreError(f"cannot lock {self.show(name)}: {_why(error)}") from error
        return lock.release

    def folders(self, name: str = "") -> list[str]:
        """The names of the folders directly under ``name``, sorted; those in the course of removal are left out."""
        return [entry for entry, kind in self._entries(name) if kind == "directory" and not _REMOVED.fullmatch(entry)]

    def files(self, name: str = "") -> list[str]:
        """The names of the files directly under ``name``, sorted; unfinished ones are left out."""
        return [entry for entry, kind in self._entries(name) if kind == "file" and not _PARTIAL.fullmatch(entry)]

    def _entries(self, name: str) -> list[tuple[str, str]]:
        try:
            with _failing(f"cannot list {self.show(name)}"):
                self.fs.invalidate_cache()
                entries = self.fs.ls(self.at(name), detail=True)
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted((entry["name"].rstrip("/").rsplit("/", 1)[-1], entry["type"]) for entry in entries)

    def size(self, name: str) -> int:
        """Bytes under ``name``."""
        try:
            with _failing(f"cannot look at {self.show(name)}"):
                return int(self.fs.du(self.at(name)))
        except FileNotFoundError:
            return 0

    @property
    def outlives_fork(self) -> bool:
        """Whether a forked process can use it; clients of services have threads, which a fork loses."""
        return not getattr(self.fs, "async_impl", False)

    def room(self) -> int | None:
        """Free bytes on the disk that the folder lies on, or will lie on; None behind a URL."""
        if self.local is None:
            return None
        there = next((path for path in (self.local, *self.local.absolute().parents) if path.is_dir()), None)
        return None if there is None else shutil.disk_usage(there).free

    def check_room(self, name: str, size: int, spare: int = 0) -> None:
        """StoreError where the disk has no room for as many more bytes of a file or folder, and some to spare."""
        room = self.room()
        if room is not None and room < size + spare:
            beside = f", beside {spare >> 20} MiB for tables" if spare else ""
            raise StoreError(
                f"the disk of {self.show(name)} has {room / 2**20:,.0f} MiB left, and {size / 2**20:,.0f} MiB are to "
                f"be written{beside}; what is there is kept: make room and run the same command again, or name another "
                f"place"
            )

    def move(self, name: str, to: str) -> None:
        """Put the folder ``name`` in the place of ``to``, which is removed.

        Behind a URL its files are copied, the last one by name first, and then removed.
        """
        self.remove(to)
        with _failing(f"cannot move {self.show(name)} to {self.show(to)}"):
            if self.local is not None:
                os.replace(self.local / name, self.local / to)
                return
            self.fs.invalidate_cache()
            source = self.at(name).rstrip("/")
            files = sorted(self.fs.find(source), reverse=True)
            for file in files:
                self.fs.cp_file(file, f"{self.at(to)}/{file.removeprefix(source).lstrip('/')}")
        self.remove(name)

    def exchange(self, name: str, other: str) -> None:
        """Swap two folders, atomically where the system can (Linux, on its usual file systems).

        Elsewhere there is a moment at which ``name`` does not exist and ``other`` is called ``<other>.before``.
        """
        one, two = self._local / name, self._local / other
        try:
            if not _exchange(one, two):
                before = two.with_name(f"{two.name}.before")
                os.replace(one, before)
                os.replace(two, one)
                os.replace(before, two)
        except OSError as error:
            raise StoreError(f"cannot put {self.show(other)} in place of {self.show(name)}: {_why(error)}") from error

    def remove(self, name: str) -> None:
        """Remove the file or the folder ``name``; a folder is first taken out of sight, then emptied."""
        target = self.at(name)
        with contextlib.suppress(FileNotFoundError), _failing(f"cannot remove {self.show(name)}"):
            if self.local is not None and (self.local / name).is_dir():
                hidden = f"{target}.{secrets.token_hex(4)}.removed"
                os.replace(target, hidden)
                target = hidden
            self.fs.rm(target, recursive=True)

    def sweep(self, name: str = "") -> None:
        """Remove what killed processes left half written or half removed under ``name`` (`left_over`)."""
        for leftover in self.left_over(name):
            path = self._local / leftover
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                with contextlib.suppress(OSError):  # another process was quicker, or it is not ours to remove
                    path.unlink()

    def left_over(self, name: str = "") -> list[str]:
        """What processes that were killed left half written or half removed under ``name``.

        What was touched within a day may still be in use, and is left out. Behind a URL there is never anything.
        """
        names: list[str] = []
        if self.local is None:
            return names
        for here, folders, files in os.walk(self.local / name):
            for folder in [name for name in folders if _REMOVED.fullmatch(name) or _is_abandoned(Path(here, name))]:
                folders.remove(folder)
                names.append(os.path.relpath(f"{here}/{folder}", self.local))
            for file in filter(_PARTIAL.fullmatch, files):
                path = Path(here, file)
                with contextlib.suppress(OSError):
                    if time.time() - path.stat().st_mtime > _AT_WORK_S:
                        names.append(os.path.relpath(path, self.local))
        return sorted(names)

    @property
    def _local(self) -> Path:
        assert self.local is not None
        return self.local


def _is_abandoned(folder: Path) -> bool:
    """Whether a rewrite of a collection began here so long ago that it was killed, and the collection is still
    there."""
    if not folder.name.startswith(WORK) or not (folder.parent / folder.name.removeprefix(WORK)).exists():
        return False
    with contextlib.suppress(OSError):
        return time.time() - folder.stat().st_mtime > _AT_WORK_S
    return False


def _replace(path: Path, data: bytes, durable: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}-{time.monotonic_ns()}.partial")
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _exchange(one: Path, two: Path) -> bool:
    """Let two paths change places by ``renameat2``; whether that could be done."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    if rename(here, os.fsencode(one), here, os.fsencode(two), exchange) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
        return False
    raise OSError(number, os.strerror(number))


# Where the errors of clients of services come from, which are no errors of the operating system.
_CLIENTS = ("botocore", "aiobotocore", "s3fs", "gcsfs", "google", "aiohttp", "asyncio", "fsspec")


def is_of_service(error: BaseException) -> bool:
    """Whether an error says that a service could not be reached, timed out, or denied access."""
    return isinstance(error, TimeoutError) or type(error).__module__.partition(".")[0] in _CLIENTS


@contextlib.contextmanager
def _failing(what: str) -> Iterator[None]:
    """Turn errors of a file system into a `StoreError` that begins with ``what``; an absent file stays one."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError, StoreError):
        raise
    except Exception as error:
        if not isinstance(error, OSError) and not is_of_service(error):
            raise
        raise StoreError(f"{what}: {_why(error)}") from error


def _why(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
