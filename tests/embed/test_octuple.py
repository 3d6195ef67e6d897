"""OctupleMIDI against a plain encoder written from its description, on made-up scores and on the real files."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from stages.embed.inputs import Clip
from stages.embed.inputs.octuple import (
    FIELDS,
    MAX_STEPS,
    NOTES,
    PAD,
    SIZES,
    OctupleInput,
    decode,
    encode,
    sampled,
    window,
)
from stages.embed.inputs.score import Score, read_score
from store.errors import ClipError, RequestError
from tests.embed.test_midi import SCALE, midi, off, on, program, tempo


def meter(wait: int, numerator: int, exponent: int) -> bytes:
    return bytes([wait, 0xFF, 0x58, 4, numerator, exponent, 24, 8])


SIGNATURES = [(n, 2**i) for i in range(7) for n in range(1, 2 * 2**i + 1)]
DURATION_CODES = [16 * i + j for i in range(8) for j in range(16) for _ in range(2**i)]


def reduced(n: int, d: int) -> tuple[int, int]:
    while d > 64 and d % 2 == 0 and n % 2 == 0:
        n, d = n // 2, d // 2
    while n > 2 * d:
        for divisor in range(2, n + 1):
            if n % divisor == 0:
                n //= divisor
                break
    return n, d


def plain_encoder(score: Score) -> list[tuple[int, ...]]:
    """Note by note and step by step, as the description has it."""

    def steps(ticks: int) -> int:
        return round(ticks * 16 / score.ticks_per_quarter)

    columns = (score.start, score.end, score.program, score.is_drum, score.pitch, score.velocity)
    notes = list(zip(*(column.tolist() for column in columns), strict=True))
    if not notes:
        return []
    end = min(max(steps(note[0]) for note in notes) + 1, 2**16)
    signature, tempos = [(4, 4)] * end, [120.0] * end
    for at, n, d in zip(score.meter_at.tolist(), score.numerator.tolist(), score.denominator.tolist(), strict=True):
        for step in range(steps(at), end):
            signature[step] = reduced(n, d)
    for at, micros in zip(score.tempo_at.tolist(), score.tempo_us.tolist(), strict=True):
        for step in range(steps(at), end):
            tempos[step] = 6e7 / micros
    places = []
    bar, position, length = 0, 0, 0
    for step in range(end):
        if position == 0:
            n, d = signature[step]
            length = n * 64 // d
        places.append((bar, position))
        position += 1
        if position == length:
            bar, position = bar + 1, 0
    octuples = []
    for start, stop, number, is_drum, pitch, velocity in notes:
        step = steps(start)
        if step >= 2**16:
            continue
        length = steps(stop) - step
        octuples.append(
            (
                *places[step],
                128 if is_drum else number,
                pitch + 128 if is_drum else pitch,
                DURATION_CODES[length] if length < len(DURATION_CODES) else 127,
                velocity // 4,
                SIGNATURES.index(signature[step]),
                round(12 * math.log2(min(max(tempos[step], 16), 256) / 16)),
            )
        )
    return sorted(octuples)


TICKS = st.integers(0, 6000)
NOTE = st.tuples(
    TICKS, st.integers(1, 20_000), st.integers(0, 127), st.booleans(), st.integers(0, 127), st.integers(1, 127)
)
METERS = st.lists(st.tuples(TICKS, st.sampled_from([*SIGNATURES, (6, 128), (200, 2), (255, 1)])), max_size=5)
TEMPI = st.lists(st.tuples(TICKS, st.integers(1, (1 << 24) - 1)), max_size=4)


@st.composite
def scores(draw: st.DrawFn) -> Score:
    notes = np.array(draw(st.lists(NOTE, min_size=1, max_size=25)), dtype=np.int64).T
    meters = sorted(draw(METERS), key=lambda change: change[0])
    tempi = [(0, 500_000), *sorted(draw(TEMPI), key=lambda change: change[0])]
    return Score(
        start=notes[0],
        end=notes[0] + notes[1],
        program=notes[2],
        is_drum=notes[3].astype(bool),
        pitch=notes[4],
        velocity=notes[5],
        tempo_at=np.array([at for at, _ in tempi]),
        tempo_us=np.array([micros for _, micros in tempi], dtype=float),
        meter_at=np.array([at for at, _ in meters], dtype=np.int64),
        numerator=np.array([n for _, (n, _) in meters], dtype=np.int64),
        denominator=np.array([d for _, (_, d) in meters], dtype=np.int64),
        ticks_per_quarter=draw(st.sampled_from([1, 24, 96, 100, 480])),
    )


class TestEncoding:
    @given(scores())
    @settings(max_examples=60)
    def test_equals_the_plain_encoder(self, score: Score) -> None:
        octuples = encode(score)
        assert octuples.tolist() == [list(note) for note in plain_encoder(score)]
        assert (octuples >= 0).all()
        assert (octuples[:, 1:] < SIZES[1:]).all()

    @given(scores())
    @settings(max_examples=100)
    def test_decoding_and_encoding_again_is_the_same(self, score: Score) -> None:
        octuples = encode(score)
        notes = decode(octuples)
        assume(notes.start.max(initial=0) < MAX_STEPS)
        np.testing.assert_array_equal(encode(notes), octuples)

    def test_real_songs(self, shared_data: Path) -> None:
        files = sorted((shared_data / "lakh" / "midi").glob("*.mid"))
        notes = 0
        for path in files[::4]:
            score = read_score(path)
            octuples = encode(score)
            assert octuples.tolist() == [list(note) for note in plain_encoder(score)]
            quantised = decode(octuples)
            np.testing.assert_array_equal(encode(quantised), octuples)
            notes += len(octuples)
        assert notes > 30_000

    def test_a_note_by_hand(self, read) -> None:
        # 3/4 at 100 a minute; an A of one and a half quarters on the second beat of the second bar, and a bass drum.
        events = [meter(0, 3, 2), tempo(0, 600_000), program(33), on(4 * 480, 57, 99), on(0, 36, 64, 9)]
        octuples = encode(read(midi([*events, off(720, 57), off(0, 36, 9)])))
        signature = SIGNATURES.index((3, 4))
        beat = round(12 * math.log2(100 / 16))
        assert octuples.tolist() == [
            [1, 16, 33, 57, 16 + (24 - 16) // 2, 24, signature, beat],
            [1, 16, 128, 36 + 128, 16 + (24 - 16) // 2, 16, signature, beat],
        ]

    def test_a_bar_cut_by_a_time_signature_keeps_its_length(self, read) -> None:
        # 3/4 comes two quarters into a bar of 4/4: that bar ends after four, the next has three.
        notes = [off(240, 60) if i % 2 else on(240 if i else 0, 60) for i in range(24)]
        octuples = encode(read(midi(notes, [bytes([0x87, 0x40]) + meter(0, 3, 2)[1:]])))
        assert octuples[:, :2].tolist() == [
            *([0, 16 * i] for i in range(4)),
            *([1, 16 * i] for i in range(3)),
            *([2, 16 * i] for i in range(3)),
            *([3, 16 * i] for i in range(2)),
        ]
        assert octuples[:, 6].tolist() == [SIGNATURES.index((4, 4))] * 2 + [SIGNATURES.index((3, 4))] * 10

    def test_frames_instead_of_beats_are_120_a_minute(self, read) -> None:
        octuples = encode(read(midi(SCALE, division=(256 - 25) << 8 | 40)))  # E after 0.48 s, which is 0.96 quarters
        assert octuples[:, 1].tolist() == [0, round(0.96 * 16)]
        assert set(octuples[:, 7]) == {round(12 * math.log2(120 / 16))}

    def test_a_million_notes_and_none(self, read) -> None:
        octuples = encode(read(midi([on(1, 60) + off(1, 60)] * 1_000_000)))
        assert len(octuples) == 65_535.5 * 30 // 2  # that begin before step 65,536: 30 ticks a step, a note every 2
        assert encode(read(midi([]))).shape == (0, len(FIELDS))


class TestBadFiles:
    @pytest.mark.parametrize(("numerator", "exponent"), [(3, 7), (0, 2), (7, 9)])
    def test_time_signatures_without_a_code(self, read, numerator: int, exponent: int) -> None:
        with pytest.raises(ClipError):
            encode(read(midi([meter(0, numerator, exponent), *SCALE])))

    def test_where_they_are_not_in_force_they_do_not_matter(self, read) -> None:
        after = meter(0, 3, 7)
        assert len(encode(read(midi([after, meter(0, 3, 2), *SCALE, meter(0, 5, 7)])))) == 2

    @pytest.mark.parametrize(
        ("data", "kind"),
        [
            (midi([on(0, 60), b"\0\xff\x01\x8f\xff\xff\x7f"]), "damaged"),
            (midi(SCALE)[:30], "truncated"),
            (midi(SCALE, SCALE, form=2), "outside"),
            (midi([]), "no-notes"),
            (b"", "empty"),
        ],
    )
    def test_clips_that_cannot_be_read(self, tmp_path: Path, data: bytes, kind: str) -> None:
        (tmp_path / "song.mid").write_bytes(data)
        with pytest.raises(ClipError) as caught:
            OctupleInput().load(Clip(clip_id="c", path=tmp_path / "song.mid"))
        assert caught.value.kind == kind


class TestWindows:
    @pytest.mark.parametrize(("notes", "count"), [(1, 1), (1024, 1), (1026, 3), (3072, 3), (3073, 4), (50_000, 4)])
    def test_three_or_four_of_a_long_song(self, notes: int, count: int) -> None:
        firsts = sampled(notes)
        assert len(firsts) == len(set(firsts)) == count
        assert firsts[0] == 0
        assert count == 1 or firsts[-1] == notes - NOTES

    def test_bars_count_from_the_first_note(self, shared_data: Path) -> None:
        path = sorted((shared_data / "lakh" / "midi").glob("*.mid"))[0]
        octuples = encode(read_score(path))
        later = window(octuples, 1000, 200)
        assert later[0, 0] == 0
        np.testing.assert_array_equal(later[:, 1:], octuples[1000:1200, 1:])
        np.testing.assert_array_equal(later[:, 0], octuples[1000:1200, 0] - octuples[1000, 0])

    def test_bars_beyond_the_vocabulary_are_left_out(self) -> None:
        octuples = np.zeros((300, len(FIELDS)), dtype=np.int32)
        octuples[:, 0] = 7 + np.arange(300)
        assert window(octuples, 0)[:, 0].tolist() == list(range(SIZES[0]))

    def test_loading_a_stretch_and_a_song(self, tmp_path: Path) -> None:
        path = tmp_path / "song.mid"
        path.write_bytes(midi([on(240 if i else 0, 30 + i) + off(240, 30 + i) for i in range(40)]))  # two in a second
        reader = OctupleInput(notes=16)
        windows = reader.load(Clip(clip_id="c", path=path))
        assert windows.shape == (3, 16, len(FIELDS))
        assert windows.dtype == np.int16
        assert windows[:, 0, 3].tolist() == [30, 42, 54]
        part = reader.load(Clip(clip_id="c", path=path, start_s=4.0, duration_s=2.5))
        assert part.shape == (1, 16, len(FIELDS))
        assert part[0, :5, 3].tolist() == [38, 39, 40, 41, 42]
        assert (part[0, 5:] == PAD).all()
        with pytest.raises(ClipError, match="no-notes"):
            reader.load(Clip(clip_id="c", path=path, start_s=30.0, duration_s=2.5))

    def test_settings_are_checked(self) -> None:
        with pytest.raises(RequestError, match="notes"):
            OctupleInput(notes=1025)


@pytest.fixture
def read(tmp_path: Path):
    def score(data: bytes) -> Score:
        (tmp_path / "song.mid").write_bytes(data)
        return read_score(tmp_path / "song.mid")

    return score
