"""Read a file, plain or deflated, without ever producing more bytes than were asked for.

A compressed file of a few kilobytes can hold gigabytes, and a header of sixteen bytes can promise exabytes.
Readers built on :class:`Source` ask for exact counts; a count that this file cannot hold is refused before
memory is taken.
"""

__all__ = ["DEFLATE_RATIO", "Kind", "Source", "open_regular"]

import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from typing import BinaryIO, Literal

from limbeck.errors import FormatError

Kind = Literal["plain", "zlib", "gzip"]

# One deflate symbol gives at most 258 bytes and takes at least 2 bits, hence 4 * 258 bytes out of each byte.
DEFLATE_RATIO = 1032
_WINDOW_BITS = {"zlib": zlib.MAX_WBITS, "gzip": zlib.MAX_WBITS | 16}
_CHUNK_IN = 1 << 16
_CHUNK_OUT = 1 << 20


@contextmanager
def open_regular(path: str | PathLike[str]) -> Iterator[tuple[BinaryIO, int]]:
    """Open a regular file for reading; anything that cannot be opened is a `FormatError`.

    Args:
        path: The file. A folder, device or pipe is refused before it is opened.

    Yields:
        The open file and its size in bytes.

    Raises:
        FormatError: If there is no such file, it is not a regular file, or reading it fails.
    """
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        raise FormatError(path, f"cannot be read: {getattr(error, 'strerror', None) or error}") from error
    try:
        if not stat.S_ISREG(mode):
            raise FormatError(path, "not a regular file: give the path of a file, not of a folder or a device")
        with open(path, "rb") as file:
            yield file, os.fstat(file.fileno()).st_size
    except OSError as error:
        raise FormatError(path, f"cannot be read: {error.strerror or error}") from error


class Source:
    """Bytes of one region of a file, read forwards and counted after decompression.

    Every method raises `FormatError` where the data end too early or are corrupt.

    Args:
        path: Named in errors.
        file: The open file; the source moves its position.
        start: First byte of the region.
        stop: First byte after the region.
        kind: ``"plain"``; ``"zlib"``, one stream; or ``"gzip"``, any number of members, zero padding allowed.

    Attributes:
        offset: Bytes read so far, after decompression.
    """

    # Upper bound on the bytes that can still come, whatever the file holds.
    def __init__(self, path: str | PathLike[str], file: BinaryIO, start: int, stop: int, kind: Kind) -> None:
        self.path = path
        self.kind = kind
        self.offset = 0
        self._file = file
        self._start = start
        self._left = stop - start
        self._capacity = self._left * (1 if kind == "plain" else DEFLATE_RATIO)
        self._inflate = None if kind == "plain" else zlib.decompressobj(_WINDOW_BITS[kind])
        file.seek(start)

    @property
    def room(self) -> int:
        return self._capacity - self.offset

    def error(self, reason: str) -> FormatError:
        """Make the error for what was found at the present position.

        Args:
            reason: What is wrong there.

        Returns:
            The error, to be raised. In a zlib region, which is a part of a file, its offset is the region's
            start, and the position inside goes into the message.
        """
        if self.kind == "zlib":
            inside = f"{self.offset} bytes into the data decompressed from here"
            return FormatError(self.path, f"{reason} ({inside})", offset=self._start)
        return FormatError(self.path, reason, offset=self._start + self.offset)

    def read(self, count: int, what: str) -> bytearray:
        """Read exactly ``count`` bytes.

        Args:
            count: Number of bytes, at least 0.
            what: Name of what they hold, for the error.

        Returns:
            The bytes, in memory of their own that may be changed.
        """
        self._refuse_too_many(count, what)
        data = bytearray()
        while len(data) < count:
            data += self._some(min(count - len(data), _CHUNK_OUT), what)
        return data

    def skip(self, count: int, what: str) -> None:
        """Skip ``count`` bytes, holding at most a chunk of them.

        Args:
            count: Number of bytes, at least 0.
            what: Name of what they hold, for the error.
        """
        self._refuse_too_many(count, what)
        while count:
            count -= len(self._some(min(count, _CHUNK_OUT), what))

    def finish(self) -> None:
        """Check that nothing follows; for compressed data this compares the checksum too.

        Raises:
            FormatError: If bytes follow, or the checksum differs.
        """
        if self._next(1):
            self.offset -= 1
            raise FormatError(
                self.path,
                "trailing bytes follow the data that the header promises",
                offset=self._start + self.offset,
            )

    def _refuse_too_many(self, count: int, what: str) -> None:
        if count > self.room:
            how = "are left" if self.kind == "plain" else "can at most come out of the compressed data"
            raise self.error(f"truncated or corrupt: {what} needs {count} bytes, and {self.room} {how}")

    def _some(self, most: int, what: str) -> bytes:
        piece = self._next(most)
        if not piece:
            raise self.error(f"truncated: the data end inside {what}")
        return piece

    def _raw(self, most: int) -> bytes:
        data = self._file.read(min(most, self._left))
        self._left -= len(data)
        return data

    # Returns 1 to ``most`` bytes, or none at the end of the data.
    def _next(self, most: int) -> bytes:
        piece = self._raw(most) if self._inflate is None else self._inflated(most)
        self.offset += len(piece)
        return piece

    def _inflated(self, most: int) -> bytes:
        while True:
            assert self._inflate is not None
            if self._inflate.eof:
                data = self._next_member(self._inflate.unused_data)
                if not data:
                    return b""
            else:
                data = self._inflate.unconsumed_tail or self._raw(_CHUNK_IN)
            try:
                piece = self._inflate.decompress(data, most)
            except zlib.error as error:
                raise self.error(f"corrupt compressed data: {error}") from error
            if piece:
                return piece
            if not data and not self._inflate.eof:
                raise self.error("truncated: the compressed data end early")

    # Starts the next gzip member and returns its first bytes, or none where there is no other.
    def _next_member(self, pending: bytes) -> bytes:
        if self.kind == "zlib":
            return b""
        while True:
            pending = pending.lstrip(b"\0")
            if pending:
                break
            pending = self._raw(_CHUNK_IN)
            if not pending:
                return b""
        if pending[0] != 0x1F:
            raise self.error("trailing bytes follow the gzip data")
        self._inflate = zlib.decompressobj(_WINDOW_BITS["gzip"])
        return pending
