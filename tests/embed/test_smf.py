"""MIDI files whose bytes are not those of the standard, and notes that share a note-off, against plain readings."""

from __future__ import annotations

import io
import struct
from collections import Counter, defaultdict
from pathlib import Path

import mido
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from stages.embed.inputs import remarks
from stages.embed.inputs import score as score_module
from stages.embed.inputs.score import Score, read_score
from stages.embed.inputs.smf import MAX_REWRITTEN_BYTES, rewritten
from store.errors import ClipError
from tests.embed.test_midi import SCALE, midi, off, on, program, tempo, variable_length

Note = tuple[int, int, int, int, bool]  # start, end, pitch, velocity, drums

SONG = midi([tempo(0, 400_000)], [program(33), *SCALE * 4], [on(0, 36, 99, 9), off(480, 36, 9)])


def notes(score: Score) -> Counter[Note]:
    columns = (score.start, score.end, score.pitch, score.velocity, score.is_drum)
    return Counter(zip(*(column.tolist() for column in columns), strict=True))


@pytest.fixture
def read(tmp_path: Path):
    def score(data: bytes, *, every_note: bool = False) -> tuple[Counter[Note], list[str]]:
        (tmp_path / "song.mid").write_bytes(data)
        with remarks() as mends:
            counts = notes(read_score(tmp_path / "song.mid", every_note=every_note))
        assert all(kind == "mended" for kind, _ in mends)
        return counts, [reason for _, reason in mends]

    return score


def with_last_length(data: bytes, more: int) -> bytes:
    at = data.rindex(b"MTrk") + 4
    return data[:at] + struct.pack(">I", int.from_bytes(data[at : at + 4], "big") + more) + data[at + 4 :]


ODDITIES = {
    "RIFF around it": (b"RIFF" + struct.pack("<I", len(SONG) + 12) + b"RMIDdata" + struct.pack("<I", len(SONG)) + SONG),
    "128 bytes of MacBinary": b"\0\x08song.mid" + bytes(118) + SONG,
    "an empty line": b"\r\n" + SONG,
    "a longer header": SONG[:4] + b"\0\0\0\x0a" + SONG[8:14] + b"more" + SONG[14:],
    "a track longer than it says": with_last_length(SONG, -5),
    "a track shorter than it says": with_last_length(SONG, 50),
    "a tempo of 0": midi(
        [tempo(0, 0), tempo(0, 400_000)], [program(33), *SCALE * 4], [on(0, 36, 99, 9), off(480, 36, 9)]
    ),
    "a delta with needless bytes": midi(
        [tempo(0, 400_000)], [b"\x80\x80\x80\x80\0" + program(33)[1:], *SCALE * 4], [on(0, 36, 99, 9), off(480, 36, 9)]
    ),
    "running status behind a system exclusive": midi(
        [tempo(0, 400_000)],
        [program(33), *SCALE * 4],
        [on(0, 36, 99, 9), b"\0\xf0\x03\x41\x10\xf7" + variable_length(480) + b"\x24\0"],
    ),
    "running status behind a text": midi(
        [tempo(0, 400_000)],
        [program(33), *SCALE * 4],
        [on(0, 36, 99, 9), b"\0\xff\x01\x02la" + variable_length(480) + b"\x24\0"],
    ),
}


@pytest.mark.parametrize("oddity", ODDITIES)
def test_odd_files_hold_the_notes_of_the_plain_one(read, oddity: str) -> None:
    expected, none = read(SONG)
    assert not none
    assert len(expected) == 9
    counts, reasons = read(ODDITIES[oddity])
    assert counts == expected
    assert reasons or "text" in oddity  # which symusic reads as it is


def test_values_above_127_are_clamped_as_mido_clamps_them(read) -> None:
    data = midi([b"\0\xb0\x07\xc8", on(0, 60, 200), off(480, 60), on(0, 0xF5), off(480, 0xF5)])
    counts, reasons = read(data)
    assert counts == Counter({(0, 480, 60, 127, False): 1, (480, 960, 127, 90, False): 1})
    assert "Get control_value=200" in reasons[0]


