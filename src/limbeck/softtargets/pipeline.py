"""Pipelined writing of shards: hashing, writing and flushing in parallel.

Three threads work in order: one hashes, one writes, one flushes a full shard and renames it. Numpy, hashing and system
calls release the GIL, so making rows, hashing and writing run side by side. A bounded number of pieces is under way, so
memory stays flat.

Axes: ``N`` rows.
"""

__all__ = ["ShardPipeline", "partial_name"]

import hashlib
import os
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import RunError
from limbeck.softtargets.manifest import Plan
from limbeck.softtargets.positioned_io import BINARY, write_at
from limbeck.softtargets.shards import build_header, shard_name
from limbeck.system.files import sync_folder, why

_PIECES = 8
"""Pieces under way at most."""
_SHARDS = 2
"""Full shards that wait for the disk at most."""


def partial_name(name: str) -> str:
    """Where a file is written before it is put in its place."""
    return f".{name}.partial"


class ShardPipeline:
    """Writes the shards of a plan in order.

    Args:
        folder: The store.
        plan: What it holds.

    Raises:
        RunError: If the disk is full or the folder cannot be written.
    """

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.folder, self.plan = folder, plan
        self.shard = -1
        self.handle = -1
        self.seals: dict[int, str] = {}
        self._hashes: dict[str, Any] = {}
        self._under_way: deque[list[Future[Any]]] = deque()
        self._finishing: deque[tuple[int, Future[str]]] = deque()
        self._pools = [ThreadPoolExecutor(1) for _ in range(3)]

    def __enter__(self) -> "ShardPipeline":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Full shards are put in their places whatever happened; the one that was begun is lost.
        for pool in self._pools:
            pool.shutdown(wait=True)
        if self.handle >= 0:
            os.close(self.handle)
            self.handle = -1
            (self.folder / partial_name(shard_name(self.shard))).unlink(missing_ok=True)

    def begin(self, shard: int) -> None:
        """Begin a shard."""
        self.shard = shard
        self.layout = self.plan.layout(shard)
        self._hashes = {field.name: hashlib.sha256() for field in self.layout.fields}
        try:
            path = self.folder / partial_name(shard_name(shard))
            self.handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | BINARY, 0o666)
        except OSError as error:
            raise _cannot(self.folder, error) from error

    def add(self, first_row: int, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Add rows; the arrays must not be changed afterwards.

        Args:
            first_row: The first one's place in the shard.
            arrays: The encoded fields, contiguous, ``(N, width)``.
        """
        hashing, writing, _ = self._pools
        jobs: list[Future[Any]] = []
        for field in self.layout.fields:
            octets = np.ascontiguousarray(arrays[field.name]).data.cast("B")
            place = self.layout.offset(field.name) + first_row * field.row_bytes
            jobs.append(hashing.submit(self._hashes[field.name].update, octets))
            jobs.append(writing.submit(_write_all, self.handle, octets, place))
        self._under_way.append(jobs)
        while len(self._under_way) > _PIECES:
            self._wait(self._under_way.popleft())

    def finish(self, sums: tuple[float, ...]) -> None:
        """End the shard; it is flushed and put in its place meanwhile."""
        jobs = [job for piece in self._under_way for job in piece]
        self._under_way.clear()
        job = self._pools[2].submit(self._finish, self.handle, self.shard, self.layout, self._hashes, jobs, sums)
        self._finishing.append((self.shard, job))
        self.handle = -1
        while len(self._finishing) > _SHARDS:
            self._collect()

    def close(self) -> None:
        """Wait until all shards are in their places."""
        while self._finishing:
            self._collect()

    def _finish(
        self, handle: int, shard: int, layout: Any, hashes: dict[str, Any], jobs: list[Future[Any]], sums: Any
    ) -> str:
        try:
            for job in jobs:
                job.result()
            checksums = {name: found.hexdigest() for name, found in hashes.items()}
            header, seal = build_header(layout, plan=self.plan.digest, number=shard, sums=sums, checksums=checksums)
            _write_all(handle, memoryview(header), 0)
            os.fsync(handle)
        finally:
            os.close(handle)
        name = shard_name(shard)
        os.replace(self.folder / partial_name(name), self.folder / name)
        sync_folder(self.folder)
        return seal

    def _collect(self) -> None:
        shard, job = self._finishing.popleft()
        self._wait([job])
        self.seals[shard] = job.result()

    def _wait(self, jobs: list[Future[Any]]) -> None:
        for job in jobs:
            try:
                job.result()
            except OSError as error:
                raise _cannot(self.folder, error) from error


def _cannot(folder: Path, error: OSError) -> RunError:
    return RunError(f"cannot write soft targets to {folder}: {why(error)}")


def _write_all(handle: int, octets: memoryview, place: int) -> None:
    while octets:
        count = write_at(handle, octets, place)
        octets, place = octets[count:], place + count
