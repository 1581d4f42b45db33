"""Tables that a user names, wherever they come from: a path, a specifier of Kaldi's, the input stream, a command."""

__all__ = ["Table"]

import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from limbeck.errors import FormatError, LimbeckWarning, RunError
from limbeck.kaldi.formats.piped import is_once, open_command, open_once
from limbeck.kaldi.formats.scp import ScpEntry, read_entries, read_scp, read_scp_stream
from limbeck.kaldi.formats.sniff import FileKind, identify, identify_stream
from limbeck.kaldi.formats.specifiers import Reading, parse_reading
from limbeck.kaldi.formats.stream import KaldiStream
from limbeck.kaldi.formats.table import Kind, read_ark, read_stream

_KINDS: Mapping[str, Kind] = {"matrices": "matrix", "vectors": "vector", "integers": "integers",
                              "posteriors": "posterior"}  # fmt: skip


class Table:
    """An archive or a script file, opened and detected from the magic bytes.

    Args:
        given: A path, or a specifier of Kaldi's such as ``ark:-`` or ``scp:feats.scp``. Entries of ``scp,p:`` whose
            file is missing are left out with a warning; what is damaged is an error.
        root: The folder to which paths in a script file are relative.
        allow_pipes: Run commands, the specifier's own and those in lines of a script file, in a shell.

    Attributes:
        name: For messages.
        path: Where it is, or None for the input stream, a pipe and a command.
        kind: What it is, as :func:`~limbeck.kaldi.formats.sniff.identify` says.
        entries: The lines of a script file; None for an archive.
        allow_pipes: As given.

    Raises:
        FormatError: If it cannot be read, or is of no known kind.
        RunError: If it is a command, or a script file has one, and that is not allowed.
    """

    def __init__(
        self, given: str | PathLike[str], *, root: str | PathLike[str] | None = None, allow_pipes: bool = False
    ) -> None:
        reading = parse_reading(given)
        self.allow_pipes = allow_pipes
        self._stack = ExitStack()
        self._stream: KaldiStream | None = None
        self.name = "the input stream" if reading.source == "-" else reading.source
        once = reading.is_pipe or is_once(reading.source)
        self.path = None if once else Path(reading.source)
        self.entries: list[ScpEntry] | None = None
        if once:
            self._open_once(reading, root)
        else:
            self._open_file(reading, root)
        if reading.permissive and self.entries is not None:
            self.entries = _of_files_that_are_there(self.name, self.entries)

    def _open_file(self, reading: Reading, root: str | PathLike[str] | None) -> None:
        self.kind: FileKind = "scp" if reading.kind == "scp" else identify(reading.source)
        if reading.kind == "ark" and self.kind not in _KINDS:
            raise FormatError(reading.source, f"is not an archive, as ark: says, but looks like {self.kind}")
        if self.kind == "scp":
            self.entries = read_scp(reading.source, root=root, allow_pipes=self.allow_pipes)

    def _open_once(self, reading: Reading, root: str | PathLike[str] | None) -> None:
        if reading.is_pipe and not self.allow_pipes:
            raise RunError(
                f"{reading.source!r} is a command, which would run in a shell: if you mean that, give --allow-pipes"
            )
        opened: AbstractContextManager[KaldiStream] = (
            open_command(reading.source) if reading.is_pipe else open_once(reading.source)
        )
        with ExitStack() as stack:
            stream = stack.enter_context(opened)
            self.name = stream.name
            if reading.kind == "scp":
                self.kind = "scp"
            else:
                self.kind = identify_stream(stream)
            if reading.kind == "ark" and self.kind not in _KINDS:
                raise stream.error(f"this is not an archive, as ark: says, but looks like {self.kind}")
            if self.kind == "scp":
                self.entries = read_scp_stream(stream, root=root, allow_pipes=self.allow_pipes)
                return
            self._stream = stream
            self._stack = stack.pop_all()

    @property
    def holds(self) -> Kind | None:
        """What the entries of an archive are; None for a script file."""
        return _KINDS.get(self.kind)

    def read(self, kind: Kind = "matrix", *, dtype: DTypeLike = np.float32) -> Iterator[tuple[str, NDArray[Any]]]:
        """Read the entries, one in memory at a time.

        Args:
            kind: What they are.
            dtype: float32 or float64 for matrices and vectors.

        Yields:
            The key and the object.

        Raises:
            FormatError: If an entry is malformed, truncated or of another kind.
            RunError: If it can be read once, and was.
        """
        if self.entries is not None:
            yield from read_entries(self.entries, kind, dtype=dtype, allow_pipes=self.allow_pipes)
            return
        if self.path is not None:
            yield from read_ark(self.path, kind, dtype=dtype)
            return
        stream, self._stream = self._stream, None
        if stream is None:
            raise RunError(f"{self.name} can be read once, and is wanted again: write it to a file first")
        with self._stack:
            yield from read_stream(stream, kind, dtype=dtype)

    def __fspath__(self) -> str:
        return os.fspath(self.path) if self.path is not None else self.name


def _of_files_that_are_there(name: str, entries: list[ScpEntry]) -> list[ScpEntry]:
    """The entries whose archive exists; commands are taken to give something."""
    there = {source: os.path.exists(source) for source in {entry.source for entry in entries if not entry.is_pipe}}
    kept = [entry for entry in entries if there.get(entry.source, True)]
    left_out = [entry for entry in entries if not there.get(entry.source, True)]
    if left_out:
        said = f"{left_out[0].source} of {left_out[0].key}"
        if not kept:
            raise FormatError(name, f"names files of which none is there: the first is {said}")
        warnings.warn(
            f"{name}: {len(left_out)} of {len(entries)} entries are left out, as p asks, for their files are missing: "
            f"the first is {said}",
            LimbeckWarning,
            stacklevel=4,
        )
    return kept
