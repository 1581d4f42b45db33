"""The basic types of Kaldi's files, read forwards: tokens, integers, floats, arrays, text up to ``]``.

Nothing is allocated on the word of a header: where the size of the file is known, a count that it cannot hold
is refused; where it is not (gzip, pipes), memory grows only with the bytes that come.
"""

__all__ = ["KaldiStream"]

import codecs
import re
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import FormatError
from limbeck.kaldi.formats.numbers import parse_float32

_FIRST_BLOCK = 1 << 12  # one object out of an archive should not read much of the next
_LARGEST_BLOCK = 1 << 18
_GROWTH = 1 << 24  # most bytes taken at once from a stream of unknown size
_LONGEST_TOKEN = 128
_LONGEST_NUMBER = 1 << 12
_SPACES = b" \t\n\v\f\r"
_SPACE_RUN = re.compile(rb"[ \t\n\v\f\r]*")
_NON_SPACE_RUN = re.compile(rb"[^ \t\n\v\f\r]*")
_INTEGER = re.compile(rb"[+-]?[0-9]{1,19}")


class KaldiStream:
    """A Kaldi file or archive, read forwards.

    Args:
        file: Open binary file, at the first byte to read.
        name: Named in errors.
        end: Offset just after the last byte, or None where it is not known.
        offset: Offset of the first byte.
        largest: Most bytes of one array, or None for no limit but the file's end.

    Attributes:
        name: Named in errors.
        binary: Whether the object that is being read is in binary mode.
        packed: Whether the file is gzipped, so that offsets are not those of the file.
    """

    def __init__(
        self,
        file: BinaryIO,
        name: str,
        *,
        end: int | None = None,
        offset: int = 0,
        largest: int | None = None,
    ) -> None:
        self.name = name
        self.binary = False
        self.packed = False
        self._file = file
        self._end = end
        self._largest = largest
        self._block = _FIRST_BLOCK
        self._data = b""
        self._pos = 0
        self._base = offset

    @property
    def offset(self) -> int:
        """Offset of the next byte."""
        return self._base + self._pos

    def error(self, reason: str, *, offset: int | None = None) -> FormatError:
        """Return the error for something at an offset, by default the present one."""
        return FormatError(self.name, reason, offset=self.offset if offset is None else offset)

    def ensure(self, count: int) -> int:
        """Hold at least ``count`` more bytes, or all there are.

        Args:
            count: Bytes wanted; small.

        Returns:
            How many bytes are held; fewer than ``count`` only at the end of the file.

        Raises:
            FormatError: If the stream cannot be read or decompressed.
        """
        while len(self._data) - self._pos < count:
            more = self._read(max(self._block, count))
            self._block = min(2 * self._block, _LARGEST_BLOCK)
            if not more:
                break
            self._base += self._pos
            self._data, self._pos = self._data[self._pos :] + more, 0
        return len(self._data) - self._pos

    def peek(self, count: int = 1) -> bytes:
        """Return the next bytes without passing them, fewer at the end of the file."""
        self.ensure(count)
        return self._data[self._pos : self._pos + count]

    def at_end(self) -> bool:
        """Return whether no byte is left."""
        return not self.ensure(1)

    def skip_space(self) -> None:
        """Pass white space."""
        while self.ensure(1):
            match = _SPACE_RUN.match(self._data, self._pos)
            assert match is not None
            self._pos = match.end()
            if self._pos < len(self._data):
                return

    def skip_byte_order_mark(self) -> None:
        """Pass the mark that some editors of text put before the first byte; nothing of Kaldi's begins with it."""
        if self.peek(3) == codecs.BOM_UTF8:
            self.take(3, "a byte order mark")

    def take(self, count: int, what: str) -> bytes:
        """Return exactly ``count`` bytes; small counts only.

        Raises:
            FormatError: If the file ends before.
        """
        if self.ensure(count) < count:
            raise self.error(f"truncated: the file ends inside {what}")
        self._pos += count
        return self._data[self._pos - count : self._pos]

    def take_some(self, count: int) -> bytes:
        """Return up to ``count`` bytes, none only at the end of the file."""
        self.ensure(1)
        taken = self._data[self._pos : self._pos + count]
        self._pos += len(taken)
        return taken

    def array(self, dtype: str, count: int, what: str) -> NDArray[Any]:
        """Read a little-endian array.

        Args:
            dtype: Such as ``"<f4"``.
            count: Number of elements, at least 0.
            what: Name for the error.

        Returns:
            The elements in memory of their own, ``(count,)``.

        Raises:
            FormatError: If the file holds fewer.
        """
        kind = np.dtype(dtype)
        wanted = count * kind.itemsize
        if not wanted:
            return np.empty(0, kind)
        self.ensure(1)
        if self._end is not None and wanted > self._end - self.offset:
            raise self.error(f"truncated: {what} needs {wanted} bytes, and {self._end - self.offset} are left")
        if self._largest is not None and wanted > self._largest:
            raise self.error(f"{what} needs {wanted} bytes, and at most {self._largest} are allowed here")
        first = self._data[self._pos : self._pos + wanted]
        if len(first) == wanted:
            self._pos += wanted
            return np.frombuffer(first, kind).copy()
        pieces, held = [first], len(first)
        self._pos += held
        while held < wanted:
            piece = self._read(wanted - held if self._end is not None else min(wanted - held, _GROWTH))
            if not piece:
                raise self.error(f"truncated: {what} needs {wanted} bytes, and {held} were left")
            held += len(piece)
            self._base += len(piece)
            pieces.append(piece)
        return np.frombuffer(bytearray().join(pieces), kind)

    def token(self) -> str:
        """Read a token and the one white-space byte that ends it.

        Returns:
            The token, of printable ASCII.

        Raises:
            FormatError: If there is none, it is too long, or the file ends directly after it.
        """
        if not self.binary:
            self.skip_space()
        match = _NON_SPACE_RUN.match(self.peek(_LONGEST_TOKEN + 1))
        token = match[0] if match is not None else b""
        if not token:
            raise self.error("truncated: the file ends where a token should be" if self.at_end() else "no token here")
        if len(token) > _LONGEST_TOKEN:
            raise self.error(f"no token here: {token[:20]!r}... has no end within {_LONGEST_TOKEN} bytes")
        if not (token.isascii() and token.decode("ascii").isprintable()):
            raise self.error(f"no token here, but the bytes {token[:20]!r}")
        if self.ensure(len(token) + 1) == len(token):
            raise self.error(f"truncated: the file ends directly after {token.decode()}, where a space must follow")
        self._pos += len(token) + 1
        return token.decode("ascii")

    def peek_token(self) -> str:
        """Return the next token, cut to 128 characters, without passing it; empty at the end of the file."""
        if not self.binary:
            self.skip_space()
        match = _NON_SPACE_RUN.match(self.peek(_LONGEST_TOKEN))
        return match[0].decode("ascii", "replace") if match is not None else ""

    def expect(self, *tokens: str) -> str:
        """Read one of some tokens.

        Returns:
            The one that was there.

        Raises:
            FormatError: If another is there, or none.
        """
        start = self.offset
        token = self.token()
        if token not in tokens:
            raise self.error(f"found {token!r} where {' or '.join(tokens)} should be", offset=start)
        return token

    def int32(self, what: str) -> int:
        """Return an integer of 32 bits, read in the mode of the object.

        Raises:
            FormatError: If there is none, or it has another size.
        """
        start = self.offset
        if self.binary:
            size = self.take(1, what)[0]
            if size != 4:
                raise self.error(f"{what} should be an integer of 4 bytes, and its size byte says {size}", offset=start)
            return int.from_bytes(self.take(4, what), "little", signed=True)
        token = self.word(what)
        value = int(token) if _INTEGER.fullmatch(token) else None
        if value is None or not -(1 << 31) <= value < 1 << 31:
            raise self.error(f"{what} should be an integer of 32 bits, and is {token[:20]!r}", offset=start)
        return value

    def float32(self, what: str) -> float:
        """Return a finite number, rounded to float32, read in the mode of the object; a double is taken too.

        Raises:
            FormatError: If there is none, or it is not finite.
        """
        start = self.offset
        value: float | None
        if self.binary:
            size = self.take(1, what)[0]
            if size not in (4, 8):
                raise self.error(
                    f"{what} should be a number of 4 or 8 bytes, and its size byte says {size}", offset=start
                )
            data = self.take(size, what)
            with np.errstate(over="ignore", invalid="ignore"):
                value = float(np.float32(np.frombuffer(data, f"<f{size}")[0]))
        else:
            value = parse_float32(self.word(what))
        if value is None or not np.isfinite(value):
            raise self.error(f"{what} should be a finite number", offset=start)
        return value

    def word(self, what: str) -> bytes:
        """Return a word of a text file, without the white space that ends it.

        Raises:
            FormatError: If the file ends, or the word is too long.
        """
        self.skip_space()
        match = _NON_SPACE_RUN.match(self.peek(_LONGEST_TOKEN + 1))
        if match is None or not match[0]:
            raise self.error(f"truncated: the file ends where {what} should be")
        if len(match[0]) > _LONGEST_TOKEN:
            raise self.error(f"{what} should be here, and this word has more than {_LONGEST_TOKEN} characters")
        self._pos += len(match[0])
        return match[0]

    def until(self, stop: bytes, what: str) -> Iterator[tuple[bytes, int]]:
        """Pass text up to and with a stop byte, in chunks cut at white space or ``;``.

        Args:
            stop: One byte.
            what: Name for the error.

        Yields:
            A chunk, without the stop byte, and its offset.

        Raises:
            FormatError: If the file ends before the stop byte.
        """
        wanted = 1
        while True:
            held = self.ensure(wanted)
            found = self._data.find(stop, self._pos)
            last = found
            if found < 0:
                last = 1 + max(self._data.rfind(cut, self._pos) for cut in (b" ", b"\n", b"\t", b";"))
            start, chunk = self.offset, self._data[self._pos : max(last, self._pos)]
            self._pos += len(chunk)
            if found >= 0:
                self._pos += 1
                yield chunk, start
                return
            if chunk:
                yield chunk, start
            wanted = held - len(chunk) + 1
            if wanted > _LONGEST_NUMBER:
                raise self.error(f"no number of {what}, but {wanted - 1} bytes without a space")
            if self.ensure(wanted) < wanted:
                raise self.error(f"truncated: the file ends inside {what}, before its {stop.decode()!r}")

    def _read(self, count: int) -> bytes:
        try:
            return self._file.read(count)
        except (EOFError, zlib.error, OSError) as error:
            raise self.error(f"cannot be read further: {error}") from error
