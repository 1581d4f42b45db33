"""Kaldi archives: entries of a key and an object, binary or text, plain or gzipped.

Entries are read lazily, so memory holds one at a time. An object that is cut short, a length that the file
cannot hold, and a key without an object are errors.
"""

__all__ = ["Kind", "index_ark", "open_stream", "read_ark", "read_matrix_file", "read_object", "read_stream"]

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from typing import Any, BinaryIO, Literal, cast, get_args

import numpy as np
from numpy.typing import DTypeLike, NDArray

from limbeck.errors import ConfigError, FormatError
from limbeck.formats._bounded import open_regular
from limbeck.kaldi.formats.matrix import read_matrix, read_vector
from limbeck.kaldi.formats.numbers import parse_int32
from limbeck.kaldi.formats.post import read_posterior
from limbeck.kaldi.formats.stream import KaldiStream

Kind = Literal["matrix", "vector", "integers", "posterior"]

_GZIP_MAGIC = b"\x1f\x8b"
_LARGEST_UNPACKED = 1 << 28  # bytes of one object in a gzipped archive
_LONGEST_KEY = 1 << 12


def read_ark(
    path: str | PathLike[str], kind: Kind = "matrix", *, dtype: DTypeLike = np.float32
) -> Iterator[tuple[str, NDArray[Any]]]:
    r"""Read an archive, entry by entry, each binary or text by its own first bytes.

    Args:
        path: The archive, plain or gzipped (detected from the magic bytes).
        kind: ``"matrix"`` (float, double, compressed), ``"vector"`` of floats, ``"integers"`` (alignments), or
            ``"posterior"`` (a few pdfs a frame).
        dtype: float32 or float64 for matrices and vectors.

    Yields:
        The key, and the matrix ``(rows, columns)``, vector ``(length,)``, int32 ``(length,)`` or pairs
        (:data:`~limbeck.kaldi.formats.post.PAIR`).

    Raises:
        FormatError: If the archive cannot be read, or an entry is malformed, truncated or of another kind.
        ConfigError: If the kind is unknown.

    Example:
        >>> import pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp(), "ali.txt")
        >>> _ = path.write_text("utt1 5 5 7\n")
        >>> for key, value in read_ark(path, "integers"):
        ...     print(key, value)
        utt1 [5 5 7]
    """
    _check_kind(kind)
    with open_stream(path) as stream:
        yield from read_stream(stream, kind, dtype=dtype)


def read_stream(
    stream: KaldiStream, kind: Kind = "matrix", *, dtype: DTypeLike = np.float32
) -> Iterator[tuple[str, NDArray[Any]]]:
    """Read an archive that is open; see :func:`read_ark`.

    Args:
        stream: Before a key.
        kind: What its entries are.
        dtype: float32 or float64 for matrices and vectors.

    Yields:
        The key and the object.
    """
    while (key := _read_key(stream)) is not None:
        yield key, read_object(stream, kind, dtype=dtype, what=f"{kind} of {key}")


def index_ark(path: str | PathLike[str], kind: Kind = "matrix") -> dict[str, int]:
    """Where each object of an archive begins, found by reading all of it once.

    Args:
        path: The archive, not gzipped.
        kind: As for :func:`read_ark`.

    Returns:
        Offsets by key, as a script file names them.

    Raises:
        FormatError: If the archive is gzipped, damaged, or has a key twice.
    """
    found: dict[str, int] = {}
    with open_stream(path) as stream:
        if stream.packed:
            raise FormatError(path, "is gzipped, and its entries are wanted in another order: unpack it")
        while (key := _read_key(stream)) is not None:
            if key in found:
                raise stream.error(f"the key {key!r} comes a second time")
            found[key] = stream.offset
            read_object(stream, kind, what=f"{kind} of {key}")
    return found


@contextmanager
def open_stream(path: str | PathLike[str]) -> Iterator[KaldiStream]:
    """Open an archive or model file, gzipped or not.

    Args:
        path: The file.

    Yields:
        A stream at its first byte, after decompression and a byte order mark.

    Raises:
        FormatError: If it cannot be opened or read.
    """
    with open_regular(path) as (file, size):
        magic = file.read(2)
        file.seek(0)
        if magic != _GZIP_MAGIC:
            stream = KaldiStream(file, str(path), end=size)
            stream.skip_byte_order_mark()
            yield stream
            return
        with gzip.GzipFile(fileobj=file) as unpacked:
            stream = KaldiStream(cast(BinaryIO, unpacked), str(path), largest=_LARGEST_UNPACKED)
            stream.packed = True
            stream.skip_byte_order_mark()
            yield stream


