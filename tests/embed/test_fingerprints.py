"""A backbone's fingerprint changes together with its revision, and only then."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from stages import registry
from stages.embed.backbones.mfcc import Mfcc, MfccConfig
from stages.embed.testing import undrawn_weights
from tests.golden import fingerprints


def test_fingerprints_of_default_settings_change_with_the_revision_alone() -> None:
    with undrawn_weights():
        golden, table = fingerprints.read(), fingerprints.compute()
    assert fingerprints.unrevised(golden, table) == [], "raise the REVISION of what changed"
    assert golden == table, "python -m tests.golden writes the table again"
    of_their_models = {"clap", "encodec", "hf", "maest", "mert", "mert2", "music2vec", "musicfm", "muq"}
    assert set(registry.names("backbone")) - set(table) <= of_their_models


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class OtherDefaults(MfccConfig):
    coefficients: int = 21


def test_a_changed_default_is_written_only_with_a_new_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fingerprints, "TABLE", tmp_path / "fingerprints.json")
    monkeypatch.setattr(registry, "names", lambda kind: ["mfcc"])
    fingerprints.write()
    before = fingerprints.read()
    monkeypatch.setattr(Mfcc, "Config", OtherDefaults)
    assert fingerprints.unrevised(before, fingerprints.compute()) == ["mfcc"]
    with pytest.raises(SystemExit, match="raise the REVISION first of mfcc"):
        fingerprints.write()
    assert fingerprints.read() == before
    monkeypatch.setattr(Mfcc, "REVISION", Mfcc.REVISION + 1)
    fingerprints.write()
    assert fingerprints.read() == fingerprints.compute() != before
