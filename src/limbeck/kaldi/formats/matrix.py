"""Kaldi's matrices, vectors and integer vectors, binary (plain, double and compressed) and text, both ways.

Binary: ``FM`` or ``DM`` and rows and columns, ``FV`` or ``DV`` and a length, then the numbers; compressed
matrices are ``CM`` (four percentiles a column, one byte a number), ``CM2`` (two bytes) and ``CM3`` (one
byte). Text: ``[ 1 2 ]``.
"""

__all__ = [
    "int_vector_bytes",
    "matrix_bytes",
    "read_int_vector",
    "read_matrix",
    "read_vector",
    "vector_bytes",
]

import struct
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from limbeck.errors import DataError
from limbeck.kaldi.formats.numbers import parse_int32
from limbeck.kaldi.formats.rows import RowParser
from limbeck.kaldi.formats.stream import KaldiStream

_PLAIN = {"FM": "<f4", "DM": "<f8", "FV": "<f4", "DV": "<f8"}
_TEXT_BLOCK_ROWS = 64
_COLUMN_BLOCK = 256


def read_matrix(stream: KaldiStream, dtype: DTypeLike = np.float32, *, what: str = "matrix") -> NDArray[Any]:
    """Read a matrix, in the mode of the stream.

    Args:
        stream: At the first byte of the matrix.
        dtype: float32 or float64, to which the stored numbers are converted.
        what: Name for the errors.

    Returns:
        The matrix, C-contiguous, ``(rows, columns)``; ``(0, 0)`` where it is empty.

    Raises:
        FormatError: If it is not a matrix, is cut short, ragged, or has numbers too large for ``dtype``.
    """
    if not stream.binary:
        return _read_text(stream, dtype, what, one_line=False)
    start = stream.offset
    kind = stream.token()
    if kind in ("CM", "CM2", "CM3"):
        return _converted(_read_compressed(stream, kind, what), dtype, stream, what, start)
    if kind not in ("FM", "DM"):
        raise stream.error(f"{what}: no matrix here (FM, DM, CM, CM2 or CM3), but {kind!r}", offset=start)
    rows, columns = stream.int32(f"rows of {what}"), stream.int32(f"columns of {what}")
    _check_shape(stream, rows, columns, what, start)
    values = stream.array(_PLAIN[kind], rows * columns, f"{what} of shape ({rows}, {columns})")
    return _converted(values.reshape(rows, columns), dtype, stream, what, start)


def read_vector(stream: KaldiStream, dtype: DTypeLike = np.float32, *, what: str = "vector") -> NDArray[Any]:
    """Read a vector of floats, in the mode of the stream.

    Args:
        stream: At the first byte of the vector.
        dtype: float32 or float64.
        what: Name for the errors.

    Returns:
        The vector, ``(length,)``.

    Raises:
        FormatError: If it is not a vector, is cut short, has a new line inside, or numbers too large for
        ``dtype``.
    """
    if not stream.binary:
        return _read_text(stream, dtype, what, one_line=True)
    start = stream.offset
    kind = stream.token()
    if kind not in ("FV", "DV"):
        raise stream.error(f"{what}: no vector here (FV or DV), but {kind!r}", offset=start)
    length = stream.int32(f"length of {what}")
    if length < 0:
        raise stream.error(f"{what} has a negative length, {length}", offset=start)
    return _converted(stream.array(_PLAIN[kind], length, f"{what} of length {length}"), dtype, stream, what, start)


def read_int_vector(stream: KaldiStream, *, what: str = "integers") -> NDArray[np.int32]:
    """Read the integer vector of a model file: ``04``, a raw length and raw integers, or text ``[ 1 2 ]``.

    Alignment archives have another layout: see :mod:`limbeck.kaldi.formats.table`.

    Args:
        stream: At the first byte of the vector.
        what: Name for the errors.

    Returns:
        The integers, ``(length,)``.

    Raises:
        FormatError: If it is not an integer vector, or is cut short.
    """
    start = stream.offset
    if stream.binary:
        if (size := stream.take(1, what)[0]) != 4:
            raise stream.error(f"{what} should be integers of 4 bytes, and the size byte says {size}", offset=start)
        length = int.from_bytes(stream.take(4, what), "little", signed=True)
        if length < 0:
            raise stream.error(f"{what} has a negative length, {length}", offset=start)
        return stream.array("<i4", length, f"{what} of length {length}").astype(np.int32, copy=False)
    if stream.word(what) != b"[":
        raise stream.error(f"{what} should start with '[' on its own", offset=start)
    parts = []
    for chunk, offset in stream.until(b"]", what):
        if (values := parse_int32(chunk)) is None:
            raise stream.error(f"{what} should be integers of 32 bits", offset=offset)
        parts.append(values)
    return np.concatenate(parts)


