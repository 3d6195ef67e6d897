"""Fetch a collection's files from their official addresses: resumed, checked and unpacked, whole or not at all."""

from __future__ import annotations

import os
import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from stages.embed.catalogs import make_dataset
from stages.embed.datasets import Remote
from stages.progress import note, task
from store.errors import EncoreError, RequestError

_ARCHIVES = (".zip", ".tar.gz", ".tgz")
_TIMEOUT_S = (20.0, 120.0)  # to connect, and between two pieces
_PIECE_BYTES = 1 << 16  # what an interruption can lose
_MIB = 1 << 20
_GIB = 1 << 30


def list_files(name: str, options: Mapping[str, Any], *, fetch_missing: bool) -> dict[str, Any]:
    """What a collection is, and for each file that it can be fetched from whether it is there.

    Files lie in the folder of the option ``data``, or in ``data/<name>`` without it. With ``fetch_missing`` those that
    are missing are fetched first.

    Raises
    ------
    RequestError
        for an unknown data set or option, or if there is nothing to fetch from; see also `fetch`.
    """
    dataset = make_dataset(name, options)
    folder = dataset.data or Path("data", name)
    dataset = replace(dataset, data=folder)
    remotes = dataset.remotes()
    if fetch_missing and not remotes:
        raise RequestError(f"{name} has no files that can be fetched. {dataset.FILES}")
    files = []
    for remote in remotes:
        if fetch_missing and place_of(remote, folder) is None:
            note(f"{remote.url}{f' ({remote.size})' if remote.size else ''}")
            fetch(remote, folder)
        place = place_of(remote, folder)
        files.append(
            {
                "url": remote.url,
                "size": remote.size or None,
                "checksum": remote.checksum,
                "there": None if place is None else str(place),
                "holds": remote.holds[0],
            }
        )
    return {
        "dataset": name,
        "title": dataset.TITLE,
        "licence": dataset.LICENSE,
        "citation": dataset.CITATION,
        "homepage": dataset.HOMEPAGE,
        "backbone": dataset.BACKBONE,
        "midi_backbone": dataset.MIDI_BACKBONE,
        "data": str(folder),
        "about": dataset.FILES,
        "files": files,
    }


def place_of(remote: Remote, data: Path) -> Path | None:
    """Where the content of a remote file lies under ``data``; None if it is missing."""
    return next((data / path for path in remote.holds if (data / path).exists()), None)


def fetch(remote: Remote, data: Path) -> Path:
    """Fetch a file into ``data`` unless it is there, unpack it if it is an archive, and return its place.

    An interrupted download stays beside the target as ``.partial`` and goes on from there, unless the server says that
    the file has changed.

    Raises
    ------
    EncoreError
        if the address cannot be read, the disk is full, or what arrives is a web page, of the wrong length or of the
        wrong checksum.
    RequestError
        if an archive would write outside of ``data``, or does not hold what it should.
    """
    import pooch
    import requests

    place = place_of(remote, data)
    if place is not None:
        return place
    archive = remote.name.endswith(_ARCHIVES)
    target = data / (remote.name if archive else remote.holds[0])
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        pooch.get_logger().setLevel("WARNING")
        pooch.retrieve(
            remote.url, remote.checksum, fname=target.name, path=target.parent, downloader=_Resumed(target, remote.name)
        )
        if archive:
            _unpack(target, data / remote.into)
            target.unlink()
    except requests.RequestException as error:
        raise EncoreError(
            f"{remote.url} could not be fetched: {error}. What arrived is kept; the same command goes on from there"
        ) from error
    except ValueError as error:
        if isinstance(error, EncoreError):
            raise
        raise EncoreError(
            f"{remote.url}: what came does not have the checksum {remote.checksum} and was thrown away; "
            f"run the command again, and if this comes back the file is another one now"
        ) from error
    except OSError as error:
        raise EncoreError(f"{target} cannot be written: {error.strerror or error}") from error
    place = place_of(remote, data)
    if place is None:
        raise RequestError(f"{remote.url} was fetched into {data}, but holds no {remote.holds[0]}")
    return place


