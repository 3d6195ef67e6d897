"""The file of a trained head: all that restoring it takes, in plain types and tensors."""

from __future__ import annotations

import dataclasses
import io
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from store.errors import FormatError

FORMAT = 2  # of the file; 1 had no facts, and the head's own settings among those of the training


@dataclass(frozen=True, kw_only=True)
class SavedHead:
    """A trained head, one network of it.

    Attributes
    ----------
    mode : names the head.
    task, labels, dim, config, facts : what its `Spec` is made from; ``labels`` are the names of its outputs.
    fitted : what the task learnt of the training clips (`Task.fitted`), by name.
    network : the weights; None of a head that only counts.
    shift, scale : [dim] what is taken from representations and what they are multiplied by; None as ``network``.
    threshold : [labels] the scores above which labels are chosen; None where no threshold decides.
    stranger_threshold : as `stages.head.fit.FitResult` has it.
    rule : the rule that decides, of a head that has several.
    representation : the folder of the representations that it reads; None where it reads none.
    dataset, regime, seed, fold : what it was trained on.
    settings : of the training; None as ``network``.
    code : a hash of the source that trained it.
    """

    mode: str
    task: str
    labels: list[str]
    dim: int
    config: dict[str, Any]
    facts: dict[str, Any]
    network: dict[str, Tensor] | None
    shift: Tensor | None
    scale: Tensor | None
    threshold: list[float] | None
    rule: str | None
    representation: str | None
    dataset: str
    regime: str
    seed: int
    fold: int | None
    settings: dict[str, Any] | None
    code: str
    fitted: dict[str, float] = dataclasses.field(default_factory=dict)
    stranger_threshold: float | None = None

    def to_bytes(self) -> bytes:
        buffer = io.BytesIO()
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        torch.save({"format": FORMAT, **fields}, buffer)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes, file: str, command: str) -> SavedHead:
        """Read a file, which runs no code.

        Parameters
        ----------
        file, command : where the file lies, and what trains the head again, for messages.

        Raises
        ------
        FormatError
            where the file is damaged, or was written by another version.
        """
        try:
            values = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        except Exception as error:  # torch.load has no error of its own for what is damaged
            raise FormatError(f"{file} is damaged; train the head again: {command}") from error
        if not isinstance(values, dict) or values.get("format") != FORMAT:
            version = values.get("format", 1) if isinstance(values, dict) else 1
            age = "a newer" if isinstance(version, int) and version > FORMAT else "an older"
            raise FormatError(
                f"{file} was written by {age} version of Encore (its format is {version}, this one reads {FORMAT}); "
                f"train the head again: {command}"
            )
        try:
            return cls(**{key: value for key, value in values.items() if key != "format"})
        except TypeError as error:
            raise FormatError(f"{file} is damaged: {error}; train the head again: {command}") from error
