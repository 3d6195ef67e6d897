"""What a page tells first and last: who wins where, how it was made, and how it looks on paper."""

from __future__ import annotations

import html
import json
import re
import shlex
from pathlib import Path

import pytest

from stages.head.page.gather import Request, story
from store.layout import Store
from tests.chromium import Chromium
from tests.pipeline.conftest import QUICK, Encore, embed_table, write_page

_A4_WIDTH = 688  # CSS pixels between margins of 14 mm


def _tables(encore: Encore, *options: object) -> dict[str, list[dict[str, object]]]:
    """By name of a table its rows, each by column."""
    (tables,) = json.loads(encore("report", *options, "--format", "json").out).values()
    return {table["name"]: [dict(zip(table["columns"], row, strict=True)) for row in table["rows"]] for table in tables}


def test_the_commands_of_a_page_make_the_same_again(encore: Encore, features_csv: Path, tmp_path: Path) -> None:
    """Copied as they stand, into another store: options of the collection, of the backbone and of the training."""
    options = "--columns", "labels=genre,artist=artist", "--merge-spellings", "--set", "columns=tempo,energy"
    encore("embed", "table", "--table", features_csv, "--name", "hits", *options)
    changes = *QUICK, "--neighbours", "4", "--set", "standardise=no", "--members", "2"
    encore("compare", "hits", "--modes", "song,gnn,artist", "--regimes", "random,artist", "--seeds", 2, *changes)
    before = _tables(encore, "hits")
    commands = [str(row["command"]) for name in ("commands", "runs") for row in before[name]]
    other = Encore(tmp_path / "elsewhere")
    for command in dict.fromkeys(commands):
        program, *words = shlex.split(command.replace("page.html", str(tmp_path / "page.html")))
        assert program == "encore"
        assert words[-2:] == ["--store", str(encore.store)]
        other(*words[:-2])
    after = _tables(other, "hits")
    assert after["scores"] == before["scores"]
    moved = [str(row["command"]).replace(str(other.store), str(encore.store)) for row in after["runs"]]
    assert moved == [row["command"] for row in before["runs"]]
    assert (tmp_path / "page.html").exists()


def test_a_representation_without_a_command_is_told_by_what_is_known(encore: Encore, features_csv: Path) -> None:
    """As in a store of an earlier version; another representation of the same songs keeps the collection's options."""
    embed_table(encore, features_csv, shared=False)
    encore("embed", "hits", "--set", "columns=tempo")
    first, second = sorted((encore.store / "hits").glob("features-*"))
    commands = {(folder / "command.txt").read_text().strip() for folder in (first, second)}
    table = f"encore embed table --table {shlex.quote(str(features_csv))} --name hits --columns labels=genre"
    assert commands == {table, f"{table} --set columns=tempo"}
    (first / "command.txt").unlink()
    encore("store", "verify", "hits")
    rows = _tables(encore, "hits")["commands"]
    assert f"{table} --backbone features" in str(rows[0]["command"])


def test_who_wins_where(encore: Encore, features_csv: Path, tmp_path: Path, browser: Chromium) -> None:
    """The best mode of each regime, its lead and whether that is beyond noise, on top of the page and in a table."""
    embed_table(encore, features_csv)
    encore("compare", "hits", "--modes", "song,artist,gnn", "--regimes", "random,artist", "--seeds", 2, *QUICK)
    tables = _tables(encore, "hits")
    for row in tables["winners"]:
        report = encore("report", "hits", "--regime", row["regime"], "--json").json["modes"]
        scores = sorted((of["score"], mode) for mode, of in report.items())
        (next_score, _), (best_score, best) = scores[-2:]
        assert row["best"] == best
        assert row["lead"] == pytest.approx(best_score - next_score)
        low, high = row["lead from"], row["lead to"]
        assert isinstance(low, float)
        assert isinstance(high, float)
        assert low <= row["lead"] <= high  # type: ignore[operator]
        assert row["verdict"] == ("beyond noise" if low > 0 else "within noise")
    answer = browser.show(
        write_page(encore, tmp_path, "hits"),
        """
        const charts = [...document.querySelectorAll('.view:not([hidden]) figure[data-chart="profiles"] svg')];
        return { verdicts: [...document.querySelectorAll(".verdict li")].map(item => item.textContent),
                 charts: charts.map(chart => chart.getAttribute("aria-label")) };
        """,
    )
    for row, verdict in zip(tables["winners"], answer["verdicts"], strict=True):
        assert verdict.startswith(f"{row['regime']}: {row['best']} {100 * float(str(row['accuracy'])):.1f} (")
        assert verdict.endswith(str(row["verdict"]))
    assert any("song: " in text for text in answer["charts"])


