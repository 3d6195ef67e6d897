"""Where the state of an unfinished training is kept."""

from __future__ import annotations

import io
import time
from typing import Any

import torch

from store.files import Files
from store.seal import hash_bytes

_EVERY_S = 5.0  # what a kill may cost; shorter trainings write nothing


class Checkpoint:
    """One file of a store, replaced as a whole: a line with the hash of what follows, then the state.

    Parameters
    ----------
    about : a hash of what decides the training; a file with another one is ignored.
    """

    def __init__(self, files: Files, name: str, about: str) -> None:
        self.files, self.name, self.about = files, name, about
        self._saved = time.monotonic()

    def load(self) -> dict[str, Any] | None:
        """The state that was saved last; None where there is no whole file of this training."""
        try:
            digest, _, state = self.files.read(self.name).partition(b"\n")
            if digest != hash_bytes(state).encode():
                return None
            content = torch.load(io.BytesIO(state), map_location="cpu", weights_only=True)
        except FileNotFoundError:
            return None
        except Exception:  # torch.load has no error of its own for what is damaged
            return None
        saved: dict[str, Any] | None = content["state"] if content.get("about") == self.about else None
        return saved

    @property
    def is_due(self) -> bool:
        return time.monotonic() - self._saved >= _EVERY_S

    def save(self, state: dict[str, Any]) -> None:
        buffer = io.BytesIO()
        torch.save({"about": self.about, "state": state}, buffer)
        content = buffer.getvalue()
        self.files.write(self.name, hash_bytes(content).encode() + b"\n" + content)
        self._saved = time.monotonic()
