"""``encore audit``: what it counts, what stands beside the thesis, splits as plain files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.audit import describe
from stages.embed.datasets.mtg import Mtg
from stages.head.audit import audit
from stages.head.graph.homophily import homophily
from store.schema import Catalog, CatalogInfo
from tests.pipeline.conftest import Encore

INFO = CatalogInfo(name="few", title="Few", version="1", licence="CC0", citation="-", backbone="fcn")


def few(**columns: object) -> Catalog:
    """Ten songs: artist a has six, b three, one is unknown."""
    ids = [f"s{i}" for i in range(10)]
    base = {
        "clip_id": ids,
        "song_id": ids,
        "path": ids,
        "artist_id": ["a"] * 6 + ["b"] * 3 + [None],
        "labels": [["rock"]] * 5 + [["rock", "pop"]] + [["jazz"]] * 4,
        "split_official": ["train"] * 4 + ["validation", "test", "test", "test", "validation", "test"],
    }
    return Catalog.build(INFO, base | columns)


def test_what_is_counted() -> None:
    result = audit(few())
    document = result.as_json()
    assert document["label_cardinality"] == {"mean": 1.1, "songs": {"1": 9, "2": 1}, "distinct_sets": 3}
    artists = document["songs_per_artist"]
    assert (artists["mean"], artists["median"], artists["most"]) == (4.5, 4.5, 6)
    assert {songs: count for songs, count in artists["artists"].items() if count} == {"3-5": 1, "6-10": 1}
    official = document["regimes"]["official"]
    assert official["test_with_neighbour"] == 0.75
    assert official["test_with_training_neighbour"] == 0.25
    assert document["thesis"] is None
    assert document["task"] == "multi-label"
    assert "artist (most frequent)" in document["baselines"]["random"]
    assert max(map(len, describe(result).splitlines())) <= 80


def test_what_every_two_parts_share() -> None:
    """Artist a has train, validation and test songs, b validation and test ones; both versions of r are in two."""
    recordings = [None] * 3 + ["r", "r"] + [None] * 5
    result = audit(few(album_id=["x"] * 5 + ["y"] * 5, recording_id=recordings))
    assert result.regimes["official"]["shared"] == {
        "train-validation": {"songs": 0, "albums": 1, "artists": 1, "recordings": 1},
        "train-test": {"songs": 0, "albums": 0, "artists": 1, "recordings": 0},
        "validation-test": {"songs": 0, "albums": 1, "artists": 2, "recordings": 0},
    }
    text = describe(result)
    assert "train, validation      0       1        1           1" in text
    assert "songs of unknown artist: 1 (10.0 %)" in text
    assert "songs by their labels: 9 with 1, 1 with 2" in text


def test_a_song_on_both_sides_of_an_official_split_is_told() -> None:
    """Such a split is the data set's own and taken as it is; nothing that is counted of it falls below 0."""
    songs = ["s0", *(f"s{i}" for i in range(5)), "s0", *(f"s{i}" for i in range(7, 10))]
    result = audit(few(clip_id=[f"c{i}" for i in range(10)], song_id=songs, recording_id=[f"r{i}" for i in songs]))
    assert result.regimes["official"]["shared_songs"] == 1
    text = describe(result)
    assert "songs that stand in train and in test: 1 recordings that stand in train and in test: 1" in " ".join(
        text.split()
    )
    assert "songs that stand" not in describe(audit(few()))
    assert all(
        score is None or 0 <= score <= 1
        for rules in result.baselines.values()
        for scores in rules.values()
        for score in scores.values()
    )


def test_regimes_that_are_not_possible_are_named() -> None:
    result = audit(few())
    assert result.impossible == {
        "album": "no song of this collection has a known album, so there is no album split",
    }
    text = describe(result)
    assert "\nalbum: not possible: no song of this collection has a known album" in text
    assert "albums" not in text.split("\nrandom: ")[1]  # none are known: they cannot be shared
    alone = audit(Catalog(INFO, few().table.slice(0, 1)))
    assert set(alone.impossible) == {"random", "album", "artist", "official"}
    assert "too few groups to divide into 3 parts" in alone.impossible["artist"]


@pytest.mark.usefixtures("unsealed")
def test_an_audit_reads_the_kept_splits_and_keeps_none_of_files(encore: Encore, features_csv: Path) -> None:
    own = ("table", "--table", features_csv, "--name", "own", "--columns", "labels=genre")
    fresh = encore("audit", *own, "--json").json
    assert not encore.store.exists()
    encore("embed", *own)
    table = pq.read_table(encore.store / "own" / "splits.parquet")
    assert table.column_names == ["song_id", "random-0", "artist-0"]
    assert encore("audit", *own, "--json").json == fresh
    swapped = table.set_column(1, "random-0", pa.array((2 - table.column("random-0").to_numpy()).astype(np.int8)))
    pq.write_table(swapped, encore.store / "own" / "splits.parquet")
    for args in (own, ("own",)):
        document = encore("audit", *args, "--json").json["regimes"]["random"]
        assert (document["train"]["songs"], document["test"]["songs"]) == (40, 320)
    encore("audit", "own", "--export", encore.store / "tsv", "--regimes", "random", "--seeds", 2)
    table = pq.read_table(encore.store / "own" / "splits.parquet")
    assert table.column_names == ["song_id", "random-0", "artist-0", "random-1"]
    assert (encore.store / "tsv" / "own-random-seed0.tsv").read_text().count("\ttest") == 320
    rows = encore("head", "own", "--mode", "artist", "--json").json
    assert rows[0]["dataset"] == "own"


