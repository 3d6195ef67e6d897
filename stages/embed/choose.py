"""Choose a backbone and its weights."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from stages import registry
from stages.configure import configure
from stages.embed.backbones import PRECISIONS, Backbone, Precision
from stages.embed.weights import read_state_dict
from stages.progress import note
from store.errors import RequestError, unknown
from store.fingerprint import hash_file, hash_ids
from store.schema import CatalogInfo

RANDOM = "random"


_SEED = 0


@dataclass(frozen=True)
class Chosen:
    """A backbone, its weights (a path, ``random`` or none) or the published ``model`` with them, its precision."""

    kind: type[Backbone]
    weights: str | None
    model: str
    precision: Precision


def make_backbone(chosen: Chosen, settings: Mapping[str, str], info: CatalogInfo) -> tuple[Backbone, str | None]:
    """The backbone with its weights, and the mark of these weights that enters the fingerprint.

    A published model is fetched. A checkpoint of ``encore train`` brings the settings it was trained with; those given
    here go before them.
    """
    kind, name = chosen.kind, chosen.kind.NAME
    weights = str(kind.fetch(chosen.model)) if chosen.model else chosen.weights
    if weights not in (None, RANDOM) and kind.WEIGHTS is not None:
        settings = {**kind.settings_of(Path(weights)), **settings}
    config = kind.resolve(configure(kind.Config(), settings, f"the backbone {name}"), info)
    if weights is None:
        return kind(config), None
    torch.manual_seed(_SEED)
    backbone = kind(config)
    backbone.precision = chosen.precision
    if weights == RANDOM:
        note(f"{name} runs with random weights (seed {_SEED}): an untrained control, not a model of music")
        return backbone, f"{RANDOM}-{_SEED}"
    path = Path(weights)
    if not path.exists():
        raise RequestError(f"there is no weights file {weights}. {kind.WEIGHTS}")
    load_weights(backbone, path)
    return backbone, hash_weights(path)


def find_backbone(name: str, weights: str | None, precision: str = "32", info: CatalogInfo | None = None) -> Chosen:
    """What was asked for; RequestError where it does not go together.

    ``hf:MODEL`` is the backbone ``hf`` with that model. Opens no file and reads no collection; ``info`` is that of one
    whose default the backbone is.
    """
    name, _, model = name.partition(":")
    kind: type[Backbone] = registry.find("backbone", name)
    if model and weights is not None:
        raise RequestError(f"{name}:{model} names its weights; leave out --weights")
    runs_in = next((choice for choice in PRECISIONS if choice == precision), None)
    if runs_in is None:
        raise unknown("precision", precision, PRECISIONS)
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
    return Chosen(kind, weights, model, runs_in)


def _without_weights() -> list[str]:
    """The backbones that need no weights; none is built to find out, as that can take seconds, or fail."""
    return [name for name, kind in registry.load("backbone")[0].items() if getattr(kind, "WEIGHTS", "") is None]


def load_weights(backbone: Backbone, path: Path) -> None:
    """`Backbone.load`, whose error then also says which other backbone the checkpoint fits."""
    try:
        backbone.load(path)
    except RequestError as error:
        owner = _who_reads(path, but=backbone.NAME)
        raise RequestError(f"{error}. {owner} reads it: --backbone {owner}" if owner else str(error)) from error


def _who_reads(path: Path, *, but: str) -> str | None:
    """The first other backbone that the checkpoint's weights fit, found by trying, each with its default settings."""
    try:
        read_state_dict(path)
    except RequestError:
        return None
    for name in registry.names("backbone"):
        if name != but:
            with contextlib.suppress(Exception):  # of any kind, from another package's; the first error is told
                kind: type[Backbone] = registry.find("backbone", name)
                kind(kind.Config()).load(path)
                return name
    return None


def hash_weights(path: Path) -> str:
    """A hash of a checkpoint, or of all checkpoints in a folder and their names."""
    if path.is_file():
        return hash_file(path)
    files = sorted(file for file in path.iterdir() if file.suffix in (".safetensors", ".bin"))
    return hash_ids(text for file in files for text in (file.name, hash_file(file)))