EVENT = st.one_of(
    st.tuples(st.just("note"), st.integers(0, 300), st.integers(0, 127), st.integers(0, 127), st.integers(0, 15)),
    st.tuples(
        st.just("between"), st.integers(0, 300), st.sampled_from([b"\xff\x01\x02la", b"\xf0\x02\x41\xf7", b"\xf8"])
    ),
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=st.lists(EVENT, max_size=30), longer=st.integers(-4, 60), padding=st.integers(0, 4))
def test_rewriting_keeps_what_any_spelling_says(tmp_path: Path, events: list, longer: int, padding: int) -> None:
    """Running status behind anything, needless bytes in deltas, wrong lengths: the events are those spelled out."""
    plain, odd, status = [], [], 0
    for kind, wait, *rest in events:
        delta = b"\x80" * padding + variable_length(wait)
        if kind == "note":
            pitch, velocity, channel = rest
            plain.append(on(wait, pitch, velocity, channel))
            odd.append(
                delta + (b"" if status == 0x90 | channel else bytes([0x90 | channel])) + bytes([pitch, velocity])
            )
            status = 0x90 | channel
        else:
            plain.append(variable_length(wait) + b"\xff\x01\0")
            odd.append(delta + rest[0])
    parsed = [
        mido.MidiFile(file=io.BytesIO(data)) for data in (midi(plain), rewritten(with_last_length(midi(odd), longer)))
    ]
    mine, theirs = ([(m.dict(), at) for m, at in timed(file)] for file in parsed)
    assert mine == theirs


def timed(file: mido.MidiFile) -> list:
    now, counts = 0, []
    for message in file.tracks[0]:
        now += message.time
        if message.type == "note_on":
            counts.append((message.copy(time=0), now))
    return counts


def transcribed(events: list[tuple[int, int, int, int]]) -> Counter[Note]:
    """The notes of (delta, channel, pitch, velocity), 0 for a note-off, as the parser of MusicBERT's authors has it.

    A note-off ends every note of its channel and pitch that began before it. Those that begin with it sound on where it
    ended others, and are lost where it ended none.
    """
    counts: Counter[Note] = Counter()
    begun: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
    now = 0
    for delta, channel, pitch, velocity in events:
        now += delta
        if velocity:
            begun[channel, pitch].append((now, velocity))
            continue
        notes = begun.pop((channel, pitch), [])
        ended = [note for note in notes if note[0] != now]
        counts.update((start, now, pitch, loud, channel == 9) for start, loud in ended)
        if ended and len(ended) < len(notes):
            begun[channel, pitch] = [note for note in notes if note[0] == now]
    return counts


NOTES = st.lists(
    st.tuples(
        st.sampled_from([0, 0, 1, 5]), st.sampled_from([0, 9]), st.integers(60, 61), st.sampled_from([0, 0, 50, 99])
    ),
    max_size=40,
)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=NOTES, other=NOTES)
def test_every_note_that_a_note_off_ends_is_kept(tmp_path: Path, events: list, other: list) -> None:
    spelled = [
        [on(delta, pitch, velocity, channel) for delta, channel, pitch, velocity in part] for part in (events, other)
    ]
    path = tmp_path / "song.mid"
    path.write_bytes(midi(*spelled))
    assert notes(read_score(path, every_note=True)) == transcribed(events) + transcribed(other)


def test_three_notes_with_one_note_off(read) -> None:
    data = midi([on(0, 60, 50), on(10, 60, 60), on(10, 60, 70), off(10, 60)])
    assert read(data)[0] == Counter({(0, 30, 60, 50, False): 1})
    expected = {(0, 30, 60, 50, False): 1, (10, 30, 60, 60, False): 1, (20, 30, 60, 70, False): 1}
    assert read(data, every_note=True)[0] == Counter(expected)


def test_real_songs_keep_every_note(shared_data: Path) -> None:
    total = 0
    for path in sorted((shared_data / "lakh" / "midi").glob("*.mid"))[::4]:
        expected: Counter[Note] = Counter()
        for track in mido.MidiFile(path, clip=True).tracks:
            expected += transcribed(
                [
                    (wait, message.channel, message.note, message.velocity if message.type == "note_on" else 0)
                    for wait, message in waits(track)
                ]
            )
        counts = notes(read_score(path, every_note=True))
        assert counts == expected
        total += sum(counts.values())
    assert total > 30_000


