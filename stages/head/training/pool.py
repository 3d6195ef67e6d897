"""Several networks side by side, each with a loss of its own, and the pool that makes one answer of theirs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float, Int, Num
from torch import Tensor, nn

from stages.head.training.solver import minimise

Terms = Callable[[Tensor, Tensor], Tensor]  # outputs, target -> `stages.head.training.losses.Loss.terms`

_DRAWS = 400  # in which artists weigh differently


class Pool(nn.Module):
    """A weighted sum of the experts' outputs: a product of their probabilities, each to the power of its weight.

    In training the outputs pass as they are, [experts, clips, outputs], so that each expert is compared with the truth
    by itself. Validation decides the weights (`fit`). One expert that is clearly better than all others speaks nearly
    alone; where few artists cannot tell which it is, those that may be the best share the say.

    Attributes
    ----------
    weights : [experts] at least 0.
    """

    weights: Tensor

    def __init__(self, experts: int) -> None:
        super().__init__()
        self.register_buffer("weights", torch.full((experts,), 1 / experts))
        self._apart = False

    def forward(self, outputs: Float[Tensor, "experts clips outputs"]) -> Tensor:
        if self.training:
            return outputs
        if self._apart:
            return outputs.transpose(0, 1).flatten(1)
        return torch.einsum("e,eco->co", self.weights, outputs)

    @contextmanager
    def apart(self) -> Iterator[None]:
        """Inside, the outputs of all experts lie side by side when scoring: [clips, experts * outputs]."""
        self._apart = True
        try:
            yield
        finally:
            self._apart = False

    def fit(
        self,
        outputs: Float[Tensor, "clips parts"],
        target: Num[Tensor, "clips ..."],
        artist: Int[Tensor, " clips"],
        terms: Terms,
    ) -> None:
        """Set the weights by some clips: an expert's temperature times the probability that it is the best.

        That is the share of draws in which its loss, at this temperature, is the least of all. In each draw every
        artist weighs differently (Rubin, The Bayesian Bootstrap, Annals of Statistics 9, 1981; for a choice among
        models, Yao, Vehtari, Simpson and Gelman, Using Stacking to Average Bayesian Predictive Distributions, Bayesian
        Analysis 13, 2018, section 3.4), since the clips of one artist are right or wrong together. To the artists that
        were seen comes one for each expert, for whom that expert is the best: two artists prove little.

        Parameters
        ----------
        outputs : what the experts give `apart`.
        artist : -1 where it is unknown.
        terms : the terms of the loss by which the experts are trained.
        """
        each = outputs.double().reshape(len(outputs), len(self.weights), -1).transpose(0, 1)
        group = _groups(artist)
        groups = int(group.max()) + 1
        scale = _temperatures(each, target, groups, terms)
        losses = torch.stack([_losses(scaled, target, terms) for scaled in each * scale[:, None, None]])
        by_group = losses.new_zeros(len(losses), groups).index_add_(1, group, losses)
        draw = torch.Generator().manual_seed(0)
        importance = torch.empty(groups, _DRAWS, dtype=losses.dtype).exponential_(generator=draw).to(losses.device)
        best = (by_group @ importance).nan_to_num(torch.inf).argmin(dim=0)
        share = torch.bincount(best, minlength=len(losses)) / _DRAWS
        self.weights.copy_(scale * (groups * share + 1) / (groups + len(losses)))


def _groups(artist: Int[Tensor, " clips"]) -> Tensor:
    """[clips] numbers from 0 of the clips' artists; a clip of an unknown one is a group of its own."""
    alone = -1 - torch.arange(len(artist), device=artist.device)
    groups: Tensor = torch.where(artist < 0, alone, artist).unique(return_inverse=True)[1]  # type: ignore[no-untyped-call]
    return groups


def _losses(outputs: Tensor, target: Tensor, terms: Terms) -> Tensor:
    """[clips] the loss of each clip, summed over labels where there are several."""
    loss = terms(outputs, target)
    return loss if loss.dim() == 1 else loss.sum(dim=1)


def _temperatures(
    each: Float[Tensor, "experts clips outputs"], target: Num[Tensor, "clips ..."], groups: int, terms: Terms
) -> Float[Tensor, " experts"]:
    """What each expert's outputs are multiplied by to be most likely, as if there were as many clips as groups.

    Its logarithm is normal beforehand, with mean 0 and deviation 1.
    """

    def objective(logarithm: Tensor) -> tuple[Tensor, Tensor]:
        logarithm = logarithm.detach().requires_grad_()
        with torch.enable_grad():
            scaled = each * logarithm.exp()[:, None, None]
            loss = torch.stack([_losses(some, target, terms).mean() for some in scaled]).sum()
            value = groups * loss + logarithm.square().sum() / 2
            (slope,) = torch.autograd.grad(value, logarithm)
        return value.detach(), slope

    return minimise(objective, each.new_zeros(len(each)), lambda gradient: gradient / (1 + groups)).exp()


def pool_of(network: nn.Module) -> Pool | None:
    """The pool of a network of several experts; None for any other network."""
    return next((module for module in network.modules() if isinstance(module, Pool)), None)
