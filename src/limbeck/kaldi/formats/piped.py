"""Sequential streams that can be read once: stdin, pipes, and the output of commands."""

__all__ = ["is_once", "open_command", "open_once", "open_sink"]

import gzip
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, cast

from limbeck.errors import FormatError, RunError
from limbeck.kaldi.formats.stream import KaldiStream

_LARGEST = 1 << 30  # bytes of one object
_GZIP_MAGIC = b"\x1f\x8b"


def is_once(path: str) -> bool:
    """Whether a path is the input stream, a pipe or a device, and not a file that can be read again.

    Args:
        path: "-" for the input stream, or any path.

    Returns:
        Whether it is; False where there is nothing.
    """
    if path == "-":
        return True
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode) or stat.S_ISSOCK(mode)


class _Ahead:
    """A file whose first bytes were read already."""

    def __init__(self, first: bytes, file: BinaryIO) -> None:
        self._first, self._file = first, file

    def read(self, count: int = -1) -> bytes:
        if not self._first:
            return self._file.read(count)
        if count < 0:
            first, self._first = self._first, b""
            return first + self._file.read()
        taken, self._first = self._first[:count], self._first[count:]
        return taken if len(taken) == count else taken + self._file.read(count - len(taken))


@contextmanager
def _stream(file: BinaryIO, name: str) -> Iterator[KaldiStream]:
    """A stream of a file that cannot be sought in, gzipped or not."""
    try:
        first = file.read(2)
    except OSError as error:
        raise FormatError(name, f"cannot be read: {error.strerror or error}") from error
    ahead = cast(BinaryIO, _Ahead(first, file))
    if first != _GZIP_MAGIC:
        stream = KaldiStream(ahead, name, largest=_LARGEST)
        stream.skip_byte_order_mark()
        yield stream
        return
    with gzip.GzipFile(fileobj=ahead) as unpacked:
        stream = KaldiStream(cast(BinaryIO, unpacked), name, largest=_LARGEST)
        stream.packed = True
        stream.skip_byte_order_mark()
        yield stream


@contextmanager
def open_once(path: str) -> Iterator[KaldiStream]:
    """Open the input stream, or a pipe by its path.

    Args:
        path: "-" for the input stream.

    Yields:
        A stream at its first byte, after decompression.

    Raises:
        FormatError: If it cannot be opened or read.
    """
    if path == "-":
        if sys.stdin is None:
            raise FormatError("the input stream", "is closed")
        with _stream(sys.stdin.buffer, "the input stream") as stream:
            yield stream
        return
    try:
        file = open(path, "rb")  # noqa: SIM115
    except OSError as error:
        raise FormatError(path, f"cannot be read: {error.strerror or error}") from error
    with file, _stream(cast(BinaryIO, file), path) as stream:
        yield stream


@contextmanager
def open_command(command: str) -> Iterator[KaldiStream]:
    """Run a command in a shell, and read what it puts out; it must be allowed by whoever calls this.

    Args:
        command: As a shell takes it.

    Yields:
        A stream at the first byte of its output, after decompression.

    Raises:
        FormatError: If the command fails, once its output is read to the end.
    """
    name = f"output of {command!r}"
    with subprocess.Popen(command, shell=True, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as process:
        try:
            with _stream(cast(BinaryIO, process.stdout), name) as stream:
                yield stream
                whole = stream.at_end()
        except FormatError:
            process.kill()
            if process.wait() > 0:
                raise FormatError(name, f"the command failed with exit status {process.returncode}") from None
            raise
        except BaseException:
            process.kill()
            raise
        if not whole:
            process.kill()
    if whole and process.returncode:
        raise FormatError(name, f"the command failed with exit status {process.returncode}")


@contextmanager
def open_sink(target: str, *, is_pipe: bool = False) -> Iterator[BinaryIO]:
    """Open the output stream, a pipe by its path, or the input of a command, to write to it as it comes.

    Args:
        target: "-" for the output stream, a path, or a command, which must be allowed by whoever calls this.
        is_pipe: Whether it is a command.

    Yields:
        Where to write.

    Raises:
        RunError: If it cannot be written to, or the command fails.
    """
    try:
        if target == "-" and not is_pipe:
            if sys.stdout is None:
                raise RunError("the output stream is closed")
            yield sys.stdout.buffer
            sys.stdout.buffer.flush()
        elif is_pipe:
            with _into_command(target) as into:
                yield into
        else:
            with open(target, "wb") as file:
                yield file
    except OSError as error:
        name = "the output stream" if target == "-" else target
        raise RunError(f"cannot write to {name}: {error.strerror or error}") from error


@contextmanager
def _into_command(command: str) -> Iterator[BinaryIO]:
    """The input of a command; where it stops reading, its exit status says why."""
    process = subprocess.Popen(command, shell=True, stdin=subprocess.PIPE)
    into = cast(BinaryIO, process.stdin)
    broken: BaseException | None = None
    try:
        try:
            yield into
        finally:
            try:
                into.close()  # which writes what is left
            finally:
                process.wait()
    except (OSError, RunError) as error:
        if not isinstance(error if isinstance(error, OSError) else error.__cause__, BrokenPipeError):
            raise
        broken = error
    if process.returncode:
        raise RunError(f"the command {command!r} failed with exit status {process.returncode}") from broken
    if broken is not None:
        raise RunError(f"the command {command!r} ended before it had read everything") from broken
