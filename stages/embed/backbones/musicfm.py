"""MusicFM: a conformer trained to tell masked frames by random codes, every layer of it.

See `stages.embed.backbones._conformer` for what it reads and what is kept. ``--weights FILE`` names a published
checkpoint (``pretrained_msd.pt`` or ``pretrained_fma.pt``), which has its ``msd_stats.json`` or ``fma_stats.json``
beside it; sizes are those of its weights.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from stages.embed.backbones import Known
from stages.embed.backbones._conformer import LARGE, Conformer, ConformerConfig
from stages.embed.backbones.hf import fetch_model, read_json
from stages.embed.weights import read_state_dict
from store.errors import RequestError, unknown

_REPOSITORY, _REVISION = "minzwon/MusicFM", "4513b38bc25ad1d227b1980819b9691ba97f4d87"
_MODELS = ("msd", "fma")  # by what they were trained on
_HEAD = 64  # numbers a head of attention has, in a checkpoint that does not tell its frequencies


@dataclass(frozen=True, slots=True, kw_only=True)
class MusicfmConfig(ConformerConfig):
    """Settings; see `ConformerConfig`."""


class Musicfm(Conformer):
    """``float32 [layers + 1, dim]``."""

    NAME = "musicfm"
    TITLE = "MusicFM"
    LICENSE = "MIT (the published weights)"
    CITATION = "M. Won, Y.-N. Hung, D. Le: A Foundation Model for Music Informatics. ICASSP 2024, arXiv 2311.03318"
    WEIGHTS = (
        f"MusicFM is published on the Hugging Face hub as {_REPOSITORY}: --backbone musicfm:msd or musicfm:fma "
        f"downloads it, --weights FILE takes pretrained_msd.pt with msd_stats.json beside it (or the same of fma)."
    )
    FILES: ClassVar[tuple[str, ...]] = (
        "pretrained_msd.pt or pretrained_fma.pt",
        "beside it, msd_stats.json or fma_stats.json",
    )
    KNOWN: ClassVar[Mapping[str, Known]] = {
        "pretrained_msd.pt": (1_316_802_088, "218b483a0256ddef736267425fabb166fd97008983696bb9270def464b47bded"),
        "pretrained_fma.pt": (1_316_802_154, "68392eee13d34c2941b3761934abb6b1e67b2e9df498695bda2ea5c1087d4b96"),
        "msd_stats.json": (2_277, "c36c61ab10ca4d2e7fdfefc3fcc15205316bec276a06a47baa3641a62c546f22"),
        "fma_stats.json": (2_281, "5416e468018bae68c6231d4cbb2b11f0d11c04e6437881505ae427a3f8344904"),
    }
    Config = MusicfmConfig

    @classmethod
    def fetch(cls, model: str) -> Path:
        """The checkpoint ``msd`` or ``fma`` of the hub, or ``msd@REVISION``; its statistics lie beside it."""
        name, _, revision = model.partition("@")
        if name not in _MODELS:
            raise unknown("MusicFM", name, _MODELS)
        file = f"pretrained_{name}.pt"
        pinned = f"{_REPOSITORY}@{revision or _REVISION}"
        return fetch_model(cls.NAME, pinned, [f"{name}_stats.json"], [file]) / file

    @classmethod
    def settings_of(cls, weights: Path) -> dict[str, str]:
        """The settings that the checkpoint and its statistics decide."""
        statistics = _statistics(weights)
        values = read_json(statistics)
        try:
            mean, deviation = float(values["melspec_2048_mean"]), float(values["melspec_2048_std"])
        except (KeyError, TypeError, ValueError) as error:
            raise RequestError(
                f"{statistics}: {error} is missing or no number; give MusicFM's own statistics"
            ) from error
        architecture = {"mean": mean, "deviation": deviation, **_sizes(read_state_dict(weights), weights)}
        return {"architecture": json.dumps(architecture, sort_keys=True)}

    def load(self, weights: Path) -> None:
        """Read a checkpoint."""
        self.fill(read_state_dict(weights), str(weights))


def _statistics(weights: Path) -> Path:
    """The one file of statistics beside a checkpoint, or of several that of the same name: msd or fma."""
    if not weights.is_file():
        raise RequestError(f"{weights} is no file; musicfm takes by --weights a checkpoint such as pretrained_msd.pt")
    files = sorted(weights.parent.glob("*stats.json"))
    if len(files) > 1:
        files = [file for file in files if any(name in file.name and name in weights.name.lower() for name in _MODELS)]
    if len(files) != 1:
        raise RequestError(
            f"{weights} needs the statistics that it was trained with beside it: msd_stats.json or fma_stats.json, one "
            f"of them"
        )
    return files[0]


def _sizes(state: Mapping[str, Tensor], weights: Path) -> dict[str, Any]:
    """What decides the network, as far as the shapes of weights tell it."""
    tensors = {key.removeprefix("model."): value for key, value in state.items()}
    layers = {key.split(".")[2] for key in tensors if key.startswith("conformer.layers.")}
    try:
        dim, channels = len(tensors["conv.linear.bias"]), len(tensors["conv.conv.0.conv1.bias"])
        wide = len(tensors["conformer.layers.0.ffn1.intermediate_dense.bias"])
        taps = tensors["conformer.layers.0.conv_module.depthwise_conv.weight"].shape[-1]
    except (KeyError, IndexError, TypeError) as error:
        raise RequestError(f"{weights}: {error} is missing; give a checkpoint of MusicFM") from error
    frequencies = tensors.get("conformer.embed_positions.inv_freq")
    head = _HEAD if frequencies is None else 2 * len(frequencies)
    conformer = {"num_attention_heads": dim // head, "intermediate_size": wide, "conv_depthwise_kernel_size": taps}
    return {
        "channels": channels,
        "strides": (2, 2),
        "dim": dim,
        "layers": len(layers),
        "conformer": {**LARGE, **conformer},
    }
