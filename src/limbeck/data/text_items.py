"""Texts from collections of items: pairs (text, label), mappings with a text field, Hugging Face data sets.

Axes: ``N`` examples.
"""

__all__ = ["ArrowStrings", "TextFields", "are_texts", "read_texts", "text_fields"]

import importlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from limbeck.data.examples import Examples
from limbeck.data.item_source import example_seed
from limbeck.data.parsing import INPUT_KEYS, LABEL_KEYS, NAMES_OF_ITEMS
from limbeck.data.text import Strings, Text
from limbeck.errors import DataError

_PAIRS = (("text", "text_pair"), ("sentence1", "sentence2"), ("premise", "hypothesis"), ("question1", "question2"),
          ("question", "sentence"))  # fmt: skip
"""Names under which data sets have the two texts of an example."""
_READ_TWICE = 32
"""Items that are compared with a second reading."""
_AT_A_TIME = 1000
"""Rows of a table that are looked at together."""


@dataclass(frozen=True)
class TextFields:
    """Where an item has its text, the second text where there are two, and its label.

    Attributes:
        text: The key or the place.
        pair: The key or the place of the second text, or None.
        label: The key or the place of the label, or None.
    """

    text: Any
    pair: Any = None
    label: Any = None


def are_texts(given: Any) -> bool:
    """Whether something is a sequence of strings, such as a column of a DataFrame.

    Args:
        given: Anything.

    Returns:
        Whether it is; a string is not.

    Example:
        >>> are_texts(["a text", "another"]), are_texts("a text"), are_texts([1, 2])
        (True, False, False)
    """
    if isinstance(given, str | bytes | Mapping | Tensor) or not hasattr(given, "__len__") or hasattr(given, "tocsr"):
        return False  # sparse matrices, which are no texts, have no length either
    if not len(given):
        return False
    return hasattr(given, "__iter__") and isinstance(next(iter(given)), str)


def text_fields(item: Any) -> TextFields | None:
    """Where an item has its text.

    Args:
        item: A mapping, or a pair of text and label.

    Returns:
        The fields; None where an item is not a text, or it cannot be said which of its strings is.

    Example:
        >>> text_fields({"review": "a good book", "label": 1, "idx": 7})
        TextFields(text='review', pair=None, label='label')
        >>> text_fields(("a good book", 1)), text_fields({"input_ids": [1], "text": "a"})
        (TextFields(text=0, pair=None, label=1), None)
    """
    if isinstance(item, list | tuple):
        found = len(item) == 2 and isinstance(item[0], str) and not isinstance(item[1], str)
        return TextFields(0, None, 1) if found else None
    if not isinstance(item, Mapping) or any(key in INPUT_KEYS for key in item):
        return None
    labels = [key for key in item if key in LABEL_KEYS]
    others = [key for key in item if key not in (*LABEL_KEYS, *NAMES_OF_ITEMS)]
    if len(labels) > 1 or not others or not all(isinstance(item[key], str) for key in others):
        return None
    label = labels[0] if labels else None
    if len(others) == 1:
        return TextFields(others[0], None, label)
    pair = next((each for each in _PAIRS if set(each) == set(others)), None)
    return None if pair is None else TextFields(*pair, label)


def read_texts(given: Iterable[Any], fields: TextFields, kind: str) -> Examples:
    """The examples of a collection of texts; the rows of a Hugging Face data set stay on the disk.

    Args:
        given: The collection.
        fields: Where each item has its text and its label.
        kind: What the collection is called in a message.

    Returns:
        The examples, whose inputs are :class:`~limbeck.data.text.Text`.

    Raises:
        DataError: If an item has no text, or some have a label and others none.
    """
    columns: dict[str, Any] = {"text": fields.text, "pair": fields.pair, "label": fields.label}
    try:
        found = _columns(given, columns, kind)
        inputs = Text(found["text"], found["pair"])
    except DataError as error:
        if isinstance(error, _Unreadable):
            raise
        raise DataError(f"{kind}: {error}") from error
    labels = found["label"]
    without = [] if labels is None else [row for row, label in enumerate(labels) if label is None]
    if labels is not None and without and len(without) < len(labels):
        raise DataError(f"item {without[0]} of the {kind} has no label, and others have one")
    return Examples.of(inputs, None if labels is None or without else labels)


class _Unreadable(DataError):
    """What is wrong with an item, which the message names."""


