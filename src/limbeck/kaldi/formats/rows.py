"""Rows of numbers out of Kaldi text that comes in chunks; every row must have as many as the first."""

__all__ = ["RowParser"]

import re

import numpy as np
from numpy.typing import DTypeLike, NDArray

from limbeck.kaldi.formats.numbers import (
    CLASSES,
    DIGIT,
    DOT,
    FOLLOWERS,
    MINUS,
    NUMBER,
    SPACE,
    are_spaces,
    find_marks,
    find_ties,
    numbers_from_text,
    parse_short_numbers,
    rounded_once,
)

_BARE_DOT = re.compile(rb"-\.(?![0-9])")  # which numpy takes for an integer once the dot is gone


class RowParser:
    """Rows of numbers out of chunks of text, each chunk cut at white space.

    Args:
        dtype: float32 or float64.
        one_line: True for a vector, in which Kaldi allows no new line.

    Attributes:
        rows: Finished rows so far.
        columns: Numbers in every row, or None before the first.
    """

    def __init__(self, dtype: DTypeLike = np.float32, *, one_line: bool = False) -> None:
        self.dtype = np.dtype(dtype)
        self.rows = 0
        self.columns: int | None = None
        self._one_line = one_line
        self._unfinished = 0  # numbers in the row that the last chunk left open
        self._parts: list[NDArray[np.floating]] = []

    def feed(self, chunk: bytes) -> tuple[str, int] | None:
        """Parse one chunk.

        Args:
            chunk: Bytes whose first and last number are whole; ``;`` ends a row as a new line does.

        Returns:
            None, or what is wrong and its position in the chunk.
        """
        if not chunk:
            return None
        if self._one_line:
            newline = chunk.find(b"\n")
            if newline >= 0:
                return "a new line inside a vector: its numbers must be on one line", newline
        elif b";" in chunk:
            chunk = chunk.replace(b";", b"\n")
        classes = np.frombuffer(chunk.translate(CLASSES), np.uint8)
        wrong = self._misplaced(chunk, classes)
        if wrong is not None:
            return _describe(chunk, wrong), wrong
        marks = find_marks(classes)
        ends = marks[are_spaces(classes, marks)]
        ragged = self._count_rows(chunk, ends)
        if ragged is not None:
            return ragged
        return self._parse(chunk, classes, marks, ends) if ends.size else None

    def finish(self) -> str | None:
        """End the last row.

        Returns:
            None, or what is wrong with it.
        """
        if self._unfinished:
            return self._add_rows(np.array([self._unfinished]))
        return None

    def values(self) -> NDArray[np.floating]:
        """Return all numbers in order, ``(rows * columns,)``, in memory of their own."""
        return np.concatenate(self._parts) if self._parts else np.empty(0, self.dtype)

    @staticmethod
    def _misplaced(chunk: bytes, classes: NDArray[np.uint8]) -> int | None:
        """Return the place of a byte that may not follow the one before it."""
        follow = np.frombuffer(chunk.translate(FOLLOWERS), np.uint8)
        if not classes[0] & (SPACE | DIGIT | MINUS):
            return 0
        if b"-." in chunk and (bare := _BARE_DOT.search(chunk)) is not None:
            return bare.start()
        allowed = follow[:-1] & classes[1:]
        if not allowed.all():
            return int(np.flatnonzero(allowed == 0)[0]) + 1
        return None if classes[-1] & (SPACE | DIGIT | DOT) else len(chunk) - 1

    def _count_rows(self, chunk: bytes, ends: NDArray[np.intp]) -> tuple[str, int] | None:
        if b"\n" not in chunk:
            self._unfinished += ends.size
            return None
        newlines = np.flatnonzero(np.frombuffer(chunk, np.uint8) == 10)
        counts = np.diff(np.searchsorted(ends, newlines, side="right"), prepend=0, append=ends.size)
        counts[0] += self._unfinished
        self._unfinished = int(counts[-1])
        reason = self._add_rows(counts[:-1])
        return None if reason is None else (reason, 0)

    def _add_rows(self, counts: NDArray[np.intp]) -> str | None:
        counts = counts[counts > 0]
        if counts.size == 0:
            return None
        if self.columns is None:
            self.columns = int(counts[0])
        if (counts != self.columns).any():
            row = int(np.flatnonzero(counts != self.columns)[0])
            return (
                f"row {self.rows + row} (counted from 0) has {int(counts[row])} numbers, and the rows "
                f"before it have {self.columns}"
            )
        self.rows += counts.size
        return None

    def _parse(
        self, chunk: bytes, classes: NDArray[np.uint8], marks: NDArray[np.intp], ends: NDArray[np.intp]
    ) -> tuple[str, int] | None:
        values = parse_short_numbers(chunk, classes, marks, ends)
        if values is None:
            values = numbers_from_text(chunk, np.float64)
        if values.size != ends.size:  # such as 1e5e6 or 1.2.3, whose neighbours are all allowed
            place = next((m.start() for m in re.finditer(rb"\S+", chunk) if not NUMBER.fullmatch(m[0])), 0)
            return _describe(chunk, place), place
        with np.errstate(over="ignore"):
            parsed = values.astype(self.dtype)
        if self.dtype == np.float32:
            ties = find_ties(values)
            if ties.size:
                tokens = chunk.split()
                for index in ties.tolist():
                    parsed[index] = rounded_once(tokens[index], float(values[index]))
        finite = np.isfinite(parsed)
        if not finite.all():
            token = chunk.split()[int(np.flatnonzero(~finite)[0])]
            return f"{token[:40].decode()} is too large for {self.dtype}", chunk.find(token)
        self._parts.append(parsed)
        return None


def _describe(chunk: bytes, place: int) -> str:
    """Return which token is not a number; the place is any byte of it, or the space that ends it."""
    before = re.search(rb"\S*\Z", chunk[max(0, place - 40) : place])
    after = re.match(rb"\S*", chunk[place : place + 40])
    token = (before[0] if before else b"") + (after[0] if after else b"")
    hint = ""
    if token.lower().lstrip(b"+-") in (b"inf", b"infinity", b"nan"):
        hint = ", and every weight must be finite"
    elif token[:1] in (b"+", b"."):
        hint = ": a number starts with a digit or '-'"
    return f"{token.decode('ascii', 'backslashreplace')!r} is not a decimal number{hint}"
