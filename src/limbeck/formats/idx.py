"""IDX, the format of the MNIST files: a typed array of any number of axes, big-endian, often gzipped.

The file is two zero bytes, a type code, the number of axes, one unsigned 32-bit length per axis, and the values.
"""

__all__ = ["read_idx", "write_idx"]

import gzip
import math
import os
import secrets
import struct
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import DataError, FormatError
from limbeck.formats._bounded import Kind, Source, open_regular

_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: "i2", 0x0C: "i4", 0x0D: "f4", 0x0E: "f8"}
_CODES = {name: code for code, name in _TYPES.items()}
_GZIP_MAGIC = b"\x1f\x8b"
_MAX_AXES = 32  # what every supported numpy can hold


def read_idx(path: str | PathLike[str]) -> NDArray[Any]:
    """Read an IDX file, gzipped or not, as detected from the magic bytes.

    No more is decompressed than the header promises, and a header that promises more than the file can hold
    is refused before memory is taken.

    Args:
        path: The file.

    Returns:
        The array in the machine's byte order, C-contiguous and writable: uint8, int8, int16, int32, float32
        or float64.

    Raises:
        FormatError: If the file cannot be read, is not an IDX file, is truncated or corrupt, or has trailing bytes. The
            offset counts decompressed bytes.

    Example:
        >>> import tempfile, pathlib
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "labels-idx1-ubyte")
        ...     _ = path.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 8, 9]))
        ...     read_idx(path)
        array([7, 8, 9], dtype=uint8)
    """
    with open_regular(path) as (file, size):
        kind: Kind = "gzip" if file.read(2) == _GZIP_MAGIC else "plain"
        source = Source(path, file, 0, size, kind)
        dtype, shape = _read_header(source)
        data = source.read(math.prod(shape) * dtype.itemsize, f"an array of shape {shape} and type {dtype.name}")
        source.finish()
    try:
        array = np.frombuffer(data, dtype).reshape(shape)
    except ValueError as error:  # lengths whose product overflows although one of them is 0
        raise FormatError(path, f"an array of shape {shape} cannot be made: {error}", offset=4) from error
    native = dtype.newbyteorder("=")
    return array if dtype.isnative else array.byteswap(inplace=True).view(native)


def _read_header(source: Source) -> tuple[np.dtype[Any], tuple[int, ...]]:
    magic = bytes(source.read(4, "the IDX header"))
    if magic[:2] != b"\0\0" or magic[2] not in _TYPES or not 1 <= magic[3] <= _MAX_AXES:
        source.offset = 0
        raise source.error(
            f"not an IDX file: it starts with {magic.hex(' ')}, where 00 00, a type "
            f"(08, 09, 0b to 0e) and the number of axes (01 to {_MAX_AXES:02x}) are needed"
        )
    lengths = source.read(4 * magic[3], f"the lengths of {magic[3]} axes")
    return np.dtype(">" + _TYPES[magic[2]]), struct.unpack(f">{magic[3]}I", lengths)


def write_idx(path: str | PathLike[str], array: NDArray[Any]) -> None:
    """Write an array as an IDX file, atomically.

    The bytes go to a temporary file beside the target, which then takes its place. The same array gives the
    same bytes.

    Args:
        path: The file to write; a name that ends in ``.gz`` gets gzipped content.
        array: At least one axis, and a type that IDX has: uint8, int8, int16, int32, float32 or float64.

    Raises:
        DataError: If the type or shape has no IDX form.
        FormatError: If the file cannot be written.

    Example:
        >>> import tempfile, pathlib
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "values.gz")
        ...     write_idx(path, np.array([[1.5, 2.5]], dtype=np.float32))
        ...     read_idx(path)
        array([[1.5, 2.5]], dtype=float32)
    """
    code = _CODES.get(array.dtype.kind + str(array.dtype.itemsize))
    if code is None:
        known = ", ".join(np.dtype(name).name for name in _TYPES.values())
        raise DataError(f"IDX has no type for {array.dtype}: convert the array to one of {known}")
    if not 1 <= array.ndim <= _MAX_AXES or any(length >= 1 << 32 for length in array.shape):
        raise DataError(
            f"IDX holds 1 to {_MAX_AXES} axes of less than 2**32 entries each, and the shape is {array.shape}"
        )
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, code, array.ndim, *array.shape)
    content = header + np.ascontiguousarray(array, array.dtype.newbyteorder(">")).tobytes()
    target = Path(path)
    if target.suffix.lower() == ".gz":
        content = gzip.compress(content, compresslevel=6, mtime=0)
    try:
        _replace(target, content)
    except OSError as error:
        raise FormatError(path, f"cannot be written: {error.strerror or error}") from error


def _replace(target: Path, content: bytes) -> None:
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
