"""MAEST: a spectrogram transformer trained to tell Discogs' styles, every block of it.

Reads 16 kHz audio in windows as long as the model was trained with (5 to 30 s). The representation is, for each block,
its two tokens for the whole (``CLS`` and ``DIST``) and the mean over all patches, one behind the other, averaged over
windows spread evenly over the clip. The authors found blocks in the middle to tell most for other tasks.

``--weights DIR`` names the folder of a published model (see `stages.embed.backbones.hf`); none of its code is run, so
its mel spectrogram is computed here: 512-point FFT, hop 256, 96 bands on Slaney's scale, ``log10(1 + 10^4 mel)``,
shifted by the mean and divided by twice the deviation that the model's folder tells.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from stages.embed.backbones.hf import Hf
from stages.embed.inputs.audio import AudioInput
from stages.embed.inputs.spectral import Mel, mel_spectrogram
from store.errors import RequestError

_KIND = "audio-spectrogram-transformer"
_MEL = Mel(rate_hz=16_000, fft=512, hop=256, bands=96, low_hz=0.0, high_hz=8_000.0, scale="slaney")
_FRONT_END = {  # what a folder's description of the spectrogram must say, where it says it
    "sampling_rate": _MEL.rate_hz,
    "n_fft": _MEL.fft,
    "hop_length": _MEL.hop,
    "num_mel_bins": _MEL.bands,
    "log_compression": "logC",
    "do_normalize": True,
}
_MEAN, _DEVIATION = 2.06755686098554, 1.268292820667291  # of Discogs20, the published models' own


@dataclass(frozen=True, slots=True, kw_only=True)
class MaestConfig:
    """Settings; the first two come from the folder.

    Attributes
    ----------
    architecture, extractor : its ``config.json`` and ``preprocessor_config.json``, as JSON.
    max_windows : windows of a clip whose vectors are averaged.
    min_s : shorter clips are refused.
    """

    architecture: str = "{}"
    extractor: str = "{}"
    max_windows: int = 3
    min_s: float = 1.0


class Maest(Hf):
    """``float32 [blocks, 3 * dim]``."""

    NAME = "maest"
    TITLE = "MAEST"
    LICENSE = "CC BY-NC-SA 4.0 (the published weights)"
    CITATION = (
        "P. Alonso-Jiménez, X. Serra, D. Bogdanov: Efficient Supervised Training of Audio Transformers for Music "
        "Representation Learning. ISMIR 2023, arXiv 2309.16418"
    )
    WEIGHTS = (
        "MAEST is published on the Hugging Face hub by mtg-upf: --backbone maest:OWNER/MODEL downloads it, "
        "--weights DIR takes it from a local folder."
    )
    UNREAD: ClassVar[tuple[str, ...]] = ("classifier.",)  # which scores styles
    CPU_BATCH, GPU_BATCH = 1, 16
    Config = MaestConfig

    def __init__(self, config: MaestConfig) -> None:
        architecture, extractor = json.loads(config.architecture), json.loads(config.extractor)
        if architecture and architecture.get("model_type") != _KIND:
            raise RequestError(f"maest reads {_KIND}, not {architecture.get('model_type')!r}: --backbone hf")
        for name, value in _FRONT_END.items():
            if extractor.get(name, value) != value:
                raise RequestError(
                    f"maest reads spectrograms with {name} {value}, and this model's has {extractor[name]}"
                )
        self.config = config
        ast_config = self.build(config.architecture)
        if ast_config.num_mel_bins != _MEL.bands:
            raise RequestError(
                f"maest reads {_MEL.bands} bands, and this model has {ast_config.num_mel_bins}: --backbone hf"
            )
        self.input = AudioInput(
            rate_hz=_MEL.rate_hz,
            window_samples=(ast_config.max_length - 1) * _MEL.hop,
            max_windows=config.max_windows,
            min_s=config.min_s,
        )
        self.shape = (ast_config.num_hidden_layers, 3 * ast_config.hidden_size)
        self._mean, self._deviation = extractor.get("mean", _MEAN), extractor.get("std", _DEVIATION)
        self._spectrogram = mel_spectrogram(_MEL)

    def to(self, device: torch.device) -> None:
        super().to(device)
        self._spectrogram.to(device)

    def forward(self, windows: Tensor) -> Tensor:
        """[batch, samples] -> [batch, blocks, 3 * dim]."""
        model: Any = self.module
        with torch.autocast(windows.device.type, enabled=False):
            mel = torch.log10(1 + 1e4 * self._spectrogram(windows)).transpose(1, 2)  # [batch, frames, bands]
            mel = (mel - self._mean) / (2 * self._deviation)
        x = model.embeddings(mel)
        blocks = []
        for layer in model.layers if hasattr(model, "layers") else model.encoder.layer:
            output = layer(x)
            x = output[0] if isinstance(output, tuple) else output
            blocks.append(torch.cat([x[:, 0], x[:, 1], x[:, 2:].mean(dim=1)], dim=1))
        return torch.stack(blocks, dim=1)
