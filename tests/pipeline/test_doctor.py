"""``encore doctor``, and the fixed clip that ``encore embed`` compares."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from stages.embed import probe
from stages.embed.backbones.mfcc import Mfcc
from tests.embed.test_clap import published as published_clap
from tests.embed.test_clap import weights as clap_weights
from tests.embed.test_conformers import published_muq, published_musicfm, weights
from tests.embed.test_maest import published as maest
from tests.embed.test_mert import published as mert
from tests.embed.test_mert2 import published as mert2
from tests.embed.trees import midi
from tests.pipeline.conftest import Encore


@pytest.fixture
def doctor(tmp_path: Path) -> Encore:
    """``encore doctor``, which takes no --store: the fixture's own is left out."""
    from typer.testing import CliRunner

    from pipeline.cli import app
    from tests.pipeline.conftest import Ran

    class Doctor(Encore):
        def __call__(self, *args: object, code: int = 0) -> Ran:
            result = CliRunner().invoke(app, ["doctor", *map(str, args)])
            assert result.exit_code == code, result.output
            return Ran(result.exit_code, result.stdout, result.stderr)

    return Doctor(tmp_path)


def test_what_a_backbone_wants(doctor: Encore) -> None:
    text = doctor("muq").out
    assert "licence: CC BY-NC 4.0" in text
    assert "model.safetensors or pytorch_model.bin" in text
    assert doctor("mfcc", "--json").json["fits"] is None
    assert "mfcc has no weights" in doctor("mfcc", "--weights", "x", code=2).err
    assert "Did you mean muq?" in doctor("muqq", code=2).err


def test_files_that_fit(doctor: Encore, tmp_path: Path) -> None:
    path = published_muq(tmp_path / "muq")
    answer = doctor("muq", "--weights", path, "--set", "window_s=1.0", "--json").json
    assert answer["fits"] is True
    assert answer["shape"] == [3, 16]
    assert [file["name"] for file in answer["files"]] == ["config.json", "model.safetensors"]
    assert "fits: 3 x 16 numbers a clip" in doctor("muq", "--weights", path, "--set", "window_s=1.0").out


def test_files_that_do_not_fit(doctor: Encore, tmp_path: Path) -> None:
    state = weights()
    for name in ("bias", "weight"):
        state[f"model.flash.{name}"] = state.pop(f"model.conv.linear.{name}")
    answer = doctor("muq", "--weights", published_muq(tmp_path / "muq", state), "--json", code=1).json
    assert answer["missing"] == ["conv.linear.weight", "conv.linear.bias"]
    assert answer["unexpected"] == ["flash.bias", "flash.weight"]
    state = clap_weights()
    del state["audio_projection.linear1.bias"]
    published_clap(tmp_path / "clap", state)
    text = doctor("clap", "--weights", tmp_path / "clap", "--set", "window_s=2.0", code=1).out
    assert "1 name missing:\n  audio_projection.linear1.bias" in text
    state = weights()
    state["model.conv.linear.bias"][0] = torch.nan
    answer = doctor("muq", "--weights", published_muq(tmp_path / "nan", state), "--json", code=1).json
    assert "not finite" in answer["problem"]
    assert "there is no" in doctor("muq", "--weights", tmp_path / "absent", code=1).out


@pytest.mark.parametrize(
    ("name", "file", "changes"),
    [
        ("mert", "config.json", {"model_type": ["hubert"]}),
        ("mert", "preprocessor_config.json", {"sampling_rate": "many"}),
        ("mert", "config.json", {"num_attention_heads": 0}),
        ("muq", "config.json", {"encoder_dim": 10**7}),
        ("mert2", "config.json", {"num_hidden_layers": 0}),
        ("maest", "preprocessor_config.json", {"mean": [1, 2, 3]}),
    ],
)
def test_descriptions_that_may_say_anything(
    doctor: Encore, tmp_path: Path, name: str, file: str, changes: dict[str, object]
) -> None:
    makers: dict[str, Callable[[Path], object]] = {"mert": mert, "muq": published_muq, "mert2": mert2, "maest": maest}
    makers[name](tmp_path / "model")
    path = tmp_path / "model" / file
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    answer = doctor(name, "--weights", tmp_path / "model", "--json", code=1).json
    assert str(tmp_path / "model") in answer["problem"] or name in answer["problem"]
    path.write_text("{" * 100_000)
    assert doctor(name, "--weights", tmp_path / "model", "--json", code=1).json["fits"] is False


