"""Read checkpoints that others made, without running anything they contain."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from store.errors import RequestError

_WRAPPERS = ("state_dict", "weights", "model")  # under which training scripts put the weights, beside other things
# What training scripts put beside the weights to note their settings. Read as nothing: see `_Inert`.
_SETTINGS = ("argparse.", "fairseq.", "omegaconf.", "typing.", "collections.defaultdict")
_TINY = torch.finfo(torch.float32).tiny  # the smallest normal number
_PLAIN = {f"builtins.{name}" for name in ("dict", "list", "str", "int", "float", "bool")}


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The tensors of a PyTorch checkpoint by name, on the CPU.

    The file holds them bare or under ``state_dict``, ``weights`` or ``model``.

    Raises
    ------
    RequestError
        where there is no such file, or it holds anything but tensors under names.
    """
    if not path.is_file():
        raise RequestError(f"{path}: no such file of weights; give a PyTorch checkpoint by --weights")
    _refuse_inflating(path)
    try:
        with torch.serialization.safe_globals([(_standin(name), name) for name in _foreign(path)]):
            held = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can raise almost anything
        raise RequestError(
            f"{path}: not a PyTorch checkpoint, damaged, or one that holds code besides weights, which is never run; "
            f"save its state_dict() alone with torch.save"
        ) from error
    if isinstance(held, Mapping):
        held = next((held[name] for name in _WRAPPERS if isinstance(held.get(name), Mapping)), held)
    if not isinstance(held, Mapping) or not held:
        raise RequestError(f"{path}: holds no weights by name; save a network's state_dict() with torch.save")
    for key, value in held.items():
        if not isinstance(key, str) or not _is_plain(value):
            raise RequestError(
                f"{path}: {key!r} is not a plain tensor; save a network's state_dict() alone with torch.save"
            )
    return dict(held)


def read_about(path: Path) -> dict[str, Any]:
    """What a checkpoint of ``encore train`` says of itself; {} for anything else (`read_state_dict` judges those)."""
    if not path.is_file():
        return {}
    _refuse_inflating(path)
    try:
        held = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
        about = held["about"]
    except Exception:  # a damaged pickle can raise almost anything
        return {}
    return about if isinstance(about, dict) else {}


def load_into(
    module: nn.Module, state: Mapping[str, Tensor], what: str, *, optional: Sequence[str] = ("*num_batches_tracked",)
) -> None:
    """Give ``module`` the weights of ``state``, all of them or none.

    Parameters
    ----------
    what : where they come from, as the message of an error begins.
    optional : patterns (as in file names) of keys that either side may lack. By default the counter that batch
        normalisation keeps while it is trained: it decides no number, and old checkpoints have none.

    Raises
    ------
    RequestError
        that names the first key that is missing, of another shape or type, not finite, or that has no place here.
    """
    wanted = module.state_dict()
    remedy = f"give a checkpoint of {type(module).__name__}'s own layout"
    for key, place in wanted.items():
        if key not in state:
            if _matches(key, optional):
                continue
            raise RequestError(f"{what}: {key!r} is missing; {remedy}")
        given = state[key]
        if given.shape != place.shape:
            raise RequestError(f"{what}: {key!r} has shape {_shape(given)} and should have {_shape(place)}; {remedy}")
        if given.is_floating_point() != place.is_floating_point():
            raise RequestError(f"{what}: {key!r} is {given.dtype} and should be {place.dtype}; {remedy}")
        if not torch.isfinite(given.to(place.dtype)).all():
            raise RequestError(f"{what}: {key!r} holds numbers that are not finite; its training went astray")
    for key in state:
        if key not in wanted and not _matches(key, optional):
            raise RequestError(f"{what}: {key!r} has no place in this network; {remedy}")
    module.load_state_dict({key: value for key, value in state.items() if key in wanted}, strict=False)
    flush_denormals(module)


@torch.no_grad()
def flush_denormals(module: nn.Module) -> None:
    """Set the module's denormal numbers, those below 1.2e-38, to 0.

    A CPU works on them a hundred times as slowly, and no sum of normal numbers tells them from 0. Weight decay leaves
    them in filters that training has given up: the published musicnn has 25,465, and a window of it took 3.8 s
    instead of 0.045 s.
    """
    for value in (*module.parameters(), *module.buffers()):
        if value.dtype == torch.float32:
            value.masked_fill_((value != 0) & (value.abs() < _TINY), 0.0)


@contextmanager
def denormals_flushed() -> Iterator[None]:
    """Have the CPU take denormal numbers for 0 within the block, in this thread and in torch's own; then as before.

    Without this, a network's activations, which can be denormal too, cost what `flush_denormals` saves.
    """
    flushed = not torch.tensor(_TINY).div(2).item()
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(flushed)


class _Inert:
    """Stands where a checkpoint holds an object of some class: takes whatever it is given and does nothing."""

    def __new__(cls, *_args: object, **_named: object) -> _Inert:
        return super().__new__(cls)

    def __setstate__(self, _state: object) -> None:
        pass


def _standin(name: str) -> Callable[..., object]:
    if name == "collections.defaultdict":  # torch fills dictionaries only
        return lambda *_args: {}
    return type(name, (_Inert,), {})


def _foreign(path: Path) -> list[str]:
    """The settings' classes that a checkpoint of fairseq names beside its weights. Nothing is imported for them."""
    if not zipfile.is_zipfile(path):
        return []
    named = torch.serialization.get_unsafe_globals_in_checkpoint(str(path))
    return [name for name in named if name.startswith(_SETTINGS) or name in _PLAIN]


def _refuse_inflating(path: Path) -> None:
    """RequestError for an archive whose parts grow when read; torch.save stores them as they are."""
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            grows = sum(part.file_size for part in archive.infolist()) > path.stat().st_size
    except zipfile.BadZipFile:
        return  # torch.load says the same in its own words
    if grows:
        raise RequestError(f"{path}: a compressed archive and no checkpoint; save the weights again with torch.save")


def _is_plain(value: object) -> bool:
    return isinstance(value, Tensor) and value.layout == torch.strided and value.device.type == "cpu"


def _matches(key: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch(key, pattern) for pattern in patterns)


def _shape(tensor: Tensor) -> str:
    return str(tuple(tensor.shape))
