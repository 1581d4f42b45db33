"""Rows for the writer: rebatched, and some of them measured for the card.

Axes: ``N`` rows, ``K`` classes.
"""

__all__ = ["Ahead", "Blocks", "Measured", "Rows"]

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import DataError, MismatchError
from limbeck.softtargets.encodings import Encoding
from limbeck.softtargets.fidelity_card import CardSums, measure_rows
from limbeck.softtargets.manifest import Plan

Blocks = Iterable[NDArray[Any]] | Callable[[int], Iterable[NDArray[Any]]]
"""Rows ``(n, K)`` in order, in blocks of any size; or a function that gives them from a row on."""

_MEASURED, _MEASURED_NUMBERS = 4096, 1 << 20
"""Rows of the card that are measured together, and numbers, each of which takes some dozen float64 meanwhile."""


class Measured:
    """Rows of one shard that the card is made of, measured up to some thousands at a time."""

    def __init__(self, plan: Plan, codec: Encoding) -> None:
        self.plan, self.codec = plan, codec
        self.waiting: list[tuple[NDArray[np.float32], dict[str, NDArray[Any]], NDArray[np.int64] | None]] = []
        self.count, self.most = 0, min(_MEASURED, max(1, _MEASURED_NUMBERS // len(plan.classes)))
        self.sums: list[CardSums] = []

    def add(
        self,
        scores: NDArray[np.float32],
        encoded: dict[str, NDArray[Any]],
        labels: NDArray[np.int64] | None,
    ) -> None:
        """Take rows that the card is to know of, with their labels."""
        self.waiting.append((scores.copy(), encoded, labels))
        self.count += len(scores)
        if self.count >= self.most:
            self._measure()

    def _measure(self) -> None:
        if not self.count:
            return
        scores = np.concatenate([part[0] for part in self.waiting])
        names = self.waiting[0][1]
        encoded = {name: np.concatenate([part[1][name] for part in self.waiting]) for name in names}
        known = [part[2] for part in self.waiting if part[2] is not None]
        labels = np.concatenate(known) if known else None
        self.sums.append(measure_rows(scores, encoded, self.codec, self.plan.temperature, labels))
        self.waiting, self.count = [], 0

    def total(self) -> CardSums:
        """Measure what is waiting, and give the sums of the shard."""
        self._measure()
        return tuple(float(sum(column)) for column in zip(*self.sums, strict=True))


class Rows:
    """Rows out of blocks of any size, as many at a time as are asked for."""

    def __init__(self, blocks: Iterable[NDArray[Any]], classes: int, *, skip: int) -> None:
        self.blocks: Iterator[NDArray[Any]] = iter(blocks)
        self.classes, self.skip = classes, skip
        self.block = np.empty((0, classes), np.float32)

    def _next(self) -> bool:
        block = next(self.blocks, None)
        if block is None:
            return False
        values = np.asarray(block)
        if values.ndim != 2 or values.shape[1] != self.classes:
            raise MismatchError(
                f"the teacher's answers have shape {values.shape}, and there are {self.classes} classes: "
                f"(rows, {self.classes}) is needed"
            )
        dropped = min(self.skip, len(values))
        self.skip -= dropped
        self.block = values[dropped:]
        return True

    def take(self, count: int, row: int) -> NDArray[np.float32]:
        """The next ``count`` rows, float32; ``row`` is the first one's number, for the message."""
        parts: list[NDArray[Any]] = []
        missing = count
        while missing:
            if not len(self.block) and not self._next():
                raise DataError(f"the answers end after {row + count - missing} rows: more are needed")
            part, self.block = self.block[:missing], self.block[missing:]
            missing -= len(part)
            # Copied where another block follows: a caller may use the memory of a block again.
            parts.append(part.copy() if missing else part)
        scores = parts[0] if len(parts) == 1 else np.concatenate(parts)
        return np.ascontiguousarray(scores, np.float32)

    def end(self, rows: int) -> None:
        """Make sure that nothing is left."""
        while not len(self.block):
            if not self._next():
                return
        raise DataError(f"there are more answers than the {rows} rows that were announced")


class Ahead:
    """Blocks whose first rows can be looked at before they are drawn."""

    def __init__(self, blocks: Blocks, classes: int) -> None:
        self.blocks, self.classes = blocks, classes

    def look(self, count: int) -> NDArray[np.float32]:
        """The first ``count`` rows; they come again when the blocks are drawn."""
        given = self.blocks
        rows = Rows(given(0) if callable(given) else given, self.classes, skip=0)
        found = rows.take(count, 0).copy()  # a caller may use the memory of a block again
        if not callable(given):
            self.blocks = chain([found, rows.block], rows.blocks)
        return found

    def rows(self, first: int) -> Rows:
        """The rows from one on."""
        given = self.blocks
        return Rows(given(first) if callable(given) else given, self.classes, skip=0 if callable(given) else first)
