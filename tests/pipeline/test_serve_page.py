"""The page of ``encore serve`` as a browser shows it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chromium import Chromium, open_browser
from tests.pipeline.conftest import Encore
from tests.pipeline.serving import ODD, make_collection, serving, write_recording

ANSWERED = "document.documentElement.dataset.answered"
READY = "document.documentElement?.dataset.ready === 'yes'"
TOKEN = "a token that nobody guesses"
_TEXTS = "const texts = selector => [...document.querySelectorAll(selector)].map(node => node.textContent);"


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> Encore:
    return make_collection(tmp_path_factory.mktemp("page"))


def test_a_person_drops_a_song_and_goes_on_to_its_neighbour(mine: Encore, tmp_path: Path, browser: Chromium) -> None:
    """Titles that look like markup are text, and nothing complains: no script, no policy, no console."""
    new = write_recording(tmp_path / f"{ODD.replace('/', '')} new.wav", 400)
    with serving(mine.store) as server:
        browser.look(1200, "light")
        browser.open(f"{server.url}/")
        browser.wait_for(READY)
        songs = browser.ask(f"{_TEXTS} return texts('#songs b')")
        assert songs[0] == f"{ODD} 0"
        browser.ask("document.forms.upload.elements.artist.value = 'artist 1'")
        browser.choose_file("#upload input[type=file]", new)
        browser.wait_for(f"{ANSWERED} === '1'")
        view = browser.ask(
            _TEXTS
            + """
            const bars = [...document.querySelectorAll("#genres .track")].map(track =>
                [...track.children].map(part => [part.className, parseFloat(part.style.width)]));
            return { title: texts("#title")[0], genres: texts("#genres bdi"), values: texts("#genres .value"), bars,
                basis: texts("#basis")[0], near: texts("#near-songs b"), artists: texts("#near-artists b"),
                hidden: ["picture", "player"].map(id => document.getElementById(id).hidden) };
            """
        )
        expected = server.predict(new, artist="artist 1", similar=8)
        scores, alone = expected["song"]["scores"], expected["song"]["alone"]
        assert view["title"] == new.name
        assert view["genres"] == list(scores)
        assert view["values"] == [f"{score:.2f}" for score in scores.values()]
        for parts, (label, score) in zip(view["bars"], scores.items(), strict=True):
            widths = dict(parts)
            assert widths["alone"] == pytest.approx(100 * min(score, alone[label]), abs=0.01)
            assert widths.get("added", 0) == pytest.approx(100 * max(0, score - alone[label]), abs=0.01)
        assert "artist 1: 4 other clips" in view["basis"]
        assert view["near"] == [entry["title"] for entry in expected["similar"]["songs"]["similar"]]
        assert view["artists"] == [entry["artist"] for entry in expected["similar"]["artists"]["similar"]]
        assert view["hidden"] == [False, False]
        # By keyboard alone: on to the nearest song, and hear another.
        browser.ask("document.querySelector('#near-songs button.name').focus()")
        browser.press("Enter", 13)
        browser.wait_for(f"{ANSWERED} === '2'")
        assert browser.ask(f"{_TEXTS} return texts('#title')[0]") == view["near"][0]
        browser.ask("document.querySelector('#near-songs .listen').focus()")
        browser.press("Enter", 13)
        browser.wait_for("document.getElementById('audio').duration > 2.9")
        assert browser.complaints == []


def test_it_fits_a_phone_in_light_and_dark(mine: Encore, browser: Chromium, tmp_path: Path) -> None:
    with serving(mine.store) as server:
        browser.open(f"{server.url}/")
        browser.wait_for(READY)
        browser.ask("document.querySelector('#songs button').click()")
        browser.wait_for(f"{ANSWERED} === '1'")
        colours = set()
        for width in (390, 1200):
            for scheme in ("light", "dark"):
                browser.look(width, scheme, tmp_path / f"{width}-{scheme}.png")
                assert browser.ask("return document.documentElement.scrollWidth - innerWidth") <= 0
                colours.add(browser.ask("return getComputedStyle(document.body).backgroundColor"))
        assert len(colours) == 2
        assert browser.complaints == []


def test_what_goes_wrong_is_told(mine: Encore, browser: Chromium, tmp_path: Path) -> None:
    text = tmp_path / "text.mp3"
    text.write_text("no song")
    problem = "document.getElementById('problem')"
    with serving(mine.store, token=TOKEN) as server:
        browser.open(f"{server.url}/")
        browser.wait_for(READY)
        assert browser.ask(f"return [{problem}.hidden, document.getElementById('token').hidden]") == [False, False]
        browser.open("about:blank")  # another fragment alone would load nothing
        browser.open(f"{server.url}/#token={TOKEN.replace(' ', '+')}")
        browser.wait_for(f"{READY} && document.querySelectorAll('#songs b').length > 0")
        assert TOKEN.split()[-1] not in browser.ask("return location.href")
        browser.complaints.clear()  # Chromium logs every status that is an error
        browser.choose_file("#upload input[type=file]", text)
        browser.wait_for(f"!{problem}.hidden")
        assert browser.ask(f"return {problem}.textContent").startswith("text.mp3: damaged: is no audio")
        assert browser.ask("return document.getElementById('result').hidden")
        assert all("status of 422" in complaint for complaint in browser.complaints)


@pytest.mark.parametrize(
    "script", ["echo no such library >&2; exit 127", "exec 3>&- 4>&-; echo no such library; sleep 2"]
)
def test_a_browser_that_does_not_start_skips_its_test(
    script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "chromium"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    skipped = pytest.raises(pytest.skip.Exception, match="does not start: it ended: no such library")
    with skipped, open_browser(tmp_path / "browser"):
        pass
