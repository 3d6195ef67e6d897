"""MIDI parsing against pretty_midi, piano rolls against plain loops, and files that are not as they should be."""

from __future__ import annotations

import os
import struct
import warnings
from pathlib import Path

import numpy as np
import pretty_midi
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.embed.inputs import Clip
from stages.embed.inputs.midi import TRACKS, Notes, PianoRollInput, duration_s, read_notes
from stages.embed.inputs.score import MAX_BYTES
from store.errors import ClipError, RequestError


def variable_length(number: int) -> bytes:
    digits = [number & 0x7F]
    while number := number >> 7:
        digits.append(0x80 | number & 0x7F)
    return bytes(reversed(digits))


def on(wait: int, pitch: int, velocity: int = 90, channel: int = 0) -> bytes:
    return variable_length(wait) + bytes([0x90 | channel, pitch, velocity])


def off(wait: int, pitch: int, channel: int = 0) -> bytes:
    return variable_length(wait) + bytes([0x80 | channel, pitch, 0])


def program(number: int, channel: int = 0) -> bytes:
    return bytes([0, 0xC0 | channel, number])


def tempo(wait: int, micros: int) -> bytes:
    return variable_length(wait) + b"\xff\x51\x03" + micros.to_bytes(3, "big")


def midi(*tracks: list[bytes], form: int = 1, division: int = 480, count: int | None = None) -> bytes:
    chunks = [b"".join(events) + b"\x00\xff\x2f\x00" for events in tracks]
    head = b"MThd" + struct.pack(">IHHH", 6, form, len(tracks) if count is None else count, division)
    return head + b"".join(b"MTrk" + struct.pack(">I", len(chunk)) + chunk for chunk in chunks)


SCALE = [on(0, 60), off(480, 60), on(0, 64), off(480, 64)]


@pytest.fixture
def read(tmp_path: Path):
    def notes(data: bytes) -> Notes:
        path = tmp_path / "song.mid"
        path.write_bytes(data)
        return read_notes(path)

    return notes


def refusal(read, data: bytes) -> ClipError:
    with pytest.raises(ClipError) as caught:
        read(data)
    return caught.value


class TestReading:
    @pytest.mark.parametrize("form", [0, 1, 2])
    def test_formats_of_one_track(self, read, form: int) -> None:
        notes = read(midi(SCALE, form=form))
        np.testing.assert_array_equal(notes.pitch, [60, 64])
        np.testing.assert_array_equal(notes.velocity, [90, 90])
        np.testing.assert_allclose(notes.start_s, [0, 0.5])
        np.testing.assert_allclose(notes.end_s, [0.5, 1.0])

    def test_independent_songs_are_refused(self, read) -> None:
        assert refusal(read, midi(SCALE, SCALE, form=2)).kind == "outside"

    def test_programs_and_drums_by_channel(self, read) -> None:
        events = [program(33, 0), program(5, 1), on(0, 40, 90, 0), on(0, 60, 80, 1), on(0, 36, 70, 9)]
        notes = read(midi([*events, off(480, 40, 0), off(0, 60, 1), off(0, 36, 9)]))
        heard = set(zip(notes.pitch.tolist(), notes.is_drum.tolist(), strict=True))
        assert heard == {(40, False), (60, False), (36, True)}
        assert dict(zip(notes.pitch.tolist(), notes.program.tolist(), strict=True))[40] == 33
        assert dict(zip(notes.pitch.tolist(), notes.program.tolist(), strict=True))[60] == 5

    def test_tempo_changes_of_any_track(self, read) -> None:
        notes = read(midi([tempo(0, 500_000)], [*SCALE[:2], tempo(0, 1_000_000), *SCALE[2:]]))
        np.testing.assert_allclose(notes.end_s, [0.5, 1.5])

    def test_the_later_of_two_tempos_at_once_wins(self, read) -> None:
        notes = read(midi([tempo(0, 250_000), tempo(0, 1_000_000), *SCALE]))
        np.testing.assert_allclose(notes.end_s, [1, 2])

    @pytest.mark.parametrize(("frames", "rate_hz"), [(24, 24), (25, 25), (29, 30_000 / 1_001), (30, 30)])
    def test_smpte_time(self, read, frames: int, rate_hz: float) -> None:
        notes = read(midi([tempo(0, 100_000), *SCALE], division=(256 - frames) << 8 | 40))
        np.testing.assert_allclose(notes.end_s, [480 / 40 / rate_hz, 960 / 40 / rate_hz])

    def test_one_note_off_ends_the_note_that_sounds(self, read) -> None:
        struck_twice = [on(0, 60, 50), on(100, 60, 60), off(100, 60), off(280, 60)]
        notes = read(midi(struck_twice, division=100))
        np.testing.assert_allclose(notes.start_s, [0, 0.5])
        np.testing.assert_allclose(notes.end_s, [1.0, 1.0])

    def test_notes_without_length_or_end_are_dropped(self, read) -> None:
        notes = read(midi([on(0, 60), off(0, 60), *SCALE, on(0, 70)]))
        np.testing.assert_array_equal(notes.pitch, [60, 64])

    def test_no_notes_is_no_error_here(self, read, tmp_path: Path) -> None:
        assert len(read(midi([]))) == 0
        assert duration_s(tmp_path / "song.mid") == 0.0

    def test_a_wrong_count_of_tracks_is_read(self, read) -> None:
        assert len(read(midi(SCALE, count=50))) == 2


