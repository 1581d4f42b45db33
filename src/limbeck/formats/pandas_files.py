"""Tables of columns in CSV and parquet files, read by pandas."""

__all__ = ["is_table", "list_array", "read_frame", "refuse_written_gaps"]

import csv
import gzip
import os
import warnings
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import FormatError
from limbeck.formats.in_memory import is_held, source_name, with_columns
from limbeck.system.extras import load_extra
from limbeck.system.utf8 import not_utf8

_CSV = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
_PARQUET = (".parquet", ".pq")


def is_table(path: str | PathLike[str]) -> bool:
    """Whether a path is a file whose name ends as tables' do.

    Args:
        path: Any path.

    Returns:
        Whether it is.

    Example:
        >>> is_table("no such file.csv")
        False
    """
    return str(path).lower().endswith((*_CSV, *_PARQUET)) and os.path.isfile(path)


def read_frame(path: Any) -> Any:
    """Read a table as a ``pandas.DataFrame``.

    Args:
        path: A ``.csv`` or ``.tsv`` file, gzipped or not, whose first line names the columns, or a ``.parquet`` file;
            or a table in memory.

    Returns:
        The frame, rows numbered from 0.

    Raises:
        FormatError: If the file is missing, empty, damaged, or two columns have one name.
        MissingExtraError: If pandas or pyarrow is not installed.
    """  # noqa: DOC501, DOC502
    pandas = load_extra("pandas", "table")
    if is_held(path):
        frame = with_columns(path)
        twice = next((name for name in frame.columns if list(frame.columns).count(name) > 1), None)
        if twice is not None:
            raise FormatError(source_name(path), f"two columns are named {twice!r}: name each its own")
        return frame
    name = str(path).lower()
    if not os.path.isfile(path):
        raise FormatError(path, "there is no such file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pandas tells of columns of mixed types, which are categories here
            if name.endswith(_PARQUET):
                load_extra("pyarrow", "table")
                frame = pandas.read_parquet(path).reset_index(drop=True)
            else:
                frame = _read_csv(pandas, path)
    except FormatError:
        raise
    except (ImportError, MemoryError):
        raise
    except UnicodeDecodeError as error:
        raise not_utf8(path) from error
    except Exception as error:  # pandas and pyarrow raise a dozen types on damaged files
        raise FormatError(path, f"cannot be read as a table: {' '.join(str(error).split())[:200]}") from error
    if not len(frame) or not len(frame.columns):
        raise FormatError(path, "has no rows: a line of column names and one line per example are needed")
    frame.columns = [str(column) for column in frame.columns]
    return frame


def _read_csv(pandas: Any, path: str | PathLike[str]) -> Any:
    separator = _separator(pandas, path)
    header = pandas.read_csv(path, sep=separator, header=None, nrows=1, dtype=str)
    _refuse_repeated(path, header)
    with warnings.catch_warnings():  # rows longer than the header would lose their end
        warnings.simplefilter("error", pandas.errors.ParserWarning)
        try:
            frame = pandas.read_csv(path, sep=separator, low_memory=False, index_col=False)
        except (pandas.errors.ParserWarning, pandas.errors.ParserError):
            _refuse_uneven(path, separator, header.shape[1])
            raise
    if frame.iloc[:, -1].isna().any():  # a gap, or a row that ends early
        _refuse_uneven(path, separator, header.shape[1])
    _refuse_second_header(path, frame)
    return frame


def _refuse_second_header(path: str | PathLike[str], frame: Any) -> None:
    """Refuse a row that has the columns' names, as where files were joined: one text makes all numbers texts."""
    if len(frame.columns) > 1 and not any(column.dtype.kind in "iufb" for _, column in frame.items()):
        found = (frame == list(frame.columns)).all(axis=1)
        if found.any():
            raise FormatError(path, f"row {int(found.argmax())} (counted from 0) is the header again: take it out")


def _refuse_uneven(path: str | PathLike[str], separator: str, wanted: int) -> None:
    """Refuse a CSV file in which a row has more fields than the header, or fewer; empty ones may follow the last."""
    before = csv.field_size_limit((1 << 31) - 1)
    packed = str(path).lower().endswith(".gz")
    try:
        with (gzip.open if packed else open)(path, "rt", encoding="utf-8-sig", newline="") as stream:
            reader, last = csv.reader(stream, delimiter=separator), 0
            for row in reader:
                first, last = last + 1, reader.line_num
                if any(row[wanted:]):
                    cure = (
                        "quote fields that hold the separator, and name a column of row names too (R: row.names=FALSE)"
                    )
                elif len(row) < wanted and "".join(row).strip():
                    cure = "was it cut off? Gaps are empty fields, apart by the separator"
                else:
                    continue
                count = f"{len(row)} field{'' if len(row) == 1 else 's'}"
                raise FormatError(path, f"line {first} has {count}, and the header has {wanted}: {cure}")
    finally:
        csv.field_size_limit(before)


def refuse_written_gaps(path: Any, frame: Any, columns: Sequence[str]) -> None:
    """Refuse words such as NA in columns of a CSV file whose values are names: pandas reads them as gaps.

    Args:
        path: The file; nothing is looked for in others than CSV files.
        frame: From :func:`read_frame`.
        columns: Columns of labels or groups.

    Raises:
        FormatError: If there is such a word; the message names it and its row.
    """
    name = str(path).lower()
    if is_held(path) or not name.endswith(_CSV):
        return
    for column in columns:
        gaps = np.flatnonzero(frame[column].isna().to_numpy())
        if not len(gaps):
            continue
        pandas = load_extra("pandas", "table")
        separator = _separator(pandas, path)
        place = list(frame.columns).index(column)
        settings = {"usecols": [place], "index_col": False, "dtype": str, "keep_default_na": False, "na_filter": False}
        texts = pandas.read_csv(path, sep=separator, **settings).iloc[:, 0]
        row = next((row for row in gaps.tolist() if len(texts) == len(frame) and texts.iloc[row] != ""), None)
        if row is not None:
            raise FormatError(
                path,
                f"row {row} has {texts.iloc[row]!r} in column {column!r}, which stands for a missing value in CSV "
                "files, as NA, N/A, NULL, None and nan do: write such a name otherwise, or leave the field empty "
                "where it is missing",
            )


def list_array(path: str | PathLike[str], name: str, column: Any) -> NDArray[Any]:
    """A column of lists of one length as an array.

    Args:
        path: For messages.
        name: Of the column, for messages.
        column: A series of lists or arrays.

    Returns:
        ``(N, length)``.

    Raises:
        FormatError: If the lists differ in length.
    """
    lengths = {len(row) if hasattr(row, "__len__") else -1 for row in column}
    if len(lengths) != 1 or -1 in lengths:
        raise FormatError(path, f"column {name!r} must hold lists of one length, and has {sorted(lengths)[:4]}")
    return np.stack([np.asarray(row) for row in column])


def _separator(pandas: Any, path: str | PathLike[str]) -> str:
    """A tab in a ``.tsv`` file; else a comma, or a semicolon or tab where the first line has no other separator."""
    if ".tsv" in Path(str(path).lower()).suffixes:
        return "\t"
    first = pandas.read_csv(path, sep="\0", header=None, nrows=1, dtype=str, engine="c", quoting=3).iloc[0, 0]
    return next((each for each in (",", ";", "\t") if each in str(first)), ",")


def _refuse_repeated(path: str | PathLike[str], first: Any) -> None:
    names = [str(name).strip() for name in first.iloc[0]]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise FormatError(path, f"two columns are named {twice!r}: name each its own")
