"""Labels in tabular files: one per row, or multi-label.

Multi-label data are lists in each row, strings with a separator, or a column of 0 and 1 per label.

Axes: ``N`` rows, ``L`` labels.
"""

__all__ = [
    "LabelColumns",
    "Labels",
    "NumberedLabels",
    "class_labels",
    "number_labels",
    "refuse_many_numbers",
    "sorted_names",
]

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from limbeck.data.data_set import DataSet
from limbeck.data.examples import Examples
from limbeck.data.label_numbers import check_numbers
from limbeck.data.source import Source
from limbeck.errors import DataError, FormatError
from limbeck.options import DataOptions

_MOST_NUMBERS = 100
"""Different whole numbers above which they may be amounts, where half of the rows have one of their own."""
_TRUTH = {"0": 0, "1": 1, "false": 0, "true": 1, "0.0": 0, "1.0": 1}
_REGRESSION = "classes are needed, and regression is not supported: bin the numbers into classes"


@dataclass(frozen=True)
class LabelColumns:
    """Which columns of a file hold labels.

    Attributes:
        column: The column of labels; None where there are none, or a column for each.
        columns: Columns of 0 and 1, one per label.
        separator: What separates the labels in a text of :attr:`column`; None where it holds one label, or a list.
    """

    column: str | None = "label"
    columns: tuple[str, ...] = ()
    separator: str | None = None

    @classmethod
    def of(cls, options: DataOptions, usual: str = "label") -> "LabelColumns":
        """The columns that settings name; the usual one where they name none."""
        if options.label_columns is not None:
            return cls(None, options.label_columns)
        return cls(options.label_column or usual, (), options.label_separator)

    @property
    def names(self) -> tuple[str, ...]:
        """All columns that are read."""
        return self.columns if self.column is None else (self.column,)

    def read(self, file: Path, values: Mapping[str, Sequence[Any]], where: Callable[[int], str]) -> "Labels":
        """The labels of all rows.

        Args:
            file: For messages.
            values: Of :attr:`names`.
            where: Says where a row is.

        Returns:
            The labels.

        Raises:
            FormatError: If one is missing, or of a kind that labels cannot have.
        """
        if self.column is None:
            held = [[_held(file, where(row), name, v) for row, v in enumerate(values[name])] for name in self.columns]
            rows = [
                tuple(n for n, flag in zip(self.columns, row, strict=True) if flag) for row in zip(*held, strict=True)
            ]
            return Labels(file, None, rows, self.columns)
        column = values[self.column]
        lists = [isinstance(value, list | tuple | np.ndarray) for value in column]
        if self.separator is not None or any(lists):
            split = [
                _split(file, where(row), self.column, value, self.separator, listed)
                for row, (value, listed) in enumerate(zip(column, lists, strict=True))
            ]
            return Labels(file, None, split, None)
        try:
            return Labels(file, class_labels(column), None, None)
        except _WrongLabel as error:
            said = f"{where(error.row)} has {error.said} in column {self.column!r}{error.cure}"
            raise FormatError(file, said) from error
        except DataError as error:
            raise FormatError(
                file, f"column {self.column!r} {str(error).removeprefix('the labels ').replace('hold ', 'holds ', 1)}"
            ) from error


@dataclass(frozen=True, eq=False)
class Labels:
    """The labels of a file's rows, of which exactly one of two forms is there.

    Attributes:
        file: Where they are from, for messages.
        single: One of each row.
        several: Those that hold of each row.
        names: All labels in order, where the file says them.
    """

    file: Path
    single: Sequence[str | int] | None
    several: Sequence[tuple[str, ...]] | None
    names: tuple[str, ...] | None

    def each(self) -> Iterator[str]:
        """Every label of every row, as text."""
        if self.single is not None:
            yield from map(str, self.single)
        for row in self.several or ():
            yield from row

    def take(self, rows: Sequence[int]) -> "Labels":
        """The labels of some rows."""
        single = None if self.single is None else [self.single[row] for row in rows]
        several = None if self.several is None else [self.several[row] for row in rows]
        return replace(self, single=single, several=several)

    def renamed(self, names: Sequence[str] | None) -> "Labels":
        """Labels that are numbers of known classes, by their names."""
        if names is None:
            return self
        known = {str(number): name for number, name in enumerate(names)}
        single = None if self.single is None else [known.get(str(label), label) for label in self.single]
        several = None if self.several is None else [tuple(known.get(x, x) for x in row) for row in self.several]
        return replace(self, single=single, several=several)


