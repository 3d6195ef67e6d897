"""Lakh MIDI: its three subsets, labels by file and by recording, artists by way of the Million Song Dataset."""

from __future__ import annotations

import hashlib
import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from stages.embed.datasets._msd import read_assignments, read_matches, read_summary
from stages.embed.datasets.lakh import Lakh
from stages.head.fit import count
from stages.head.graph.homophily import homophily
from stages.head.heads.artist import Artist
from stages.head.open import from_catalog
from store.errors import RequestError
from store.schema import Catalog
from tests.embed.trees import TRACKS, midi, write_matches, write_summary

FILES = [midi(20.0 + 10 * i, 40 + i) for i in range(5)]
MD5 = [hashlib.md5(data).hexdigest() for data in FILES]


@pytest.fixture
def lakh(tmp_path: Path) -> Path:
    """Five files, four of them labelled; 0 and 1 are versions of the first track, 2 matches two tracks."""
    for md5, data in zip(MD5, FILES, strict=True):
        (tmp_path / "lmd_full" / md5[0]).mkdir(parents=True, exist_ok=True)
        (tmp_path / "lmd_full" / md5[0] / f"{md5}.mid").write_bytes(data)
    topmagd = {MD5[0]: ["Pop_Rock", "Pop_Rock"], MD5[1]: ["Pop_Rock"], MD5[2]: ["Jazz", "Rap"], MD5[3]: ["Stage "]}
    maps = {"topmagd": topmagd, "masd": {MD5[0]: ["Dance"]}, "magd": topmagd}
    (tmp_path / "midi_genre_map.json").write_text(json.dumps(maps))
    matches = {
        TRACKS[0]: {MD5[0]: 0.7, MD5[1]: 0.9},
        TRACKS[1]: {MD5[2]: 0.6},
        TRACKS[2]: {MD5[2]: 0.8, MD5[4]: 0.8},
    }
    write_matches(tmp_path / "match_scores.json", matches)
    summary = [
        (TRACKS[1], "ARWRONG1187B9AAAA0", "Nobody's", "Elsewhere", "Another"),
        (TRACKS[0], "ARABBA01187B9AAAA1", "Motörhead", "Ace of Spades", "Ace of Spades"),
        (TRACKS[2], "ARVARI01187B9AAAA2", "Various Artists", "", "Untitled"),
    ]
    write_summary(tmp_path / "msd_summary_file.h5", summary)
    return tmp_path


def by_song(catalog: Catalog) -> dict[str, dict[str, Any]]:
    return {row["song_id"]: row for row in catalog.table.to_pylist()}


def test_a_file_is_a_song_and_its_best_match_tells_the_artist(lakh: Path) -> None:
    catalog = Lakh(data=lakh, clips=0).catalog()
    rows = by_song(catalog)
    assert set(rows) == set(MD5[:4])
    first, second, third, last = (rows[md5] for md5 in MD5[:4])
    assert first["path"] == f"lmd_full/{MD5[0][0]}/{MD5[0]}.mid"
    assert (first["labels"], last["labels"]) == (["Pop_Rock"], ["Stage"])
    assert (first["artist_id"], first["artist_name"]) == ("ARABBA01187B9AAAA1", "Motörhead")
    assert (first["album_id"], first["title"]) == ("ARABBA01187B9AAAA1/Ace of Spades", "Ace of Spades")
    assert (third["artist_id"], third["artist_name"], third["album_id"]) == (None, "Various Artists", None)
    assert [row["recording_id"] for row in (first, second, third, last)] == [TRACKS[0], TRACKS[0], TRACKS[2], None]


def test_versions_of_a_recording_are_never_parted(lakh: Path) -> None:
    rng = np.random.default_rng(0)
    md5s = [rng.bytes(16).hex() for _ in range(120)]
    tracks = [f"TRAAA{chr(65 + i // 26)}{chr(65 + i % 26)}128F425B14B" for i in range(40)]
    (lakh / "midi_genre_map.json").write_text(json.dumps({"topmagd": {md5: ["Jazz"] for md5 in md5s}}))
    write_matches(
        lakh / "match_scores.json", {track: dict.fromkeys(md5s[i::40], 0.5) for i, track in enumerate(tracks)}
    )
    data = from_catalog(Lakh(data=lakh).catalog())
    assert len(np.unique(data.song)) == 120
    assert data.recording is not None
    part = data.split("random", 0)
    for recording in range(40):
        assert len(np.unique(part[data.recording == recording])) == 1


