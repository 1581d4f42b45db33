"""Graphs in OpenFst's binary files: enough of them to be sure that a decoder's library may be given one.

The library reads arcs on trust: an arc that leads to no state, or a label that the scores have no column for, would
be read outside its memory, and a cycle without input labels that gains with each turn would be followed for ever. So
every arc is checked here first, in numpy.
"""

__all__ = ["GraphSummary", "read_graphs", "summarise_fst"]

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import FormatError
from limbeck.formats._bounded import open_regular

_MAGIC, _SYMBOLS_MAGIC = 0x7EB2FDD6, 0x7EB2FB74
_ARC = np.dtype([("input", "<i4"), ("output", "<i4"), ("weight", "<f4"), ("next", "<i4")])
_STATE = np.dtype([("weight", "<f4"), ("first", "<u4"), ("arcs", "<u4"), ("inputs", "<u4"), ("outputs", "<u4")])
_HAS_INPUTS, _HAS_OUTPUTS, _ALIGNED = 1, 2, 4
_LARGEST = 1 << 32
_LONGEST_KEY = 1 << 12
_MOST_SWEEPS = 1000  # chains of arcs without input labels have a few


@dataclass(frozen=True)
class GraphSummary:
    """What a graph holds.

    Attributes:
        kind: "vector" or "const".
        states: Number of states.
        arcs: Number of arcs.
        final_states: Number of states at which a path may end.
        largest_input: Largest input label: of an HCLG, a transition id.
        largest_output: Largest output label: of an HCLG, a word.
    """

    kind: str
    states: int
    arcs: int
    final_states: int
    largest_input: int
    largest_output: int


def summarise_fst(path: str | PathLike[str]) -> GraphSummary:
    """Read and check a graph of standard arcs.

    Args:
        path: The file, of type vector or const.

    Returns:
        What it holds.

    Raises:
        FormatError: If it is no such graph, is truncated, or an arc or label is impossible.
    """
    reader = _Reader(path, _content(path))
    summary = reader.read()
    if reader.at != len(reader.data):
        raise FormatError(path, "bytes follow the graph", offset=reader.at)
    return summary


def read_graphs(path: str | PathLike[str]) -> Iterator[tuple[str, GraphSummary]]:
    """Read and check the graphs of an archive, as ``train.fsts``.

    Args:
        path: The archive.

    Yields:
        The utterance, and what its graph holds.

    Raises:
        FormatError: As :func:`summarise_fst`.
    """
    reader = _Reader(path, _content(path))
    while reader.at < len(reader.data):
        end = reader.data.find(b" ", reader.at, reader.at + _LONGEST_KEY)
        key = reader.data[reader.at : end]
        if end < 0 or not key.isascii() or not key.decode().isprintable() or not key:
            raise FormatError(path, "no key here", offset=reader.at)
        reader.at = end + 1
        yield key.decode(), reader.read()


def _content(path: str | PathLike[str]) -> bytes:
    with open_regular(path) as (file, size):
        if size > _LARGEST:
            raise FormatError(path, f"a graph of {size} bytes: at most {_LARGEST} are read")
        return file.read(size)


