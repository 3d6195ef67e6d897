"""Hugging Face models from a local folder: tiny ones with drawn weights, saved as the library saves them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from stages.embed.backbones.hf import Hf, HfConfig
from stages.embed.choose import find_backbone, make_backbone
from stages.embed.encode import representation_name
from stages.embed.inputs import Clip
from stages.embed.inputs.spectral import torchaudio_transforms
from store.errors import RequestError
from store.fingerprint import canonical
from store.schema import CatalogInfo

torchaudio_transforms()

import transformers  # noqa: E402

TINY = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
CONV = {"conv_dim": (8, 8), "conv_stride": (10, 8), "conv_kernel": (10, 8), "num_feat_extract_layers": 2}
POSITIONS = {"num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2}


def speech(kind: str) -> Any:
    config = getattr(transformers, f"{kind}Config")(**TINY, **CONV, **POSITIONS)
    return getattr(transformers, f"{kind}Model")(config), transformers.Wav2Vec2FeatureExtractor()


def ast() -> Any:
    config = transformers.ASTConfig(**TINY, num_mel_bins=32, max_length=64)
    return transformers.ASTModel(config), transformers.ASTFeatureExtractor(num_mel_bins=32, max_length=64)


def clap() -> Any:
    audio = {
        "patch_embeds_hidden_size": 8,
        "depths": [1, 1],
        "num_attention_heads": [2, 2],
        "num_hidden_layers": 2,
        "hidden_size": 16,
        "spec_size": 64,
        "num_mel_bins": 16,
        "window_size": 4,
    }
    text = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8, "vocab_size": 9}
    config = transformers.ClapConfig(text_config=text, audio_config=audio, projection_dim=12)
    return transformers.ClapModel(config), transformers.ClapFeatureExtractor(
        feature_size=16, truncation="rand_trunc", max_length_s=2
    )


MODELS = {
    "wav2vec2": lambda: speech("Wav2Vec2"),
    "hubert": lambda: speech("Hubert"),
    "ast": ast,
    "clap": clap,
}


@pytest.fixture
def song(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    time = np.arange(3 * 16_000) / 16_000
    soundfile.write(tmp_path / "song.wav", 0.3 * np.sin(900 * time) + 0.02 * rng.standard_normal(len(time)), 16_000)
    return tmp_path / "song.wav"


def saved(name: str, folder: Path) -> Any:
    torch.manual_seed(0)
    model, extractor = MODELS[name]()
    model.save_pretrained(folder)
    extractor.save_pretrained(folder)
    return model.eval(), extractor


def opened(folder: Path) -> Hf:
    backbone = Hf(HfConfig(**Hf.settings_of(folder), window_s=1.0, max_windows=2))
    backbone.load(folder)
    backbone.to(torch.device("cpu"))
    return backbone


def expected(name: str, model: Any, extractor: Any, waves: np.ndarray) -> torch.Tensor:
    inputs = extractor(list(waves), sampling_rate=extractor.sampling_rate, return_tensors="pt")
    with torch.inference_mode():
        if name == "clap":
            output = model.get_audio_features(**inputs)
            return output if isinstance(output, torch.Tensor) else output.pooler_output
        if name == "ast":
            return model(**inputs).pooler_output
        return torch.stack([model(row[None]).last_hidden_state.mean(1)[0] for row in inputs.input_values])


@pytest.mark.parametrize("name", MODELS)
def test_it_gives_what_the_library_gives(name: str, tmp_path: Path, song: Path) -> None:
    model, extractor = saved(name, tmp_path / name)
    backbone = opened(tmp_path / name)
    clip = Clip(clip_id="c", path=song)
    windows = torch.from_numpy(backbone.input.load(clip))
    vectors = backbone.encode(windows)
    assert vectors.shape == (2, *backbone.shape)
    want = expected(name, model, extractor, backbone.input.audio.load(clip))
    if name == "clap":
        want, got_unit = (torch.nn.functional.normalize(x, dim=1) for x in (want, vectors))
        torch.testing.assert_close(got_unit, want, atol=1e-5, rtol=0)
    else:
        torch.testing.assert_close(vectors, want, atol=1e-5, rtol=0)
    torch.testing.assert_close(backbone.encode(windows[1:]), vectors[1:], atol=1e-6, rtol=0)
    assert str(tmp_path) not in json.dumps(canonical(backbone.config))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("layout", ["nameless", "processor", "links"])
def test_other_layouts_of_the_same_folder(name: str, layout: str, tmp_path: Path, song: Path) -> None:
    """Before the extractor's name was saved; as transformers 5 saves a processor; as the hub's cache links to blobs."""
    folder = tmp_path / name
    saved(name, folder)
    clip = Clip(clip_id="c", path=song)
    plain = opened(folder)
    windows = torch.from_numpy(plain.input.load(clip))
    path = folder / "preprocessor_config.json"
    described = json.loads(path.read_text())
    if layout == "nameless":
        del described["feature_extractor_type"]
        path.write_text(json.dumps(described))
    elif layout == "processor":
        path.unlink()
        processor = {"processor_class": "AnyProcessor", "feature_extractor": described}
        (folder / "processor_config.json").write_text(json.dumps(processor))
    else:
        (tmp_path / "blobs").mkdir()
        for i, file in enumerate(sorted(folder.iterdir())):
            file.rename(tmp_path / "blobs" / f"beef{i}")
            file.symlink_to(f"../blobs/beef{i}")
    other = opened(folder)
    torch.testing.assert_close(torch.from_numpy(other.input.load(clip)), windows, rtol=0, atol=0)
    torch.testing.assert_close(other.encode(windows), plain.encode(windows), rtol=0, atol=0)
    assert canonical(other.config) == canonical(plain.config)


def test_a_processor_without_a_feature_extractor_is_refused(tmp_path: Path) -> None:
    saved("hubert", tmp_path / "h")
    (tmp_path / "h" / "preprocessor_config.json").unlink()
    (tmp_path / "h" / "processor_config.json").write_text('{"processor_class": "X"}')
    with pytest.raises(RequestError, match="describes no feature extractor"):
        Hf.settings_of(tmp_path / "h")


def test_folders_that_are_no_model_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="no folder"):
        Hf.settings_of(tmp_path / "absent")
    with pytest.raises(RequestError, match=r"config\.json is not there"):
        Hf.settings_of(tmp_path)
    saved("hubert", tmp_path / "h")
    weights = tmp_path / "h" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(RequestError, match="give the folder of a Hugging Face model"):
        opened(tmp_path / "h")
    weights.unlink()
    with pytest.raises(RequestError, match="give the folder"):
        opened(tmp_path / "h")
    torch.save({"weight": torch.zeros(1), "code": Path("x")}, tmp_path / "h" / "pytorch_model.bin")
    with pytest.raises(
        RequestError, match=r"pytorch_model\.bin .* code .*, which is never run.*safetensors"
    ) as refused:
        opened(tmp_path / "h")
    assert "weights_only" not in str(refused.value)
    config = tmp_path / "h" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"model_type": "bert"}))
    with pytest.raises(RequestError, match="unknown kind of model for hf 'bert'"):
        opened(tmp_path / "h")
    config.write_text("{")
    with pytest.raises(RequestError, match="is not JSON"):
        Hf.settings_of(tmp_path / "h")
    with pytest.raises(RequestError, match="without one it has no layers"):
        Hf(HfConfig())


@pytest.mark.parametrize("safe", [True, False])
def test_a_model_of_the_hub_is_fetched_by_the_hubs_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, safe: bool
) -> None:
    saved("hubert", tmp_path / "hub")
    if not safe:
        (tmp_path / "hub" / "model.safetensors").unlink()
    requests: list[tuple[str, list[str]]] = []

    def snapshot_download(model: str, *, allow_patterns: list[str]) -> str:
        requests.append((model, allow_patterns))
        if model == "nobody/nothing":
            raise OSError("401 Client Error.\nRepository Not Found")
        return str(tmp_path / "hub")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    assert Hf.fetch("own/hubert") == tmp_path / "hub"
    assert [patterns[-1] for _, patterns in requests] == ["model.safetensors", "pytorch_model.bin"][: 2 - safe]
    if safe:
        info = CatalogInfo(name="n", title="", version="1", licence="", citation="", backbone="hf")
        remote, mark = make_backbone(find_backbone("hf:own/hubert", None), {"window_s": "1.0"}, info)
        local, same = make_backbone(find_backbone("hf", str(tmp_path / "hub")), {"window_s": "1.0"}, info)
        assert representation_name(remote, mark) == representation_name(local, same)
        with pytest.raises(RequestError, match="names its weights"):
            find_backbone("hf:own/hubert", "w")
        with pytest.raises(RequestError, match="fcn has no published models to name"):
            make_backbone(find_backbone("fcn:large", None), {}, info)
    with pytest.raises(RequestError, match=r"hf:nobody/nothing cannot be fetched: 401 Client Error\.; give its folder"):
        Hf.fetch("nobody/nothing")