class TestBadFiles:
    @pytest.mark.parametrize(
        "data",
        [
            b"hello world, this is no MIDI file",
            midi(SCALE)[:20],
            midi(SCALE, form=7),
            midi(SCALE, division=0),
            midi(SCALE, division=0xE700),
            midi([b"\x00\x3c\x5a"]),
            midi([b"\x00\xff\x01\x8f\xff\xff\x7f"]),
            midi([b"\x00\xf0\x8f\xff\xff\x7f"]),
            midi([on(0, 60), off(0x0FFFFFFF, 60)] * 40),
            b"MThd\xff\xff\xff\xff\0\0\0\1\1\xe0" + midi(SCALE)[14:],
        ],
    )
    def test_damaged(self, read, data: bytes) -> None:
        error = refusal(read, data)
        assert error.kind == "damaged"
        assert error.reason
        assert "\n" not in error.reason

    @pytest.mark.parametrize(
        "data",
        [
            midi(SCALE)[:30],
            midi(SCALE)[:-6],
            b"MThd\0\0\0\6\0\0\0\1\1\xe0MTrk\xff\xff\xff\xff" + b"".join(SCALE),
        ],
    )
    def test_truncated(self, read, data: bytes) -> None:
        error = refusal(read, data)
        assert error.kind == "truncated"
        assert "bytes by its header" in error.reason

    @pytest.mark.parametrize(
        "data",
        [b"RIFF\0\0\0\0WAVEfmt ", b"ID3\4" + bytes(40), b"\0\0\0\x20ftypM4A " + bytes(40), b"\x1f\x8b" + bytes(40)],
    )
    def test_what_is_something_else(self, read, data: bytes) -> None:
        assert refusal(read, data).kind == "not-supported"

    def test_empty(self, read) -> None:
        assert refusal(read, b"").kind == "empty"

    def test_longer_than_a_day(self, read) -> None:
        assert refusal(read, midi([tempo(0, 0xFFFFFF), on(0, 60), off(1_000_000, 60)], division=1)).kind == "outside"

    def test_too_large_a_file_is_not_parsed(self, tmp_path: Path) -> None:
        path = tmp_path / "large.mid"
        path.write_bytes(midi(SCALE))
        os.truncate(path, MAX_BYTES + 1)
        with pytest.raises(ClipError, match="outside"):
            read_notes(path)

    def test_missing(self, tmp_path: Path) -> None:
        for path in (tmp_path / "none.mid", tmp_path):
            with pytest.raises(ClipError, match="missing"):
                read_notes(path)

    @given(st.data())
    @settings(max_examples=100)
    def test_changed_bytes_give_notes_or_a_clip_error(self, tmp_path_factory, data: st.DataObject) -> None:
        changed = bytearray(midi([tempo(0, 400_000), program(30), *SCALE], [on(3, 36, 99, 9), off(7, 36, 9)]))
        for _ in range(data.draw(st.integers(1, 8))):
            changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
        path = tmp_path_factory.getbasetemp() / "changed.mid"
        path.write_bytes(changed[: data.draw(st.integers(0, len(changed)))])
        try:
            notes = read_notes(path)
        except ClipError:
            return
        assert (notes.end_s > notes.start_s).all()
        assert (notes.start_s >= 0).all()
        assert np.isfinite(notes.end_s).all()
        assert (notes.velocity <= 127).all()

    @pytest.mark.parametrize("order", ["in turn", "all at once"])
    def test_a_million_notes(self, read, order: str) -> None:
        many = 1_000_000
        events = [on(1, 60) + off(1, 60)] * many if order == "in turn" else [on(1, 60)] * many + [off(1, 60)] * many
        notes = read(midi(events))
        assert len(notes) == many
        assert PianoRollInput().roll(notes, 0.0, float(notes.end_s.max())) is not None


