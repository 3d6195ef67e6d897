"""What the published taggers `fcn` and `musicnn` share: settings, spectrogram, tags, the origin of their weights."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, nn

from stages.embed.inputs.audio import AudioInput
from stages.embed.inputs.spectral import Mel, decibels, mel_spectrogram
from stages.embed.objectives import Training
from store.errors import RequestError
from store.fingerprint import ADDED_LATER

LICENSE = "MIT (code and weights of minzwon/sota-music-tagging-models)"

WEIGHTS = (
    "github.com/minzwon/sota-music-tagging-models publishes models/{{mtat,msd,jamendo}}/{name}/best_model.pth "
    "(M. Won, A. Ferraro, D. Bogdanov, X. Serra: Evaluation of CNN-based Automatic Music Tagging Models, SMC 2020)"
)

TRAINING = Training(batch=16, learning_rate=1e-3, patience=8)

MAX_WINDOW_S = 600.0
MEL = Mel(rate_hz=16_000, fft=512, hop=256, bands=96, low_hz=0.0, high_hz=8_000.0)

# MTG-Jamendo's 50 most frequent tags (data/tags/top50.txt of MTG/mtg-jamendo-dataset), in the order of the published
# networks' outputs: their training sorted the tags with the kind as a prefix.
_TAGS = {
    "genre": (
        "alternative ambient atmospheric chillout classical dance downtempo easylistening electronic experimental folk "
        "funk hiphop house indie instrumentalpop jazz lounge metal newage orchestral pop popfolk poprock reggae rock "
        "soundtrack techno trance triphop world"
    ),
    "instrument": (
        "acousticguitar bass computer drummachine drums electricguitar electricpiano guitar keyboard piano strings "
        "synthesizer violin voice"
    ),
    "mood/theme": "emotional energetic film happy relaxing",
}
JAMENDO_TAGS = tuple(f"{kind}---{tag}" for kind, tags in _TAGS.items() for tag in tags.split())


@dataclass(frozen=True, slots=True, kw_only=True)
class TaggerConfig:
    """Settings; the defaults are those that the published weights were trained with.

    Attributes
    ----------
    window_s : length of one window.
    max_windows : how many windows, at most, a clip's vector is the mean of.
    min_s : shorter clips are refused.
    mel : settings of the spectrogram.
    zero_mean : constrain the first layer's filters to zero mean (see `_zero_mean`); no published weights have that.
    """

    window_s: float
    max_windows: int
    min_s: float = 1.0
    mel: Mel = MEL
    zero_mean: bool = field(default=False, metadata=ADDED_LATER)

    def __post_init__(self) -> None:
        least_s = self.mel.fft / self.mel.rate_hz
        if not least_s <= self.window_s <= MAX_WINDOW_S:
            raise RequestError(f"window_s must be from {least_s:g} to {MAX_WINDOW_S:g}, not {self.window_s}")

    @property
    def window_samples(self) -> int:
        return round(self.window_s * self.mel.rate_hz)

    def audio(self) -> AudioInput:
        return AudioInput(
            rate_hz=self.mel.rate_hz,
            window_samples=self.window_samples,
            max_windows=self.max_windows,
            min_s=self.min_s,
        )


class Tagger(nn.Module):
    """The first layers of both networks, under the names that the published checkpoints use."""

    def __init__(self, mel: Mel) -> None:
        super().__init__()
        self.spec = mel_spectrogram(mel)
        self.spec_bn = nn.BatchNorm2d(1)

    def spectrogram(self, wave: Float[Tensor, "batch samples"]) -> Float[Tensor, "batch 1 bands frames"]:
        """Mel spectrogram in decibels, normalised by one mean and one variance over all bands."""
        with torch.autocast(wave.device.type, enabled=False):
            normalised: Tensor = self.spec_bn(decibels(self.spec(wave)).unsqueeze(1))
        return normalised