def _check_shape(stream: KaldiStream, rows: int, columns: int, what: str, start: int) -> None:
    if rows < 0 or columns < 0 or (rows == 0) != (columns == 0):
        raise stream.error(f"{what} has the impossible shape ({rows}, {columns})", offset=start)


def _converted(values: NDArray[Any], dtype: DTypeLike, stream: KaldiStream, what: str, start: int) -> NDArray[Any]:
    """Return the values in a dtype; what was finite must stay so."""
    with np.errstate(over="ignore"):
        result = values.astype(dtype, copy=False)
    if result.itemsize < values.itemsize and (np.isinf(result) & np.isfinite(values)).any():
        raise stream.error(f"{what} holds numbers too large for {np.dtype(dtype)}", offset=start)
    return result


def _read_text(stream: KaldiStream, dtype: DTypeLike, what: str, *, one_line: bool) -> NDArray[Any]:
    start = stream.offset
    bracket = stream.word(what)
    if bracket == b"[]":
        return np.empty(0 if one_line else (0, 0), dtype)
    if bracket != b"[":
        shown = bracket[:20].decode("ascii", "backslashreplace")
        raise stream.error(f"{what} should start with '[' on its own, and here is {shown!r}", offset=start)
    rows = RowParser(dtype, one_line=one_line)
    for chunk, offset in stream.until(b"]", what):
        if (wrong := rows.feed(chunk)) is not None:
            raise stream.error(f"{what}: {wrong[0]}", offset=offset + wrong[1])
    if (reason := rows.finish()) is not None:
        raise stream.error(f"{what}: {reason}", offset=start)
    values = rows.values()
    return values if one_line else values.reshape(rows.rows, rows.columns or 0)


def _read_compressed(stream: KaldiStream, kind: str, what: str) -> NDArray[np.float32]:
    start = stream.offset
    low, span, rows, columns = struct.unpack("<ffii", stream.take(16, f"header of {what}"))
    _check_shape(stream, rows, columns, what, start)
    if not rows:  # Kaldi writes 20 bytes of header for it and reads 16 back
        raise stream.error(f"{what} is an empty compressed matrix, which Kaldi itself cannot read", offset=start)
    if not (np.isfinite(low) and np.isfinite(span)):
        raise stream.error(f"{what} is compressed between limits that are not finite", offset=start)
    low, span = np.float32(low), np.float32(span)
    name = f"compressed {what} of shape ({rows}, {columns})"
    with np.errstate(over="ignore", invalid="ignore"):
        if kind == "CM2":
            steps = stream.array("<u2", rows * columns, name).reshape(rows, columns)
            return low + np.float32(float(span) * (1.0 / 65535.0)) * steps.astype(np.float32)
        if kind == "CM3":
            steps = stream.array("u1", rows * columns, name).reshape(rows, columns)
            return low + np.float32(float(span) * (1.0 / 255.0)) * steps.astype(np.float32)
        marks = stream.array("<u2", 4 * columns, f"column headers of {name}").reshape(columns, 4)
        percentiles = low + np.float32(span * np.float32(1.52590218966964e-05)) * marks.astype(np.float32)
        codes = stream.array("u1", rows * columns, name).reshape(columns, rows)
        result = np.empty((rows, columns), np.float32)
        for first in range(0, columns, _COLUMN_BLOCK):  # the tables would outgrow the file if it has few rows
            block = slice(first, first + _COLUMN_BLOCK)
            table = _code_table(percentiles[block])
            result[:, block] = np.take_along_axis(table, codes[block].astype(np.intp), 1).T
        return result


