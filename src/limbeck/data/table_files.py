"""Data sets from tables: CSV and parquet files, or DataFrames, with a label column.

Axes: ``N`` rows.
"""

__all__ = ["examples_of_frame", "is_frame", "open_table", "open_table_inputs"]

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from limbeck.data.data_set import DataSet
from limbeck.data.examples import Examples
from limbeck.data.label_columns import LabelColumns, Labels, number_labels, refuse_many_numbers
from limbeck.data.part_sources import part_sources, require_columns, whole_name
from limbeck.data.table import Table
from limbeck.errors import ConfigError, DataError, FormatError
from limbeck.formats.column_names import listed_columns, no_column
from limbeck.formats.in_memory import class_names, source_name, values_of
from limbeck.formats.pandas_files import read_frame, refuse_written_gaps
from limbeck.system.callbacks import warn_user
from limbeck.system.extras import load_extra

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
    table = Table.of(frame)
    for doubt in table.doubts():
        warn_user(doubt)
    return Examples.of(table, labels)


def open_table(
    path: Any,
    *,
    label_column: str | None = None,
    label_columns: Sequence[str] | None = None,
    label_separator: str | None = None,
    group_column: str | None = None,
    id_column: str | None = None,
    category_columns: Sequence[str] = (),
    leave_out: Sequence[str] = (),
    validation: Any = None,
    test: Any = None,
) -> DataSet:
    """Read a table as a data set. The classes are the labels in order: of numbers by size, of texts by letters.

    Args:
        path: A CSV or parquet file; a folder with files ``train``, and where there are such ``validation`` and
            ``test``; or a DataFrame, a data set of Hugging Face, or a mapping of such by the names of parts.
        label_column: The column of labels; None for label, labels, class, target or y.
        label_columns: Instead: columns of 0 and 1, one per label, where several labels may hold at a time.
        label_separator: What separates several labels in a text of the label column, such as ";".
        group_column: A column that says which rows belong together, such as a patient: these are never divided, and
            verdicts count them as one.
        id_column: A column that names the rows, which models do not see.
        category_columns: Columns whose numbers are codes of categories, and not quantities.
        leave_out: Columns that models do not see.
        validation: A table of validation rows.
        test: A table of test rows.

    Returns:
        The data set.

    Raises:
        FormatError: If a file cannot be used; the message names it.
        ConfigError: If the column of labels cannot be told, or a part is there twice.
    """  # noqa: DOC501, DOC502
    sources = part_sources(path, validation, test)
    named = [*(label_columns or ()), label_column, group_column, id_column, *category_columns, *leave_out]
    require_columns(sources, named)
    place = whole_name(path)
    frames = {part: _with_categories(read_frame(source), category_columns) for part, source in sources.items()}
    labelled = (
        LabelColumns(None, tuple(label_columns))
        if label_columns is not None
        else LabelColumns(_label_column(place, frames["train"], label_column), (), label_separator)
    )
    _refuse_other_columns(sources, frames)
    labels: dict[str, Labels] = {}
    for part, frame in frames.items():
        file = source_name(sources[part])
        _require(file, frame, [*labelled.names, *named])
        refuse_written_gaps(sources[part], frame, labelled.names)
        columns = {name: values_of(frame, name) for name in labelled.names}
        labels[part] = _labels(file, labelled, columns).renamed(class_names(sources[part], labelled.column))
    numbered = number_labels(labels, place, class_names(sources["train"], labelled.column))
    aside = [*labelled.names, *leave_out, *([] if id_column is None else [id_column])]
    parts = {}
    for part, frame in frames.items():
        rows = _table(source_name(sources[part]), frame, group_column, aside)
        for doubt in rows.doubts() if part == "train" else ():
            warn_user(f"{source_name(sources[part])}: {doubt}")
        parts[part] = numbered.examples(part, rows, None if id_column is None else values_of(frame, id_column))
    notes: tuple[str, ...] = ()
    if label_column is None and labelled.column is not None and labelled.column.lower() not in {"label", "labels"}:
        notes = (f"the labels are the column {labelled.column!r}; --label-column (label_column=) names another",)
    try:
        return numbered.data_set(place.stem, parts, notes=notes)
    except DataError as error:
        raise FormatError(place, str(error).removeprefix(f"{place.stem}: ")) from error


def _with_categories(frame: Any, names: Sequence[str]) -> Any:
    """The frame, with categories of some columns of numbers."""
    pandas, made = load_extra("pandas", "table"), {}
    for name in names:
        if name in frame.columns and frame[name].dtype.kind in "iuf":
            known = np.unique(frame[name].dropna())
            whole = known.astype(np.int64) if (known == np.floor(known)).all() else known  # gaps make them floats
            made[name] = pandas.Categorical(frame[name], categories=whole)
    return frame.assign(**made)


def _labels(file: Path, labelled: LabelColumns, columns: dict[str, list[Any]]) -> Labels:
    found = labelled.read(file, columns, lambda row: f"row {row}")
    if found.single is not None:
        try:
            refuse_many_numbers(found.single)
        except DataError as error:
            raise FormatError(file, f"column {labelled.column!r} {error}") from error
    return found


def _refuse_other_columns(sources: Mapping[str, Any], frames: Mapping[str, Any]) -> None:
    """Refuse parts whose columns are not those of the training rows."""
    ours = list(frames["train"].columns)
    for part, frame in frames.items():
        file, theirs = source_name(sources[part]), list(frame.columns)
        missing = [name for name in ours if name not in theirs]
        if missing:
            raise FormatError(file, f"has no column {missing[0]!r}, which the training rows have")
        spare = [name for name in theirs if name not in ours]
        if spare:
            raise FormatError(
                file, f"has the column {spare[0]!r}, which the training rows do not have: take it out of the file"
            )


def open_table_inputs(
    path: Any,
    *,
    label_column: str | None = None,
    label_columns: Sequence[str] | None = None,
    group_column: str | None = None,
    id_column: str | None = None,
    leave_out: Sequence[str] = (),
) -> Examples:
    """Read the rows of a table whose labels are not wanted.

    Args:
        path: A CSV or parquet file, or a table in memory.
        label_column: A column of labels, which is left out where the table has it.
        label_columns: Columns of labels, one per label, which are left out too.
        group_column: As for :func:`open_table`.
        id_column: As for :func:`open_table`.
        leave_out: As for :func:`open_table`.

    Returns:
        The examples, without labels.
    """
    source = part_sources(path)["train"]
    frame, place = read_frame(source), source_name(source)
    if id_column is not None:
        _require(place, frame, [id_column])
    aside = [name for name in (label_column, *(label_columns or ()), id_column, *leave_out) if name in frame.columns]
    groups = group_column if group_column in frame.columns else None
    found = Examples.of(_table(place, frame, groups, [name for name in aside if name is not None]))
    return found.named(None if id_column is None else values_of(frame, id_column))


def _table(path: str | Path, frame: Any, group: str | None, leave_out: Sequence[str]) -> Table:
    aside = {group, *leave_out} & set(frame.columns)
    groups: list[str] | None = None
    if group is not None:
        refuse_written_gaps(path, frame, [group])
        if frame[group].isna().any():
            raise FormatError(path, f"column {group!r} has gaps, and every row needs its group")
        groups = frame[group].astype(str).tolist()
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
            f"{listed_columns(frame.columns)}"
        )
    return str(found[0])


def _require(path: str | Path, frame: Any, columns: Sequence[str | None]) -> None:
    for column in columns:
        if column is not None and column not in frame.columns:
            raise FormatError(path, no_column(column, frame.columns))