class _Resumed:
    """A downloader for pooch that resumes an interrupted download."""

    def __init__(self, target: Path, label: str) -> None:
        self.target = target
        self.partial = target.with_name(f".{target.name}.partial")
        self.mark = target.with_name(f".{target.name}.partial.mark")
        self.label = label

    def __call__(self, url: str, output_file: str | os.PathLike[str], _pooch: Any) -> None:
        import requests

        have = self.partial.stat().st_size if self.partial.exists() and self.mark.exists() else 0
        headers = {"Accept-Encoding": "identity"}  # lengths and ranges are those of the file itself
        if have:
            headers |= {"Range": f"bytes={have}-", "If-Range": self.mark.read_text()}
        with requests.get(url, stream=True, headers=headers, timeout=_TIMEOUT_S) as response:
            if have and response.status_code == requests.codes.requested_range_not_satisfiable:
                self._forget()
                return self(url, output_file, _pooch)
            response.raise_for_status()
            if response.headers.get("Content-Type", "").startswith("text/html"):
                raise EncoreError(
                    f"{url} answers with a web page instead of {self.label}; fetch it there by hand and put it at "
                    f"{self.target}"
                )
            goes_on = have > 0 and response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
            if response.status_code == requests.codes.partial_content and not goes_on:
                raise requests.RequestException("the server sent another part of the file than was asked for")
            self._write(response, have if goes_on else 0)
        os.replace(self.partial, output_file)
        self._forget()
        return None

    def _write(self, response: Any, have: int) -> None:
        mark = response.headers.get("ETag") or response.headers.get("Last-Modified") or ""
        if mark and not mark.startswith("W/"):  # without a strong mark no one can say that the rest is of the same file
            self.mark.write_text(mark)
        else:
            self.mark.unlink(missing_ok=True)
        length = response.headers.get("Content-Length", "")
        announced = have + int(length) if length.isdigit() else None
        free = shutil.disk_usage(self.partial.parent).free
        if announced is not None and announced - have > free:
            raise EncoreError(
                f"{response.url} has {announced / _GIB:,.1f} GiB, and {self.partial.parent} has room for "
                f"{free / _GIB:,.1f} GiB; make room, or give another folder: --data DIR"
            )
        total = None if announced is None else announced // _MIB + 1
        with self.partial.open("ab" if have else "wb") as file, task(f"fetching {self.label}", total, "MiB") as advance:
            mebibytes = have // _MIB
            advance(mebibytes)
            for piece in response.iter_content(_PIECE_BYTES):
                file.write(piece)
                advance(file.tell() // _MIB - mebibytes)
                mebibytes = file.tell() // _MIB
        size = response.headers.get("Content-Range", "").rpartition("/")[2]
        if have and size.isdigit() and self.partial.stat().st_size != int(size):
            size_bytes = self.partial.stat().st_size
            self._forget()
            raise EncoreError(
                f"{response.url}: {size_bytes:,} bytes came where {int(size):,} had been announced; they were thrown "
                f"away, run the command again"
            )

    def _forget(self) -> None:
        self.partial.unlink(missing_ok=True)
        self.mark.unlink(missing_ok=True)


def _unpack(archive: Path, data: Path) -> None:
    """Unpack into a scratch folder and move the result, so that a folder that exists is complete."""
    note(f"unpacking {archive.name}")
    data.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=data, prefix=".unpacking-") as scratch:
        try:
            if archive.suffix == ".zip":
                _unzip(archive, scratch)
            else:
                with tarfile.open(archive) as tar:
                    tar.extractall(scratch, filter="data")
        except (tarfile.TarError, zipfile.BadZipFile, EOFError) as error:
            raise RequestError(f"{archive} cannot be unpacked: {error}; remove it and fetch it again") from error
        for entry in sorted(Path(scratch).iterdir()):
            if (data / entry.name).exists():
                note(f"{data / entry.name} is there already and stays as it is")
            else:
                shutil.move(entry, data / entry.name)


def _unzip(archive: Path, folder: str) -> None:
    with zipfile.ZipFile(archive) as zip_file:
        for entry in zip_file.namelist():
            if entry.startswith(("/", "\\")) or ".." in PurePosixPath(entry.replace("\\", "/")).parts:
                raise RequestError(f"{archive} holds {entry!r}, which would lie outside of its folder")
        zip_file.extractall(folder)
