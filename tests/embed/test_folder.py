"""People's own songs: folders with a table, and folders with files of labels and artists beside them."""

from __future__ import annotations

import json
import unicodedata
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stages.embed.datasets._songs import clip_id, spread
from stages.embed.tables.missing import Missing
from store.errors import RequestError
from tests.embed.folders import by_clip, midi, read, songs


def test_a_row_is_a_song(tmp_path: Path) -> None:
    songs(tmp_path, "a.mp3", "sub dir/b c.FLAC")
    catalog = read(
        tmp_path,
        "file,artist,labels,album,title,split\n"
        "a.mp3,One | Two|Three,rock|pop|rock,First,A title,train\n"
        "sub dir/b c.FLAC,,jazz,,,test\n",
    )
    rows = by_clip(catalog)
    first, second = rows["a.mp3"], rows["sub dir/b c.FLAC"]
    assert (first["song_id"], first["path"], first["start_s"], first["duration_s"]) == ("a.mp3", "a.mp3", None, None)
    assert (first["artist_id"], first["artist_name"], first["other_artist_ids"]) == ("One", "One", ["Two", "Three"])
    assert (first["labels"], first["album_id"], first["title"]) == (["rock", "pop"], "One / First", "A title")
    assert (second["artist_id"], second["other_artist_ids"], second["album_id"]) == (None, None, None)
    assert [first["split_official"], second["split_official"]] == ["train", "test"]
    assert (catalog.info.name, catalog.info.backbone, catalog.info.data_root) == ("own", "fcn", str(tmp_path))


def test_albums_belong_to_their_artists(tmp_path: Path) -> None:
    songs(tmp_path, *(f"{i}.mp3" for i in range(7)))
    artists = ("Queen", "Queen|Bowie", "Abba", "Various Artists", "VARIOUS|Queen", "", "")
    text = "file,artist,labels,album\n" + "".join(f"{i}.mp3,{name},pop,Hits\n" for i, name in enumerate(artists))
    rows = by_clip(read(tmp_path, text))
    albums = [rows[f"{i}.mp3"]["album_id"] for i in range(len(artists))]
    assert albums == [
        "Queen / Hits",
        "Queen / Hits",
        "Abba / Hits",
        "Various Artists / Hits",
        "VARIOUS / Hits",
        "Hits",
        "Hits",
    ]


def test_columns_of_other_names_and_lists(tmp_path: Path) -> None:
    songs(tmp_path, "a.mp3", "b.mp3")
    table = pa.table(
        {
            "Path": ["a.mp3", "b.mp3"],
            "Who": pa.array([["One", "Two"], []], pa.list_(pa.string())),
            "Genre": [["rock"], ["jazz", "pop"]],
            "Nr": [12, 7],
        }
    )
    pq.write_table(table, tmp_path / "songs.parquet")
    catalog = read(tmp_path, table="songs.parquet", columns="file=Path,artist=Who,labels=Genre,song=Nr")
    rows = by_clip(catalog)
    assert (rows["12"]["artist_id"], rows["12"]["other_artist_ids"]) == ("One", ["Two"])
    assert (rows["7"]["artist_id"], rows["7"]["labels"]) == (None, ["jazz", "pop"])


WORDS = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zs", "Zl", "Zp"), exclude_characters="|"))
LABELS = WORDS.filter(lambda word: word not in Missing() and unicodedata.is_normalized("NFC", word) and word[0] != "[")


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(WORDS, LABELS), min_size=1, max_size=5))
def test_csv_and_parquet_say_the_same(tmp_path: Path, cells: list[tuple[str, str]]) -> None:
    songs(tmp_path, *(f"{i}.ogg" for i in range(len(cells))))
    table = pa.table(
        {
            "file": [f"{i}.ogg" for i in range(len(cells))],
            "artist": [artist for artist, _ in cells],
            "labels": [label for _, label in cells],
        }
    )
    pq.write_table(table, tmp_path / "songs.parquet")
    quoted = (",".join('"' + str(v).replace('"', '""') + '"' for v in row.values()) for row in table.to_pylist())
    catalog = read(tmp_path, "file,artist,labels\n" + "".join(f"{line}\n" for line in quoted))
    assert catalog.table.equals(read(tmp_path, table="songs.parquet").table)
    assert catalog.column("labels").to_pylist() == [
        [dict(enumerate(label for _, label in cells))[int(song.removesuffix(".ogg"))]]
        for song in map(str, catalog.strings("song_id"))
    ]