@dataclass(frozen=True, eq=False)
class NumberedLabels:
    """Labels of several parts as numbers.

    Attributes:
        names: Of the classes, or of the labels of which several may hold.
        values: By part: classes int64 ``(N,)``, or whether each label holds, uint8 ``(N, L)``.
        several: Whether several may hold.
    """

    names: tuple[str, ...]
    values: Mapping[str, Tensor]
    several: bool

    def examples(self, part: str, inputs: Tensor | Source, names: Sequence[Any] | None = None) -> Examples:
        """The examples of a part.

        Args:
            part: Which.
            inputs: Its inputs.
            names: Of its rows, or None.

        Returns:
            Examples; of each row one per label where several may hold.
        """
        if not self.several:
            return Examples.of(inputs, self.values[part]).named(names)
        found = Examples.of_labels(inputs, self.values[part], names=self.names)
        return found.named(None if names is None else [name for name in names for _ in self.names])

    def data_set(self, name: str, parts: Mapping[str, Examples], **more: Any) -> DataSet:
        """The data set of parts that :meth:`examples` gave."""
        classes = ("no", "yes") if self.several else self.names
        return DataSet(name, classes, parts["train"], parts.get("test"), parts.get("validation"), **more)


def number_labels(
    read: Mapping[str, Labels], place: Path, classes: Sequence[str] | None = None, *, every: bool = True
) -> NumberedLabels:
    """Number the labels of all parts alike.

    Args:
        read: The labels by part.
        place: What to call all of them in a message.
        classes: Names, in order; None for the labels that there are, sorted: numbers by size, before others.
        every: Whether validation and test rows may have no label that no training row has.

    Returns:
        The numbers, and the names in their order.

    Raises:
        FormatError: If there are fewer than two classes, a label is not among ``classes``, a part has a label that no
            training row has, or one part has several labels per row and another one.
    """
    several = read["train"].several is not None
    odd = next((each for each in read.values() if (each.several is not None) != several), None)
    if odd is not None:
        raise FormatError(
            odd.file,
            f"has {'one label' if several else 'several labels'} in each row, and the training rows have "
            f"{'several' if several else 'one'}",
        )
    if classes is None and read["train"].names is None:
        _check_numbers(read)
    taught = set(read["train"].each())
    if classes is None and read["train"].names is None and every:
        for each in read.values():
            unknown = next((label for label in each.each() if label not in taught), None)
            if unknown is not None:
                raise FormatError(each.file, f"has the label {unknown!r}, which no training row has")
    found = classes or read["train"].names
    if found is None:
        labels = [label for each in read.values() for label in each.each()]
        found = sorted_names(labels, place, least=1 if several else 2)
    numbers = {name: number for number, name in enumerate(map(str, found))}
    for each in read.values():
        unknown = next((label for label in each.each() if label not in numbers), None)
        if unknown is not None:
            raise FormatError(
                each.file, f"has the label {unknown!r}, which is not among the classes {', '.join(numbers)[:200]}"
            )
    values = {part: _numbers(each, numbers) for part, each in read.items()}
    return NumberedLabels(tuple(numbers), values, several)


def _check_numbers(read: Mapping[str, Labels]) -> None:
    """Refuse negative numbers, where the labels are numbers."""
    taught = read["train"].single
    for part, each in read.items():
        if each.single is not None and all(isinstance(label, int) for label in each.single):
            try:
                check_numbers(each.single, str(each.file), taught=None if part == "train" else taught)
            except DataError as error:
                raise FormatError(each.file, str(error)) from error


def _numbers(labels: Labels, numbers: Mapping[str, int]) -> Tensor:
    if labels.single is not None:
        return torch.tensor([numbers[str(label)] for label in labels.single], dtype=torch.int64)
    rows = labels.several or ()
    truth = np.zeros((len(rows), len(numbers)), np.uint8)
    for row, those in enumerate(rows):
        truth[row, [numbers[label] for label in those]] = 1
    return torch.from_numpy(truth)


