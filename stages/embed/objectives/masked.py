"""Masked language modelling: hide some tokens, predict them from the others.

J. Devlin, M.-W. Chang, K. Lee, K. Toutanova: BERT: Pre-training of Deep Bidirectional Transformers for Language
Understanding. NAACL 2019. A token may have several fields, each with a vocabulary of its own.
"""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Int
from torch import Tensor, nn

from stages.embed.objectives import Objective, Training


class MaskedNetwork(Protocol):
    """What a network must offer, being an `nn.Module`, to be trained this way."""

    def hide(
        self, tokens: Int[Tensor, "batch length fields"]
    ) -> tuple[Int[Tensor, "batch length fields"], Bool[Tensor, "batch length fields"]]:
        """The tokens with some hidden, and which are to be predicted; draws from torch's global generators."""
        ...

    def predict(self, tokens: Int[Tensor, "batch length fields"]) -> tuple[Tensor, ...]:
        """Field by field the logits [batch, length, vocabulary]."""
        ...


class Masked(Objective):
    """The mean cross entropy of all tokens' fields that are to be predicted; 0 where a batch has none."""

    NAME = "masked"

    def __init__(self, network: nn.Module, training: Training) -> None:
        super().__init__(training)
        self.network = network

    def forward(self, windows: Tensor, carried: Tensor) -> Tensor:  # noqa: ARG002 - learns without labels
        tokens = windows.flatten(0, 1).long()
        network: MaskedNetwork = self.network  # type: ignore[assignment] # torch's modules are not typed by what they offer
        hidden, wanted = network.hide(tokens)
        losses = [
            F.cross_entropy(logits[wanted[..., field]], tokens[..., field][wanted[..., field]], reduction="sum")
            for field, logits in enumerate(network.predict(hidden))
        ]
        return torch.stack(losses).sum() / wanted.sum().clamp(min=1)


def corrupt(
    tokens: Int[Tensor, "*shape fields"],
    chosen: Bool[Tensor, "*shape fields"],
    *,
    mask: Int[Tensor, " fields"],
    first: Int[Tensor, " fields"],
    last: Int[Tensor, " fields"],
) -> Int[Tensor, "*shape fields"]:
    """Of the chosen fields 80 % become ``mask``, 10 % one drawn from ``first`` to ``last``, 10 % stay."""
    draw = torch.rand(tokens.shape, device=tokens.device)
    random = first + (torch.rand(tokens.shape, device=tokens.device) * (last - first + 1)).long()
    changed = torch.where(draw < 0.8, mask.expand_as(tokens), torch.where(draw < 0.9, random, tokens))
    return torch.where(chosen, changed, tokens)
