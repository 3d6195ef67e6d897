"""EffNet-Discogs: a tiny ONNX network with the published inputs and outputs, and the front end beside librosa's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import librosa
import numpy as np
import pytest
import torch

from stages.embed.backbones.effnet import Effnet, EffnetConfig
from stages.embed.choose import find_backbone, make_backbone
from stages.embed.encode import representation_name
from store.errors import RequestError
from store.schema import CatalogInfo

onnx = pytest.importorskip("onnx")

RNG = np.random.default_rng(0)
WEIGHT = (0.1 * RNG.standard_normal((96, 1280))).astype(np.float32)
FRAMES = RNG.random((1, 128, 1)).astype(np.float32) / 128  # how much each frame counts


def published(path: Path, *, batch: int | str = "batch_size", dim: int = 1280) -> Path:
    """A network that weighs frames, then bands: melspectrogram -> activations and embeddings."""
    from onnx import TensorProto, helper, numpy_helper

    def value(name: str, *shape: int | str) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))

    nodes = [
        helper.make_node("Mul", ["melspectrogram", "frames"], ["weighed"]),
        helper.make_node("ReduceSum", ["weighed", "axis"], ["sum"], keepdims=0),
        helper.make_node("MatMul", ["sum", "weight"], ["linear"]),
        helper.make_node("Tanh", ["linear"], ["embeddings"]),
        helper.make_node("ReduceMean", ["embeddings"], ["activations"], axes=[1], keepdims=1),
    ]
    initializers = [
        numpy_helper.from_array(FRAMES, "frames"),
        numpy_helper.from_array(np.array([1]), "axis"),
        numpy_helper.from_array(WEIGHT[:, :dim], "weight"),
    ]
    outputs = [value("activations", batch, 1), value("embeddings", batch, dim)]
    graph = helper.make_graph(nodes, "tiny", [value("melspectrogram", batch, 128, 96)], outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path


def opened(path: Path, window_s: float = 5.0) -> Effnet:
    backbone = Effnet(EffnetConfig(window_s=window_s, max_windows=2))
    backbone.load(path)
    backbone.to(torch.device("cpu"))
    return backbone


def transcribed(wave: np.ndarray) -> np.ndarray:
    """[1280] of one window: librosa's mel spectrogram, patches one by one, and the network in numpy."""
    power = librosa.feature.melspectrogram(
        y=wave.astype(np.float64),
        sr=16_000,
        n_fft=512,
        hop_length=256,
        window=np.hanning(512),
        n_mels=96,
        fmin=0,
        fmax=8_000,
        pad_mode="constant",
    )
    mel = np.log10(1 + 1e4 * power).T
    patches = [mel[first : first + 128] for first in range(0, len(mel) - 127, 62)]
    return np.mean([np.tanh((FRAMES[0] * patch).sum(0) @ WEIGHT) for patch in patches], axis=0)


def test_it_gives_what_the_published_network_gives(tmp_path: Path) -> None:
    backbone = opened(published(tmp_path / "effnet.onnx"))
    assert (backbone.shape, backbone.input.rate_hz) == ((1280,), 16_000)
    waves = (0.1 * np.random.default_rng(1).standard_normal((2, 80_000))).astype(np.float32)
    vectors = backbone.encode(torch.from_numpy(waves))
    for wave, vector in zip(waves, vectors, strict=True):
        np.testing.assert_allclose(vector.numpy(), transcribed(wave), atol=1e-4, rtol=0)
    torch.testing.assert_close(backbone.encode(torch.from_numpy(waves[1:])), vectors[1:], atol=1e-6, rtol=0)


def test_files_that_are_no_such_network_are_refused(tmp_path: Path) -> None:
    (tmp_path / "noise.onnx").write_bytes(b"noise")
    for path, message in (
        (
            published(tmp_path / "fixed.onnx", batch=64),
            "reads 64 patches at a time, .* discogs-effnet-bsdynamic-1.onnx",
        ),
        (published(tmp_path / "narrow.onnx", dim=200), r"needs a network from \[n, 128, 96\] to one output of 1280"),
        (tmp_path / "noise.onnx", "no ONNX file that onnxruntime reads"),
        (tmp_path / "absent.onnx", "is no file"),
    ):
        with pytest.raises(RequestError, match=message):
            opened(path)
    with pytest.raises(RequestError, match=r"from 2\.048, the length of a patch"):
        EffnetConfig(window_s=2.0)


def test_its_file_is_its_fingerprint(tmp_path: Path) -> None:
    info = CatalogInfo(name="n", title="", version="1", licence="", citation="", backbone="effnet")
    path = published(tmp_path / "effnet.onnx")
    backbone, mark = make_backbone(find_backbone("effnet", str(path)), {}, info)
    assert mark is not None
    assert representation_name(backbone, mark) != representation_name(backbone, None)
    random, _ = make_backbone(find_backbone("effnet", "random"), {}, info)
    with pytest.raises(RequestError, match="effnet is its file, and runs with no other weights"):
        random.encode(torch.zeros(1, 80_000))
