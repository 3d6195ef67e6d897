"""Backbones: one file each, a class that turns a batch of windows into representations.

The file opens with licence, citation and where published weights come from, and holds the backbone's
configuration as a frozen dataclass. Nothing else in the project names it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

from stages.embed.inputs import Input
from stages.embed.objectives import Labels, Objective
from stages.embed.weights import read_about
from store.errors import RequestError
from store.schema import CatalogInfo

Precision = Literal["32", "bf16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)


class Backbone(ABC):
    """A frozen encoder.

    Class attributes
    ----------------
    NAME, TITLE : what a user types, and the full name.
    LICENSE, CITATION : of the method or its published weights.
    WEIGHTS : where published weights come from; None where the backbone has no weights at all.
    REVISION : raise it by one when the code changes the numbers; it is part of the fingerprint.
    Config : the frozen dataclass of its settings.

    Attributes
    ----------
    config : the resolved settings.
    input : what it reads (see `stages.embed.inputs`).
    shape : the shape of one representation, ``(dim,)`` for a vector.
    dtype : of the representation in the store, as numpy names it.
    module : the network, or None.
    precision : of the network's layers; spectrograms always have 32 bits.
    """

    NAME: ClassVar[str]
    TITLE: ClassVar[str]
    LICENSE: ClassVar[str]
    CITATION: ClassVar[str]
    WEIGHTS: ClassVar[str | None]
    REVISION: ClassVar[int] = 1
    Config: ClassVar[type[Any]]

    config: Any
    input: Input
    shape: tuple[int, ...]
    dtype: str = "float32"
    module: nn.Module | None = None
    precision: Precision = "32"

    @classmethod
    def resolve(cls, config: Any, info: CatalogInfo) -> Any:  # noqa: ARG003 - for those that override it
        """The settings as they hold for this collection; most backbones take them as they are."""
        return config

    @classmethod
    def fetch(cls, model: str) -> Path:
        """The weights of a published ``model``, which a user names by ``NAME:model``."""
        raise RequestError(f"{cls.NAME} has no published models to name ({cls.NAME}:{model}); give --weights FILE")

    @classmethod
    def settings_of(cls, weights: Path) -> dict[str, str]:
        """The settings that a checkpoint of ``encore train`` was made with; RequestError for another backbone's."""
        about = read_about(weights)
        if about.get("backbone", cls.NAME) != cls.NAME:
            raise RequestError(f"{weights} holds weights of {about['backbone']}, not of {cls.NAME}")
        settings: dict[str, str] = about.get("settings", {})
        return settings

    @abstractmethod
    def __init__(self, config: Any) -> None:
        """Build the network with freshly drawn weights, if it has one; reads no file."""

    def load(self, weights: Path) -> None:
        """Read the weights of a checkpoint; RequestError names the first key that does not fit."""
        raise NotImplementedError

    def objectives(self) -> dict[str, Callable[[Labels], Objective]]:
        """How ``module`` can be trained, the usual way first: name -> what makes the objective; {} where it cannot.

        What is made shares ``module``'s parameters; its other parameters are drawn anew.
        """
        return {}

    def to(self, device: torch.device) -> None:
        """Move to ``device`` and freeze."""
        if self.module is not None:
            self.module.to(device).eval().requires_grad_(False)

    @abstractmethod
    def encode(self, batch: Tensor) -> Tensor:
        """Representations of a batch of windows.

        Parameters
        ----------
        batch : [batch, ...], windows as `Input.load` gives them, on the backbone's device: all that some clips have,
            so that a backbone whose windows are large takes a few of them at a time.

        Returns
        -------
        [batch, *shape]; the same numbers for a window alone as in any batch, but for rounding. It may be called under
        autocast (`stages.embed.encode.represent`): what must keep its 32 bits switches that off.
        """
