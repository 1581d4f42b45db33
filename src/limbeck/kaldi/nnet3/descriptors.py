"""Descriptors: what a node of an nnet3 network reads, such as ``Append(Offset(input, -1), Scale(0.5, tdnn1))``.

A descriptor is asked for its value at times ``t``, whole frames counted from the first output of a chunk. Axes: ``T``
times.
"""

__all__ = [
    "Append", "Builder", "Const", "Descriptor", "Failover", "IfDefined", "Lookup", "Node", "Offset", "ReplaceIndex",
    "Round", "Scale", "Sum", "Switch", "Times",
]  # fmt: skip

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import DataError

Times = NDArray[np.int64]
Mask = NDArray[np.bool_]
Lookup = Callable[[str, Times], Mask]
"""Whether a node can be computed at some times."""


class Builder(Protocol):
    """Makes what is computed; a handle is whatever it likes."""

    def take(self, node: str, times: Times) -> Any:
        """A node's values at times."""

    def append(self, parts: list[Any]) -> Any:
        """Values side by side."""

    def add(self, parts: list[Any]) -> Any:
        """The sum of values."""

    def scale(self, part: Any, scale: float) -> Any:
        """Values times a number."""

    def constant(self, value: float, dim: int, count: int) -> Any:
        """One number everywhere, ``(count, dim)``."""

    def choose(self, parts: list[tuple[Any, NDArray[np.intp]]], dim: int, count: int) -> Any:
        """Values by rows of the result; rows that nothing names are zeros."""


@dataclass(frozen=True)
class Descriptor(ABC):
    """What all kinds can do."""

    @property
    def parts(self) -> tuple["Descriptor", ...]:
        """What is inside."""
        return ()

    @abstractmethod
    def dim(self, dims: Mapping[str, int]) -> int:
        """How many columns there are, given those of each node; DataError where they do not fit."""

    def names(self) -> Iterator[str]:
        """The nodes that are read."""
        for part in self.parts:
            yield from part.names()

    def period(self) -> int:
        """Times after which the descriptor does the same again: its modulus."""
        return int(np.lcm.reduce([1, *(part.period() for part in self.parts)]))

    def reach(self, times: Times) -> Iterator[tuple[str, Times]]:
        """Nodes and times that may be wanted."""
        for part in self.parts:
            yield from part.reach(times)

    def computable(self, times: Times, known: Lookup) -> Mask:
        """Where the value exists."""
        found = np.ones(len(times), np.bool_)
        for part in self.parts:
            found &= part.computable(times, known)
        return found

    @abstractmethod
    def build(self, times: Times, known: Lookup, dims: Mapping[str, int], builder: Builder) -> Any:
        """What computes the value at times where it exists."""

    @property
    def depends(self) -> bool:
        """Whether the value depends on where a chunk begins or ends."""
        return any(part.depends for part in self.parts)


@dataclass(frozen=True)
class Node(Descriptor):
    """The output of a node."""

    name: str

    def dim(self, dims: Mapping[str, int]) -> int:
        """See :class:`Descriptor`."""
        return dims[self.name]

    def names(self) -> Iterator[str]:
        """See :class:`Descriptor`."""
        yield self.name

    def reach(self, times: Times) -> Iterator[tuple[str, Times]]:
        """See :class:`Descriptor`."""
        yield self.name, times

    def computable(self, times: Times, known: Lookup) -> Mask:
        """See :class:`Descriptor`."""
        return known(self.name, times)

    def build(self, times: Times, known: Lookup, dims: Mapping[str, int], builder: Builder) -> Any:
        """See :class:`Descriptor`."""
        return builder.take(self.name, times)

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Const(Descriptor):
    """One number in each of ``columns`` columns."""

    value: float
    columns: int

    def dim(self, dims: Mapping[str, int]) -> int:
        """See :class:`Descriptor`."""
        return self.columns

    def build(self, times: Times, known: Lookup, dims: Mapping[str, int], builder: Builder) -> Any:
        """See :class:`Descriptor`."""
        return builder.constant(self.value, self.columns, len(times))

    def __str__(self) -> str:
        return f"Const({_number(self.value)}, {self.columns})"


