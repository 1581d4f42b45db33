"""Named columns from CSV, JSON lines and parquet files."""

__all__ = ["RECORD_SUFFIXES", "peek_columns", "read_records"]

import csv
import importlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from limbeck.errors import FormatError, MissingExtraError
from limbeck.formats.column_names import no_column
from limbeck.formats.in_memory import held_columns, is_held, source_name, values_of
from limbeck.system.utf8 import not_utf8

RECORD_SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet")
"""Endings of the files that are read here."""
_DELIMITERS = (",", ";", "\t")


def read_records(
    path: Any, wanted: Sequence[str], *, optional: Sequence[str] = ()
) -> tuple[dict[str, list[Any]], Callable[[int], str]]:
    r"""Read some columns of a file of records.

    A CSV file has a header line; its fields are strings, apart by commas, or by semicolons or tabs where the header
    line says so. JSON lines hold one object a line, or the file one list of such. Text is UTF-8.

    Args:
        path: ``.csv``, ``.tsv``, ``.jsonl``, ``.ndjson``, ``.json`` or ``.parquet``; or a table in memory.
        wanted: Columns that must be there.
        optional: Columns that are read where they are there.

    Returns:
        The columns, by name, and a function that says where a row, counted from 0, is in the file.

    Raises:
        FormatError: If the file is missing, damaged or of another kind, or lacks a column.
        MissingExtraError: If pyarrow is not installed, and the file is a parquet file.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "two.csv"
        >>> _ = file.write_text("text,label\ngood,1\nbad,0\n")
        >>> columns, where = read_records(file, ["text"], optional=["label"])
        >>> columns, where(1)
        ({'text': ['good', 'bad'], 'label': ['1', '0']}, 'line 3')
    """  # noqa: DOC501
    if is_held(path):
        taken = _taken(source_name(path), held_columns(path), tuple(dict.fromkeys(wanted)), tuple(optional))
        return {name: values_of(path, name) for name in taken}, lambda row: f"row {row}"
    file = Path(path)
    readers = {".csv": _csv, ".tsv": _csv, ".parquet": _parquet}
    if file.suffix.lower() not in RECORD_SUFFIXES:
        raise FormatError(file, f"is not a file of records: give one that ends in {', '.join(RECORD_SUFFIXES)}")
    try:
        return readers.get(file.suffix.lower(), _json)(file, tuple(dict.fromkeys(wanted)), tuple(optional))
    except FileNotFoundError as error:
        raise FormatError(file, "there is no such file") from error
    except UnicodeDecodeError as error:
        raise not_utf8(file) from error
    except OSError as error:
        raise FormatError(file, f"cannot be read: {error.strerror or error}") from error


def peek_columns(path: Any, wanted: Sequence[str] = ()) -> list[str] | None:
    """Names of the columns of rows, where they are known without reading all rows.

    Args:
        path: A file of records, or a table in memory.
        wanted: Columns that should be there, by which the separator of a CSV file is told.

    Returns:
        The names; None for JSON, for files that are packed, and where the file cannot be read, which is told when it
        is read.
    """
    if is_held(path):
        return held_columns(path)
    file = Path(path)
    try:
        if file.suffix.lower() in {".csv", ".tsv"}:
            with open(file, encoding="utf-8-sig", newline="") as stream:
                header = stream.readline()
            delimiter = "\t" if file.suffix.lower() == ".tsv" else _delimiter(header, tuple(wanted))
            return next(csv.reader([header], delimiter=delimiter), None) or None
        if file.suffix.lower() in {".parquet", ".pq"} and file.is_file():
            return [str(name) for name in importlib.import_module("pyarrow.parquet").read_schema(file).names]
    except Exception:  # errors of damaged files are reported by the reader
        return None
    return None


Read = tuple[dict[str, list[Any]], Callable[[int], str]]


def _csv(file: Path, wanted: tuple[str, ...], optional: tuple[str, ...]) -> Read:
    before = csv.field_size_limit((1 << 31) - 1)
    try:
        with open(file, encoding="utf-8-sig", newline="") as stream:
            header = stream.readline()
            delimiter = "\t" if file.suffix.lower() == ".tsv" else _delimiter(header, wanted)
            stream.seek(0)
            return _rows_of_csv(file, csv.reader(stream, delimiter=delimiter, strict=True), wanted, optional)
    finally:
        csv.field_size_limit(before)


