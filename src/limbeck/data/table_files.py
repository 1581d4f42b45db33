"""Data sets out of tables: CSV and parquet files, or DataFrames, with a column of labels.

Axes: ``N`` rows.
"""

__all__ = ["examples_of_frame", "is_frame", "open_table", "open_table_inputs"]

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from limbeck.data.data_set import DataSet
from limbeck.data.examples import Examples
from limbeck.data.table import Table
from limbeck.errors import ConfigError, DataError, FormatError
from limbeck.formats.frames import read_frame

_LABELS = ("label", "labels", "class", "target", "y")


def is_frame(given: Any) -> bool:
    """Whether something is a ``pandas.DataFrame``, or behaves as one.

    Args:
        given: Anything.

    Returns:
        Whether it is.

    Example:
        >>> is_frame({"columns": 1})
        False
    """
    return hasattr(given, "columns") and hasattr(given, "iloc") and hasattr(given, "dtypes")


def examples_of_frame(frame: Any, labels: Any = None) -> Examples:
    """Examples of the rows of a DataFrame.

    Args:
        frame: The columns that models see.
        labels: Class numbers ``(N,)``, or None.

    Returns:
        The examples.
    """
    if hasattr(labels, "to_numpy"):
        labels = labels.to_numpy()
    return Examples.of(Table.of(frame), labels)


def open_table(
    path: str | Path,
    *,
    label_column: str | None = None,
    group_column: str | None = None,
    leave_out: Sequence[str] = (),
    validation: str | Path | None = None,
    test: str | Path | None = None,
) -> DataSet:
    """Read a table as a data set. The classes are the labels in order: of numbers by size, of texts by letters.

    Args:
        path: A CSV or parquet file.
        label_column: The column of labels; None for label, labels, class, target or y.
        group_column: A column that says which rows belong together, such as a patient: these are never divided, and
            verdicts count them as one.
        leave_out: Columns that models do not see.
        validation: A table of validation rows.
        test: A table of test rows.

    Returns:
        The data set.

    Raises:
        FormatError: If a file cannot be used; the message names it.
        ConfigError: If a column is named that there is not.
    """
    given = {"train": path, "validation": validation, "test": test}
    frames = {part: read_frame(place) for part, place in given.items() if place is not None}
    label = _label_column(path, frames["train"], label_column)
    classes: list[Any] | None = None
    parts: dict[str, Examples] = {}
    for part, frame in frames.items():
        place = given[part]
        assert place is not None, "frames are of the files given"
        _require(place, frame, [label, *([] if group_column is None else [group_column]), *leave_out])
        found = frame[label]
        if found.isna().any():
            row = int(np.argmax(found.isna().to_numpy()))
            raise FormatError(place, f"row {row} has no label in column {label!r}: give one, or leave the row out")
        if classes is None:
            classes = _classes(place, label, found)
        number = {value: k for k, value in enumerate(classes)}
        unknown = next((value for value in found if value not in number), None)
        if unknown is not None:
            raise FormatError(place, f"has the label {unknown!r} in column {label!r}, which no training row has")
        numbers = torch.tensor([number[value] for value in found])
        parts[part] = Examples.of(_table(place, frame, label, group_column, leave_out), numbers)
    names = tuple(str(value) for value in classes or ())
    try:
        return DataSet(Path(path).stem, names, parts["train"], parts.get("test"), parts.get("validation"))
    except DataError as error:
        raise FormatError(path, str(error).removeprefix(f"{Path(path).stem}: ")) from error


def open_table_inputs(
    path: str | Path,
    *,
    label_column: str | None = None,
    group_column: str | None = None,
    leave_out: Sequence[str] = (),
) -> Examples:
    """Read the rows of a table whose labels are not wanted.

    Args:
        path: A CSV or parquet file.
        label_column: A column of labels, which is left out where the table has it.
        group_column: As for :func:`open_table`.
        leave_out: Likewise.

    Returns:
        The examples, without labels.
    """
    frame = read_frame(path)
    present = [name for name in (label_column, *leave_out) if name is not None and name in frame.columns]
    groups = group_column if group_column in frame.columns else None
    return Examples.of(_table(path, frame, None, groups, present))


def _table(path: str | Path, frame: Any, label: str | None, group: str | None, leave_out: Sequence[str]) -> Table:
    aside = {label, group, *leave_out} & set(frame.columns)
    groups: Tensor | None = None
    if group is not None:
        if frame[group].isna().any():
            raise FormatError(path, f"column {group!r} has gaps, and every row needs its group")
        groups = torch.from_numpy(np.unique(frame[group].astype(str), return_inverse=True)[1].astype(np.int64))
    try:
        return Table.of(frame.drop(columns=list(aside)), group=groups)
    except DataError as error:
        raise FormatError(path, str(error)) from error


def _label_column(path: str | Path, frame: Any, named: str | None) -> str:
    if named is not None:
        _require(path, frame, [named])
        return named
    found = [column for column in frame.columns if column.lower() in _LABELS]
    if len(found) != 1:
        raise ConfigError(
            f"{path}: which column holds the labels? Name it with label_column (--label-column); there are "
            f"{', '.join(list(frame.columns)[:12])}"
        )
    return str(found[0])


def _require(path: str | Path, frame: Any, columns: Sequence[str]) -> None:
    for column in columns:
        if column not in frame.columns:
            raise ConfigError(f"{path} has no column {column!r}: it has {', '.join(list(frame.columns)[:12])}")


def _classes(path: str | Path, label: str, column: Any) -> list[Any]:
    values = column.unique().tolist()
    if column.dtype.kind == "f" and any(value != int(value) for value in values):
        raise FormatError(
            path,
            f"column {label!r} holds {values[0]!r} and other numbers that are not whole: classes are needed, and "
            "regression is not known here",
        )
    if column.dtype.kind in "iu" and len(values) > max(100, len(column) // 2):
        raise FormatError(path, f"column {label!r} has {len(values)} different numbers: classes are needed")
    return sorted(values) if column.dtype.kind in "iufb" else sorted(values, key=str)
