"""The Lakh Pianoroll Dataset: rolls, id lists and label files in their official layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.embed.datasets.lpd import Lpd
from store.errors import RequestError
from store.schema import Catalog
from tests.embed.trees import TRACKS, write_matches, write_roll, write_summary

MD5 = [f"{i}" * 32 for i in range(4)]


def write_song(root: Path, place: str, seconds: int = 40) -> None:
    roll = np.zeros((48 * seconds, 128), dtype=np.uint8)
    roll[:, 60] = 90
    write_roll(root / place, [roll] * 5, [120.0] * len(roll))


def folder_of(track: str) -> str:
    return f"{track[2]}/{track[3]}/{track[4]}/{track}"


@pytest.fixture
def lpd(tmp_path: Path) -> Path:
    """Three cleansed rolls, two of them with labels by recording, and two full ones of one recording."""
    for md5, track in zip(MD5[:3], TRACKS, strict=False):
        write_song(tmp_path, f"lpd_5/lpd_5_cleansed/{folder_of(track)}/{md5}.npz")
    (tmp_path / "cleansed_ids.txt").write_text("".join(f"{m}    {t}\n" for m, t in zip(MD5[:3], TRACKS, strict=False)))
    lists = tmp_path / "id_lists" / "amg"
    lists.mkdir(parents=True)
    (lists / "id_list_Pop_Rock.txt").write_text(f"{TRACKS[0]}\n{TRACKS[3]}\n")
    (lists / "id_list_Jazz.txt").write_text(f"{TRACKS[1]}\n{TRACKS[0]}\n")
    write_summary(
        tmp_path / "msd_summary_file.h5",
        [(track, f"AR{i}", f"Artist {i}", "Album", f"Song {i}") for i, track in enumerate(TRACKS[::-1])],
    )
    return tmp_path


def by_song(catalog: Catalog) -> dict[str, dict[str, Any]]:
    return {row["song_id"]: row for row in catalog.table.to_pylist()}


def test_labels_and_artists_by_recording(lpd: Path) -> None:
    catalog = Lpd(data=lpd, clips=0).catalog()
    rows = by_song(catalog)
    assert set(rows) == set(MD5[:2])
    first = rows[MD5[0]]
    assert first["labels"] == ["Jazz", "Pop_Rock"]
    assert first["path"] == f"lpd_5/lpd_5_cleansed/{folder_of(TRACKS[0])}/{MD5[0]}.npz"
    assert (first["artist_id"], first["title"], first["recording_id"]) == ("AR3", "Song 3", TRACKS[0])
    assert catalog.info.notes[0] == "1 of 3 rolls left out: no label"


def test_stretches_are_cut(lpd: Path) -> None:
    ids = Lpd(data=lpd).catalog().strings("clip_id")
    assert ids[:2] == [f"{MD5[1]}@2.5+15", f"{MD5[1]}@22.5+15"]
    assert len(Lpd(data=lpd, clip_s=10.0, clips=3).catalog()) == 6


def test_label_files_by_recording(lpd: Path) -> None:
    (lpd / "masd_labels.txt").write_text(f"# msd_id, label_num\n{TRACKS[0]}    3\n{TRACKS[2]}    Big Band\n")
    rows = by_song(Lpd(data=lpd, labels="masd_labels.txt", clips=0).catalog())
    assert {song: row["labels"] for song, row in rows.items()} == {MD5[0]: ["3"], MD5[2]: ["Big Band"]}


def test_the_full_rolls(lpd: Path) -> None:
    for md5 in MD5:
        write_song(lpd, f"lpd_5/lpd_5_full/{md5[0]}/{md5}.npz")
    write_matches(lpd / "match_scores.json", {TRACKS[0]: {MD5[0]: 0.9, MD5[3]: 0.5}})
    (lpd / "midi_genre_map.json").write_text(json.dumps({"topmagd": {MD5[0]: ["Rap"], MD5[3]: ["Rap"]}}))
    catalog = Lpd(data=lpd, subset="full", labels="midi_genre_map.json:topmagd", clips=0).catalog()
    rows = by_song(catalog)
    assert set(rows) == {MD5[0], MD5[3]}
    assert {row["recording_id"] for row in rows.values()} == {TRACKS[0]}
    assert rows[MD5[3]]["path"] == f"lpd_5/lpd_5_full/3/{MD5[3]}.npz"


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("cleansed_ids.txt", "abc TR\n", "line 1: 'abc TR' is no MD5 with its track"),
        ("cleansed_ids.txt", f"{MD5[0]} {TRACKS[0]}\n\n{MD5[0]} {TRACKS[1]}\n", "line 3: .* with another track"),
        ("id_lists/amg/id_list_Jazz.txt", "../x\n", r"line 1: '\.\./x' is no track"),
        ("id_lists/amg/id_list_Jazz.txt", "\n", None),
    ],
)
def test_damaged_lists(lpd: Path, name: str, text: str, words: str | None) -> None:
    (lpd / name).write_text(text)
    if words is None:
        assert set(by_song(Lpd(data=lpd, clips=0).catalog())) == {MD5[0]}
        return
    with pytest.raises(RequestError, match=words):
        Lpd(data=lpd).catalog()


def test_absent_files(lpd: Path, tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    with pytest.raises(RequestError, match="no piano roll"):
        Lpd(data=tmp_path / "nothing").catalog()
    (tmp_path / "nothing" / "lists").mkdir()
    with pytest.raises(RequestError, match=r"no id_list_<label>\.txt"):
        Lpd(data=lpd, labels="nothing/lists").catalog()
    with pytest.raises(RequestError, match="Did you mean cleansed"):
        Lpd(subset="cleaned")
    with pytest.raises(RequestError, match="--data DIR"):
        Lpd().catalog()


def test_rolls_without_a_label_where_asked(lpd: Path) -> None:
    catalog = Lpd(data=lpd, clips=0, unlabelled=True).catalog()
    assert {song: row["labels"] for song, row in by_song(catalog).items()} == {
        MD5[0]: ["Jazz", "Pop_Rock"],
        MD5[1]: ["Jazz"],
        MD5[2]: [],
    }
