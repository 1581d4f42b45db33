"""Compact lattices of Kaldi: words on arcs, with their costs and the transition id of each frame."""

__all__ = [
    "CompactLattice",
    "LatticeArc",
    "LatticeWeight",
    "lattice_bytes",
    "read_lattice_entries",
    "read_lattices",
]

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from os import PathLike
from typing import NamedTuple

from limbeck.errors import FormatError
from limbeck.kaldi.formats.scp import ScpEntry
from limbeck.kaldi.formats.table import open_stream

_MAGIC = 0x7EB2FDD6
_KIND = b"compactlattice44"
_VERSION, _PROPERTIES = 2, 3  # what OpenFst calls expanded and mutable; the rest it finds out by itself
_LONGEST_KEY = 1 << 12


class LatticeWeight(NamedTuple):
    """Costs of an arc, or of ending in a state; they are negative logarithms.

    Attributes:
        graph: Of the graph: transitions, pronunciations, language model.
        acoustic: Of the network, not scaled.
        transitions: The transition id of each frame.
    """

    graph: float
    acoustic: float
    transitions: tuple[int, ...] = ()


class LatticeArc(NamedTuple):
    """An arc of a lattice.

    Attributes:
        source: The state that it leaves.
        target: The state that it leads to.
        word: The label of a word, or 0.
        weight: What it costs.
    """

    source: int
    target: int
    word: int
    weight: LatticeWeight


@dataclass(frozen=True)
class CompactLattice:
    """A lattice whose first state is 0.

    Attributes:
        arcs: By their sources.
        finals: What it costs to end in a state, or None where no path ends; one for each state.
    """

    arcs: tuple[LatticeArc, ...]
    finals: tuple[LatticeWeight | None, ...]

    def paths(self) -> Iterator[tuple[tuple[int, ...], LatticeWeight]]:
        """All paths from the first state to an end; there may be very many.

        Yields:
            The words, and the costs and transition ids of the whole path.

        Example:
            >>> arc = LatticeArc(0, 1, 7, LatticeWeight(1.0, -2.0, (3, 3)))
            >>> list(CompactLattice((arc,), (None, LatticeWeight(0.5, 0.0))).paths())
            [((7,), LatticeWeight(graph=1.5, acoustic=-2.0, transitions=(3, 3)))]
        """
        leaving: dict[int, list[LatticeArc]] = {}
        for arc in self.arcs:
            leaving.setdefault(arc.source, []).append(arc)
        waiting: list[tuple[int, tuple[int, ...], LatticeWeight]] = [(0, (), LatticeWeight(0.0, 0.0))]
        while waiting:
            state, words, weight = waiting.pop()
            last = self.finals[state]
            if last is not None:
                yield words, _times(weight, last)
            for arc in leaving.get(state, ()):
                said = (*words, arc.word) if arc.word else words
                waiting.append((arc.target, said, _times(weight, arc.weight)))


def _times(one: LatticeWeight, other: LatticeWeight) -> LatticeWeight:
    return LatticeWeight(one.graph + other.graph, one.acoustic + other.acoustic, one.transitions + other.transitions)


def lattice_bytes(lattice: CompactLattice, *, binary: bool) -> list[bytes]:
    r"""A lattice as it stands in an archive, after its key and a space.

    Args:
        lattice: The lattice.
        binary: OpenFst's binary form; else a line per arc and per final state.

    Returns:
        Pieces of the file.

    Example:
        >>> arc = LatticeArc(0, 1, 7, LatticeWeight(1.0, -2.0, (3, 3)))
        >>> b"".join(lattice_bytes(CompactLattice((arc,), (None, LatticeWeight(0.0, 0.0))), binary=False))
        b'\n0\t1\t7\t1,-2,3_3\n1\t0,0,\n\n'
    """
    leaving: list[list[LatticeArc]] = [[] for _ in lattice.finals]
    for arc in lattice.arcs:
        leaving[arc.source].append(arc)
    if not binary:
        lines = ["\n"]
        for state, (last, arcs) in enumerate(zip(lattice.finals, leaving, strict=True)):
            lines += [f"{state}\t{arc.target}\t{arc.word}\t{_text(arc.weight)}\n" for arc in arcs]
            lines += [] if last is None else [f"{state}\t{_text(last)}\n"]
        return ["".join([*lines, "\n"]).encode()]
    pieces = [struct.pack("<I", _MAGIC), *(struct.pack("<i", len(word)) + word for word in (b"vector", _KIND)),
              struct.pack("<iiQqqq", _VERSION, 0, _PROPERTIES, 0, len(leaving), len(lattice.arcs))]  # fmt: skip
    for last, arcs in zip(lattice.finals, leaving, strict=True):
        pieces.append(_binary(LatticeWeight(float("inf"), float("inf")) if last is None else last))
        pieces.append(struct.pack("<q", len(arcs)))
        for arc in arcs:
            pieces += [struct.pack("<ii", arc.word, arc.word), _binary(arc.weight), struct.pack("<i", arc.target)]
    return pieces