def test_stretches_are_cut(lakh: Path) -> None:
    catalog = Lakh(data=lakh).catalog()
    clips = [id_ for id_ in catalog.strings("clip_id") if str(id_).startswith(MD5[1])]
    assert clips == [f"{MD5[1]}@0+15", f"{MD5[1]}@15+15"]
    assert len(Lakh(data=lakh, clips=1, clip_s=20.0).catalog()) == 4


def test_the_matched_subset(lakh: Path) -> None:
    folder = lakh / "lmd_matched/A/A/B" / TRACKS[2]
    folder.mkdir(parents=True)
    other = lakh / "lmd_matched/A/A/A" / TRACKS[1]
    other.mkdir(parents=True)
    (folder / f"{MD5[2]}.mid").write_bytes(FILES[2])
    (other / f"{MD5[2]}.mid").write_bytes(FILES[2])
    catalog = Lakh(data=lakh, subset="matched", clips=0).catalog()
    rows = by_song(catalog)
    assert set(rows) == set(MD5[:3])
    assert rows[MD5[2]]["path"] == f"lmd_matched/A/A/B/{TRACKS[2]}/{MD5[2]}.mid"
    assert rows[MD5[0]]["path"] == f"lmd_matched/A/A/A/{TRACKS[0]}/{MD5[0]}.mid"
    assert catalog.info.notes == (f"2 of 3 labelled files not under {lakh / 'lmd_matched'}",)


def test_the_clean_subset(lakh: Path) -> None:
    for name, data in (
        ("ABBA/Waterloo.mid", 0),
        ("ABBA/Waterloo.1.mid", 1),
        ("Björk/Army of Me.mid", 2),
        ("X/Y.mid", 4),
    ):
        (lakh / "clean_midi" / name).parent.mkdir(parents=True, exist_ok=True)
        (lakh / "clean_midi" / name).write_bytes(FILES[data])
    catalog = Lakh(data=lakh, subset="clean", clips=0).catalog()
    rows = by_song(catalog)
    assert set(rows) == {"ABBA/Waterloo", "ABBA/Waterloo.1", "Björk/Army of Me"}
    version = rows["ABBA/Waterloo.1"]
    assert (version["artist_id"], version["title"], version["labels"]) == ("ABBA", "Waterloo", ["Pop_Rock"])
    assert version["recording_id"] == rows["ABBA/Waterloo"]["recording_id"] == "abba/waterloo"
    assert catalog.info.notes == ("1 of 4 files left out: no label",)


def test_labels_by_recording(lakh: Path) -> None:
    text = f"# tagtraum genre annotations\n{TRACKS[0]}\tRock\n{TRACKS[1]}\tJazz\tBlues\n{TRACKS[2]}\tRap\n"
    (lakh / "msd_tagtraum_cd1.cls").write_text(text)
    rows = by_song(Lakh(data=lakh, labels="msd_tagtraum_cd1.cls", clips=0).catalog())
    assert rows[MD5[0]]["labels"] == ["Rock"]
    assert rows[MD5[2]]["labels"] == ["Rap", "Jazz", "Blues"]  # the best match first
    assert set(rows) == {MD5[0], MD5[1], MD5[2], MD5[4]}


def test_artists_of_ones_own(lakh: Path) -> None:
    (lakh / "artists.tsv").write_text(f"md5\tartist\n{MD5[0]}\tThe Beatles\n{MD5[1]}\t\n{MD5[2]}.mid\tV.A.\n")
    rows = by_song(Lakh(data=lakh, artists="artists.tsv", clips=0).catalog())
    assert [rows[md5]["artist_id"] for md5 in MD5[:4]] == ["The Beatles", None, None, None]


