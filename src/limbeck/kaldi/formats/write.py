"""Write Kaldi archives, binary or text, with a script file beside them."""

__all__ = ["ArkWriter", "write_ark"]

import os
import struct
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import DataError, RunError
from limbeck.kaldi.formats.compact_lattice import CompactLattice, lattice_bytes
from limbeck.kaldi.formats.matrix import matrix_bytes, vector_bytes
from limbeck.kaldi.formats.piped import is_once, open_sink
from limbeck.kaldi.formats.post import PAIR, posterior_bytes
from limbeck.system.files import open_beside, put_in_place, replace_bytes


class ArkWriter:
    r"""An archive that is written entry by entry, and appears under its name when all is there.

    Float matrices, float vectors, int32 vectors and pairs of posteriors are told apart by their dtype and axes. Used as
    a context manager; when the block is left by an error, no file remains.

    Args:
        path: The archive; its folder must exist. "-" for the output stream, which gets each entry as it comes.
        scp: Where to write the script file, or None.
        text: Write text, with 9 digits for float32, in place of binary.
        is_pipe: Whether ``path`` is a command that gets the archive, which runs in a shell.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "a.ark")
        >>> with ArkWriter(path, text=True) as writer:
        ...     writer.write("utt1", np.array([[0.5, 1.0]], np.float32))
        >>> path.read_text()
        'utt1  [\n  0.5 1 ]\n'
    """

    def __init__(
        self,
        path: str | PathLike[str],
        *,
        scp: str | PathLike[str] | None = None,
        text: bool = False,
        is_pipe: bool = False,
    ) -> None:
        self._path = Path(path)
        self._name = "to the output stream" if os.fspath(path) == "-" and not is_pipe else str(path)
        self._sink = ExitStack()
        self._temporary: Path | None = None
        self._scp = None if scp is None else Path(scp)
        self._text = text
        self._lines: list[str] = []
        self._keys: set[str] = set()
        if is_pipe or is_once(os.fspath(path)):
            self._file = self._sink.enter_context(open_sink(os.fspath(path), is_pipe=is_pipe))
            return
        try:
            handle, self._temporary = open_beside(self._path)
            self._file = cast(BinaryIO, os.fdopen(handle, "wb"))
        except OSError as error:
            raise RunError(f"cannot write {self._path}: {error.strerror or error}") from error

    def write(self, key: str, value: NDArray[Any]) -> None:
        """Write one entry.

        Args:
            key: Without white space, and not written before.
            value: float32 or float64 of one or two axes, int32 of one, or pairs of posteriors.

        Raises:
            DataError: If the key or the value has no place in an archive.
            RunError: If the disk is full.
        """
        if value.ndim == 1 and value.dtype == np.int32:
            pieces = _alignment_bytes(value, binary=not self._text)
        elif value.dtype == PAIR:
            pieces = list(posterior_bytes(value, binary=not self._text))
        else:
            pieces = (matrix_bytes if value.ndim == 2 else vector_bytes)(value, binary=not self._text)
        self._put(key, pieces if self._text else [b"\0B", *pieces])

    def write_lattice(self, key: str, lattice: CompactLattice) -> None:
        """Write a lattice, which has no mark of binary objects before it.

        Args:
            key: Without white space, and not written before.
            lattice: The lattice.
        """
        self._put(key, lattice_bytes(lattice, binary=not self._text))

    def _put(self, key: str, pieces: Iterable[bytes | memoryview]) -> None:
        if not key or not key.isprintable() or " " in key or len(key.split()) != 1:
            raise DataError(f"a key is a printable word without white space, and this is {key!r}")
        if key in self._keys:
            raise DataError(f"the key {key!r} was written before")
        self._keys.add(key)
        try:
            self._file.write(key.encode() + b" ")
            if self._scp is not None:
                self._lines.append(f"{key} {self._path}:{self._file.tell()}\n")
            for piece in pieces:
                self._file.write(piece)
        except OSError as error:
            raise RunError(f"cannot write {self._name}: {error.strerror or error}") from error

    def __enter__(self) -> "ArkWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._temporary is None:
            self._sink.__exit__(kind, error, trace)
            return
        try:
            with self._file:
                if kind is None:
                    self._file.flush()
                    os.fsync(self._file.fileno())
            if kind is None:
                put_in_place(self._temporary, self._path)
        except OSError as failure:
            if kind is None:
                raise RunError(f"cannot write {self._path}: {failure.strerror or failure}") from failure
        finally:
            self._temporary.unlink(missing_ok=True)
        if kind is None and self._scp is not None:
            replace_bytes(self._scp, "".join(self._lines).encode())


def write_ark(
    path: str | PathLike[str],
    entries: Mapping[str, NDArray[Any]] | Iterable[tuple[str, NDArray[Any]]],
    *,
    scp: str | PathLike[str] | None = None,
    text: bool = False,
) -> int:
    """Write an archive, whole or not at all.

    Args:
        path: The archive; its folder must exist.
        entries: Keys and values, as for :meth:`ArkWriter.write`.
        scp: Where to write the script file, or None. Its paths are ``path`` as given.
        text: Write text in place of binary.

    Returns:
        How many entries were written.

    Raises:
        DataError: If a key or a value has no place in an archive.
        RunError: If the file cannot be written.
    """
    count = 0
    with ArkWriter(path, scp=scp, text=text) as writer:
        for key, value in entries.items() if isinstance(entries, Mapping) else entries:
            writer.write(key, value)
            count += 1
    return count


def _alignment_bytes(values: NDArray[np.int32], *, binary: bool) -> list[bytes | memoryview]:
    if not binary:
        return [b"".join(b"%d " % value for value in values.tolist()) + b"\n"]
    packed = np.full((len(values), 5), 4, np.uint8)
    packed[:, 1:] = np.ascontiguousarray(values, "<i4").view(np.uint8).reshape(-1, 4)
    return [struct.pack("<Bi", 4, len(values)), packed.tobytes()]