def test_backbones_stand_side_by_side(encore: Encore, features_csv: Path) -> None:
    embed_table(encore, features_csv)
    encore("embed", "hits", "--set", "columns=loudness")
    names = sorted(path.name for path in (encore.store / "hits").glob("features-*"))
    for name in names:
        words = "--modes", "song,artist", "--regimes", "random,artist", "--seeds", 1
        encore("compare", "hits", "--backbone", name, *words, *QUICK)
    tables = _tables(encore, "hits")
    by_key = {(row["representation"], row["mode"]): row for row in tables["scores"]}
    for row in tables["backbones"]:
        for name in names:
            of = by_key.get((name, row["mode"])) or by_key["none", row["mode"]]
            for column in ("random", "artist", "artist gap"):
                assert row[f"{name} {column}"] == of[column]
    assert {row["mode"] for row in tables["backbones"]} == {"song", "artist (top)", "artist (half)"}


def test_one_artist_has_no_intervals(encore: Encore, tmp_path: Path, browser: Chromium) -> None:
    rows = [f"me,song {song},genre {song % 2},{song % 2 + song / 100}" for song in range(40)]
    table = tmp_path / "one.csv"
    table.write_text("\n".join(["artist,title,genre,a", *rows]) + "\n")
    embed_table(encore, table)
    encore("compare", "hits", "--modes", "song,artist", "--seeds", 1, *QUICK)
    answer = browser.show(
        write_page(encore, tmp_path, "hits"),
        """
        const row = document.querySelector('table[data-name="winners"] tbody tr');
        const verdict = document.querySelector(".verdict").innerText;
        return { row: [...row.cells].map(cell => cell.textContent), verdict };
        """,
    )
    assert answer["row"][4:6] == ["-", "-"]
    assert answer["row"][-1] == "within noise"
    assert "(" not in answer["verdict"].replace("(top)", "").replace("(half)", "")


def test_a_collection_with_nothing_to_learn_is_not_sent_to_train(encore: Encore, tmp_path: Path) -> None:
    table = tmp_path / "one.csv"
    table.write_text("artist,title,genre,a\nme,mine,rock,1\n")
    embed_table(encore, table)
    page = write_page(encore, tmp_path, "hits").read_text(encoding="utf-8")
    assert "encore compare" not in page
    assert "nothing to learn" in page


