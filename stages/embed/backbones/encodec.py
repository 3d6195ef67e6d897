"""EnCodec: what a neural codec hears before it rounds, as a control that never met a label or a masked frame.

Reads 24 kHz audio in windows of 10 s. The representation is the mean over time of the encoder's output, which the codec
would quantise next, averaged over windows spread evenly over the clip.

``--weights DIR`` names the folder of a published model (see `stages.embed.backbones.hf`). The decoder and the codebooks
in it are read with the encoder, and not used.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from stages.embed.backbones.hf import Hf, HfConfig
from store.errors import RequestError


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodecConfig(HfConfig):
    """Settings; see `HfConfig`."""


class Encodec(Hf):
    """``float32 [dim]``."""

    NAME = "encodec"
    TITLE = "EnCodec"
    LICENSE = "none is stated with the published weights for 24 kHz; those for 48 kHz and the code are MIT"
    CITATION = "A. Défossez et al.: High Fidelity Neural Audio Compression. TMLR 2023, arXiv 2210.13438"
    WEIGHTS = (
        "EnCodec for 24 kHz is published on the Hugging Face hub by facebook: --backbone encodec:OWNER/MODEL downloads "
        "it, --weights DIR takes it from a local folder."
    )
    CLASSES: ClassVar[dict[str, tuple[str, str, str]]] = {
        "encodec": ("EncodecModel", "EncodecConfig", "EncodecFeatureExtractor")
    }
    UNREAD: ClassVar[tuple[str, ...]] = ()
    Config = EncodecConfig

    def __init__(self, config: EncodecConfig) -> None:
        super().__init__(config)
        architecture: Any = self.module.config
        if architecture.audio_channels != 1 or architecture.normalize:
            raise RequestError(
                f"encodec reads one channel at its own level, and this model reads {architecture.audio_channels}"
                f"{', levelled' if architecture.normalize else ''}: take the one for 24 kHz"
            )

    def forward(self, windows: Tensor) -> Tensor:
        """[batch, 1, samples] -> [batch, dim]."""
        model: Any = self.module
        mean: Tensor = model.encoder(windows).mean(dim=2)
        return mean
