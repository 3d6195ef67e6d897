"""What trained heads leave in a store: the path of every file, and every field of a run's record.

``DATASET/runs/REPRESENTATION/MODE-REGIME/`` holds the runs of one mode in one regime, ``MODE-REGIME+TARGET/`` those
that learnt a numeric target. A run has three kinds of files::

    seed-0.parquet          catalog row, score and decision of each test clip
    seed-0.pt               the trained head (`stages.head.saved`); further networks: seed-0-member-2.pt, ...
    seed-0.json             the record (`RunRecord`), written last: a run that has one is whole

Only what counting needs is imported at the top, so that lists of a store come at once.
"""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from store.errors import FormatError, StoreError
from store.layout import Store
from store.tables import to_parquet

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

_RUN_FILE = re.compile(r"seed-(?P<seed>\d+)(?:-fold-(?P<fold>\d+))?(?:-(?P<rule>[a-z-]+))?\.parquet")
_TARGET = "+"  # begins the name of a target in the name of a folder
_UNFINISHED = ".unfinished"  # the end of a folder whose runs still count for nothing
_SEARCH = ".journal"
METADATA = "metadata"  # the folder of runs that read no representation


def count_runs(store: Store, dataset: str) -> dict[str, int]:
    """The number of runs by representation (``metadata``: runs that read none; 0 where only a search left files)."""
    return {of: sum(counts.values()) for of, counts in count_by_mode(store, dataset).items()}


def count_by_mode(store: Store, dataset: str) -> dict[str, dict[str, int]]:
    """`count_runs` by representation and ``<mode>-<regime>``. A training counts once, however many rules it has."""
    counts: dict[str, dict[str, int]] = {}
    for representation in store.files.folders(f"{dataset}/runs"):
        parent = f"{dataset}/runs/{representation}"
        folders = [folder for folder in store.files.folders(parent) if not folder.endswith(_UNFINISHED)]
        files = {folder: map(_RUN_FILE.fullmatch, store.files.files(f"{parent}/{folder}")) for folder in folders}
        counts[representation] = {
            folder: len({(run["seed"], run["fold"]) for run in matches if run}) for folder, matches in files.items()
        }
    return counts


def count_searches(store: Store, dataset: str, representation: str) -> int:
    """How many searches for settings lie beside the runs of a representation."""
    return sum(file.endswith(_SEARCH) for file in store.files.files(f"{dataset}/runs/{representation}"))


def search_path(dataset: str, representation: str | None, mode: str, regime: str, target: str | None = None) -> str:
    """The journal of a search for settings."""
    return f"{_parent(dataset, representation)}/search-{mode}-{regime}{target_suffix(target)}{_SEARCH}"


def _parent(dataset: str, representation: str | None) -> str:
    return f"{dataset}/runs/{representation or METADATA}"


@dataclass(frozen=True)
class RunFolder:
    """Where the runs of one mode in one regime lie; they are replaced together, so that they never mix settings.

    Attributes
    ----------
    representation : the folder of the representation that the mode reads; None where it reads none.
    inductive : whether training clips alone are neighbours.
    target : the numeric target that was learnt; None for labels.
    unfinished : whether this is the folder beside it, in which runs are gathered until all are there.
    """

    dataset: str
    representation: str | None
    mode: str
    regime: str
    inductive: bool = False
    target: str | None = None
    unfinished: bool = False

    @property
    def path(self) -> str:
        return f"{_parent(self.dataset, self.representation)}/{self._name}{_UNFINISHED if self.unfinished else ''}"

    @property
    def lock(self) -> str:
        """The lock file of the command that fills it."""
        return f"{_parent(self.dataset, self.representation)}/.{self._name}.lock"

    @property
    def mark(self) -> str:
        """The file with a hash of what decides the numbers of a command that fills it, until that is done."""
        return f"{self.path}/unfinished"

    @property
    def _name(self) -> str:
        return f"{self.mode}-{self.regime}{'-inductive' if self.inductive else ''}{target_suffix(self.target)}"

    def record(self, name: str) -> str:
        return f"{self.path}/{name}.json"

    def predictions(self, name: str) -> str:
        return f"{self.path}/{name}.parquet"

    def head(self, name: str, member: int = 1) -> str:
        """The file of a trained head, of its network ``member`` from 1."""
        return f"{self.path}/{name}{f'-member-{member}' if member > 1 else ''}.pt"

    def resume(self, name: str, member: int) -> str:
        """The file that holds the state of a run's network ``member`` (from 0) while it is trained."""
        return f"{self.path}/{name}-{member}.resume"

    def is_resume_of(self, name: str, file: str) -> bool:
        return re.fullmatch(re.escape(name) + r"-\d+\.resume", file) is not None

    def command(self) -> str:
        """The command that trains these runs."""
        representation = "" if self.representation is None else f" --backbone {self.representation}"
        mode = f"--mode {self.mode} --regime {self.regime}{' --neighbours train' if self.inductive else ''}"
        mode += "" if self.target is None else f" --target {shlex.quote(self.target)}"
        return f"encore head {self.dataset}{representation} {mode}"


