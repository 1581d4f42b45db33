r"""Top-k encoding: the top k classes of each row, and the mass of the others at any temperature.

At ties lower class indices come first.

With :math:`d_k \le 0` the differences of a row's logits from its largest, a row keeps the ids of its k top-1 classes,
the k - 1 differences below the first (which is 0), and the tail's log mass

.. math::
    g(T) = \log \sum_{j \in \text{tail}} \exp(d_j / T)

at a ladder of temperatures, all relative to the largest class, so nothing here is normalised. At T the head weighs
:math:`\exp(d_k / T)` and the tail :math:`\exp g(T)`; divided by their sum, these are the softmax of all classes.
How the tail's mass is shared out among its classes is told by a profile that the store has, and by the row's place
along its directions (:mod:`limbeck.softtargets.tail`). These give the mass too, roughly:
:math:`\hat g(T) = \log \sum \exp(\hat d_j / T)`. What is left, :math:`g - \hat g`, is known at the rungs and is 0 at
infinite temperature; between them it is interpolated as a polynomial in 1/T, in which it is smooth. So any T from the
first rung up can be served. On the logits of a letter classifier (26 classes, k = 3) the two default rungs leave a mean
divergence of at most 5e-5 nats between head and tail at every T from 1 to 20; on normal logits of 1,000 classes they
leave 1e-3 at T = 1.5, and a third rung at 2 leaves 1e-6 for two bytes more (:func:`ladder_for`).

Axes: ``N`` rows, ``K`` classes, ``L`` rungs, ``q`` directions; ``T`` is the temperature.
"""

__all__ = ["COORDINATES", "LADDER", "TopK", "id_dtype", "ladder_for", "tail_weights"]

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import ConfigError, MismatchError
from limbeck.softtargets.encodings import FLOOR, Encoding, Field, below_largest, log_softmax
from limbeck.softtargets.tail import TailProfile, learn_profile

LADDER = (1.0, 4.0)
"""Temperatures at which the tail's mass is kept."""
_FINER = (1.0, 2.0, 4.0)
"""The same with the rung that a tail of many classes needs."""
COORDINATES = 6
"""Bytes a row that tell the shape of its tail."""
_NODES = 6
"""Nodes of a polynomial: more would swing between unevenly spaced rungs."""


def id_dtype(classes: int) -> str:
    """The narrowest unsigned type that numbers the classes, in numpy's letters.

    Args:
        classes: How many.

    Returns:
        The type.

    Example:
        >>> id_dtype(256), id_dtype(257)
        ('u1', '<u2')
    """
    return "u1" if classes <= 1 << 8 else "<u2" if classes <= 1 << 16 else "<u4"


def ladder_for(k: int, classes: int) -> tuple[float, ...]:
    """The rungs of a new store: one at T = 2 as well where a row stays within a third of all classes in float16.

    Args:
        k: Classes kept per row.
        classes: K.

    Returns:
        Temperatures, ascending.

    Example:
        >>> ladder_for(3, 26), ladder_for(5, 1000)
        ((1.0, 4.0), (1.0, 2.0, 4.0))
    """
    if not 1 <= k < classes:
        return LADDER
    row = sum(field.row_bytes for field in TopK(k, _FINER).fields(classes))
    return _FINER if 3 * row <= 2 * classes else LADDER


