"""Backbones: one file each, holding a class that turns a batch of windows into representations.

A file opens with its citation, its licence and where to get weights, then its settings (a frozen dataclass), what it
reads and its network. Nothing else in the project names it; splitting batches, reading checkpoints and moving to a
device are done here, once for all of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

from stages.embed.inputs import Input
from stages.embed.objectives import Labels, Objective
from stages.embed.weights import flush_denormals, load_into, read_about, read_state_dict
from stages.memory import keep_freed_memory
from store.errors import RequestError
from store.schema import CatalogInfo

Known = tuple[int | None, str | None]
Precision = Literal["32", "bf16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)


def check_precision(precision: str, device: torch.device) -> None:
    """Raise RequestError for bf16 on a CPU.

    On processors with AMX, torch's convolutions in bf16 are wrong for some shapes: ``Conv1d(16, 16, 16, padding=8)`` on
    [2, 16, 50] differed from the same in 32 bits by 1.1 times the norm (torch 2.13).
    """
    if precision == "bf16" and device.type == "cpu":
        raise RequestError(
            "precision bf16 needs a GPU: on some CPUs, torch's convolutions in bf16 give wrong numbers; leave the "
            "precision out, or name a GPU by --device"
        )


class Backbone(ABC):
    """A frozen encoder.

    A subclass sets the attributes below in ``__init__``. One with a network needs no more than that; one whose
    network's output is not yet the representation, or that has no network, defines `forward` too.

    Class attributes
    ----------------
    NAME, TITLE : what a user types, and the full name.
    LICENSE, CITATION : of the method or of its published weights.
    WEIGHTS : where to get published weights; None for a backbone that has no weights at all.
    FILES : what ``--weights`` takes, a line each; empty where it is one checkpoint.
    KNOWN : published files by name: their bytes and SHA-256, as far as either is known.
    REVISION : part of the fingerprint; raise it by one when a change to the code changes the numbers.
    CPU_BATCH, GPU_BATCH : how many windows `forward` gets at a time on either device; None is the whole batch.
    Config : the frozen dataclass of its settings.

    Attributes
    ----------
    config : the resolved settings.
    input : what it reads (see `stages.embed.inputs`).
    shape : the shape of one representation, ``(dim,)`` for a vector.
    dtype : the numpy name of the type in which the store keeps it.
    module : the network, or None.
    precision : of the network's layers; spectrograms are always computed in 32 bits.
    """

    NAME: ClassVar[str]
    TITLE: ClassVar[str]
    LICENSE: ClassVar[str]
    CITATION: ClassVar[str]
    WEIGHTS: ClassVar[str | None]
    FILES: ClassVar[tuple[str, ...]] = ()
    KNOWN: ClassVar[Mapping[str, Known]] = {}
    REVISION: ClassVar[int] = 1
    CPU_BATCH: ClassVar[int | None] = None
    GPU_BATCH: ClassVar[int | None] = None
    Config: ClassVar[type[Any]]

    config: Any
    input: Input
    shape: tuple[int, ...]
    dtype: str = "float32"
    module: nn.Module | None = None
    precision: Precision = "32"

    @classmethod
    def resolve(cls, config: Any, info: CatalogInfo) -> Any:  # noqa: ARG003 - for subclasses that override it
        """The settings to use for this collection; by default ``config`` unchanged."""
        return config

    @classmethod
    def fetch(cls, model: str) -> Path:
        """Download the weights of a published ``model``, which users name as ``NAME:model``, and return their path."""
        raise RequestError(f"{cls.NAME} has no published models to name ({cls.NAME}:{model}); give --weights FILE")

    @classmethod
    def settings_of(cls, weights: Path) -> dict[str, str]:
        """The settings that a checkpoint of ``encore train`` was made with; {} for one from elsewhere.

        Raises
        ------
        RequestError
            if ``encore train`` made the checkpoint for another backbone.
        """
        about = read_about(weights)
        if about.get("backbone", cls.NAME) != cls.NAME:
            raise RequestError(f"{weights} holds weights of {about['backbone']}, not of {cls.NAME}")
        settings: dict[str, str] = about.get("settings", {})
        return settings

    @abstractmethod
    def __init__(self, config: Any) -> None:
        """Build the network, if there is one, with freshly drawn weights; reads no file."""

    def load(self, weights: Path) -> None:
        """Read a checkpoint whose keys are those of ``module``, such as one that ``encore train`` made.

        Raises
        ------
        RequestError
            if the file is no checkpoint, or its weights do not fit; the message names the first key that does not.
        """
        if self.WEIGHTS is None or self.module is None:
            raise RequestError(f"{self.NAME} has no weights")
        load_into(self.module, read_state_dict(weights), str(weights))

    def objectives(self) -> dict[str, Callable[[Labels], Objective]]:
        """The ways to train ``module``, the usual one first: name -> constructor; {} if it cannot be trained.

        An objective shares the parameters of ``module``; any others that it has are drawn anew.
        """
        return {}

    def to(self, device: torch.device) -> None:
        """Move to ``device`` and freeze, with denormal weights set to 0 (`flush_denormals`).

        Raises
        ------
        RequestError
            if the device cannot be relied on in this precision (`check_precision`).
        """
        check_precision(self.precision, device)
        if device.type == "cpu":
            keep_freed_memory()
        if self.module is not None:
            self.module.to(device).eval().requires_grad_(False)
            flush_denormals(self.module)

    def forward(self, windows: Tensor) -> Tensor:
        """Representations of ``CPU_BATCH`` or ``GPU_BATCH`` windows at most: [batch, *shape]; by default ``module``'s.

        It may run under autocast (see `stages.embed.represent`); code that needs 32 bits must switch that off.
        """
        if self.module is None:
            raise NotImplementedError(f"{type(self).__name__} has neither a module nor a forward method")
        representations: Tensor = self.module(windows)
        return representations

    def encode(self, batch: Tensor) -> Tensor:
        """Representations of a batch of windows of any size.

        Parameters
        ----------
        batch : [batch, ...], windows as `Input.load` gives them, on the backbone's device.

        Returns
        -------
        [batch, *shape]; a window's numbers do not depend on the rest of its batch, up to rounding.
        """
        if not len(batch):
            return torch.empty((0, *self.shape), dtype=getattr(torch, self.dtype), device=batch.device)
        step = self.CPU_BATCH if batch.device.type == "cpu" else self.GPU_BATCH
        parts = [self.forward(part) for part in torch.split(batch, step or len(batch))]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def encode_text(self, words: str) -> Tensor:  # noqa: ARG002 - for subclasses with a text tower
        """[dim] the vector of some words, to be compared with representations by the plain cosine.

        Raises
        ------
        RequestError
            where the backbone has no text tower.
        """
        raise RequestError(f"{self.NAME} takes no words; a collection encoded with clap can be asked by words")