def _rows_of_csv(file: Path, reader: Any, wanted: tuple[str, ...], optional: tuple[str, ...]) -> Read:
    lines: list[int] = []
    try:
        names = next(reader, None)
        if not names:
            raise FormatError(file, "is empty: a header line with the columns' names is needed")
        taken = _taken(file, names, wanted, optional)
        places = {name: names.index(name) for name in taken}
        columns: dict[str, list[Any]] = {name: [] for name in taken}
        line = reader.line_num
        for row in reader:
            first, line = line + 1, reader.line_num
            if not row:
                continue  # an empty line
            if len(row) != len(names):
                raise FormatError(
                    file,
                    f"line {first} has {len(row)} fields, and the header has {len(names)}: quote fields that "
                    "hold the separator or line breaks",
                )
            lines.append(first)
            for name, place in places.items():
                columns[name].append(row[place])
    except csv.Error as error:
        raise FormatError(file, f"line {reader.line_num}: {error}") from error
    return columns, lambda row: f"line {lines[row]}"


def _delimiter(header: str, wanted: tuple[str, ...]) -> str:
    """The separator by which the header has the columns; a comma where none does."""
    for delimiter in _DELIMITERS:
        names = next(csv.reader([header], delimiter=delimiter), [])
        if wanted and len(names) > 1 and set(wanted) <= set(names):
            return delimiter
    return next((each for each in _DELIMITERS if each in header), ",")


def _json(file: Path, wanted: tuple[str, ...], optional: tuple[str, ...]) -> Read:
    objects = list(_objects(file))
    places = [place for place, _ in objects]
    names = list(dict.fromkeys(name for _, each in objects for name in each))
    if not objects:
        raise FormatError(file, "holds no records")
    taken = _taken(file, names, wanted, optional)
    columns = {name: [each.get(name) for _, each in objects] for name in taken}
    return columns, lambda row: places[row]


def _objects(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    with open(file, encoding="utf-8-sig") as stream:
        start = stream.read(64).lstrip()
        stream.seek(0)
        if start.startswith("["):
            try:
                whole = json.load(stream)
            except (ValueError, RecursionError) as error:
                raise FormatError(file, f"is not valid JSON: {error}") from error
            found = [(f"record {number}", each) for number, each in enumerate(whole)]
        else:
            found = [(f"line {n}", _parsed(file, n, line)) for n, line in enumerate(stream, 1) if line.strip()]
    for place, each in found:
        if not isinstance(each, dict):
            raise FormatError(file, f"{place} is a {type(each).__name__}, and an object with named values is needed")
        yield place, each


def _parsed(file: Path, number: int, line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise FormatError(file, f"line {number} is not valid JSON: {error}") from error


def _parquet(file: Path, wanted: tuple[str, ...], optional: tuple[str, ...]) -> Read:
    try:
        pyarrow, parquet = (importlib.import_module(name) for name in ("pyarrow", "pyarrow.parquet"))
    except ImportError as error:
        raise MissingExtraError("pyarrow", "table") from error
    if not os.path.exists(file):
        raise FileNotFoundError(file)
    try:
        taken = _taken(file, parquet.read_schema(file).names, wanted, optional)
        table = parquet.read_table(file, columns=taken)
        return {name: table.column(name).to_pylist() for name in taken}, lambda row: f"row {row}"
    except (pyarrow.ArrowException, OSError) as error:
        raise FormatError(
            file, f"is truncated, corrupt or not a parquet file: {' '.join(str(error).split())}"
        ) from error


def _taken(file: Path, names: Sequence[str], wanted: tuple[str, ...], optional: tuple[str, ...]) -> list[str]:
    for name in wanted:
        if name not in names:
            raise FormatError(file, no_column(name, names))
    taken = list(dict.fromkeys([*wanted, *(name for name in optional if name in names)]))
    for name in taken:
        if list(names).count(name) > 1:
            raise FormatError(file, f"has two columns {name!r}: give each a unique name")
    return taken