def read_object(
    stream: KaldiStream, kind: Kind, *, dtype: DTypeLike = np.float32, what: str = "object"
) -> NDArray[Any]:
    """Read one object of an archive, after its key.

    Args:
        stream: After the key and the byte that follows it.
        kind: As for :func:`read_ark`.
        dtype: float32 or float64 for matrices and vectors.
        what: Name for the errors.

    Returns:
        The object.

    Raises:
        FormatError: If it is malformed, truncated or of another kind.
        ConfigError: If the kind is unknown.
    """
    _check_kind(kind)
    stream.binary = False
    if stream.peek() == b"\0":
        if stream.take(2, f"header of {what}") != b"\0B":
            raise stream.error(f"{what} starts with a zero byte, which 'B' should follow", offset=stream.offset - 2)
        stream.binary = True
    if kind == "integers":
        return _read_integers(stream, what)
    if kind == "posterior":
        return read_posterior(stream, what=what)
    read = read_matrix if kind == "matrix" else read_vector
    value = read(stream, dtype, what=what)
    if not stream.binary:
        _end_line(stream, what)
    return value


def read_matrix_file(path: str | PathLike[str], *, dtype: DTypeLike = np.float64) -> NDArray[Any]:
    """Read a file that is one matrix, such as ``final.mat`` or ``global_cmvn.stats``.

    Args:
        path: The file, binary or text.
        dtype: float32 or float64.

    Returns:
        The matrix, ``(rows, columns)``.

    Raises:
        FormatError: If it is not a matrix, or something follows it.
    """
    with open_stream(path) as stream:
        matrix = read_object(stream, "matrix", dtype=dtype, what="matrix")
        stream.skip_space()
        if not stream.at_end():
            raise stream.error("bytes follow the matrix")
    return matrix


def _check_kind(kind: str) -> None:
    if kind not in get_args(Kind):
        raise ConfigError(f"kind must be one of {', '.join(get_args(Kind))}, and is {kind!r}")


def _read_key(stream: KaldiStream) -> str | None:
    stream.skip_space()
    if stream.at_end():
        return None
    start = stream.offset
    ahead = stream.peek(_LONGEST_KEY)
    word = ahead.split(None, 1)[0]
    if len(word) == _LONGEST_KEY:
        raise stream.error(f"no archive: no key ends within {_LONGEST_KEY} bytes")
    try:
        key = word.decode("utf-8")
    except UnicodeDecodeError as error:
        raise stream.error(f"no key here, but the bytes {word[:20]!r}") from error
    if not key.isprintable():
        raise stream.error(f"no key here, but the bytes {word[:20]!r}")
    stream.take(len(word), "a key")
    if stream.at_end():
        raise stream.error(f"truncated: the file ends directly after the key {key!r}", offset=start)
    if stream.peek() != b"\n":  # an empty text vector of integers has nothing but its key on the line
        stream.take(1, "the space after a key")
    return key


def _end_line(stream: KaldiStream, what: str) -> None:
    """Pass the end of the line after a text object; nothing else may stand there."""
    while (byte := stream.peek()) in (b" ", b"\t", b"\r"):
        stream.take(1, what)
    if byte == b"\n":
        stream.take(1, what)
    elif byte:
        raise stream.error(f"{what} is followed by {byte!r} on its last line, where the line should end")


def _read_integers(stream: KaldiStream, what: str) -> NDArray[np.int32]:
    if not stream.binary:
        return _read_text_integers(stream, what)
    start = stream.offset
    length = stream.int32(f"length of {what}")
    if length < 0:
        raise stream.error(f"{what} has a negative length, {length}", offset=start)
    # Each element is a size byte, 4, and 4 bytes.
    packed = stream.array("u1", 5 * length, f"{what} of length {length}").reshape(length, 5)
    if (packed[:, 0] != 4).any():
        place = int(np.flatnonzero(packed[:, 0] != 4)[0])
        raise stream.error(f"{what}: element {place} is not an integer of 4 bytes", offset=start + 5 + 5 * place)
    return np.ascontiguousarray(packed[:, 1:]).view("<i4").reshape(length).astype(np.int32, copy=False)


def _read_text_integers(stream: KaldiStream, what: str) -> NDArray[np.int32]:
    parts, count = [], 0
    for chunk, offset in stream.until(b"\n", what):
        if (values := parse_int32(chunk)) is None:
            raise stream.error(f"{what} should be integers of 32 bits up to the end of the line", offset=offset)
        parts.append(values)
        count += values.size
        if count > _LARGEST_UNPACKED // 4:
            raise stream.error(f"{what} has more than {_LARGEST_UNPACKED // 4} integers", offset=offset)
    return np.concatenate(parts)
