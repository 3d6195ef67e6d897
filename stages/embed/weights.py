"""Read checkpoints from anywhere, without running anything that they contain."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from store.errors import EncoreError, MisfitError, RequestError

Network = TypeVar("Network", bound=nn.Module)

_WRAPPERS = ("state_dict", "weights", "model")  # keys under which training scripts save weights among other things
# Modules of the objects in which training scripts save their settings beside the weights. See `_Inert`.
_SETTINGS = ("argparse.", "fairseq.", "omegaconf.", "typing.", "collections.defaultdict")
_MOST_PARAMETERS = 8_000_000_000
_TINY = torch.finfo(torch.float32).tiny  # the smallest normal number
_PLAIN = {f"builtins.{name}" for name in ("dict", "list", "str", "int", "float", "bool")}


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The tensors of a PyTorch checkpoint by name, on the CPU.

    The file may hold them at the top level or under ``state_dict``, ``weights`` or ``model``.

    Raises
    ------
    RequestError
        if there is no such file, or it holds anything but tensors by name.
    """
    if not path.is_file():
        raise RequestError(f"{path}: no such file of weights; give a PyTorch checkpoint by --weights")
    _refuse_inflating(path)
    try:
        with torch.serialization.safe_globals([(_standin(name), name) for name in _foreign(path)]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can raise almost anything
        raise RequestError(
            f"{path}: not a PyTorch checkpoint, damaged, or one that holds code besides weights, which is never run; "
            f"save its state_dict() alone with torch.save"
        ) from error
    if isinstance(content, Mapping):
        content = next((content[name] for name in _WRAPPERS if isinstance(content.get(name), Mapping)), content)
    if not isinstance(content, Mapping) or not content:
        raise RequestError(f"{path}: holds no weights by name; save a network's state_dict() with torch.save")
    for key, value in content.items():
        if not isinstance(key, str) or not _is_plain(value):
            raise RequestError(
                f"{path}: {key!r} is not a plain tensor; save a network's state_dict() alone with torch.save"
            )
    return dict(content)


def read_about(path: Path) -> dict[str, Any]:
    """The description in a checkpoint of ``encore train``; {} for any other file (`read_state_dict` judges those)."""
    if not path.is_file():
        return {}
    _refuse_inflating(path)
    try:
        about = torch.load(path, map_location="cpu", weights_only=True, mmap=_is_archive(path))["about"]
    except Exception:  # a damaged pickle can raise almost anything
        return {}
    return about if isinstance(about, dict) else {}


def load_into(
    module: nn.Module, state: Mapping[str, Tensor], what: str, *, optional: Sequence[str] = ("*num_batches_tracked",)
) -> None:
    """Copy the weights of ``state`` into ``module``, all of them or none; denormal ones become 0 (`flush_denormals`).

    Parameters
    ----------
    what : the origin of the weights, with which error messages begin.
    optional : patterns, as for file names, of keys that either side may lack. By default the counter that batch
        normalisation keeps in training: it decides no number, and old checkpoints have none.

    Raises
    ------
    MisfitError
        if a key is missing or has no place in ``module``, or if its value has another shape or type or is not finite.
    """
    places = module.state_dict()
    remedy = f"give a checkpoint of {type(module).__name__}'s own layout"
    missing = [key for key in places if key not in state and not _matches(key, optional)]
    unexpected = [key for key in state if key not in places and not _matches(key, optional)]
    for key, place in places.items():
        if key not in state:
            if key not in missing:
                continue
            raise MisfitError(f"{what}: {key!r} is missing; {remedy}", missing, unexpected)
        problem = _misfit(key, state[key], place)
        if problem is not None:
            raise MisfitError(f"{what}: {problem}; {remedy}", missing, unexpected)
        if not torch.isfinite(state[key].to(place.dtype)).all():
            raise MisfitError(f"{what}: {key!r} holds numbers that are not finite; its training went astray")
    if unexpected:
        raise MisfitError(f"{what}: {unexpected[0]!r} has no place in this network; {remedy}", missing, unexpected)
    module.load_state_dict({key: value for key, value in state.items() if key in places}, strict=False)
    flush_denormals(module)


def make_network(make: Callable[[], Network], what: str) -> Network:
    """The network that a description beside weights asks for, with freshly drawn weights.

    It is made without memory first, as a description may ask for any size.

    Raises
    ------
    RequestError
        where it cannot be made, or is larger than any published one.
    """
    try:
        with torch.device("meta"):
            count = sum(parameter.numel() for parameter in make().parameters())
        if count <= _MOST_PARAMETERS:
            return make()
    except RequestError:
        raise
    except Exception as error:  # whatever sizes that do not go together, or are no sizes, lead to
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise RequestError(f"{what}: config.json describes no network that can be made: {reason[:200]}") from error
    raise RequestError(f"{what}: config.json describes a network of {count:,} parameters, more than any published one")


@torch.no_grad()
def flush_denormals(module: nn.Module) -> None:
    """Set the module's denormal numbers, those below 1.2e-38, to 0.

    They are far below the rounding of any sum of normal numbers, and a CPU computes with them a hundred times as slowly
    as with others. Weight decay leaves them behind in filters without use: the published musicnn has 98,000, with which
    a window took 3.8 s instead of 0.045 s.
    """
    for value in (*module.parameters(), *module.buffers()):
        if value.dtype == torch.float32:
            value.masked_fill_((value != 0) & (value.abs() < _TINY), 0.0)


@contextmanager
def denormals_flushed() -> Iterator[None]:
    """Make the CPU treat denormal numbers as 0, in this thread and in torch's own; restore that on leaving.

    `flush_denormals` is about weights; activations can be denormal too.
    """
    before = torch.tensor(_TINY).div(2).item() == 0.0
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


@contextmanager
def described_by(weights: Path) -> Iterator[None]:
    """Raise RequestError for whatever the files of a model lead to: what they say of their network may be anything."""
    try:
        yield
    except EncoreError:
        raise
    except Exception as error:
        reason = (str(error).strip().splitlines() or [""])[0][:200] or type(error).__name__
        raise RequestError(
            f"{weights}: the network that these files describe does not work ({reason}); give them as published"
        ) from error


class _Inert:
    """A stand-in for objects of other classes in a checkpoint, which accepts any arguments and ignores them."""

    def __new__(cls, *_args: object, **_named: object) -> _Inert:
        return super().__new__(cls)

    def __setstate__(self, _state: object) -> None:
        pass


def _standin(name: str) -> Callable[..., object]:
    if name == "collections.defaultdict":  # torch fills dictionaries only
        return lambda *_args: {}
    return type(name, (_Inert,), {})


def _foreign(path: Path) -> list[str]:
    """The classes of settings that a checkpoint of fairseq names beside its weights; none of them is imported."""
    if not _is_archive(path):
        return []
    names = torch.serialization.get_unsafe_globals_in_checkpoint(str(path))
    return [name for name in names if name.startswith(_SETTINGS) or name in _PLAIN]


def _is_archive(path: Path) -> bool:
    """Whether a file ends as an archive does that can be opened."""
    try:
        return zipfile.is_zipfile(path)
    except zipfile.BadZipFile:  # it says that it goes on on another disk
        return False


def _refuse_inflating(path: Path) -> None:
    """Raise RequestError for an archive with compressed parts; torch.save compresses none."""
    if not _is_archive(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            compressed = sum(part.file_size for part in archive.infolist()) > path.stat().st_size
    except (zipfile.BadZipFile, ValueError, NotImplementedError):  # names that are no text, versions to come
        return  # torch.load reports the same in its own words
    if compressed:
        raise RequestError(f"{path}: a compressed archive and no checkpoint; save the weights again with torch.save")


def _is_plain(value: object) -> bool:
    return isinstance(value, Tensor) and value.layout == torch.strided and value.device.type == "cpu"


def _misfit(key: str, value: Tensor, place: Tensor) -> str | None:
    if value.shape != place.shape:
        return f"{key!r} has shape {_shape(value)} and should have {_shape(place)}"
    if value.is_floating_point() != place.is_floating_point():
        return f"{key!r} is {value.dtype} and should be {place.dtype}"
    return None


def _matches(key: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch(key, pattern) for pattern in patterns)


def _shape(tensor: Tensor) -> str:
    return str(tuple(tensor.shape))
