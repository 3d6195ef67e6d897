"""``encore similar`` by words: a tiny CLAP with drawn weights over three synthetic songs."""

from __future__ import annotations

from pathlib import Path

import encore as api
import numpy as np
import pytest
import soundfile

from tests.embed.test_clap import opened, published
from tests.pipeline.conftest import Encore


@pytest.fixture
def tones(encore: Encore, tmp_path: Path) -> Encore:
    """Songs called a, b and c, encoded with clap."""
    (tmp_path / "music").mkdir()
    time_s = np.arange(2 * 48_000) / 48_000
    lines = ["file,artist,title,labels"]
    for i, title in enumerate("abc"):
        wave = 0.3 * np.sin(600 * 3**i * time_s) + 0.1 * i * np.random.default_rng(i).standard_normal(len(time_s))
        soundfile.write(tmp_path / "music" / f"{title}.wav", wave / 2, 48_000)
        lines.append(f"{title}.wav,artist {title},{title},tones")
    (tmp_path / "music" / "songs.csv").write_text("\n".join(lines) + "\n")
    published(tmp_path / "clap")
    words = ("--data", tmp_path / "music", "--table", "songs.csv", "--name", "tones", "--set", "window_s=2.0")
    encore("embed", "folder", *words, "--backbone", "clap", "--weights", tmp_path / "clap")
    return encore


def test_songs_near_to_words(tones: Encore, tmp_path: Path) -> None:
    store = api.open_store(tones.store)
    values = api.representation(store, "tones").values.astype(np.float64)
    titles = [song["title"] for song in api.catalog(store, "tones").to_pylist()]
    for query, words in (("soft piano", "soft piano"), ("words:a", "a")):
        vector = opened(tmp_path / "clap").encode_text(words).double().numpy()
        cosines = values @ vector / np.linalg.norm(values, axis=1)
        answer = tones("similar", query, "--dataset", "tones", "--json").json
        assert answer["query"] == f"the words {words!r}"
        assert [song["title"] for song in answer["similar"]] == [titles[i] for i in np.argsort(-cosines)]
        np.testing.assert_allclose(
            [song["similarity"] for song in answer["similar"]], np.sort(cosines)[::-1], atol=1e-5
        )
    answer = tones("similar", "soft piano", "--dataset", "tones", "--artists", "--json").json
    assert len(answer["similar"]) == 3
    assert tones("similar", "a", "--dataset", "tones", "--json").json["query"] == "artist a - a"


def test_words_that_nothing_understands(tones: Encore, tmp_path: Path) -> None:
    words = ("--data", tmp_path / "music", "--table", "songs.csv", "--name", "tones")
    tones("embed", "folder", *words, "--backbone", "mfcc")
    refused = tones("similar", "words:soft piano", "--dataset", "tones", "--backbone", "mfcc", code=2)
    assert "mfcc takes no words; a collection encoded with clap" in refused.err
    refused = tones("similar", "soft piano", "--dataset", "tones", "--backbone", "mfcc", code=2)
    assert "has no encoded song or artist 'soft piano', and there is no such file" in refused.err
    (tmp_path / "clap").rename(tmp_path / "moved")
    refused = tones("similar", "soft piano", "--dataset", "tones", "--backbone", "clap", code=2)
    assert "give them by --weights" in refused.err
