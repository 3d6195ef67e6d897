"""``encore export``: what a store holds as files that other programs read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.arguments import check_output, open_store
from pipeline.options import DEFAULT_STORE, BackboneOption, DatasetArgument, JsonOption, StoreOption
from pipeline.output import print_json, wrapped
from store.words import plural


def representation(
    dataset: DatasetArgument,
    backbone: BackboneOption = None,
    to: Annotated[
        str, typer.Option("--to", help="the vectors as one array, or with the catalog", metavar="npy|parquet|hf")
    ] = "npy",
    out: Annotated[Path, typer.Option("--out", help="the folder to write to", metavar="DIR")] = Path("."),
    store: StoreOption = DEFAULT_STORE,
    json: JsonOption = False,
) -> None:
    """Write a representation with its catalog rows. As .npy and .parquet, one .parquet, or a folder for datasets."""
    from store.export import export_representation

    files = [str(path) for path in export_representation(open_store(store), dataset, backbone, to, out)]
    if json:
        print_json({"files": files})
    else:
        print("\n".join(files))


def head(
    run: Annotated[str, typer.Argument(metavar="HEAD", help="DATASET (its best mode), DATASET/MODE, or a run's path")],
    onnx: Annotated[Path, typer.Option("--onnx", help="the file to write", metavar="FILE")],
    store: StoreOption = DEFAULT_STORE,
    json: JsonOption = False,
) -> None:
    """Write a trained head as ONNX. Checked against onnxruntime on its test clips."""
    check_output("--onnx", onnx)
    import torch

    from stages.head.onnx import export_head
    from stages.head.predict import Predictor
    from stages.head.runs.find import find_run

    where = open_store(store)
    entry, reason = find_run(where, run)
    exported = export_head(Predictor(where, entry, torch.device("cpu")), onnx)
    if json:
        inputs = {name: {"shape": shape, "what": what} for name, (shape, what) in exported.inputs.items()}
        print_json(
            {
                "file": str(onnx),
                "run": entry.file,
                "inputs": inputs,
                "labels": exported.labels,
                "clips": exported.clips,
                "difference": exported.difference,
            }
        )
        return
    name = f"{entry.folder.dataset}/{entry.folder.mode}"
    fold = "" if entry.record.fold is None else f", fold {entry.record.fold}"
    run = f"regime {entry.folder.regime}, seed {entry.record.seed}{fold}"
    print("\n".join(wrapped(f"{onnx}: {name}, {run} ({reason})")))
    rows = [[name, shape, what] for name, (shape, what) in exported.inputs.items()]
    rows.append(["scores", f"float32 [clips, {len(exported.labels)}]", ", ".join(exported.labels)])
    for name, shape, what in rows:
        print("\n".join(wrapped(f"  {name}  {shape}  {what}", "      ")))
    clips = plural(exported.clips, "clip")
    print(f"onnxruntime gives torch's scores to {exported.difference:.1g} on {clips}")
