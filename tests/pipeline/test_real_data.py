"""The README's runs on real files, where these are at hand."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from stages.embed.backbones.fcn import FcnConfig
from stages.embed.inputs import Clip
from store.layout import Store
from store.reader import Representations
from tests.embed.test_fcn import fcn_scores
from tests.pipeline.conftest import Encore
from tests.pipeline.test_four_backbones import SHARED_OUT, stored_is_alone
from tests.test_readme import STAGE_ONE

MTG = ("audit", "mtg", "--data", "mtg-jamendo")
_REPORTS: dict[tuple[str, ...], Any] = {}


def audited(encore: Encore, command: tuple[str, ...]) -> Any:
    """What an audit of real data counts; two tests look at that of MTG-Jamendo, which takes seconds."""
    if command not in _REPORTS:
        _REPORTS[command] = encore(*command, "--json").json
    return _REPORTS[command]


def test_mtg_jamendo_is_the_thesis_to_the_digit(
    encore: Encore, shared_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shared_data)
    report = audited(encore, MTG)
    assert (report["songs"], report["artists"], report["edges"]) == (48_590, 3_297, 1_966_399)
    assert round(100 * report["homophily"]["exact"], 2) == 27.39
    assert report["regimes"]["official"]["shared_artists"] == 0
    assert report["baselines"]["official"]["artist (most frequent)"]["micro_f1"] == 0.0
    assert report["regimes"]["random"]["shared_artists"] == 1_598
    assert report["baselines"]["random"]["artist (at least half)"]["micro_f1"] == pytest.approx(0.7003, abs=1e-4)


def test_stored_vectors_of_real_songs_give_the_published_scores(
    encore: Encore, shared_data: Path, tmp_path: Path
) -> None:
    lines = (shared_data / "jamendo-lyrics" / "songs.csv").read_text(encoding="utf-8").splitlines()
    songs = list(csv.DictReader(lines))
    table = tmp_path / "songs.csv"
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "artist", "labels", "start_s", "duration_s"])
        writer.writerows([f"mp3/{song['file']}", song["artist"], song["genre"], 30, 29] for song in songs[:2])
    weights = shared_data / "weights" / "jamendo-fcn.pth"
    args = ("embed", "folder", "--data", shared_data / "jamendo-lyrics", "--table", table, "--name", "jamendo")
    report = encore(*args, "--weights", weights, "--json").json
    assert (report["encoded"], report["failed"]) == (2, {})
    again = encore("embed", "jamendo", "--weights", weights, "--json").json
    assert (again["encoded"], again["already_there"]) == (0, True)

    store = Store(encore.store)
    catalog = store.read_catalog("jamendo")
    stored = torch.from_numpy(Representations(store, catalog, store.find("jamendo", None)).read())
    state = torch.load(weights, map_location="cpu", weights_only=True)
    scores = torch.sigmoid(F.linear(stored, state["dense.weight"], state["dense.bias"]))
    assert scores.shape == (2, 50)
    for row, path in enumerate(catalog.strings("path")):
        clip = Clip(clip_id="x", path=shared_data / "jamendo-lyrics" / str(path), start_s=30, duration_s=29)
        wave = torch.from_numpy(FcnConfig().audio().load(clip))
        published = fcn_scores(state, wave)  # the whole network, computed from the checkpoint's keys alone
        torch.testing.assert_close(scores[row], published[0], atol=1e-5, rtol=0)
    assert (scores.std(dim=0) > 0).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backbone", "dim"), [("musicbert", 3584), ("pianoroll-cnn", 384), ("mixcnn", 256), ("cola", 1280)]
)
def test_real_songs_pass_through_the_four_of_the_thesis(
    encore: Encore, shared_data: Path, tmp_path: Path, backbone: str, dim: int
) -> None:
    """Complete mp3 songs of minutes, and MIDI files of several artists; each song alone gives the stored vector."""
    midi = backbone in ("musicbert", "pianoroll-cnn")
    root = shared_data / ("lakh/midi" if midi else "jamendo-lyrics/mp3")
    songs = sorted(root.iterdir())[::16] if midi else sorted(root.iterdir())[:2]
    table = tmp_path / "songs.csv"
    table.write_text("\n".join(["file,artist,labels", *(f"{song.name},someone,some" for song in songs)]), "utf-8")
    args = ("embed", "folder", "--data", root, "--table", table, "--name", "real", "--clips", 2, "--clip-s", 10)
    report = encore(*args, "--backbone", backbone, "--weights", "random", *SHARED_OUT, "--json").json
    assert (report["songs"], report["clips"], report["failed"]) == (len(songs), 2 * len(songs), {})
    assert stored_is_alone(encore, "real", backbone, "random").shape == (2 * len(songs), dim)


def test_real_midi_goes_all_the_way(encore: Encore, shared_data: Path) -> None:
    lakh = shared_data / "lakh"
    args = ("embed", "folder", "--name", "lakh64", "--data", lakh / "midi", "--artists", lakh / "artists.tsv")
    report = encore(*args, "--labels", f"{lakh / 'midi_genre_map.json'}:topmagd", "--json").json
    assert (report["songs"], report["clips"], report["artists"], report["failed"]) == (56, 224, 13, {})
    results = encore("head", "lakh64", "--mode", "gnn", "--set", "epochs=5", "--json").json
    assert results[0]["metrics"]["micro_f1"]["mean"] > 0


def test_classic_hits_in_all_modes(encore: Encore, shared_data: Path) -> None:
    table = shared_data / "spotify" / "ClassicHit.csv"
    columns = "artist=Artist,labels=Genre,title=Track"
    report = encore("embed", "table", "--name", "hits", "--table", table, "--columns", columns, "--json").json
    assert (report["songs"], report["artists"]) == (15_150, 3_083)
    results = encore("compare", "hits", "--seeds", 1, "--set", "epochs=1", "--json").json
    accuracy = {result["mode"]: result["metrics"]["accuracy"]["mean"] for result in results}
    assert accuracy["artist"] > 0.75
    assert all(score > 0.2 for score in accuracy.values())


def test_the_readme_tells_what_audits_count(
    encore: Encore, shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every figure of its table of collections, by the commands under the table."""
    (tmp_path / "fma").mkdir()
    (tmp_path / "fma" / "tracks.csv").symlink_to(shared_data / "fma" / "tracks_first_rows.csv")
    for place in ("mtg-jamendo", "lakh", "jamendo-lyrics", "spotify/ClassicHit.csv", "jamendo-lyrics/songs.csv"):
        (tmp_path / Path(place).name).symlink_to(shared_data / place)
    monkeypatch.chdir(tmp_path)
    section = STAGE_ONE.split("### Which collections we could check")[1].split("\n### ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| `") and "not at hand" not in line]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    commands = section.split("```")[1].strip().splitlines()
    for row, command in zip(rows, commands, strict=True):
        report = audited(encore, tuple(command.split()[1:]))
        exact = report["homophily"]["exact"]
        regimes = [report["regimes"].get(regime) for regime in ("random", "official")]
        expected = [
            *(f"{report[key]:,}" for key in ("songs", "clips", "artists")),
            f"{len(report['labels'])}",
            "" if exact is None else f"{100 * exact:.2f}",
            *("" if r is None else f"{r['shared_artists']:,} of {r['test']['artists']:,}" for r in regimes),
        ]
        assert row[1:] == expected, row[0]
