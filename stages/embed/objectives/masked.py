"""Masked language modelling: hide some tokens, predict them from the others.

J. Devlin, M.-W. Chang, K. Lee, K. Toutanova: BERT: Pre-training of Deep Bidirectional Transformers for Language
Understanding. NAACL 2019. A token may have several fields, each with a vocabulary of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from stages.embed.objectives import Objective, Training

SHARE = 0.15  # of the tokens is to be predicted
_MASKED, _RANDOM = 0.8, 0.1  # of these; the others stay as they are


class MaskedNetwork(Protocol):
    """What a network must offer, being an `nn.Module`, to be trained this way."""

    def predict(
        self, tokens: Int[Tensor, "batch length fields"], wanted: Bool[Tensor, "batch length fields"]
    ) -> tuple[Tensor, ...]:
        """Field by field the logits [wanted, vocabulary] of the tokens that are wanted there, in their order."""
        ...


class Masked(Objective):
    """The mean cross entropy of all tokens' fields that are to be predicted; 0 where a batch has none.

    Parameters
    ----------
    hide : from tokens [batch, length, fields] to the tokens with some hidden and which (bool) are to be predicted;
        draws from torch's global generators.
    """

    NAME = "masked"

    def __init__(self, network: nn.Module, hide: Callable[[Tensor], tuple[Tensor, Tensor]], training: Training) -> None:
        super().__init__(training)
        self.network = network
        self.hide = hide

    def forward(self, windows: Tensor, carried: Tensor) -> Tensor:  # noqa: ARG002 - learns without labels
        tokens = windows.flatten(0, 1).long()
        network: MaskedNetwork = self.network  # type: ignore[assignment] # torch's modules are not typed by what they offer
        hidden, wanted = self.hide(tokens)
        losses = [
            F.cross_entropy(logits, tokens[..., field][wanted[..., field]], reduction="sum")
            for field, logits in enumerate(network.predict(hidden, wanted))
        ]
        return torch.stack(losses).sum() / wanted.sum().clamp(min=1)


def corrupt(
    tokens: Int[Tensor, "*shape fields"],
    draw: Float[Tensor, "*shape fields"],
    *,
    mask: int,
    sizes: Int[Tensor, " fields"],
) -> tuple[Int[Tensor, "*shape fields"], Bool[Tensor, "*shape fields"]]:
    """Choose `SHARE` of the tokens' fields; of these 80 % become ``mask``, 10 % random, 10 % stay.

    ``draw`` is uniform in [0, 1), the same for fields that share their fate; ``sizes`` are the vocabularies'.
    """
    random = (torch.rand(tokens.shape, device=tokens.device) * sizes).long()
    changed = torch.where(draw < SHARE * (_MASKED + _RANDOM), random, tokens)
    return torch.where(draw < SHARE * _MASKED, mask, changed), draw < SHARE
