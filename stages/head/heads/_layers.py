"""What several heads share: a hidden layer's settings, layers, and the masks of their dropout."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.head.heads import Spec
from stages.head.random import bits
from stages.head.settings import Between, Checked, Choices, setting


@dataclass(frozen=True, kw_only=True, slots=True)
class HiddenConfig(Checked):
    """The settings of a head with a hidden layer.

    Attributes
    ----------
    hidden : width of the hidden layer (of each of its parts where several lie side by side); None for the
        representation's, or the number of axes along which it is read.
    dropout : on the hidden layer.
    clips_an_axis : training clips for each of the principal axes along which a representation is read that has more
        numbers than these axes; 1,024 axes at most. 0 reads any representation as it is.
    """

    hidden: int | None = setting(128, least=1, search=Choices((32, 64, 128, 256, 512)), tune=())
    dropout: float = setting(0.5, least=0, below=1, search=Between(0.0, 0.8))
    clips_an_axis: int = setting(1, least=0)


def width(spec: Spec) -> int:
    """How wide the hidden layer is."""
    return spec.config.hidden or spec.dim


@dataclass
class DropoutMasks:
    """Where the dropout layers of a network get their masks; the trainer sets it.

    Attributes
    ----------
    streams : [clips] each clip's stream in this epoch.
    nodes : [batch] the clips of this step.
    calls : masks drawn so far in this step, so that each is another one.
    """

    streams: Tensor
    nodes: Tensor
    calls: int = 0

    def bytes(self, width: int, nodes: Tensor | None) -> Tensor:
        """[nodes, width] random bytes as uint8."""
        first, self.calls = self.calls << 32, self.calls + 1
        streams = self.streams[self.nodes if nodes is None else nodes]
        words = bits(streams.unsqueeze(1), torch.arange(first, first + -(-width // 8), device=streams.device))
        return words.view(torch.uint8)[:, :width]


class Dropout(nn.Module):
    """Dropout whose mask costs a byte an element and depends on nothing but the clip and the epoch.

    The rate is rounded to 1/256; the scale is that of the rounded rate, so that the mean stays the same. A layer
    whose rows are not the clips of the step names them.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.share = max(1, 256 - round(256 * rate))  # of 256 numbers that stay
        self.masks: DropoutMasks | None = None

    def forward(self, x: Tensor, nodes: Tensor | None = None) -> Tensor:
        if not self.training or self.share == 256:
            return x
        if self.masks is None:
            return F.dropout(x, 1 - self.share / 256)
        mask = self.masks.bytes(x.shape[1], nodes) < self.share
        return x * (mask * x.new_tensor(256 / self.share))


class Classifier(nn.Module):
    """ReLU, dropout and the output layer, over the concatenated hidden parts."""

    def __init__(self, width: int, labels: int, dropout: float) -> None:
        super().__init__()
        self.dropout = Dropout(dropout)
        self.output = nn.Linear(width, labels)

    def forward(self, *hidden: Tensor) -> Tensor:
        logits: Tensor = self.output(self.dropout(torch.relu(torch.cat(hidden, dim=1))))
        return logits
