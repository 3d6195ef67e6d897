"""Any audio model of Hugging Face's transformers, from a local folder or the hub: CLAP, HuBERT, wav2vec2, AST, ....

``--weights DIR`` names the folder (``config.json``, ``model.safetensors``, and ``preprocessor_config.json`` or, as
transformers 5 saves a processor, ``processor_config.json``) as ``save_pretrained`` or ``hf download`` leave it;
``--backbone hf:OWNER/MODEL`` has the hub's own library download it. No code of a model is run. The representation is
the model's own pooled output where it has one (CLAP's projection, AST), and the mean over time elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from stages.embed.backbones import Backbone
from stages.embed.inputs import Clip, Kind
from stages.embed.inputs.audio import AudioInput
from stages.embed.inputs.spectral import torchaudio_transforms
from stages.embed.weights import make_network, read_state_dict
from store.errors import MisfitError, RequestError, unknown

# A configuration's model_type -> the class that holds the audio part, its configuration's class, and the feature
# extractor where the folder names none, as those saved before transformers wrote its name. MERT is a HuBERT.
_CLASSES = {
    "audio-spectrogram-transformer": ("ASTModel", "ASTConfig", "ASTFeatureExtractor"),
    "clap": ("ClapAudioModelWithProjection", "ClapAudioConfig", "ClapFeatureExtractor"),
    "data2vec-audio": ("Data2VecAudioModel", "Data2VecAudioConfig", "Wav2Vec2FeatureExtractor"),
    "hubert": ("HubertModel", "HubertConfig", "Wav2Vec2FeatureExtractor"),
    "mert_model": ("HubertModel", "HubertConfig", "Wav2Vec2FeatureExtractor"),
    "wav2vec2": ("Wav2Vec2Model", "Wav2Vec2Config", "Wav2Vec2FeatureExtractor"),
    "wavlm": ("WavLMModel", "WavLMConfig", "Wav2Vec2FeatureExtractor"),
}
_EXTRACTORS = sorted({extractor for _, _, extractor in _CLASSES.values()} | {"EncodecFeatureExtractor"})
_DECIDES_NOTHING = {"_name_or_path", "architectures", "transformers_version", "torch_dtype", "dtype", "auto_map"}
_MODEL, _EXTRACTOR, _PROCESSOR = "config.json", "preprocessor_config.json", "processor_config.json"
_DESCRIPTIONS = [_MODEL, _EXTRACTOR, _PROCESSOR]
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # the second only where the first is not there
_MOST_BYTES = 1 << 20  # of a JSON file


@dataclass(frozen=True, slots=True, kw_only=True)
class HfConfig:
    """Settings; the first two come from the folder.

    Attributes
    ----------
    architecture, extractor : its ``config.json`` and the description of its feature extractor, as JSON.
    window_s, max_windows : windows of a clip whose vectors are averaged.
    min_s : shorter clips are refused.
    """

    architecture: str = "{}"
    extractor: str = "{}"
    window_s: float = 10.0
    max_windows: int = 3
    min_s: float = 1.0

    def __post_init__(self) -> None:
        if not 0.1 <= self.window_s <= 600:
            raise RequestError(f"window_s must be from 0.1 to 600, not {self.window_s}")


@dataclass(frozen=True, slots=True, kw_only=True)
class HfInput:
    """Windows of samples as the model's own feature extractor prepares them, one window at a time."""

    KIND: ClassVar[Kind] = "audio"
    REVISION: ClassVar[int] = 1

    audio: AudioInput
    extractor: str

    def load(self, clip: Clip) -> np.ndarray[Any, Any]:
        """float32 [windows, ...]; see `AudioInput.load` for what it raises."""
        extract = _extractor(self.extractor)
        windows: np.ndarray[Any, Any] = np.stack([self._prepare(extract, wave) for wave in self.audio.load(clip)])
        return windows

    def _prepare(self, extract: Any, wave: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        prepared = extract(wave, sampling_rate=self.audio.rate_hz, return_tensors="np")
        values = prepared.get("input_features", prepared.get("input_values"))
        features: np.ndarray[Any, Any] = np.asarray(values, dtype=np.float32)[0]
        return features


class Hf(Backbone):
    """``float32 [dim]``, as wide as the model."""

    NAME = "hf"
    TITLE = "Hugging Face audio model"
    LICENSE = "the model's own"
    CITATION = (
        "T. Wolf et al.: Transformers: State-of-the-Art Natural Language Processing. EMNLP 2020 (demonstrations); and "
        "the model's own"
    )
    WEIGHTS = (
        "Any CLAP, MERT/HuBERT, wav2vec2, WavLM or AST model of the Hugging Face hub: --backbone hf:OWNER/MODEL "
        "downloads it, --weights DIR takes it from a local folder."
    )
    FILES: ClassVar[tuple[str, ...]] = (
        "config.json",
        "preprocessor_config.json or processor_config.json",
        "model.safetensors or pytorch_model.bin",
    )
    CLASSES: ClassVar[dict[str, tuple[str, str, str]]] = _CLASSES  # the kinds of models that are read
    EXTRACTOR: ClassVar[dict[str, Any] | None] = None  # where a published folder describes none
    UNREAD: ClassVar[tuple[str, ...]] = ("",)  # how the names of weights begin that a checkpoint may hold in vain
    COMPANIONS: ClassVar[tuple[str, ...]] = ()  # files of a model's folder besides its descriptions and weights
    CPU_BATCH, GPU_BATCH = 1, 32
    Config: ClassVar[type[Any]] = HfConfig

    module: nn.Module

    @classmethod
    def fetch(cls, model: str) -> Path:
        """The folder in which the hub's own library keeps a model, downloaded where it is not there yet.

        ``OWNER/MODEL@REVISION`` names a commit of it. A hash of the weights is part of the fingerprint in any case.
        """
        return fetch_model(cls.NAME, model, [*_DESCRIPTIONS, *cls.COMPANIONS], _WEIGHTS)

    @classmethod
    def settings_of(cls, weights: Path) -> dict[str, str]:
        """The settings that the folder decides."""
        if not weights.is_dir():
            raise RequestError(
                f"{weights} is no folder; {cls.NAME} takes by --weights the folder of a Hugging Face model"
            )
        architecture = read_json(weights / _MODEL)
        has_extractor = any((weights / name).is_file() for name in (_EXTRACTOR, _PROCESSOR))
        extractor = _read_extractor(weights) if has_extractor or cls.EXTRACTOR is None else dict(cls.EXTRACTOR)
        *_, usual = cls.CLASSES.get(str(architecture.get("model_type")), (None,))
        if usual is not None:
            extractor.setdefault("feature_extractor_type", usual)
        settings = {"architecture": architecture, "extractor": extractor}
        return {name: json.dumps(value, sort_keys=True) for name, value in settings.items()}

    def __init__(self, config: HfConfig) -> None:
        self.config = config
        architecture = self.build(config.architecture)
        extract = _extractor(config.extractor)
        rate_hz = getattr(extract, "sampling_rate", 0)
        longest_s = getattr(extract, "nb_max_samples", float("inf")) / max(rate_hz, 1)
        if config.window_s > longest_s:  # CLAP's extractor would read a random part of a longer one
            raise RequestError(f"window_s must be at most {longest_s:g}, what the model reads, not {config.window_s}")
        audio = AudioInput(
            rate_hz=rate_hz,
            window_samples=round(config.window_s * rate_hz),
            max_windows=config.max_windows,
            min_s=config.min_s,
        )
        self.input = HfInput(audio=audio, extractor=config.extractor)
        self.shape = (getattr(architecture, "projection_dim", None) or architecture.hidden_size,)

    def build(self, architecture: str) -> Any:
        """Make the network that a ``config.json`` describes, with drawn weights; its configuration.

        Raises
        ------
        RequestError
            where it describes none, or one of a kind that is not known.
        """
        torchaudio_transforms()  # before transformers, which imports torchaudio without the stand-in
        import transformers

        description = json.loads(architecture)
        if not description:
            raise RequestError(
                f"{self.NAME} takes by --weights the folder of a Hugging Face model; without one it has no layers"
            )
        kind = description.get("model_type", "none")
        if kind not in self.CLASSES:
            raise unknown(f"kind of model for {self.NAME}", kind, self.CLASSES)
        self._class, config_class = (getattr(transformers, name) for name in self.CLASSES[kind][:2])
        description = (
            description.get("audio_config", {}) | projection_of(description) if kind == "clap" else description
        )
        description = {key: value for key, value in description.items() if key != "model_type"}
        self.module = make_network(lambda: self._class(config_class(**description)), self.NAME)
        return self.module.config

    def load(self, weights: Path) -> None:
        """Read the folder's weights; all that the audio part has must be there."""
        self.module = self.read(self._class, self.module.config, weights, self.UNREAD)

    def read(self, kind: Any, config: Any, weights: Path, unread: tuple[str, ...]) -> Any:
        """A network of the class ``kind`` with a folder's weights.

        Parameters
        ----------
        unread : how the names of weights begin that the folder may hold in vain.

        Raises
        ------
        RequestError
            where the folder's weights are damaged, incomplete, or have no place in the network.
        """
        try:
            with _unlogged():  # the library would list every name that is not read
                model, report = kind.from_pretrained(
                    weights, config=config, local_files_only=True, dtype=torch.float32, output_loading_info=True
                )
        except Exception as error:  # damaged files raise what the formats' own readers raise
            if "weights_only" in str(error):  # torch goes on with how to run what a pickle holds
                raise RequestError(
                    f"{weights / _WEIGHTS[1]} is damaged, or holds code besides weights, which is never run; where you "
                    f"trust it, convert it on a machine of its own to {weights / _WEIGHTS[0]} "
                    f"(model.save_pretrained(DIR) of transformers writes that), or take a copy of the model with one"
                ) from error
            reason = str(error).strip().splitlines()[0]
            raise RequestError(f"{weights}: {reason}; give the folder of a Hugging Face model") from error
        missing = sorted(key for key in report["missing_keys"] if not key.endswith("masked_spec_embed"))
        strange = sorted(key for key in report["unexpected_keys"] if not key.startswith(unread))
        if missing:
            text = f"{weights}: {missing[0]!r} is missing; give the folder of a whole model"
            raise MisfitError(text, missing, strange)
        if strange:
            text = f"{weights}: {strange[0]!r} has no place in {self.NAME}; give the folder of such a model"
            raise MisfitError(text, missing, strange)
        return model

    def forward(self, windows: Tensor) -> Tensor:
        """[batch, ...] -> [batch, dim]."""
        return self._pooled(self.module(windows))

    @staticmethod
    def _pooled(output: Any) -> Tensor:
        for name in ("audio_embeds", "pooler_output"):
            if output.get(name) is not None:
                own: Tensor = output[name]
                return own
        mean: Tensor = output.last_hidden_state.mean(dim=1)
        return mean


def projection_of(description: dict[str, Any]) -> dict[str, Any]:
    """The width of CLAP's common space, as the configuration of either tower takes it."""
    return {"projection_dim": description["projection_dim"]} if "projection_dim" in description else {}


@contextmanager
def _unlogged() -> Iterator[None]:
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


@cache
def _extractor(description: str) -> Any:
    """The feature extractor of a ``preprocessor_config.json``."""
    torchaudio_transforms()
    import transformers

    settings = json.loads(description)
    name = settings.pop("feature_extractor_type", "none")
    if name not in _EXTRACTORS:
        raise unknown("feature extractor", name, _EXTRACTORS)
    return getattr(transformers, name)(**settings)


def _read_extractor(folder: Path) -> dict[str, Any]:
    """The description of the feature extractor: a file of its own, or a part of the processor's."""
    if (folder / _EXTRACTOR).is_file() or not (folder / _PROCESSOR).is_file():
        return read_json(folder / _EXTRACTOR)
    description = read_json(folder / _PROCESSOR).get("feature_extractor")
    if not isinstance(description, dict):
        raise RequestError(f"{folder / _PROCESSOR} describes no feature extractor; give the folder of an audio model")
    return _deciding(description)


def fetch_model(name: str, model: str, files: Sequence[str], weights: Sequence[str]) -> Path:
    """The folder of a model of the hub, ``OWNER/MODEL`` or ``OWNER/MODEL@REVISION``, downloaded where it is not there.

    Parameters
    ----------
    name : of the backbone that asks, for messages.
    files, weights : the names that are fetched; of the weights those of the first name that is there.

    Raises
    ------
    RequestError
        where it cannot be fetched.
    """
    from huggingface_hub import snapshot_download

    repository, _, revision = model.partition("@")
    pinned: Any = {"revision": revision} if revision else {}
    folder = Path()
    try:
        for file in weights:
            folder = Path(snapshot_download(repository, allow_patterns=[*files, file], **pinned))
            if (folder / file).is_file():
                break
    except Exception as error:  # no such model, no network, a full disk: the library has many errors
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise RequestError(f"{name}:{model} cannot be fetched: {reason}; give its folder by --weights") from error
    return folder


def read_weights(folder: Path) -> dict[str, Tensor]:
    """The weights of a model's folder by name; RequestError where there are none, or they are damaged."""
    if not (folder / _WEIGHTS[0]).is_file():
        return read_state_dict(folder / _WEIGHTS[1])
    from safetensors.torch import load_file

    try:
        return load_file(folder / _WEIGHTS[0])
    except Exception as error:  # whatever a damaged header leads to
        raise RequestError(f"{folder / _WEIGHTS[0]} is damaged, or holds no weights") from error


def read_json(path: Path) -> dict[str, Any]:
    """What a JSON file describes, without what decides nothing; RequestError where it describes nothing."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise RequestError(f"{path} is too large for a description of a model")
        description = json.loads(path.read_bytes())
    except OSError as error:
        raise RequestError(f"{path} is not there; give the folder of a Hugging Face model by --weights") from error
    except ValueError as error:
        raise RequestError(f"{path} is not JSON") from error
    if not isinstance(description, dict):
        raise RequestError(f"{path} describes no model")
    return _deciding(description)


def _deciding(description: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in description.items() if key not in _DECIDES_NOTHING}
