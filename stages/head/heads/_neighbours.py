"""What heads over neighbours share: how many of them a clip has in training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from stages.head.collection import Collection
from stages.head.heads import TrainedHead
from stages.head.heads._layers import HiddenConfig
from stages.head.settings import Choices, setting
from store.words import plural

MOST = 10**9


@dataclass(frozen=True, kw_only=True, slots=True)
class NeighbourConfig(HiddenConfig):
    """Beside the hidden layer's settings:

    Attributes
    ----------
    neighbours : drawn for each clip anew in every epoch; None for all.
    """

    neighbours: int | None = setting(8, least=1, most=MOST, search=Choices((2, 4, 8, 16, 32, None)))


class NeighbourHead(TrainedHead):
    """A head whose clips draw neighbours in training."""

    Config = NeighbourConfig
    READS_NEIGHBOURS = True

    @classmethod
    def notes(cls, collection: Collection, config: Any) -> dict[str, str]:
        most = collection.graph.most if cls.READS_ARTISTS else 0
        if not config.neighbours or not 0 < most < config.neighbours:
            return {}
        name, others = collection.info.name, plural(most, "other")
        text = f"no clip of {name} has more than {others} by its artist; where there are fewer, all are taken"
        return {"neighbours": text}