def test_paper_cuts_no_table(encore: Encore, tmp_path: Path, browser: Chromium) -> None:
    """On A4, with thirty labels in a matrix, long names and all that is folded away on a screen."""
    long = "A Rather Long Name of a Genre That Goes On"
    rows = [
        f"artist {song % 9},{'song ' * 12}{song},{long} {song % 40}|{long} {song % 7},{song % 7},{song % 40}"
        for song in range(400)
    ]
    table = tmp_path / "wide.csv"
    table.write_text("\n".join(["artist,title,genre,a,b", *rows]) + "\n")
    embed_table(encore, table)
    encore("compare", "hits", "--modes", "song,artist,gnn", "--regimes", "random,artist", "--seeds", 1, *QUICK)
    page = write_page(encore, tmp_path, "hits")
    browser.show(page, "return null")
    browser.send("Emulation.setDeviceMetricsOverride", width=_A4_WIDTH, height=1000, deviceScaleFactor=1, mobile=False)
    browser.send("Emulation.setEmulatedMedia", media="print")
    answer = browser.ask(
        """
        document.querySelectorAll("details").forEach(node => (node.open = true));
        const edge = document.documentElement.clientWidth + 1;
        const cut = [...document.querySelectorAll("table, svg, canvas, p, code")]
            .filter(node => node.getBoundingClientRect().right > edge);
        const heads = [...document.querySelectorAll("thead th")]
            .filter(head => getComputedStyle(head, "::before").content.length < 3);
        const name = node => node.closest("figure")?.querySelector("h4").textContent ?? node.textContent;
        return { cut: cut.map(name), wide: document.documentElement.scrollWidth - edge, heads: heads.length };
        """
    )
    assert answer["cut"] == []
    assert answer["wide"] <= 0
    assert answer["heads"] == 0
    pdf = browser.send("Page.printToPDF", preferCSSPageSize=True)["data"]
    assert len(pdf) > 10_000


def test_everything_is_reached_by_the_keyboard(
    encore: Encore, features_csv: Path, tmp_path: Path, browser: Chromium
) -> None:
    """Every control has a name and is a stop of the tab key; on the map keys go from clip to clip."""
    embed_table(encore, features_csv)
    encore("head", "hits", "--mode", "song", "--seeds", 1, *QUICK)
    browser.show(write_page(encore, tmp_path, "hits"), "return null")
    nodes = browser.send("Accessibility.getFullAXTree")["nodes"]
    roles = {"button", "combobox", "searchbox", "link", "img", "image", "application", "region", "textbox"}
    nameless = [
        node["role"]["value"]
        for node in nodes
        if not node.get("ignored") and node["role"]["value"] in roles and not node.get("name", {}).get("value")
    ]
    assert nameless == []
    answer = browser.ask(
        """
        const map = window.encore[0].map, status = () => document.querySelector(".status").textContent;
        const press = key => map.canvas.dispatchEvent(new KeyboardEvent("keydown", { key, cancelable: true }));
        map.canvas.focus();
        press("ArrowRight");
        const first = status();
        press("ArrowRight");
        const second = status();
        press("l");
        const listed = [...document.querySelectorAll(".picked tbody th")].map(cell => cell.textContent);
        press("+");
        const zoom = map.zoom.k;
        press("0");
        const controls = [...document.querySelectorAll("a, button, select, input, summary, canvas")];
        const out = controls.filter(node => node.tabIndex < 0).length, title = map.data.titles[map.map.clip[map.focus]];
        return { first, second, listed, title, zoom, whole: map.zoom.k, out };
        """
    )
    assert answer["first"] != answer["second"]
    assert answer["title"] in answer["listed"]
    assert (answer["zoom"], answer["whole"], answer["out"]) == (1.5, 1, 0)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(
    encore: Encore, features_csv: Path, tmp_path: Path, browser: Chromium, scheme: str
) -> None:
    """4.5 to 1 for text, also where a cell is shaded, and 3 to 1 for marks (WCAG 2.2, 1.4.3 and 1.4.11)."""
    embed_table(encore, features_csv)
    encore("head", "hits", "--mode", "song", "--seeds", 1, *QUICK)
    page = write_page(encore, tmp_path, "hits")
    browser.look(1400, scheme)
    browser.open(page.as_uri())
    browser.wait_for("document.documentElement?.dataset.ready === 'yes'")
    answer = browser.ask(
        """
        const numbers = text => text.match(/[\\d.]+/g).map(Number);
        const linear = v => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        const light = rgb => [0.2126, 0.7152, 0.0722].reduce((sum, share, i) => sum + share * linear(rgb[i] / 255), 0);
        const over = (top, below) => below.map((v, i) => (top[3] ?? 1) * top[i] + (1 - (top[3] ?? 1)) * v);
        const ground = node => {
            const chain = [];
            for (let at = node; at; at = at.parentElement) {
                chain.unshift(numbers(getComputedStyle(at).backgroundColor));
            }
            return chain.reduce((below, top) => over(top, below), [255, 255, 255]);
        };
        const contrast = (a, b) => {
            const [x, y] = [light(a), light(b)].sort((p, q) => q - p);
            return (x + 0.05) / (y + 0.05);
        };
        const faint = [];
        for (const node of document.querySelectorAll("main *")) {
            const own = [...node.childNodes].some(child => child.nodeType === 3 && child.textContent.trim());
            if (!own || !node.getClientRects().length) continue;
            const style = getComputedStyle(node);
            const colour = numbers(node instanceof SVGElement ? style.fill : style.color);
            const value = contrast(over(colour, ground(node)), ground(node));
            if (value < 4.5) faint.push(`${node.tagName} ${node.textContent.slice(0, 30)} ${value.toFixed(2)}`);
        }
        const card = ground(document.querySelector(".map"));
        const hex = text => [1, 3, 5].map(i => parseInt(text.slice(i, i + 2), 16));
        const marks = PALETTE.filter(colour => contrast(hex(colour), card) < 3);
        const edge = node => numbers(getComputedStyle(node).borderTopColor);
        const controls = [...document.querySelectorAll("select, input, .tools button, .copy")];
        const pale = controls.filter(node => contrast(edge(node), ground(node.parentElement)) < 3);
        return { faint: [...new Set(faint)].slice(0, 10), marks, controls: pale.length };
        """
    )
    assert answer == {"faint": [], "marks": [], "controls": 0}


