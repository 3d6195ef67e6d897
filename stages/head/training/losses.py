"""The training loss, with weights for unbalanced labels and for clips that are still wrong."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Num
from torch import Tensor

from stages.head.scores.task import Task
from stages.head.settings import Settings

_LEAST = 1e-8  # keeps the focal factor's gradient finite where a decision is certain


class Loss:
    """The mean over the terms of the task's loss of ``weight * (1 - p)^gamma * -log(p)``.

    ``p`` is the probability that the network gives to the truth. ``gamma`` 0 is cross entropy; above, it is the focal
    loss of Lin, Goyal, Girshick, He and Dollar, Focal Loss for Dense Object Detection, ICCV 2017, eq. 4, which leaves
    most of the gradient to clips that are still wrong. Weights are those of `Task.balance`, or 1.

    Parameters
    ----------
    truth : [train, labels] the training clips' labels, from which weights are counted.
    """

    def __init__(self, truth: Bool[Tensor, "train labels"], task: Task, settings: Settings) -> None:
        self.task = task
        self.gamma = settings.gamma if settings.loss == "focal" else 0.0
        self.balance = task.balance(truth) if settings.class_weights == "balanced" else None

    def __call__(self, outputs: Float[Tensor, "batch outputs"], target: Num[Tensor, "batch ..."]) -> Tensor:
        """The loss of a network's outputs; ``target`` is the truth as `Task.target` gives it."""
        if not self.gamma and self.balance is None:
            return self.task.loss(outputs, target)
        loss = self.task.loss(outputs, target, reduction="none")
        if self.gamma:
            loss = loss * torch.expm1(-loss).neg().clamp(min=_LEAST) ** self.gamma
        if self.balance is not None:
            loss = loss * self.task.weigh(self.balance, target)
        return loss.mean()
