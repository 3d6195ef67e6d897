"""Objectives: what a backbone's network is trained to do, one file each.

A backbone lists those that it can be trained by (`Backbone.objectives`); the training loop, `stages.embed.train`, is
the same for all of them.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from store.errors import RequestError

Rows = NDArray[np.int64]  # indices of catalog rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """Settings of a training.

    Attributes
    ----------
    optimizer : ``adamw``, or ``rmsprop`` for networks that were published with it (decay of the running mean 0.9).
    epochs : the most passes over the training clips.
    steps : the most updates; None for no limit.
    batch : clips per update, over all processes together.
    learning_rate : its highest value.
    schedule : how the rate falls from there to 0 at the last possible update; with ``constant`` it does not.
    warmup : number of updates in which the rate rises linearly from 0.
    weight_decay : AdamW's, 0 making it Adam; RMSProp adds so much of each weight to its gradient. Biases and
        normalisation weights do not decay.
    max_norm : longer gradients are scaled to this norm.
    patience : number of epochs without a lower validation loss after which training ends.
    seed : of the order of clips, the windows drawn from them, dropout and masks.
    precision : ``bf16`` needs a GPU; ``auto`` is bf16 on a GPU that supports it and 32 bits elsewhere.
    """

    optimizer: Literal["adamw", "rmsprop"] = "adamw"
    epochs: int = 50
    steps: int | None = None
    batch: int = 32
    learning_rate: float = 1e-3
    schedule: Literal["constant", "linear", "cosine"] = "cosine"
    warmup: int = 0
    weight_decay: float = 0.01
    max_norm: float = 1.0
    patience: int = 10
    seed: int = 0
    precision: Literal["auto", "32", "bf16"] = "auto"

    def __post_init__(self) -> None:
        for name, minimum in (("epochs", 1), ("batch", 1), ("warmup", 0), ("patience", 1), ("seed", 0)):
            if getattr(self, name) < minimum:
                raise RequestError(f"{name} must be {minimum} or more, not {getattr(self, name)}")
        if self.steps is not None and self.steps < 1:
            raise RequestError(f"steps must be 1 or more, not {self.steps}")
        for name in ("learning_rate", "max_norm"):
            if not 0 < getattr(self, name) < math.inf:
                raise RequestError(f"{name} must be above 0, not {getattr(self, name)}")
        if not 0 <= self.weight_decay < math.inf:
            raise RequestError(f"weight_decay must be 0 or more, not {self.weight_decay}")

    def optimize(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """The optimizer of those parameters that are trained."""
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        groups = [
            {"params": [p for p in trained if p.ndim > 1], "weight_decay": self.weight_decay},
            {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
        ]
        if self.optimizer == "rmsprop":
            return torch.optim.RMSprop(groups, lr=self.learning_rate, alpha=0.9)
        return torch.optim.AdamW(groups, lr=self.learning_rate)

    def rate(self, step: int, total: int) -> float:
        """The learning rate of update ``step``, counted from 0, of ``total`` at most."""
        if step < self.warmup:
            return self.learning_rate * (step + 1) / self.warmup
        share = min(1.0, (step - self.warmup) / max(1, total - self.warmup))
        factors = {"constant": 1.0, "linear": 1 - share, "cosine": (1 + math.cos(math.pi * share)) / 2}
        factor = factors[self.schedule]
        return self.learning_rate * factor


@dataclass(frozen=True)
class Labels:
    """The labels of a catalog: their names, and which rows carry them, bool [rows, labels]."""

    names: tuple[str, ...]
    matrix: NDArray[np.bool_]

    @property
    def several(self) -> bool:
        """Whether any clip carries more than one label."""
        return bool((self.matrix.sum(axis=1) > 1).any())


class Objective(nn.Module, ABC):
    """A loss over a backbone's network; layers that only training needs, such as an output layer, are part of it.

    Class attributes
    ----------------
    NAME : what a user types.
    WINDOWS : how many windows of a clip make one example.
    LABELLED : whether it learns from labels; if so, only labelled clips are trained on.
    BATCH_LEAST : the least number of examples in a batch.

    Attributes
    ----------
    settings : the default settings of the training.
    """

    NAME: ClassVar[str]
    WINDOWS: ClassVar[int] = 1
    LABELLED: ClassVar[bool] = False
    BATCH_LEAST: ClassVar[int] = 1

    def __init__(self, training: Training) -> None:
        super().__init__()
        self.settings = training

    @abstractmethod
    def forward(self, windows: Tensor, labels: Tensor) -> Tensor:
        """The mean loss of a batch, a scalar.

        Parameters
        ----------
        windows : [clips, WINDOWS, ...], as `Input.load` gives them, on the device.
        labels : float [clips, labels], 1 for each label that a clip carries.
        """
