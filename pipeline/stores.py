"""``encore store``: look at what a store holds, check it, remove from it."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pipeline.arguments import open_store
from pipeline.options import DEFAULT_STORE, JsonOption, StoreOption, YesOption
from pipeline.output import print_csv, print_json, print_result, table, wrapped
from pipeline.process import confirmed
from stages import registry
from stages.head.modes import BASELINES
from store.errors import EncoreError, RequestError
from store.words import plural

_FAILURE_COLUMNS = ("representation", "row", "clip_id", "path", "kind", "reason", "encoded")


def ls(store: StoreOption = DEFAULT_STORE, json: JsonOption = False) -> None:
    """List collections, representations and trained heads. With their sizes."""
    from store.inventory import list_collections

    where = open_store(store)
    collections = list_collections(where)
    if json:
        print_json(collections)
    else:
        empty = where.there_is_none() or f"the store {where.where()} holds nothing yet; fill it: encore embed demo"
        print(list_text(collections) if collections else empty)


def show(
    dataset: Annotated[str, typer.Argument(metavar="DATASET")],
    failures: Annotated[bool, typer.Option("--failures", help="every clip that failed or has a note, and why")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="--failures as CSV")] = False,
    store: StoreOption = DEFAULT_STORE,
    json: JsonOption = False,
) -> None:
    """Say everything that the store knows of one collection."""
    from store.inventory import describe_collection, list_failures

    if csv and (json or not failures):
        raise RequestError("--csv writes what --failures lists; give --failures --csv, or --json alone")
    where = open_store(store)
    document = list_failures(where, dataset) if failures else describe_collection(where, dataset)
    if csv:
        print_csv(_FAILURE_COLUMNS, document["clips"])
    elif json:
        print_json(document)
    else:
        print(failures_text(document) if failures else show_text(document))


def verify(
    dataset: Annotated[str | None, typer.Argument(metavar="[DATASET]")] = None,
    store: StoreOption = DEFAULT_STORE,
    json: JsonOption = False,
) -> None:
    """Read everything back and compare it with what was committed."""
    from store import verify as reading

    checked, problems = reading.verify(open_store(store), dataset)
    if json:
        print_json({"checked": checked, "wrong": problems})
    else:
        print("\n".join(checked) or "nothing to verify")
    if problems:
        raise EncoreError("\n".join(problems))


def remove(
    dataset: Annotated[str, typer.Argument(metavar="DATASET")],
    backbone: Annotated[str | None, typer.Option("--backbone", help="only this representation", metavar="B")] = None,
    runs: Annotated[bool, typer.Option("--runs", help="only trained heads, their scores, and searches")] = False,
    yes: YesOption = False,
    store: StoreOption = DEFAULT_STORE,
    json: JsonOption = False,
) -> None:
    """Remove a collection, a representation or its heads.

    Without options all of the collection goes. With --backbone a representation goes, and the heads that were trained
    on it stay, for reports; --runs removes those.
    """
    from store import removal as work

    where = open_store(store)
    removal = work.plan_removal(where, dataset, backbone, only_runs=runs)
    what = ", ".join(f"{where.files.show(folder)} ({mib(size)} MiB)" for folder, size in removal.folders.items())
    if removal.searches:
        what += f", with {plural(removal.searches, 'search', 'searches')} for settings"
    if not confirmed("remove", what, yes=yes):
        return
    removed = work.remove(where, removal)
    print_result(removed, removed_text, json=json)


def _runs_and_searches(run: dict[str, Any]) -> str:
    searches = f" and {plural(run['searches'], 'search', 'searches')}" if run["searches"] else ""
    return plural(run["runs"], "run") + searches


def list_text(collections: list[dict[str, Any]]) -> str:
    """A table of `store.inventory.list_collections`."""
    from store.layout import split_layer

    rows = []
    for entry in collections:
        if "error" in entry:
            rows.append([entry["dataset"], "-", "damaged catalog", "", "", ""])
            continue
        name = entry["dataset"] + (" (synthetic)" if entry["synthetic"] else "")
        runs = {
            run["representation"]: [f"{run['runs']:,}" if run["runs"] else "-", mib(run["bytes"])]
            for run in entry["runs"]
        }
        parts = [
            [
                f"{r['name']}{'' if r['complete'] else ' (not complete)'}",
                mib(r["bytes"]),
                *runs.pop(r["name"], ["-", "-"]),
            ]
            for r in entry["representations"]
        ] or [["no representation", "-", "-", "-"]]
        there = {"metadata", *(r["name"] for r in entry["representations"])}
        for of, cells in runs.items():  # of a layer, of no representation, or of one that is gone
            parts.append([of if split_layer(of)[0] in there else f"{of} (removed)", "-", *cells])
        for i, part in enumerate(parts):
            rows.append([name if i == 0 else "", f"{entry['clips']:,}" if i == 0 else "", *part])
    return table(["data set", "clips", "representation", "MiB", "runs", "MiB"], rows)


def mib(count: int) -> str:
    """Bytes in MiB, as tables show them."""
    return f"{count / 2**20:,.1f}"


def failures_text(failures: dict[str, Any]) -> str:
    """The lines of `store.inventory.list_failures`."""
    lines = [line for text in failures["notes"] for line in wrapped(text)]
    groups: dict[tuple[str, bool], list[str]] = {}
    for entry in failures["clips"]:
        line = f"  row {entry['row']}: {_clip_line(entry)}"
        groups.setdefault((entry["representation"], entry["encoded"]), []).append(line)
    for (name, has_values), clips in groups.items():
        what = "encoded, with a note" if has_values else "that could not be encoded"
        lines += [f"{name}: {plural(len(clips), 'clip')} {what}:", *clips]
    return "\n".join(lines) or f"every clip of {failures['dataset']} is encoded, and nothing was noted"


def _clip_line(entry: dict[str, Any]) -> str:
    where = f" ({entry['path']})" if entry["path"] != entry["clip_id"] else ""
    return f"{entry['clip_id']}{where}: {entry['kind']}: {entry['reason']}"


def show_text(collection: dict[str, Any]) -> str:
    """The lines of `store.inventory.describe_collection`."""
    kind = " (synthetic)" if collection["synthetic"] else ""
    remark = f" ({collection['retired']:,} retired)" if collection["retired"] else ""
    lines = [
        f"{collection['dataset']}{kind}: {collection['title']}, {collection['version']}",
        *wrapped(f"licence: {collection['licence']}"),
        *wrapped(f"citation: {collection['citation']}"),
        f"files: {collection['data_root']}",
        f"clips: {collection['clips']:,}{remark} of {plural(collection['songs'], 'song')} by "
        f"{plural(collection['artists'], 'artist')}",
        *(line for text in collection["notes"] for line in wrapped(f"note: {text}")),
    ]
    for entry in collection["representations"]:
        if "error" in entry:
            lines += wrapped(f"{entry['name']}: {entry['error']}")
            continue
        if not entry["complete"]:
            lines.append(f"{entry['name']}: not complete; go on: encore embed {collection['dataset']}")
            continue
        shape = " x ".join(f"{n:,}" for n in (entry["rows"], *entry["shape"]))
        lines.append(f"{entry['name']}: {shape} {entry['dtype']}, {mib(entry['bytes'])} MiB")
        config = {name: value for name, value in entry["settings"].get("config", {}).items() if name != "REVISION"}
        if config:
            lines += wrapped(", ".join(f"{name}={_shown(value)}" for name, value in config.items()), "    ", "  ")
        if entry["licence"]:
            lines += wrapped(f"licence of the weights: {entry['licence']}", "    ", "  ")
        if entry["failures"]:
            kinds = ", ".join(f"{count:,} {kind}" for kind, count in entry["failures_by_kind"].items())
            first = entry["first_failures"]
            more = "" if len(first) == entry["failures"] else f"; the first {len(first)}"
            lines.append(f"  {plural(entry['failures'], 'clip')} could not be encoded ({kinds}){more}:")
            lines += [f"    {_clip_line(failure)}" for failure in first]
            if more:
                lines.append(f"    all: encore store show {collection['dataset']} --failures")
        if entry["notes_by_kind"]:
            kinds = ", ".join(f"{count:,} {kind}" for kind, count in entry["notes_by_kind"].items())
            which = f"which: encore store show {collection['dataset']} --failures"
            lines.append(f"  notes on encoded clips: {kinds}; {which}")
    from stages.splits.kept import REVISION

    by_revision: dict[int, list[str]] = {}
    for split, revision in collection["splits"].items():
        by_revision.setdefault(revision, []).append(split)
    for revision, splits in sorted(by_revision.items()):
        older = f"; deal anew: encore store redeal {collection['dataset']}" if revision < REVISION else ""
        lines += wrapped(f"splits dealt by revision {revision}: {', '.join(splits)}{older}")
    for run in collection["runs"]:
        of = "that read no representation" if run["representation"] == "metadata" else f"on {run['representation']}"
        lines.append(f"trained heads {of}: {_runs_and_searches(run)}, {mib(run['bytes'])} MiB")
        by_regime: dict[str, list[str]] = {}
        for folder, count in run["modes"].items():
            names = (*registry.names("head"), *BASELINES)
            mode = max((name for name in names if folder.startswith(f"{name}-")), key=len, default="")
            by_regime.setdefault(folder.removeprefix(f"{mode}-"), []).append(f"{mode} {count}")
        for regime, modes in by_regime.items():
            lines += wrapped(f"{regime}: {', '.join(modes)}", "    ", "  ")
    return "\n".join(lines)


def _shown(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def removed_text(removed: dict[str, Any]) -> str:
    """The lines of `store.removal.remove`."""
    lines = [f"removed {folder['path']}, {mib(folder['bytes'])} MiB" for folder in removed["removed"]]
    lines += [
        f"kept: {_runs_and_searches(run)} trained on it, {mib(run['bytes'])} MiB; remove them: "
        f"encore store remove {removed['dataset']} --runs --backbone {run['representation']}"
        for run in removed["kept_runs"]
    ]
    return "\n".join(lines)