class _WrongLabel(DataError):
    def __init__(self, row: int, said: str, cure: str = "") -> None:
        super().__init__(f"row {row} has {said}{cure}")
        self.row, self.said, self.cure = row, said, cure


def class_labels(values: Sequence[Any]) -> list[str | int]:
    """Labels as strings or whole numbers, whatever they came as.

    Args:
        values: Strings, whole numbers, such as floats without a fraction, or booleans.

    Returns:
        The labels: whole numbers where all are, also where they are written as strings.

    Raises:
        DataError: If one is missing, or of another kind; or all are numbers and some are not whole.
    """  # noqa: DOC501
    found: list[str | int] = []
    for row, value in enumerate(values):
        if value is None or value != value or value == "":
            raise _WrongLabel(row, "no label")
        if isinstance(value, bool | str):
            found.append(str(value))
        elif isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
            found.append(int(value))
        elif isinstance(value, float):
            raise _WrongLabel(row, f"the label {value!r:.60}", f": {_REGRESSION}")
        else:
            raise _WrongLabel(row, f"the label {value!r:.60}", ": a string or a whole number is needed")
    _refuse_amounts(found)
    return found


def _refuse_amounts(labels: Sequence[str | int]) -> None:
    """Refuse numbers that are no classes: some are not whole."""
    different = set(map(str, labels))
    numbers = [_number(label) for label in different]
    known = [number for number in numbers if number is not None]
    if len(known) < len(numbers):
        return
    odd = next((label for label in labels if not float(label).is_integer()), None)
    if odd is not None:
        raise DataError(f"the labels hold {odd!r} and other numbers that are not whole: {_REGRESSION}")


def refuse_many_numbers(labels: Sequence[str | int]) -> None:
    """Refuse whole numbers of which most rows have one of their own: they are amounts, as a table's columns may be.

    Args:
        labels: Of all rows.

    Raises:
        DataError: If they are.
    """
    different = set(labels)
    if all(isinstance(label, int) for label in different) and len(different) > max(_MOST_NUMBERS, len(labels) // 2):
        raise DataError(f"holds {len(different)} different numbers: {_REGRESSION}")


def _number(label: str) -> float | None:
    try:
        found = float(label)
    except ValueError:
        return None
    return found if np.isfinite(found) else None


def sorted_names(labels: Sequence[str | int], place: Path, *, least: int = 2) -> tuple[str, ...]:
    """Names of the classes that labels name, sorted: numbers by size, before other names.

    Args:
        labels: Of all examples.
        place: Where they are from, for messages.
        least: How many there must be.

    Returns:
        The names.

    Raises:
        FormatError: If there are fewer.
    """
    names = {str(label) for label in labels}
    if len(names) < least:
        raise FormatError(place, f"has {len(names)} class: at least two are needed" if least > 1 else "has no label")
    return tuple(sorted(names, key=_rank))


def _rank(name: str) -> tuple[bool, int, str]:
    """Numbers by size and before other names."""
    number = name.lstrip("-").isascii() and name.lstrip("-").isdigit()
    return not number, int(name) if number else 0, name


def _held(file: Path, where: str, column: str, value: Any) -> int:
    """0 or 1 of a column that says whether a label holds."""
    found = _TRUTH.get(str(value).strip().lower())
    if found is None:
        missing = value is None or value != value or value == ""
        shown = "nothing" if missing else f"{value!r:.60}"
        raise FormatError(file, f"{where} has {shown} in column {column!r}, and 0 or 1 is needed: whether it holds")
    return found


def _split(file: Path, where: str, column: str, value: Any, separator: str | None, listed: bool) -> tuple[str, ...]:
    """The labels that hold of a row: none, or several."""
    if listed:
        inside = list(value)
    elif separator is not None and (value is None or value != value):
        inside = []
    elif separator is not None and isinstance(value, str | int):
        inside = [text.strip() for text in str(value).split(separator) if text.strip()]
    else:
        raise FormatError(file, f"{where} has {value!r:.60} in column {column!r}, and other rows have lists of labels")
    try:
        found = [str(label) for label in class_labels(inside)]
    except DataError as error:
        said, cure = (error.said, error.cure) if isinstance(error, _WrongLabel) else (str(error), "")
        raise FormatError(file, f"{where} has {said} in column {column!r}{cure}") from error
    return tuple(dict.fromkeys(found))