def test_homophily_by_edges_and_by_clips() -> None:
    """Against the definitions, edge by edge."""
    rng = np.random.default_rng(0)
    artist = rng.integers(-1, 8, 60)
    targets = rng.random((60, 4)) < 0.4
    values: dict[str, list[list[float]]] = {"exact": [], "jaccard": [], "any": []}
    for i in range(60):
        others = [j for j in range(60) if j != i and artist[j] == artist[i] >= 0]
        if others:
            shared = [int((targets[i] & targets[j]).sum()) for j in others]
            union = [int((targets[i] | targets[j]).sum()) for j in others]
            values["exact"].append([float((targets[i] == targets[j]).all()) for j in others])
            values["jaccard"].append([s / u if u else 1.0 for s, u in zip(shared, union, strict=True)])
            values["any"].append([float(s > 0) for s in shared])
    for name, nodes in values.items():
        assert homophily(artist, targets)[name] == pytest.approx(np.concatenate(nodes).mean())
        assert homophily(artist, targets, per_node=True)[name] == pytest.approx(np.mean([np.mean(n) for n in nodes]))


def test_the_thesis_beside_ours(shared_data: Path) -> None:
    result = audit(Mtg(data=shared_data / "mtg-jamendo").catalog())
    assert result.thesis is not None
    figures = result.thesis["figures"]
    assert figures["songs"] == {"ours": 48_590, "thesis": 48_590}
    assert round(figures["homophily"]["ours"], 4) == figures["homophily"]["thesis"] == 0.2739
    assert result.thesis["why"] == []
    assert result.regimes["official"]["shared_artists"] == 0
    assert result.regimes["random"]["test_with_training_neighbour"] > 0.9
    assert "27.39 %  27.39 %" in describe(result)


def test_an_audit_of_another_version_has_no_thesis(shared_data: Path) -> None:
    catalog = Mtg(data=shared_data / "mtg-jamendo", genres="all").catalog()
    assert audit(Catalog(catalog.info, catalog.table.slice(0, 500))).thesis is None


def test_a_difference_from_the_thesis_is_explained() -> None:
    info = CatalogInfo(
        name="fma",
        title="",
        version="small, genres top",
        licence="",
        citation="",
        backbone="fcn",
        notes=("2 are left",),
    )
    result = audit(Catalog(info, few().table))
    assert result.thesis is not None
    assert result.thesis["figures"]["songs"] == {"ours": 10, "thesis": 8_000}
    assert result.thesis["why"][0] == "2 are left"
    text = describe(result)
    assert "differs" in text
    assert "- 2 are left" in text
    assert max(map(len, text.splitlines())) <= 80


def test_splits_as_plain_files(encore: Encore, midi_folder: Path, tmp_path: Path) -> None:
    """What is exported is read back as the official split of one's own songs."""
    own = ("folder", "--data", midi_folder, "--table", "songs.csv", "--clips", 2)
    out = tmp_path / "splits"
    ran = encore("audit", *own, "--name", "a", "--export", out, "--regimes", "random,artist-3fold", "--seeds", 2)
    names = {path.name for path in out.iterdir()}
    folds = {f"a-artist-3fold-seed{seed}-fold{fold}.tsv" for seed in (0, 1) for fold in (1, 2, 3)}
    assert names == {"a-random-seed0.tsv", "a-random-seed1.tsv"} | folds
    assert "wrote" in ran.err
    first = out / "a-random-seed0.tsv"
    assert first.read_text().splitlines()[0] == "song_id\tsplit"
    assert len(first.read_text().splitlines()) == 25
    again = encore("audit", *own, "--name", "b", "--splits", first, "--json").json
    assert again["regimes"]["official"] == encore("audit", *own, "--name", "b", "--json").json["regimes"]["random"]
    encore("audit", *own, "--name", "c", "--export", tmp_path / "all")
    assert {path.name for path in (tmp_path / "all").iterdir()} == {"c-random-seed0.tsv", "c-artist-seed0.tsv"}
    assert "give --export DIR" in encore("audit", *own, "--name", "c", "--regimes", "random", code=2).err
    assert (
        "no official split"
        in encore("audit", *own, "--name", "c", "--export", out, "--regimes", "official", code=2).err
    )


def test_near_copies_of_a_stored_representation(encore: Encore, features_csv: Path) -> None:
    encore("embed", "table", "--table", features_csv, "--name", "own", "--columns", "labels=genre")
    counts = encore("audit", "own", "--near-copies", "--cosine", "0.9", "--json").json["near_copies"]
    assert counts["cosine"] == 0.9
    assert counts["representation"].startswith("features-")
    assert set(counts["regimes"]) == {"random", "artist"}
    assert "near_copies" not in encore("audit", "own", "--json").json
    text = encore("audit", "own", "--near-copies").out
    assert "pairs in two parts" in text
    assert max(map(len, text.splitlines())) <= 80
    refused = encore("audit", "own", "--cosine", "0.9", code=2)
    assert "give --near-copies" in refused.err