def _code_table(percentiles: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return what each byte means in each column, ``(columns, 256)``, in three linear pieces.

    The difference times the code is rounded to float32; its fraction and the sum are taken in float64 and rounded once.
    """
    p0, p25, p75, p100 = (percentiles[:, index : index + 1] for index in range(4))
    code = np.arange(256, dtype=np.float32)
    table = np.empty((len(percentiles), 256), np.float32)
    table[:, :65] = p0 + ((p25 - p0) * code[:65]).astype(np.float64) * (1 / 64.0)
    table[:, 65:193] = p25 + ((p75 - p25) * (code[65:193] - 64)).astype(np.float64) * (1 / 128.0)
    table[:, 193:] = p75 + ((p100 - p75) * (code[193:] - 192)).astype(np.float64) * (1 / 63.0)
    return table


def matrix_bytes(matrix: NDArray[Any], *, binary: bool) -> list[bytes | memoryview]:
    """Write a matrix as Kaldi does.

    Text has 9 digits for float32 and 17 for float64, which restores every bit.

    Args:
        matrix: float32 or float64, ``(rows, columns)``.
        binary: True for binary.

    Returns:
        The bytes, in pieces.

    Raises:
        DataError: If it is not a matrix of float32 or float64, or text is asked for numbers that are not
        finite.
    """
    _check_floats(matrix, 2, binary)
    if binary:
        head = b"FM " if matrix.dtype == np.float32 else b"DM "
        rows, columns = matrix.shape if matrix.size else (0, 0)
        return [head + struct.pack("<BiBi", 4, rows, 4, columns), _raw(matrix)]
    if not matrix.size:
        return [b" [ ]\n"]
    line = "\n  " + " ".join([_digits(matrix)] * matrix.shape[1]) + " "
    pieces: list[bytes | memoryview] = [b" ["]
    for first in range(0, len(matrix), _TEXT_BLOCK_ROWS):
        block = matrix[first : first + _TEXT_BLOCK_ROWS]
        pieces.append((line * len(block) % tuple(block.ravel().tolist())).encode())
    return [*pieces, b"]\n"]


def vector_bytes(vector: NDArray[Any], *, binary: bool) -> list[bytes | memoryview]:
    """Write a vector as Kaldi does; see :func:`matrix_bytes`.

    Args:
        vector: float32 or float64, ``(length,)``.
        binary: True for binary.

    Returns:
        The bytes, in pieces.

    Raises:
        DataError: If it is not a vector of float32 or float64, or text is asked for numbers that are not
        finite.
    """
    _check_floats(vector, 1, binary)
    if binary:
        head = b"FV " if vector.dtype == np.float32 else b"DV "
        return [head + struct.pack("<Bi", 4, len(vector)), _raw(vector)]
    return [b" [ ", ((_digits(vector) + " ") * len(vector) % tuple(vector.tolist())).encode(), b"]\n"]


def int_vector_bytes(values: NDArray[np.int32], *, binary: bool) -> list[bytes | memoryview]:
    """Write the integer vector of a model file; see :func:`read_int_vector`.

    Args:
        values: The integers, ``(length,)``.
        binary: True for binary.

    Returns:
        The bytes, in pieces.
    """
    if binary:
        return [struct.pack("<Bi", 4, len(values)), _raw(values.astype(np.int32, copy=False))]
    return [b"[ " + b"".join(b"%d " % value for value in values.tolist()) + b"]\n"]


def _raw(array: NDArray[Any]) -> memoryview:
    little = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False)
    return memoryview(little.reshape(-1).view(np.uint8).data)


def _digits(array: NDArray[Any]) -> str:
    return "%.9g" if array.dtype == np.float32 else "%.17g"


def _check_floats(array: NDArray[Any], axes: int, binary: bool) -> None:
    if array.ndim != axes or array.dtype not in (np.float32, np.float64):
        raise DataError(
            f"a Kaldi {'matrix' if axes == 2 else 'vector'} has {axes} axes of float32 or float64, "
            f"and this is {array.dtype} of shape {array.shape}"
        )
    if not binary and not np.isfinite(array).all():
        raise DataError("Kaldi text has no form for NaN and infinity that Kaldi reads back: write binary")
