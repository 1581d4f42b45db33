"""Kaldi script files: lines of a key and where its object is, ``path:offset``, with a range or not."""

__all__ = ["ScpEntry", "lookup_folders", "read_entries", "read_entry", "read_scp", "read_scp_stream"]

import io
import os
import re
import subprocess
import warnings
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import DTypeLike, NDArray

from limbeck.errors import FormatError, LimbeckWarning, RunError
from limbeck.formats._bounded import open_regular
from limbeck.kaldi.formats.stream import KaldiStream
from limbeck.kaldi.formats.table import Kind, read_object

_LONGEST_LINE = 1 << 14
_LARGEST_PIPED = 1 << 30
_ROWS_TOO_LONG = 3
"""Rows by which Kaldi lets a range reach beyond the end: tools count frames of a segment with some play."""
_RANGE = re.compile(r"(.*)\[([0-9:,]*)\]", re.DOTALL)
_OFFSET = re.compile(r"(.*):([0-9]{1,18})", re.DOTALL)
_BOUNDS = re.compile(r"(?:([0-9]{1,9}):([0-9]{1,9})|:?)")

Bounds = tuple[int, int] | None


@dataclass(frozen=True)
class ScpEntry:
    """One line of a script file.

    Attributes:
        key: The utterance or speaker.
        source: Path of the archive as found, or the command of a pipe.
        offset: Where the object starts, or None where it is the whole file.
        rows: First and last row wanted, both included, or None for all.
        columns: First and last column wanted, both included, or None for all.
        is_pipe: Whether ``source`` is a command whose output is the object.
        where: The script file and line, for errors.
    """

    key: str
    source: str
    offset: int | None
    rows: Bounds = None
    columns: Bounds = None
    is_pipe: bool = False
    where: str = ""


def read_scp(
    path: str | PathLike[str], *, root: str | PathLike[str] | None = None, allow_pipes: bool = False
) -> list[ScpEntry]:
    r"""Read a script file.

    A relative path is looked for in ``root`` where that is given; else in the working folder, in the script
    file's folder, and in the folder above it.

    Args:
        path: The script file.
        root: The folder to which paths are relative.
        allow_pipes: Accept lines that end in a pipe. Reading such an entry runs its command in a shell.

    Returns:
        The entries in the order of the file.

    Raises:
        FormatError: If a line is malformed or a key comes twice.
        RunError: If a line ends in a pipe and that is not allowed.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "feats.scp")
        >>> _ = path.write_text("utt1 raw.ark:5\n")
        >>> read_scp(path)[0].offset
        5
    """
    folders = [Path(root)] if root is not None else lookup_folders(path)
    with open_regular(path) as (file, _):
        return _entries(path, file, folders, allow_pipes)


def read_scp_stream(
    stream: KaldiStream, *, root: str | PathLike[str] | None = None, allow_pipes: bool = False
) -> list[ScpEntry]:
    """Read a script file that is open; relative paths are looked for in the working folder, or in ``root``.

    Args:
        stream: At its first byte.
        root: The folder to which paths are relative.
        allow_pipes: Accept lines that end in a pipe.

    Returns:
        The entries.
    """
    file = io.BytesIO(b"".join(chunk for chunk in iter(lambda: stream.take_some(1 << 16), b"")))
    return _entries(stream.name, file, [Path(root or ".")], allow_pipes)


def _entries(path: str | PathLike[str], file: BinaryIO, folders: list[Path], allow_pipes: bool) -> list[ScpEntry]:
    entries: dict[str, ScpEntry] = {}
    found: dict[str, str] = {}  # a path is looked up once
    for number, line in _lines(path, file):
        where = f"{path}, line {number}"
        key, _, rest = line.partition(" ") if " " in line else line.partition("\t")
        rest = rest.strip()
        if not key or not rest:
            raise FormatError(path, f"line {number} should be a key, a space and path:offset")
        if key in entries:
            raise FormatError(path, f"line {number} has the key {key!r} a second time")
        if rest.endswith("|"):
            if not allow_pipes:
                raise RunError(
                    f"{where}: {key} is read through the command {rest!r}, which would run in a shell; if "
                    f"you trust this file, allow it with --allow-pipes"
                )
            entries[key] = ScpEntry(key, rest[:-1].strip(), None, is_pipe=True, where=where)
            continue
        entry = _parse(path, number, key, rest, where)
        if entry.source not in found:
            found[entry.source] = _find(entry.source, folders)
        entries[key] = ScpEntry(key, found[entry.source], entry.offset, entry.rows, entry.columns, where=where)
    return list(entries.values())


def lookup_folders(path: str | PathLike[str]) -> list[Path]:
    """Where the relative paths in a script file are looked for: the working folder, the file's, and the one above.

    Args:
        path: The script file.

    Returns:
        The folders.
    """
    return [Path(), Path(path).parent, Path(path).absolute().parent.parent]


def read_entries(
    entries: Iterable[ScpEntry],
    kind: Kind = "matrix",
    *,
    dtype: DTypeLike = np.float32,
    allow_pipes: bool = False,
) -> Iterator[tuple[str, NDArray[Any]]]:
    """Read the objects of entries in order; an archive stays open while consecutive entries are in it.

    Args:
        entries: As from :func:`read_scp`, in any order.
        kind: ``"matrix"``, ``"vector"`` or ``"integers"``.
        dtype: float32 or float64 for matrices and vectors.
        allow_pipes: Run the commands of entries that are pipes.

    Yields:
        The key and the object, its range applied.

    Raises:
        FormatError: If an archive is missing, or an object is malformed, truncated or of another kind.
        RunError: If an entry is a pipe and that is not allowed.
    """
    opened: str | None = None
    with ExitStack() as stack:
        for entry in entries:
            if entry.is_pipe:
                yield entry.key, _read_pipe(entry, kind, dtype, allow_pipes)
                continue
            if entry.source != opened:
                stack.close()
                file, size = stack.enter_context(open_regular(entry.source))
                opened = entry.source
            yield entry.key, _read_at(entry, file, size, kind, dtype)