def _columns(given: Any, columns: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Texts, second texts and labels, each None where there are none."""
    if _is_table(given):
        return {name: None if key is None else _column(given, key, name) for name, key in columns.items()}
    with example_seed(0):
        rows = list(_rows(given, columns, kind))
    _refuse_random(given, columns, rows, kind)
    held = {name: [row[place] for row in rows] for place, name in enumerate(columns)}
    return {name: values if columns[name] is not None else None for name, values in held.items()}


def _is_table(given: Any) -> bool:
    """Whether something is a Hugging Face data set whose rows are what the table holds, and no transform's."""
    if not hasattr(given, "select_columns") or not hasattr(given, "with_format") or not hasattr(given, "__len__"):
        return False
    return bool(given.format.get("type") != "custom")


def _column(given: Any, key: str, name: str) -> Any:
    return list(given.with_format(None)[key]) if name == "label" else ArrowStrings(given, key)


def _rows(given: Any, columns: Mapping[str, Any], kind: str) -> Iterator[list[Any]]:
    items = map(given.__getitem__, range(len(given))) if hasattr(given, "__len__") else iter(given)
    number = 0
    while True:
        try:
            item = next(items)
        except StopIteration:
            return
        except DataError as error:
            raise _Unreadable(str(error)) from error
        except Exception as error:  # whatever the user's data set raises
            reason = " ".join(str(error).split())[:200]
            raise _Unreadable(
                f"item {number} of the {kind} cannot be read: {type(error).__name__}: {reason}"
            ) from error
        try:
            yield [None if key is None else item[key] for key in columns.values()]
        except (KeyError, IndexError, TypeError) as error:
            raise _Unreadable(
                f"item {number} of the {kind} has other fields than item 0: {_shown_item(item)}"
            ) from error
        number += 1


def _refuse_random(given: Any, columns: Mapping[str, Any], rows: Sequence[Any], kind: str) -> None:
    """Texts are read once, so what draws would be the same text in each epoch."""
    if not hasattr(given, "__len__"):
        return
    for number in range(0, len(rows), -(-len(rows) // _READ_TWICE)):
        with example_seed(1):
            again = given[number]
        if any(again[key] != rows[number][place] for place, key in enumerate(columns.values()) if key is not None):
            raise _Unreadable(
                f"item {number} of the {kind} differs when it is read again: texts are read once, so give them as they "
                "are, or as token ids that the data set makes"
            )


def _shown_item(item: Any) -> str:
    """What an item is, in few words."""
    return f"the keys {', '.join(map(str, item))}" if isinstance(item, Mapping) else f"a {type(item).__name__}"


class ArrowStrings(Strings):
    """A column of strings of a Hugging Face data set, read from its Arrow table when it is asked for.

    Args:
        table: The data set.
        column: The column's name.
        rows: Which rows, int64; None for all.

    Raises:
        DataError: If a text is missing, or the column holds none.
    """

    def __init__(self, table: Any, column: str, rows: NDArray[np.int64] | None = None) -> None:
        self.table = table.select_columns([column]).with_format("arrow")
        self.column, self.rows = column, np.arange(len(table)) if rows is None else rows
        if rows is None:
            lengths = [self._lengths(part, start) for start, part in self._parts()]
            self.sizes: NDArray[np.int64] = np.concatenate([np.zeros(0, np.int64), *lengths])

    def _lengths(self, part: Any, start: int) -> NDArray[np.int64]:
        pyarrow, compute = (importlib.import_module(name) for name in ("pyarrow", "pyarrow.compute"))
        if not (pyarrow.types.is_string(part.type) or pyarrow.types.is_large_string(part.type)):
            raise DataError(f"column {self.column!r} is of type {part.type}, and texts are needed")
        if part.null_count:
            row = start + int(np.asarray(part.is_null()).argmax())
            raise DataError(f"text {row} is missing: fill it in, or leave the example out")
        return np.asarray(compute.binary_length(part)).astype(np.int64)

    def _parts(self) -> Iterator[tuple[int, Any]]:
        """The column's rows in order, some at a time, each with the place of its first."""
        for start in range(0, len(self.rows), _AT_A_TIME):
            yield start, self._read(self.rows[start : start + _AT_A_TIME])

    def _read(self, rows: NDArray[np.int64]) -> Any:
        follow = len(rows) and rows[-1] - rows[0] == len(rows) - 1 and bool((np.diff(rows) == 1).all())
        found = self.table[int(rows[0]) : int(rows[-1]) + 1] if follow else self.table[rows.tolist()]
        return found[self.column]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: Any) -> Any:
        if isinstance(row, slice):
            chosen = self.rows[row]
            return self._read(chosen).to_pylist() if len(chosen) else []
        if row < 0 or row >= len(self):
            raise IndexError(row)
        return self._read(self.rows[row : row + 1])[0].as_py()

    def __iter__(self) -> Iterator[str]:
        for _, part in self._parts():
            yield from part.to_pylist()

    def select(self, rows: Sequence[int]) -> "ArrowStrings":
        """Some of the strings."""
        chosen = np.asarray(rows, np.int64)
        found = ArrowStrings(self.table, self.column, self.rows[chosen])
        found.sizes = self.sizes[chosen]
        return found

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Bytes of each string, int64 ``(N,)``."""
        return self.sizes

    def content(self) -> Iterator[bytes | memoryview]:
        """Where each string ends, and their bytes: those of the same strings in memory."""
        yield np.concatenate([[0], self.sizes.cumsum()]).astype(np.int64).tobytes()
        for _, part in self._parts():
            yield "".join(part.to_pylist()).encode()