def waits(track: mido.MidiTrack) -> list:
    """Notes on and off with the ticks since the one before."""
    counts, wait = [], 0
    for message in track:
        wait += message.time
        if message.type in ("note_on", "note_off"):
            counts.append((wait, message))
            wait = 0
    return counts


def test_real_files_that_the_parser_refuses(shared_data: Path) -> None:
    """What mido reads is read, with the same notes; of the others a reason is given."""
    read, kinds = 0, set()
    for path in sorted((shared_data / "midi-broken").glob("*.mid")):
        try:
            theirs = mido.MidiFile(path, clip=True)
            struck = sum(m.type == "note_on" and m.velocity > 0 for track in theirs.tracks for m in track)
        except (EOFError, OSError, ValueError):
            struck = 0
        try:
            with remarks() as reasons:
                score = read_score(path)
        except ClipError as error:
            kinds.add(error.kind)
            assert not struck
            continue
        assert reasons[0][0] == "mended"
        assert not struck or 0.99 * struck <= len(score) <= struck
        read += 1
    assert read >= 22
    assert kinds == {"truncated", "damaged"}


def test_a_file_that_is_too_large_to_mend_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "song.mid").write_bytes(midi([b"\0\xb0\x07\xc8", *SCALE]) + bytes(MAX_REWRITTEN_BYTES))
    with pytest.raises(ClipError, match="outside"):
        read_score(tmp_path / "song.mid")


@pytest.mark.parametrize("tracks", [0, 1])
def test_tracks_that_the_header_does_not_count(tmp_path: Path, tracks: int) -> None:
    track = b"\0\x90\x3c\x40\x60\x80\x3c\x40\0\xff\x2f\0"
    chunks = 2 * (b"MTrk" + len(track).to_bytes(4, "big") + track)
    path = tmp_path / "a.mid"
    path.write_bytes(b"MThd\0\0\0\6\0\1" + tracks.to_bytes(2, "big") + b"\0\x60" + chunks)
    with remarks() as kinds:
        assert len(read_score(path)) == 2
    assert [kind for kind, _ in kinds] == ["mended"]


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lead=st.binary(max_size=200).filter(lambda lead: b"MThd" not in lead),
    more=st.binary(max_size=30),
    is_riff=st.booleans(),
    longer=st.integers(-6, 40),
    counted=st.integers(0, 3),
)
def test_odd_wrapping_counts_and_lengths_together(
    read, lead: bytes, more: bytes, is_riff: bool, longer: int, counted: int
) -> None:
    data = with_last_length(SONG, longer)
    data = data[:7] + bytes([6 + len(more)]) + data[8:10] + counted.to_bytes(2, "big") + data[12:14] + more + data[14:]
    if is_riff:
        data = b"RIFF" + struct.pack("<I", len(data) + 12) + b"RMIDdata" + struct.pack("<I", len(data)) + data
    else:
        assume(not lead.startswith((b"ID3", b"\x1f\x8b")) and lead[4:8] != b"ftyp")
        data = lead + data
    try:
        counts, reasons = read(data)
    except ClipError as error:
        assert error.kind == "truncated"  # noqa: PT017
        assert longer > 0
        return
    assert counts == read(SONG)[0]
    assert bool(reasons) == bool(is_riff or lead or more or longer or counted < 3)


@pytest.mark.parametrize("every_note", [False, True])
def test_notes_that_nothing_ends_are_not_looked_for(read, monkeypatch: pytest.MonkeyPatch, *, every_note: bool) -> None:
    """However many there are: going through a file event by event takes seconds for each MiB."""
    monkeypatch.setattr(score_module, "rewritten", lambda *_, **__: pytest.fail("went through the events"))
    data = midi([on(0, 60, 50), off(10, 60), *(on(1, 60 + i % 3, 64) for i in range(20_000))])
    counts, reasons = read(data, every_note=every_note)
    assert (sum(counts.values()), reasons) == (1, [])


def test_a_track_whose_header_says_that_it_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "a.mid"
    track = b"\0\x90\x3c\x40\x60\x80\x3c\x40\0\xff\x2f\0"
    path.write_bytes(b"MThd\0\0\0\6\0\0\0\1\0\x60MTrk\0\0\0\0" + track)
    with remarks() as kinds:
        assert len(read_score(path)) == 1
    assert [kind for kind, _ in kinds] == ["mended"]
