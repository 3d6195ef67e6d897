"""Search for a head's best settings on a stored collection, by validation alone."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from stages import registry
from stages.head.checks import trainable
from stages.head.collection import Collection
from stages.head.heads import Head, TrainedHead
from stages.head.open import open_collection
from stages.head.runs.resume import code_revision
from stages.head.settings import Settings
from stages.head.training import loop as training
from stages.progress import note, task
from stages.splits.regimes import Split, parse
from store.errors import EncoreError, FormatError, RequestError
from store.fingerprint import canonical
from store.layout import Store
from store.words import counted

if TYPE_CHECKING:
    from optuna import Study, Trial


SEED = 0  # of the split and of every network: settings are compared on the same clips, from the same start


_HIDDEN = (32, 64, 128, 256, 512)


_BATCH = (16, 64, 128, 256, 512, 1024)


_NEIGHBOURS = (2, 4, 8, 16, 32, None)


_RATE_FACTOR = 20.0  # learning rates are tried between the default's 20th part and its 20-fold


@dataclasses.dataclass(frozen=True, kw_only=True)
class Found:
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
    options: str = "",
) -> Found:
    """Try settings until ``trials`` have been tried in all, those of earlier searches included.

    The first trial has the default settings; the next ones are optuna's tree-structured Parzen estimator's. Each
    trains one network on split 0 and counts by the validation metric of its best epoch. The labels of test clips are
    not even handed over, and folds are refused: what one fold tests on another validates on. Each trial is kept as it
    ends, in the store, and settings that ``changes`` names are left as they are.

    Parameters
    ----------
    options : what the command that is found has to repeat (``--store``, ``--device``).
    """
    head: type[Head] = registry.find("head", mode)
    if not issubclass(head, TrainedHead):
        raise RequestError(f"{mode} counts and is not trained: it has no settings to search for")
    if head.refine is not TrainedHead.refine:
        raise RequestError(f"{mode} corrects its scores after the training that a search would watch; set it by hand")
    if parse(regime)[1]:
        raise RequestError(f"{regime}: the folds validate on what others test on; search in {parse(regime)[0]}")
    data, base = open_collection(store, dataset, backbone, [head], changes)
    trainable([head], data, base, changes)
    part = data.split(regime, SEED)
    data = data.shown(part, (0, 1))
    defaults = _searched(head, base, changes)
    study = _study(store, _file(data, head, regime), _identity(head, data, part, base, defaults))

    def validation(trial: Trial) -> float:
        settings = dataclasses.replace(base, **_tried(_draw(trial, base, defaults)))
        try:
            trained = training.train(head, data, part, settings, seed=SEED, device=device)
        except RequestError:
            raise
        except EncoreError as error:  # the loss did not stay finite
            from optuna import TrialPruned

            raise TrialPruned from error
        return trained.history[trained.best_epoch - 1]["validation"]

    _go_on(study, validation, trials, defaults, f"searching on {dataset}")
    return _found(study, data, head, regime, defaults, changes, options)


def _searched(head: type[TrainedHead], base: Settings, changes: Mapping[str, str]) -> dict[str, Any]:
    """The settings that are searched for, with their defaults."""
    names = ["learning_rate", "decay", "batch"]
    names += [name for name in ("hidden", "dropout", "neighbours", "drop_edge") if name in head.SETTINGS]
    found = {name: getattr(base, name) for name in names if name not in changes}
    if not found:
        raise RequestError(f"every setting of {head.NAME} that could be searched for is given")
    return found


def _draw(trial: Trial, base: Settings, names: Mapping[str, Any]) -> dict[str, Any]:
    among = {"hidden": (base.hidden, *_HIDDEN), "batch": (base.batch, *_BATCH)}
    among["neighbours"] = (base.neighbours, *_NEIGHBOURS)
    between = {"dropout": (0.0, 0.8), "drop_edge": (0.0, 0.8), "decay": (0.85, 1.0)}
    drawn: dict[str, Any] = {}
    for name in names:
        if name in among:
            drawn[name] = trial.suggest_categorical(name, list(dict.fromkeys(among[name])))
        elif name in between:
            drawn[name] = trial.suggest_float(name, *between[name])
        else:
            rate = base.learning_rate
            drawn[name] = trial.suggest_float(name, rate / _RATE_FACTOR, rate * _RATE_FACTOR, log=True)
    return drawn


def _tried(drawn: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers of two digits, as a person would set them: what is tried is what is printed."""
    return {name: float(f"{value:.2g}") if isinstance(value, float) else value for name, value in drawn.items()}


