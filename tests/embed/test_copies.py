"""Songs whose files hold the same bytes are one recording."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stages.embed.catalogs import open_catalog
from stages.embed.copies import join_copies
from store.layout import Store
from store.schema import Catalog, CatalogInfo


def folder(root: Path, files: dict[str, bytes], extra: str = "") -> dict[str, Any]:
    """The options that read a folder of these files as one song each."""
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    rows = "".join(f"{name},A{i},x\n" for i, name in enumerate(files))
    (root / "t.csv").write_text("file,artist,labels\n" + rows + extra)
    return {"data": root, "table": "t.csv", "name": "own"}


def recordings(catalog: Catalog) -> dict[str, str | None]:
    return dict(zip(catalog.strings("clip_id"), catalog.strings("recording_id"), strict=True))


def test_copies_are_told_and_kept_apart_where_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # Equal at both ends, as recordings are that begin and end in silence.
    silence, store = bytes(1 << 17), Store("memory://copies")
    files = {"a.wav": silence + b"1" + silence, "b.wav": silence + b"2" + silence, "c.wav": silence + b"1" + silence}
    options = folder(tmp_path, {**files, "d.wav": b"other"}, "gone.wav,B,x\nfar.wav,B,x\n")
    catalog = open_catalog("folder", options, store)
    assert recordings(catalog) == {
        "a.wav": "a.wav",
        "c.wav": "a.wav",
        **dict.fromkeys(("b.wav", "d.wav", "gone.wav", "far.wav")),
    }
    assert "1 song holds the same as another: they are one recording" in capsys.readouterr().err
    apart = open_catalog("folder", {**options, "keep_copies": True}, store)
    assert set(recordings(apart).values()) == {None}
    assert (catalog.info.keep_copies, apart.info.keep_copies) == (False, True)
    store.write_catalog(apart)
    assert join_copies(store.read_catalog("own").live()).table.equals(apart.table)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(1, 3), st.sampled_from(["r", "s", None])), min_size=1, max_size=7))
def test_what_is_known_of_recordings_is_joined(tmp_path: Path, songs: list[tuple[int, str | None]]) -> None:
    """Songs are together where their bytes or their recordings are equal, directly or through others; else not."""
    for i, (content, _) in enumerate(songs):
        (tmp_path / f"{i}.wav").write_bytes(b"x" * content)
    info = CatalogInfo(
        name="own", title="-", version="-", licence="-", citation="-", backbone="fcn", data_root=str(tmp_path)
    )
    ids = [f"{i}.wav" for i in range(len(songs))]
    columns = {
        "clip_id": ids,
        "song_id": ids,
        "path": ids,
        "artist_id": [None] * len(ids),
        "labels": [["x"]] * len(ids),
    }
    catalog = Catalog.build(info, {**columns, "recording_id": [recording for _, recording in songs]})
    joined = [recordings(join_copies(catalog))[name] for name in ids]
    linked = np.eye(len(songs), dtype=bool)
    for a, (content, known) in enumerate(songs):
        for b, (other, its) in enumerate(songs):
            linked[a, b] |= content == other or (known is not None and known == its)
    for _ in songs:
        linked = linked @ linked
    for a, (_, known) in enumerate(songs):
        for b in range(len(songs)):
            assert ((joined[a] == joined[b] and joined[a] is not None) or a == b) == linked[a, b]
        assert (joined[a] is None) == (known is None and linked[a].sum() == 1)


def test_files_that_hold_nothing_are_no_copies(tmp_path: Path) -> None:
    options = folder(tmp_path, dict.fromkeys(("a.wav", "b.mp3", "c.mp3"), b""))
    assert set(recordings(open_catalog("folder", options, Store("memory://empty"))).values()) == {None}


def test_stretches_of_one_file(tmp_path: Path) -> None:
    """Two songs of a mix are two recordings; the same stretch of two copies is one, and so is the whole mix."""
    (tmp_path / "mix.wav").write_bytes(b"mix")
    (tmp_path / "copy.wav").write_bytes(b"mix")
    header = "file,artist,labels,song,start_s,duration_s\n"
    rows = "mix.wav,A,x,one,0,9\nmix.wav,B,x,two,9,9\ncopy.wav,C,x,three,9,9\n"
    options = {"data": tmp_path, "table": "t.csv", "name": "own"}
    for extra, recordings in (("", [None, "three", "three"]), ("copy.wav,D,x,whole,,\n", ["one"] * 4)):
        (tmp_path / "t.csv").write_text(header + rows + extra)
        catalog = open_catalog("folder", options, Store("memory://mix"))
        of_song = dict(zip(catalog.strings("song_id"), catalog.strings("recording_id"), strict=True))
        assert [of_song[song] for song in ("one", "two", "three", "whole")[: len(recordings)]] == recordings


def id3v2(title: bytes) -> bytes:
    """A tag as it stands before an MP3's frames: its size in four times seven bits."""
    size = len(title) + 200
    return b"ID3\x04\0\0" + bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0)) + title + bytes(200)


