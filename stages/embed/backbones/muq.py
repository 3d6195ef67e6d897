"""MuQ: a conformer trained to tell masked frames by the codes of a mel quantiser, every layer of it.

See `stages.embed.backbones._conformer` for what it reads and what is kept. ``--weights DIR`` names the folder of a
published model (``config.json`` and ``model.safetensors``, or ``pytorch_model.bin``); none of its code is run.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from stages.embed.backbones._conformer import LARGE, MEL, Conformer, ConformerConfig
from stages.embed.backbones.hf import fetch_model, read_json, read_weights
from store.errors import RequestError

_STRIDES = {25: (2, 2), 50: (2, 1)}  # in time, for the frames a second that the model tells


@dataclass(frozen=True, slots=True, kw_only=True)
class MuqConfig(ConformerConfig):
    """Settings; see `ConformerConfig`."""


class Muq(Conformer):
    """``float32 [layers + 1, dim]``."""

    NAME = "muq"
    TITLE = "MuQ"
    LICENSE = "CC BY-NC 4.0 (the published weights)"
    CITATION = (
        "H. Zhu et al.: MuQ: Self-Supervised Music Representation Learning with Mel Residual Vector Quantization. "
        "arXiv 2501.01108"
    )
    WEIGHTS = (
        "MuQ is published on the Hugging Face hub as OpenMuQ/MuQ-large-msd-iter: --backbone muq:OWNER/MODEL downloads "
        "it, --weights DIR takes it from a local folder."
    )
    FILES: ClassVar[tuple[str, ...]] = ("config.json", "model.safetensors or pytorch_model.bin")
    Config = MuqConfig

    @classmethod
    def fetch(cls, model: str) -> Path:
        """The folder of a model of the hub (`fetch_model`)."""
        return fetch_model(cls.NAME, model, ["config.json"], ("model.safetensors", "pytorch_model.bin"))

    @classmethod
    def settings_of(cls, weights: Path) -> dict[str, str]:
        """The settings that the folder decides; RequestError where it describes no MuQ."""
        if not weights.is_dir():
            raise RequestError(f"{weights} is no folder; muq takes by --weights the folder of a published model")
        path = weights / "config.json"
        return {"architecture": json.dumps(_architecture(read_json(path), path), sort_keys=True)}

    def load(self, weights: Path) -> None:
        """Read the folder's weights."""
        self.fill(read_weights(weights), str(weights))


def _architecture(description: dict[str, Any], path: Path) -> dict[str, Any]:
    """What decides the network, of MuQ's own description."""
    try:
        statistics, conformer = description["stat"], description["w2v2_config"]
        architecture = {
            "mean": float(statistics["melspec_2048_mean"]),
            "deviation": float(statistics["melspec_2048_std"]),
            "channels": int(description["conv_dim"]),
            "dim": int(description["encoder_dim"]),
            "layers": int(description["encoder_depth"]),
            "conformer": {name: conformer[name] for name in LARGE},
        }
        rate, front = int(description.get("label_rate", 25)), (description["hop_length"], description["n_mels"])
    except (KeyError, TypeError, ValueError) as error:
        raise RequestError(f"{path} does not describe a MuQ: {error} is missing or no number") from error
    if front != (MEL.hop, MEL.bands) or rate not in _STRIDES:
        raise RequestError(
            f"{path}: muq reads {MEL.bands} bands every {MEL.hop} samples and makes 25 or 50 frames a second, and this "
            f"model reads {front[1]} every {front[0]} and makes {rate}"
        )
    if conformer["position_embeddings_type"] != "rotary":
        raise RequestError(f"{path}: muq has rotary positions, not {conformer['position_embeddings_type']!r}")
    return {**architecture, "strides": _STRIDES[rate]}
