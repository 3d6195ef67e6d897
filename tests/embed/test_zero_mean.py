"""Zero-mean first layers: a recording's level leaves its representation unchanged."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from stages import registry
from stages.embed.backbones._zero_mean import zero_mean
from stages.embed.encode import representation_name
from store.errors import RequestError

SETTINGS: dict[str, dict[str, Any]] = {
    "cnn1d": {},
    "cola": {"size": "tiny"},
    "fcn": {},
    "fcn4": {},
    "mixcnn": {},
    "musicnn": {},
}


def build(name: str, **settings: Any) -> Any:
    torch.manual_seed(0)
    kind = registry.find("backbone", name)
    backbone = kind(kind.Config(**settings))
    backbone.to(torch.device("cpu"))
    return backbone


def wave(backbone: Any) -> Tensor:
    """A tone in noise that grows, at half of full scale: no band falls below -100 dB when it is softer by 20 dB."""
    time_s = torch.arange(backbone.input.window_samples) / backbone.input.rate_hz
    noise = torch.randn(1, len(time_s), generator=torch.Generator().manual_seed(1))
    return (0.3 * torch.sin(2_765 * time_s) + 0.1 * noise) * (0.6 + 0.4 * torch.sin(9 * time_s))


def test_every_backbone_with_the_option_stands_here() -> None:
    names = [name for name in registry.names("backbone") if name != "hf"]
    assert set(SETTINGS) == {name for name in names if hasattr(registry.find("backbone", name).Config(), "zero_mean")}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_gain_leaves_the_representation_unchanged(name: str) -> None:
    backbone = build(name, **SETTINGS[name], zero_mean=True)
    x = wave(backbone)
    vector = backbone.encode(x)
    for gain_db in (-20.0, 20.0):
        louder = backbone.encode(10 ** (gain_db / 20) * x)
        torch.testing.assert_close(louder, vector, atol=1e-4 * float(vector.abs().max()), rtol=0)


@pytest.mark.parametrize("name", ["cnn1d", "cola", "musicnn"])
def test_without_it_a_gain_is_heard(name: str) -> None:
    backbone = build(name, **SETTINGS[name])
    vector, louder = (backbone.encode(gain * wave(backbone)) for gain in (1.0, 10.0))
    assert float((louder - vector).abs().max()) > 1e-2 * float(vector.abs().max())


@pytest.mark.parametrize("conv", [nn.Conv1d(4, 3, 5, padding=2), nn.Conv2d(4, 3, (3, 5), padding=(1, 2))])
def test_filters_sum_to_zero_and_stay_so_in_training(conv: Any) -> None:
    conv = zero_mean(conv)
    x = torch.randn(2, 4, *(9,) * (conv.weight.dim() - 2))
    optimizer = torch.optim.SGD(conv.parameters(), lr=0.05)
    for _ in range(3):
        optimizer.zero_grad()
        conv(x).square().mean().backward()
        optimizer.step()
    assert float(conv.weight.flatten(1).sum(1).detach().abs().max()) < 1e-5
    torch.testing.assert_close(conv(x + 7), conv(x), atol=1e-4, rtol=1e-4)


def test_it_has_a_fingerprint_of_its_own_and_weights_of_its_own(tmp_path: Any) -> None:
    plain, constrained = build("fcn"), build("fcn", zero_mean=True)
    assert representation_name(plain, "w") != representation_name(constrained, "w")
    torch.save(plain.module.state_dict(), tmp_path / "w.pt")
    with pytest.raises(RequestError, match=r"w\.pt: '.*' is missing"):
        constrained.load(tmp_path / "w.pt")
    torch.save(constrained.module.state_dict(), tmp_path / "w.pt")
    other = build("fcn", zero_mean=True)
    other.load(tmp_path / "w.pt")
    assert torch.equal(other.encode(wave(other)), constrained.encode(wave(other)))