@dataclass(frozen=True)
class _One(Descriptor):
    part: Descriptor

    @property
    def parts(self) -> tuple[Descriptor, ...]:
        """See :class:`Descriptor`."""
        return (self.part,)

    def dim(self, dims: Mapping[str, int]) -> int:
        """See :class:`Descriptor`."""
        return self.part.dim(dims)


@dataclass(frozen=True)
class _Shifted(_One):
    """What reads its part at other times."""

    @abstractmethod
    def moved(self, times: Times) -> Times:
        """The times at which the part is read."""

    def reach(self, times: Times) -> Iterator[tuple[str, Times]]:
        """See :class:`Descriptor`."""
        yield from self.part.reach(self.moved(times))

    def computable(self, times: Times, known: Lookup) -> Mask:
        """See :class:`Descriptor`."""
        return self.part.computable(self.moved(times), known)

    def build(self, times: Times, known: Lookup, dims: Mapping[str, int], builder: Builder) -> Any:
        """See :class:`Descriptor`."""
        return self.part.build(self.moved(times), known, dims, builder)


@dataclass(frozen=True)
class Offset(_Shifted):
    """The part at ``t + offset``."""

    offset: int

    def moved(self, times: Times) -> Times:
        """See :class:`Descriptor`."""
        return times + self.offset

    def __str__(self) -> str:
        return f"Offset({self.part}, {self.offset})"


@dataclass(frozen=True)
class Round(_Shifted):
    """The part at the largest multiple of ``modulus`` that is not above ``t``."""

    modulus: int

    def period(self) -> int:
        """See :class:`Descriptor`."""
        return int(np.lcm(self.modulus, self.part.period()))

    def moved(self, times: Times) -> Times:
        """See :class:`Descriptor`."""
        return times // self.modulus * self.modulus

    @property
    def depends(self) -> bool:
        """See :class:`Descriptor`."""
        return True

    def __str__(self) -> str:
        return f"Round({self.part}, {self.modulus})"


@dataclass(frozen=True)
class ReplaceIndex(_Shifted):
    """The part at one time, whatever the time is: how an i-vector is read."""

    variable: str
    value: int

    def moved(self, times: Times) -> Times:
        """See :class:`Descriptor`."""
        return np.full_like(times, self.value) if self.variable == "t" else times

    @property
    def depends(self) -> bool:
        """See :class:`Descriptor`."""
        return self.variable == "t" and (self.value != 0 or set(self.names()) != {"ivector"})

    def __str__(self) -> str:
        return f"ReplaceIndex({self.part}, {self.variable}, {self.value})"


@dataclass(frozen=True)
class Scale(_One):
    """The part times a number."""

    scale: float

    def build(self, times: Times, known: Lookup, dims: Mapping[str, int], builder: Builder) -> Any:
        """See :class:`Descriptor`."""
        return builder.scale(self.part.build(times, known, dims, builder), self.scale)

    def __str__(self) -> str:
        return f"Scale({_number(self.scale)}, {self.part})"


@dataclass(frozen=True)
class IfDefined(_One):
    """The part, or zeros where it cannot be computed."""

    def computable(self, times: Times, known: Lookup) -> Mask:
        """See :class:`Descriptor`."""
        return np.ones(len(times), np.bool_)

    def build(self, times: Times, known: Lookup, dims: Mapping[str, int], builder: Builder) -> Any:
        """See :class:`Descriptor`."""
        rows = np.flatnonzero(self.part.computable(times, known))
        if len(rows) == len(times):
            return self.part.build(times, known, dims, builder)
        built = [(self.part.build(times[rows], known, dims, builder), rows)] if rows.size else []
        return builder.choose(built, self.dim(dims), len(times))

    @property
    def depends(self) -> bool:
        """See :class:`Descriptor`."""
        return True

    def __str__(self) -> str:
        return f"IfDefined({self.part})"


