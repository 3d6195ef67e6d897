"""What the thesis used and what it reached, as data.

S. Lee, "Improving the Performance of Music Genre Classification through Exploiting Artist Information", Seoul
National University: training settings from its tables 4.1-4.4, figures from its tables of results.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stages.splits.regimes import parse as parse_regime
from store.schema import CatalogInfo

# The thesis standardises nothing, reads representations as they are, counts epochs by passes, and chooses labels above
# 0.5.
_PLAIN: Mapping[str, Any] = {"standardise": False, "clips_an_axis": 0, "steps": 1, "threshold": "fixed"}
# By data set and backbone; each setting counts wherever a training or a head has it. A ``hidden`` of None is a layer as
# wide as the representation.
THESIS_SETTINGS: dict[tuple[str, str], Mapping[str, Any]] = {
    ("lakh", "musicbert"): {
        "hidden": None,
        "learning_rate": 0.00003,
        "decay": 0.96,
        "batch": 8,
        "patience": 8,
        "neighbours": 5,
        "neighbours_inference": 100,
        **_PLAIN,
    },
    ("lpd", "pianoroll-cnn"): {
        "hidden": None,
        "learning_rate": 0.00045,
        "decay": 0.98,
        "batch": 16,
        "patience": 15,
        "neighbours": 16,
        **_PLAIN,
    },
    ("fma", "mixcnn"): {
        "hidden": None,
        "learning_rate": 0.005,
        "decay": 0.98,
        "batch": 16,
        "patience": 10,
        "neighbours": 8,
        **_PLAIN,
    },
    ("mtg", "cola"): {
        "hidden": None,
        "learning_rate": 0.0004,
        "decay": 0.98,
        "batch": 16,
        "patience": 15,
        "neighbours": 8,
        **_PLAIN,
    },
}


@dataclass(frozen=True, kw_only=True)
class Paper:
    """The thesis's figures on one data set: ``scores`` by mode, fractions, in the metric it names, with ``backbone``.

    All of them are of a catalog whose version begins with the pattern ``versions``; `paper_on` asks for it.
    ``deviations`` by mode are those of the scores over how many genres artists have (its tables 4.10-4.12).
    ``counts`` are those of its section 4.1 under the names of `encore audit`. ``why`` tells what makes ours differ.
    """

    backbone: str
    metric: str
    homophily: float
    scores: dict[str, float]
    counts: dict[str, int]
    versions: str
    why: str
    deviations: dict[str, float] = field(default_factory=dict)

    def is_of(self, representation: str | None, regime: str) -> bool:
        """Whether its scores are of this backbone (any, for what reads no representation) in a single split.

        The thesis does not say of each data set which split it took. Its neighbours come from the whole collection.
        """
        same = representation is None or representation.rpartition("-")[0] == self.backbone
        return same and parse_regime(regime)[1] is None


PAPER = {
    "lakh": Paper(
        backbone="musicbert",
        metric="micro_f1",
        homophily=0.7110,
        scores={"song": 0.761, "artist": 0.8138, "artist-embedding": 0.8156, "gnn": 0.8318, "dropedge": 0.8256},
        counts={"songs": 22_535, "clips": 89_160, "artists": 4_352, "labels": 13},
        versions=r"full, topmagd",
        why="the thesis does not say which artist a file of several matches has (here that of its best match), nor how "
        "its 3 or 4 samples a song were cut (here 15 s, evenly spread)",
        deviations={"song": 0.1478, "gnn": 0.1649, "dropedge": 0.1528},
    ),
    "lpd": Paper(
        backbone="pianoroll-cnn",
        metric="micro_f1",
        homophily=0.7502,
        scores={"song": 0.6370, "artist": 0.8016, "artist-embedding": 0.8168, "gnn": 0.8166, "dropedge": 0.8129},
        counts={"songs": 11_769, "clips": 84_512, "artists": 2_705},
        versions=r"cleansed",
        why="the thesis does not say which rolls and labels it kept, nor how its 7 or 8 samples a song were cut (here "
        "15 s, evenly spread)",
        deviations={"song": 0.1145, "gnn": 0.1332, "dropedge": 0.1213},
    ),
    "fma": Paper(
        backbone="mixcnn",
        metric="accuracy",
        homophily=0.9407,
        scores={"song": 0.5588, "gnn": 0.6062, "dropedge": 0.6300},
        counts={"songs": 8_000, "artists": 2_307, "labels": 8},
        versions=r"small, genres top",
        why="here the songs are left out whose clips were cut too late and are short or empty",
    ),
    "mtg": Paper(
        backbone="cola",
        metric="micro_f1",
        homophily=0.2739,
        scores={"song": 0.3975, "artist": 0.4399, "artist-embedding": 0.4722, "gnn": 0.5099, "dropedge": 0.4951},
        counts={"songs": 48_590, "labels": 15},
        versions=r"split-\d, thesis genres",
        why="the lists are the same, so nothing should differ; the thesis does not count artists",
        deviations={"song": 0.0616, "gnn": 0.1227, "dropedge": 0.1295},
    ),
}


def paper_on(info: CatalogInfo) -> Paper | None:
    """The thesis's figures on a collection; None where it has none, or has them on another version of it."""
    paper = PAPER.get(info.name)
    return paper if paper is not None and re.match(paper.versions, info.version) else None


def settings_for(dataset: str, backbone: str) -> Mapping[str, Any]:
    """The thesis's settings for the four pairs it has, none for any other.

    They are no default elsewhere: where a representation hardly differs between clips (0.002 around 0.4 for an
    untrained piano-roll CNN), a head at these rates and without standardising never chooses a label.
    """
    return THESIS_SETTINGS.get((dataset, backbone), {})