def target_suffix(target: str | None) -> str:
    """The ending of a run folder's name if its heads learnt a numeric target: ``+popularity``."""
    return "" if target is None else f"{_TARGET}{quote(target, safe=' ').replace('.', '%2E')}"


def target_of(folder: str) -> tuple[str, str | None]:
    """A folder's name without its `target_suffix`, and the target that this names."""
    name, sign, suffix = folder.partition(_TARGET)
    return name, unquote(suffix) if sign else None


def run_name(seed: int, fold: int | None, rule: str | None) -> str:
    """The name of one run's files; ``fold`` counts from 1."""
    of_fold = "" if fold is None else f"-fold-{fold}"
    return f"seed-{seed}{of_fold}" + (f"-{rule.replace(' ', '-')}" if rule else "")


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """The record of a run: how it was made, and its metrics.

    Attributes
    ----------
    rule : the rule that decided, of a head that has several.
    seed, fold : of the split; a fold counts from 1.
    metrics : of the test clips; null where these do not define one.
    seconds : that the training took.
    synthetic : whether the collection is.
    task : its task's name; None in runs of versions that named none.
    labels : the labels of the clips that were encoded; of a regression the target alone.
    catalog, split : marks of the catalog and of the split that it was trained on.
    clips : how many there are in each part.
    threshold : [labels], None where labels were not chosen by a threshold.
    stranger_threshold : that of clips whose artist the head does not know; None where it is that of all.
    settings : of the training; None of a head that only counts.
    config : the head's own settings; None in runs of versions that kept them among the others.
    tuned : the settings that were chosen for this split, by name; None where none were.
    remark : what a table should say of how it was done.
    mixture : [layers] the weight of each layer of the representation in the first network; None where none are mixed.
    best_epoch, history : of the first network; ``other_members`` has those of others.
    environment : versions and the kind of machine that it was trained with (`stages.environment`), which decide nothing
        here; None in runs of versions that kept none.
    """

    dataset: str
    representation: str | None
    mode: str
    regime: str
    rule: str | None
    seed: int
    fold: int | None
    metrics: dict[str, float | None]
    seconds: float
    synthetic: bool
    task: str | None = None
    labels: tuple[str, ...]
    catalog: dict[str, Any] | None
    split: str | None = None
    clips: dict[str, int]
    threshold: list[float] | None
    stranger_threshold: float | None = None
    settings: dict[str, Any] | None
    config: dict[str, Any] | None = None
    tuned: dict[str, Any] | None = None
    remark: str
    mixture: list[float] | None = None
    best_epoch: int | None
    history: list[dict[str, float]] | None
    other_members: list[dict[str, Any]]
    environment: dict[str, str] | None = None

    def all_settings(self) -> dict[str, Any] | None:
        """Those of the training and the head's own that a user gave, not those chosen for a split; None where there
        are none.
        """
        settings = {**(self.settings or {}), **(self.config or {})}
        return {name: value for name, value in settings.items() if name not in (self.tuned or {})} or None

    def to_json(self) -> bytes:
        return (json.dumps(dataclasses.asdict(self), indent=1) + "\n").encode()

    @classmethod
    def from_json(cls, content: bytes) -> RunRecord:
        """ValueError (or RecursionError) for anything that is no record."""
        values = json.loads(content)
        names = {field.name for field in dataclasses.fields(cls)}
        try:
            fields = {key: value for key, value in values.items() if key in names}
            return cls(**{**fields, "labels": tuple(fields["labels"])})
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"it is no record of a run: {error}") from error


@dataclass(frozen=True)
class StoredRun:
    """A run as it lies in the store.

    Attributes
    ----------
    file : where its record lies.
    rows : [clips] the catalog rows of the test clips.
    score, decision : [clips, outputs]; of labels ``decision`` is bool, of a number it is the estimate.
    strangers : [clips] those decided by the record's ``stranger_threshold``; None where it has none.
    """

    record: RunRecord
    file: str
    rows: list[int]
    score: NDArray[np.float32]
    decision: NDArray[Any]
    strangers: NDArray[np.bool_] | None = None


