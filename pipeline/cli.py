"""The ``encore`` command: every command parses, calls and prints; the work is done elsewhere.

Heavy libraries are imported inside the commands, so that ``encore --help`` answers at once.
"""

from __future__ import annotations

import dataclasses
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.options import (
    BACKBONES,
    DEFAULT_STORE,
    MAX_SEEDS,
    PLAIN,
    REGIMES,
    BackboneOption,
    DeferringGroup,
    DeviceOption,
    JsonOption,
    MembersOption,
    MemoryOption,
    ModeOption,
    NeighboursOption,
    SeedsOption,
    SetOption,
    StoreOption,
    ThresholdOption,
    WorkersOption,
    command,
)
from pipeline.process import _take_standard_streams, tell
from stages import progress, registry
from store.errors import EncoreError, RequestError, is_out_of_memory

if TYPE_CHECKING:
    from store.layout import Store

app = typer.Typer(
    name="encore",
    help="Encode a music collection once; train genre heads over the artist graph for ever.",
    no_args_is_help=True,
    cls=DeferringGroup,
    **PLAIN,
)
store_app = typer.Typer(help="Look at what a store holds, check it, remove from it.", no_args_is_help=True)
app.add_typer(store_app, name="store")


def _open(where: str) -> Store:
    from store.layout import Store

    if not where.strip():
        raise RequestError("--store is empty; name a folder, or an fsspec URL")
    return Store(where)


@command(app, dataset_options=True)
def embed(
    dataset: Annotated[
        str, typer.Argument(metavar="DATASET", help=f"{', '.join(registry.names('dataset'))}; or a name in the store")
    ],
    options: Any = None,
    backbone: Annotated[
        str | None,
        typer.Option("--backbone", help=f"{BACKBONES} [the data set's: encore data DATASET tells]", metavar="B"),
    ] = None,
    weights: Annotated[str | None, typer.Option("--weights", help="a checkpoint, or 'random'", metavar="FILE")] = None,
    settings: SetOption = None,
    precision: Annotated[
        str,
        typer.Option(
            "--precision",
            help="32, or bf16: quicker on a GPU, to two or three digits, which differ a little with the batch",
            metavar="32|bf16",
        ),
    ] = "32",
    device: DeviceOption = "auto",
    batch: Annotated[int | None, typer.Option("--batch", min=1, help="clips encoded at once", metavar="N")] = None,
    workers: WorkersOption = None,
    strict: Annotated[bool, typer.Option("--strict", help="the first clip that fails is an error")] = False,
    part: Annotated[
        str, typer.Option("--part", help="share the work: i/n does every n-th shard", metavar="I/N")
    ] = "1/1",
    store: StoreOption = DEFAULT_STORE,
    json: JsonOption = False,
) -> None:
    """Encode a collection into the store. Resumable; only what is new is encoded."""
    from pipeline import embed as work
    from pipeline.output import print_json
    from stages.configure import parse_pairs

    report = work.embed(
        dataset,
        options,
        store=_open(store),
        backbone_name=backbone,
        weights=weights,
        settings=parse_pairs(settings or [], "--set"),
        precision=precision,
        device_name=device,
        batch=batch,
        workers=workers,
        strict=strict,
        part=_part(part),
    )
    if json:
        print_json(work.as_json(report))
    else:
        print(work.describe(report))


@command(app, dataset_options=True)
def train(
    backbone: Annotated[str, typer.Argument(metavar="BACKBONE", help=", ".join(registry.names("backbone")))],
    dataset: Annotated[str, typer.Option("--dataset", help="a data set, or a name in the store", metavar="DATASET")],
    options: Any = None,
    objective: Annotated[
        str | None, typer.Option("--objective", help="supervised, contrastive, masked", metavar="NAME")
    ] = None,
    regime: Annotated[
        str | None,
        typer.Option("--regime", help="random, album, artist, official [official, else random]", metavar="R"),
    ] = None,
    weights: Annotated[str | None, typer.Option("--weights", help="a checkpoint to start from", metavar="FILE")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="the checkpoint [data/weights/...]", metavar="FILE")] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", min=1, help="at most", metavar="N")] = None,
    settings: SetOption = None,
    device: DeviceOption = "auto",
    workers: WorkersOption = None,
    store: StoreOption = DEFAULT_STORE,
    json: JsonOption = False,
) -> None:
    """Train a backbone; the checkpoint is what embed reads. Resumable; runs in several processes by torchrun."""
    from pipeline import train as work
    from pipeline.output import print_json
    from stages.configure import parse_pairs

    first = not _is_further_process()
    if not first:
        progress.be_quiet(True)
    changes = parse_pairs([*(settings or []), *([f"epochs={epochs}"] if epochs else [])], "--set")
    report = work.run(
        backbone,
        dataset,
        options,
        store=_open(store),
        objective_name=objective,
        regime=regime,
        weights=weights,
        changes=changes,
        out=out,
        device_name=device,
        workers=workers,
    )
    if first and json:
        print_json(dataclasses.asdict(report))
    elif first:
        print(work.describe(report))


