"""What the four recipes of the thesis share: its modes, and its figures beside ours."""

from __future__ import annotations

from pipeline.recipes import QUICK, Figure, Step
from stages.head.thesis import PAPER

STUDY = (
    'S. Lee, "Improving the Performance of Music Genre Classification through Exploiting Artist Information" '
    "(Seoul National University)"
)
MODES = "song,artist,artist-embedding,gnn,dropedge,gated"


def figures(dataset: str, regime: str) -> tuple[Figure, ...]:
    """The thesis's scores on a data set, and ours in a regime with its settings; the gated head is ours alone."""
    paper = PAPER[dataset]
    return tuple(
        Figure(
            title=f"{paper.metric.replace('_', ' ')}, {mode}",
            metric=paper.metric,
            study=None if mode not in paper.scores else 100 * paper.scores[mode],
            dataset=dataset,
            backbone=paper.backbone,
            mode=mode,
            regime=regime,
        )
        for mode in MODES.split(",")
    )


def heads(dataset: str, regimes: str, minutes: float) -> tuple[Step, ...]:
    """Train and report: the thesis's settings are the defaults of its pairs of data set and backbone."""
    backbone = PAPER[dataset].backbone
    return (
        Step(minutes, f"compare {dataset} --backbone {backbone} --modes {MODES} --regimes {regimes} --seeds 3"),
        *(Step(1, f"report {dataset} --backbone {backbone} --regime {regime}") for regime in regimes.split(",")),
        Step(5, f"report {dataset} --backbone {backbone} --html {{page}}"),
    )


def small(backbone: str, *, trained: bool, embed: str = "") -> tuple[Step, ...]:
    """The same on generated songs: two updates of the backbone, two epochs of two heads."""
    weights = f"--weights {{work}}/{backbone}.pt" if trained else "--weights random"
    demo = f"demo --songs 40 {embed}".strip()
    training = Step(
        0.3,
        f"train {backbone} --dataset {demo} --regime random --set steps=2 --set batch=4 --out {{work}}/{backbone}.pt",
    )
    return (
        *((training,) if trained else ()),
        Step(0.5, f"embed {demo} --backbone {backbone} {weights}"),
        Step(
            0.2,
            f"compare demo --backbone {backbone} --modes song,gnn {QUICK}",
        ),
        Step(0.2, f"report demo --backbone {backbone} --html {{page}}"),
    )
