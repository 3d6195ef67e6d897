"""``encore data``: what is there, and fetching from a server on loopback."""

from __future__ import annotations

import hashlib
import io
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.cli import app
from stages import registry
from stages.embed.datasets import Remote
from stages.embed.datasets.fma import Fma
from stages.embed.fetch import fetch, place_of
from store.errors import EncoreError, RequestError

SONG = bytes(range(256)) * 12_000  # 3 MB


class Server:
    """Serves ``files``; ends each of the next ``breaks`` answers after a third of what is left.

    ``ranges``: whether it sends parts of a file; ``announced``: the length that it tells, where that is not the true
    one; ``more``: bytes that it adds to a part, which it then announces; ``kind``: the content's type.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.breaks = 0
        self.etag: str | None = '"one"'
        self.asked: list[str | None] = []
        self.sent = 0
        self.ranges = True
        self.announced: int | None = None
        self.more = b""
        self.kind = "application/octet-stream"
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                content = server.files.get(self.path)
                server.asked.append(self.headers.get("Range"))
                if content is None:
                    self.send_error(404)
                    return
                start = 0
                if server.ranges and self.headers.get("Range") and self.headers.get("If-Range") == server.etag:
                    start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
                    if start >= len(content):
                        self.send_error(416)
                        return
                    self.send_response(206)
                    self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
                else:
                    self.send_response(200)
                if server.etag:
                    self.send_header("ETag", server.etag)
                rest = content[start:] + (server.more if start else b"")
                length = len(rest) if server.announced is None else server.announced
                self.send_header("Content-Length", str(length))
                self.send_header("Content-Type", server.kind)
                self.end_headers()
                if server.breaks:
                    server.breaks -= 1
                    rest = rest[: len(rest) // 3]
                server.sent += len(rest)
                self.wfile.write(rest)

            def log_message(self, *_args: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"


@pytest.fixture
def server() -> Iterator[Server]:
    instance = Server()
    thread = threading.Thread(target=instance.http.serve_forever, daemon=True)
    thread.start()
    yield instance
    instance.http.shutdown()
    instance.http.server_close()
    thread.join()


def sha256(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def zipped(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "/"), content)
    return buffer.getvalue()


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


def test_an_interrupted_download_goes_on(server: Server, tmp_path: Path) -> None:
    server.files["/a.bin"] = SONG
    server.breaks = 2
    remote = Remote(url=f"{server.url}/a.bin", holds=("sub/a.bin",), checksum=sha256(SONG))
    for _ in range(2):
        with pytest.raises(EncoreError, match="What arrived is kept; the same command goes on"):
            fetch(remote, tmp_path)
        assert place_of(remote, tmp_path) is None
    assert fetch(remote, tmp_path).read_bytes() == SONG
    assert server.asked[0] is None
    assert all(header and header.startswith("bytes=") for header in server.asked[1:])
    assert server.sent <= len(SONG) + 2 * (1 << 16)  # but for the last piece of each, nothing was sent twice
    assert leftovers(tmp_path / "sub") == []
    assert fetch(remote, tmp_path).read_bytes() == SONG
    assert len(server.asked) == 3


@pytest.mark.parametrize("etag", ['"two"', None, 'W/"one"'])
def test_a_file_that_changed_meanwhile_is_fetched_anew(server: Server, tmp_path: Path, etag: str | None) -> None:
    server.files["/a.bin"] = SONG
    server.breaks = 1
    remote = Remote(url=f"{server.url}/a.bin", holds=("a.bin",))
    with pytest.raises(EncoreError):
        fetch(remote, tmp_path)
    server.files["/a.bin"], server.etag = SONG[::-1], etag
    assert fetch(remote, tmp_path).read_bytes() == SONG[::-1]


def test_a_wrong_checksum(server: Server, tmp_path: Path) -> None:
    server.files["/a.bin"] = SONG
    remote = Remote(url=f"{server.url}/a.bin", holds=("a.bin",), checksum=sha256(b"other"))
    with pytest.raises(EncoreError, match="does not have the checksum sha256:"):
        fetch(remote, tmp_path)
    assert list(tmp_path.iterdir()) == []
    absent = Remote(url=f"{server.url}/b.bin", holds=("b.bin",))
    with pytest.raises(EncoreError, match="404"):
        fetch(absent, tmp_path)
    refused = Remote(url="http://127.0.0.1:1/b.bin", holds=("b.bin",))
    with pytest.raises(EncoreError, match="could not be fetched"):
        fetch(refused, tmp_path)


def test_a_server_that_sends_no_parts(server: Server, tmp_path: Path) -> None:
    """What arrived is of no use then; the file comes whole, once."""
    server.files["/a.bin"] = SONG
    server.ranges, server.breaks = False, 1
    remote = Remote(url=f"{server.url}/a.bin", holds=("a.bin",), checksum=sha256(SONG))
    with pytest.raises(EncoreError, match="What arrived is kept"):
        fetch(remote, tmp_path)
    assert fetch(remote, tmp_path).read_bytes() == SONG
    assert server.asked[1] is not None
    assert leftovers(tmp_path) == []


def test_more_or_less_than_was_announced(server: Server, tmp_path: Path) -> None:
    server.files["/a.bin"] = SONG
    checked = Remote(url=f"{server.url}/a.bin", holds=("a.bin",), checksum=sha256(SONG))
    server.announced = 1000
    with pytest.raises(EncoreError, match="does not have the checksum"):
        fetch(checked, tmp_path)
    server.announced = len(SONG) + 1000
    with pytest.raises(EncoreError, match="could not be fetched"):
        fetch(Remote(url=checked.url, holds=("b.bin",)), tmp_path)
    server.announced, server.breaks = None, 1
    with pytest.raises(EncoreError, match="What arrived is kept"):
        fetch(Remote(url=checked.url, holds=("c.bin",)), tmp_path)
    server.more = bytes(1000)
    with pytest.raises(EncoreError, match="3,073,000 bytes came where 3,072,000 had been announced"):
        fetch(Remote(url=checked.url, holds=("c.bin",)), tmp_path)
    server.more = b""
    assert fetch(Remote(url=checked.url, holds=("c.bin",)), tmp_path).read_bytes() == SONG


def test_a_file_larger_than_the_disk(server: Server, tmp_path: Path) -> None:
    server.files["/a.bin"] = SONG
    server.announced = 1 << 60
    with pytest.raises(EncoreError, match=r"has 1,073,741,824\.0 GiB, and .* has room for .*; make room"):
        fetch(Remote(url=f"{server.url}/a.bin", holds=("a.bin",)), tmp_path)
    assert [path.name for path in tmp_path.iterdir() if not path.name.endswith(".mark")] == []


def test_a_web_page_instead_of_the_file(server: Server, tmp_path: Path) -> None:
    """As shared drives answer; what a person then puts there by hand is unpacked."""
    server.files["/:u:/g/abc"] = b"<html>sign in</html>"
    server.kind = "text/html; charset=utf-8"
    remote = Remote(url=f"{server.url}/:u:/g/abc", file="lists.zip", holds=("lists",))
    with pytest.raises(EncoreError, match=r"answers with a web page instead of lists\.zip; .* put it at .*lists\.zip"):
        fetch(remote, tmp_path)
    (tmp_path / "lists.zip").write_bytes(zipped(lists__x=b"x"))
    assert (fetch(remote, tmp_path) / "x").read_bytes() == b"x"


def test_archives_are_unpacked(server: Server, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        info = tarfile.TarInfo("songs/ä b.mid")
        info.size = 3
        tar.addfile(info, io.BytesIO(b"abc"))
    server.files |= {"/a.zip": zipped(lists__x=b"x"), "/b.tar.gz": buffer.getvalue()}
    assert (fetch(Remote(url=f"{server.url}/a.zip", holds=("lists",)), tmp_path) / "x").read_bytes() == b"x"
    assert (fetch(Remote(url=f"{server.url}/b.tar.gz", holds=("songs",)), tmp_path) / "ä b.mid").read_bytes() == b"abc"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lists", "songs"]


@pytest.mark.parametrize("kind", ["zip", "tar.gz", "link", "damaged"])
def test_archives_that_would_leave_their_folder(server: Server, tmp_path: Path, kind: str) -> None:
    buffer = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("../out.txt", b"x")
    elif kind != "damaged":
        with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
            info = tarfile.TarInfo("../out.txt" if kind == "tar.gz" else "link")
            if kind == "link":
                info.type, info.linkname = tarfile.SYMTYPE, "/etc"
            tar.addfile(info)
    name = "/a.zip" if kind in ("zip", "damaged") else "/a.tar.gz"
    server.files[name] = buffer.getvalue() or b"no archive"
    data = tmp_path / "data"
    with pytest.raises(RequestError, match=r"outside|cannot be unpacked"):
        fetch(Remote(url=server.url + name, holds=("lists",)), data)
    assert not (tmp_path / "out.txt").exists()
    assert leftovers(data) == []


def test_an_archive_without_what_it_should_hold(server: Server, tmp_path: Path) -> None:
    server.files["/a.zip"] = zipped(other__x=b"x")
    with pytest.raises(RequestError, match="holds no lists"):
        fetch(Remote(url=f"{server.url}/a.zip", holds=("lists",)), tmp_path)


def run(*args: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["data", *args])
    return result.exit_code, result.stdout, result.stderr


def test_the_command(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.files["/tracks.zip"] = zipped(fma_metadata__tracks=b"x")
    remotes = (Remote(url=f"{server.url}/tracks.zip", holds=("fma_metadata", "x"), size="1 kB"),)
    monkeypatch.setattr(Fma, "remotes", lambda self: remotes)
    data = str(tmp_path / "a folder")
    code, out, _ = run("fma", "--data", data)
    assert code == 0
    assert "1 missing; fetch with: encore data fma --fetch" in out
    assert remotes[0].url in out
    code, out, err = run("fma", "--data", data, "--fetch")
    assert (code, "there" in out, "missing" in out) == (0, True, False)
    assert "tracks.zip (1 kB)" in err
    assert (tmp_path / "a folder/fma_metadata/tracks").read_bytes() == b"x"
    code, _, err = run("table", "--fetch")
    assert (code, "no files that can be fetched" in err) == (2, True)
    code, _, err = run("fma", "--table", "x.csv")
    assert (code, "fma takes no --table" in err) == (2, True)


@pytest.mark.parametrize("name", registry.names("dataset"))
def test_every_data_set_says_where_its_files_come_from(name: str, tmp_path: Path) -> None:
    dataset = registry.find("dataset", name)(data=tmp_path)
    for remote in dataset.remotes():
        assert remote.url.startswith(("https://", "http://"))
        assert remote.holds
        assert remote.checksum is None or remote.checksum.split(":")[0] in ("sha1", "sha256", "md5")
    code, out, _ = run(name, "--data", str(tmp_path), "--json")
    assert (code, f'"dataset": "{name}"' in out) == (0, True)
