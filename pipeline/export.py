"""Splits as plain files, so that others can use the same ones: a line a song, with its part."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stages.head.open import from_catalog
from stages.splits.regimes import PARTS, REGIMES, parse
from store.errors import RequestError, StoreError
from store.layout import Store
from store.schema import Catalog


def export(
    catalog: Catalog, store: Store, folder: Path, regimes: Sequence[str], seeds: int, *, keeps: bool
) -> list[Path]:
    """Write ``<collection>-<regime>-seed<n>[-fold<i>].tsv`` for every regime, seed and fold; returns the files.

    Tab-separated, UTF-8, with the header ``song_id, split``; a song that belongs to no part is left out. The reader
    ``folder`` takes such a file back by ``--splits``. Splits are those that ``store`` keeps; ``keeps`` is that of
    `stages.splits.kept.KeptSplits`. Without ``regimes`` all are written that the collection can have.
    """
    data = from_catalog(catalog, store, keeps=keeps)
    ids = np.array(catalog.strings("song_id"), dtype=object)[data.rows]
    _, first_clip = np.unique(data.song, return_index=True)
    strange = next((song for song in ids[first_clip] if set(song) & set("\t\r\n")), None)
    if strange is not None:
        raise RequestError(f"the song id {strange!r} holds a tab or a line break, and a plain table cannot hold that")
    written: list[Path] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for regime in regimes or REGIMES:
            base, k = parse(regime)
            for seed in range(1 if base == "official" else seeds):
                try:
                    parts = data.parts(regime, seed)
                except RequestError:
                    if regimes:
                        raise
                    break
                for fold, part in enumerate(parts, start=1):
                    name = f"{catalog.info.name}-{regime}" + (f"-seed{seed}" if base != "official" else "")
                    path = folder / (name + (f"-fold{fold}" if k else "") + ".tsv")
                    songs = zip(ids[first_clip].tolist(), part[first_clip].tolist(), strict=True)
                    lines = [f"{song}\t{PARTS[which]}\n" for song, which in songs if which >= 0]
                    path.write_text("".join(["song_id\tsplit\n", *lines]), encoding="utf-8")
                    written.append(path)
    except OSError as error:
        raise StoreError(f"the splits cannot be written to {folder}: {error}") from error
    return written
