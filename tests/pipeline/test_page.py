"""The page of a store, as a browser without a network shows it, and its tables in other formats."""

from __future__ import annotations

import csv
import html
import io
import json
from pathlib import Path

import numpy as np
import pytest

from pipeline.page import render
from stages.head.page import formats
from stages.head.page.gather import Request, story
from stages.head.page.tables import Column, Table
from store.layout import Store
from tests.chromium import Chromium
from tests.pipeline.conftest import QUICK, Encore, embed_table, write_page

_ODD = [
    "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(1)>",
    "a \"quoted\" & 'single' {{ 7 * 7 }}",
    "שיר עברי \u202e reversed",
    "🎵 emoji 👩‍🎤",
    "=1+1|pipe \\ back",
]


@pytest.fixture
def odd_csv(tmp_path: Path) -> Path:
    """60 songs of 12 artists with titles and artists that a page must not take for markup."""
    rng = np.random.default_rng(0)
    path = tmp_path / "odd.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["artist", "title", "genre", "a", "b"])
        for song in range(60):
            genre, odd = song % 2, _ODD[song % len(_ODD)]
            a, b = 2 * genre + rng.standard_normal(2)
            writer.writerow(
                [f"{odd} {song % 12}", f"{odd} song {song}", f"<b>genre {genre}</b>", f"{a:.4f}", f"{b:.4f}"]
            )
    return path


def test_the_page_of_a_store_with_runs(encore: Encore, odd_csv: Path, tmp_path: Path, browser: Chromium) -> None:
    """Odd names are text, its figures are the stored ones, search and colours work, nothing is wider than a phone."""
    embed_table(encore, odd_csv)
    encore("compare", "hits", "--modes", "song,artist,gnn", "--regimes", "random,artist", "--seeds", 2, *QUICK)
    page = write_page(encore, tmp_path, "hits")
    answer = browser.show(
        page,
        """
        const all = name => [...document.querySelector(`table[data-name="${name}"]`).tBodies[0].rows]
            .map(row => [...row.cells].map(value_of));
        const map = window.encore[0].map, form = map.form, tip = document.querySelector(".tip");
        const scores = all("scores");
        const choose = (input, value, kind) => { input.value = value; input.dispatchEvent(new Event(kind)); };
        const legends = {};
        for (const colour of ["genre", "artist", "split", "right"]) {
            choose(form.elements.colour, colour, "change");
            legends[colour] = [...document.querySelectorAll(".legend li")].map(item => item.textContent);
        }
        choose(form.elements.search, "ONERROR=alert(1)> 1", "input");
        const status = document.querySelector(".status").textContent;
        map.canvas.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight" }));
        const head = document.querySelector('table[data-name="scores"] thead th:nth-child(3)');
        head.querySelector("button").click();
        const sorted = [head.getAttribute("aria-sort"), all("scores").map(row => row[2])];
        return {
            scores, legends, status, sorted, tip: tip.innerText, hidden: tip.hidden,
            charts: document.querySelectorAll("svg[role=img][aria-label]").length,
            lists: [...document.querySelectorAll(".hard h4")].map(head => head.textContent),
            labels: [...document.querySelectorAll(".details tbody th")].slice(0, 2).map(head => head.textContent),
            images: document.images.length, csv: csv(document.querySelector('table[data-name="counts"]')),
            wide: document.documentElement.scrollWidth - document.documentElement.clientWidth,
        };
        """,
        width=500,
    )
    stored: dict[tuple[str, str], list[float]] = {}
    for file in sorted((encore.store / "hits" / "runs").glob("*/*/seed-*.json")):
        record = json.loads(file.read_text())
        stored.setdefault((record["mode"], record["regime"]), []).append(record["metrics"]["accuracy"])
    for row in answer["scores"]:
        mode = row[1].split(" ")[0]
        if mode in ("song", "gnn"):  # the artist's labels have two rules
            values = stored[mode, "random"], stored[mode, "artist"]
            means = [number for of in values for number in (np.mean(of), np.std(of))]
            gap = np.mean(values[0]) - np.mean(values[1])
            assert row[2:7] == pytest.approx([*means, gap])
            assert -1 <= row[7] <= row[8] <= 1
    assert {row[1] for row in answer["scores"]} >= {"song", "gnn"}
    assert set(answer["legends"]["genre"]) == {"<b>genre 0</b>", "<b>genre 1</b>"}
    assert answer["legends"]["split"] == ["train", "validation", "test"]
    assert answer["legends"]["right"] == ["right", "wrong", "not tested"]
    assert len(answer["legends"]["artist"]) == 11  # two are =1+1: what follows a | is another artist
    assert answer["status"] == "5 clips by 1 artist"
    assert not answer["hidden"]
    assert "</script><img src=x onerror=alert(1)> song" in answer["tip"]
    assert answer["images"] == 0
    assert answer["sorted"][0] == "descending"
    assert answer["sorted"][1] == sorted(answer["sorted"][1], reverse=True)
    assert answer["labels"] == ["<b>genre 0</b>", "<b>genre 1</b>"]
    assert answer["lists"][0].endswith("surest and wrong")
    assert answer["charts"] >= 5
    assert "songs,60\n" in answer["csv"]
    assert answer["wide"] <= 0