def test_a_file_that_has_a_published_name_and_is_another(doctor: Encore, tmp_path: Path) -> None:
    path = published_musicfm(tmp_path / "musicfm")
    text = doctor("musicfm", "--weights", path, "--set", "window_s=1.0", code=1).out
    assert "NOT as published" in text
    assert "fits: 3 x 16 numbers a clip" in text


def test_whether_words_are_understood(doctor: Encore, tmp_path: Path) -> None:
    published_clap(tmp_path / "clap")
    assert "words: yes" in doctor("clap", "--weights", tmp_path / "clap", "--set", "window_s=2.0").out
    (tmp_path / "clap" / "merges.txt").unlink()
    (tmp_path / "clap" / "vocab.json").unlink()
    answer = doctor("clap", "--weights", tmp_path / "clap", "--set", "window_s=2.0", "--json").json
    assert "has no tokenizer" in answer["words"]


def test_a_network_that_gives_other_numbers_is_refused(
    encore: Encore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As under another version of the library that computes them."""
    songs = tmp_path / "songs"
    songs.mkdir()
    (songs / "0.mid").write_bytes(midi(20.0))
    embed = ("embed", "folder", "--data", songs, "--name", "own", "--unlabelled", "--backbone", "clamp3")
    embed = (*embed, "--set", "size=tiny", "--weights", "random")
    encore(*embed)
    (file,) = encore.store.glob("own/*/probe.json")
    before = json.loads(file.read_text())
    assert len(before["numbers"]) == 32
    assert before["versions"]["torch"] == torch.__version__
    (songs / "1.mid").write_bytes(midi(21.0))
    near = {**before, "numbers": [number * (1 + 1e-4) for number in before["numbers"]]}
    file.write_text(json.dumps(near))
    encore(*embed)
    assert json.loads(file.read_text()) == near
    older = {"torch": "0.4.1"}
    other = {"numbers": [-number for number in before["numbers"]], "versions": older}
    file.write_text(json.dumps(other))
    for grows in (False, True):  # other libraries are told even where nothing is to be encoded
        if grows:
            (songs / "2.mid").write_bytes(midi(22.0))
        refused = encore(*embed, code=2).err
        assert f"torch 0.4.1, now {torch.__version__}" in refused
        assert "encore store remove own --backbone clamp3-" in refused
    numbers = json.dumps(before["numbers"])
    for damage in (
        "{",
        "[]",
        "[" * 100_000,
        '{"numbers": [1' + "0" * 400 + '], "versions": {}}',
        f'{{"numbers": {numbers}, "versions": 5}}',
    ):
        file.write_text(damage)
        assert "remove it to have it written anew" in encore(*embed, code=2).err
    file.write_text(numbers.join(('{"numbers": ', ', "versions": {}}')).replace(numbers[1:5], "NaN, 1", 1))
    assert "gave other numbers" in encore(*embed, code=2).err
    file.unlink()
    encore(*embed)
    assert file.is_file()
    file.write_text(json.dumps({**before, "versions": older}))
    assert "nothing was encoded" in encore(*embed).out
    assert json.loads(file.read_text())["same"] == [before["versions"]]
    file.write_text(json.dumps({**before, "versions": older, "same": 5}))
    encore(*embed)
    assert json.loads(file.read_text())["same"] == [before["versions"]]
    asked: list[object] = []
    monkeypatch.setattr(probe, "probe", lambda *_: asked.append(None))
    encore(*embed)
    assert asked == [], "libraries that gave the same are known"


def test_the_fixed_clip_is_heard_by_each_kind_of_backbone() -> None:
    backbone = Mfcc(Mfcc.Config())
    numbers = probe.probe(backbone, torch.device("cpu"))
    assert numbers is not None
    assert numbers.shape == (32,)
    assert abs(numbers).min() > 0
    again = probe.probe(backbone, torch.device("cpu"))
    assert again is not None
    assert (numbers == again).all()
