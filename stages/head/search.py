"""Search for a head's best settings on a stored collection, by validation alone."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import itertools
import json
import shlex
from collections.abc import Iterator, Mapping
from inspect import getattr_static
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from stages import registry
from stages.head.checks import trainable
from stages.head.collection import Collection
from stages.head.heads import Head, TrainedHead
from stages.head.open import open_collection
from stages.head.random import key
from stages.head.revision import code_revision
from stages.head.settings import Around, Between, Choices, Search, Settings, keys
from stages.head.training import loop as training
from stages.progress import note, task
from stages.splits.regimes import Split, parse
from store.errors import EncoreError, FormatError, RequestError
from store.fingerprint import canonical
from store.layout import Store
from store.runs import search_path
from store.words import plural

if TYPE_CHECKING:
    from optuna import Study, Trial


SEED = 0  # of the split and of every network: settings are compared on the same clips, from the same start


@dataclasses.dataclass(frozen=True, kw_only=True)
class Best:
    """The best of all finished trials.

    ``validation`` and ``default_validation`` are the main metric on the validation part, with ``settings`` and with
    the ``defaults`` of the same names; ``failed`` counts trials whose loss did not stay finite; ``command`` trains and
    tests the head with the settings.
    """

    dataset: str
    synthetic: bool
    backbone: str | None
    mode: str
    regime: str
    trials: int
    failed: int
    metric: str
    validation: float
    default_validation: float | None
    settings: dict[str, Any]
    defaults: dict[str, Any]
    command: str


def search(
    store: Store,
    dataset: str,
    *,
    backbone: str | None,
    mode: str,
    regime: str,
    trials: int,
    changes: Mapping[str, str],
    device: torch.device,
    target: str | None = None,
    options: str = "",
) -> Best:
    """Try settings until ``trials`` have been tried in all, those of earlier searches included.

    The first trial has the default settings; the next ones are optuna's tree-structured Parzen estimator's. Each
    trains one network on split 0 and counts by the validation metric of its best epoch. The labels of test clips are
    not even handed over, and folds are refused: what one fold tests on another validates on. Each trial is kept as it
    ends, in the store, and settings that ``changes`` names are left as they are.

    Parameters
    ----------
    target : the numeric target that the head learns; None for the labels.
    options : what the command that is found has to repeat (``--store``, ``--device``).
    """
    head: type[Head] = registry.find("head", mode)
    if not issubclass(head, TrainedHead):
        raise RequestError(f"{mode} counts and is not trained: it has no settings to search for")
    if getattr_static(head, "refine") is not getattr_static(TrainedHead, "refine"):
        raise RequestError(f"{mode} corrects its scores after the training that a search would watch; set it by hand")
    if parse(regime)[1]:
        raise RequestError(f"{regime}: the folds validate on what others test on; search in {parse(regime)[0]}")
    data, settings, configs = open_collection(store, dataset, backbone, [head], changes, target=target)
    if head.penalties(configs[head]):
        raise RequestError(f"{mode} is solved for each of its penalties, and takes the best by itself")
    trainable(data, configs, changes)
    base = _Base(settings, configs[head])
    part = data.split(regime, SEED)
    data = data.masked(part, (0, 1))
    space = _space(head, base, changes)
    defaults = {name: base.value(name) for name in space}
    file = search_path(dataset, data.backbone, head.NAME, regime, target)
    study = _study(store, file, _identity(head, data, part, base, defaults))

    def validation(trial: Trial) -> float:
        variant = base.changed(_values(_draw(trial, space, defaults)))
        try:
            training_result = training.train(
                head, data, part, variant.config, variant.settings, seed=SEED, device=device
            )
        except RequestError:
            raise
        except EncoreError as error:  # the loss did not stay finite
            from optuna import TrialPruned

            raise TrialPruned from error
        return training_result.history[training_result.best_epoch - 1]["validation"]

    with _turn(store, file) as turn:
        _go_on(study, validation, trials, defaults, turn, f"searching on {dataset}")
    return _best_of(study, data, head, regime, defaults, changes, options)


@dataclasses.dataclass(frozen=True)
class _Base:
    """The settings that trials depart from: those of the training, and the head's own."""

    settings: Settings
    config: Any

    def value(self, name: str) -> Any:
        return getattr(self.settings if name in keys(self.settings) else self.config, name)

    def changed(self, values: Mapping[str, Any]) -> _Base:
        settings, config = (
            dataclasses.replace(part, **{name: value for name, value in values.items() if name in keys(part)})
            for part in (self.settings, self.config)
        )
        return _Base(settings, config)


def _space(head: type[TrainedHead], base: _Base, changes: Mapping[str, str]) -> dict[str, Search]:
    """The settings that are searched for, and what is tried of each: fields say it of themselves (`setting`)."""
    fields = [*dataclasses.fields(base.settings), *dataclasses.fields(base.config)]
    space = {field.name: field.metadata["search"] for field in fields if field.metadata.get("search")}
    space = {name: search for name, search in space.items() if name not in changes}
    if not space:
        raise RequestError(f"every setting of {head.NAME} that could be searched for is given")
    return space


def _draw(trial: Trial, space: Mapping[str, Search], defaults: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _suggest(trial, name, search, defaults[name]) for name, search in space.items()}


