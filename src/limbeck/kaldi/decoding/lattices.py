r"""Compact lattices out of a decoder's raw ones: of each sequence of words the best path alone.

A raw lattice has a state for each state of the graph at each frame. It becomes deterministic over words by the subset
construction: a new state is a set of raw states, each with the costs and the transition ids by which it lags behind the
best of them. Paths worse than the best by more than a beam are left out on the way.

References:
    Povey and others, `Generating exact lattices in the WFST framework
    <https://doi.org/10.1109/ICASSP.2012.6288848>`_, 2012.
"""

__all__ = ["RawLattice", "determinise"]

import heapq
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import DataError
from limbeck.kaldi.formats.compact_lattice import CompactLattice, LatticeArc, LatticeWeight

_ARC = np.dtype([("transition", "<i4"), ("word", "<i4"), ("graph", "<f4"), ("acoustic", "<f4"), ("target", "<i4")])
_STEPS = 1024.0  # costs that differ by less than one part of this are the same when sets of states are compared


@dataclass(frozen=True, eq=False)
class RawLattice:
    """A lattice with a transition id or none, and a word or none, on each arc.

    Attributes:
        start: The first state.
        sources: Of each arc the state that it leaves, ``(A,)``, never falling.
        arcs: Records of transition, word, graph, acoustic and target, ``(A,)``.
        finals: Graph and acoustic cost of ending in each state, ``(S, 2)``; infinite where no path ends.
    """

    start: int
    sources: NDArray[np.int64]
    arcs: NDArray[np.void]
    finals: NDArray[np.float32]

    @classmethod
    def parse(cls, data: bytes) -> "RawLattice":
        """Read what ``kaldifst`` writes for a lattice, OpenFst's vector type with pairs of floats as weights.

        Args:
            data: The file.

        Returns:
            The lattice.
        """
        at = 4
        for _ in range(2):  # the names of its type and of its arcs
            at += 4 + int(struct.unpack_from("<i", data, at)[0])
        start, states = struct.unpack_from("<qq", data, at + 16)
        at += 40
        finals = np.empty((states, 2), np.float32)
        counts = np.empty(states, np.int64)
        blocks = []
        for state in range(states):
            finals[state, 0], finals[state, 1], count = struct.unpack_from("<ffq", data, at)
            counts[state], at = count, at + 16
            blocks.append(data[at : at + count * _ARC.itemsize])
            at += count * _ARC.itemsize
        return cls(start, np.repeat(np.arange(states), counts), np.frombuffer(b"".join(blocks), _ARC), finals)


class _Element(NamedTuple):
    """A raw state in a set, and by how much it lags behind the best of the set."""

    graph: float
    acoustic: float
    string: int

    @property
    def cost(self) -> float:
        return self.graph + self.acoustic


class _Strings:
    """Sequences of transition ids as nodes of a tree, so that equal ones are the same node; 0 is the empty one."""

    def __init__(self) -> None:
        self._parents, self._labels, self._depths = [0], [0], [0]
        self._children: dict[tuple[int, int], int] = {}

    def longer(self, node: int, label: int) -> int:
        """The sequence with one more at its end; the same where the label is 0."""
        if not label:
            return node
        found = self._children.setdefault((node, label), len(self._parents))
        if found == len(self._parents):
            self._parents.append(node)
            self._labels.append(label)
            self._depths.append(self._depths[node] + 1)
        return found

    def common(self, nodes: Iterable[int]) -> int:
        """The longest beginning that all share."""
        found: int | None = None
        for node in nodes:
            one, other = node if found is None else found, node
            while one != other:
                if self._depths[one] >= self._depths[other]:
                    one = self._parents[one]
                else:
                    other = self._parents[other]
            found = one
        return found or 0

    def labels(self, node: int, beyond: int = 0) -> tuple[int, ...]:
        """What is beyond a beginning."""
        found = []
        while node != beyond:
            found.append(self._labels[node])
            node = self._parents[node]
        return tuple(reversed(found))

    def beyond(self, node: int, beginning: int) -> int:
        """What is beyond a beginning, as a sequence of its own."""
        found = 0
        for label in self.labels(node, beginning):
            found = self.longer(found, label)
        return found


