"""The piano roll as a representation: its settings, its shape, and the way of a clip from file to vector."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from stages import registry
from stages.embed.backbones.pianoroll import PianoRoll
from stages.embed.encode import representation_name
from stages.embed.inputs import Clip
from store.errors import RequestError


def mark(**settings: int) -> str:
    backbone = PianoRoll(PianoRoll.Config(**settings))
    return representation_name(backbone, None).fingerprint


def test_it_is_found_by_its_name() -> None:
    assert registry.find("backbone", "pianoroll") is PianoRoll


def test_shape_follows_the_settings() -> None:
    assert PianoRoll(PianoRoll.Config()).shape == (5 * 84 * 16,)
    assert PianoRoll(PianoRoll.Config(frames=8, low_pitch=36, high_pitch=47)).shape == (5 * 12 * 8,)


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(RequestError, match="frames"):
        PianoRoll.Config(frames=0)


def test_every_setting_decides_the_fingerprint() -> None:
    marks = {mark(), mark(frames=8), mark(low_pitch=25), mark(high_pitch=106)}
    assert len(marks) == 4
    assert mark() == mark(frames=16)


def test_encoding_only_flattens() -> None:
    backbone = PianoRoll(PianoRoll.Config(frames=2))
    batch = torch.randint(0, 128, (3, *backbone.input.shape), dtype=torch.uint8)
    backbone.to(torch.device("cpu"))
    together = backbone.encode(batch)
    assert together.dtype == torch.uint8
    assert together.shape == (3, *backbone.shape)
    assert torch.equal(together[1:2], backbone.encode(batch[1:2]))
    assert torch.equal(together.reshape(batch.shape), batch)


def test_real_songs(shared_data: Path) -> None:
    backbone = PianoRoll(PianoRoll.Config())
    tracks_heard = set()
    for path in sorted((shared_data / "lakh" / "midi").glob("*.mid"))[:8]:
        window = backbone.input.load(Clip(clip_id="c", path=path, start_s=10.0, duration_s=15.0))
        vector = backbone.encode(torch.from_numpy(window)).numpy()
        assert vector.shape == (1, *backbone.shape)
        assert vector.dtype == np.dtype(backbone.dtype)
        assert vector.max() <= 127
        tracks_heard |= set(np.flatnonzero(window[0].any(axis=(1, 2))).tolist())
    assert tracks_heard == set(range(5))