def test_what_is_not_known_is_said(lakh: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (lakh / "match_scores.json").unlink()
    (lakh / "lmd_full" / MD5[0][0] / f"{MD5[0]}.mid").unlink()
    catalog = Lakh(data=lakh, clips=0).catalog()
    assert set(catalog.strings("artist_id")) == {None}
    message = capsys.readouterr().err
    assert "1 of 4 labelled files not under" in message
    assert "versions of one recording is not known" in message
    assert "no artist is known: put match_scores.json and msd_summary_file.h5" in message


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("match_scores.json", "{", "cannot be read as JSON"),
        ("match_scores.json", "[]", "map from track to files"),
        ("match_scores.json", '{"TRX": {}}', "'TRX' is no track"),
        ("match_scores.json", json.dumps({TRACKS[0]: {"../x": 1.0}}), r"'\.\./x' with 1\.0"),
        ("match_scores.json", json.dumps({TRACKS[0]: {MD5[0]: "high"}}), "'high', and an MD5 with a confidence"),
        ("midi_genre_map.json", '{"masd": {}}', "unknown map in .* 'topmagd'; have: masd"),
        ("msd_summary_file.h5", "no HDF5", "cannot be read as HDF5"),
    ],
)
def test_damaged_files(lakh: Path, name: str, text: str, words: str) -> None:
    (lakh / name).write_text(text)
    with pytest.raises(RequestError, match=words):
        Lakh(data=lakh).catalog()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"{TRACKS[0]}\tRock\n{TRACKS[0]}\tJazz\n", "line 2: TRAAAGR128F425B14B stands in an earlier line"),
        (f"{TRACKS[0]} Rock\n", "line 1: .* is no track"),
        (f"\n{TRACKS[0]}\tRock\tPop\tJazz\n", "line 2: .* is no track"),
    ],
)
def test_assignments_that_are_none(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "x.cls"
    path.write_text(text)
    with pytest.raises(RequestError, match=words):
        read_assignments(path)


def test_a_summary_of_another_release(tmp_path: Path) -> None:
    path = tmp_path / "msd_summary_file.h5"
    with h5py.File(path, "w") as file:
        file["metadata/songs"] = np.zeros(1, [("artist_id", "S32"), ("title", "S10")])
    with pytest.raises(RequestError, match="lacks artist_name, release"):
        read_summary(path, {TRACKS[0]})
    with h5py.File(path, "w") as file:
        file["metadata"] = h5py.ExternalLink("other.h5", "/metadata")
    with pytest.raises(RequestError, match="has no table /metadata/songs"):
        read_summary(path, {TRACKS[0]})


def test_wrong_requests(lakh: Path, tmp_path: Path) -> None:
    (tmp_path / "a.cls").write_text(f"{TRACKS[3]}\tRock\n")
    with pytest.raises(RequestError, match="names none of the recordings"):
        Lakh(data=lakh, labels="a.cls").catalog()
    (lakh / "match_scores.json").unlink()
    with pytest.raises(RequestError, match=r"match_scores\.json says which file is which"):
        Lakh(data=lakh, labels="a.cls").catalog()
    with pytest.raises(RequestError, match=r"no artist/title\.mid under"):
        Lakh(data=lakh, subset="clean").catalog()
    with pytest.raises(RequestError, match="Did you mean matched"):
        Lakh(subset="match")
    with pytest.raises(RequestError, match="magd, masd, topmagd"):
        Lakh(genres="msd")


def test_matches_go_by_confidence_then_by_name(tmp_path: Path) -> None:
    path = tmp_path / "match_scores.json"
    write_matches(path, {TRACKS[2]: {MD5[0]: 0.5}, TRACKS[1]: {MD5[0]: 0.5}, TRACKS[0]: {MD5[0]: 0.4}})
    assert read_matches(path) == {MD5[0]: [TRACKS[1], TRACKS[2], TRACKS[0]]}


@cache
def official(folder: Path, **options: Any) -> Catalog:
    """The catalog of the official label map, read once for all tests."""
    return Lakh(data=folder, artists="artists.tsv", clips=0, **options).catalog()


@pytest.mark.parametrize(
    ("genres", "songs", "labels"), [("topmagd", 22_535, 13), ("masd", 17_785, 25), ("magd", 23_496, 21)]
)
def test_the_official_label_map(shared_data: Path, genres: str, songs: int, labels: int) -> None:
    catalog = official(shared_data / "lakh", genres=genres)
    assert len(catalog) == len(set(catalog.strings("song_id"))) == songs
    assert len({label for each in catalog.column("labels").to_pylist() for label in each}) == labels


def test_the_real_files_and_their_artists(shared_data: Path) -> None:
    catalog = Lakh(data=shared_data / "lakh", artists="artists.tsv").catalog()
    here = np.array([str(path).startswith("midi/") for path in catalog.strings("path")])
    assert len({song for song, there in zip(catalog.strings("song_id"), here, strict=True) if there}) > 40
    data = from_catalog(catalog)
    songs = from_catalog(official(shared_data / "lakh", genres="topmagd"))
    shares = homophily(songs.artist, songs.labels)
    assert {name: round(100 * (share or 0), 2) for name, share in shares.items()} == {
        "exact": 51.26,
        "jaccard": 64.42,
        "any": 77.57,
    }
    hits: list[bool] = []
    for part in data.parts("random-5fold", 0):
        decisions = count(Artist, data, part, Artist.Config())[0]["most frequent"].decision
        hits += (decisions & data.labels)[(data.artist >= 0) & (part == 2)].any(axis=1).tolist()
    assert np.mean(hits) > 0.5


def test_links_out_of_the_clean_subset_are_passed_over(lakh: Path, tmp_path: Path) -> None:
    (lakh / "clean_midi/ABBA").mkdir(parents=True)
    (lakh / "clean_midi/ABBA/One.mid").write_bytes(FILES[0])
    outside = tmp_path.parent / f"{tmp_path.name}-outside.mid"
    outside.write_bytes(FILES[1])
    (lakh / "clean_midi/ABBA/Two.mid").symlink_to(outside)
    assert set(Lakh(data=lakh, subset="clean", clips=0).catalog().strings("song_id")) == {"ABBA/One"}


@pytest.mark.parametrize("subset", ["full", "matched", "clean"])
def test_files_without_a_label_where_asked(lakh: Path, subset: str) -> None:
    place = {"full": "lmd_full/x", "matched": f"lmd_matched/A/A/A/{TRACKS[2]}", "clean": "clean_midi/ABBA"}[subset]
    (lakh / place).mkdir(parents=True, exist_ok=True)
    for md5, data in zip(MD5[3:], FILES[3:], strict=True):
        (lakh / place / f"{md5}.mid").write_bytes(data)
    rows = by_song(Lakh(data=lakh, subset=subset, clips=0, unlabelled=True).catalog())
    name = f"ABBA/{MD5[4]}" if subset == "clean" else MD5[4]
    assert rows[name]["labels"] == []
    labelled = by_song(Lakh(data=lakh, subset=subset, clips=0).catalog())
    assert {song: rows[song] for song in labelled} == labelled
    assert set(rows) == {*labelled, *([name] if subset != "matched" else [name, MD5[3]])}


def test_linked_folders_and_names_that_are_no_text(
    lakh: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    """Files in a folder that is linked into the collection, from within it and from elsewhere."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (lakh / "lmd_full").rename(elsewhere / "lmd_full")
    (lakh / "lmd_full").symlink_to(elsewhere / "lmd_full")
    Lakh(data=lakh, clips=0).catalog()
    message = capsys.readouterr().err
    assert "1 link to a folder out of" in message
    assert "not followed: 'lmd_full'; --follow-links" in message
    assert "4 of 4 labelled files not under" in message
    followed = Lakh(data=lakh, clips=0, follow_links=True).catalog()
    assert followed.info.follow_links
    assert "not under" not in capsys.readouterr().err
    assert all((lakh / str(path)).is_file() for path in followed.strings("path"))


def test_titles_of_the_clean_subset_that_are_not_read(lakh: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = lakh / "clean_midi"
    (folder / "ABBA").mkdir(parents=True)
    (folder / "ABBA" / "One.mid").write_bytes(FILES[0])
    (folder / "ABBA" / "deep").mkdir()
    (folder / "ABBA" / "deep" / "Two.mid").write_bytes(FILES[1])
    outside = lakh.parent / "outside.mid"
    outside.write_bytes(FILES[2])
    (folder / "ABBA" / "Link.mid").symlink_to(outside)
    try:
        (Path(os.fsdecode(os.fsencode(folder) + b"/ABBA/mod\x85.mid"))).write_bytes(FILES[3])
    except OSError:
        pytest.skip("this file system holds no names but UTF-8")
    catalog = Lakh(data=lakh, subset="clean", clips=0).catalog()
    assert catalog.strings("path") == ["clean_midi/ABBA/One.mid"]
    message = capsys.readouterr().err
    assert "1 file is a link out of" in message
    assert r"'clean_midi/ABBA/mod\x85.mid'" in message
    followed = Lakh(data=lakh, subset="clean", clips=0, follow_links=True).catalog()
    assert followed.strings("path") == ["clean_midi/ABBA/Link.mid", "clean_midi/ABBA/One.mid"]
