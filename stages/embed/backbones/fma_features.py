"""The features published with the FMA data set: harmony, timbre and loudness as described before neural networks.

Reads 22,050 Hz audio and needs no weights.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from stages.embed.backbones import Backbone
from stages.embed.inputs.audio import AudioInput
from stages.embed.inputs.classical import DIM, ClassicalInput
from store.errors import RequestError

_RATE_HZ = 22_050


@dataclass(frozen=True, slots=True, kw_only=True)
class FmaFeaturesConfig:
    """Settings.

    Attributes
    ----------
    window_s : length of one window.
    max_windows : how many windows, at most, a clip's numbers are the mean of.
    min_s : shorter clips are refused.
    """

    window_s: float = 30.0
    max_windows: int = 1
    min_s: float = 1.0

    def __post_init__(self) -> None:
        if not 5 <= self.window_s <= 600:  # the lowest note's filter is 0.5 s long, CENS averages over 1 s
            raise RequestError(f"window_s must be from 5 to 600, not {self.window_s}")


class FmaFeatures(Backbone):
    """``float32 [518]``: seven statistics of each of 74 descriptors, in the order of `stages.embed.inputs.classical`.

    The authors of the data set computed theirs at each file's own sampling rate; here every file has the same rate.
    """

    NAME = "fma-features"
    TITLE = "FMA's features (librosa)"
    LICENSE = "MIT (no weights)"
    CITATION = (
        "M. Defferrard, K. Benzi, P. Vandergheynst, X. Bresson: FMA: A Dataset for Music Analysis. ISMIR 2017; "
        "B. McFee et al.: librosa: Audio and Music Signal Analysis in Python. SciPy 2015"
    )
    WEIGHTS = None
    Config = FmaFeaturesConfig

    def __init__(self, config: FmaFeaturesConfig) -> None:
        self.config = config
        samples = round(config.window_s * _RATE_HZ)
        self.input = ClassicalInput(
            audio=AudioInput(
                rate_hz=_RATE_HZ, window_samples=samples, max_windows=config.max_windows, min_s=config.min_s
            )
        )
        self.shape = (DIM,)

    def forward(self, windows: Tensor) -> Tensor:
        """``float32 [batch, 518]``, unchanged; the worker processes compute them."""
        return windows
