"""The settings of a request: which of them go to the training, and which to each head."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from stages import registry
from stages.configure import configure
from stages.head.heads import Head, can_be_inductive
from stages.head.settings import Settings, keys
from store.errors import RequestError, nearest

T = TypeVar("T")
Configs = Mapping[type[Head], Any]


def resolve(
    heads: Sequence[type[Head]], changes: Mapping[str, str], preset: Mapping[str, Any] | None = None
) -> tuple[Settings, Configs]:
    """The settings of the training, and each head's own.

    Parameters
    ----------
    changes : what the user set, as text. A key reaches every head that has it.
    preset : what stands in place of the defaults, wherever it has a meaning.

    Raises
    ------
    RequestError
        for a value of the wrong type or out of bounds, and for a key that nothing here reads.
    """
    _check_keys(heads, changes)
    settings = _resolved(Settings(), changes, preset or {}, "a training")
    configs = {head: _resolved(head.Config(), changes, preset or {}, head.NAME) for head in heads}
    if "gamma" in changes and settings.loss != "focal":
        raise RequestError("gamma is the focal loss's; add --set loss=focal, or leave out --set gamma")
    return settings, configs


def _resolved(config: T, changes: Mapping[str, str], preset: Mapping[str, Any], owner: str) -> T:
    """A configuration with those settings of the preset, and then of the changes, that it has."""
    names = keys(config)
    values = {key: value for key, value in preset.items() if key in names}
    own = {key: text for key, text in changes.items() if key in names}
    return configure(dataclasses.replace(config, **values), own, owner)  # type: ignore[type-var]


def _check_keys(heads: Sequence[type[Head]], changes: Mapping[str, str]) -> None:
    """RequestError for a key that neither the training nor any of the heads reads."""
    trainer = keys(Settings)
    own = list(dict.fromkeys(key for head in heads for key in keys(head.Config)))
    names, verb = ", ".join(head.NAME for head in heads), "does" if len(heads) == 1 else "do"
    unable = [head.NAME for head in heads if not can_be_inductive(head)]
    if unable and changes.get("inductive", "false").lower() not in ("false", "no", "0"):
        raise RequestError(
            f"{', '.join(unable)} cannot be inductive; leave out --neighbours train, or name other modes"
        )
    for key in changes:
        if key in trainer or key in own or key == "inductive":  # what reads no neighbours is inductive as it is
            continue
        if any(key in keys(head.Config) for head in registry.load("head")[0].values()):
            option = "--neighbours" if key == "neighbours" else f"--set {key}"
            raise RequestError(f"{names} {verb} not read {key}; leave out {option}")
        has = "has" if len(heads) == 1 else "have"
        raise RequestError(
            f"unknown setting {key!r}; {names} {has} {', '.join(own) or 'none'}; the training has "
            f"{', '.join(trainer)}.{nearest(key, [*own, *trainer])}"
        )
