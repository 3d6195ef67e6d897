"""Which of the thesis's claims hold on stored runs, collection by collection and over all of them.

Every figure is a difference of main metrics on the same test clips, and its interval comes from resampling their
artists (`stages.head.scores.bootstrap`). A claim holds where the whole interval is above zero, is refuted where all of
it is below, and is undecided elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from stages import registry
from stages.head.graph.homophily import homophily
from stages.head.open import from_catalog
from stages.head.report import in_folds, representation_of
from stages.head.runs.pool import PooledRuns, find_mode, gather
from stages.head.scores import buckets
from stages.head.scores.bootstrap import bootstrap, interval
from store.errors import RequestError
from store.layout import Store

Floats = NDArray[np.float64]
Verdict = Literal["held", "refuted", "undecided", "not tested"]

_FEWEST_COLLECTIONS = 3  # through which a line is laid
_REGIMES = ("random", "artist")


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A claim of the thesis, as a difference of scores that is above zero if the claim holds.

    Attributes
    ----------
    better, worse : the modes whose scores are subtracted.
    halves : whether the figure is how much larger that difference is for the half of the clips whose artists have fewer
        genres.
    slope : whether the figure is the slope of that difference over the collections' homophily.
    regimes : the regimes that it speaks of.
    sampled : whether it is about trainings that draw neighbours.
    """

    name: str
    title: str
    better: str
    worse: str
    halves: bool = False
    slope: bool = False
    regimes: tuple[str, ...] = _REGIMES
    sampled: bool = False