def write_run(
    store: Store,
    folder: RunFolder,
    record: RunRecord,
    rows: NDArray[np.int64],
    score: NDArray[np.float32],
    decision: NDArray[Any],
    heads: Sequence[bytes],
    strangers: NDArray[np.bool_] | None = None,
) -> None:
    """Write the files of one run, its record last; ``heads`` are the files of its trained networks, the rest is as in
    `StoredRun`.
    """
    import pyarrow as pa

    name = run_name(record.seed, record.fold, record.rule)
    scores = pa.array(list(score), type=pa.list_(pa.float32()))
    decisions = pa.array(list(decision), type=pa.list_(pa.from_numpy_dtype(decision.dtype)))
    table = pa.table({"row": rows, "score": scores, "chosen": decisions})
    if strangers is not None:
        table = table.append_column("stranger", pa.array(strangers))
    labels = json.dumps(record.labels).encode()
    files = {folder.predictions(name): to_parquet(table.replace_schema_metadata({b"labels": labels}))}
    files |= {folder.head(name, member): content for member, content in enumerate(heads, start=1)}
    store.write({**files, folder.record(name): record.to_json()})


def read_runs(store: Store, folder: RunFolder) -> Iterator[StoredRun]:
    """The runs of a folder, in the order of their names; none where there is no such folder.

    Raises
    ------
    StoreError
        for a run without a record.
    FormatError
        for a record that is damaged, or is not of the run beside which it lies.
    """
    for file in store.names(folder.path):
        match = _RUN_FILE.fullmatch(file)
        if match is not None:
            yield _read_run(store, folder, file.removesuffix(".parquet"), match)


def read_run(store: Store, folder: RunFolder, name: str) -> StoredRun:
    """One run of a folder, by its `run_name`; errors are those of `read_runs`."""
    match = _RUN_FILE.fullmatch(f"{name}.parquet")
    if match is None:
        raise ValueError(f"{name} names no run")
    return _read_run(store, folder, name, match)


def _read_run(store: Store, folder: RunFolder, name: str, match: re.Match[str]) -> StoredRun:
    import numpy as np
    import pyarrow as pa

    table = store.read_table(folder.predictions(name))
    record = read_record(store, folder, name)
    place = {
        "dataset": folder.dataset,
        "representation": folder.representation,
        "mode": folder.mode,
        "regime": folder.regime,
        "seed": int(match["seed"]),
        "fold": int(match["fold"]) if match["fold"] else None,
        "rule": match["rule"].replace("-", " ") if match["rule"] else None,
        "labels": tuple(json.loads((table.schema.metadata or {}).get(b"labels", b"[]"))),
    }
    for key, value in place.items():
        if getattr(record, key) != value:
            raise not_its_own(store, folder, name, f"its {key} is {getattr(record, key)!r} and should be {value!r}")
    if not isinstance(record.metrics, dict) or not isinstance(record.settings, dict | None):
        raise not_its_own(store, folder, name, "its metrics or settings are not there")
    limits = [record.stranger_threshold, *(record.threshold or ())]
    if not all(limit is None or (type(limit) in (int, float) and 0 <= limit <= 1) for limit in limits):
        raise not_its_own(store, folder, name, "its thresholds are no scores")
    strangers = None
    if record.stranger_threshold is not None:
        if "stranger" not in table.column_names or not pa.types.is_boolean(table.schema.field("stranger").type):
            raise not_its_own(store, folder, name, "which clips are strangers is not there")
        strangers = table.column("stranger").fill_null(False).to_numpy()
    return StoredRun(
        record=record,
        file=folder.record(name),
        rows=table.column("row").to_pylist(),
        score=_matrix(table.column("score")).astype(np.float32, copy=False),
        decision=_matrix(table.column("chosen")).astype(np.float32 if folder.target else bool, copy=False),
        strangers=strangers,
    )


def _matrix(column: pa.ChunkedArray) -> NDArray[Any]:
    """[rows, outputs] a column of lists of one length."""
    import pyarrow.compute as pc

    values: NDArray[Any] = pc.list_flatten(column).to_numpy(zero_copy_only=False)
    return values.reshape(len(column), len(values) // max(1, len(column)))


def read_record(store: Store, folder: RunFolder, name: str) -> RunRecord:
    """The record of a run; StoreError where there is none, FormatError where it is damaged."""
    file = store.files.show(folder.record(name))
    try:
        return RunRecord.from_json(store.read(folder.record(name)))
    except FileNotFoundError as error:
        raise StoreError(f"{file} is not there; the head runs at this moment, or did not end") from error
    except StoreError:
        raise
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{file} is damaged; run the head again") from error


def not_its_own(store: Store, folder: RunFolder, name: str, why: str) -> FormatError:
    """The error for a record that cannot be of this run."""
    file = store.files.show(folder.record(name))
    return FormatError(f"{file} was changed or is of another run: {why}; run the head again: {folder.command()}")