def _is_further_process() -> bool:
    """Whether ``torchrun`` started this process beside a first one, which speaks for all."""
    return os.environ.get("RANK", "0") != "0"


def _part(text: str) -> tuple[int, int]:
    share, _, parts = text.partition("/")
    if share.isdigit() and parts.isdigit() and 1 <= int(share) <= int(parts):
        return int(share), int(parts)
    raise RequestError(f"--part takes i/n with i from 1 to n, not {text!r}")


@command(app, dataset_options=True)
def audit(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="a data set, or a name in the store")],
    options: Any = None,
    export: Annotated[
        Path | None, typer.Option("--export", help="write the splits to this folder, as plain tables", metavar="DIR")
    ] = None,
    regimes: Annotated[str | None, typer.Option("--regimes", help=f"with --export: {REGIMES}", metavar="R,R")] = None,
    seeds: Annotated[
        int | None,
        typer.Option("--seeds", min=1, max=MAX_SEEDS, help="with --export: how many, from 0 on [1]", metavar="N"),
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    json: JsonOption = False,
) -> None:
    """Count songs, artists, edges, homophily.

    Also what the parts of each split share, and how far one gets without hearing a song.
    """
    from pipeline import audit as text
    from pipeline import export as splits
    from pipeline.output import print_json
    from stages.embed.catalogs import open_catalog
    from stages.head import audit as work

    where = _open(store)
    catalog = open_catalog(dataset, options, where)
    # Looking at files must change nothing in a store; what is handed to others, or stands in the store, is kept.
    keeps = where.has_catalog(catalog.info.name) and (export is not None or dataset not in registry.names("dataset"))
    if export is not None:
        chosen = _list(regimes, "--regimes") if regimes else []
        for path in splits.export(catalog, where, export, chosen, seeds or 1, keeps=keeps):
            progress.note(f"wrote {path}")
    elif regimes is not None or seeds is not None:
        raise RequestError("--regimes and --seeds name the splits to export; give --export DIR")
    found = work.audit(catalog, where, keeps=keeps)
    if json:
        print_json(found.as_json())
    else:
        print(text.describe(found))


@command(app, dataset_options=True)
def data(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help=", ".join(registry.names("dataset")))],
    options: Any = None,
    fetch: Annotated[bool, typer.Option("--fetch", help="fetch what is missing")] = False,
    json: JsonOption = False,
) -> None:
    """Say which files of a collection are missing. --fetch fetches them."""
    from pipeline import data as work
    from pipeline.output import print_json

    found = work.data(dataset, options, fetched=fetch)
    if json:
        print_json(found)
    else:
        print(work.describe(found))


@command(app)
def head(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="a name in the store")] = "demo",
    backbone: BackboneOption = None,
    mode: ModeOption = "gnn",
    regime: Annotated[str, typer.Option("--regime", help=REGIMES, metavar="R")] = "random",
    seeds: SeedsOption = 1,
    settings: SetOption = None,
    neighbours: NeighboursOption = None,
    members: MembersOption = None,
    threshold: ThresholdOption = None,
    device: DeviceOption = "auto",
    memory: MemoryOption = None,
    store: StoreOption = DEFAULT_STORE,
    json: JsonOption = False,
) -> None:
    """Train one head on stored representations; opens no song."""
    given = _with(settings, members=members, threshold=threshold, **_neighbours(neighbours))
    _train(dataset, backbone, [mode], [regime], seeds, given, device, memory, store, json, saved=True)


@command(app)
def compare(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="a name in the store")] = "demo",
    backbone: BackboneOption = None,
    modes: Annotated[str, typer.Option("--modes", help="M,M,... or all", metavar="M,M")] = "all",
    regimes: Annotated[str, typer.Option("--regimes", help=REGIMES, metavar="R,R")] = "random",
    seeds: SeedsOption = 3,
    settings: SetOption = None,
    neighbours: NeighboursOption = None,
    members: MembersOption = None,
    threshold: ThresholdOption = None,
    device: DeviceOption = "auto",
    memory: MemoryOption = None,
    store: StoreOption = DEFAULT_STORE,
    json: JsonOption = False,
) -> None:
    """Train several heads and print one table a regime. The thesis's figures stand beside ours."""
    chosen = _every_mode() if modes == "all" else _list(modes, "--modes")
    given = _with(settings, members=members, threshold=threshold, **_neighbours(neighbours))
    _train(
        dataset, backbone, chosen, _list(regimes, "--regimes"), seeds, given, device, memory, store, json, saved=False
    )


