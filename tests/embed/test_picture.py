"""Songs as pictures: what is loud is seen where it is."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pretty_midi
import pytest
import soundfile
from numpy.typing import NDArray

from stages.embed.picture import picture
from store.errors import ClipError

RATE_HZ = 16_000


def pixels(image: dict[str, Any]) -> NDArray[np.uint8]:
    return np.frombuffer(base64.b64decode(image["data"]), np.uint8).reshape(image["rows"], image["columns"])


def test_tones_lie_in_their_bands_and_at_their_time(tmp_path: Path) -> None:
    time = np.arange(2 * RATE_HZ) / RATE_HZ
    sound = np.concatenate([0.5 * np.sin(2 * np.pi * 300 * time), 0.25 * np.sin(2 * np.pi * 3000 * time)])
    soundfile.write(tmp_path / "tones.wav", sound, RATE_HZ)
    view = picture(tmp_path / "tones.wav", 60)
    assert (view["kind"], view["duration_s"]) == ("audio", 4.0)
    image, wave = pixels(view["image"]), np.array(view["wave"])
    assert image.shape == (64, 600)
    # Evenly spread on the mel scale: 300 Hz is 401.97 mel, 3,000 Hz 1,876 of 2,840.
    first, second = image[:, 20:280].mean(axis=1).argmax(), image[:, 320:580].mean(axis=1).argmax()
    assert abs(first - 64 * 401.97 / 2840) < 2
    assert abs(second - 64 * 1876.5 / 2840) < 2
    assert wave[:299].max() == pytest.approx(0.5, abs=0.01)
    assert wave[301:].max() == pytest.approx(0.25, abs=0.01)
    assert wave[:299].min() == pytest.approx(-0.5, abs=0.01)


@pytest.mark.parametrize("samples", [1, 100, 600, 601, 5000])
def test_short_and_silent_ones(tmp_path: Path, samples: int) -> None:
    soundfile.write(tmp_path / "short.wav", np.zeros(samples), RATE_HZ)
    view = picture(tmp_path / "short.wav", 60)
    assert pixels(view["image"]).shape == (64, min(600, samples))
    assert np.array(view["wave"]).shape == (min(600, samples), 2)


def test_the_same_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    soundfile.write(tmp_path / "noise.wav", 0.1 * rng.standard_normal(RATE_HZ * 3), RATE_HZ)
    expected = picture(tmp_path / "noise.wav", 60)
    monkeypatch.setattr("stages.embed.picture._BLOCK", 4000)
    blocks = picture(tmp_path / "noise.wav", 60)
    assert blocks["wave"] == expected["wave"]
    difference = pixels(blocks["image"]).astype(int) - pixels(expected["image"])
    assert np.abs(difference).mean() < 8  # spectra at a block's edges see silence beyond


def test_a_roll_shows_notes_where_they_sound(tmp_path: Path) -> None:
    midi = pretty_midi.PrettyMIDI()
    piano = pretty_midi.Instrument(program=0)
    piano.notes = [pretty_midi.Note(100, 60, 0.0, 1.0), pretty_midi.Note(50, 72, 1.0, 2.0)]
    midi.instruments.append(piano)
    midi.write(str(tmp_path / "two.mid"))
    view = picture(tmp_path / "two.mid", 60)
    image = pixels(view["image"])
    assert (view["kind"], view["wave"], view["image"]["low"], view["image"]["high"]) == ("midi", None, 58, 74)
    assert (image[60 - 58, :300] == 200).all()
    assert (image[72 - 58, 301:] == 100).all()
    assert not image[72 - 58, :299].any()
    assert np.count_nonzero(image.any(axis=1)) == 2


def test_what_cannot_be_drawn(tmp_path: Path) -> None:
    (tmp_path / "text.mp3").write_text("no song")
    soundfile.write(tmp_path / "long.wav", np.zeros(RATE_HZ * 3), RATE_HZ)
    for name, most_s, kind in (("text.mp3", 60, "damaged"), ("long.wav", 2, "outside"), ("none.wav", 60, "missing")):
        with pytest.raises(ClipError, match=kind):
            picture(tmp_path / name, most_s)
