"""Tags of formats that no encoder here writes: MP4 and ASF as mutagen gives them, APEv2 in a file."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mutagen
import pytest
from mutagen.apev2 import APEv2
from mutagen.asf import ASFTags, ASFUnicodeAttribute
from mutagen.mp4 import MP4FreeForm, MP4Tags

from stages.embed.tags import Tags, read_tags

MBID = "d87e52c5-bb8d-4da8-b941-9f4928627dc8"
EXPECTED = Tags(
    artist=("A & B",),
    artists=("A", "B"),
    album_artist=("A",),
    album="First",
    title="One",
    year=1999,
    track=3,
    genre=("Rock", "Pop"),
    compilation=True,
    gain_db=-6.2,
    artist_mbids=(MBID,),
    album_mbid=MBID,
)


def mp4() -> MP4Tags:
    def free(*texts: str) -> list[MP4FreeForm]:
        return [MP4FreeForm(text.encode()) for text in texts]

    own = "----:com.apple.iTunes:"
    tags: Any = MP4Tags()
    tags.update(
        {"\xa9ART": ["A & B"], "aART": ["A"], "\xa9alb": ["First"], "\xa9nam": ["One"], "\xa9gen": ["Rock\0Pop"]}
    )
    tags.update({"\xa9day": ["1999-05-01"], "trkn": [(3, 12)], "cpil": True, f"{own}ARTISTS": free("A", "B")})
    tags.update({f"{own}replaygain_track_gain": free("-6.20 dB"), f"{own}MusicBrainz Artist Id": free(MBID)})
    tags[f"{own}MusicBrainz Album Id"] = free(MBID)
    return tags


def asf() -> ASFTags:
    values = {
        "Author": ["A & B"],
        "WM/ARTISTS": ["A", "B"],
        "WM/AlbumArtist": ["A"],
        "WM/AlbumTitle": ["First"],
        "Title": ["One"],
        "WM/Year": ["1999"],
        "WM/TrackNumber": ["3"],
        "WM/Genre": ["Rock", "Pop"],
        "WM/IsCompilation": ["1"],
        "replaygain_track_gain": ["-6.20 dB"],
        "MusicBrainz/Artist Id": [MBID],
        "MusicBrainz/Album Id": [MBID],
    }
    tags: Any = ASFTags()
    for name, texts in values.items():
        tags[name] = [ASFUnicodeAttribute(text) for text in texts]
    return tags


@pytest.mark.parametrize("tags", [mp4(), asf()], ids=["mp4", "asf"])
def test_every_tag_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tags: Any) -> None:
    path = tmp_path / "a.m4a"
    path.write_bytes(bytes(100))
    monkeypatch.setattr(mutagen, "File", lambda _path: SimpleNamespace(tags=tags))
    assert read_tags(path) == EXPECTED


def test_ape_tags_behind_an_mp3(tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    path.write_bytes(b"\xff\xfb" + bytes(500))
    tags: Any = APEv2()
    tags.update({"Artist": "A & B", "Artists": ["A", "B"], "Album Artist": "A", "Album": "First", "Title": "One"})
    tags.update({"Year": "1999", "Track": "3/12", "Genre": ["Rock", "Pop"], "Compilation": "1"})
    tags.update({"REPLAYGAIN_TRACK_GAIN": "-6.20 dB", "MUSICBRAINZ_ARTISTID": MBID, "MUSICBRAINZ_ALBUMID": MBID})
    tags.save(path)
    assert read_tags(path) == EXPECTED