def test_a_row_with_times_is_one_stretch(tmp_path: Path) -> None:
    songs(tmp_path, "a.mp3")
    rows = by_clip(
        read(
            tmp_path,
            "file,artist,labels,start_s,duration_s\n"
            "a.mp3,A,x,30,29\na.mp3,A,x,0.25,2.5\na.mp3,A,x,100,\na.mp3,A,x,,7\na.mp3,A,x,,\n",
        )
    )
    assert {row["song_id"] for row in rows.values()} == {"a.mp3"}
    assert {clip: (row["start_s"], row["duration_s"]) for clip, row in rows.items()} == {
        "a.mp3@30+29": (30.0, 29.0),
        "a.mp3@0.25+2.5": (0.25, 2.5),
        "a.mp3@100": (100.0, None),
        "a.mp3@0+7": (None, 7.0),
        "a.mp3": (None, None),
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "path,artist,genre\na.mp3,A,x\n",
            "no column named file or labels; it has: path, artist, genre.*file=path,lab",
        ),
        ("file;artist;genre\na.mp3;A;x\n", "no column named labels; it has: file, artist, genre"),
        (
            "file,artist,labels\na.mp3,A,x\na.mp3,B,y\n",
            r"line 3: the song 'a\.mp3' has the artist 'B' here and 'A' in ",
        ),
        ("file,artist,labels,song\na.mp3,A,x,s\nb.mp3,A,x,s\n", "line 3: 's' stands in .*line 2"),
        ("file,artist,labels\na.mp3,A,\n", r"labels gives no label to any of the songs \(1\).* --unlabelled"),
        ("file,artist,labels\n,A,x\n", "line 2: file is empty"),
        ("file,artist,labels,split\na.mp3,A,x,dev\n", "line 2: split 'dev' is no split; have: train"),
        (
            "file,artist,labels\n/etc/a.mp3,A,x\n",
            r"none of the files .*\(1\) can be read: 1 path leads out of .*/etc/a\.mp3",
        ),
        ("file,artist,labels\n../a.mp3,A,x\n", r"1 path leads out of .* \('\.\./a\.mp3' is the first\)"),
        ("file,artist,labels\nb/../../a.mp3,A,x\n", "1 path leads out of"),
        ("file,artist,labels\na.txt,A,x\n", r"1 file is of no format that is read \('a\.txt' is the first\); have: "),
        (
            "file,artist,labels\nc.mp3,A,x\nd.mp3,A,x\n",
            r"none of the files .*\(2\) .*c\.mp3' is the first\)\. Give the folder",
        ),
        ("file,artist,labels,start_s\na.mp3,A,x,-1\n", "line 2: start_s '-1' is no time in seconds"),
        ("file,artist,labels,start_s\na.mp3,A,x,soon\n", "line 2: start_s 'soon' is no time"),
        ("file,artist,labels,duration_s\na.mp3,A,x,0\n", "line 2: duration_s '0' is no time in seconds, above 0"),
        ("file,artist,labels,duration_s\na.mp3,A,x,inf\n", "line 2: duration_s 'inf' is no time"),
        (
            "file,artist,labels,start_s,split\na.mp3,A,x,0,train\na.mp3,A,x,9,test\n",
            "line 3: the song 'a.mp3' has the split 'test' here and 'train' in .*line 2",
        ),
        ("file,artist,labels,start_s\na.mp3,A,x,0\na.mp3,B,x,9\n", "the artist 'B' here and 'A' in"),
        (
            "file,artist,labels,start_s\na.mp3,A,x|y,0\na.mp3,A,y|x,5\na.mp3,A,y,9\n",
            r"line 4: the song 'a.mp3' has the labels 'y' here and 'x\|y' in .*line 2; .* an id of its own in",
        ),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path: Path, text: str, words: str) -> None:
    root = songs(tmp_path / "root", "a.mp3", "b.mp3", "a.txt")
    songs(tmp_path, "a.mp3")
    with pytest.raises(RequestError, match=words):
        read(root, text)


def test_numbers_that_are_none_in_parquet(tmp_path: Path) -> None:
    songs(tmp_path, "a.mp3", "b.mp3")
    table = pa.table({"file": ["a.mp3", "b.mp3"], "artist": ["A", "A"], "labels": ["x", "x"]})
    empty = table.append_column("start_s", pa.array([None, 2.0]))
    pq.write_table(empty, tmp_path / "songs.parquet")
    assert set(by_clip(read(tmp_path, table="songs.parquet"))) == {"a.mp3", "b.mp3@2"}
    pq.write_table(table.append_column("start_s", pa.array([float("nan"), 2.0])), tmp_path / "songs.parquet")
    assert set(by_clip(read(tmp_path, table="songs.parquet"))) == {"a.mp3", "b.mp3@2"}
    pq.write_table(table.append_column("start_s", pa.array([2.0, float("inf")])), tmp_path / "songs.parquet")
    with pytest.raises(RequestError, match=r"row 1 \(from 0\): start_s inf is no time"):
        read(tmp_path, table="songs.parquet")


