r"""The order in which units are removed, and the weights that compensate for them.

A layer reads the units: its outputs are :math:`z = W x + b`. Without the numbers :math:`R` of x, the weights
:math:`W' = W C_{\cdot K} C_{KK}^{-1}` of those that are kept, K, lose least, whatever G is, in

.. math::
    \tfrac{1}{2} P\, \mathrm{tr}\bigl(G (W - W' S_K) C (W - W' S_K)^\top\bigr)
    = \tfrac{1}{2} P\, \mathrm{tr}\bigl(G\, W_R (C^{-1})_{RR}^{-1} W_R^\top\bigr),

the estimate of the soft-target loss in which ranks are chosen too (:mod:`limbeck.lowrank.moments`). Units are taken out
a few at a time, the cheapest first, and what is left makes up for them before the next are chosen.

Axes: ``M`` outputs and ``N`` inputs of a reader, ``U`` units, ``b`` numbers of a unit in a reader's input.

References:
    Hassibi and Stork, `Second order derivatives for network pruning: Optimal Brain Surgeon
    <https://papers.nips.cc/paper/1992/hash/303ed4c69846ab36c2904d3ba8573050-Abstract.html>`_, 1992. He, Zhang and Sun,
    `Channel Pruning for Accelerating Very Deep Neural Networks <https://arxiv.org/abs/1707.06168>`_, 2017.
"""

__all__ = ["Reader", "columns_of", "reconstructed", "removal_order"]

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_RIDGE = 1e-6
_ROUNDS = 16
"""At least so many times the units that are left are looked at anew while their number halves."""


@dataclass(frozen=True, eq=False)
class Reader:
    """A layer that reads units, and what it sees of them.

    Attributes:
        weight: W, ``(M, N)``.
        inputs: C, about the mean where there is one, ``(N, N)``.
        outputs: G, ``(M, M)``.
        mean: Mean of the inputs ``(N,)``, for which the bias makes up; None where there is no bias.
        positions: Applications per example, P.
        block: Numbers of a unit, b.
    """

    weight: Array
    inputs: Array
    outputs: Array
    mean: Array | None
    positions: float
    block: int


def columns_of(units: Sequence[int], block: int) -> NDArray[np.int64]:
    """The columns of some units.

    Args:
        units: Their numbers.
        block: Columns of a unit.

    Returns:
        Places.

    Example:
        >>> columns_of([0, 2], 2)
        array([0, 1, 4, 5])
    """
    firsts = np.asarray(units, np.int64)[:, None] * block
    return (firsts + np.arange(block)).ravel()


def removal_order(units: int, readers: Sequence[Reader]) -> tuple[list[int], Array]:
    """The order in which units are best taken out.

    Args:
        units: How many there are, at least 2.
        readers: All that read them.

    Returns:
        All but one of the units, the cheapest first, and the loss estimated when the first k are out, ``(U,)``, from 0.

    Example:
        >>> seen = np.diag([4.0, 1.0, 9.0])
        >>> order, losses = removal_order(3, [Reader(np.ones((1, 3)), seen, np.eye(1), None, 1.0, 1)])
        >>> order, losses.round(3).tolist()
        ([1, 0], [0.0, 0.5, 2.5])
    """
    alive, order, losses = list(range(units)), list[int](), [0.0]
    weights = [reader.weight.copy() for reader in readers]
    inverses: list[Array] = [np.asarray(np.linalg.inv(_ridged(reader.inputs)), np.float64) for reader in readers]
    while len(alive) > 1:
        each = np.zeros(len(alive))
        for reader, weight, inverse in zip(readers, weights, inverses, strict=True):
            each += 0.5 * reader.positions * _costs(weight, inverse, reader)
        gone = np.sort(np.argsort(each, kind="stable")[: max(1, len(alive) // _ROUNDS)])
        steps = losses[-1] + np.cumsum(each[gone])  # what lies between is only near
        joint = losses[-1]
        for place, reader in enumerate(readers):
            lost, weights[place], inverses[place] = _without(
                weights[place], inverses[place], columns_of(gone.tolist(), reader.block), reader.outputs
            )
            joint += 0.5 * reader.positions * lost
        steps[-1] = joint
        order += [alive[number] for number in gone]
        losses += np.minimum(steps, joint).tolist()
        alive = [unit for number, unit in enumerate(alive) if number not in set(gone.tolist())]
    return order, np.maximum.accumulate(np.maximum(losses, 0.0))


def _costs(weight: Array, inverse: Array, reader: Reader) -> Array:
    """What each unit that is left costs alone, ``(U,)``."""
    b = reader.block
    count = weight.shape[1] // b
    seen = weight.reshape(len(weight), count, b)
    weighed = (reader.outputs @ weight).reshape(seen.shape)
    squares = np.einsum("mub,muc->ubc", seen, weighed, optimize=True)
    at = columns_of(range(count), b).reshape(count, b)
    blocks = inverse[at[:, :, None], at[:, None, :]]
    costs: Array = np.einsum("ubb->u", np.linalg.solve(blocks, squares))
    return costs


def _without(weight: Array, inverse: Array, gone: NDArray[np.int64], outputs: Array) -> tuple[float, Array, Array]:
    """The loss, and weights and inverse moments of the columns that are left."""
    kept = np.setdiff1d(np.arange(weight.shape[1]), gone)
    taken = weight[:, gone]
    made_up = np.linalg.solve(inverse[np.ix_(gone, gone)], np.hstack([taken.T, inverse[np.ix_(gone, kept)]]))
    lost = float(np.sum(outputs * (taken @ made_up[:, : len(weight)]).T))
    spread = made_up[:, len(weight) :]
    left = inverse[np.ix_(kept, kept)] - inverse[np.ix_(kept, gone)] @ spread
    return lost, weight[:, kept] - taken @ spread, 0.5 * (left + left.T)


def reconstructed(reader: Reader, kept: Sequence[int]) -> tuple[Array, Array | None]:
    """The weights of the units that are kept, which make up for the others, and what is added to the bias.

    Args:
        reader: The layer.
        kept: Numbers of the units, rising.

    Returns:
        ``(M, b len(kept))``; and ``(M,)``, or None where there is no bias.

    Example:
        >>> twice = Reader(np.ones((1, 2)), np.ones((2, 2)), np.eye(1), None, 1.0, 1)
        >>> reconstructed(twice, [0])[0].round(3)
        array([[2.]])
    """
    at = columns_of(kept, reader.block)
    moments = _ridged(reader.inputs)
    weight: Array = np.asarray(np.linalg.solve(moments[np.ix_(at, at)], moments[at] @ reader.weight.T).T, np.float64)
    if reader.mean is None:
        return weight, None
    return weight, reader.weight @ reader.mean - weight @ reader.mean[at]


def _ridged(moments: Array) -> Array:
    ridge = _RIDGE * float(np.trace(moments)) / len(moments)
    return moments + (ridge or 1.0) * np.eye(len(moments))
