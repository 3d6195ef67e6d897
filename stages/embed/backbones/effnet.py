"""EffNet-Discogs: an EfficientNet that was trained to tell the 400 styles of Discogs, run as the published ONNX file.

Reads 16 kHz audio in windows of 30 s. The front end is that of essentia's ``TensorflowInputMusiCNN``: frames of 512
samples every 256, centred, under a symmetric Hann window; the power of 96 bands on Slaney's scale with filters of area
1; ``log10(1 + 10^4 mel)``. The network sees patches of 128 frames every 62, as in ``TensorflowPredictEffnetDiscogs``,
and frames after the last whole patch are left out. The representation is the mean of the patches' embeddings, averaged
over windows spread evenly over the clip.

``--weights FILE`` names the ONNX file; onnxruntime runs it on the CPU (``encore-mir[onnx]``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from stages.embed.backbones import Backbone, Known
from stages.embed.inputs.audio import AudioInput
from stages.embed.inputs.spectral import Mel, mel_spectrogram
from store.errors import RequestError

DIM = 1280
_MEL = Mel(rate_hz=16_000, fft=512, hop=256, bands=96, low_hz=0.0, high_hz=8_000.0, scale="slaney")
_FRAMES, _HOP = 128, 62  # of patches
_BATCH = 64  # patches that are run at a time
_MOST_BYTES = 1 << 28  # of the file; the published ones have 18 MB


@dataclass(frozen=True, slots=True, kw_only=True)
class EffnetConfig:
    """Settings.

    Attributes
    ----------
    window_s, max_windows : windows of a clip whose vectors are averaged.
    min_s : shorter clips are refused.
    """

    window_s: float = 30.0
    max_windows: int = 3
    min_s: float = 1.0

    def __post_init__(self) -> None:
        if not _FRAMES * _MEL.hop / _MEL.rate_hz <= self.window_s <= 600:
            raise RequestError(f"window_s must be from 2.048, the length of a patch, to 600, not {self.window_s}")


class Effnet(Backbone):
    """``float32 [1280]``."""

    NAME = "effnet"
    TITLE = "EffNet-Discogs"
    LICENSE = "CC BY-NC-SA 4.0 (the published weights)"
    CITATION = (
        "P. Alonso-Jiménez, X. Serra, D. Bogdanov: Music Representation Learning Based on Editorial Metadata from "
        "Discogs. ISMIR 2022"
    )
    WEIGHTS = (
        "EffNet-Discogs is published among the models of essentia (essentia.upf.edu/models, feature extractors): give "
        "discogs-effnet-bsdynamic-1.onnx by --weights."
    )
    FILES: ClassVar[tuple[str, ...]] = ("discogs-effnet-bsdynamic-1.onnx",)
    KNOWN: ClassVar[Mapping[str, Known]] = {"discogs-effnet-bsdynamic-1.onnx": (18_027_718, None)}
    CPU_BATCH, GPU_BATCH = 4, 16
    Config = EffnetConfig

    def __init__(self, config: EffnetConfig) -> None:
        self.config = config
        self.input = AudioInput(
            rate_hz=_MEL.rate_hz,
            window_samples=round(config.window_s * _MEL.rate_hz),
            max_windows=config.max_windows,
            min_s=config.min_s,
        )
        self.shape = (DIM,)
        self._spectrogram = mel_spectrogram(_MEL)
        self._spectrogram.get_submodule("spectrogram").window = torch.hann_window(_MEL.fft, periodic=False)
        self._session: Any = None

    def load(self, weights: Path) -> None:
        """Read the ONNX file.

        Raises
        ------
        RequestError
            where onnxruntime is not installed, or the file is not such a network.
        """
        try:
            import onnxruntime
        except ImportError as error:
            raise RequestError("effnet is run by onnxruntime: pip install 'encore-mir[onnx]'") from error
        if not weights.is_file() or weights.stat().st_size > _MOST_BYTES:
            raise RequestError(f"{weights} is no file, or too large. {self.WEIGHTS}")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        try:  # from its bytes: such a file cannot name others that are read with it
            session = onnxruntime.InferenceSession(weights.read_bytes(), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the library has many errors
            raise RequestError(f"{weights}: no ONNX file that onnxruntime reads. {self.WEIGHTS}") from error
        inputs = [(value.name, value.shape) for value in session.get_inputs()]
        outputs = [value.name for value in session.get_outputs() if value.shape[-1:] == [DIM]]
        if len(inputs) != 1 or inputs[0][1][1:] != [_FRAMES, _MEL.bands] or len(outputs) != 1:
            raise RequestError(
                f"{weights} reads {', '.join(str(shape) for _, shape in inputs)}; effnet needs a network from [n, "
                f"{_FRAMES}, {_MEL.bands}] to one output of {DIM}. {self.WEIGHTS}"
            )
        if isinstance(inputs[0][1][0], int):
            raise RequestError(
                f"{weights} reads {inputs[0][1][0]} patches at a time, no more and no fewer. {self.WEIGHTS}"
            )
        self._session, self._names = session, (inputs[0][0], outputs[0])

    def to(self, device: torch.device) -> None:
        super().to(device)
        if self.precision != "32":
            raise RequestError("effnet runs in the precision of its file; leave out --precision")
        self._spectrogram.to(device)

    def forward(self, windows: Tensor) -> Tensor:
        """[batch, samples] -> [batch, 1280]."""
        if self._session is None:
            raise RequestError(f"effnet is its file, and runs with no other weights. {self.WEIGHTS}")
        mel = torch.log10(1 + 1e4 * self._spectrogram(windows))
        patches = mel.unfold(2, _FRAMES, _HOP).permute(0, 2, 3, 1)  # [batch, patches, frames, bands]
        batch, count = patches.shape[:2]
        source, target = self._names
        embeddings = [
            torch.from_numpy(self._session.run([target], {source: part.cpu().numpy()})[0])
            for part in torch.split(patches.flatten(0, 1).contiguous(), _BATCH)
        ]
        return torch.cat(embeddings).reshape(batch, count, DIM).mean(dim=1).to(windows.device)
