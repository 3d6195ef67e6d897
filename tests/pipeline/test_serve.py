"""``encore serve``: the same answers as the command line, to many at once, and none to whom they do not belong."""

from __future__ import annotations

import dataclasses
import json
import shutil
import signal
import socket
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests
import soundfile

from stages.ask.answers import Segment, SimilarTo, SongPrediction
from tests import PATIENCE_S
from tests.pipeline.conftest import Encore
from tests.pipeline.serving import ARTISTS, ODD, QUICK, SONGS, Serving, embed, make_collection, serving, write_recording
from tests.pipeline.test_regression import write_table
from tests.processes import COMMAND, Process

TOKEN = "a token that nobody guesses"
OPENAPI = json.loads((Path(__file__).resolve().parents[2] / "pipeline/page/openapi.json").read_text())


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> Encore:
    return make_collection(tmp_path_factory.mktemp("serve"))


@pytest.fixture(scope="module")
def server(mine: Encore) -> Iterator[Serving]:
    with serving(mine.store) as running:
        yield running


@pytest.fixture(autouse=True)
def uploads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever is handed in is gone in the end."""
    folder = tmp_path / "uploads"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield
    assert list(folder.glob("encore-*")) == []


def song_file(mine: Encore, number: int) -> Path:
    return mine.store.parent / "songs" / f"{number}.wav"


def predicted(mine: Encore, *words: object) -> Any:
    (song,) = mine("predict", *words, "--head", "mine", "--json").json["songs"]
    return song


def test_the_answers_are_those_of_the_command_line(mine: Encore, server: Serving, tmp_path: Path) -> None:
    new = write_recording(tmp_path / "new.wav", 100)
    for path, artist in ((song_file(mine, 3), None), (new, None), (new, "artist 2"), (new, "Nobody")):
        words = () if artist is None else ("--artist", artist)
        ours = server.predict(path, **({} if artist is None else {"artist": artist}))["song"]
        theirs = predicted(mine, path, *words)
        assert ours["scores"] == pytest.approx(theirs["scores"], abs=1e-5)
        same = ("song_id", "part", "artist", "artist_is_stored", "clips", "neighbours", "labels")
        assert {key: ours[key] for key in same} == {key: theirs[key] for key in same}
    (known,) = (server.predict(song="3.wav")["song"],)
    assert known["scores"] == pytest.approx(server.predict(song_file(mine, 3))["song"]["scores"], abs=1e-5)
    assert known["file"] == f"{ODD} 3"


def test_the_artists_share_is_what_the_answer_has_beyond_that_without_an_artist(
    server: Serving, tmp_path: Path
) -> None:
    new = write_recording(tmp_path / "new.wav", 101)
    without, known = server.predict(new)["song"], server.predict(new, artist="artist 1")["song"]
    assert without["alone"] == pytest.approx(without["scores"], abs=1e-6)
    assert known["alone"] == pytest.approx(without["scores"], abs=1e-6)
    assert known["scores"] != pytest.approx(without["scores"], abs=1e-3)


def test_neighbours_and_pictures(mine: Encore, server: Serving, tmp_path: Path) -> None:
    new = write_recording(tmp_path / "new.wav", 102)
    answer = server.predict(new, similar=4, picture=1)
    theirs = mine("similar", new, "--dataset", "mine", "--count", 4, "--json").json["similar"]
    assert [entry["id"] for entry in answer["similar"]["songs"]["similar"]] == [entry["id"] for entry in theirs]
    assert len(answer["similar"]["artists"]["similar"]) == 4
    assert answer["picture"]["kind"] == "audio"
    assert answer["picture"]["duration_s"] == 3.0
    near = server.get("/similar", song="3.wav", count=3, not_same_artist=1, filter="label=genre 1").json()["similar"]
    words = ("--count", 3, "--not-same-artist", "--filter", "label=genre 1")
    theirs = mine("similar", "3.wav", "--dataset", "mine", *words, "--json").json["similar"]
    assert [entry["id"] for entry in near] == [entry["id"] for entry in theirs]
    assert all("file" not in entry and entry["listen"] for entry in near)
    artists = server.get("/similar", query="artist 1", artists=1).json()["similar"]
    assert "artist 1" not in [entry["artist"] for entry in artists]
    assert server.get("/picture", song="3.wav").json()["image"]["rows"] == 64


def test_songs_are_found_and_heard(mine: Encore, server: Serving) -> None:
    every = server.get("/songs", count=5, first=2).json()
    assert (every["count"], len(every["songs"])) == (SONGS, 5)
    songs = server.get("/songs", search="ARTIST 2").json()["songs"]
    assert {song["artist"] for song in songs} == {"artist 2"}
    content = song_file(mine, 3).read_bytes()
    answer = server.get("/listen", {"Range": "bytes=10-19"}, song="3.wav")
    assert (answer.status_code, answer.content) == (206, content[10:20])
    assert server.get("/listen", song="3.wav").content == content


def test_many_at_once_each_get_their_own_answer(server: Serving, tmp_path: Path) -> None:
    """Those of one artist whom nobody knows are no neighbours of each other: they come from different people."""
    paths = [write_recording(tmp_path / f"{number}.wav", 200 + number) for number in range(8)]
    artists = [{"artist": "Nobody"}, {"artist": "artist 1"}, {}, {"artist": "Nobody"}] * 2
    alone = [server.predict(path, **artist)["song"] for path, artist in zip(paths, artists, strict=True)]
    with ThreadPoolExecutor(40) as askers:
        ask = askers.map(lambda path, artist: server.predict(path, **artist)["song"], paths * 5, artists * 5)
        answers = list(ask)
    for answer, expected in zip(answers, alone * 5, strict=True):
        assert (answer["file"], answer["neighbours"]) == (expected["file"], expected["neighbours"])
        assert answer["scores"] == pytest.approx(expected["scores"], abs=1e-5)
        assert answer["alone"] == pytest.approx(expected["alone"], abs=1e-5)
    assert {answer["neighbours"] for answer in answers} == {0, SONGS // ARTISTS}
    metrics = server.get("/metrics").text
    counts = dict(line.rsplit(" ", 1) for line in metrics.splitlines() if not line.startswith("#"))
    assert int(counts["encore_songs_total"]) >= 48
    assert int(counts["encore_batches_total"]) <= int(counts["encore_songs_total"])
    assert int(counts['encore_requests_total{path="/predict",status="200"}']) >= 48


def test_what_cannot_be_judged_is_refused_and_harms_nothing(server: Serving, tmp_path: Path) -> None:
    recording = write_recording(tmp_path / "whole.wav", 103)
    long = write_recording(tmp_path / "long.wav", 104, seconds=61)
    files = {
        "text.mp3": b"this is no audio",
        "empty.wav": b"",
        "song.mid": b"MThd",
        "song.exe": b"MZ",
        "cut.wav": recording.read_bytes()[:60],
    }
    messages = {
        "text.mp3": "damaged: is no audio",
        "empty.wav": "empty: has no bytes",
        "song.mid": "not-supported: is named .mid, and the head reads audio",
        "song.exe": "not-supported: is named .exe, and the head reads audio",
        "cut.wav": ": ",
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        answer = server.post(tmp_path / name, similar=3, picture=1)
        assert (answer.status_code, messages[name] in answer.json()["error"]) == (422, True), answer.text
    answer = server.post(long)
    assert (answer.status_code, "outside: is longer than 1 minute: 1.0" in answer.text) == (422, True)
    assert server.predict(recording)["song"]["clips"] == 1


@pytest.mark.parametrize(
    ("path", "query", "status", "message"),
    [
        ("/similar", {}, 400, "one of query (a title or an artist) and song"),
        ("/similar", {"query": "/etc/passwd"}, 400, "has no encoded song or artist '/etc/passwd'"),
        ("/similar", {"song": "../songs/3.wav"}, 404, "mine has no song '../songs/3.wav'"),
        ("/similar", {"song": "3.wav", "count": "many"}, 400, "'many' is no number"),
        ("/similar", {"song": "3.wav", "filter": "label=polka"}, 400, "unknown label 'polka'"),
        ("/songs", {"count": "201"}, 400, "'201' is no number from 0 to 200"),
        ("/songs", {"first": "²"}, 400, "'²' is no number"),
        ("/picture", {"song": "/etc/passwd"}, 404, "mine has no song '/etc/passwd'"),
        ("/listen", {"song": "../../songs/3.wav"}, 404, "no recording"),
        ("/page/../routes.py", {}, 404, "there is no such path here"),
        ("/predict", {}, 405, "/openapi.json tells how"),
    ],
)
def test_requests_that_cannot_be_meant(
    server: Serving, path: str, query: dict[str, str], status: int, message: str
) -> None:
    answer = server.get(path, **query)
    assert (answer.status_code, message in answer.json()["error"]) == (status, True), answer.text


def test_forms_that_cannot_be_meant(server: Serving, mine: Encore) -> None:
    assert server.post(song="no song").status_code == 404
    for answer in (server.post(similar=1), server.post(song_file(mine, 1), song="1.wav")):
        assert (answer.status_code, "one of the fields file and song" in answer.json()["error"]) == (400, True)
    url, broken = f"{server.url}/predict", {"Content-Type": "multipart/form-data; boundary=x"}
    field = b'--x\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n'
    many = b"".join(field % (b"f%d" % number, b"x") for number in range(9)) + b"--x--\r\n"
    for body in (b"--y\r\n", b"\x1f\x8b", field % (b"artist", b"a" * 2000) + b"--x--\r\n", many):
        answer = requests.post(url, data=body, headers=broken, timeout=PATIENCE_S)
        assert (answer.status_code, "send multipart/form-data" in answer.json()["error"]) == (400, True)
    assert requests.post(url, json={"song": "1.wav"}, timeout=PATIENCE_S).status_code == 400
    answer = server.post(song_file(mine, 1), "../../../etc/söng\x00.wav")
    assert answer.status_code == 200
    assert "/" not in answer.json()["song"]["file"]
    for name in ("", ".", ".."):
        assert server.post(song_file(mine, 1), name).status_code in (200, 400)


def test_a_stored_song_is_answered_whoever_is_named(server: Serving, mine: Encore) -> None:
    assert server.predict(song_file(mine, 1), artist="Nobody")["song"]["artist"] == "artist 1"


def test_an_upload_above_the_limit_is_stopped(server: Serving, tmp_path: Path) -> None:
    large = tmp_path / "large.wav"
    large.write_bytes(bytes(2 << 20))
    # By what it says of itself, without reading any of it.
    with socket.create_connection(server.address, PATIENCE_S) as client:
        client.sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2000000000\r\n\r\n")
        assert b" 413 " in client.recv(1000)
    # And by what comes, where it says nothing.
    with socket.create_connection(server.address, PATIENCE_S) as client:
        head = "POST /predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
        client.sendall(f"{head}Content-Type: multipart/form-data; boundary=x\r\n\r\n".encode())
        part = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
        for piece in (part, *[bytes(1 << 16)] * 17):
            client.sendall(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        assert b" 413 " in client.recv(1000)
    assert server.get("/healthz").json()["status"] == "ok"


def test_clients_that_hang_up_or_are_slow_keep_nobody_waiting(server: Serving, mine: Encore) -> None:
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 90000\r\n"
    head += b"Content-Type: multipart/form-data; boundary=x\r\n\r\n"
    part = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\nRIFF'
    for _ in range(5):
        with socket.create_connection(server.address, PATIENCE_S) as client:
            client.sendall(head + part)
    slow = [socket.create_connection(server.address, PATIENCE_S) for _ in range(20)]
    for client in slow:
        client.sendall(head + part)
    assert server.predict(song_file(mine, 2))["song"]["song_id"] == "2.wav"
    for client in slow:
        client.close()


def test_pages_of_other_servers_get_nothing(server: Serving) -> None:
    assert server.get("/songs", {"Host": "evil.example"}).status_code == 403
    assert server.get("/songs", {"Host": "localhost:1"}).status_code == 200
    assert server.get("/songs", {"Host": "[::1]:1"}).status_code == 200
    assert server.get("/songs", {"Origin": "https://evil.example"}).status_code == 403
    assert server.get("/songs", {"Origin": server.url}).status_code == 200
    policy = server.get("/").headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def test_a_token_is_wanted_where_there_is_one(mine: Encore) -> None:
    with serving(mine.store, token=TOKEN, loopback=False) as guarded:
        assert guarded.get("/songs", {"Host": "music.example"}).status_code == 200
        for wrong in ("", "Bearer", "Bearer wrong", f"Basic {TOKEN}"):
            for path in ("/songs", "/metrics", "/about", "/listen?song=3.wav", "/predict"):
                answer = requests.get(guarded.url + path, headers={"Authorization": wrong}, timeout=PATIENCE_S)
                assert answer.status_code == 401, (wrong, path)
        for path in ("/", "/healthz", "/openapi.json"):
            assert requests.get(guarded.url + path, timeout=PATIENCE_S).status_code == 200


def test_a_store_that_grows_or_goes_meanwhile(mine: Encore, tmp_path: Path) -> None:
    shutil.copytree(mine.store.parent, tmp_path / "copy")
    copy = Encore(tmp_path / "copy" / "stores")
    songs = tmp_path / "copy" / "songs"
    with serving(copy.store) as server:
        new = write_recording(songs / "new.wav", 300)
        assert server.predict(new)["song"]["song_id"] is None
        with (songs / "songs.csv").open("a") as table:
            table.write("new.wav,artist 0,New,genre 0\n")
        embed(copy, songs)
        answer = server.predict(new)["song"]
        assert (answer["song_id"], answer["artist"]) == ("new.wav", "artist 0")
        shutil.rmtree(copy.store)
        for answer in (server.post(new), server.get("/songs"), server.get("/healthz")):
            assert answer.status_code == 503
            assert "unknown data set 'mine'" in answer.json()["error"]
        assert server.get("/").status_code == 200


def test_a_head_that_reads_no_artist_or_nothing(mine: Encore, tmp_path: Path) -> None:
    mine("compare", "mine", "--modes", "song,artist", "--seeds", 1, *QUICK)
    new = write_recording(tmp_path / "new.wav", 105)
    with serving(mine.store, "mine/song") as server:
        assert server.predict(new, artist="artist 1")["song"]["alone"] is None
    with serving(mine.store, "mine/artist") as server:
        answer = server.predict(new, artist="artist 1", similar=3)
        assert answer["song"]["artist"] == "artist 1"
        assert answer["similar"] == {"songs": None, "artists": None}


def test_songs_of_a_table_and_numbers_of_their_own_unit(encore: Encore, tmp_path: Path) -> None:
    """There is no file to hand in, to draw or to hear; songs of the collection are answered all the same."""
    write_table(tmp_path / "songs.csv")
    columns = "artist=artist,labels=genre,title=title,targets=heat"
    table = ("--table", tmp_path / "songs.csv", "--columns", columns)
    encore("embed", "table", "--name", "warm", *table, "--workers", 0)
    encore("head", "warm", "--target", "heat", "--mode", "gnn", "--seeds", 1, *QUICK)
    with serving(encore.store, "warm/gnn+heat") as server:
        about = server.get("/about").json()
        assert (about["target"], about["reads"]) == ("heat", None)
        assert "ready-made features" in about["refusal"]
        song = server.get("/songs", count=1).json()["songs"][0]
        answer = server.predict(song=song["id"], picture=1, similar=3)
        assert answer["picture"] is None
        assert list(answer["song"]["scores"]) == list(answer["song"]["alone"]) == ["heat"]
        assert len(answer["similar"]["songs"]["similar"]) == 3
        assert not song["listen"]
        refused = server.post(write_recording(tmp_path / "new.wav", 107))
        assert (refused.status_code, refused.json()["error"]) == (400, about["refusal"])


def keys(document: Any, schema: Any) -> None:
    """That a document has the keys that its schema tells, all the way down."""
    while "$ref" in schema:
        schema = OPENAPI["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    if "oneOf" in schema:
        if document is not None:
            keys(document, schema["oneOf"][0])
    elif "properties" in schema:
        assert set(schema["required"]) <= set(document) <= set(schema["properties"])
        for name, value in document.items():
            keys(value, schema["properties"][name])
    elif "items" in schema:
        for value in document:
            keys(value, schema["items"])


def test_the_openapi_document_is_true(server: Serving, tmp_path: Path) -> None:
    new = write_recording(tmp_path / "new.wav", 106)
    assert server.get("/openapi.json").json() == OPENAPI
    answers = {
        "/predict": server.predict(new, similar=2, picture=1),
        "/similar": server.get("/similar", song="3.wav").json(),
        "/songs": server.get("/songs").json(),
        "/picture": server.get("/picture", song="3.wav").json(),
        "/about": server.get("/about").json(),
        "/healthz": server.get("/healthz").json(),
    }
    for path, answer in answers.items():
        (operation,) = OPENAPI["paths"][path].values()
        keys(answer, operation["responses"]["200"]["content"]["application/json"]["schema"])
    assert set(OPENAPI["paths"]) == {*answers, "/listen", "/metrics", "/openapi.json"}
    schemas = OPENAPI["components"]["schemas"]
    for kind, name, more in (
        (SongPrediction, "Song", {"alone", "listen"}),
        (Segment, "Segment", set()),
        (SimilarTo, "Similar", set()),
    ):
        assert set(schemas[name]["properties"]) == {field.name for field in dataclasses.fields(kind)} | more


def test_requests_that_are_refused_before_anything_is_opened(encore: Encore) -> None:
    for words, message in (
        (("--host", "0.0.0.0"), "can be reached from other machines; give --token"),
        (("--token", "short"), "--token must have 16 letters or more"),
        (("--host", "no such host", "--token", TOKEN), "cannot listen on no such host"),
    ):
        assert message in encore("serve", *words, code=2).err
    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert "--port 0 takes a free one" in encore("serve", "--port", listener.getsockname()[1], code=2).err
    assert "there is no store" in encore("serve", "--port", 0, code=2).err


def test_ctrl_c_ends_it_cleanly(mine: Encore) -> None:
    with Process(COMMAND, "serve", "--head", "mine", "--port", 0, "--store", mine.store, new_session=True) as process:
        url = process.stdout.readline().strip()
        assert requests.get(f"{url}healthz", timeout=PATIENCE_S).json()["dataset"] == "mine"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    assert (process.returncode, out) == (130, "")
    assert "Traceback" not in err


def test_a_song_is_not_listened_to_where_its_file_is_gone(mine: Encore, tmp_path: Path) -> None:
    shutil.copytree(mine.store.parent, tmp_path / "copy")
    store = tmp_path / "copy" / "stores"
    songs = tmp_path / "copy" / "songs"
    embed(Encore(store), songs)  # from where they lie now
    with serving(store) as server:
        assert server.get("/songs", search="3.wav").json()["songs"][0]["listen"]
        (songs / "3.wav").unlink()
        soundfile.write(tmp_path / "secret.wav", [0.0] * 800, 8000)
        (songs / "4.wav").unlink()
        (songs / "4.wav").symlink_to(tmp_path / "secret.wav")
        for song in ("3.wav", "4.wav"):
            assert server.get("/listen", song=song).status_code == 404
            assert server.predict(song=song, picture=1)["picture"] is None