def ape(text: bytes) -> bytes:
    """A tag with a header and a footer; the size counts the footer."""
    size = (len(text) + 32).to_bytes(4, "little")
    frame = b"APETAGEX" + (2000).to_bytes(4, "little") + size + (1).to_bytes(4, "little")
    return frame + b"\0\0\0\xa0" + bytes(8) + text + frame + b"\0\0\0\x80" + bytes(8)


def test_tags_are_no_music(tmp_path: Path) -> None:
    music = b"\xff\xfb" + np.random.default_rng(0).bytes(3000)
    files = {
        "plain.mp3": music,
        "id3v2.mp3": id3v2(b"A title") + music,
        "id3v1.mp3": music + b"TAG" + bytes(125),
        "all.MP3": id3v2(b"Another") + music + ape(b"more") + b"TAG" + bytes(125),
        "other.mp3": id3v2(b"A title") + music[::-1],
        "torn.mp3": id3v2(b"A title")[:20],
        "a.flac": b"fLaC\0\0\0\x22" + bytes(18) + b"0123456789abcdef" + b"some frames",
        "b.flac": b"fLaC\0\0\0\x22" + bytes(18) + b"0123456789abcdef" + b"other tags and frames",
        "c.flac": b"fLaC\0\0\0\x22" + bytes(34) + b"some frames",
        "d.flac": b"fLaC\0\0\0\x22" + bytes(34) + b"more frames",
    }
    recording_of = recordings(open_catalog("folder", folder(tmp_path, files), Store("memory://tags")))
    same = {name: recording_of[name] for name in ("plain.mp3", "id3v2.mp3", "id3v1.mp3", "all.MP3")}
    assert set(same.values()) == {"all.MP3"}
    assert recording_of["a.flac"] == recording_of["b.flac"] == "a.flac"
    assert {recording_of[name] for name in ("other.mp3", "torn.mp3", "c.flac", "d.flac")} == {None}


def test_tags_of_real_encoders(tmp_path: Path) -> None:
    soundfile = pytest.importorskip("soundfile")
    wave = np.random.default_rng(0).standard_normal(8000).clip(-1, 1) / 4
    files = {}
    for name, title in (("a.flac", "One"), ("b.flac", "Another and longer"), ("c.flac", "One")):
        with soundfile.SoundFile(tmp_path / name, "w", 8000, 1) as file:
            file.title = title
            file.write(wave if name != "c.flac" else wave[::-1])
        files[name] = (tmp_path / name).read_bytes()
    assert files["a.flac"] != files["b.flac"]
    recording_of = recordings(open_catalog("folder", folder(tmp_path, files), Store("memory://flac")))
    assert recording_of == {"a.flac": "a.flac", "b.flac": "a.flac", "c.flac": None}
