"""A linear model of the song alone: logistic regression, solved rather than trained step by step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from stages.head.heads import Spec, TrainedHead
from stages.head.settings import Checked, setting

_PENALTIES = tuple(10 ** (-half / 2) for half in range(11))  # 1 to 1e-5


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Checked):
    """Attributes
    ----------
    l2 : the penalty; None for the one of a path from 1 down to 1e-5 that has the least validation loss.
    """

    l2: float | None = setting(None, above=0)


class Linear(TrainedHead):
    """Multinomial logistic regression, or one logistic regression a label where clips carry several.

    It minimises the mean over training clips of the loss, summed over labels where there are several, plus
    ``l2 / 2`` times the sum of squared weights, the intercepts' left out. In scikit-learn's terms its C is
    ``1 / (l2 * clips)``. Where a number is asked for it is ridge regression on the scaled number, whose alpha there is
    ``l2 * clips / 2``. Each penalty of the path is solved from the solution of the one before.
    """

    NAME = "linear"
    TITLE = "logistic regression on the song"
    CITATION = "Cox, The Regression Analysis of Binary Sequences, Journal of the Royal Statistical Society B 20, 1958"
    BY_ARTIST = True
    IS_DIFFERENTIABLE = True
    Config = Config

    @classmethod
    def penalties(cls, config: Any) -> Sequence[float]:
        return _PENALTIES if config.l2 is None else (config.l2,)

    @staticmethod
    def build(spec: Spec) -> nn.Module:
        layer = nn.Linear(spec.dim, spec.outputs)
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
        return layer

    def inputs(self, nodes: Tensor) -> tuple[Tensor, ...]:
        return (self.x[nodes],)
