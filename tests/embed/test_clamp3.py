"""CLaMP 3: MIDI as text, and a tiny network in the published layout beside a slow transcription."""

from __future__ import annotations

from pathlib import Path

import mido
import numpy as np
import pytest
import torch
from torch import Tensor

from stages.embed.backbones.clamp3 import Clamp3, Clamp3Config
from stages.embed.inputs import Clip
from stages.embed.inputs.mtf import MtfInput, as_text, patches
from store.errors import ClipError, RequestError
from tests.embed.transcription import Drawn, attend, gelu, linear, norm

DIM, LAYERS = 64, 2


def weights() -> dict[str, Tensor]:
    """Drawn weights under the published names, with those of the other towers."""
    tensors = Drawn(0.2)
    tensors.linear("symbolic_model.patch_embedding", 64 * 128, DIM)
    base = "symbolic_model.base"
    for name, rows in (("word", 1), ("position", 512), ("token_type", 2)):
        tensors.tensor(f"{base}.embeddings.{name}_embeddings.weight", rows, DIM)
    tensors.norm(f"{base}.embeddings.LayerNorm", DIM)
    for i in range(LAYERS):
        name = f"{base}.encoder.layer.{i}"
        for part in ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"):
            tensors.linear(f"{name}.{part}", DIM, DIM)
        tensors.norm(f"{name}.attention.output.LayerNorm", DIM)
        tensors.linear(f"{name}.intermediate.dense", DIM, 4 * DIM)
        tensors.linear(f"{name}.output.dense", 4 * DIM, DIM)
        tensors.norm(f"{name}.output.LayerNorm", DIM)
    tensors.linear(f"{base}.pooler.dense", DIM, DIM)
    tensors.linear("symbolic_proj", DIM, DIM)
    for tower in ("text", "audio"):
        tensors.linear(f"{tower}_proj", 4, DIM)
        tensors.tensor(f"{tower}_model.embeddings.LayerNorm.weight", 4)
    return tensors.state


def published(path: Path, state: dict[str, Tensor] | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"epoch": 3, "min_eval_loss": 0.5, "model": weights() if state is None else state}, path)
    return path


def opened(path: Path, segments: int = 8) -> Clamp3:
    backbone = Clamp3(Clamp3Config(size="tiny", segments=segments))
    backbone.load(path)
    backbone.to(torch.device("cpu"))
    return backbone


def song(path: Path, notes: int = 12) -> Clip:
    """Two tracks at 100 beats a minute: notes on every half beat, and words."""
    music = mido.MidiFile(ticks_per_beat=480)
    meta, part = mido.MidiTrack(), mido.MidiTrack()
    music.tracks += [meta, part]
    meta.append(mido.MetaMessage("track_name", name="Élégie"))
    meta.append(mido.MetaMessage("set_tempo", tempo=600_000))
    meta.append(mido.MetaMessage("time_signature", numerator=3, denominator=4))
    meta.append(mido.MetaMessage("key_signature", key="F#m"))
    part.append(mido.Message("program_change", channel=2, program=40))
    for i in range(notes):
        part.append(mido.Message("note_on", channel=2, note=60 + i % 12, velocity=64 + i % 7, time=0 if not i else 120))
        part.append(mido.Message("note_off", channel=2, note=60 + i % 12, velocity=0, time=120))
    music.save(path)
    return Clip(clip_id="c", path=path)


def segmented(table: np.ndarray) -> list[tuple[np.ndarray, int]]:
    """Segments of at most 512 patches, the last as long as the others, and what each adds."""
    parts = [(table[first : first + 512], len(table[first : first + 512])) for first in range(0, len(table), 512)]
    return [*parts[:-1], (table[-512:], parts[-1][1])]


def transcribed(state: dict[str, Tensor], parts: list[tuple[np.ndarray, int]]) -> Tensor:
    """[dim] of a clip (Devlin et al. 2019, BERT, over patches whose characters are one-hot side by side)."""
    total, count = torch.zeros(DIM, dtype=torch.float64), 0
    base = "symbolic_model.base"
    kernel = state["symbolic_model.patch_embedding.weight"].reshape(DIM, 64, 128)
    for part, adds in parts:
        columns = [sum(kernel[:, place, code] for place, code in enumerate(patch.tolist())) for patch in part]
        x = torch.stack(columns) + state["symbolic_model.patch_embedding.bias"]
        x = x + state[f"{base}.embeddings.position_embeddings.weight"][: len(x)]
        x = norm(
            state,
            f"{base}.embeddings.LayerNorm",
            x + state[f"{base}.embeddings.token_type_embeddings.weight"][0],
            1e-12,
        )
        for i in range(LAYERS):
            name = f"{base}.encoder.layer.{i}"
            q, k, v = (linear(state, f"{name}.attention.self.{part}", x) for part in ("query", "key", "value"))
            y = linear(state, f"{name}.attention.output.dense", attend(q, k, v, 1))
            x = norm(state, f"{name}.attention.output.LayerNorm", x + y, 1e-12)
            y = linear(state, f"{name}.output.dense", gelu(linear(state, f"{name}.intermediate.dense", x)))
            x = norm(state, f"{name}.output.LayerNorm", x + y, 1e-12)
        total, count = total + adds * linear(state, "symbolic_proj", x.mean(0)), count + adds
    return total / count