def _suggest(trial: Trial, name: str, search: Search, default: Any) -> Any:
    match search:
        case Choices(values):
            return trial.suggest_categorical(name, list(dict.fromkeys((default, *values))))
        case Between(low, high):
            return trial.suggest_float(name, low, high)
        case Around(factor):
            return trial.suggest_float(name, default / factor, default * factor, log=True)


def _values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers of two digits, as a person would set them: what is tried is what is printed."""
    return {name: float(f"{value:.2g}") if isinstance(value, float) else value for name, value in values.items()}


def _identity(head: type[TrainedHead], data: Collection, part: Split, base: _Base, defaults: Mapping[str, Any]) -> str:
    """What trials must have in common to be compared: collection, code, split and the settings not searched for."""
    decides = {
        "settings": canonical(base.settings),
        "config": canonical(base.config),
        "searched": sorted(defaults),
        "collection": data.mark(),
        "code": code_revision(head),
    }
    digest = hashlib.sha256(json.dumps(decides, sort_keys=True).encode())
    digest.update(np.ascontiguousarray(part).data)
    return digest.hexdigest()[:12]


def _study(store: Store, file: str, name: str) -> Study:
    """The study in the journal; a journal rather than a data base, since it is only ever appended to."""
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if store.files.local is None:
        raise RequestError("a search appends to a file in the store, and needs one on a local disk (--store DIR)")
    path = Path(store.files.show(file))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = JournalFileSymlinkLock(str(path))
        if path.exists():
            store.files.check_file(file)
            lock.acquire()  # a line that another search is writing now is not torn
            try:
                _cut_torn_line(path)
            finally:
                lock.release()
        storage = JournalStorage(JournalFileBackend(str(path), lock))
        study = optuna.create_study(storage=storage, study_name=name, direction="maximize", load_if_exists=True)
    except OSError as error:
        raise EncoreError(f"{path} cannot be written: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise FormatError(f"{path} is damaged: {error}; remove it to begin the search anew") from error
    return study


def _cut_torn_line(path: Path) -> None:
    """Cut off what a full disk or a kill left of a line: the next one would be written behind it, and be lost too."""
    with path.open("r+b") as file:
        content = file.read()
        if not content.endswith(b"\n"):
            file.truncate(content.rfind(b"\n") + 1)


def _finished(study: Study) -> list[Any]:
    from optuna.trial import TrialState

    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))


@contextlib.contextmanager
def _turn(store: Store, file: str) -> Iterator[int]:
    """The first number that no other search in this journal has now; 0 for one that is alone, also after a kill."""
    for turn in itertools.count():
        give_back = store.files.take(f"{file}.{turn}.lock", 0)
        if give_back is not None:
            try:
                yield turn
            finally:
                give_back()
            return


def _go_on(study: Study, validation: Any, trials: int, defaults: Mapping[str, Any], turn: int, label: str) -> None:
    from optuna.samplers import TPESampler
    from optuna.trial import TrialState

    before = len(_finished(study))
    if before:
        note(f"{plural(before, 'trial was', 'trials were')} made before")
    elif not study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
        study.enqueue_trial(dict(defaults))
    if before >= trials:
        return
    with task(label, trials - before, "trials") as advance:
        for _ in range(trials - before):
            # What is tried next depends on the finished trials alone, whichever process made them. Searches that run
            # side by side must not try the same.
            study.sampler = TPESampler(seed=key("search", len(_finished(study)), turn) % 2**32)
            try:
                study.optimize(validation, n_trials=1)
            except AssertionError as error:  # what optuna makes of a trial that could not be written
                raise EncoreError(
                    f"a trial cannot be written to the store: {error.__context__ or error}; those before it are kept"
                ) from error
            advance(1)


def _best_of(
    study: Study,
    data: Collection,
    head: type[Head],
    regime: str,
    defaults: dict[str, Any],
    changes: Mapping[str, str],
    options: str,
) -> Best:
    finished = _finished(study)
    complete = [trial for trial in finished if trial.value is not None]
    if not complete:
        raise EncoreError("no trial ended with a finite loss; a lower --set learning_rate=... may hold it")
    best = max(complete, key=lambda trial: trial.value)  # of equals the first
    settings = _values(best.params)
    variant = {**changes, **{name: value for name, value in settings.items() if value != defaults[name]}}
    sets = [f"--set {name}={'none' if value is None else shlex.quote(str(value))}" for name, value in variant.items()]
    representation = [f"--backbone {data.backbone}"] if data.backbone else []
    words = [f"encore head {data.info.name}", *representation, f"--mode {head.NAME}", f"--regime {regime}", "--seeds 3"]
    words += [] if data.target is None else [f"--target {shlex.quote(data.target)}"]
    by_default = [trial.value for trial in complete if _values(trial.params) == _values(defaults)]
    return Best(
        dataset=data.info.name,
        synthetic=data.info.synthetic,
        backbone=data.backbone,
        mode=head.NAME,
        regime=regime,
        trials=len(finished),
        failed=len(finished) - len(complete),
        metric=data.task.main.name,
        validation=best.value,
        default_validation=by_default[0] if by_default else None,
        settings=settings,
        defaults=defaults,
        command=" ".join([*words, *sets, *([options] if options else [])]),
    )
