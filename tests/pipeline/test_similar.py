"""``encore similar``: the nearest songs and artists, against the same computed on the whole matrix."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import encore as api
import numpy as np
import pytest

from stages.head import index, similar
from store.layout import RepresentationName, Store
from store.writer import RepresentationWriter
from tests.pipeline.conftest import Encore, embed_table
from tests.pipeline.test_predict import write_song


@pytest.fixture
def hits(encore: Encore, features_csv: Path) -> Encore:
    """400 songs of up to 40 artists, three numbers each."""
    embed_table(encore, features_csv)
    return encore


def expected(hits: Encore, column: str, name: str) -> list[dict[str, Any]]:
    """Every song, the nearest first to the mean of those whose ``column`` is ``name``, with its ``cosine``."""
    store = api.open_store(hits.store)
    x = api.representation(store, "hits").values.astype(np.float64)
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    songs = api.catalog(store, "hits").to_pylist()
    mean = x[[song[column] == name for song in songs]].mean(axis=0)
    cosines = x @ mean / np.linalg.norm(x, axis=1) / np.linalg.norm(mean)
    ranked = [{**song, "cosine": cosine} for song, cosine in zip(songs, cosines.tolist(), strict=True)]
    return sorted(ranked, key=lambda song: -song["cosine"])


def test_songs_near_to_a_song(hits: Encore, monkeypatch: pytest.MonkeyPatch) -> None:
    ranked = expected(hits, "title", "song 7")
    (own,) = (song for song in ranked if song["title"] == "song 7")
    others = [song for song in ranked if song is not own]
    for query in ("song 7", own["song_id"], f"{own['artist_name']} - song 7", "SONG 7"):
        answer = hits("similar", query, "--dataset", "hits", "--count", 5, "--json").json
        assert [song["title"] for song in answer["similar"]] == [song["title"] for song in others[:5]]
        similarities = [song["similarity"] for song in answer["similar"]]
        np.testing.assert_allclose(similarities, [song["cosine"] for song in others[:5]], atol=1e-5, rtol=0)
        assert answer["compared"] == 399
    monkeypatch.setattr(similar, "_CHUNK_BYTES", 1)
    row_by_row = hits("similar", "song 7", "--dataset", "hits", "--count", 5, "--json").json["similar"]
    assert [song["title"] for song in row_by_row] == [song["title"] for song in others[:5]]
    np.testing.assert_allclose([song["similarity"] for song in row_by_row], similarities, atol=1e-6, rtol=0)
    words = ("--not-same-artist", "--filter", "label=genre 2")
    fitting = [s["title"] for s in others if s["artist_id"] != own["artist_id"] and "genre 2" in s["labels"]]
    answer = hits("similar", "song 7", "--dataset", "hits", *words, "--count", 1000, "--json").json
    assert [song["title"] for song in answer["similar"]] == fitting
    text = hits("similar", "song 7", "--dataset", "hits", "--count", 1).out
    assert others[0]["title"] in text
    assert max(map(len, text.splitlines()[1:])) <= 80


def test_artists_near_to_an_artist(hits: Encore) -> None:
    cosines: dict[str, list[float]] = {}
    for song in expected(hits, "artist_name", "artist 3"):
        cosines.setdefault(song["artist_name"], []).append(song["cosine"])
    del cosines["artist 3"]
    means = sorted(((float(np.mean(values)), artist) for artist, values in cosines.items()), reverse=True)[:6]
    for query in ("artist 3", "artist:Artist 3"):
        answer = hits("similar", query, "--dataset", "hits", "--artists", "--count", 6, "--json").json
        assert [artist["artist"] for artist in answer["similar"]] == [artist for _, artist in means]
        similarities = [artist["similarity"] for artist in answer["similar"]]
        np.testing.assert_allclose(similarities, [mean for mean, _ in means], atol=1e-5, rtol=0)


def test_an_artist_of_a_collection_where_some_songs_have_none(encore: Encore, tmp_path: Path) -> None:
    rows = [("a", "Ann", 1, 2), ("b", "Ann", 1, 3), ("c", "", 5, 1), ("d", "Bob", 2, 2)]
    lines = [f"{song},{artist},g,{x},{y}" for song, artist, x, y in rows]
    table = tmp_path / "t.csv"
    table.write_text("\n".join(["song,artist,labels,x,y", *lines]))
    encore("embed", "table", "--name", "few", "--table", table, "--columns", "features=x|y")
    for query in ("Ann", "artist:ann"):
        answer = encore("similar", query, "--dataset", "few", "--json").json
        assert answer["query"] == "artist Ann"
        assert "c" in [song["title"] or song["id"] for song in answer["similar"]]


def test_numbers_of_any_size_are_standardised(encore: Encore, tmp_path: Path) -> None:
    rows = np.random.default_rng(0).standard_normal((30, 3)) * [1e25, 1, 1e-6] + [0, 1e4, 1e-3]
    lines = [f"{number},g,{x!r},{y!r},{z!r}" for number, (x, y, z) in enumerate(rows.tolist())]
    table = tmp_path / "t.csv"
    table.write_text("\n".join(["song,labels,x,y,z", *lines]))
    encore("embed", "table", "--name", "wide", "--table", table, "--columns", "features=x|y|z")
    store = api.open_store(encore.store)
    x = api.representation(store, "wide").values.astype(np.float64)
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    answer = encore("similar", api.catalog(store, "wide").to_pylist()[0]["song_id"], "--dataset", "wide", "--json").json
    similarities = [song["similarity"] for song in answer["similar"]]
    np.testing.assert_allclose(similarities, np.sort(x[1:] @ x[0])[::-1][:10], atol=1e-3, rtol=0)


def test_a_file_and_a_playlist(encore: Encore, midi_folder: Path, tmp_path: Path) -> None:
    table = ("--table", midi_folder / "songs.csv", "--backbone", "pianoroll")
    encore("embed", "folder", "--name", "mine", "--data", midi_folder, *table)
    stored = encore("similar", midi_folder / "söng 3.mid", "--dataset", "mine", "--json").json
    assert stored["query"] == "artist 3 - söng 3.mid"
    new, playlist = tmp_path / "new.mid", tmp_path / "near.m3u"
    write_song(new, 43)
    words = ("--dataset", "mine", "--count", 3, "--json", "--m3u", playlist)
    answer = encore("similar", new, *words).json
    lines = playlist.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "#EXTM3U"
    assert lines[2::2] == [song["file"] for song in answer["similar"]]
    assert all(Path(line).is_file() for line in lines[2::2])
    assert "is no folder" in encore("similar", new, "--m3u", tmp_path / "no" / "near.m3u", code=2).err
    bad = tmp_path / "bad.mid"
    bad.write_bytes(b"")
    assert f"{bad}: " in encore("similar", bad, "--dataset", "mine", code=1).err
    assert "give one of them" in encore("similar", new, "--artists", "--m3u", playlist, code=2).err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("song 1000",),
            "has no encoded song or artist 'song 1000', and there is no such file. Did you mean song 100?",
        ),
        (("artist:song 7",), "has no encoded song or artist 'song 7'"),
        (("song 7", "--filter", "label=polka"), "unknown label 'polka'; have: genre 0"),
        (("song 7", "--filter", "artist=polka"), "no song of hits has that artist"),
        (("song 7", "--filter", "mood=sad"), "unknown filter 'mood'; have: album, artist, label"),
        (("song 7", "--filter", "label"), "a filter is label=NAME"),
        (("song 7", "--backbone", "mfcc"), "has no representation 'mfcc'"),
    ],
)
def test_what_cannot_be_meant(hits: Encore, words: tuple[str, ...], message: str) -> None:
    assert message in hits("similar", *words, "--dataset", "hits", code=2).err


def test_a_title_of_several_songs_is_not_guessed(encore: Encore, tmp_path: Path) -> None:
    lines = ["artist,title,genre,a,b"] + [
        f"artist {i % 3},{['Intro', f'song {i}'][i % 2]},x,{i},{-i}" for i in range(9)
    ]
    path = tmp_path / "table.csv"
    path.write_text("\n".join(lines) + "\n")
    words = ("--columns", "artist=artist,labels=genre,title=title,features=a|b")
    encore("embed", "table", "--name", "hits", "--table", path, *words)
    assert (
        "5 songs are called 'Intro'; name one by its id: "
        in encore("similar", "Intro", "--dataset", "hits", code=2).err
    )


@pytest.mark.parametrize("components", [1, 2, 128])  # too few are followed by all
def test_beyond_what_is_compared_whole_an_index_finds_the_same(
    hits: Encore, components: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It is built once; what it finds is compared exactly, and where that is too little, all is compared."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    words = ("song 7", "--dataset", "hits", "--count", 5)
    exact = hits("similar", *words, "--json").json
    assert exact["recall"] == 1.0
    monkeypatch.setattr(similar, "EXACT", 100)
    monkeypatch.setattr(index, "_CANDIDATES", (40, 80))
    monkeypatch.setattr(index, "_COMPONENTS", components)
    ran = hits("similar", *words, "--json")
    assert "building an index of 400 clips, once" in ran.err
    assert ran.json["recall"] >= index.RECALL
    assert [song["id"] for song in ran.json["similar"]] == [song["id"] for song in exact["similar"]]
    similarities = [song["similarity"] for song in ran.json["similar"]]
    np.testing.assert_allclose(similarities, [song["similarity"] for song in exact["similar"]], atol=1e-5, rtol=0)
    again = hits("similar", *words)
    assert "building" not in again.err
    assert ("by an index that finds" in again.out) == (ran.json["recall"] < 1)
    every = hits("similar", "song 7", "--dataset", "hits", "--count", 399, "--json").json
    assert (every["recall"], len(every["similar"])) == (1.0, 399)
    for more in (("--artists",), ("--filter", "label=genre 1")):  # all are compared
        assert hits("similar", *words, *more, "--json").json["recall"] == 1.0


def test_one_layer_of_several(hits: Encore) -> None:
    """The last by default; each as if only it were stored."""
    store = Store(hits.store)
    catalog = store.read_catalog("hits")
    x = np.random.default_rng(0).standard_normal((len(catalog), 3, 5)).astype(np.float32)
    writer = RepresentationWriter(
        store, catalog, RepresentationName("mert", "0123456789ab"), settings={}, shape=(3, 5), dtype="float32"
    )
    for shard in writer.pending:
        writer.commit(shard, x[list(shard.rows)])
    writer.finish()
    titles = catalog.strings("title")
    place = titles.index("song 7")
    for layer, values in (("0", x[:, 0]), ("mean", x.mean(axis=1)), ("mix", x.reshape(len(x), -1)), (None, x[:, 2])):
        standard = (values - values.mean(axis=0, dtype=np.float64)) / values.std(axis=0, dtype=np.float64)
        unit = standard / np.linalg.norm(standard, axis=1, keepdims=True)
        cosines = unit @ unit[place]
        nearest = [row for row in np.argsort(-cosines).tolist() if row != place][:4]
        words = ("song 7", "--dataset", "hits", "--backbone", "mert", "--count", 4, "--json")
        answer = hits("similar", *words, *(() if layer is None else ("--layer", layer))).json
        assert [song["title"] for song in answer["similar"]] == [titles[row] for row in nearest]
        similarities = [song["similarity"] for song in answer["similar"]]
        np.testing.assert_allclose(similarities, cosines[nearest], atol=1e-5, rtol=0)
    wrong = ("song 7", "--dataset", "hits", "--backbone", "mert", "--layer", 7)
    assert "has no layer '7'" in hits("similar", *wrong, code=2).err
