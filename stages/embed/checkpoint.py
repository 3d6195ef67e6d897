"""The files of a training: the checkpoint, its log, and the state from which an interrupted training continues."""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stages.embed.backbones import Backbone
from store.errors import RequestError
from store.files import Files

Log = list[dict[str, float]]

_LOG_HEADER = b"epoch,loss,"


@dataclass
class State:
    """The progress of a training after an epoch; ``log`` has one entry for each, starting with epoch 1."""

    step: int = 0
    best_epoch: int = 0
    best_loss: float = math.inf
    log: Log = field(default_factory=list)


class CheckpointFiles:
    """The checkpoint at ``out``, its log beside it, and until the end of the training its state.

    Parameters
    ----------
    about : the description of the training; files with another one are never overwritten.
    """

    def __init__(self, out: Path, about: dict[str, Any]) -> None:
        if not out.name or out.is_dir():
            raise RequestError(f"--out {str(out)!r} is no name of a file; name one for the checkpoint")
        self.out, self.about = out, about
        self.state, self.log = (out.with_name(f"{out.name}.{end}") for end in ("resume", "csv"))
        self.files = Files(out.parent)

    def finished(self) -> dict[str, Any] | None:
        """The checkpoint if this very training has finished already, otherwise None.

        Raises
        ------
        RequestError
            if a file of this name belongs to something else, or is no regular file.
        """
        for path in (self.state, self.out, self.log):
            if os.path.lexists(path) and not path.is_file():
                raise RequestError(f"{path} is no regular file, and would be replaced; name another file by --out")
        has_started = self.state.is_file() or self.out.is_file()
        if self.log.is_file() and not (has_started and _is_log(self.log)):
            raise RequestError(
                f"{self.log} is there, and is not the log of a training that {self.out} holds: it would be "
                f"overwritten; move it away, or name another file by --out"
            )
        for path in (self.state, self.out):
            if path.is_file():
                checkpoint = _read(path)
                if checkpoint.get("about") != self.about:
                    raise RequestError(
                        f"{path} belongs to another training (other data, settings or weights); remove it, or name "
                        f"another file by --out"
                    )
                return None if path == self.state or "log" not in checkpoint else checkpoint
        return None

    def resume(self, objective: nn.Module, optimizer: Any) -> State:
        """The state of an interrupted training, with its objective and optimizer restored; else a new state."""
        if not self.state.is_file():
            return State()
        state = _read(self.state)
        objective.load_state_dict(state["objective"])
        optimizer.load_state_dict(state["optimizer"])
        return State(state["step"], state["best_epoch"], state["best_loss"], state["log"])

    def save(self, backbone: Backbone, objective: nn.Module, optimizer: Any, state: State, *, better: bool) -> None:
        """Write the weights if they are ``better``, then the state: after a kill in between, the epoch is repeated."""
        if better:
            assert backbone.module is not None
            backbone_tensors = {id(value) for value in backbone.module.state_dict(keep_vars=True).values()}
            output = {k: v for k, v in objective.state_dict(keep_vars=True).items() if id(v) not in backbone_tensors}
            weights = _plain(backbone.module.state_dict())
            self._write(self.out, {"weights": weights, "output": _plain(output), "about": self.about})
        self._write(
            self.state,
            {
                "objective": objective.state_dict(),
                "optimizer": optimizer.state_dict(),
                "about": self.about,
                **vars(state),
            },
        )
        self._write_log(state.log)

    def finish(self, state: State) -> None:
        """Add the log to the checkpoint, and remove the state."""
        self._write(self.out, _read(self.out) | {"log": state.log, "best_epoch": state.best_epoch})
        self._write_log(state.log)
        self.state.unlink(missing_ok=True)

    def _write(self, path: Path, content: dict[str, Any]) -> None:
        buffer = io.BytesIO()
        torch.save(content, buffer)
        self.files.write(path.name, buffer.getvalue())

    def _write_log(self, log: Log) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, ["epoch", *log[0]], lineterminator="\n")
        writer.writeheader()
        writer.writerows({"epoch": epoch} | line for epoch, line in enumerate(log, start=1))
        self.files.write(self.log.name, text.getvalue().encode())


def _is_log(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_LOG_HEADER)) == _LOG_HEADER


def _plain(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key: value.detach().cpu().contiguous() for key, value in state.items()}


def _read(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can raise almost anything
        raise RequestError(f"{path} is there and is no checkpoint of a training; name another file by --out") from error
    return content if isinstance(content, dict) else {}
