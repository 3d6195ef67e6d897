"""Settings for backbones whose network is described beside their weights, so that they run with random ones.

Sizes are the published ones; ``layers`` makes networks of so many layers of the published width.
"""

from __future__ import annotations

import json
from typing import Any

from stages.embed.backbones._conformer import LARGE

_SPEECH = {"feature_extractor_type": "Wav2Vec2FeatureExtractor", "do_normalize": True}
# Where a configuration says nothing, its class in transformers has the published size.
_MODELS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "mert": ({"model_type": "hubert"}, {**_SPEECH, "sampling_rate": 24_000}),
    "hf": ({"model_type": "hubert"}, {**_SPEECH, "sampling_rate": 16_000}),
    "music2vec": ({"model_type": "data2vec-audio"}, {**_SPEECH, "sampling_rate": 16_000}),
    "maest": ({"model_type": "audio-spectrogram-transformer", "max_length": 1876, "num_mel_bins": 96}, {}),
    "clap": (
        {"model_type": "clap", "projection_dim": 512, "audio_config": {}},
        {"feature_extractor_type": "ClapFeatureExtractor", "truncation": "rand_trunc", "padding": "repeatpad"},
    ),
    "encodec": (
        {"model_type": "encodec"},
        {"feature_extractor_type": "EncodecFeatureExtractor", "sampling_rate": 24_000},
    ),
}
_WHOLE = ("clap", "encodec")  # their layers are of different sizes
_CONFORMER = {
    "mean": 6.0,
    "deviation": 18.0,
    "channels": 512,
    "dim": 1024,
    "layers": 12,
    "strides": (2, 2),
    "conformer": LARGE,
}
_DEPTH = {"mert2": 24}  # of all others 12


def settings(name: str, layers: int | None = None) -> dict[str, Any]:
    """The settings of a backbone; {} for one that knows its own architecture."""
    if name in _MODELS:
        architecture, extractor = _MODELS[name]
        fewer = {} if layers is None or name in _WHOLE else {"num_hidden_layers": layers}
        return {"architecture": json.dumps({**architecture, **fewer}), "extractor": json.dumps(extractor)}
    if name in ("muq", "musicfm"):
        return {"architecture": json.dumps({**_CONFORMER, "layers": layers or _CONFORMER["layers"]})}
    if name == "mert2":
        from stages.embed.backbones.mert2 import _PUBLISHED

        fewer = {} if layers is None else {"num_hidden_layers": layers}
        return {"architecture": json.dumps({**_PUBLISHED, **fewer})}
    return {}


def size(name: str, layers: int | None) -> str:
    """What to say of it beside a figure."""
    if layers is None or name in _WHOLE or not settings(name):
        return "published size"
    return f"{layers} of {_DEPTH.get(name, 12)} layers of published width"
