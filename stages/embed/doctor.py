"""Whether some files are the weights that a backbone wants."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from stages import registry
from stages.configure import configure
from stages.embed.backbones import Backbone
from stages.embed.probe import probe
from stages.embed.weights import described_by
from stages.paths import at_home
from store.errors import MisfitError, RequestError
from store.fingerprint import hash_file

_MATTERS = (".bin", ".json", ".onnx", ".pt", ".pth", ".safetensors", ".txt")  # of a folder


@dataclass(frozen=True, kw_only=True)
class FileState:
    """A file that the user named.

    Attributes
    ----------
    published : whether its hash is that of the published file; None if no published hash is known.
    """

    name: str
    bytes: int
    sha256: str
    published: bool | None


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """What a backbone wants, and whether it has it.

    Attributes
    ----------
    wants : what ``--weights`` takes, a line each.
    files : what was given.
    fits : whether the backbone reads them and turns a fixed clip into finite numbers; None where nothing was given.
    problem : why not.
    missing, unexpected : names of weights that the network has and the files lack, and the other way round.
    shape : of one representation.
    words : whether it turns words into vectors, and why not; None for a backbone that takes none.
    """

    backbone: str
    title: str
    licence: str
    citation: str
    about: str
    wants: tuple[str, ...]
    files: tuple[FileState, ...] = ()
    fits: bool | None = None
    problem: str | None = None
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    shape: tuple[int, ...] | None = None
    words: str | None = None

    @property
    def is_well(self) -> bool:
        """Whether nothing that was given is wrong."""
        return self.fits is not False and all(file.published is not False for file in self.files)


def diagnose(name: str, weights: str | None, settings: Mapping[str, str]) -> Diagnosis:
    """Look at a backbone's files; nothing is written.

    Parameters
    ----------
    name : of the backbone, or ``NAME:MODEL``, whose files are fetched.
    weights : as of ``encore embed``; None for what is wanted alone.

    Raises
    ------
    RequestError
        for an unknown backbone or setting, or one without weights that is given some.
    """
    name, _, model = name.partition(":")
    kind: type[Backbone] = registry.find("backbone", name)
    if kind.WEIGHTS is None and (weights or model):
        raise RequestError(f"{name} has no weights; leave out --weights")
    if weights is not None and model:
        raise RequestError(f"{name}:{model} names its weights; leave out --weights")
    facts: dict[str, Any] = {
        "backbone": name,
        "title": kind.TITLE,
        "licence": kind.LICENSE,
        "citation": kind.CITATION,
        "about": kind.WEIGHTS or "needs no weights",
        "wants": kind.FILES or (() if kind.WEIGHTS is None else ("a checkpoint",)),
    }
    if weights is None and not model:
        return Diagnosis(**facts)
    path = kind.fetch(model) if model else at_home(weights or "")
    return Diagnosis(**facts, files=tuple(_files(kind, path)), **_examined(kind, path, settings))


def _files(kind: type[Backbone], path: Path) -> list[FileState]:
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.is_file() and file.suffix in _MATTERS)
    else:
        beside = [path.parent / name for name in kind.KNOWN if name.endswith(".json")]
        files = [file for file in (path, *beside) if file.is_file()]
    states = []
    for file in files:
        size, sha256 = file.stat().st_size, hash_file(file)
        published_size, published_sha256 = kind.KNOWN.get(file.name, (None, None))
        is_published = None
        if published_size is not None or published_sha256 is not None:
            is_published = published_size in (None, size) and published_sha256 in (None, sha256)
        states.append(FileState(name=file.name, bytes=size, sha256=sha256, published=is_published))
    return states


def _examined(kind: type[Backbone], path: Path, settings: Mapping[str, str]) -> dict[str, Any]:
    """Whether the files fit, as fields of a `Diagnosis`."""
    if not path.exists():
        return {"fits": False, "problem": f"there is no {path}"}
    try:
        with described_by(path):
            values = {**kind.settings_of(path), **settings}
            backbone = kind(configure(kind.Config(), values, f"the backbone {kind.NAME}"))
            backbone.load(path)
            backbone.to(torch.device("cpu"))
            numbers = probe(backbone, torch.device("cpu"))
        if numbers is None:
            return {"fits": False, "problem": "a fixed clip gives numbers that are not finite", "shape": backbone.shape}
    except MisfitError as error:
        return {"fits": False, "problem": str(error), "missing": error.missing, "unexpected": error.unexpected}
    except RequestError as error:
        return {"fits": False, "problem": str(error)}
    return {"fits": True, "shape": backbone.shape, "words": _words(backbone)}


def _words(backbone: Backbone) -> str | None:
    if type(backbone).encode_text is Backbone.encode_text:
        return None
    try:
        backbone.encode_text("a slow piano")
    except RequestError as error:
        return str(error)
    return "yes"
