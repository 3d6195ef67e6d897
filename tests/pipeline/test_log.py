"""``--log FILE``: what a long command did, line by line, whatever it shows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from stages import progress
from tests.pipeline.conftest import Encore

LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ (INFO|WARNING|ERROR) +(.*)")


def read(path: Path) -> list[tuple[str, str]]:
    """The level and the text of each line."""
    matches = [LINE.fullmatch(line) for line in path.read_text().splitlines()]
    assert all(matches)
    return [(match[1], match[2]) for match in matches if match]


def test_what_was_written_what_failed_and_how_it_ended(encore: Encore, features_csv: Path, tmp_path: Path) -> None:
    log = tmp_path / "encore.log"
    lines = features_csv.read_text().splitlines()
    lines[3] = ",".join([*lines[3].split(",")[:3], "", *lines[3].split(",")[4:]])
    features_csv.write_text("\n".join(lines) + "\n")
    embed = ("embed", "table", "--name", "hits", "--table", features_csv, "--columns", "artist=artist,labels=genre")
    encore(*embed, "--log", log, "--quiet")
    first = read(log)
    assert first[0][1].startswith("encore")
    (failure,) = [text for level, text in first if level == "WARNING"]
    assert re.match(r".+: [a-z-]+: ", failure)
    assert any(
        re.fullmatch(r"hits/features-\w+: shard 0 is written, 399 clips of it encoded", text) for _, text in first
    )
    assert first[-1] == ("INFO", "done")
    assert "could not be encoded" in log.read_text()

    encore("head", "hits", "--mode", "song", "--seeds", 2, "--set", "epochs=2", "--log", log)
    second = read(log)[len(first) :]
    assert read(log)[: len(first)] == first
    written = [text for _, text in second if text.endswith("is written")]
    assert [text.split(": ")[1] for text in sorted(written)] == ["seed-0 is written", "seed-1 is written"]

    encore("head", "hits", "--mode", "sogn", "--log", log, code=2)
    level, text = read(log)[-1]
    assert (level, "Did you mean song?" in text) == ("ERROR", True)


def test_progress_goes_to_the_log_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "encore.log"
    monkeypatch.setattr(progress, "_LINE_EVERY_S", 0.0)
    progress.be_quiet(True)
    progress.log_to(str(log))
    try:
        with progress.task("counting", 4, "songs") as advance:
            advance(2)
    finally:
        progress.log_to(None)
        progress.be_quiet(False)
    ((level, text),) = read(log)
    assert level == "INFO"
    assert re.fullmatch(r"counting: 2/4 songs \(.*/s, .* s left\)", text)


def test_a_log_that_cannot_be_written(encore: Encore, tmp_path: Path) -> None:
    for where, why in ((tmp_path, "Is a directory"), (tmp_path / "none" / "a.log", "No such file or directory")):
        assert f"error: the log {where} cannot be written: {why}" in encore("store", "ls", "--log", where, code=2).err


def test_a_full_disk_under_the_log_ends_nothing(encore: Encore, features_csv: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    encore(
        "embed", "table", "--name", "hits", "--table", features_csv, "--columns", "labels=genre", "--log", "/dev/full"
    )
