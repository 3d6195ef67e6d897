"""The training loss, and what is done about unbalanced labels and about crowded stretches of a number's range."""

from __future__ import annotations

import torch
from jaxtyping import Float, Num
from torch import Tensor

from stages.head.scores.task import Task
from stages.head.settings import Settings

_BINS = 20  # of a number's range
_LEAST = 1e-8  # keeps the focal factor's gradient finite where a decision is certain


class Loss:
    """The mean over the terms of the task's loss of ``weight * (1 - p)^gamma * -log(p)``.

    ``p`` is the probability that the network gives to the truth. ``gamma`` 0 is cross entropy; above, it is the focal
    loss of Lin, Goyal, Girshick, He and Dollar, Focal Loss for Dense Object Detection, ICCV 2017, eq. 4, which leaves
    most of the gradient to clips that are still wrong. Weights are those of `Task.balance`, or 1.

    Parameters
    ----------
    truth : [train, outputs] the training clips' labels, from which weights are counted.
    """

    def __init__(self, truth: Num[Tensor, "train outputs"], task: Task, settings: Settings) -> None:
        self.task = task
        self.gamma = settings.gamma if settings.loss == "focal" else 0.0
        self.balance = task.balance(truth) if settings.class_weights == "balanced" else None

    def __call__(self, outputs: Float[Tensor, "batch outputs"], target: Num[Tensor, "batch ..."]) -> Tensor:
        """The loss of a network's outputs; ``target`` is the truth as `Task.target` gives it."""
        if not self.gamma and self.balance is None:
            return self.task.loss(outputs, target)
        return self.terms(outputs, target).mean()

    def terms(
        self, outputs: Float[Tensor, "batch outputs"], target: Num[Tensor, "batch ..."]
    ) -> Float[Tensor, "batch ..."]:
        """What it is the mean of: one for each clip, or for each label of each clip where there are several."""
        loss = self.task.loss(outputs, target, reduction="none")
        if self.gamma:
            loss = loss * torch.expm1(-loss).neg().clamp(min=_LEAST) ** self.gamma
        if self.balance is not None:
            loss = loss * self.task.weigh(self.balance, target)
        return loss


def crowd_out(numbers: Float[Tensor, " clips"], streams: Num[Tensor, " clips"], most: float) -> Num[Tensor, " kept"]:
    """The places, in order, of the clips that are left when crowded stretches of the numbers' range are thinned out.

    The range falls into 20 bins of equal width. Of each bin at most ``most`` times the mean number of clips of a bin
    that has any are left, and one at least: those with the lowest ``streams``, which are as good as random.
    """
    low, high = numbers.min(), numbers.max()
    width = (high - low).clamp(min=torch.finfo(numbers.dtype).tiny)
    place = ((numbers - low) / width * _BINS).long().clamp(max=_BINS - 1)
    count = torch.bincount(place, minlength=_BINS)
    limit = max(1, round(most * len(numbers) / int((count > 0).sum())))
    by_bin = torch.argsort(streams)
    by_bin = by_bin[torch.argsort(place[by_bin], stable=True)]
    rank = torch.arange(len(numbers)) - (count.cumsum(0) - count)[place[by_bin]]
    return by_bin[rank < limit].sort().values