class _Reader:
    def __init__(self, path: str | PathLike[str], data: bytes) -> None:
        self.path, self.data, self.at = Path(path), data, 0

    def read(self) -> GraphSummary:
        if self.number("<I", "its magic number") != _MAGIC:
            raise FormatError(
                self.path, "no OpenFst graph: it does not start with its magic number", offset=self.at - 4
            )
        kind, arc = self.text(), self.text()
        if kind not in {"vector", "const"} or arc != "standard":
            raise FormatError(self.path, f"a {kind} graph of {arc} arcs: vector or const of standard arcs can be read")
        version, flags = self.number("<i", "its version"), self.number("<i", "its flags")
        self.number("<Q", "its properties")
        start, states, arcs = (self.number("<q", "its header") for _ in range(3))
        for flag in (_HAS_INPUTS, _HAS_OUTPUTS):
            if flags & flag:
                self.skip_symbols()
        if kind == "const":
            weights, counts, found = self.const_arcs(states, arcs, aligned=bool(flags & _ALIGNED) or version == 1)
        else:
            weights, counts, found = self.vector_arcs(states)
        return self.checked(kind, start, weights, counts, found)

    def checked(
        self, kind: str, start: int, weights: NDArray[Any], counts: NDArray[Any], arcs: NDArray[Any]
    ) -> GraphSummary:
        states = len(weights)
        if not 0 <= start < states:
            raise FormatError(self.path, f"starts in state {start} of {states}: there is no path through it")
        if arcs.size and not (0 <= int(arcs["next"].min()) and int(arcs["next"].max()) < states):
            raise FormatError(self.path, f"an arc leads to a state outside the {states} that there are")
        if arcs.size and min(int(arcs["input"].min()), int(arcs["output"].min())) < 0:
            raise FormatError(self.path, "an arc has a negative label")
        if not (arcs["weight"] > -np.inf).all() or not (weights > -np.inf).all():
            raise FormatError(self.path, "a weight is NaN or minus infinity")
        if _endless(counts, arcs):
            raise FormatError(
                self.path, "a cycle of arcs without input labels has a negative weight: its best path has no end"
            )
        final = int(np.count_nonzero(weights != np.inf))
        if not final:
            raise FormatError(self.path, "has no final state: there is no path through it")
        largest = [int(arcs[name].max()) if arcs.size else 0 for name in ("input", "output")]
        return GraphSummary(kind, states, arcs.size, final, *largest)

    def vector_arcs(self, states: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Final weights, numbers of arcs, and arcs: a walk from state to state, for each says how many arcs it has."""
        data, at, end = self.data, self.at, len(self.data)
        weights: list[float] = []
        counts: list[int] = []
        blocks: list[bytes] = []
        read, size = struct.Struct("<fq").unpack_from, _ARC.itemsize
        while at < end and len(weights) != states:  # a count of -1 means: to the end of the file
            if end - at < 12:
                raise FormatError(self.path, "truncated: the file ends inside a state", offset=at)
            weight, count = read(data, at)
            at += 12
            if not 0 <= count <= (end - at) // size:
                raise FormatError(self.path, f"truncated or corrupt: a state of {count} arcs", offset=at)
            weights.append(weight)
            counts.append(count)
            blocks.append(data[at : at + count * size])
            at += count * size
        if states >= 0 and len(weights) != states:
            raise FormatError(self.path, f"truncated: {states} states are promised, and {len(weights)} are there")
        self.at = at
        return np.array(weights, np.float32), np.array(counts, np.int64), np.frombuffer(b"".join(blocks), _ARC)

    def const_arcs(self, states: int, arcs: int, *, aligned: bool) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        table = self.array(_STATE, states, aligned)
        found = self.array(_ARC, arcs, aligned)
        counts = table["arcs"].astype(np.int64)
        ends = table["first"] + counts
        if states and int(ends.max()) > arcs:
            raise FormatError(self.path, f"a state's arcs reach beyond the {arcs} that there are")
        if not np.array_equal(ends, np.cumsum(counts)) or int(counts.sum()) != arcs:
            raise FormatError(self.path, f"the states' arcs do not follow one another to the {arcs} that there are")
        return table["weight"], counts, found

    def array(self, kind: np.dtype[Any], count: int, aligned: bool) -> NDArray[Any]:
        if aligned:
            self.at += -self.at % 16
        if not 0 <= count <= max(0, len(self.data) - self.at) // kind.itemsize:
            raise FormatError(self.path, f"truncated or corrupt: {count} records are promised", offset=self.at)
        values = np.frombuffer(self.data, kind, count, self.at)
        self.at += count * kind.itemsize
        return values

    def number(self, form: str, what: str) -> int:
        try:
            (value,) = struct.unpack_from(form, self.data, self.at)
        except struct.error as error:
            raise FormatError(self.path, f"truncated: the file ends inside {what}", offset=self.at) from error
        self.at += struct.calcsize(form)
        return int(value)

    def text(self) -> str:
        length = self.number("<i", "a name")
        if not 0 <= length <= len(self.data) - self.at:
            raise FormatError(self.path, f"truncated or corrupt: a name of {length} bytes", offset=self.at)
        self.at += length
        return self.data[self.at - length : self.at].decode("utf-8", "replace")

    def skip_symbols(self) -> None:
        if self.number("<I", "its symbols") != _SYMBOLS_MAGIC:
            raise FormatError(self.path, "a symbol table is promised, and is not there", offset=self.at - 4)
        self.text()
        self.number("<q", "its symbols")
        for _ in range(self.number("<q", "its symbols")):
            self.text()
            self.number("<q", "its symbols")


def _endless(counts: NDArray[Any], arcs: NDArray[Any]) -> bool:
    """Whether a cycle of arcs without input labels has a negative weight."""
    silent = arcs["input"] == 0
    if not (silent & (arcs["weight"] < 0)).any():
        return False
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    source, target = np.repeat(np.arange(len(counts)), counts)[silent], arcs["next"][silent]
    weight = arcs["weight"][silent].astype(np.float64)
    links = coo_array((np.ones(len(source), np.int8), (source, target)), shape=(len(counts), len(counts)))
    _, part = connected_components(links, directed=True, connection="strong")
    inside = part[source] == part[target]
    source, target, weight = source[inside], target[inside], weight[inside]
    # Bellman and Ford: where no cycle gains, the least costs to each state settle.
    cost = np.zeros(len(counts))
    for _ in range(min(len(counts), _MOST_SWEEPS) + 1):
        fresh = cost.copy()
        np.minimum.at(fresh, target, cost[source] + weight)
        if np.array_equal(fresh, cost):
            return False
        cost = fresh
    return True