def test_the_map_is_computed_once(encore: Encore, odd_csv: Path, tmp_path: Path) -> None:
    embed_table(encore, odd_csv)
    first = write_page(encore, tmp_path, "hits").read_bytes()
    (file,) = (encore.store / "hits").glob("*/map.parquet")
    content = file.read_bytes()
    assert "drawing the map" not in encore("report", "hits", "--html", tmp_path / "again.html").err
    assert (tmp_path / "again.html").read_bytes() == first.replace(b"page.html", b"again.html")
    file.write_bytes(b"damaged")
    assert "drawing the map" in encore("report", "hits", "--html", tmp_path / "again.html").err
    assert file.read_bytes() == content
    encore("store", "verify", "hits")


def test_a_representation_of_retired_songs_alone_has_no_map(encore: Encore, tmp_path: Path) -> None:
    table = tmp_path / "one.csv"
    for feature, title in (("a", "first"), ("b", "second")):
        rows = [f"{title} {song},me,genre {song % 2},{song}" for song in range(6)]
        table.write_text("\n".join([f"song,artist,genre,{feature}", *rows]) + "\n")
        encore("embed", "table", "--table", table, "--name", "one", "--columns", "labels=genre")
    ran = encore("report", "one", "--html", tmp_path / "page.html")
    assert ran.err.count("has no map") == 1
    assert (tmp_path / "page.html").read_text().count("<option value=") >= 1


def test_two_collections_without_runs(encore: Encore, odd_csv: Path, tmp_path: Path, browser: Chromium) -> None:
    """The page shows the audit and says what to run; one song of one artist is a collection too."""
    embed_table(encore, odd_csv)
    one = tmp_path / "one.csv"
    one.write_text("artist,title,genre,a\nme,mine,rock,1\n")
    encore("embed", "table", "--table", one, "--name", "one", "--columns", "labels=genre")
    page = write_page(encore, tmp_path, "hits", "one")
    answer = browser.show(
        page,
        """
        return { todo: [...document.querySelectorAll("header + .todo code")].map(code => code.textContent),
                 counts: [...document.querySelectorAll('table[data-name="counts"] td')].map(value_of),
                 maps: document.querySelectorAll("canvas").length };
        """,
    )
    assert answer["todo"] == [
        f"encore compare hits --regimes random,artist --store {encore.store}"
    ]  # one label teaches nothing
    assert 60 in answer["counts"]
    assert answer["maps"] == 2


def test_three_hundred_labels_some_of_no_test_clip(encore: Encore, tmp_path: Path, browser: Chromium) -> None:
    rng = np.random.default_rng(0)
    lines = ["artist,title,genre,a,b"]
    lines += [f"artist {i % 7},song {i},label {i % 300}|label {i % 11},{rng.random():.3f},{i % 11}" for i in range(330)]
    path = tmp_path / "many.csv"
    path.write_text("\n".join(lines) + "\n")
    embed_table(encore, path)
    encore("compare", "hits", "--modes", "song,label-propagation", "--seeds", 1, *QUICK)
    page = write_page(encore, tmp_path, "hits")
    answer = browser.show(
        page,
        """
        const labels = document.querySelector(".details figure");
        return {
            confusion: document.querySelectorAll(".confusion tbody tr").length,
            labels: labels.querySelectorAll("tbody tr").length,
            undefined: [...labels.querySelectorAll("td.n")].some(cell => cell.textContent === "-"),
        };
        """,
    )
    assert answer == {"confusion": 30, "labels": 300, "undefined": True}


@pytest.mark.usefixtures("unsealed")
def test_runs_on_different_clips_are_said_so(encore: Encore, several_csv: Path, tmp_path: Path) -> None:
    embed_table(encore, several_csv)
    encore("head", "hits", "--mode", "song", "--seeds", 1, *QUICK)
    encore("head", "hits", "--mode", "label-propagation", "--seeds", 1)
    (folder,) = (encore.store / "hits" / "runs" / "metadata").glob("label-propagation-random")
    (folder / "seed-0.json").rename(folder / "seed-5.json")
    (folder / "seed-0.parquet").rename(folder / "seed-5.parquet")
    record = json.loads((folder / "seed-5.json").read_text())
    (folder / "seed-5.json").write_text(json.dumps(record | {"seed": 5}))
    page = write_page(encore, tmp_path, "hits")
    assert "no seed was run for all of" in html.unescape(page.read_text(encoding="utf-8"))