def _with(settings: list[str] | None, **options: object) -> list[str]:
    """The settings of ``--set``, and those that have options of their own where they are given."""
    return [*(settings or []), *(f"{key}={value}" for key, value in options.items() if value)]


def _neighbours(text: str | None) -> dict[str, str]:
    """``8``, ``all``, ``train`` or ``8,train`` as settings."""
    given = [word.strip() for word in (text or "").split(",") if word.strip()]
    drawn = [word for word in given if word != "train"]
    if len(drawn) > 1 or (text is not None and not given):
        raise RequestError(f"--neighbours takes a number or all, train, or both (8,train), not {text!r}")
    found = {"neighbours": drawn[0]} if drawn else {}
    return found | ({"inductive": "true"} if "train" in given else {})


@command(app)
def search(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="a name in the store")] = "demo",
    backbone: BackboneOption = None,
    mode: ModeOption = "gnn",
    regime: Annotated[str, typer.Option("--regime", help="random, album, artist, official", metavar="R")] = "random",
    trials: Annotated[int, typer.Option("--trials", min=1, help="in all; those made before count", metavar="N")] = 30,
    settings: SetOption = None,
    neighbours: NeighboursOption = None,
    device: DeviceOption = "auto",
    store: StoreOption = DEFAULT_STORE,
    json: JsonOption = False,
) -> None:
    """Search for a head's best settings. By validation alone; prints the command that tests them. Resumable."""
    _check_mode(mode)
    from pipeline import search as text
    from pipeline.output import print_json
    from stages.configure import parse_pairs
    from stages.devices import find_device
    from stages.head import search as work

    given = {"--store": store if store != DEFAULT_STORE else "", "--device": device if device != "auto" else ""}
    found = work.search(
        _open(store),
        dataset,
        backbone=backbone,
        mode=mode,
        regime=regime,
        trials=trials,
        changes=parse_pairs(_with(settings, **_neighbours(neighbours)), "--set"),
        device=find_device(device),
        options=" ".join(f"{option} {shlex.quote(value)}" for option, value in given.items() if value),
    )
    if json:
        print_json(dataclasses.asdict(found))
    else:
        print(text.describe(found))


@command(app)
def report(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="a name in the store")] = "demo",
    backbone: BackboneOption = None,
    modes: Annotated[str, typer.Option("--modes", help="M,M,... or all", metavar="M,M")] = "all",
    regime: Annotated[str, typer.Option("--regime", help=REGIMES, metavar="R")] = "random",
    against: Annotated[
        str, typer.Option("--against", help="the mode that others are tested against", metavar="M")
    ] = "song",
    ensemble: Annotated[
        str | None, typer.Option("--ensemble", help="report the mean of these modes' scores too", metavar="M,M")
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", help="draw scores by kind of artist, and confusions: .png, .pdf, .svg", metavar="FILE"),
    ] = None,
    neighbours: Annotated[
        str, typer.Option("--neighbours", help="train: the runs made with --neighbours train", metavar="all|train")
    ] = "all",
    store: StoreOption = DEFAULT_STORE,
    json: JsonOption = False,
) -> None:
    """Say what lies behind stored scores. Intervals, paired tests, scores by kind of artist."""
    from pipeline import plot as picture
    from pipeline import report as text
    from pipeline.output import print_json
    from stages.head import report as work

    chosen = _every_mode() if modes == "all" else _list(modes, "--modes")
    members = _list(ensemble, "--ensemble") if ensemble is not None else []
    for mode in (*chosen, *members):
        _check_mode(mode)
    if plot is not None:
        picture.check(plot)
    if neighbours not in ("all", "train"):
        raise RequestError(f"--neighbours takes all or train, not {neighbours!r}")
    found = work.report(
        _open(store),
        dataset,
        backbone=backbone,
        modes=chosen,
        regime=regime,
        against=against,
        ensemble=members,
        inductive=neighbours == "train",
    )
    if plot is not None:
        picture.draw(found, plot)
        progress.note(f"drawn: {plot}")
    if json:
        print_json(found.as_json())
    else:
        print(text.describe(found))


def _list(text: str, option: str) -> list[str]:
    names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not names:
        raise RequestError(f"{option} names nothing")
    return names


def _check_mode(mode: str) -> None:
    if mode not in registry.names("head"):
        registry.find("head", mode)  # raises with the list of modes


def _every_mode() -> list[str]:
    """The modes that can be loaded; the others are named."""
    found, left_out = registry.load("head")
    for text in left_out:
        progress.note(f"left out: {text}")
    return _thesis_first(list(found))


