"""The map of a page, what it shows of a gate, and the clips that it holds."""

from __future__ import annotations

import html
import json
from pathlib import Path

import numpy as np
import pytest

from stages.head import map as maps
from stages.head.page import clips
from stages.head.page.gate import agreement_with_artist
from tests.chromium import Chromium
from tests.pipeline.conftest import QUICK, Encore, embed_table, write_page


def test_the_map_is_zoomed_lassoed_and_played(
    encore: Encore, tmp_path: Path, browser: Chromium, midi_folder: Path
) -> None:
    """Zooming keeps what is under the pointer; a lasso lists what lies in it; a click plays the clip's own file."""
    encore("embed", "folder", "--data", midi_folder, "--table", "songs.csv", "--name", "tones", "--clips", 0)
    encore("head", "tones", "--mode", "song", "--seeds", 1, *QUICK)
    page = write_page(encore, tmp_path, "tones", "--audio-base", "my%20songs/")
    assert "media-src 'self' file:;" in html.unescape(page.read_text())
    answer = browser.show(
        page,
        """
        const map = window.encore[0].map, canvas = map.canvas, box = canvas.getBoundingClientRect();
        const fire = (kind, x, y, buttons = 1) => canvas.dispatchEvent(
            new PointerEvent(kind, { clientX: box.left + x, clientY: box.top + y, buttons, pointerId: 1 }));
        canvas.setPointerCapture = () => {};
        const spot = i => map.places(canvas.clientWidth, canvas.clientHeight).map(axis => axis(i));
        const before = spot(0);
        map.magnify(4, ...before);
        const after = spot(0), zoomed = map.zoom.k;
        map.magnify(0);
        const whole = map.zoom;
        map.tool.click();
        const [x, y] = spot(0);
        fire("pointerdown", x - 5, y - 5);
        for (const [dx, dy] of [[5, -5], [5, 5], [-5, 5], [-5, -5]]) fire("pointermove", x + dx, y + dy);
        fire("pointerup", x - 5, y - 5, 0);
        const listed = [...document.querySelectorAll(".picked tbody th")].map(cell => cell.textContent);
        map.tool.click();
        let played = null;
        map.player.play = () => { played = map.player.getAttribute("src"); return Promise.resolve(); };
        fire("pointerdown", x, y);
        fire("pointerup", x, y, 0);
        const clip = map.map.clip[map.focus];
        const title = map.data.titles[clip], file = map.data.files[clip];
        return { before, after, zoomed, whole, listed, played, title, file };
        """,
    )
    assert answer["after"] == pytest.approx(answer["before"], abs=1)
    assert (answer["zoomed"], answer["whole"]["k"]) == (4, 1)
    assert answer["title"] in answer["listed"]
    assert answer["played"] == f"my%20songs/{answer['file']}"
    for base in ("ftp://x", "a b", "x;script-src *", "https://"):
        ran = encore("report", "tones", "--html", tmp_path / "p.html", "--audio-base", base, code=2)
        assert "--audio-base" in ran.err
    assert "give --html FILE" in encore("report", "tones", "--audio-base", "x", code=2).err


def test_the_gate_is_shown_by_agreement(encore: Encore, features_csv: Path, tmp_path: Path, browser: Chromium) -> None:
    embed_table(encore, features_csv)
    encore("compare", "hits", "--modes", "song,gated", "--regimes", "random,artist", "--seeds", 1, *QUICK)
    page = write_page(encore, tmp_path, "hits")
    answer = browser.show(
        page,
        """
        const form = window.encore[0].form, tables = {};
        const titles = () => [...document.querySelectorAll(".details h4")].map(head => head.textContent);
        for (const view of form.elements.view.options) {
            form.elements.view.value = view.value;
            form.elements.view.dispatchEvent(new Event("change"));
            form.elements.mode.value = "gated";
            form.elements.mode.dispatchEvent(new Event("change"));
            tables[view.textContent.split(", ")[1]] = titles().some(title => title.includes("weight of the artist"));
        }
        const gates = window.encore[0].data.views.map(view => view.modes.gated.gate);
        return { tables, gates, made: document.querySelector('table[data-name="runs"]').closest("figure").textContent };
        """,
    )
    assert answer["tables"] == {"random": True, "artist": False}  # where no test artist was in training
    (file,) = (encore.store / "hits" / "runs").glob("*/gated-random/*.json")
    record = json.loads(file.read_text())
    assert sum(row[4] for row in answer["gates"][0]) <= record["clips"]["test"]
    assert all(row[2] <= row[3] for row in answer["gates"][0])
    environment = record["environment"]
    assert set(environment) == {"Encore", "Python", "torch", "numpy", "machine", "processor"}
    assert "Trained with: " + ", ".join(f"{name} {value}" for name, value in environment.items()) in answer["made"]


def test_agreement_with_the_artist() -> None:
    """Over the artist's other training clips, as counted one by one."""
    rng = np.random.default_rng(0)
    artist, labels, part = rng.integers(-1, 6, 60), rng.random((60, 3)) < 0.4, rng.integers(0, 3, 60)
    shares = agreement_with_artist(artist, labels, part)
    for clip in range(60):
        others = [i for i in range(60) if i != clip and part[i] == 0 and artist[i] == artist[clip] >= 0]
        own = np.flatnonzero(labels[clip])
        if not others or not len(own):
            assert np.isnan(shares[clip])
        else:
            assert shares[clip] == pytest.approx(labels[others][:, own].mean())


def test_a_large_collection_is_sampled_and_says_how(
    encore: Encore, features_csv: Path, tmp_path: Path, browser: Chromium, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (maps, clips):
        monkeypatch.setattr(module, "MOST_CLIPS", 50)
    embed_table(encore, features_csv)
    encore("head", "hits", "--mode", "song", "--seeds", 1, *QUICK)
    answer = browser.show(
        write_page(encore, tmp_path, "hits"),
        """
        const { data, map } = window.encore[0].map;
        const method = document.querySelector(".method").textContent;
        return { method, points: map.clip.length, titles: data.titles.length, artists: data.artists.length,
                 counts: [...document.querySelectorAll('table[data-name="counts"] td')].map(value_of) };
        """,
    )
    assert answer["method"].startswith("50 clips. t-SNE; 50 clips drawn at random stand for all 400; seed 0.")
    assert (answer["points"], answer["titles"], answer["counts"][0]) == (50, 50, 400)
    assert answer["artists"] < 40


def test_a_large_collection_shows_the_clips_of_its_map_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clips, "MOST_CLIPS", 4)
    document = {
        "titles": list("abcdef"),
        "artists": ["x", "y", "z"],
        "artist": [0, 1, 2, 0, 1, 2],
        "truth": [5, 4, 3, 2, 1, 0],
        "views": [{"part": [0, 1, 2, 0, 1, 2], "tested": [2, 5, 1], "given": {"song": [7, 8, 9]}}, {"modes": {}}],
        "maps": [{"clip": [1, 3, 4], "x": [0, 0, 0]}],
    }
    only = clips.only(np.array([1, 3, 4]), document)
    assert only["titles"] == ["b", "d", "e"]
    assert [only["artists"][i] for i in only["artist"]] == ["y", "x", "y"]
    assert only["truth"] == [4, 2, 1]
    assert only["views"][0] == {"part": [1, 0, 1], "tested": [0], "given": {"song": [9]}}
    assert only["maps"][0]["clip"] == [0, 1, 2]
    monkeypatch.setattr(clips, "MOST_CLIPS", 6)
    assert clips.only(np.array([1]), document) is document