def test_the_page_of_fifty_thousand_songs_is_small(tmp_path: Path) -> None:
    """The map's data alone, by rule: every clip with a title of its own, an artist, a place and predictions."""
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(list("abcdefghijklmnoprstuvwy"), 7)) for _ in range(3_000)]
    songs = 50_000
    data = {
        "labels": words[:20],
        "titles": [" ".join(words[i] for i in row) for row in rng.integers(3_000, size=(songs, 3))],
        "artists": [" ".join(words[i] for i in row) for row in rng.integers(3_000, size=(5_000, 2))],
        "artist": rng.integers(5_000, size=songs).tolist(),
        "sets": [[i] for i in range(20)],
        "truth": rng.integers(20, size=songs).tolist(),
        "views": [
            {
                "modes": {},
                "part": rng.integers(3, size=songs).tolist(),
                "tested": list(range(0, songs, 10)),
                "given": {str(mode): rng.integers(20, size=songs // 10).tolist() for mode in range(17)},
            }
            for _ in range(2)
        ],
        "maps": [
            {
                "clip": list(range(songs)),
                "x": rng.integers(4096, size=songs).tolist(),
                "y": rng.integers(4096, size=songs).tolist(),
                "representation": "x",
                "method": "",
            }
        ],
        "parts": ["train", "validation", "test"],
    }

    class Plain:
        name = title = "many"
        synthetic, about, audit, scores, views, todo, problem = True, (), (), (), (), "", ""

    Plain.data = data  # type: ignore[attr-defined]
    assert len(render.page([Plain()]).encode()) < 3 * 2**20  # type: ignore[list-item]


def test_tables_in_other_formats(encore: Encore, odd_csv: Path) -> None:
    embed_table(encore, odd_csv)
    encore("compare", "hits", "--modes", "song", "--seeds", 1, *QUICK)
    document = json.loads(encore("report", "hits", "--format", "json").out)["hits"]
    (scores,) = (table for table in document if table["name"] == "scores")
    (file,) = (encore.store / "hits" / "runs").glob("*/song-random/seed-0.json")
    value = json.loads(file.read_text())["metrics"]["accuracy"]
    assert scores["rows"][0][1:3] == ["song", value]
    rows = list(csv.reader(io.StringIO(encore("report", "hits", "--format", "csv").out)))
    assert ["scores", scores["rows"][0][0], "song", str(value)] in [row[:4] for row in rows]
    assert f"| song | {100 * value:.1f} |" in encore("report", "hits", "--format", "md").out
    assert rf"song & {100 * value:.1f} &" in encore("report", "hits", "--format", "latex").out


def test_cells_are_escaped() -> None:
    table = Table("t", "T", (Column("a|b"), Column("n", 100, 1)), [["x|y\nz_&", 0.5], [None, None]])
    assert formats.markdown(table).splitlines()[2:] == [
        r"| a\|b | n |",
        "| --- | --- |",
        r"| x\|y z_& | 50.0 |",
        "| - | - |",
    ]
    assert r"x\textbar{}y z\_\& & 50.0 \\" in formats.latex(table)
    assert list(csv.reader(io.StringIO(formats.comma_separated(table)))) == [
        ["table", "a|b", "n"],
        ["t", "x|y\nz_&", "0.5"],
        ["t", "", ""],
    ]


def test_what_is_refused_before_anything_is_computed(encore: Encore, tmp_path: Path) -> None:
    assert "must end in .html" in encore("report", "--html", tmp_path / "page.txt", code=2).err
    assert "is no folder" in encore("report", "--html", tmp_path / "no" / "page.html", code=2).err
    assert "have: csv, json, latex, md" in encore("report", "--format", "xml", code=2).err
    assert "in one page, give --html FILE" in encore("report", "a", "b", code=2).err
    assert "without them" in encore("report", "--format", "md", "--json", code=2).err
    assert "unknown data set" in encore("report", "a", "--html", tmp_path / "page.html", code=2).err


def test_details_are_those_of_the_pooled_test_clips(encore: Encore, several_csv: Path) -> None:
    """Precision, recall, F1 and support against scikit-learn."""
    from sklearn.metrics import precision_recall_fscore_support

    embed_table(encore, several_csv)
    encore("compare", "hits", "--modes", "song", "--seeds", 2, *QUICK)
    request = Request(backbone=None, modes=["song"], regime=None, against="song")
    data = story(Store(encore.store), "hits", request).data
    (view,) = data["views"]
    names = data["labels"]
    truth, chosen = [], []
    import pyarrow.parquet as pq

    labels = pq.read_table(encore.store / "hits" / "catalog.parquet").column("labels").to_pylist()
    for file in sorted((encore.store / "hits" / "runs").glob("*/song-random/*.parquet")):
        table = pq.read_table(file)
        truth += [[name in labels[row] for name in names] for row in table.column("row").to_pylist()]
        chosen += table.column("chosen").to_pylist()
    expected = precision_recall_fscore_support(np.array(truth), np.array(chosen), zero_division=np.nan)
    ours = np.array(view["modes"]["song"]["labels"], dtype=float).T
    np.testing.assert_allclose(ours[[0, 1, 3]], np.array(expected)[[0, 1, 3]], atol=1e-4)
    bins = view["modes"]["song"]["calibration"]["bins"]
    assert sum(count for _, _, count in bins) == np.size(truth)
    assert len(view["modes"]["song"]["curves"]) == 2
