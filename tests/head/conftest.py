"""A small made collection whose labels depend on the song and on the artist, and heads bound to it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from stages import registry
from stages.head.collection import Collection
from stages.head.heads import TrainedHead
from stages.head.options import resolve
from stages.head.settings import Settings
from stages.head.testing import INFO, make_collection
from stages.head.training import loop
from stages.head.training.binder import Binder
from stages.head.training.loop import TrainedNetwork
from stages.head.training.stretches import Stretches
from stages.splits.regimes import Split

__all__ = ["INFO", "binder_of", "bound", "make_collection", "options", "train"]
CPU = torch.device("cpu")


def options(head: str | type[Any], **changes: Any) -> tuple[Any, Settings]:
    """A head's own settings and the training's, with those of the changes that they have."""
    kind = registry.find("head", head) if isinstance(head, str) else head
    known = {*Settings.__slots__, *(field for field in kind.Config.__dataclass_fields__)}
    text = {key: "none" if value is None else str(value) for key, value in changes.items() if key in known}
    settings, configs = resolve([kind], text)
    return configs[kind], settings


def train(
    head: type[TrainedHead], collection: Collection, split: Split, seed: int = 0, **changes: Any
) -> TrainedNetwork:
    """A training with these settings; ``stretches`` and ``checkpoint`` are those of the training loop."""
    rest = {key: changes.pop(key) for key in ("stretches", "checkpoint") if key in changes}
    return loop.train(head, collection, split, *options(head, **changes), seed=seed, device=CPU, **rest)


def binder_of(
    head: str | type[Any], collection: Collection, split: Split, stretches: Stretches | None = None, **changes: Any
) -> Binder:
    """A head's binder to a collection, untrained."""
    kind = registry.find("head", head) if isinstance(head, str) else head
    return Binder.learn(kind, stretches or Stretches(collection), split, *options(kind, **changes), CPU)


def bound(head: str | type[Any], collection: Collection, split: Split, **changes: Any) -> Any:
    """A head bound to a collection whose representations stay as they are."""
    return binder_of(head, collection, split, **{"standardise": False, **changes}).any()


@pytest.fixture(scope="session")
def dataset() -> Collection:
    return make_collection()


@pytest.fixture
def arrays(dataset: Collection) -> dict[str, Any]:
    return {"song": dataset.song, "album": dataset.album, "artist": dataset.artist, "official": dataset.official}
