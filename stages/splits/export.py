"""Splits as plain files, so that others can use the same ones: a line a song, with its part."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stages.splits.kept import KeptSplits
from stages.splits.regimes import PARTS, REGIMES, parse
from store.errors import RequestError, StoreError
from store.layout import Store
from store.schema import Catalog


def export_splits(
    catalog: Catalog, store: Store, folder: Path, regimes: Sequence[str], seeds: int, *, keeps: bool
) -> list[Path]:
    """Write ``<collection>-<regime>-seed<n>[-fold<i>].tsv`` for every regime, seed and fold; returns the files.

    Tab-separated UTF-8 with the header ``song_id, split``; songs that belong to no part are left out. The data set
    ``folder`` reads such a file again by ``--splits``. The splits are those that ``store`` keeps.

    Parameters
    ----------
    regimes : those to write; if empty, all that the collection can have.
    seeds : how many splits of each regime, from seed 0 on.
    keeps : whether splits that are new are kept in the store (`KeptSplits`).

    Raises
    ------
    RequestError
        if no clip is labelled, the collection cannot have a regime, or a song id does not fit in such a table.
    StoreError
        if a file cannot be written.
    """
    splits = KeptSplits(catalog, store, keeps)
    rows = np.flatnonzero(~catalog.retired() & splits.labels.any(axis=1))
    if not len(rows):
        raise RequestError(f"{catalog.info.name} has no clip that is labelled; there is nothing to split")
    ids = np.array(catalog.strings("song_id"), dtype=object)
    rows = rows[np.unique(splits.song[rows], return_index=True)[1]]  # the first clip of each song stands for it
    odd = next((song for song in ids[rows] if set(song) & set("\t\r\n")), None)
    if odd is not None:
        raise RequestError(f"the song id {odd!r} holds a tab or a line break, and a plain table cannot hold that")
    paths: list[Path] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for regime in regimes or REGIMES:
            base, k = parse(regime)
            for seed in range(1 if base == "official" else seeds):
                try:
                    parts = splits.parts(regime, seed)
                except RequestError:
                    if regimes:
                        raise
                    break
                for fold, part in enumerate(parts, start=1):
                    name = f"{catalog.info.name}-{regime}" + (f"-seed{seed}" if base != "official" else "")
                    path = folder / (name + (f"-fold{fold}" if k else "") + ".tsv")
                    songs = zip(ids[rows].tolist(), part[rows].tolist(), strict=True)
                    lines = [f"{song}\t{PARTS[which]}\n" for song, which in songs if which >= 0]
                    path.write_text("".join(["song_id\tsplit\n", *lines]), encoding="utf-8")
                    paths.append(path)
    except OSError as error:
        raise StoreError(f"the splits cannot be written to {folder}: {error}") from error
    return paths