def determinise(raw: RawLattice, *, beam: float, scale: float = 1.0) -> CompactLattice:
    """Keep the best path of each sequence of words.

    Args:
        raw: The lattice, without a cycle.
        beam: Sequences whose best path costs more than the best of all by this are left out.
        scale: What acoustic costs were multiplied by; those of the result are divided by it.

    Returns:
        The lattice: no state has two arcs of a word, and each path is a sequence of its own.

    Raises:
        DataError: If no path leads through the lattice, or it has a cycle.
    """
    return _Determiniser(raw, beam, scale).run()


class _Determiniser:
    def __init__(self, raw: RawLattice, beam: float, scale: float) -> None:
        self.scale = scale
        count = len(raw.finals)
        self.leaving: list[list[tuple[int, int, int, float, float]]] = [[] for _ in range(count)]
        fields = (raw.arcs[name].tolist() for name in ("target", "transition", "word", "graph", "acoustic"))
        for source, *arc in zip(raw.sources.tolist(), *fields, strict=True):
            self.leaving[source].append(tuple(arc))
        ends = np.flatnonzero(np.isfinite(raw.finals).all(1))
        self.finals = {int(state): _Element(float(raw.finals[state, 0]), float(raw.finals[state, 1]), 0)
                       for state in ends}  # fmt: skip
        self.place = self._order()
        self.to_end = self._costs_to_end()
        self.strings = _Strings()
        self.first = {raw.start: _Element(0.0, 0.0, 0)}
        if not np.isfinite(self.to_end[raw.start]):
            raise DataError("no path leads through the lattice")
        self.limit = self.to_end[raw.start] + beam

    def _order(self) -> list[int]:
        """For each raw state its place in an order in which every arc leads forward."""
        entering = [0] * len(self.leaving)
        for arcs in self.leaving:
            for target, *_ in arcs:
                entering[target] += 1
        waiting = [state for state, count in enumerate(entering) if not count]
        place = [0] * len(self.leaving)
        done = 0
        while waiting:
            state = waiting.pop()
            place[state], done = done, done + 1
            for target, *_ in self.leaving[state]:
                entering[target] -= 1
                if not entering[target]:
                    waiting.append(target)
        if done < len(self.leaving):
            raise DataError("the lattice has a cycle")
        return place

    def _costs_to_end(self) -> list[float]:
        """The least cost from each raw state to an end."""
        found = [float("inf")] * len(self.leaving)
        for state in sorted(range(len(found)), key=self.place.__getitem__, reverse=True):
            costs = [graph + acoustic + found[target] for target, _, _, graph, acoustic in self.leaving[state]]
            last = self.finals.get(state)
            found[state] = min([*costs, float("inf") if last is None else last.cost])
        return found

    def run(self) -> CompactLattice:
        sets: list[dict[int, _Element]] = [self.first]
        costs = [0.0]  # the least by which each set is reached
        numbers = {self._key(self.first): 0}
        waiting = [(self.to_end[next(iter(self.first))], 0)]
        ready: set[int] = set()
        arcs: list[LatticeArc] = []
        finals: dict[int, LatticeWeight] = {}
        while waiting:
            _, number = heapq.heappop(waiting)
            if number in ready:
                continue
            ready.add(number)  # by the cheapest way: whole paths come in the order of their costs
            closed = self._closed(sets[number], costs[number])
            last = self._last(closed, costs[number])
            if last is not None:
                finals[number] = last
            for word, elements in sorted(self._by_word(closed, costs[number]).items()):
                best, prefix, normal = self._normal(elements)
                target = numbers.setdefault(self._key(normal), len(sets))
                if target == len(sets):
                    sets.append(normal)
                    costs.append(float("inf"))
                cost = costs[number] + best.cost
                if cost < costs[target]:
                    costs[target] = cost
                    to_end = min(element.cost + self.to_end[state] for state, element in normal.items())
                    heapq.heappush(waiting, (cost + to_end, target))
                arcs.append(LatticeArc(number, target, word, self._weight(best, self.strings.labels(prefix))))
        return _sorted(arcs, finals, len(sets))

    def _key(self, elements: dict[int, _Element]) -> tuple[tuple[int, int, int, int], ...]:
        return tuple(
            (state, round(found.graph * _STEPS), round(found.acoustic * _STEPS), found.string)
            for state, found in sorted(elements.items())
        )

    def _weight(self, element: _Element, transitions: tuple[int, ...]) -> LatticeWeight:
        return LatticeWeight(element.graph, element.acoustic / self.scale, transitions)

    def _take(self, found: dict[int, _Element], state: int, element: _Element, cost: float) -> bool:
        """Put a raw state into a set, unless it is there at less cost, or too far behind."""
        if cost + element.cost + self.to_end[state] > self.limit:
            return False
        if state in found and found[state].cost <= element.cost:
            return False
        found[state] = element
        return True

    def _moved(self, element: _Element, arc: tuple[int, int, int, float, float]) -> _Element:
        _, transition, _, graph, acoustic = arc
        return _Element(
            element.graph + graph, element.acoustic + acoustic, self.strings.longer(element.string, transition)
        )

    def _closed(self, elements: dict[int, _Element], cost: float) -> dict[int, _Element]:
        """The set with all that is reached from it without a word."""
        found = dict(elements)
        waiting = [(self.place[state], state) for state in found]
        heapq.heapify(waiting)
        seen: set[int] = set()
        while waiting:
            _, state = heapq.heappop(waiting)
            if state in seen:
                continue
            seen.add(state)  # all that lead to it came before
            for arc in self.leaving[state]:
                if not arc[2] and self._take(found, arc[0], self._moved(found[state], arc), cost):
                    heapq.heappush(waiting, (self.place[arc[0]], arc[0]))
        return found

    def _last(self, closed: dict[int, _Element], cost: float) -> LatticeWeight | None:
        """What it costs to end in a set, by the best of its states."""
        ends = [
            _Element(element.graph + last.graph, element.acoustic + last.acoustic, element.string)
            for state, element in closed.items()
            if (last := self.finals.get(state)) is not None
        ]
        best = min(ends, key=lambda end: end.cost, default=None)
        if best is None or cost + best.cost > self.limit:
            return None
        return self._weight(best, self.strings.labels(best.string))

    def _by_word(self, closed: dict[int, _Element], cost: float) -> dict[int, dict[int, _Element]]:
        found: dict[int, dict[int, _Element]] = {}
        for state, element in closed.items():
            for arc in self.leaving[state]:
                if arc[2] and cost + element.cost + arc[3] + arc[4] + self.to_end[arc[0]] <= self.limit:
                    self._take(found.setdefault(arc[2], {}), arc[0], self._moved(element, arc), cost)
        return {word: elements for word, elements in found.items() if elements}

    def _normal(self, elements: dict[int, _Element]) -> tuple[_Element, int, dict[int, _Element]]:
        """The best of a set, the beginning that all share, and the set without both."""
        best = min(elements.values(), key=lambda element: element.cost)
        prefix = self.strings.common(element.string for element in elements.values())
        normal = {
            state: _Element(
                element.graph - best.graph,
                element.acoustic - best.acoustic,
                self.strings.beyond(element.string, prefix),
            )
            for state, element in elements.items()
        }
        return best, prefix, normal


def _sorted(arcs: list[LatticeArc], finals: dict[int, LatticeWeight], count: int) -> CompactLattice:
    """A lattice whose arcs lead to higher states, without what leads nowhere."""
    leaving: list[list[LatticeArc]] = [[] for _ in range(count)]
    entering = [0] * count
    for arc in arcs:
        leaving[arc.source].append(arc)
        entering[arc.target] += 1
    waiting, order = [0], []
    while waiting:
        state = waiting.pop()
        order.append(state)
        for arc in leaving[state]:
            entering[arc.target] -= 1
            if not entering[arc.target]:
                waiting.append(arc.target)
    # What rounding left just inside the beam in one set and outside it in the next leads nowhere.
    alive: set[int] = set()
    for state in reversed(order):
        if state in finals or any(arc.target in alive for arc in leaving[state]):
            alive.add(state)
    kept = [state for state in order if state in alive]
    number = {state: place for place, state in enumerate(kept)}
    renamed = (
        arc._replace(source=number[state], target=number[arc.target])
        for state in kept
        for arc in leaving[state]
        if arc.target in alive
    )
    return CompactLattice(tuple(renamed), tuple(finals.get(state) for state in kept))
