"""What training minimises, also where labels are unbalanced."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Num
from torch import Tensor

from stages.head.settings import Settings

_LEAST = 1e-8  # keeps the focal factor's gradient finite where a decision is certain


class Loss:
    """The mean over clips (and labels, where clips carry several) of ``weight * (1 - p)^gamma * -log(p)``.

    ``p`` is the probability of what is true: of each label by itself (sigmoid) where clips carry several, of the
    one label (softmax) where they carry one. ``gamma`` 0 is cross entropy; above, the focal loss of Lin, Goyal,
    Girshick, He and Dollar, Focal Loss for Dense Object Detection, ICCV 2017, eq. 4, which leaves most of the
    gradient to clips that are still wrong. Weights come from `balanced`, or are 1.

    Parameters
    ----------
    targets : [train, labels] the training clips' labels, from which weights are counted.
    """

    def __init__(self, targets: Bool[Tensor, "train labels"], multi_label: bool, settings: Settings) -> None:
        self.multi_label = multi_label
        self.gamma = settings.gamma if settings.loss == "focal" else 0.0
        self.weights = balanced(targets, multi_label) if settings.class_weights == "balanced" else None

    def __call__(self, logits: Float[Tensor, "batch labels"], wanted: Num[Tensor, "batch ..."]) -> Tensor:
        """``wanted``: [batch, labels] float in {0, 1} where clips carry several labels, else [batch] numbers."""
        plain = not self.gamma and self.weights is None
        measure = F.binary_cross_entropy_with_logits if self.multi_label else F.cross_entropy
        if plain:
            return measure(logits, wanted)
        loss = measure(logits, wanted, reduction="none")
        if self.gamma:
            loss = loss * torch.expm1(-loss).neg().clamp(min=_LEAST) ** self.gamma
        if self.weights is not None:
            absent, present = self.weights
            loss = loss * (torch.lerp(absent, present, wanted) if self.multi_label else present[wanted])
        return loss.mean()


def balanced(
    targets: Bool[Tensor, "train labels"], multi_label: bool
) -> tuple[Float[Tensor, " labels"], Float[Tensor, " labels"]]:
    """The weight of a clip without and with each label, which give every class the same weight in all, 1 on average.

    Where clips carry several labels, each label is a problem of two classes of its own: ``n / (2 n_without)`` and
    ``n / (2 n_with)``. Where they carry one, a label weighs ``n / (held n_with)``, ``held`` the labels that occur.
    Weights are 1 where a class has no training clip.
    """
    clips = len(targets)
    present = targets.sum(dim=0).float()
    absent = clips - present
    one = torch.ones_like(present)
    if multi_label:
        both = (present > 0) & (absent > 0)  # a label that all or none of the clips carry is not two classes
        return torch.where(both, clips / (2 * absent), one), torch.where(both, clips / (2 * present), one)
    held = present > 0
    return one, torch.where(held, clips / (held.sum() * present), one)
