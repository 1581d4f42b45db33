"""What a descriptor computes, as torch operations on nodes' values. Axes: ``B`` chunks, ``T`` times, ``D`` columns.

Places among a node's times are found once, when a plan is made; running it only gathers.
"""

__all__ = ["Expression", "TorchBuilder"]

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from limbeck.kaldi.nnet3.descriptors import Times


class Values(Protocol):
    """The nodes that are computed already."""

    chunks: int
    like: Tensor

    def __getitem__(self, name: str) -> Tensor:
        """Of a node, ``(B, T, D)``."""


class Expression(Protocol):
    """Something that is computed from nodes."""

    def run(self, values: Values) -> Tensor:
        """Its value, ``(B, T, D)``."""


@dataclass(frozen=True, eq=False)
class Gather:
    """A node at some of its times: a slice of them where they follow each other evenly."""

    node: str
    places: slice | Tensor

    def run(self, values: Values) -> Tensor:
        held = values[self.node]
        if isinstance(self.places, slice):
            return held[:, self.places]
        return held.index_select(1, self.places.to(held.device))


@dataclass(frozen=True, eq=False)
class _Appended:
    parts: list[Expression]

    def run(self, values: Values) -> Tensor:
        return torch.cat([part.run(values) for part in self.parts], -1)


@dataclass(frozen=True, eq=False)
class _Added:
    parts: list[Expression]

    def run(self, values: Values) -> Tensor:
        found = self.parts[0].run(values)
        for part in self.parts[1:]:
            found = found + part.run(values)
        return found


@dataclass(frozen=True, eq=False)
class _Scaled:
    part: Expression
    scale: float

    def run(self, values: Values) -> Tensor:
        return self.part.run(values) * self.scale


@dataclass(frozen=True, eq=False)
class _Constant:
    value: float
    dim: int
    count: int

    def run(self, values: Values) -> Tensor:
        return values.like.new_full((values.chunks, self.count, self.dim), self.value)


@dataclass(frozen=True, eq=False)
class _Chosen:
    parts: list[tuple[Expression, NDArray[np.intp]]]
    dim: int
    count: int

    def run(self, values: Values) -> Tensor:
        found = values.like.new_zeros((values.chunks, self.count, self.dim))
        for part, rows in self.parts:
            found = found.index_copy(1, torch.from_numpy(rows).to(found.device), part.run(values))
        return found


class TorchBuilder:
    """Makes expressions; see :class:`~limbeck.kaldi.nnet3.descriptors.Builder`.

    Args:
        times: The times at which each node is computed.
    """

    def __init__(self, times: Mapping[str, Times]) -> None:
        self._times = times

    def take(self, node: str, times: Times) -> Expression:
        """A node at times."""
        return Gather(node, places_of(self._times[node], times))

    def append(self, parts: list[Expression]) -> Expression:
        """Side by side."""
        return _Appended(parts) if len(parts) > 1 else parts[0]

    def add(self, parts: list[Expression]) -> Expression:
        """The sum."""
        return _Added(parts) if len(parts) > 1 else parts[0]

    def scale(self, part: Expression, scale: float) -> Expression:
        """Times a number."""
        return _Scaled(part, scale)

    def constant(self, value: float, dim: int, count: int) -> Expression:
        """One number everywhere."""
        return _Constant(value, dim, count)

    def choose(self, parts: list[tuple[Expression, NDArray[np.intp]]], dim: int, count: int) -> Expression:
        """By rows of the result."""
        return _Chosen(parts, dim, count)


def places_of(held: Times, wanted: Times) -> slice | Tensor:
    """Where some times are among those of a node.

    Args:
        held: Increasing.
        wanted: Each of them among ``held``.

    Returns:
        A slice where the places follow each other evenly, else int64.

    Example:
        >>> places_of(np.arange(-3, 9), np.array([0, 3, 6])), places_of(np.arange(3), np.array([0, 0]))
        (slice(3, 10, 3), tensor([0, 0]))
    """
    places = np.searchsorted(held, wanted)
    steps = np.diff(places)
    if places.size and (not steps.size or (steps[0] > 0 and bool((steps == steps[0]).all()))):
        step = int(steps[0]) if steps.size else 1
        return slice(int(places[0]), int(places[-1]) + 1, step)
    return torch.from_numpy(places.astype(np.int64))