CLAIMS = (
    # Labels alone say nothing of an artist that is new.
    Claim(
        name="artist-beats-song",
        title="the artist alone beats the song alone",
        better="artist (top)",
        worse="song",
        regimes=("random",),
    ),
    Claim(
        name="gnn-beats-artist-embedding",
        title="GraphSAGE beats the artist embedding",
        better="gnn",
        worse="artist-embedding",
    ),
    Claim(
        name="dropedge-hurts",
        title="DropEdge hurts where neighbours are sampled",
        better="gnn",
        worse="dropedge",
        sampled=True,
    ),
    Claim(
        name="gain-falls-with-genres",
        title="GraphSAGE's gain over the song falls with the genres of the artist",
        better="gnn",
        worse="song",
        halves=True,
    ),
    Claim(
        name="gain-grows-with-homophily",
        title="GraphSAGE's gain over the song grows with homophily, for 10 points of it",
        better="gnn",
        worse="song",
        slope=True,
    ),
)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What the runs of one collection in one regime say of a claim; ``dataset`` None: all collections together.

    Attributes
    ----------
    figure, interval : in fractions; None where there is none.
    why : why it was not tested; empty where it was.
    homophily : of the collection's artist graph, by equal sets of labels.
    resampled : [resamples] the figure over resampled artists.
    """

    dataset: str | None
    representation: str | None
    regime: str
    figure: float | None
    resampled: Floats | None = field(default=None, repr=False)
    homophily: float | None = None
    why: str = ""

    @property
    def interval(self) -> tuple[float, float] | None:
        return None if self.resampled is None else interval(self.resampled)

    @property
    def verdict(self) -> Verdict:
        if self.figure is None:
            return "not tested"
        low, high = self.interval or (-np.inf, np.inf)
        return "held" if low > 0 else "refuted" if high < 0 else "undecided"

    def as_json(self) -> dict[str, Any]:
        return {
            "dataset": self.dataset,
            "representation": self.representation,
            "regime": self.regime,
            "figure": self.figure,
            "interval": self.interval and list(self.interval),
            "verdict": self.verdict,
            "homophily": self.homophily,
            "why": self.why,
        }


def claims(store: Store, datasets: Sequence[str], *, backbone: str | None = None) -> dict[Claim, list[Finding]]:
    """The findings on each claim: one a collection and regime, and one over all collections.

    Runs in folds stand for a regime that has no others. ``backbone`` is that of `stages.head.report.report`.

    Raises
    ------
    RequestError
        where none of the collections has runs that a claim is about.
    """
    views = [view for dataset in datasets for view in _views(store, dataset, backbone)]
    if not views:
        raise RequestError(
            f"{', '.join(datasets)}: no runs to judge claims by; make some: encore compare {datasets[0]} --modes "
            f"song,artist,artist-embedding,gnn,dropedge --regimes {','.join(_REGIMES)}"
        )
    return {claim: _findings(claim, [view for view in views if view.base in claim.regimes]) for claim in CLAIMS}


@dataclass(frozen=True)
class _View:
    """The runs of one collection in a regime whose plain name is ``base``."""

    base: str
    pool: PooledRuns
    homophily: float | None


def _views(store: Store, dataset: str, backbone: str | None) -> list[_View]:
    data = from_catalog(store.read_catalog(dataset), store, keeps=False)
    representation = representation_of(store, dataset, backbone)
    alike = homophily(data.artist, data.labels)["exact"]
    heads = [claim.better.partition(" ")[0] for claim in CLAIMS] + [claim.worse for claim in CLAIMS]
    views = []
    for base in _REGIMES:
        for regime in (base, *in_folds(store, dataset, base)):
            modes = [mode for mode in dict.fromkeys(heads) if mode in registry.names("head")]
            pool = gather(
                store, data, representation=representation, modes=modes, regime=regime, against=None, ensemble=()
            )
            if pool is not None:
                views.append(_View(base, pool, alike))
                break
    return views


def _findings(claim: Claim, views: Sequence[_View]) -> list[Finding]:
    single = [_finding(claim, view) for view in views]
    together = []
    for base in dict.fromkeys(view.base for view in views):
        these = [finding for finding, view in zip(single, views, strict=True) if view.base == base]
        with_draws = [finding for finding in these if finding.resampled is not None]
        if claim.slope:
            together.append(_slope(base, with_draws))
        elif len(with_draws) > 1:
            figures = [finding.figure for finding in with_draws if finding.figure is not None]
            resampled = np.stack([finding.resampled for finding in with_draws if finding.resampled is not None])
            together.append(_of_all(base, float(np.mean(figures)), resampled.mean(axis=0)))
    return [*([] if claim.slope else single), *together]


def _of_all(regime: str, figure: float | None, resampled: Floats | None, why: str = "") -> Finding:
    return Finding(dataset=None, representation=None, regime=regime, figure=figure, resampled=resampled, why=why)


def _finding(claim: Claim, view: _View) -> Finding:
    pool = view.pool
    about: dict[str, Any] = {
        "dataset": pool.data.info.name,
        "representation": pool.representation,
        "regime": pool.regime,
        "homophily": view.homophily,
    }
    pair = [find_mode(pool.runs, name) for name in (claim.better, claim.worse)]
    missing = [name for name, mode in zip((claim.better, claim.worse), pair, strict=True) if mode is None]
    if missing:
        return Finding(**about, figure=None, why=f"no runs of {' and '.join(missing)}")
    modes = [mode for mode in pair if mode is not None]
    settings = pool.runs[modes[0]][0].record.all_settings() or {}
    if claim.sampled and settings.get("neighbours") is None:
        return Finding(**about, figure=None, why="all neighbours were taken")
    truth, artist = pool.data.labels[pool.places], pool.data.artist[pool.places]
    sums = np.stack([pool.task.tally(truth, pool.decision(mode)) for mode in modes])
    if claim.halves:
        few = _has_few_genres(pool)
        if few is None:
            return Finding(**about, figure=None, why="all artists have as many genres")
        sums = np.concatenate([sums * half[:, None] for half in (few, ~few)])
    resampled = bootstrap(pool.task, sums, artist)
    figure = float(_difference(pool.task.total(sums.sum(axis=1))))
    return Finding(**about, figure=figure, resampled=None if resampled is None else _difference(resampled))


def _difference(scores: Floats) -> Floats:
    """How far the first score [modes, ...] is above the second; of two such pairs, how much farther in the first."""
    differences = scores[0::2] - scores[1::2]
    difference: Floats = differences[0] if len(differences) == 1 else differences[0] - differences[1]
    return difference


def _has_few_genres(pool: PooledRuns) -> NDArray[np.bool_] | None:
    """[test] whether a clip's artist has no more genres than the median of the clips; None where that parts nothing.

    Where the median is the most there is, those below it are the few.
    """
    genres = buckets.genres_of_artist(pool.data.artist, pool.data.labels)[pool.places]
    middle = int(np.median(genres))
    few: NDArray[np.bool_] = genres <= middle if (genres > middle).any() else genres < middle
    return few if few.any() and not few.all() else None


def _slope(regime: str, findings: Sequence[Finding]) -> Finding:
    """How the gain grows with homophily, by least squares over collections.

    Collections are resampled too: what a line through a few of them says of others is as uncertain as which they are.
    """
    points = [finding for finding in findings if finding.homophily is not None]
    x = np.array([finding.homophily for finding in points], dtype=np.float64)
    if len(points) < _FEWEST_COLLECTIONS or np.ptp(x) == 0:
        why = f"it takes {_FEWEST_COLLECTIONS} collections that differ in homophily"
        return _of_all(regime, None, None, why)
    gains = np.stack([finding.resampled for finding in points if finding.resampled is not None])
    figure = float(_slopes(x[:, None], np.array([[finding.figure] for finding in points], dtype=np.float64))[0])
    draws = np.random.default_rng(0).integers(len(points), size=gains.shape)
    slopes = _slopes(x[draws], np.take_along_axis(gains, draws, axis=0))
    return _of_all(regime, figure, slopes[np.isfinite(slopes)])


def _slopes(x: Floats, y: Floats) -> Floats:
    """[resamples] the least-squares slope of each column of ``y`` over ``x`` for a tenth; NaN where x does not vary."""
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    spread = (x * x).sum(axis=0)
    ratio: Floats = np.divide((x * y).sum(axis=0), spread, out=np.full(y.shape[1], np.nan), where=spread > 1e-12)
    return ratio / 10
