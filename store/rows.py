"""Rows of a representation in any order, with little of it in memory."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from store.arrays import chunk_path
from store.reader import Representations

_OPEN_SHARDS = 4096  # mapped files, which take addresses and no descriptor
_READ_SHARDS = 2  # shards in memory, where files cannot be mapped: behind a URL, or compressed

Array = np.ndarray[Any, Any]


class Rows:
    """The rows of a complete representation, read one by one or many at a time.

    On a local disk uncompressed numbers are memory-mapped, so random access costs no more than the rows that it reads.
    A shard is compared with what was committed when it is first touched.
    """

    def __init__(self, representations: Representations) -> None:
        self.representations = representations
        self._checked: set[int] = set()
        self._shards: OrderedDict[int, Array] = OrderedDict()
        self._mappable = representations.mappable  # zarr takes a while to say so

    def __len__(self) -> int:
        return self.representations.rows

    def __getstate__(self) -> dict[str, Any]:
        """Without what is mapped: pickle would copy it into each of a loader's worker processes."""
        return {**self.__dict__, "_shards": OrderedDict()}

    def take(self, rows: NDArray[np.int64]) -> Array:
        """[rows, *shape] as they are stored, in the order asked for; FormatError for a damaged shard."""
        manifest = self.representations.manifest
        values = np.empty((len(rows), *manifest.shape), np.dtype(manifest.dtype))
        shards = rows // manifest.shard_rows
        for index in np.unique(shards).tolist():
            places = np.flatnonzero(shards == index)
            values[places] = self._shard(index)[rows[places] - index * manifest.shard_rows]
        return values

    def shards(self) -> Iterator[tuple[int, Array]]:
        """The first row of each shard, in their order, and [rows, *shape] as they are stored; not to be written to."""
        for index, record in enumerate(self.representations.manifest.shards):
            first, last = record.rows
            yield first, self._shard(index)[: last - first]

    def _shard(self, index: int) -> Array:
        shard = self._shards.pop(index, None)
        if shard is None:
            shard = self._open(index)
        self._shards[index] = shard
        while len(self._shards) > (_OPEN_SHARDS if self._mappable else _READ_SHARDS):
            self._shards.popitem(last=False)
        return shard

    def _open(self, index: int) -> Array:
        representations = self.representations
        if index not in self._checked or not self._mappable:
            values = representations.read(*representations.manifest.shards[index].rows)
            self._checked.add(index)
        if not self._mappable:
            return values
        assert representations.store.files.local is not None
        path = chunk_path(
            representations.store.files.local,
            representations.dataset,
            representations.name,
            representations.shape,
            index,
        )
        shape = (representations.manifest.shard_rows, *representations.shape)
        dtype = np.dtype(representations.manifest.dtype).newbyteorder("<")
        with pa.memory_map(str(path)) as file:  # mmap and np.memmap keep a descriptor for each
            mapped = file.read_buffer()
        shard: Array = np.frombuffer(mapped, dtype, math.prod(shape)).reshape(shape)
        return shard
