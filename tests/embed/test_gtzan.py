"""GTZAN: its folders, the fault-filtered split, Sturm's index of artists."""

from __future__ import annotations

from pathlib import Path

import pytest

from stages.embed.datasets.gtzan import GENRES, Gtzan
from store.errors import RequestError

INDEX = """# an index
blues.00000.wav ::: John Lee Hooker ::: One Bourbon, One Scotch, One Beer
rock.00003.wav ::: Various Artists ::: Untitled
jazz.00001.au :::  :::
"""


@pytest.fixture
def gtzan(tmp_path: Path) -> Path:
    for genre in GENRES:
        (tmp_path / "genres" / genre).mkdir(parents=True)
        for number in range(4):
            (tmp_path / "genres" / genre / f"{genre}.{number:05d}.wav").touch()
    (tmp_path / "train_filtered.txt").write_text("blues/blues.00000.wav\njazz/jazz.00001.wav\n")
    (tmp_path / "valid_filtered.txt").write_text("rock/rock.00003.wav\n")
    (tmp_path / "test_filtered.txt").write_text("pop/pop.00002.wav\npop/pop.00009.wav\n")
    (tmp_path / "GTZANindex.txt").write_text(INDEX)
    return tmp_path


def test_the_filtered_split(gtzan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = {row["song_id"]: row for row in Gtzan(data=gtzan).catalog().table.to_pylist()}
    assert set(rows) == {"blues.00000", "jazz.00001", "rock.00003", "pop.00002", "pop.00009"}
    first = rows["blues.00000"]
    assert (first["path"], first["labels"], first["split_official"]) == (
        "genres/blues/blues.00000.wav",
        ["blues"],
        "train",
    )
    assert (first["artist_id"], first["title"]) == ("John Lee Hooker", "One Bourbon, One Scotch, One Beer")
    assert [rows[song]["artist_id"] for song in ("jazz.00001", "rock.00003", "pop.00002")] == [None, None, None]
    assert [rows[song]["split_official"] for song in ("rock.00003", "pop.00002")] == ["validation", "test"]
    assert "1 of 5 songs not under" in capsys.readouterr().err


def test_every_song(gtzan: Path) -> None:
    catalog = Gtzan(data=gtzan, subset="all").catalog()
    assert len(catalog) == 40
    assert catalog.strings("split_official").count(None) == 36
    (gtzan / "test_filtered.txt").unlink()
    assert set(Gtzan(data=gtzan, subset="all").catalog().strings("split_official")) == {None}
    with pytest.raises(RequestError, match=r"lacks test_filtered\.txt; --subset all does without"):
        Gtzan(data=gtzan).catalog()


def test_artists_of_ones_own_and_another_folder(gtzan: Path) -> None:
    (gtzan / "genres").rename(gtzan / "genres_original")
    (gtzan / "artists.csv").write_text("song,artist\nblues.00000.wav,One|Two\n")
    rows = {r["song_id"]: r for r in Gtzan(data=gtzan, artists="artists.csv").catalog().table.to_pylist()}
    assert rows["blues.00000"]["artist_id"] == "One"
    assert rows["blues.00000"]["path"] == "genres_original/blues/blues.00000.wav"


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("train_filtered.txt", "../blues/blues.00000.wav\n", r"train_filtered\.txt, line 1: '\.\./blues"),
        ("train_filtered.txt", "blues/rock.00000.wav\n", "line 1"),
        ("test_filtered.txt", "blues/blues.00000.wav\n", "line 1: blues.00000 stands in train already"),
        ("GTZANindex.txt", "blues.00000.wav, John\n", "line 1: .* is not song ::: artist ::: title"),
    ],
)
def test_what_no_official_list_has(gtzan: Path, name: str, text: str, words: str) -> None:
    (gtzan / name).write_text(text)
    with pytest.raises(RequestError, match=words):
        Gtzan(data=gtzan).catalog()


def test_absent_files(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="no folder blues"):
        Gtzan(data=tmp_path, subset="all").catalog()
    with pytest.raises(RequestError, match="--data DIR"):
        Gtzan().catalog()
    with pytest.raises(RequestError, match="all, filtered"):
        Gtzan(subset="some")
