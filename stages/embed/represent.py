"""Windows through a backbone: on a device, in its precision, and as the numbers that a store takes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch

from stages.embed.backbones import Backbone
from stages.embed.loading import Array, ClipTable, Failure, LoadedBatch, killed_workers_told, load_windows
from stages.embed.weights import denormals_flushed
from stages.progress import task
from store.schema import Catalog


def represent(backbone: Backbone, windows: torch.Tensor) -> torch.Tensor:
    """`Backbone.encode` in the backbone's precision, without gradients and denormal numbers: [windows, *shape].

    Everything that encodes, in whichever process or thread, comes through here.
    """
    precision = torch.autocast(windows.device.type, torch.bfloat16, enabled=backbone.precision == "bf16")
    # By default cuDNN rounds float32 convolutions to TF32, and a clip's numbers would depend on its batch.
    no_tf32 = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
    with torch.inference_mode(), precision, no_tf32, denormals_flushed():
        return backbone.encode(windows)


def encode_ahead(
    backbone: Backbone, batches: Iterable[LoadedBatch], device: torch.device, *, ahead: int
) -> Iterator[tuple[LoadedBatch, torch.Tensor | None]]:
    """Each batch with the representations of its windows in main memory, None if it has no windows.

    ``ahead`` more batches are queued on the device before the oldest is waited for: a GPU encodes the next batch, and
    copies its results, while this process stores the previous one.
    """
    queue: deque[tuple[LoadedBatch, Callable[[], torch.Tensor | None]]] = deque()
    for batch in batches:
        queue.append((batch, _start(backbone, batch.windows, device)))
        if len(queue) > ahead:
            batch, wait = queue.popleft()
            yield batch, wait()
    for batch, wait in queue:
        yield batch, wait()


def _start(backbone: Backbone, windows: torch.Tensor | None, device: torch.device) -> Callable[[], torch.Tensor | None]:
    """Start encoding on the device; the function returned waits for the representations and returns them."""
    if windows is None:
        return lambda: None
    values = represent(backbone, windows.to(device, non_blocking=True))
    if device.type != "cuda":
        return values.cpu
    copy = values.to("cpu", non_blocking=True)  # into memory that torch pins, so that nothing waits here
    event = torch.cuda.current_stream(device).record_event()

    def wait() -> torch.Tensor:
        event.synchronize()
        return copy

    return wait


def clips_of(
    backbone: Backbone, batch: LoadedBatch, values: torch.Tensor | None
) -> tuple[list[int], Array, list[Failure]]:
    """The rows of one batch, their representations [rows, *shape] in the dtype of the store, and the failures."""
    if values is None:
        return [], np.empty((0, *backbone.shape), backbone.dtype), batch.failures
    if values.dtype in (torch.bfloat16, torch.float16):  # numpy has no bfloat16, and sums in 16 bits lose digits
        values = values.float()
    numbers = values.numpy().reshape(len(values), *backbone.shape)
    counts = np.asarray(batch.counts)
    if len(numbers) > len(counts):
        starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
        sums = np.add.reduceat(numbers.astype(np.float32), starts, axis=0)
        numbers = sums / counts.reshape(-1, *([1] * len(backbone.shape)))
    in_dtype, fits = _as_stored(numbers, np.dtype(backbone.dtype))
    failures = batch.failures + [
        (row, "not-finite", f"{backbone.NAME} gave numbers that are not finite, or beyond what {backbone.dtype} holds")
        for row, fit in zip(batch.rows, fits.tolist(), strict=True)
        if not fit
    ]
    rows = [row for row, fit in zip(batch.rows, fits.tolist(), strict=True) if fit]
    return rows, in_dtype[fits], failures


def _as_stored(numbers: Array, dtype: np.dtype[Any]) -> tuple[Array, np.ndarray[Any, np.dtype[np.bool_]]]:
    """Numbers in the dtype of the store, and for each row whether all are finite and within its range: [rows].

    Integers are the nearest ones, the even one of two that are equally near.
    """
    if dtype.kind != "f" and numbers.dtype.kind == "f":
        numbers = np.rint(numbers)
    with np.errstate(over="ignore", invalid="ignore"):
        values = numbers.astype(dtype)
    if dtype.kind == "f":
        fits = np.isfinite(values)
    else:
        limits = np.iinfo(dtype)
        fits = (numbers >= limits.min) & (numbers < limits.max + 1)  # floats hold the powers of two exactly
    return values, fits.reshape(len(numbers), -1).all(axis=1)


def encode_loaded(
    backbone: Backbone, batch: LoadedBatch, device: torch.device
) -> tuple[list[int], Array, list[Failure]]:
    """As `encode_unstored`, one batch that is loaded: rows, their representations [rows, *shape], failures."""
    ((_, representations),) = encode_ahead(backbone, [batch], device, ahead=0)
    return clips_of(backbone, batch, representations)


def encode_unstored(
    catalog: Catalog, backbone: Backbone, *, device: torch.device, batch: int, workers: int
) -> tuple[Array, list[Failure]]:
    """[rows, *shape] the representations of all clips of a catalog that is in no store, and those that failed.

    The rows of clips that failed hold no numbers of meaning. Parameters are those of `encode`.
    """
    clips = ClipTable(catalog, backbone.input)
    batches = [list(range(i, min(i + batch, len(clips)))) for i in range(0, len(clips), batch)]
    values = np.zeros((len(clips), *backbone.shape), backbone.dtype)
    failures: list[Failure] = []
    backbone.to(device)
    with killed_workers_told(), task(f"encoding by {backbone.NAME}", len(clips), "clips") as advance:
        loaded = load_windows(clips, batches, workers, pin=device.type == "cuda")
        for loaded_batch, representations in encode_ahead(backbone, loaded, device, ahead=int(device.type == "cuda")):
            rows, numbers, errors = clips_of(backbone, loaded_batch, representations)
            values[rows] = numbers
            failures += errors
            advance(len(loaded_batch))
    return values, failures
