"""Ready-made features as the representation: the numbers of a table, unchanged.

Nothing is scaled here; a head standardises by the statistics of its training part.
"""

from __future__ import annotations

import dataclasses

from torch import Tensor

from stages.embed.backbones import Backbone
from stages.embed.inputs.features import FeaturesInput
from store.errors import RequestError, unknown
from store.schema import CatalogInfo


class Features(Backbone):
    """``float32 [columns]``: all the features of a table in its order, or those that the settings name."""

    NAME = "features"
    TITLE = "Ready-made features"
    LICENSE = "MIT (no weights)"
    CITATION = "the table's own"
    WEIGHTS = None
    Config = FeaturesInput  # its settings are those of its input

    @classmethod
    def resolve(cls, config: FeaturesInput, info: CatalogInfo) -> FeaturesInput:
        """The settings, with all of the collection's columns if they name none."""
        if not info.features:
            raise RequestError(f"{info.name} holds songs, not a table of features; name a backbone that reads songs")
        for name in config.columns:
            if name not in info.features:
                raise unknown(f"feature of {info.name}", name, info.features)
        return dataclasses.replace(config, columns=config.columns or info.features)

    def __init__(self, config: FeaturesInput) -> None:
        self.config = config
        self.input = config
        self.shape = (len(config.columns),)

    def forward(self, windows: Tensor) -> Tensor:
        """``float32 [batch, columns]``, unchanged."""
        return windows
