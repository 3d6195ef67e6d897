"""MERT, version 1: a HuBERT trained on music, every layer of it.

Reads 24 kHz audio in windows of 5 s, as it was trained. The representation is, for each layer, the mean over time: the
input of the first transformer layer, then the output of each; averaged over windows spread evenly over the clip. Which
layer tells most differs from task to task, so that all are kept, and heads choose.

``--weights DIR`` names the folder of a published model (see `stages.embed.backbones.hf`); none of its code is run.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from stages.embed.backbones._pooling import pooled
from stages.embed.backbones.hf import Hf, HfConfig
from store.errors import RequestError
from store.fingerprint import ADDED_LATER

_KINDS = ("mert_model", "hubert")
_OTHER_NETWORKS = {  # flags of a configuration that make it another network
    "deepnorm": "scales the residual connections of its layers",
    "feature_extractor_cqt": "adds a constant-Q transform to what its layers read",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class MertConfig(HfConfig):
    """Settings; see `HfConfig`.

    Attributes
    ----------
    deviation : keep of each layer, behind its mean over time, its deviation over time, averaged over windows as well.
    """

    window_s: float = 5.0
    max_windows: int = 6
    deviation: bool = field(default=False, metadata=ADDED_LATER)


class Mert(Hf):
    """``float32 [layers + 1, dim]``; [layers + 1, 2 * dim] with deviations."""

    NAME = "mert"
    TITLE = "MERT v1"
    LICENSE = "CC BY-NC 4.0 (the published weights)"
    CITATION = (
        "Y. Li et al.: MERT: Acoustic Music Understanding Model with Large-Scale Self-supervised Training. ICLR 2024, "
        "arXiv 2306.00107"
    )
    WEIGHTS = (
        "MERT v1 is published on the Hugging Face hub by m-a-p: --backbone mert:OWNER/MODEL downloads it, "
        "--weights DIR takes it from a local folder."
    )
    UNREAD: ClassVar[tuple[str, ...]] = ("final_proj.", "label_embs_concat", "masked_spec_embed")  # of its training
    Config = MertConfig

    config: MertConfig

    def __init__(self, config: MertConfig) -> None:
        description = json.loads(config.architecture)
        if description and description.get("model_type") not in _KINDS:
            raise RequestError(
                f"mert reads {' or '.join(_KINDS)}, not {description.get('model_type')!r}: --backbone hf"
            )
        for flag, what in _OTHER_NETWORKS.items():
            if description.get(flag):
                raise RequestError(
                    f"this model has {flag}, which {what}; that is known to the code that comes with it alone, which "
                    f"is never run: take a model without it"
                )
        super().__init__(config)
        architecture: Any = self.module.config
        self.shape = (architecture.num_hidden_layers + 1, architecture.hidden_size * (1 + config.deviation))

    def forward(self, windows: Tensor) -> Tensor:
        """[batch, samples] -> [batch, *shape].

        The last layer of a network that normalises before each layer is normalised too, as its own library returns it.
        """
        model: Any = self.module
        deviation = self.config.deviation
        encoder = model.encoder
        x = model.feature_projection(model.feature_extractor(windows).transpose(1, 2))
        x = x + encoder.pos_conv_embed(x)
        before = model.config.do_stable_layer_norm
        x = x if before else encoder.layer_norm(x)
        outputs = [pooled(x, deviation=deviation)]
        for number, layer in enumerate(encoder.layers, start=1):
            output = layer(x)
            x = output[0] if isinstance(output, tuple) else output
            last = before and number == len(encoder.layers)
            outputs.append(pooled(encoder.layer_norm(x) if last else x, deviation=deviation))
        return torch.stack(outputs, dim=1)
