"""``encore store repair``: encode again what is damaged, or take a collection as it is."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

import typer

from pipeline.arguments import open_store, read_settings
from pipeline.options import DEFAULT_STORE, DeviceOption, DtypeOption, JsonOption, SetOption, StoreOption
from pipeline.output import print_json
from store.errors import EncoreError, RequestError
from store.words import plural


def repair(
    dataset: Annotated[str, typer.Argument(metavar="DATASET")],
    backbone: Annotated[str | None, typer.Option("--backbone", help="only this representation", metavar="B")] = None,
    weights: Annotated[str | None, typer.Option("--weights", help="those it was encoded with", metavar="FILE")] = None,
    settings: SetOption = None,
    precision: Annotated[str, typer.Option("--precision", help="32 or bf16, as for embed", metavar="32|bf16")] = "32",
    dtype: DtypeOption = None,
    accept: Annotated[
        bool, typer.Option("--accept", help="encode nothing; take every file as it is, whatever the seal says")
    ] = False,
    device: DeviceOption = "auto",
    store: StoreOption = DEFAULT_STORE,
    json: JsonOption = False,
) -> None:
    """Encode damaged or missing shards again, and only these.

    At the end it lists what else is damaged, and then exits with 1. With --accept, files that were put back from a
    copy, changed or removed by hand become what the collection holds.
    """
    where = open_store(store)
    if accept:
        if dataset not in where.datasets():
            where.read_catalog(dataset)  # raises with the list of what there is
        document: Any = {"dataset": dataset, "accepted": where.seals.accept(dataset)}
        lines = [f"accepted: {where.files.show(f'{dataset}/{path}')}" for path in document["accepted"]]
        lines = lines or [f"every file of {dataset} is what its seal says"]
        others: list[str] = []
    else:
        from stages.embed.repair import repair as work
        from store.verify import compare_files

        repairs = work(
            where,
            dataset,
            backbone_name=backbone,
            weights=weights,
            settings=read_settings(settings),
            precision=precision,
            dtype=dtype,
            device_name=device,
        )
        if not repairs:
            raise RequestError(f"{dataset} has no complete representation; encode one: encore embed {dataset}")
        document = {"dataset": dataset, "repairs": [dataclasses.asdict(entry) for entry in repairs]}
        lines = [
            f"{entry.representation}: "
            + (
                f"{plural(entry.damaged, 'damaged shard')}, {plural(entry.encoded, 'clip')} encoded again"
                if entry.damaged
                else "every shard is intact"
            )
            for entry in repairs
        ]
        document["wrong"] = others = compare_files(where, dataset)
    if json:
        print_json(document)
    else:
        print("\n".join(lines))
    if others:
        raise EncoreError("\n".join(others))