def test_the_folder_is_that_of_the_table_where_none_is_given(tmp_path: Path) -> None:
    songs(tmp_path, "a.mp3")
    (tmp_path / "t.tsv").write_text('file\tartist\tlabels\na.mp3\t"Weird Al\tx\n')
    catalog = read(tmp_path, data=None, table=str(tmp_path / "t.tsv"))
    assert catalog.info.data_root == str(tmp_path)
    assert catalog.strings("artist_id") == ['"Weird Al']


def test_of_midi_files_stretches_are_cut(tmp_path: Path) -> None:
    midi(tmp_path / "long.mid", 100.0)
    midi(tmp_path / "two.mid", 40.0)
    midi(tmp_path / "short.mid", 10.0)
    songs(tmp_path, "damaged.mid", "recording.mp3")
    text = "file,artist,labels\n" + "".join(
        f"{name},A,x\n" for name in ("long.mid", "two.mid", "short.mid", "damaged.mid", "gone.mid", "recording.mp3")
    )
    catalog = read(tmp_path, text)
    assert catalog.info.backbone == "pianoroll"
    assert set(by_clip(catalog)) == {
        *(f"long.mid@{start}+15" for start in ("5", "30", "55", "80")),
        *(f"two.mid@{start}+15" for start in ("2.5", "22.5")),
        *("short.mid", "damaged.mid", "gone.mid", "recording.mp3"),
    }
    ids = {clip for clip in by_clip(read(tmp_path, text, clips=2, clip_s=20.0)) if clip.startswith("long")}
    assert ids == {"long.mid@15+20", "long.mid@65+20"}
    assert len(read(tmp_path, text, clips=0)) == 6


def test_of_recordings_where_asked(tmp_path: Path) -> None:
    import soundfile

    soundfile.write(tmp_path / "a.wav", np.zeros(8000 * 12), 8000)
    text = "file,artist,labels\na.wav,A,x\n"
    assert set(by_clip(read(tmp_path, text))) == {"a.wav"}
    assert set(by_clip(read(tmp_path, text, clips=3, clip_s=2.0))) == {"a.wav@1+2", "a.wav@5+2", "a.wav@9+2"}
    assert set(by_clip(read(tmp_path, text, clip_s=12.0))) == {"a.wav"}
    for wrong in ({"clips": -1}, {"clip_s": 0.0}, {"clip_s": float("nan")}):
        with pytest.raises(RequestError, match="--clip"):
            read(tmp_path, text, **wrong)


@given(st.floats(0, 1e4), st.integers(1, 20), st.floats(0.5, 60))
def test_stretches_lie_in_the_song_and_apart(length_s: float, count: int, clip_s: float) -> None:
    stretches = spread(length_s, count, clip_s)
    assert 1 <= len(stretches) <= count
    if stretches == [(None, None)]:
        assert length_s <= clip_s
        return
    assert len(stretches) == min(count, int(length_s // clip_s))
    starts = [start for start, _ in stretches if start is not None]
    assert starts[0] >= -1e-3
    assert starts[-1] + clip_s <= length_s + 1e-3
    assert all(after - before >= clip_s - 2e-3 for before, after in pairwise(starts))
    assert len({clip_id("s", *stretch) for stretch in stretches}) == len(stretches)


def test_real_lakh_files(shared_data: Path) -> None:
    lakh = shared_data / "lakh"
    catalog = read(lakh / "midi", artists="../artists.tsv", labels="../midi_genre_map.json:topmagd")
    assert catalog.info.backbone == "pianoroll"
    assert catalog.info.notes == ("8 of 64 songs left out: midi_genre_map.json has no label for them",)
    artists = dict(zip(catalog.strings("song_id"), catalog.strings("artist_id"), strict=True))
    assert len(artists) == 56
    assert len(catalog) == 56 * 4
    assert len({artist for artist in artists.values() if artist}) == 13
    assert artists["024bdf7815ae8b97ac8cac959cce3c5f.mid"] == "The Beatles"
    known = set(json.loads((lakh / "midi_genre_map.json").read_text())["topmagd"])
    assert {song.removesuffix(".mid") for song in map(str, artists)} <= known


def test_real_recordings(shared_data: Path) -> None:
    lyrics = shared_data / "jamendo-lyrics"
    catalog = read(lyrics / "mp3", table=str(lyrics / "songs.csv"), columns="labels=genre")
    assert len(catalog) == 5
    assert catalog.info.backbone == "fcn"
    assert all((lyrics / "mp3" / str(path)).is_file() for path in catalog.strings("path"))
    artists = catalog.strings("artist_id")
    assert "YUANAN “J.A.R”" in artists
    assert sorted(catalog.column("labels").to_pylist()) == [["Folk"], ["Folk"], ["Hip-Hop"], ["Pop"], ["Reggae"]]