def tail_weights(ladder: Sequence[float], temperature: float) -> tuple[NDArray[np.float64], float]:
    """How the rungs combine into the tail's log mass at a temperature.

    Args:
        ladder: Temperatures of the rungs, ascending; one alone serves its own temperature only.
        temperature: T, from the first rung up.

    Returns:
        A weight for each rung, ``(L,)``, and one for the value at infinite temperature.

    Raises:
        MismatchError: If the temperature is outside the ladder.

    Example:
        >>> weights, last = tail_weights((1.0, 2.0, 4.0), 2.0)
        >>> weights.round(3) + 0.0, last
        (array([0., 1., 0.]), 0.0)
    """
    lowest = ladder[0]
    if len(ladder) == 1 and temperature != lowest:
        raise MismatchError(f"these soft targets hold for temperature {lowest} alone, and {temperature} is asked for")
    if not lowest <= temperature < math.inf:
        raise MismatchError(
            f"these top-k soft targets serve temperatures from {lowest} up, and {temperature} is asked for: "
            f"write them with a ladder that begins lower"
        )
    if len(ladder) == 1:
        return np.ones(1), 0.0
    nodes = [1 / rung for rung in ladder] + [0.0]
    place = 1 / temperature
    above = sum(node > place for node in nodes)
    start = max(0, min(above - _NODES // 2, len(nodes) - _NODES))
    weights = np.zeros(len(nodes))
    near = range(start, min(start + _NODES, len(nodes)))
    for here in near:
        weights[here] = math.prod(
            (place - nodes[other]) / (nodes[here] - nodes[other]) for other in near if other != here
        )
    return weights[:-1], float(weights[-1])


@dataclass(frozen=True)
class TopK:
    """The top k classes, the tail's mass, and its shape in a few bytes.

    Attributes:
        k: How many classes are kept, from 1 to K - 1.
        ladder: Temperatures at which the tail's mass is kept, ascending; one alone for targets of one temperature.
        coordinates: Bytes per row for the shape of the tail, at most half as many as the tail has classes are used.
        profile: What these bytes mean; None, as before there is a store: the tail is even.

    Raises:
        ConfigError: If k is not positive, coordinates are negative, or the ladder does not ascend from a positive
            temperature.

    Example:
        >>> top = TopK(k=1)
        >>> row = top.encode(np.log([[0.7, 0.2, 0.1]]).astype(np.float32), np.array([0]), np.array([0]))
        >>> np.exp(top.decode(row, 3, temperature=1.0)).round(3).tolist()
        [[0.7, 0.15, 0.15]]
    """

    k: int
    ladder: tuple[float, ...] = LADDER
    coordinates: int = COORDINATES
    profile: TailProfile | None = field(default=None, compare=False, repr=False)

    keeps_logits: ClassVar[bool] = False
    estimates: ClassVar[bool] = False
    has_tail: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ConfigError(f"k must be at least 1, and is {self.k}")
        if self.coordinates < 0:
            raise ConfigError(f"coordinates must be at least 0, and is {self.coordinates}")
        rising = all(low < high for low, high in zip(self.ladder, self.ladder[1:], strict=False))
        if not self.ladder or not rising or not 0 < self.ladder[0] or not self.ladder[-1] < math.inf:
            raise ConfigError(f"the ladder must hold positive temperatures that ascend, and is {self.ladder}")

    @property
    def name(self) -> str:
        """Its encoding name in the manifest."""
        return "topk"

    def parameters(self) -> dict[str, Any]:
        """Its settings, as JSON can hold them."""
        return {"k": self.k, "ladder": list(self.ladder), "tail": "directions", "coordinates": self.coordinates}

    def directions(self, classes: int) -> int:
        """In how many directions the tail's shape is told, for K classes."""
        return min(self.coordinates, (classes - self.k) // 2)

    def fields(self, classes: int) -> tuple[Field, ...]:
        """The tail's log mass at each rung, differences below the largest, ids, and the place of the tail.

        Args:
            classes: K.

        Returns:
            The arrays of a row.

        Raises:
            ConfigError: If there are no classes beside the k kept.
        """
        if self.k >= classes:
            raise ConfigError(f"k is {self.k}, and there are {classes} classes: use the dense encoding")
        kinds = [
            Field("tail", "<f2", len(self.ladder)),
            Field("gaps", "<f2", self.k - 1),
            Field("ids", id_dtype(classes), self.k),
            Field("place", "i1", self.directions(classes)),
        ]
        if classes > 1 << 16:
            kinds.insert(0, kinds.pop(2))
        return tuple(kind for kind in kinds if kind.width)

    def encode(
        self, scores: NDArray[np.float32], index: NDArray[np.int64], view: NDArray[np.int64], first_row: int = 0
    ) -> dict[str, NDArray[Any]]:
        """Encode scores ``(N, K)``; the examples' numbers and views are not needed."""
        below, ids, gaps = self._parted(scores, first_row)
        largest = below.max(1, keepdims=True)
        above = below - largest
        rungs = [
            largest[:, 0] / np.float32(rung) + np.log(np.exp(above / np.float32(rung)).sum(1)) for rung in self.ladder
        ]
        found = {
            "tail": np.maximum(np.stack(rungs, 1), FLOOR).astype("<f2"),
            "ids": ids.astype(id_dtype(scores.shape[1])),
        }
        if self.k > 1:
            found["gaps"] = gaps.astype("<f2")
        if self.directions(scores.shape[1]):
            shape = (len(scores), self.directions(scores.shape[1]))
            found["place"] = np.zeros(shape, np.int8) if self.profile is None else self.profile.place(below, ids[:, 0])
        return found

    def _parted(
        self, scores: NDArray[np.float32], first_row: int = 0
    ) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float32]]:
        """Scores below the largest with ``-inf`` for the head, the head's classes, and its scores but the first."""
        below = below_largest(scores, first_row)
        ids = np.argpartition(-below, self.k - 1, axis=1)[:, : self.k]
        kept = np.take_along_axis(below, ids, 1)
        # Which of equal ones come first is numpy's own, and another on other processors: here the lowest numbers do.
        edge = kept.min(1, keepdims=True)
        tied = (below == edge).sum(1) > (kept == edge).sum(1)
        if tied.any():
            ids[tied] = np.argsort(-below[tied], axis=1, kind="stable")[:, : self.k]
            kept = np.take_along_axis(below, ids, 1)
        order = np.lexsort((ids, -kept), axis=1)
        ids, kept = np.take_along_axis(ids, order, 1), np.take_along_axis(kept, order, 1)
        np.put_along_axis(below, ids, -np.inf, 1)
        return below, ids, kept[:, 1:]

    def decode(self, fields: Mapping[str, NDArray[Any]], classes: int, temperature: float) -> NDArray[np.float64]:
        """Log-probabilities ``(N, K)`` softened at a temperature, the tail's mass shared out by the profile."""
        weights, _ = tail_weights(self.ladder, temperature)
        ids, head = fields["ids"].astype(np.int64), _head(fields, self.k)
        full = np.zeros((len(ids), classes))
        if self.profile is not None:
            place = fields.get("place", np.zeros((len(ids), 0), np.int8))
            full = np.minimum(self.profile.expected(ids[:, 0], place), head[:, -1:])
        np.put_along_axis(full, ids, -np.inf, 1)

        largest = full.max(1, keepdims=True)
        rough = np.stack([largest[:, 0] / at + np.log(np.exp((full - largest) / at).sum(1)) for at in self.ladder], 1)
        full = full / temperature + ((fields["tail"].astype(np.float64) - rough) @ weights)[:, None]
        np.put_along_axis(full, ids, head / temperature, 1)
        return log_softmax(full, 1.0)

    def learn(self, scores: NDArray[np.float32]) -> TailProfile:
        """The profile of some rows of a teacher's answers, ``(N, K)``."""
        below, ids, _ = self._parted(scores)
        return learn_profile(below, ids[:, 0], self.directions(scores.shape[1]))


def tail_of(encoding: Encoding) -> TopK | None:
    """An encoding as one whose tail has a profile, or None."""
    return cast(TopK, encoding) if encoding.has_tail else None


def _head(fields: Mapping[str, NDArray[Any]], k: int) -> NDArray[np.float64]:
    """The head's scores below the largest, ``(N, k)``."""
    head = np.zeros((len(fields["ids"]), k))
    if k > 1:
        head[:, 1:] = fields["gaps"]
    return head