@dataclass(frozen=True)
class _Several(Descriptor):
    inside: tuple[Descriptor, ...]

    @property
    def parts(self) -> tuple[Descriptor, ...]:
        """See :class:`Descriptor`."""
        return self.inside

    def _same(self, dims: Mapping[str, int]) -> int:
        found = {part.dim(dims) for part in self.inside}
        if len(found) != 1:
            raise DataError(f"the parts of {str(self)[:80]} have {' and '.join(map(str, sorted(found)))} columns")
        return found.pop()

    def dim(self, dims: Mapping[str, int]) -> int:
        """See :class:`Descriptor`."""
        return self._same(dims)

    def __str__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(str, self.inside))})"


@dataclass(frozen=True)
class Append(_Several):
    """The parts side by side."""

    def dim(self, dims: Mapping[str, int]) -> int:
        """See :class:`Descriptor`."""
        return sum(part.dim(dims) for part in self.inside)

    def build(self, times: Times, known: Lookup, dims: Mapping[str, int], builder: Builder) -> Any:
        """See :class:`Descriptor`."""
        return builder.append([part.build(times, known, dims, builder) for part in self.inside])


@dataclass(frozen=True)
class Sum(_Several):
    """The sum of the parts."""

    def build(self, times: Times, known: Lookup, dims: Mapping[str, int], builder: Builder) -> Any:
        """See :class:`Descriptor`."""
        return builder.add([part.build(times, known, dims, builder) for part in self.inside])


@dataclass(frozen=True)
class _Choice(_Several):
    """One of the parts, by time."""

    @abstractmethod
    def chosen(self, times: Times, known: Lookup) -> NDArray[np.intp]:
        """The number of the part at each time."""

    def build(self, times: Times, known: Lookup, dims: Mapping[str, int], builder: Builder) -> Any:
        """See :class:`Descriptor`."""
        which = self.chosen(times, known)
        rows = [np.flatnonzero(which == number) for number in range(len(self.inside))]
        alone = [part for part, mine in zip(self.inside, rows, strict=True) if len(mine) == len(times)]
        if alone:
            return alone[0].build(times, known, dims, builder)
        built = [
            (part.build(times[mine], known, dims, builder), mine)
            for part, mine in zip(self.inside, rows, strict=True)
            if mine.size
        ]
        return builder.choose(built, self.dim(dims), len(times))

    @property
    def depends(self) -> bool:
        """See :class:`Descriptor`."""
        return True


@dataclass(frozen=True)
class Failover(_Choice):
    """The first part where it can be computed, and elsewhere the second."""

    def chosen(self, times: Times, known: Lookup) -> NDArray[np.intp]:
        """See :class:`Descriptor`."""
        return np.where(self.inside[0].computable(times, known), 0, 1)

    def computable(self, times: Times, known: Lookup) -> Mask:
        """See :class:`Descriptor`."""
        return self.inside[0].computable(times, known) | self.inside[1].computable(times, known)


@dataclass(frozen=True)
class Switch(_Choice):
    """The part whose number is ``t`` modulo how many there are."""

    def period(self) -> int:
        """See :class:`Descriptor`."""
        return int(np.lcm(len(self.inside), super().period()))

    def chosen(self, times: Times, known: Lookup) -> NDArray[np.intp]:
        """See :class:`Descriptor`."""
        return (times % len(self.inside)).astype(np.intp)

    def reach(self, times: Times) -> Iterator[tuple[str, Times]]:
        """See :class:`Descriptor`."""
        which = times % len(self.inside)
        for number, part in enumerate(self.inside):
            yield from part.reach(times[which == number])

    def computable(self, times: Times, known: Lookup) -> Mask:
        """See :class:`Descriptor`."""
        which = times % len(self.inside)
        found = np.zeros(len(times), np.bool_)
        for number, part in enumerate(self.inside):
            mine = which == number
            found[mine] = part.computable(times[mine], known)
        return found


def _number(value: float) -> str:
    return f"{value:.6g}"
