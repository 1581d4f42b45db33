"""Reading of rows from shard files: memory-mapped for small stores, read for large ones.

A page that is touched at random brings its neighbours into a map, up to megabytes with the large pages of today's
Linux. A map over a store of gigabytes therefore fills the memory of the process within some batches, and letting the
pages go after each batch costs more than reading: for batches of 256 rows out of 400 MB in the system's cache, 0.03 ms
mapped, 0.2 ms read row by row, 0.9 ms mapped and released (medians, 2 cores).

Axes: ``N`` rows.
"""

__all__ = ["MAPPED_BYTES", "ShardFiles"]

import mmap
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import FormatError, RunError
from limbeck.softtargets.encodings import Field
from limbeck.softtargets.manifest import Plan
from limbeck.softtargets.positioned_io import BINARY, read_at
from limbeck.softtargets.shards import shard_name

MAPPED_BYTES = 96 << 20
"""Stores up to this size are mapped."""

_OPEN = 200
"""Files open at once."""


class ShardFiles:
    """The files of a store, opened when they are first used.

    Args:
        folder: The store.
        plan: What it holds.
        mapped: Whether to map them.
    """

    def __init__(self, folder: Path, plan: Plan, *, mapped: bool) -> None:
        self.folder, self.plan, self.mapped = folder, plan, mapped
        self.fields = plan.codec.fields(len(plan.classes))
        full, last = plan.layout(0), plan.layout(plan.shards - 1)
        self._begins = {
            field.name: np.array([full.offset(field.name)] * (plan.shards - 1) + [last.offset(field.name)])
            for field in self.fields
        }
        self._maps: dict[int, dict[str, NDArray[Any]]] = {}
        self._handles: dict[int, int] = {}

    def rows(self, shards: NDArray[np.int64], places: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """Copies of some rows.

        Args:
            shards: The shard of each, ascending, int64 ``(N,)``.
            places: Where in its shard each is, int64 ``(N,)``.

        Returns:
            The fields, ``(N, width)`` each.
        """
        if not self.mapped:
            return self._read(shards, places)
        found = {field.name: np.empty((len(places), field.width), field.dtype) for field in self.fields}
        bounds = np.flatnonzero(np.diff(shards, prepend=-1, append=self.plan.shards))
        for start, stop in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
            for name, values in self._map(int(shards[start])).items():
                np.take(values, places[start:stop], 0, out=found[name][start:stop], mode="clip")
        return found

    def _read(self, shards: NDArray[np.int64], places: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        # More shards than may be open at once are gone through in parts.
        for start in np.flatnonzero(np.diff(shards)) + 1:
            if shards[start] - shards[0] >= _OPEN:
                parts = [self._read(shards[:start], places[:start]), self._read(shards[start:], places[start:])]
                return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        handles = [self._open(shard) for shard in shards.tolist()]
        found: dict[str, NDArray[Any]] = {}
        for field in self.fields:
            width = field.row_bytes
            offsets = (places * width + self._begins[field.name][shards]).tolist()
            octets = b"".join([read_at(handle, width, place) for handle, place in zip(handles, offsets, strict=True)])
            found[field.name] = self._array(int(shards[0]) if handles else 0, octets, field, len(places))
        return found

    def span(self, shard: int, start: int, stop: int) -> dict[str, NDArray[Any]]:
        """Copies of the rows of a shard from one to before another, as far as there are any."""
        handle, layout = self._open(shard), self.plan.layout(shard)
        count = min(stop, layout.rows) - start
        found: dict[str, NDArray[Any]] = {}
        for field in layout.fields:
            offset = layout.offset(field.name) + start * field.row_bytes
            octets = read_at(handle, count * field.row_bytes, offset)
            found[field.name] = self._array(shard, octets, field, count)
        return found

    def _array(self, shard: int, octets: bytes, field: Field, rows: int) -> NDArray[Any]:
        # A writable copy: torch has no read-only tensors.
        values = np.frombuffer(bytearray(octets), field.dtype)
        if values.size != rows * field.width:
            raise FormatError(self.folder / shard_name(shard), "became shorter while it was in use")
        return values.reshape(rows, field.width)

    def _map(self, shard: int) -> dict[str, NDArray[Any]]:
        if shard not in self._maps:
            layout = self.plan.layout(shard)
            pages = mmap.mmap(self._open(shard), 0, access=mmap.ACCESS_READ)
            self._maps[shard] = {
                field.name: np.frombuffer(
                    pages, field.dtype, count=layout.rows * field.width, offset=layout.offset(field.name)
                ).reshape(layout.rows, field.width)
                for field in layout.fields
            }
        return self._maps[shard]

    def _open(self, shard: int) -> int:
        handle = self._handles.pop(shard, None)
        if handle is not None:
            self._handles[shard] = handle  # the last to be closed
            return handle
        while len(self._handles) >= _OPEN:
            os.close(self._handles.pop(next(iter(self._handles))))
        path = self.folder / shard_name(shard)
        try:
            handle = os.open(path, os.O_RDONLY | BINARY)
        except OSError as error:
            raise RunError(f"cannot read {path}: {error.strerror or error}") from error
        self._handles[shard] = handle
        if os.fstat(handle).st_size != self.plan.layout(shard).size:
            raise FormatError(path, "changed its size while it was in use: open the store again")
        return handle

    def __del__(self) -> None:
        for handle in self._handles.values():
            os.close(handle)