def test_formats_name_their_columns_and_tables(encore: Encore, features_csv: Path) -> None:
    """One document whose tables and columns have names of their own; scores are fractions."""
    embed_table(encore, features_csv)
    encore("compare", "hits", "--modes", "song,artist", "--regimes", "random,artist", "--seeds", 2, *QUICK)
    (tables,) = json.loads(encore("report", "hits", "--format", "json").out).values()
    names = [table["name"] for table in tables]
    assert len(set(names)) == len(names)
    for table in tables:
        assert set(table) == {"name", "title", "columns", "scales", "rows", "note"}
        assert len(set(table["columns"])) == len(table["columns"]) == len(table["scales"])
        for row in table["rows"]:
            pairs = zip(table["scales"], row, strict=True)
            assert all(-1 <= cell <= 1 for scale, cell in pairs if scale == 100 and cell is not None)
    titles = re.findall(r"^### (.*)$", encore("report", "hits", "--format", "md").out, re.MULTILINE)
    assert len(set(titles)) == len(titles)
    latex = encore("report", "hits", "--format", "latex").out
    assert latex.count(r"\begin{tabular}") == latex.count(r"\end{tabular}") == len(tables)


def test_collections_of_two_stores_stand_in_one_page(encore: Encore, features_csv: Path, tmp_path: Path) -> None:
    """Of equal names, too; each has the commands of its own store."""
    other = Encore(tmp_path / "elsewhere")
    for each in (encore, other):
        embed_table(each, features_csv)
    page = write_page(encore, tmp_path, "hits", f"{other.store}/hits").read_text(encoding="utf-8")
    for each in (encore, other):
        assert f"encore compare hits --regimes random,artist --store {each.store}" in html.unescape(page)
    document = json.loads(encore("report", "hits", f"{other.store}/hits", "--format", "json").out)
    assert set(document) == {"hits", f"{other.store}/hits"}
    assert "no store" in encore("report", "nowhere/hits", "--format", "json", code=2).err


def test_a_story_without_a_place_has_plain_commands(encore: Encore, features_csv: Path) -> None:
    embed_table(encore, features_csv)
    told = story(Store(encore.store), "hits", Request(backbone=None, modes=["song"], regime=None, against="song"))
    assert told.todo == "encore compare hits --regimes random,artist"
