"""Which times of which node are needed for the outputs of a chunk, and which can be computed; no torch.

All times count from the first output of the chunk. Nodes are gone through three times, never frame by frame: back from
the output for all times that may be wanted, forwards for those that can be computed, and back again for those that are.
"""

__all__ = ["Plan", "Reach", "context_of", "modulus_of"]

from collections.abc import Mapping

import numpy as np

from limbeck.errors import DataError
from limbeck.kaldi.nnet3.components import offsets_of
from limbeck.kaldi.nnet3.descriptors import Lookup, Mask, Times
from limbeck.kaldi.nnet3.network import Nnet3
from limbeck.kaldi.nnet3.nodes import NetworkNode

_MOST_TIMES = 1 << 22
"""Times of all nodes together for one chunk."""
_WINDOWS = tuple(64 << power for power in range(0, 10, 3))
_NONE = np.empty(0, np.int64)


class Reach:
    """The times that may be wanted of each node, and whether each can be computed.

    Args:
        nnet: The network.
        output: Name of the output.
        times: Wanted of it.
        given: First and last time of each input.

    Attributes:
        order: The nodes, each after those that it reads.

    Raises:
        DataError: If the network is recurrent, or reaches absurdly far.
    """

    def __init__(self, nnet: Nnet3, output: str, times: Times, given: Mapping[str, tuple[int, int]]) -> None:
        self.nnet, self.output = nnet, output
        self.order = nnet.order(output)
        self._times = _wanted(nnet, self.order, output, times)
        self._known: dict[str, Mask] = {}
        for node in self.order:
            mine = self._times[node.name]
            if node.reads is None:
                first, last = given.get(node.name, (0, -1))
                self._known[node.name] = (mine >= first) & (mine <= last)
                continue
            found = np.ones(len(mine), np.bool_)
            for offset in _offsets(nnet, node):
                found &= node.reads.computable(mine + offset, self.lookup)
            self._known[node.name] = found

    @property
    def lookup(self) -> Lookup:
        """Whether a node can be computed at times that may be wanted of it."""
        return lambda name, times: self._known[name][np.searchsorted(self._times[name], times)]

    def computable(self) -> Mask:
        """Whether each of the times that were asked for can be computed."""
        return self._known[self.output]


class Plan:
    """The times at which each node is computed.

    Args:
        reach: What may be wanted.
        times: Wanted of the output, increasing.

    Attributes:
        order: The nodes, each after those that it reads.
        times: By node, increasing; of a component node those of its outputs.
        lookup: Whether a node can be computed.

    Raises:
        DataError: If one of the times cannot be computed.
    """

    def __init__(self, reach: Reach, times: Times) -> None:
        self.order, self.lookup, nnet = reach.order, reach.lookup, reach.nnet
        missing = times[~reach.lookup(reach.output, times)]
        if missing.size:
            raise DataError(f"the output {reach.output} cannot be computed at frame {missing[0]} of a chunk")
        asked: dict[str, list[Times]] = {reach.output: [times]}
        self.times: dict[str, Times] = {}
        collect = _Collector(asked)
        for node in reversed(self.order):
            mine = _union(asked.pop(node.name, []))
            self.times[node.name] = mine
            if node.reads is not None and mine.size:
                node.reads.build(_reads_at(nnet, node, mine), self.lookup, nnet.dims, collect)


class _Collector:
    """A builder that only remembers what is taken."""

    def __init__(self, asked: dict[str, list[Times]]) -> None:
        self._asked = asked

    def take(self, node: str, times: Times) -> None:
        self._asked.setdefault(node, []).append(times)

    def append(self, parts: list[None]) -> None:
        pass

    def add(self, parts: list[None]) -> None:
        pass

    def scale(self, part: None, scale: float) -> None:
        pass

    def constant(self, value: float, dim: int, count: int) -> None:
        pass

    def choose(self, parts: object, dim: int, count: int) -> None:
        pass


def _offsets(nnet: Nnet3, node: NetworkNode) -> tuple[int, ...]:
    return offsets_of(nnet.component_named[node.component]) if node.component else (0,)


def _reads_at(nnet: Nnet3, node: NetworkNode, times: Times) -> Times:
    """The times at which a node's descriptor is wanted, so that the node exists at some."""
    offsets = _offsets(nnet, node)
    return times if offsets == (0,) else _union([times + offset for offset in offsets])


def _union(times: list[Times]) -> Times:
    if len(times) == 1:
        found = times[0]
        return found if found.size < 2 or bool((np.diff(found) > 0).all()) else np.unique(found)
    return np.unique(np.concatenate(times)) if times else _NONE


def _wanted(nnet: Nnet3, order: list[NetworkNode], output: str, times: Times) -> dict[str, Times]:
    asked: dict[str, list[Times]] = {output: [times]}
    found: dict[str, Times] = {}
    held = 0
    for node in reversed(order):
        mine = _union(asked.pop(node.name, []))
        found[node.name] = mine
        held += len(mine)
        if node.reads is not None:
            for offset in _offsets(nnet, node):
                for name, more in node.reads.reach(mine + offset):
                    asked.setdefault(name, []).append(more)
                    held += len(more)
                    if held > _MOST_TIMES:
                        raise DataError(
                            f"the node {node.name} reads so many times of {name} that a chunk would need more than "
                            f"{_MOST_TIMES} values of nodes"
                        )
    return found


def modulus_of(nnet: Nnet3, output: str = "output") -> int:
    """The number of frames after which the network does the same again; 1 for most.

    Args:
        nnet: The network.
        output: Name of the output.

    Returns:
        The modulus.

    Raises:
        DataError: If it is above 10,000.
    """
    found = 1
    for node in nnet.order(output):
        if node.reads is not None:
            found = int(np.lcm(found, node.reads.period()))
            if found > 10_000:
                raise DataError(f"the rounding of times in the network repeats only after more than {found - 1} frames")
    return found


def context_of(nnet: Nnet3, output: str = "output") -> tuple[int, int]:
    """How many input frames to the left and right an output needs; what is optional does not count.

    As Kaldi finds it: of a window of frames, those at its edges whose output cannot be computed.

    Args:
        nnet: The network.
        output: Name of the output.

    Returns:
        Frames to the left and to the right.

    Raises:
        DataError: If no output can be computed from the widest window that is tried.
    """
    modulus = modulus_of(nnet, output)
    for window in _WINDOWS:
        tried = [_context(nnet, output, start, window + modulus) for start in range(modulus)]
        found = [each for each in tried if each is not None]
        if len(found) == len(tried):
            return max(left for left, _ in found), max(right for _, right in found)
    raise DataError(f"the output {output} cannot be computed from {_WINDOWS[-1]} frames: its context is too wide")


def _context(nnet: Nnet3, output: str, start: int, window: int) -> tuple[int, int] | None:
    times = np.arange(start, start + window, dtype=np.int64)
    given = {name: (start, start + window - 1) for name in nnet.inputs} | {"ivector": (0, 0)}
    computable = np.flatnonzero(Reach(nnet, output, times, given).computable())
    return (int(computable[0]), window - 1 - int(computable[-1])) if computable.size else None
