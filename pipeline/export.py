"""``encore export``: what a store holds as files that other programs read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.arguments import open_store
from pipeline.options import DEFAULT_STORE, BackboneOption, JsonOption, StoreOption
from pipeline.output import print_json


def representation(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="a name in the store")],
    backbone: BackboneOption = None,
    to: Annotated[
        str, typer.Option("--to", help="the vectors as one array, or with the catalog", metavar="npy|parquet")
    ] = "npy",
    out: Annotated[Path, typer.Option("--out", help="the folder to write to", metavar="DIR")] = Path("."),
    store: StoreOption = DEFAULT_STORE,
    json: JsonOption = False,
) -> None:
    """Write a representation with its catalog rows. As .npy and .parquet, or as one .parquet."""
    from store.export import export_representation

    files = [str(path) for path in export_representation(open_store(store), dataset, backbone, to, out)]
    if json:
        print_json({"files": files})
    else:
        print("\n".join(files))
