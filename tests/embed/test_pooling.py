"""What is kept of a layer's output over time: its mean, and by setting its deviation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from stages.embed.backbones._pooling import pooled
from stages.embed.backbones.mert import Mert
from stages.embed.backbones.mert2 import Mert2
from stages.embed.backbones.muq import Muq
from stages.embed.backbones.music2vec import Music2Vec
from store.fingerprint import canonical
from tests.embed import test_conformers, test_mert, test_mert2, test_music2vec

# The backbone, who writes a tiny published model, and where its layers are.
MODELS: list[tuple[Any, Callable[[Path], Any], str]] = [
    (Mert, test_mert.published, "encoder.layers"),
    (Music2Vec, test_music2vec.published, "encoder.layers"),
    (Muq, test_conformers.KINDS["muq"][1], "conformer.layers"),
    (Mert2, test_mert2.published, "layers"),
]


def test_mean_and_deviation() -> None:
    x = np.random.default_rng(0).standard_normal((2, 5, 3))
    kept = pooled(torch.from_numpy(x), deviation=True)
    np.testing.assert_allclose(kept, np.concatenate([x.mean(1), x.std(1)], axis=1))
    np.testing.assert_allclose(pooled(torch.from_numpy(x), deviation=False), x.mean(1))
    assert torch.equal(pooled(torch.ones(1, 1, 2), deviation=True), torch.tensor([[1.0, 1.0, 0.0, 0.0]]))


@pytest.mark.parametrize(("kind", "publish", "where"), MODELS, ids=lambda value: getattr(value, "NAME", None))
def test_layers_with_their_deviations(tmp_path: Path, kind: Any, publish: Callable[[Path], Any], where: str) -> None:
    folder = tmp_path / "model"
    publish(folder)
    settings = kind.settings_of(folder)
    backbones = [kind(kind.Config(**settings, **more)) for more in ({}, {"deviation": True})]
    plain, both = backbones
    assert "deviation" not in canonical(plain.config), "fingerprints of earlier versions hold"
    assert canonical(both.config)["deviation"] is True
    layers, dim = plain.shape
    assert both.shape == (layers, 2 * dim)
    windows = torch.from_numpy(0.3 * np.random.default_rng(0).standard_normal((2, 12_000)).astype(np.float32))
    for backbone in backbones:
        backbone.load(folder)
        backbone.to(torch.device("cpu"))
    outputs: list[Tensor] = []
    middle = both.module.get_submodule(where)[0]
    middle.register_forward_hook(
        lambda _module, _inputs, output: outputs.append(output[0] if isinstance(output, tuple) else output)
    )
    kept = both.encode(windows)
    torch.testing.assert_close(kept[..., :dim], plain.encode(windows), atol=1e-6, rtol=0)
    deviation = torch.cat(outputs).std(dim=1, correction=0)
    first = layers - len(both.module.get_submodule(where))  # 1 where the input of the layers is kept too
    torch.testing.assert_close(kept[:, first, dim:], deviation, atol=1e-6, rtol=0)