def read_entry(
    entry: ScpEntry, kind: Kind = "matrix", *, dtype: DTypeLike = np.float32, allow_pipes: bool = False
) -> NDArray[Any]:
    """Read the object of one entry; see :func:`read_entries`.

    Args:
        entry: The entry.
        kind: ``"matrix"``, ``"vector"`` or ``"integers"``.
        dtype: float32 or float64 for matrices and vectors.
        allow_pipes: Run the command of an entry that is a pipe.

    Returns:
        The object, its range applied.

    Raises:
        FormatError: If the archive is missing, or the object is malformed, truncated or of another kind.
        RunError: If the entry is a pipe and that is not allowed.
    """
    return next(read_entries([entry], kind, dtype=dtype, allow_pipes=allow_pipes))[1]


def _lines(path: str | PathLike[str], file: BinaryIO) -> Iterator[tuple[int, str]]:
    number = 0
    while line := file.readline(_LONGEST_LINE + 1):
        number += 1
        if len(line) > _LONGEST_LINE:
            raise FormatError(path, f"line {number} has more than {_LONGEST_LINE} bytes: no script file")
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip("\r\n")
        except UnicodeDecodeError as error:
            raise FormatError(path, f"line {number} is not UTF-8: no script file") from error
        if "\0" in text:
            raise FormatError(path, f"line {number} holds a zero byte: no script file, perhaps an archive")
        yield number, text


def _parse(path: str | PathLike[str], number: int, key: str, rest: str, where: str) -> ScpEntry:
    rows: Bounds = None
    columns: Bounds = None
    if rest.startswith("|") or rest == "-":
        raise FormatError(path, f"line {number} reads from {rest[:20]!r}: only files can be read")
    if rest.endswith("]"):
        match = _RANGE.fullmatch(rest)
        parts = [_BOUNDS.fullmatch(part) for part in match[2].split(",")] if match else []
        if match is None or len(parts) > 2 or None in parts:
            raise FormatError(path, f"line {number} has a range that is not [rows] or [rows,columns], as [0:9,0:12]")
        rest = match[1]
        bounds = [(int(part[1]), int(part[2])) if part and part[1] else None for part in parts]
        rows, columns = (*bounds, None)[:2]
        if any(bound is not None and bound[0] > bound[1] for bound in (rows, columns)):
            raise FormatError(path, f"line {number} has a range whose first is above its last")
    match = _OFFSET.fullmatch(rest)
    if match is None:
        return ScpEntry(key, rest, None, rows, columns, where=where)
    return ScpEntry(key, match[1], int(match[2]), rows, columns, where=where)


def _find(source: str, folders: list[Path]) -> str:
    """Return the first place where the file is, or the first place where it should be."""
    places = [folder / source for folder in folders]
    return str(next((place for place in places if os.path.exists(place)), places[0]))  # a name may be too long


def _read_at(entry: ScpEntry, file: BinaryIO, size: int, kind: Kind, dtype: DTypeLike) -> NDArray[Any]:
    offset = entry.offset or 0
    if offset >= size:
        raise FormatError(
            entry.source,
            f"{entry.where} points at byte {offset}, and the file has {size} bytes: another version?",
        )
    file.seek(offset)
    stream = KaldiStream(file, entry.source, end=size, offset=offset)
    if offset == 0:
        stream.skip_byte_order_mark()
    value = read_object(stream, kind, dtype=dtype, what=f"{kind} of {entry.key}")
    if entry.offset is None:
        stream.skip_space()
        if not stream.at_end():
            raise stream.error(f"bytes follow the {kind} of {entry.key}, which should be the whole file")
    return _cut(entry, value)


def _cut(entry: ScpEntry, value: NDArray[Any]) -> NDArray[Any]:
    for axis, bound in enumerate((entry.rows, entry.columns)):
        if bound is None:
            continue
        last = bound[1]
        if axis == 0 and value.ndim and bound[0] < len(value) <= last < len(value) + _ROWS_TOO_LONG:
            last = len(value) - 1
            warnings.warn(
                f"{entry.where} asks for rows {bound[0]} to {bound[1]} of an object of {len(value)} rows: cut at its "
                "end, as Kaldi does",
                LimbeckWarning,
                stacklevel=2,
            )
        if axis >= value.ndim or last >= value.shape[axis]:
            raise FormatError(
                entry.source,
                f"{entry.where} asks for {'columns' if axis else 'rows'} {bound[0]} to {bound[1]} of an "
                f"object of shape {value.shape}",
            )
        value = np.ascontiguousarray(value.take(range(bound[0], last + 1), axis))
    return value


def _read_pipe(entry: ScpEntry, kind: Kind, dtype: DTypeLike, allow_pipes: bool) -> NDArray[Any]:
    if not allow_pipes:
        raise RunError(f"{entry.where}: {entry.key} is a command, {entry.source!r}; allow it with --allow-pipes")
    with subprocess.Popen(entry.source, shell=True, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as process:
        name = f"output of {entry.source!r} ({entry.where})"
        stream = KaldiStream(cast(BinaryIO, process.stdout), name, largest=_LARGEST_PIPED)
        try:
            value = read_object(stream, kind, dtype=dtype, what=f"{kind} of {entry.key}")
            stream.skip_space()
            if not stream.at_end():
                raise stream.error(f"bytes follow the {kind} of {entry.key}")
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        raise FormatError(name, f"the command failed with exit status {process.returncode}")
    return value