def _file(data: Collection, head: type[Head], regime: str) -> str:
    return f"{data.info.name}/runs/{data.backbone or 'metadata'}/search-{head.NAME}-{regime}.journal"


def _identity(
    head: type[TrainedHead], data: Collection, part: Split, base: Settings, defaults: Mapping[str, Any]
) -> str:
    """What trials must have in common to be compared: collection, code, split and the settings not searched for."""
    decides = {
        "settings": canonical(base),
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
        # Another seed as the search goes on, or it would draw the first trials again.
        study.sampler = optuna.samplers.TPESampler(seed=len(study.trials))
    except OSError as error:
        raise EncoreError(f"{path} cannot be written: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise FormatError(f"{path} is damaged: {error}; remove it to begin the search anew") from error
    return study


def _cut_torn_line(path: Path) -> None:
    """Cut off what a full disk or a kill left of a line: the next one would be written behind it, and be lost too."""
    with path.open("r+b") as file:
        held = file.read()
        if not held.endswith(b"\n"):
            file.truncate(held.rfind(b"\n") + 1)


def _finished(study: Study) -> list[Any]:
    from optuna.trial import TrialState

    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))


def _go_on(study: Study, validation: Any, trials: int, defaults: Mapping[str, Any], label: str) -> None:
    before = len(_finished(study))
    if before:
        note(f"{counted(before, 'trial was', 'trials were')} made before")
    else:
        study.enqueue_trial(dict(defaults))
    if before < trials:
        with task(label, trials - before, "trials") as advance:
            try:
                study.optimize(validation, n_trials=trials - before, callbacks=[lambda _study, _trial: advance(1)])
            except AssertionError as error:  # what optuna makes of a trial that could not be written
                raise EncoreError(
                    f"a trial cannot be written to the store: {error.__context__ or error}; those before it are kept"
                ) from error


def _found(
    study: Study,
    data: Collection,
    head: type[Head],
    regime: str,
    defaults: dict[str, Any],
    changes: Mapping[str, str],
    options: str,
) -> Found:
    finished = _finished(study)
    scored = [trial for trial in finished if trial.value is not None]
    if not scored:
        raise EncoreError("no trial ended with a finite loss; a lower --set learning_rate=... may hold it")
    best = max(scored, key=lambda trial: trial.value)  # of equals the first
    settings = _tried(best.params)
    given = {**changes, **{name: value for name, value in settings.items() if value != defaults[name]}}
    sets = [f"--set {name}={'none' if value is None else shlex.quote(str(value))}" for name, value in given.items()]
    representation = [f"--backbone {data.backbone}"] if data.backbone else []
    words = [f"encore head {data.info.name}", *representation, f"--mode {head.NAME}", f"--regime {regime}", "--seeds 3"]
    by_default = [trial.value for trial in scored if _tried(trial.params) == _tried(defaults)]
    return Found(
        dataset=data.info.name,
        synthetic=data.info.synthetic,
        backbone=data.backbone,
        mode=head.NAME,
        regime=regime,
        trials=len(finished),
        failed=len(finished) - len(scored),
        metric=data.task.main.name,
        validation=best.value,
        default_validation=by_default[0] if by_default else None,
        settings=settings,
        defaults=defaults,
        command=" ".join([*words, *sets, *([options] if options else [])]),
    )
