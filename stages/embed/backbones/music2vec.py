"""Music2Vec: data2vec trained on music, every layer of it.

Reads 16 kHz audio in windows of 30 s, as it was trained. The representation is the mean over time of the output of each
transformer layer, averaged over windows spread evenly over the clip.

``--weights DIR`` names the folder of a published model (see `stages.embed.backbones.hf`). Where it describes no feature
extractor, samples are shifted and scaled to mean 0 and deviation 1, as those of data2vec are.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from stages.embed.backbones._pooling import pooled
from stages.embed.backbones.hf import Hf, HfConfig
from store.fingerprint import ADDED_LATER


@dataclass(frozen=True, slots=True, kw_only=True)
class Music2VecConfig(HfConfig):
    """Settings; see `HfConfig`.

    Attributes
    ----------
    deviation : keep of each layer, behind its mean over time, its deviation over time, averaged over windows as well.
    """

    window_s: float = 30.0
    deviation: bool = field(default=False, metadata=ADDED_LATER)


class Music2Vec(Hf):
    """``float32 [layers, dim]``; [layers, 2 * dim] with deviations."""

    NAME = "music2vec"
    TITLE = "Music2Vec"
    LICENSE = "CC BY-NC 4.0 (the published weights)"
    CITATION = (
        "Y. Li et al.: MAP-Music2Vec: A Simple and Effective Baseline for Self-Supervised Music Audio Representation "
        "Learning. ISMIR 2022 (late-breaking), arXiv 2212.02508"
    )
    WEIGHTS = (
        "Music2Vec is published on the Hugging Face hub by m-a-p: --backbone music2vec:OWNER/MODEL downloads it, "
        "--weights DIR takes it from a local folder."
    )
    CLASSES: ClassVar[dict[str, tuple[str, str, str]]] = {
        "data2vec-audio": ("Data2VecAudioModel", "Data2VecAudioConfig", "Wav2Vec2FeatureExtractor")
    }
    FILES: ClassVar[tuple[str, ...]] = ("config.json", "model.safetensors or pytorch_model.bin")
    EXTRACTOR: ClassVar[dict[str, Any] | None] = {"sampling_rate": 16_000, "do_normalize": True}
    UNREAD: ClassVar[tuple[str, ...]] = ("masked_spec_embed",)  # of its training
    Config = Music2VecConfig

    config: Music2VecConfig

    def __init__(self, config: Music2VecConfig) -> None:
        super().__init__(config)
        architecture: Any = self.module.config
        self.shape = (architecture.num_hidden_layers, architecture.hidden_size * (1 + config.deviation))

    def forward(self, windows: Tensor) -> Tensor:
        """[batch, samples] -> [batch, *shape]."""
        model: Any = self.module
        x = model.feature_extractor(windows).transpose(1, 2)
        projected = model.feature_projection(x)
        x = projected[0] if isinstance(projected, tuple) else projected
        x = model.encoder.layer_norm(x + model.encoder.pos_conv_embed(x))
        outputs = []
        for layer in model.encoder.layers:
            output = layer(x)
            x = output[0] if isinstance(output, tuple) else output
            outputs.append(pooled(x, deviation=self.config.deviation))
        return torch.stack(outputs, dim=1)