class TestAgainstPrettyMidi:
    """Over the real files; notes that share one note-off, and the sums they go into, are left out of both."""

    def files(self, shared_data: Path) -> list[Path]:
        paths = sorted((shared_data / "lakh" / "midi").glob("*.mid"))
        assert paths
        return paths[::3]

    def oracle(self, path: Path) -> pretty_midi.PrettyMIDI:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of tempo events outside the first track
            return pretty_midi.PrettyMIDI(str(path))

    def test_notes(self, shared_data: Path) -> None:
        notes_in_all = lost = 0
        for path in self.files(shared_data):
            ours, theirs = read_notes(path), self.oracle(path)
            columns = (
                [n.start, n.end, n.pitch, n.velocity, i.is_drum, 0 if i.is_drum else i.program]
                for i in theirs.instruments
                for n in i.notes
            )
            their_rows = sort_rows(np.array(list(columns)))
            our_program = np.where(ours.is_drum, 0, ours.program)
            our_rows = sort_rows(
                np.stack([ours.start_s, ours.end_s, ours.pitch, ours.velocity, ours.is_drum, our_program], axis=1)
            )
            notes_in_all += len(their_rows)
            if len(our_rows) < len(their_rows):
                lost += len(their_rows) - len(our_rows)
                continue
            np.testing.assert_allclose(our_rows, their_rows, rtol=0, atol=1e-9)
        assert lost <= notes_in_all * 1e-4

    def test_cells_are_the_means_of_a_fine_roll(self, shared_data: Path) -> None:
        path = self.files(shared_data)[0]
        theirs = self.oracle(path)
        fine, cells, length_s = 2000, 12, 24.0
        roll = PianoRollInput(frames=cells, low_pitch=0, high_pitch=127).roll(read_notes(path), 8.0, length_s)
        for track, programs in (
            ("piano", range(8)),
            ("bass", range(32, 40)),
            ("guitar", range(24, 32)),
        ):
            played = [i for i in theirs.instruments if not i.is_drum and i.program in programs]
            total = np.zeros((128, int(fine * 32)))
            for instrument in played:
                instrument.pitch_bends = []
                part = instrument.get_piano_roll(fine, pedal_threshold=None)[:, : total.shape[1]]
                total[:, : part.shape[1]] += part
            means = np.minimum(total[:, int(fine * 8) :].reshape(128, cells, -1).mean(axis=2), 127)
            np.testing.assert_allclose(roll[TRACKS.index(track)], means, atol=1.0)


def sort_rows(rows: np.ndarray) -> np.ndarray:
    return rows[np.lexsort(np.round(rows, 6).T[::-1])]


def song(*rows: tuple[float, float, int, int, int, bool]) -> Notes:
    start_s, end_s, pitch, velocity, programs, is_drum = (np.array(column) for column in zip(*rows, strict=True))
    return Notes(
        pitch=pitch.astype(np.uint8),
        velocity=velocity.astype(np.uint8),
        start_s=start_s.astype(float),
        end_s=end_s.astype(float),
        program=programs.astype(np.uint8),
        is_drum=is_drum.astype(bool),
    )