def test_midi_becomes_text_as_the_authors_write_it(tmp_path: Path) -> None:
    lines = as_text(song(tmp_path / "a.mid", notes=2))
    assert lines == [
        "ticks_per_beat 480",
        "set_tempo 600000 0",
        "time_signature 3 4 24 8 0",
        "key_signature F#m 0",
        "program_change 0 2 40",
        "note_on 0 2 60 64",
        "note_off 120 2 60 0",
        "note_on 120 2 61 65",
        "note_off 120 2 61 0",
        "end_of_track 0",
    ]
    table = patches(["ticks_per_beat 480", *(["note_on 0 2 60 64"] * 6), "end_of_track 0"])
    texts = [bytes(row).rstrip(b"\0") for row in table]
    assert texts == [
        b"\1" * 64,
        b"\1ticks_per_beat 480\n\2",
        b"\1note_on 0 2 60 64\t0 2 60 64\t0 2 60 64\t0 2 60 64\t0 2 60 64\n\2",
        b"\1note_on 0 2 60 64\n\2",
        b"\1end_of_track 0\2",
        b"\1" + b"\2" * 63,
    ]
    assert len(texts[2]) <= 64


def test_a_stretch_keeps_what_was_in_force(tmp_path: Path) -> None:
    """A note is 0.15 s long, and so is the rest behind it; the stretch begins within the fifth rest."""
    clip = Clip(clip_id="c", path=song(tmp_path / "a.mid").path, start_s=1.4, duration_s=0.5)
    assert as_text(clip) == [
        "ticks_per_beat 480",
        "set_tempo 600000 0",
        "time_signature 3 4 24 8 0",
        "key_signature F#m 0",
        "program_change 0 2 40",
        "note_on 80 2 65 69",
        "note_off 120 2 65 0",
        "note_on 120 2 66 70",
    ]


@pytest.mark.parametrize("notes", [6, 900])
def test_it_gives_what_the_published_network_gives(tmp_path: Path, notes: int) -> None:
    clip = song(tmp_path / "a.mid", notes)
    backbone = opened(published(tmp_path / "clamp3.pth"))
    windows = torch.from_numpy(
        np.concatenate([backbone.input.load(clip), backbone.input.load(song(tmp_path / "b.mid"))])
    )
    vectors = backbone.encode(windows)
    parts = segmented(patches(as_text(clip)))
    assert len(parts) == (1 if notes == 6 else 4)
    expected = transcribed({key: value.double() for key, value in weights().items()}, parts)
    torch.testing.assert_close(vectors[0].double(), expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(backbone.module(windows), vectors, atol=1e-5, rtol=0)


def test_long_songs_are_read_in_part(tmp_path: Path) -> None:
    clip = song(tmp_path / "a.mid", 900)
    parts = segmented(patches(as_text(clip)))
    window = MtfInput(segments=2).load(clip)[0]
    for segment, (part, adds) in zip(window, (parts[0], parts[-1]), strict=True):
        np.testing.assert_array_equal(segment[: len(part)], part)
        assert int.from_bytes(bytes(segment[512, :2]), "little") == adds


def test_every_weight_is_read_or_named(tmp_path: Path) -> None:
    strange = published(tmp_path / "strange.pth", {**weights(), "image_model.weight": torch.zeros(3)})
    with pytest.raises(RequestError, match=r"'image_model.weight' has no place"):
        opened(strange)
    state = weights()
    del state["symbolic_model.base.encoder.layer.1.output.dense.bias"]
    with pytest.raises(RequestError, match=r"'symbolic_model.base.encoder.layer.1.output.dense.bias' is missing"):
        opened(published(tmp_path / "missing.pth", state))
    with pytest.raises(RequestError, match=r"segments must lie in 1\.\.64"):
        Clamp3(Clamp3Config(size="tiny", segments=0))


def test_files_without_music_are_refused(tmp_path: Path) -> None:
    for data, kind in ((b"", "empty"), (b"PK\3\4", "not-supported"), (b"MThd\0\0\0\6\0\0\0\1\0\0MTrk", "damaged")):
        (tmp_path / "x.mid").write_bytes(data)
        with pytest.raises(ClipError) as error:
            MtfInput().load(Clip(clip_id="c", path=tmp_path / "x.mid"))
        assert error.value.kind == kind
    with pytest.raises(ClipError, match="no note begins"):
        MtfInput().load(song(tmp_path / "silent.mid", 0))