def _text(weight: LatticeWeight) -> str:
    return f"{weight.graph:.7g},{weight.acoustic:.7g},{'_'.join(map(str, weight.transitions))}"


def _binary(weight: LatticeWeight) -> bytes:
    count = len(weight.transitions)
    return struct.pack(f"<ffi{count}i", weight.graph, weight.acoustic, count, *weight.transitions)


def read_lattices(path: str | PathLike[str]) -> Iterator[tuple[str, CompactLattice]]:
    """Read an archive of compact lattices, binary or text.

    Args:
        path: The archive, gzipped or not.

    Yields:
        The utterance and its lattice.

    Raises:
        FormatError: If it is no such archive, or damaged.
    """
    reader = _Reader.of(path)
    while reader.at < len(reader.data):
        end = reader.data.find(b" ", reader.at, reader.at + _LONGEST_KEY)
        key = reader.data[reader.at : end]
        if end < 0 or not key.isascii() or not key.decode().isprintable() or not key:
            raise FormatError(path, "no key here", offset=reader.at)
        yield key.decode(), reader.read(end + 1, key.decode())


def read_lattice_entries(entries: Iterable[ScpEntry]) -> Iterator[tuple[str, CompactLattice]]:
    """Read the compact lattices that a script file points at, an archive in memory at a time.

    Args:
        entries: Of files; an entry without an offset is a file of one lattice.

    Yields:
        The utterance and its lattice.

    Raises:
        FormatError: If no lattice is there, or it is damaged.
    """
    for source, group in groupby(entries, lambda entry: entry.source):
        reader = _Reader.of(source)
        for entry in group:
            yield entry.key, reader.read(entry.offset or 0, entry.key)


class _Reader:
    @classmethod
    def of(cls, path: str | PathLike[str]) -> "_Reader":
        with open_stream(path) as stream:
            return cls(path, b"".join(iter(lambda: stream.take_some(1 << 20), b"")))

    def read(self, at: int, key: str) -> CompactLattice:
        self.at = at
        try:
            return self.text() if self.data[at : at + 1] == b"\n" else self.binary()
        except (struct.error, ValueError, IndexError) as error:
            raise FormatError(self.path, f"truncated or corrupt inside the lattice of {key}: {error}") from error

    def __init__(self, path: str | PathLike[str], data: bytes) -> None:
        self.path, self.data, self.at = path, data, 0

    def take(self, form: str) -> tuple[int | float, ...]:
        values = struct.unpack_from(form, self.data, self.at)
        self.at += struct.calcsize(form)
        return values

    def binary(self) -> CompactLattice:
        start = self.at
        names = []
        (magic,) = self.take("<I")
        for _ in range(2):
            (length,) = self.take("<i")
            names.append(self.data[self.at : self.at + int(length)])
            self.at += int(length)
        if magic != _MAGIC or names != [b"vector", _KIND]:
            raise FormatError(self.path, "no compact lattice of OpenFst's vector type", offset=start)
        _, flags, _, first, states, _ = self.take("<iiQqqq")
        if flags or first != 0:
            raise FormatError(self.path, "a lattice with symbols, or whose first state is not 0", offset=start)
        arcs: list[LatticeArc] = []
        finals: list[LatticeWeight | None] = []
        for state in range(int(states)):
            last = self.weight()
            finals.append(None if last.graph == float("inf") else last)
            (count,) = self.take("<q")
            for _ in range(int(count)):
                word, _ = self.take("<ii")
                weight = self.weight()
                (target,) = self.take("<i")
                arcs.append(LatticeArc(state, int(target), int(word), weight))
        return self.checked(arcs, finals)

    def weight(self) -> LatticeWeight:
        graph, acoustic, count = self.take("<ffi")
        if not 0 <= count <= len(self.data):
            raise ValueError(f"{count} transition ids")
        return LatticeWeight(float(graph), float(acoustic), tuple(map(int, self.take(f"<{int(count)}i"))))

    def text(self) -> CompactLattice:
        self.at += 1
        end = self.data.index(b"\n\n", self.at - 1)
        lines = self.data[self.at : end].decode("ascii").splitlines()
        self.at = end + 2
        arcs: list[LatticeArc] = []
        last: dict[int, LatticeWeight] = {}
        for line in lines:
            *numbers, costs = line.split()
            graph, acoustic, transitions = costs.split(",")
            weight = LatticeWeight(float(graph), float(acoustic), tuple(map(int, filter(None, transitions.split("_")))))
            if len(numbers) == 1:
                last[int(numbers[0])] = weight
            else:
                source, target, word = map(int, numbers)
                arcs.append(LatticeArc(source, target, word, weight))
        count = 1 + max((max(arc.source, arc.target) for arc in arcs), default=max(last, default=-1))
        return self.checked(arcs, [last.get(state) for state in range(count)])

    def checked(self, arcs: list[LatticeArc], finals: list[LatticeWeight | None]) -> CompactLattice:
        if not all(0 <= arc.target < len(finals) and 0 <= arc.source for arc in arcs):
            raise ValueError("an arc leads to a state that is not there")
        return CompactLattice(tuple(arcs), tuple(finals))
