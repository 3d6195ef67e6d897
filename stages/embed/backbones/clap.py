"""CLAP: a network that puts recordings and words into one space, so that either finds the other.

Reads 48 kHz audio in windows of 10 s through the feature extractor of `transformers`. The representation is the unit
vector of the audio tower's projection, averaged over windows spread evenly over the clip. ``encore similar`` also takes
words where a collection was encoded with it: the text tower turns them into a vector of the same space.

``--weights DIR`` names the folder of a published model (see `stages.embed.backbones.hf`), with its tokenizer's files
beside it. A model with feature fusion reads its windows as it reads any recording of 10 s or less: whole.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from stages.embed.backbones.hf import Hf, HfConfig, projection_of
from store.errors import RequestError

_AUDIO, _TEXT, _SCALES = ("audio_model.", "audio_projection."), ("text_model.", "text_projection."), ("logit_scale_",)
_MOST_TOKENS = 77  # that the models were trained with
_UNRELATED = ("a solo piano", "loud heavy metal guitars", "people talking in a street", "electronic dance music")
_SAME = 0.98  # the mean cosine of unrelated words from which on a text tower tells nothing apart


@dataclass(frozen=True, slots=True, kw_only=True)
class ClapConfig(HfConfig):
    """Settings; see `HfConfig`."""


class Clap(Hf):
    """``float32 [dim]``, a mean of unit vectors."""

    NAME = "clap"
    TITLE = "CLAP"
    LICENSE = "Apache 2.0 (LAION's published weights)"
    CITATION = (
        "Y. Wu et al.: Large-scale Contrastive Language-Audio Pretraining with Feature Fusion and Keyword-to-Caption "
        "Augmentation. ICASSP 2023, arXiv 2211.06687"
    )
    WEIGHTS = (
        "CLAP is published on the Hugging Face hub by laion: --backbone clap:OWNER/MODEL downloads it, --weights DIR "
        "takes it from a local folder. The text tower of larger_clap_music, as published, is broken: it encodes "
        "recordings, but no words."
    )
    FILES: ClassVar[tuple[str, ...]] = (*Hf.FILES, "for words: tokenizer.json, or vocab.json and merges.txt")
    UNREAD: ClassVar[tuple[str, ...]] = (*_TEXT, *_SCALES)  # the scales belong to the loss
    COMPANIONS: ClassVar[tuple[str, ...]] = (
        *("tokenizer.json", "vocab.json", "merges.txt"),
        *("tokenizer_config.json", "special_tokens_map.json"),
    )
    Config = ClapConfig

    _folder: Path | None = None  # from which the text tower is read once there are words

    def __init__(self, config: ClapConfig) -> None:
        description = json.loads(config.architecture)
        if description and description.get("model_type") != "clap":
            raise RequestError(f"clap reads clap, not {description.get('model_type')!r}: --backbone hf")
        super().__init__(config)

    def load(self, weights: Path) -> None:
        """Read the audio tower's weights."""
        super().load(weights)
        self._folder = weights

    def forward(self, windows: Tensor) -> Tensor:
        """[batch, channels, frames, bands] -> [batch, dim], unit vectors."""
        longer = torch.zeros(len(windows), 1, dtype=torch.bool, device=windows.device)
        return F.normalize(self.module(windows, is_longer=longer).audio_embeds, dim=-1)

    @torch.inference_mode()
    def encode_text(self, words: str) -> Tensor:
        """[dim] the unit vector of some words, of which the first 77 tokens count.

        Raises
        ------
        RequestError
            where the weights are random, the folder lacks the text tower or its tokenizer, or the tower gives nearly
            the same vector to any words.
        """
        if self._folder is None:
            raise RequestError("clap has random weights, in which words mean nothing")
        import transformers

        description = json.loads(self.config.architecture)
        settings = {**description.get("text_config", {}), **projection_of(description)}
        settings.pop("model_type", None)
        kind = transformers.ClapTextModelWithProjection
        tower = self.read(kind, transformers.ClapTextConfig(**settings), self._folder, (*_AUDIO, *_SCALES)).eval()
        tokens = self._tokenizer(self._folder)(
            [words, *_UNRELATED], padding=True, truncation=True, max_length=_MOST_TOKENS, return_tensors="pt"
        )
        output = tower(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"])
        vectors = F.normalize(output.text_embeds, dim=-1)
        probes = vectors[1:]
        cosines = (probes @ probes.T)[~torch.eye(len(probes), dtype=torch.bool)]
        if cosines.mean() > _SAME:
            raise RequestError(
                f"the text tower of this model is broken: unrelated words get nearly the same vector (cosine "
                f"{cosines.mean():.3f}), as with laion/larger_clap_music as it was published; ask by a song or a file, "
                f"or encode the collection with another CLAP, such as laion/larger_clap_general"
            )
        return vectors[0]

    def _tokenizer(self, folder: Path) -> Any:
        import transformers

        if not any((folder / name).is_file() for name in self.COMPANIONS[:2]):
            raise RequestError(
                f"{folder} has no tokenizer (tokenizer.json, or vocab.json and merges.txt), which words need"
            )
        try:
            return transformers.RobertaTokenizerFast.from_pretrained(folder, local_files_only=True)
        except Exception as error:  # damaged files raise what their readers raise
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise RequestError(f"{folder}: the tokenizer cannot be read: {reason}") from error
