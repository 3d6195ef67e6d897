"""Which claims hold on stored runs: verdicts by hand, slopes against numpy, and the command."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.head import claims
from stages.head.claims import CLAIMS, Finding
from tests.pipeline.conftest import QUICK, Encore


def write_songs(path: Path, faithful: float) -> Path:
    """240 songs of 40 artists, a share of them with the artist's genre; numbers hint at the genre (synthetic)."""
    rng = np.random.default_rng(0)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["artist", "title", "genre", "tempo", "energy"])
        for song in range(240):
            artist = song % 40
            genre = artist % 4 if rng.random() < faithful else int(rng.integers(4))
            tempo, energy = rng.standard_normal(2) + np.array([genre % 2, genre // 2])
            writer.writerow([f"artist {artist}", f"song {song}", f"genre {genre}", f"{tempo:.4f}", f"{energy:.4f}"])
    return path


def finding(figure: float | None, resampled: list[float], homophily: float | None = None) -> Finding:
    values = None if figure is None else np.array(resampled)
    return Finding(
        dataset="a", representation="r", regime="random", figure=figure, resampled=values, homophily=homophily
    )


@pytest.mark.parametrize(
    ("figure", "resampled", "verdict"),
    [
        (0.1, [0.05, 0.1, 0.15], "held"),
        (-0.1, [-0.05, -0.1, -0.15], "refuted"),
        (0.1, [-0.05, 0.1, 0.15], "undecided"),
        (0.0, [0.0, 0.0, 0.0], "undecided"),  # two modes that decide alike
        (None, [], "not tested"),
    ],
)
def test_verdicts(figure: float | None, resampled: list[float], verdict: str) -> None:
    assert finding(figure, resampled).verdict == verdict


@given(st.integers(3, 8), st.integers(0, 1000))
def test_slopes_are_least_squares(collections: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.random((collections, 5)), rng.standard_normal((collections, 5))
    slopes = [np.polyfit(x[:, i], y[:, i], 1)[0] / 10 for i in range(5)]
    np.testing.assert_allclose(claims._slopes(x, y), slopes, rtol=1e-6, atol=1e-9)


def test_a_gain_that_follows_homophily_is_seen() -> None:
    """Also that a line takes three collections, and that one which lies across them says nothing."""
    rising = [finding(h / 2, list(h / 2 + np.linspace(-0.01, 0.01, 200)), h) for h in (0.1, 0.3, 0.5, 0.7, 0.9)]
    slope = claims._slope("random", rising)
    assert slope.figure == pytest.approx(0.05)
    assert slope.verdict == "held"
    flat = [finding(0.2, list(0.2 + np.linspace(-0.01, 0.01, 200) * (-1) ** i), i / 4) for i in range(4)]
    assert claims._slope("random", flat).verdict == "undecided"
    assert claims._slope("random", rising[:2]).verdict == "not tested"
    assert claims._slope("random", [rising[0]] * 3).verdict == "not tested"


def test_claims_of_several_collections(encore: Encore, tmp_path: Path) -> None:
    for name, faithful in (("even", 0.25), ("mixed", 0.6), ("pure", 1.0)):
        table = write_songs(tmp_path / f"{name}.csv", faithful)
        encore("embed", "table", "--table", table, "--name", name, "--columns", "labels=genre")
        encore("compare", name, "--modes", "song,artist,gnn", "--seeds", 2, *QUICK)
    document = {entry["claim"]: entry for entry in encore("report", "even", "mixed", "pure", "--claims", "--json").json}
    assert list(document) == [claim.name for claim in CLAIMS]
    artist = {row["dataset"]: row for row in document["artist-beats-song"]["findings"]}
    assert set(artist) == {"even", "mixed", "pure", None}
    assert artist["pure"]["verdict"] == "held"
    assert artist["pure"]["homophily"] == 1.0
    low, high = artist["pure"]["interval"]
    assert 0 < low < artist["pure"]["figure"] < high
    single = [artist[name]["figure"] for name in ("even", "mixed", "pure")]
    assert artist[None]["figure"] == pytest.approx(np.mean(single))
    genres = {row["dataset"]: row for row in document["gain-falls-with-genres"]["findings"]}
    assert genres["pure"]["why"] == "all artists have as many genres"
    (grows,) = document["gain-grows-with-homophily"]["findings"]
    assert grows["dataset"] is None
    assert grows["figure"] is not None
    assert {row["why"] for row in document["dropedge-hurts"]["findings"]} == {"no runs of dropedge"}
    text = encore("report", "pure", "--claims").out
    assert max(map(len, text.splitlines())) <= 80
    assert "it takes 3 collections that differ in homophily" in text
    difference = encore("report", "pure", "--modes", "song,artist,gnn", "--json").json["modes"]["artist (top)"][
        "against"
    ]
    assert artist["pure"]["figure"] == pytest.approx(difference["difference"])
    assert artist["pure"]["interval"] == pytest.approx(difference["interval"])


def test_claims_without_runs(encore: Encore, tmp_path: Path) -> None:
    encore(
        "embed", "table", "--table", write_songs(tmp_path / "t.csv", 0.5), "--name", "hits", "--columns", "labels=genre"
    )
    assert (
        "no runs to judge claims by; make some: encore compare hits" in encore("report", "hits", "--claims", code=2).err
    )
    assert "--claims draws nothing" in encore("report", "hits", "--claims", "--plot", "a.png", code=2).err