def _thesis_first(names: list[str]) -> list[str]:
    thesis = ["song", "artist", "artist-embedding", "gnn", "dropedge", "gated"]
    return sorted(names, key=lambda name: (thesis.index(name) if name in thesis else len(thesis), name))


def _train(
    dataset: str,
    backbone: str | None,
    modes: list[str],
    regimes: list[str],
    seeds: int,
    settings: list[str] | None,
    device: str,
    memory: float | None,
    store: str,
    as_json: bool,
    *,
    saved: bool,
) -> None:
    for mode in modes:
        _check_mode(mode)
    from pipeline import head as work
    from pipeline.output import print_json
    from pipeline.results import results_text
    from stages.configure import parse_pairs
    from stages.devices import find_device
    from stages.head.training.processes import joined

    if _is_further_process():
        progress.be_quiet(True)
    found = find_device(device)
    with joined(found) as processes:
        results = work.run(
            _open(store),
            dataset,
            backbone=backbone,
            modes=modes,
            regimes=regimes,
            seeds=seeds,
            changes=parse_pairs(settings or [], "--set"),
            device=found,
            memory_gib=memory,
            processes=processes,
        )
    if _is_further_process():
        return
    if as_json:
        print_json([result.as_json() for result in results])
        return
    print(results_text(results))
    if saved:
        print(f"\ncheckpoint, scores and settings: {results[0].saved}")


@command(store_app)
def store_ls(store: StoreOption = DEFAULT_STORE, json: JsonOption = False) -> None:
    """List collections, representations and trained heads. With their sizes."""
    from pipeline import stores
    from pipeline.output import print_json

    if json:
        print_json(stores.list_store(_open(store)))
    else:
        print(stores.list_text(_open(store)))


@command(store_app)
def store_show(
    dataset: Annotated[str, typer.Argument(metavar="DATASET")],
    store: StoreOption = DEFAULT_STORE,
    json: JsonOption = False,
) -> None:
    """Say everything that the store knows of one collection."""
    from pipeline import stores
    from pipeline.output import print_json

    found = stores.show(_open(store), dataset)
    if json:
        print_json(found)
    else:
        print(stores.show_text(found))


@command(store_app)
def store_verify(
    dataset: Annotated[str | None, typer.Argument(metavar="[DATASET]")] = None,
    store: StoreOption = DEFAULT_STORE,
    json: JsonOption = False,
) -> None:
    """Read everything back and compare it with what was committed."""
    from pipeline import stores
    from pipeline.output import print_json

    checked, wrong = stores.verify(_open(store), dataset)
    if json:
        print_json({"checked": checked, "wrong": wrong})
    else:
        print("\n".join(checked) or "nothing to verify")
    if wrong:
        raise EncoreError("\n".join(wrong))


@command(store_app)
def store_remove(
    dataset: Annotated[str, typer.Argument(metavar="DATASET")],
    backbone: Annotated[str | None, typer.Option("--backbone", help="only this representation", metavar="B")] = None,
    runs: Annotated[bool, typer.Option("--runs", help="only trained heads, their scores, and searches")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
    store: StoreOption = DEFAULT_STORE,
    json: JsonOption = False,
) -> None:
    """Remove a collection, a representation or its heads.

    Without options all of the collection goes. With --backbone a representation goes, and the heads that were trained
    on it stay, for reports; --runs removes those.
    """
    from pipeline import stores
    from pipeline.output import print_json

    where = _open(store)
    going = stores.removal(where, dataset, backbone, only_runs=runs)
    if not yes:
        what = ", ".join(f"{where.files.show(folder)} ({stores.mib(n)} MiB)" for folder, n in going.folders.items())
        what += going.with_searches
        if not sys.stdin.isatty():
            raise RequestError(f"this removes {what}; say --yes to do it")
        if not typer.confirm(f"Remove {what}?", err=True):
            return
    found = stores.remove(where, dataset, going)
    if json:
        print_json(found)
    else:
        print(stores.removed_text(found))


def main() -> None:
    if "--debug" not in sys.argv:
        # A Ctrl-C that lands in a destructor would be shown as a traceback that no caller can catch.
        sys.unraisablehook = lambda _unraisable: None
    _take_standard_streams()
    code: object = 0
    try:
        app()
    except SystemExit as done:
        code = done.code
    except (ImportError, OSError, MemoryError) as error:  # outside of commands: help, the imports of data sets
        if isinstance(error, ImportError) and not is_out_of_memory(error):
            raise
        code = tell(error)
    try:
        sys.stdout.flush()
    except OSError as error:
        code = code or tell(error)
    # Libraries' threads that are still starting up abort an orderly exit, and with it the exit code.
    os._exit(code if isinstance(code, int) else int(code is not None))


if __name__ == "__main__":
    main()
