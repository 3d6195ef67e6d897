"""Masked language modelling: hide some tokens and predict them from the others.

J. Devlin, M.-W. Chang, K. Lee, K. Toutanova: BERT: Pre-training of Deep Bidirectional Transformers for Language
Understanding. NAACL 2019. Here a token can have several fields, each with its own vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from stages.embed.objectives import Objective, Training

SHARE = 0.15  # of the tokens are to be predicted
_MASKED, _RANDOM = 0.8, 0.1  # shares of these that are masked and replaced at random; the others stay


class MaskedNetwork(Protocol):
    """What an `nn.Module` must offer to be trained this way."""

    def predict(
        self, tokens: Int[Tensor, "batch length fields"], hidden: Bool[Tensor, "batch length fields"]
    ) -> tuple[Tensor, ...]:
        """For each field, the logits [hidden tokens, vocabulary] of the tokens hidden in that field, in their order."""
        ...


class Masked(Objective):
    """The mean cross entropy over all fields that are to be predicted; 0 for a batch without any.

    Parameters
    ----------
    hide : from tokens [batch, length, fields] to the same with some replaced, and a mask (bool) of those that are to be
        predicted; draws from torch's global generators.
    """

    NAME = "masked"

    def __init__(self, network: nn.Module, hide: Callable[[Tensor], tuple[Tensor, Tensor]], training: Training) -> None:
        super().__init__(training)
        self.network = network
        self.hide = hide

    def forward(self, windows: Tensor, labels: Tensor) -> Tensor:  # noqa: ARG002 - learns without labels
        tokens = windows.flatten(0, 1).long()
        network: MaskedNetwork = self.network  # type: ignore[assignment] # an nn.Module has no such method for mypy
        corrupted, hidden = self.hide(tokens)
        losses = [
            F.cross_entropy(logits, tokens[..., field][hidden[..., field]], reduction="sum")
            for field, logits in enumerate(network.predict(corrupted, hidden))
        ]
        return torch.stack(losses).sum() / hidden.sum().clamp(min=1)


def corrupt(
    tokens: Int[Tensor, "*shape fields"],
    draw: Float[Tensor, "*shape fields"],
    *,
    mask: int,
    sizes: Int[Tensor, " fields"],
) -> tuple[Int[Tensor, "*shape fields"], Bool[Tensor, "*shape fields"]]:
    """Choose `SHARE` of the fields to be predicted: 80 % of them become ``mask``, 10 % random, and 10 % stay.

    Parameters
    ----------
    draw : uniform in [0, 1), equal for fields that are to be treated alike.
    sizes : of the fields' vocabularies.

    Returns
    -------
    The corrupted tokens, and a mask of the fields that were chosen.
    """
    random = (torch.rand(tokens.shape, device=tokens.device) * sizes).long()
    with_random = torch.where(draw < SHARE * (_MASKED + _RANDOM), random, tokens)
    return torch.where(draw < SHARE * _MASKED, mask, with_random), draw < SHARE
