"""What a training leaves behind: the checkpoint, its log, and the state from which an interrupted one goes on."""

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

_LOG_BEGINS = b"epoch,loss,"


@dataclass
class State:
    """Where a training stands after an epoch; ``log`` has a line for each, from epoch 1 on."""

    step: int = 0
    best_epoch: int = 0
    best_loss: float = math.inf
    log: Log = field(default_factory=list)


class CheckpointFiles:
    """The checkpoint, its log, and the state from which an interrupted training goes on."""

    def __init__(self, out: Path, about: dict[str, Any]) -> None:
        if not out.name or out.is_dir():
            raise RequestError(f"--out {str(out)!r} is no name of a file; name one for the checkpoint")
        self.out, self.about = out, about
        self.state, self.log = (out.with_name(f"{out.name}.{end}") for end in ("resume", "csv"))
        self.files = Files(out.parent)

    def finished(self) -> dict[str, Any] | None:
        """What the checkpoint says where this very training has ended.

        RequestError where the checkpoint, its log or its state is another's, or no file that may be replaced.
        """
        for path in (self.state, self.out, self.log):
            if os.path.lexists(path) and not path.is_file():
                raise RequestError(f"{path} is no regular file, and would be replaced; name another file by --out")
        if self.log.is_file() and not (self._is_begun() and _is_log(self.log)):
            raise RequestError(
                f"{self.log} is there, and is not the log of a training that {self.out} holds: it would be "
                f"overwritten; move it away, or name another file by --out"
            )
        for path in (self.state, self.out):
            if path.is_file():
                held = _read(path)
                if held.get("about") != self.about:
                    raise RequestError(
                        f"{path} belongs to another training (other data, settings or weights); remove it, or name "
                        f"another file by --out"
                    )
                return None if path == self.state or "log" not in held else held
        return None

    def _is_begun(self) -> bool:
        return self.state.is_file() or self.out.is_file()

    def resume(self, objective: nn.Module, optimizer: Any) -> State:
        if not self.state.is_file():
            return State()
        held = _read(self.state)
        objective.load_state_dict(held["objective"])
        optimizer.load_state_dict(held["optimizer"])
        return State(held["step"], held["best_epoch"], held["best_loss"], held["log"])

    def save(self, backbone: Backbone, objective: nn.Module, optimizer: Any, state: State, *, better: bool) -> None:
        """First the weights, then the state that counts this epoch: killed between them, the epoch is done again."""
        if better:
            assert backbone.module is not None
            inside = {id(value) for value in backbone.module.state_dict(keep_vars=True).values()}
            output = {k: v for k, v in objective.state_dict(keep_vars=True).items() if id(v) not in inside}
            held = {"weights": _plain(backbone.module.state_dict()), "output": _plain(output), "about": self.about}
            self._write(self.out, held)
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
        self._write(self.out, _read(self.out) | {"log": state.log, "best_epoch": state.best_epoch})
        self._write_log(state.log)
        self.state.unlink(missing_ok=True)

    def _write(self, path: Path, held: dict[str, Any]) -> None:
        buffer = io.BytesIO()
        torch.save(held, buffer)
        self.files.write(path.name, buffer.getvalue())

    def _write_log(self, log: Log) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, ["epoch", *log[0]], lineterminator="\n")
        writer.writeheader()
        writer.writerows({"epoch": epoch} | line for epoch, line in enumerate(log, start=1))
        self.files.write(self.log.name, text.getvalue().encode())


def _is_log(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_LOG_BEGINS)) == _LOG_BEGINS


def _plain(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key: value.detach().cpu().contiguous() for key, value in state.items()}


def _read(path: Path) -> dict[str, Any]:
    try:
        held: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can raise almost anything
        raise RequestError(f"{path} is there and is no checkpoint of a training; name another file by --out") from error
    return held if isinstance(held, dict) else {}