NOTE = st.tuples(
    st.floats(0, 9), st.floats(0.01, 4), st.integers(0, 127), st.integers(1, 127), st.integers(0, 127), st.booleans()
).map(lambda n: (n[0], n[0] + n[1], *n[2:]))


class TestRoll:
    @given(st.lists(NOTE, min_size=1, max_size=20), st.floats(0, 5), st.floats(0.5, 8), st.integers(1, 9))
    @settings(max_examples=80)
    def test_equals_a_loop_over_notes_and_cells(self, rows, start_s: float, length_s: float, frames: int) -> None:
        settings_ = PianoRollInput(frames=frames, low_pitch=20, high_pitch=100)
        expected, anything = np.zeros(settings_.shape), False
        cell_s = length_s / frames
        for begin, end, pitch, velocity, number, is_drum in rows:
            strings = number < 96 or 104 <= number < 112
            family = {0: "piano", 3: "guitar", 4: "bass"}.get(number // 8, "strings" if strings else None)
            track = "drums" if is_drum else family
            if track is None or not 20 <= pitch <= 100:
                continue
            for frame in range(frames):
                left, right = start_s + frame * cell_s, start_s + (frame + 1) * cell_s
                share = max(0.0, min(right, end) - max(left, begin)) / cell_s
                expected[TRACKS.index(track), pitch - 20, frame] += velocity * share
                anything |= share > 1e-9
        roll = settings_.roll(song(*rows), start_s, length_s)
        if anything:
            np.testing.assert_allclose(roll, np.clip(expected, 0, 127), atol=0.5 + 1e-6)
        else:
            assert roll is None or not roll.any()

    def test_the_stretch_is_cut_exactly(self, tmp_path: Path) -> None:
        path = tmp_path / "song.mid"
        path.write_bytes(midi(SCALE))  # C from 0 to 0.5 s, E to 1 s
        roll = PianoRollInput(frames=2).load(Clip(clip_id="c", path=path))
        assert roll.shape == (1, 5, 84, 2)
        assert roll.dtype == np.uint8
        piano = TRACKS.index("piano")
        np.testing.assert_array_equal(roll[0, piano, [60 - 24, 64 - 24]], [[90, 0], [0, 90]])
        later = PianoRollInput(frames=2).load(Clip(clip_id="c", path=path, start_s=0.25, duration_s=0.5))
        np.testing.assert_array_equal(later, roll)
        half = PianoRollInput(frames=1).load(Clip(clip_id="c", path=path, start_s=0.375, duration_s=0.5))
        np.testing.assert_array_equal(half[0, piano, [60 - 24, 64 - 24], 0], [22, 68])  # 22.5 to the even, 67.5
        beyond = PianoRollInput(frames=2).load(Clip(clip_id="c", path=path, start_s=0.0, duration_s=2.0))
        np.testing.assert_array_equal(beyond[0, piano, [60 - 24, 64 - 24]], [[45, 0], [45, 0]])

    @pytest.mark.parametrize(("start_s", "length_s"), [(1.0, None), (5.0, None), (2.0, 3.0), (0.0, 0.0)])
    def test_nothing_sounds(self, tmp_path: Path, start_s: float, length_s: float | None) -> None:
        path = tmp_path / "song.mid"
        path.write_bytes(midi(SCALE))
        with pytest.raises(ClipError, match="no-notes"):
            PianoRollInput().load(Clip(clip_id="c", path=path, start_s=start_s, duration_s=length_s))

    def test_stretches_that_are_none(self, tmp_path: Path) -> None:
        path = tmp_path / "song.mid"
        path.write_bytes(midi(SCALE))
        for length_s in (float("nan"), float("inf")):
            with pytest.raises(ClipError, match="outside"):
                PianoRollInput().load(Clip(clip_id="c", path=path, duration_s=length_s))

    @pytest.mark.parametrize(
        "wrong", [{"frames": 0}, {"frames": 1 << 30}, {"low_pitch": -1}, {"high_pitch": 128}, {"low_pitch": 108}]
    )
    def test_settings_are_checked(self, wrong: dict[str, int]) -> None:
        with pytest.raises(RequestError):
            PianoRollInput(**wrong)
