"""How far a trained head trusts the artist, beside how far the artist's songs agree."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.head.baselines import find
from stages.head.heads import TrainedHead
from stages.head.modes import Mode
from stages.head.open import load
from stages.head.restore import restore
from stages.head.runs.pool import PooledRuns, reads_neighbours
from stages.progress import note
from stages.splits.regimes import Split
from store.errors import EncoreError
from store.layout import Store
from store.runs import RunFolder, run_name

MOST_BYTES = 2 << 30  # of representations, which a gate reads all at once
_EDGES = (0.0, 0.25, 0.5, 0.75, 1.0)
_NAMES = ("none", "up to 25 %", "25 to 50 %", "50 to 75 %", "75 to 99 %", "all")


def by_agreement(store: Store, pool: PooledRuns, mode: Mode) -> list[list[Any]]:
    """The weight of the artist's labels by how many of the artist's training clips carry the test clip's own labels.

    Rows of name, mean weight, first and third quartile, test clips, of the first seed; none for a mode that weighs no
    artist, where no test artist was in training, and where the head can be restored no more.
    """
    head = find(mode.name)
    if not issubclass(head, TrainedHead) or head.trust is TrainedHead.trust or pool.representation is None:
        return []
    seed, fold = pool.keys[0]
    inductive = pool.inductive and reads_neighbours(mode.name)
    folder = RunFolder(pool.data.info.name, pool.representation, mode.name, pool.regime, inductive)
    try:
        data = load(store, folder.dataset, pool.representation, in_memory=False)
        if 4 * data.dim * len(data) > MOST_BYTES:
            return []
        data, part = data.in_memory(), data.parts(pool.regime, seed)[max(fold - 1, 0)]
        weight = restore(store, folder, run_name(seed, fold or None, mode.rule)).trust(data, part)
    except EncoreError as error:  # of an earlier version, or the collection changed
        note(f"{mode}: the weight of the artist is not shown: {error}")
        return []
    assert weight is not None
    agreement = agreement_with_artist(data.artist, data.labels, part)
    tests = (part == 2) & np.isfinite(agreement)
    place = np.searchsorted(_EDGES, agreement, side="left") + (agreement == 1)
    rows: list[list[Any]] = []
    for number, name in enumerate(_NAMES):
        of_bin = weight[tests & (place == number)]
        if len(of_bin):
            figures = [of_bin.mean(), *np.quantile(of_bin, [0.25, 0.75])]
            rows.append([name, *(round(float(value), 4) for value in figures), len(of_bin)])
    return rows


def agreement_with_artist(artist: NDArray[np.int64], labels: NDArray[np.bool_], part: Split) -> NDArray[np.float64]:
    """[clips] the share of the artist's training clips that carry a clip's label, the mean over its labels.

    The clip itself does not count; NaN for a clip without labels, or whose artist has no other training clip.

    Parameters
    ----------
    artist, labels, part : [clips], -1 for an unknown artist; [clips, labels]; [clips].
    """
    trains = (part == 0) & (artist >= 0)
    artists = int(artist.max(initial=-1)) + 1
    labels_of_artist = np.zeros((artists, labels.shape[1]))
    np.add.at(labels_of_artist, artist[trains], labels[trains])
    clips = np.bincount(artist[trains], minlength=artists).astype(np.float64)
    has_artist = np.flatnonzero(artist >= 0)
    own = trains[has_artist].astype(np.float64)
    beside = labels_of_artist[artist[has_artist]] - own[:, None] * labels[has_artist]
    count = (clips[artist[has_artist]] - own) * labels[has_artist].sum(axis=1)
    shares = np.full(len(artist), np.nan)
    shares[has_artist] = np.divide(
        (beside * labels[has_artist]).sum(axis=1), count, out=np.full(len(has_artist), np.nan), where=count > 0
    )
    return shares
