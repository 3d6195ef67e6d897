"""Piano rolls of the Lakh Pianoroll Dataset as notes."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.embed.inputs import Clip
from stages.embed.inputs.midi import PianoRollInput, duration_s, read_notes
from store.errors import ClipError
from tests.embed.trees import write_roll


def roll(steps: int = 96) -> np.ndarray:
    return np.zeros((steps, 128), dtype=np.uint8)


def rewrite(path: Path, name: str, data: bytes | None) -> None:
    """Put other bytes into one member of the archive, or take it out."""
    with zipfile.ZipFile(path) as archive:
        members = {entry: archive.read(entry) for entry in archive.namelist()}
    members.pop(name)
    with zipfile.ZipFile(path, "w") as archive:
        for entry, content in {**members, **({} if data is None else {name: data})}.items():
            archive.writestr(entry, content)


def npy(values: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, values, allow_pickle=True)
    return buffer.getvalue()


def test_runs_are_notes(tmp_path: Path) -> None:
    drums, piano = roll(), roll()
    drums[0:2, 36] = 100
    piano[24:48, 60] = 80
    piano[48:60, 60] = 90  # another velocity is another note
    piano[72:96, 60] = 90
    path = tmp_path / "a.npz"
    write_roll(path, [drums, piano], [120.0] * 48 + [60.0] * 48)
    notes = read_notes(path)
    np.testing.assert_allclose(notes.start_s, [0, 0.5, 1.0, 2.0])
    np.testing.assert_allclose(notes.end_s, [2 / 48, 1.0, 1.5, 3.0])
    assert notes.velocity.tolist() == [100, 80, 90, 90]
    assert notes.is_drum.tolist() == [True, False, False, False]
    assert duration_s(path) == pytest.approx(3.0)


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(1, 60))
def test_notes_draw_the_roll_again(tmp_path_factory: pytest.TempPathFactory, seed: int, steps: int) -> None:
    rng = np.random.default_rng(seed)
    rolls = [(rng.integers(0, 3, (steps, 128)) * rng.integers(0, 2, (1, 128)) * 40).astype(np.uint8) for _ in range(5)]
    path = tmp_path_factory.mktemp("rolls") / "a.npz"
    write_roll(path, rolls, [100.0] * steps)
    notes = read_notes(path)
    step_s = 60 / 100 / 24
    again = [np.zeros((steps, 128), dtype=np.uint8) for _ in range(5)]
    track = {(True, 0): 0, (False, 0): 1, (False, 24): 2, (False, 32): 3, (False, 48): 4}
    first, last = (np.rint(times / step_s).astype(int) for times in (notes.start_s, notes.end_s))
    for i in range(len(notes)):
        which = track[bool(notes.is_drum[i]), int(notes.program[i])]
        again[which][first[i] : last[i], notes.pitch[i]] = notes.velocity[i]
    for result, original in zip(again, rolls, strict=True):
        np.testing.assert_array_equal(result, original)


def test_the_piano_roll_backbone_reads_it(tmp_path: Path) -> None:
    rolls = [roll() for _ in range(5)]
    for track, cells in enumerate(rolls):
        cells[:, 40 + track] = 60 + track
    path = tmp_path / "a.npz"
    write_roll(path, rolls, [120.0] * 96)
    window = PianoRollInput(frames=8).load(Clip(clip_id="a", path=path))[0]
    for track in range(5):  # LPD-5's tracks and the input's are the same
        assert (window[track, 40 + track - 24] == 60 + track).all()
        assert (window[track] > 0).sum() == 8


def test_no_pickle_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    marker = tmp_path / "opened"

    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return open, (str(marker), "w")  # type: ignore[return-value]

    write_roll(path, [roll()], [120.0] * 96)
    rewrite(path, "tempo.npy", npy(np.array([Trap()], dtype=object)))
    with pytest.raises(ClipError, match=r"damaged.*object, not numbers"):
        read_notes(path)
    rewrite(path, "tempo.npy", pickle.dumps(Trap()))
    with pytest.raises(ClipError, match="damaged"):
        read_notes(path)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("member", "data"),
    [
        ("info.json", None),
        ("info.json", b"{"),
        ("info.json", b'{"beat_resolution": 0}'),
        ("info.json", b'{"beat_resolution": 24, "0": {"program": 999, "is_drum": false}}'),
        ("pianoroll_0_csc_indices.npy", npy(np.array([99_999]))),
        ("pianoroll_0_csc_indptr.npy", npy(np.arange(129)[::-1])),
        ("pianoroll_0_csc_shape.npy", npy(np.array([96, 1 << 40]))),
        ("pianoroll_0_csc_data.npy", npy(np.zeros(10, dtype=np.uint8))[:-3]),
        ("tempo.npy", npy(np.array([0.0, -1.0]))),
        ("tempo.npy", npy(np.array([np.nan]))),
    ],
)
def test_damaged_rolls(tmp_path: Path, member: str, data: bytes | None) -> None:
    path = tmp_path / "a.npz"
    cells = roll()
    cells[3, 60] = 1
    write_roll(path, [cells], [120.0] * 96)
    rewrite(path, member, data)
    with pytest.raises(ClipError, match="damaged"):
        read_notes(path)


def test_a_header_that_promises_too_much_takes_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    write_roll(path, [roll()], [120.0] * 96)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (1 << 50,)})
    rewrite(path, "tempo.npy", header.getvalue())
    with pytest.raises(ClipError, match="cut short"):
        read_notes(path)
    path.write_bytes(b"PK no archive")
    with pytest.raises(ClipError, match="damaged"):
        read_notes(path)
    with pytest.raises(ClipError, match="missing"):
        read_notes(tmp_path / "b.npz")
