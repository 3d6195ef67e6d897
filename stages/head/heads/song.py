"""Song only: what the representation says by itself."""

from __future__ import annotations

from torch import Tensor, nn

from stages.head.heads import Spec, TrainedHead
from stages.head.heads._layers import Classifier, HiddenConfig, width


class Song(TrainedHead):
    """One hidden layer over the representation: GraphSAGE without its neighbours."""

    NAME = "song"
    TITLE = "song only"
    CITATION = "S. Lee, thesis, Seoul National University: the baseline of its chapter 4"
    BY_ARTIST = True
    IS_DIFFERENTIABLE = True
    Config = HiddenConfig

    @staticmethod
    def build(spec: Spec) -> nn.Module:
        return _Network(spec.dim, width(spec), spec.outputs, spec.config.dropout)

    def inputs(self, nodes: Tensor) -> tuple[Tensor, ...]:
        return (self.x[nodes],)


class _Network(nn.Module):
    def __init__(self, dim: int, hidden: int, labels: int, dropout: float) -> None:
        super().__init__()
        self.song = nn.Linear(dim, hidden)
        self.classify = Classifier(hidden, labels, dropout)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classify(self.song(x))
        return logits
