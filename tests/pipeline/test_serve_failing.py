"""What a server says where it fails itself."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from stages.ask.guard import DEFECT
from stages.ask.service import Snapshot
from tests.pipeline.conftest import Encore
from tests.pipeline.serving import make_collection, serving, write_recording


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> Encore:
    return make_collection(tmp_path_factory.mktemp("failing"))


def test_a_defect_is_told_in_a_sentence_and_harms_nothing(
    mine: Encore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("too small")

    with serving(mine.store) as server:
        monkeypatch.setattr(Snapshot, "listed", fail)
        answer = server.get("/songs")
        assert (answer.status_code, answer.json()) == (500, {"error": DEFECT})
        assert server.get("/similar", song="3.wav", count=0).json()["similar"] == []
        # The sentence comes after the answer; before the next request is read it is there.
        assert "defect: ZeroDivisionError while GET /songs was answered: too small" in capsys.readouterr().err


def test_an_upload_that_cannot_be_kept(mine: Encore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with serving(mine.store) as server:
        monkeypatch.setattr(shutil, "copyfileobj", full)
        answer = server.post(write_recording(tmp_path / "new.wav", 500))
        assert (answer.status_code, answer.json()["error"]) == (
            503,
            "the upload cannot be kept: No space left on device",
        )
