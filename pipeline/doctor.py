"""``encore doctor``: which files a backbone wants, and whether these are they."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.arguments import read_settings
from pipeline.options import BACKBONES, JsonOption, SetOption
from pipeline.output import WIDTH, print_result, table
from store.words import plural

if TYPE_CHECKING:
    from stages.embed.doctor import Diagnosis

_SHOWN = 10  # names of weights


def doctor(
    backbone: Annotated[str, typer.Argument(metavar="BACKBONE", help=BACKBONES)],
    weights: Annotated[
        str | None, typer.Option("--weights", help="what 'encore embed' would be given", metavar="FILE")
    ] = None,
    settings: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Say which files a backbone wants. With --weights, whether these are they."""
    from stages.embed.doctor import diagnose

    diagnosis = diagnose(backbone, weights, read_settings(settings))
    print_result(diagnosis, describe, json=json)
    if not diagnosis.is_well:
        raise typer.Exit(1)


def describe(diagnosis: Diagnosis) -> str:
    """A diagnosis for a person."""
    lines = [f"{diagnosis.title} ({diagnosis.backbone})", *_wrapped(f"licence: {diagnosis.licence}")]
    lines += _wrapped(diagnosis.about)
    if diagnosis.wants:
        lines += ["--weights takes:", *(f"  {line}" for line in diagnosis.wants)]
    if diagnosis.fits is None:
        return "\n".join(lines)
    words = {True: "as published", False: "NOT as published", None: ""}
    rows = [[file.name, f"{file.bytes:,}", file.sha256[:12], words[file.published]] for file in diagnosis.files]
    lines += ["", table(["file", "bytes", "SHA-256", ""], rows)] if rows else [""]
    if diagnosis.fits:
        lines.append(f"fits: {' x '.join(f'{size:,}' for size in diagnosis.shape or ())} numbers a clip")
    else:
        lines += _wrapped(f"does not fit: {diagnosis.problem}")
    for names, what in ((diagnosis.missing, "missing"), (diagnosis.unexpected, "without a place")):
        if names:
            lines.append(f"{plural(len(names), 'name')} {what}:")
            lines += [f"  {name}" for name in names[:_SHOWN]]
            lines += [f"  and {len(names) - _SHOWN:,} more"] if len(names) > _SHOWN else []
    if diagnosis.words is not None:
        lines += _wrapped(f"words: {diagnosis.words}")
    return "\n".join(lines)


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, break_long_words=False, break_on_hyphens=False)
