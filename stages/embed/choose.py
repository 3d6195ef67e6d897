"""From a backbone's name and a weights file to a backbone that encodes."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import torch

from stages import registry
from stages.configure import configure
from stages.embed.backbones import PRECISIONS, Backbone, Precision
from stages.embed.encode import representation_name
from stages.embed.weights import described_by, read_state_dict
from stages.paths import at_home
from stages.progress import note
from store.errors import RequestError, unknown
from store.fingerprint import hash_file, hash_ids
from store.schema import CatalogInfo, Manifest

DTYPES = ("float32", "float16")
RANDOM = "random"  # in place of a weights file
_SEED = 0  # of random weights


@dataclass(frozen=True)
class Choice:
    """A backbone with its weights and precision.

    Attributes
    ----------
    weights : a path, ``random``, or None.
    model : the published model that brings the weights; empty for none.
    dtype : in which the store keeps the numbers; None for the backbone's own.
    """

    kind: type[Backbone]
    weights: str | None
    model: str
    precision: Precision
    dtype: str | None = None


def make_backbone(choice: Choice, settings: Mapping[str, str], info: CatalogInfo) -> tuple[Backbone, str | None]:
    """The backbone with its weights loaded, and what its fingerprint says of the weights (None without any).

    A published model is fetched. A checkpoint of ``encore train`` brings the settings it was trained with, which
    ``settings`` override.

    Raises
    ------
    RequestError
        if a setting is unknown, or the weights are not there or do not fit.
    """
    kind, name = choice.kind, choice.kind.NAME
    weights = str(kind.fetch(choice.model)) if choice.model else choice.weights
    if weights not in (None, RANDOM) and kind.WEIGHTS is not None:
        with described_by(Path(weights)):
            settings = {**kind.settings_of(Path(weights)), **settings}
    config = kind.resolve(configure(kind.Config(), settings, f"the backbone {name}"), info)
    if weights is None:
        return _kept_in(kind(config), choice.dtype), None
    torch.manual_seed(_SEED)
    with described_by(Path(weights)):
        backbone = _kept_in(kind(config), choice.dtype)
    backbone.precision = choice.precision
    if weights == RANDOM:
        note(f"{name} runs with random weights (seed {_SEED}): an untrained control, not a model of music")
        return backbone, f"{RANDOM}-{_SEED}"
    path = Path(weights)
    if not path.exists():
        raise RequestError(f"there is no weights file {weights}. {kind.WEIGHTS}")
    with described_by(path):
        load_weights(backbone, path)
    return backbone, hash_weights(path)


def _kept_in(backbone: Backbone, dtype: str | None) -> Backbone:
    """The backbone, whose numbers the store keeps in ``dtype``; RequestError where it gives no floats."""
    if dtype is not None and dtype != backbone.dtype:
        if backbone.dtype not in DTYPES:
            raise RequestError(f"{backbone.NAME} gives whole numbers ({backbone.dtype}); leave out --dtype")
        backbone.dtype = dtype
    return backbone


def find_backbone(
    name: str,
    weights: str | None,
    precision: str = "32",
    info: CatalogInfo | None = None,
    dtype: str | None = None,
) -> Choice:
    """Look up a backbone by name, without opening a file; ``hf:MODEL`` is the backbone ``hf`` with that model.

    Parameters
    ----------
    info : the collection whose default the backbone is; None if someone named it.

    Raises
    ------
    RequestError
        if there is no such backbone, precision or dtype, or the weights do not go with it.
    """
    name, _, model = name.partition(":")
    kind: type[Backbone] = registry.find("backbone", name)
    if model and weights is not None:
        raise RequestError(f"{name}:{model} names its weights; leave out --weights")
    runs_in = next((choice for choice in PRECISIONS if choice == precision), None)
    if runs_in is None:
        raise unknown("precision", precision, PRECISIONS)
    if dtype is not None and dtype not in DTYPES:
        raise unknown("dtype", dtype, DTYPES)
    if kind.WEIGHTS is None and runs_in != "32":
        raise RequestError(f"{name} has no network that could run in {precision}; leave out --precision")
    if kind.WEIGHTS is None and weights is not None:
        raise RequestError(f"{name} has no weights; leave out --weights")
    if kind.WEIGHTS is not None and weights is None and not model:
        default = f", the default of {info.name}," if info is not None else ""
        raise RequestError(
            f"{name}{default} needs weights: --weights FILE (make: WEIGHTS=FILE). {kind.WEIGHTS} "
            f". With --weights random it runs untrained, which is a control and says little about music. "
            f"Backbones without weights: {', '.join(_without_weights())}"
        )
    return Choice(kind, weights, model, runs_in, dtype)


def _without_weights() -> list[str]:
    """The backbones that need no weights. None is built to find out: that can take seconds, or fail."""
    return [name for name, kind in registry.load("backbone")[0].items() if getattr(kind, "WEIGHTS", "") is None]


def load_weights(backbone: Backbone, path: Path) -> None:
    """Load a checkpoint; the error for one that does not fit names the backbone that it does fit."""
    try:
        backbone.load(path)
    except RequestError as error:
        owner = _who_reads(path, but=backbone.NAME)
        raise RequestError(f"{error}. {owner} reads it: --backbone {owner}" if owner else str(error)) from error


def _who_reads(path: Path, *, but: str) -> str | None:
    """The first other backbone, with its default settings, that can load the checkpoint."""
    try:
        read_state_dict(path)
    except RequestError:
        return None
    for name in registry.names("backbone"):
        if name != but:
            with contextlib.suppress(Exception):  # another package may raise anything; the first error counts
                kind: type[Backbone] = registry.find("backbone", name)
                kind(kind.Config()).load(path)
                return name
    return None


def hash_weights(path: Path) -> str:
    """A hash of a checkpoint, or of the names and contents of all checkpoints in a folder."""
    if path.is_file():
        return hash_file(path)
    files = sorted(file for file in path.iterdir() if file.suffix in (".safetensors", ".bin"))
    return hash_ids(text for file in files for text in (file.name, hash_file(file)))


def restore_backbone(settings: Mapping[str, Any], weights: str | None, what: str) -> tuple[Backbone, str | None]:
    """The backbone that made a representation, and what its fingerprint says of its weights.

    Parameters
    ----------
    settings : those of the representation's manifest, which decide its numbers.
    weights : where its weights lie; not read where they are random, or where there are none.
    what : the representation, with which messages begin.

    Raises
    ------
    RequestError
        where the backbone reads no songs or is of another version, or the weights are absent or not the same.
    """
    kind: type[Backbone] = registry.find("backbone", str(settings["backbone"]))
    config = rebuild_config(kind.Config, settings)
    mark = settings.get("weights")
    dtype = settings.get("dtype")
    if mark is None:
        return _kept_in(kind(config), dtype), None
    torch.manual_seed(_SEED)
    backbone = _kept_in(kind(config), dtype)
    backbone.precision = settings.get("precision", "32")
    if mark == f"{RANDOM}-{_SEED}":
        return backbone, mark
    message = f"{what} was made with the weights whose SHA-256 begins with {str(mark)[:12]}"
    if weights is None:
        raise RequestError(f"{message}; where they lie is not known here: --weights FILE")
    path = at_home(weights)
    if not path.exists():
        raise RequestError(f"{message}, and there is no {weights}; give them by --weights FILE")
    actual = hash_weights(path)
    if actual != mark:
        raise RequestError(f"{message}, and {weights} holds others ({actual[:12]}); give the same by --weights FILE")
    load_weights(backbone, path)
    return backbone, mark


def check_given_weights(settings: Mapping[str, Any], weights: str, what: str) -> None:
    """RequestError where a representation was made without a weights file, and someone gives one."""
    mark = settings.get("weights")
    if mark is None:
        raise RequestError(f"{what} was made by {settings['backbone']}, which has no weights; leave out --weights")
    if mark == f"{RANDOM}-{_SEED}" and weights != RANDOM:
        raise RequestError(f"{what} was made with random weights, which no file holds; leave out --weights")


def rebuild_config(config: type[Any], settings: Mapping[str, Any]) -> Any:
    """A backbone's config from the settings of a manifest; RequestError where this version has other fields."""
    try:
        return _rebuilt(config, settings.get("config", {}))
    except TypeError as error:
        raise RequestError(
            f"the representation was made by another version of {settings.get('backbone')}: {error}; encode it again"
        ) from error


def _rebuilt(kind: type[Any], values: Mapping[str, Any]) -> Any:
    """A dataclass, and those among its fields, from what JSON holds of them."""
    kinds = get_type_hints(kind)
    fields: dict[str, Any] = {}
    for name, value in values.items():
        if name == "REVISION":
            continue
        if isinstance(value, Mapping) and is_dataclass(kinds.get(name)):
            fields[name] = _rebuilt(kinds[name], value)
        else:
            fields[name] = tuple(value) if isinstance(value, list) else value
    return kind(**fields)


def is_current(manifest: Manifest) -> bool:
    """Whether this version, given the same settings and weights, makes a representation; True where it cannot say."""
    if manifest.backbone not in registry.names("backbone"):
        return True
    kind = registry.find("backbone", manifest.backbone)
    try:
        backbone = _kept_in(kind(rebuild_config(kind.Config, manifest.settings)), manifest.settings.get("dtype"))
    except RequestError:
        return False
    backbone.precision = manifest.settings.get("precision", "32")
    return representation_name(backbone, manifest.settings.get("weights")).fingerprint == manifest.fingerprint
