"""Reading of a store: rows by number, with every header checked on opening.

Axes: ``N`` rows asked for.
"""

__all__ = ["Store"]

import hashlib
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import DataError, FormatError
from limbeck.softtargets.encodings import Encoding
from limbeck.softtargets.fidelity_card import Card, add_up
from limbeck.softtargets.manifest import Manifest
from limbeck.softtargets.shard_files import MAPPED_BYTES, ShardFiles
from limbeck.softtargets.shards import read_header, shard_name
from limbeck.softtargets.side_files import check_data, check_shard, check_tail, index_layout, read_tail
from limbeck.softtargets.topk import tail_of
from limbeck.system.files import read_json
from limbeck.system.locks import LOCK

_THREADS = 8
"""That hash at the same time."""

_WORTH_TELLING = 10 << 20
"""Bytes from which on it is told that a store was checked."""

_VERIFIED: dict[Path, tuple[tuple[str, int, int], ...]] = {}
"""Stores that this process has compared with their checksums, with the state that their files were in."""


class Store:
    """The arrays of a store.

    Args:
        folder: The store.
        mapped_bytes: Stores up to this size are mapped into memory, larger ones are read row by row.

    Raises:
        FormatError: If it is incomplete, or the manifest or a shard's header or size is not as it was written.

    Example:
        >>> import tempfile
        >>> from limbeck.softtargets import Dense, write_arrays
        >>> folder = tempfile.mkdtemp()
        >>> scores = [np.log(np.array([[0.9, 0.1], [0.4, 0.6]], np.float32))]
        >>> card = write_arrays(folder, scores, classes=("a", "b"), examples=2, encoding=Dense())
        >>> np.exp(Store(folder).log_probs(np.array([1]), temperature=1.0)).round(2).tolist()
        [[0.4, 0.6]]
    """

    def __init__(self, folder: str | Path, *, mapped_bytes: int = MAPPED_BYTES) -> None:
        self.folder = Path(folder)
        manifest = Manifest.read(self.folder)
        self.plan = manifest.plan
        if manifest.seals is None:
            there = sum((self.folder / shard_name(shard)).exists() for shard in range(self.plan.shards))
            raise FormatError(
                self.folder,
                f"is incomplete: {there} of {self.plan.shards} shards are written; run the command that "
                "started it again, and it resumes",
            )
        self.headers = [
            read_header(
                self.folder / shard_name(shard),
                self.plan.layout(shard),
                plan=self.plan.digest,
                number=shard,
                seal=seal,
            )
            for shard, seal in enumerate(manifest.seals)
        ]
        self.codec: Encoding = self.plan.codec
        top = tail_of(self.codec)
        if top is not None:
            self.codec = replace(top, profile=read_tail(self.folder, self.plan, seal=manifest.tail))
        self.fields = self.codec.fields(len(self.plan.classes))
        self.files = ShardFiles(self.folder, self.plan, mapped=self.size <= mapped_bytes)

    def __reduce__(self) -> tuple[type["Store"], tuple[Path]]:
        # Another process opens it anew: what is mapped and open here means nothing there.
        return type(self), (self.folder.absolute(),)

    @cached_property
    def index(self) -> NDArray[np.int64] | None:
        """The examples' numbers, or None where they are 0, 1, 2, ..."""
        if self.plan.index is None:
            return None
        path = self.folder / "index.safetensors"
        layout = index_layout(self.plan)
        check_shard(path, layout, plan=self.plan.digest, number=-1)
        values = np.fromfile(path, "<i8", offset=layout.offset("index"))
        if hashlib.sha256(values.tobytes()).hexdigest() != self.plan.index:
            raise FormatError(path, "does not match its checksum in the manifest: write the store again")
        return values

    @property
    def card(self) -> Card:
        """The fidelity card, added up from the sealed headers."""
        return add_up(
            [header.sums for header in self.headers],
            examples=self.plan.examples,
            views=self.plan.views,
            classes=len(self.plan.classes),
            encoding=self.codec,
            temperature=self.plan.temperature,
        )

    @property
    def size(self) -> int:
        """Bytes of all rows."""
        return self.plan.rows * sum(field.row_bytes for field in self.fields)

    def rows(self, numbers: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """Copies of some rows, in the order asked for.

        Args:
            numbers: Rows, ``view * examples + place``, int64 in [0, rows), ``(N,)``.

        Returns:
            The fields, ``(N, width)`` each.

        Raises:
            DataError: If a row is not there.
        """
        if numbers.size and not (numbers.min() >= 0 and numbers.max() < self.plan.rows):
            raise DataError(f"rows {numbers.min()} to {numbers.max()} are asked for, and there are {self.plan.rows}")
        order = np.argsort(numbers)
        shards, places = np.divmod(numbers[order], self.plan.rows_per_shard)
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        return {name: values[back] for name, values in self.files.rows(shards, places).items()}

    def span(self, start: int, stop: int) -> dict[str, NDArray[Any]]:
        """Copies of rows that follow each other.

        Args:
            start: The first row.
            stop: One past the last.

        Returns:
            The fields, ``(stop - start, width)`` each.
        """
        each = self.plan.rows_per_shard
        parts = [
            self.files.span(shard, max(0, start - shard * each), min(each, stop - shard * each))
            for shard in range(start // each, -(-stop // each))
        ]
        return {field.name: np.concatenate([part[field.name] for part in parts]) for field in self.fields}

    def log_probs(self, numbers: NDArray[np.int64], *, temperature: float) -> NDArray[np.float64]:
        """Some rows decoded in float64: the slow reference.

        Args:
            numbers: Rows, int64 ``(N,)``.
            temperature: T; for targets of one temperature 1 means that one.

        Returns:
            Natural logarithms, ``(N, K)``.
        """
        return self.codec.decode(self.rows(numbers), len(self.plan.classes), temperature)

    def batches(self, batch_size: int, *, seed: int) -> Iterator[tuple[NDArray[np.int64], dict[str, NDArray[Any]]]]:
        """Every row once, shuffled.

        Args:
            batch_size: Rows at a time; the last batch may be smaller.
            seed: Seed of the order.

        Yields:
            The rows' numbers, and their fields.
        """
        order = np.arange(self.plan.rows, dtype=np.uint32 if self.plan.rows < 1 << 32 else np.int64)
        np.random.default_rng(seed).shuffle(order)
        for start in range(0, len(order), batch_size):
            numbers = order[start : start + batch_size].astype(np.int64)
            yield numbers, self.rows(numbers)

    def verify(self) -> None:
        """Compare every byte with the checksums.

        Raises:
            FormatError: If one differs; the message names the file.
        """
        with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as pool:  # hashing lets other threads go on
            for _ in pool.map(self._check_shard, range(self.plan.shards)):
                pass
        if self.codec.has_tail:
            check_tail(self.folder, self.plan)
        self.__dict__.pop("index", None)
        _ = self.index
        path = self.folder / "card.json"
        if read_json(path) != self.card.to_dict():
            raise FormatError(path, "does not agree with the shards: it was damaged or edited; write the store again")

    def _check_shard(self, shard: int) -> None:
        check_data(self.folder / shard_name(shard), self.plan.layout(shard), self.headers[shard])

    def verify_once(self) -> str | None:
        """Compare every byte with the checksums, unless this process did and no file has changed since.

        Returns:
            How much was checked and how fast, in words; None where it was checked before, or in no time.

        Raises:
            FormatError: If a byte differs; the message names the file.
        """  # noqa: DOC502
        place, before = self.folder.resolve(), self._state()
        if _VERIFIED.get(place) == before:
            return None
        began = time.perf_counter()
        self.verify()
        seconds = max(time.perf_counter() - began, 1e-9)
        _VERIFIED[place] = before
        size = sum(octets for _, octets, _ in before)
        if size < _WORTH_TELLING:
            return None
        return f"checked {_amount(size)} of soft targets in {self.folder}, {size / seconds / 1e9:.1f} GB/s"

    def _state(self) -> tuple[tuple[str, int, int], ...]:
        """Name, size and time of change of every file."""
        with os.scandir(self.folder) as entries:
            found = [(entry.name, entry.stat()) for entry in entries if entry.name != LOCK]
        return tuple(sorted((name, one.st_size, one.st_mtime_ns) for name, one in found))


def _amount(octets: int) -> str:
    return f"{octets / 1e9:.1f} GB" if octets >= 1e8 else f"{octets / 1e6:.1f} MB"
