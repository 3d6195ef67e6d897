"""Objectives: what a backbone's network is trained to do, one file each.

A backbone says by which it can be trained (`Backbone.objectives`); the loop is `stages.embed.train`, the same for all.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from store.errors import RequestError

Rows = NDArray[np.int64]  # numbers of catalog rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """How long and how fast: AdamW, without decay of biases and norms.

    Attributes
    ----------
    epochs, steps : at most so many passes over the training clips, and so many updates (None: no such limit).
    batch : clips an update sees, over all processes together.
    learning_rate : the highest.
    schedule : how the rate falls from there to 0 at the last step that is allowed; ``constant`` does not.
    warmup : updates over which the rate rises linearly from 0.
    weight_decay : AdamW's; with 0 it is Adam.
    max_norm : longer gradients are shortened to this length.
    patience : epochs without a lower validation loss after which training ends.
    seed : of the clips' order, the windows drawn from them, dropout and masks.
    precision : ``auto`` is bf16 where a GPU has it and 32 bits elsewhere.
    """

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
        for name, least in (("epochs", 1), ("batch", 1), ("warmup", 0), ("patience", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise RequestError(f"{name} must be {least} or more, not {getattr(self, name)}")
        if self.steps is not None and self.steps < 1:
            raise RequestError(f"steps must be 1 or more, not {self.steps}")
        for name in ("learning_rate", "max_norm"):
            if not 0 < getattr(self, name) < math.inf:
                raise RequestError(f"{name} must be above 0, not {getattr(self, name)}")
        if not 0 <= self.weight_decay < math.inf:
            raise RequestError(f"weight_decay must be 0 or more, not {self.weight_decay}")

    def rate(self, step: int, total: int) -> float:
        """The learning rate of update ``step`` (from 0) of at most ``total``."""
        if step < self.warmup:
            return self.learning_rate * (step + 1) / self.warmup
        done = min(1.0, (step - self.warmup) / max(1, total - self.warmup))
        left = {"constant": 1.0, "linear": 1 - done, "cosine": (1 + math.cos(math.pi * done)) / 2}[self.schedule]
        return self.learning_rate * left


@dataclass(frozen=True)
class Labels:
    """The labels of a catalog: their names, and which of them each row carries, bool [rows, labels]."""

    names: tuple[str, ...]
    carried: NDArray[np.bool_]

    @property
    def several(self) -> bool:
        """Whether any clip carries more than one."""
        return bool((self.carried.sum(axis=1) > 1).any())


class Objective(nn.Module, ABC):
    """A loss over a backbone's network; what only training needs (an output layer) is part of this module.

    Class attributes
    ----------------
    NAME : what a user types.
    WINDOWS : how many windows of a clip make one example.
    LABELLED : whether it learns from labels; then only labelled clips are trained on.
    BATCH_LEAST : examples that a batch must have.

    Attributes
    ----------
    settings : those that are meant when none are given.
    """

    NAME: ClassVar[str]
    WINDOWS: ClassVar[int] = 1
    LABELLED: ClassVar[bool] = False
    BATCH_LEAST: ClassVar[int] = 1

    def __init__(self, training: Training) -> None:
        super().__init__()
        self.settings = training

    @abstractmethod
    def forward(self, windows: Tensor, carried: Tensor) -> Tensor:
        """The mean loss of a batch, a scalar.

        Parameters
        ----------
        windows : [clips, WINDOWS, ...], as `Input.load` gives them, on the device.
        carried : float [clips, labels], 1 where a clip carries a label.
        """
