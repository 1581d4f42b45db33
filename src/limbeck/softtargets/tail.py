r"""The tail of top-k targets: a profile of typical tails, and a few coordinates per row.

Of a top-k row the tail is known in sum. Its shape is described as in principal component analysis. Let d be a row's
logits minus the largest, and a its top-1 class. Over some thousand rows, the mean :math:`m_{aj}` of each logit is
taken where class j is in the tail, and the directions :math:`b_1, b_2, \dots` in which tails differ most from these
means. A row keeps its place along them, one byte each:

.. math::
    \hat d_j = m_{aj} + \sum_i z_i b_{ij}, \qquad z_i \in \{-127, \dots, 127\}

found by least squares over the tail, in which a class counts as much as its share of the tail at T = 4. No class of the
tail may come above the last one of the head. The tail's mass at T is then shared out in proportion to
:math:`\exp(\hat d / T)`, so one profile serves every temperature. A store needs K² + 6 K numbers for it.

On letters (26 classes, k = 3; ``docs/results/soft-targets.md``) a seventh of the divergence at T = 4 is left of what an
even tail has, in as many bytes.

Axes: ``N`` rows, ``K`` classes, ``q`` directions; ``T`` is the temperature.
"""

__all__ = ["DEEPEST", "TailProfile", "learn_profile", "means_rows", "sample_size"]

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_SAMPLE_ROWS = 1 << 14
"""Rows that a profile is learnt from at most."""
_SAMPLE_BYTES = 64 << 20
_TABLE_BYTES = 64 << 20
"""Means for each top-1 class are kept up to this size, and beyond it one mean for all."""
_IMPORTANCE = 4.0
"""Temperature of the shares by which classes count when a row's place is looked for."""
_RIDGE = 1e-3
"""Of the mean diagonal, added to each: where a tail has fewer classes than there are directions, all is still told."""
_REACH = 0.999
"""Share of the sample's places that a byte can hold; the others are held at its end."""
_STEPS = 127
_EXACT = 512
"""Of fewer rows or classes all directions are computed; of more the first ones alone, which takes no cube of them."""
_SPARE, _ROUNDS = 10, 8
"""Directions looked for beside those wanted, and how often they are turned towards the greatest variance."""
_PIECE = 1 << 20
"""Numbers worked on at a time."""
DEEPEST = -50.0
"""A score further below the largest counts as this one: exp(-50) is nothing, and would spoil the means."""


@dataclass(frozen=True, eq=False)
class TailProfile:
    """The usual tail, and the directions in which tails differ.

    Attributes:
        means: Mean scores of the tail for each top-1 class, float32 ``(K, K)``; ``(1, K)`` for all alike.
        directions: What a step along each adds to the scores, float32 ``(q, K)``.
    """

    means: NDArray[np.float32]
    directions: NDArray[np.float32]

    def expected(self, likeliest: NDArray[np.int64], places: NDArray[np.int8]) -> NDArray[np.float64]:
        """Scores of all classes below the largest; only those of a row's tail mean something.

        Args:
            likeliest: Each row's top-1 class, ``(N,)``.
            places: Steps along the directions, ``(N, q)``.

        Returns:
            Scores, ``(N, K)``.

        Example:
            >>> profile = TailProfile(np.float32([[0, -4, -3]]), np.float32([[0, 0.5, -0.5]]))
            >>> profile.expected(np.array([0]), np.int8([[2]])).tolist()
            [[0.0, -3.0, -4.0]]
        """
        usual = self._usual(likeliest).astype(np.float64)
        return usual + places.astype(np.float64) @ self.directions.astype(np.float64)

    def place(self, below: NDArray[np.float32], likeliest: NDArray[np.int64]) -> NDArray[np.int8]:
        """Where tails lie along the directions.

        Args:
            below: Scores less each row's largest, ``-inf`` outside the tail, ``(N, K)``.
            likeliest: Each row's top-1 class, ``(N,)``.

        Returns:
            Steps, int8 ``(N, q)``.
        """
        # In float64, so that sums in another order give the same bytes.
        found = _least_squares(below, self._usual(likeliest), self.directions.astype(np.float64))
        return np.clip(np.rint(found), -_STEPS, _STEPS).astype(np.int8)

    def _usual(self, likeliest: NDArray[np.int64]) -> NDArray[np.float32]:
        return self.means[likeliest if len(self.means) > 1 else np.zeros(len(likeliest), np.int64)]


def _least_squares(
    below: NDArray[np.float32], usual: NDArray[np.float32], directions: NDArray[np.float64]
) -> NDArray[np.float64]:
    """How often each direction is contained in what is left of tails, weighed by their shares, ``(N, q)``."""
    count, step = len(directions), max(1, _PIECE // below.shape[1])
    if not count:
        return np.zeros((len(below), 0))
    if len(below) > step:
        parts = [slice(start, start + step) for start in range(0, len(below), step)]
        return np.concatenate([_least_squares(below[part], usual[part], directions) for part in parts])
    largest = np.maximum(below.max(1, keepdims=True), DEEPEST)
    shares = np.exp((below - largest) / np.float32(_IMPORTANCE)).astype(np.float64)
    left = shares * (np.maximum(below, DEEPEST) - usual)
    upper = np.triu_indices(count)
    products = shares @ (directions[upper[0]] * directions[upper[1]]).T
    within = np.empty((len(below), count, count))
    within[:, upper[0], upper[1]] = within[:, upper[1], upper[0]] = products
    diagonal = np.einsum("nqq->nq", within)  # a view
    diagonal += _RIDGE * diagonal.mean(1, keepdims=True) + 1e-30
    return np.linalg.solve(within, (left @ directions.T)[:, :, None])[:, :, 0]


def sample_size(rows: int, classes: int) -> int:
    """From how many of a store's rows a profile is learnt.

    Args:
        rows: Rows of the store.
        classes: K.

    Returns:
        How many.

    Example:
        >>> sample_size(500, 26), sample_size(10**7, 26)
        (500, 16384)
    """
    return max(1, min(rows, _SAMPLE_ROWS, _SAMPLE_BYTES // (4 * classes)))


def means_rows(classes: int) -> int:
    """Rows of the table of means: one a top-1 class, or one for all where that would be too large.

    Args:
        classes: K.

    Returns:
        How many.

    Example:
        >>> means_rows(26), means_rows(50_000)
        (26, 1)
    """
    return classes if 4 * classes**2 <= _TABLE_BYTES else 1


def learn_profile(below: NDArray[np.float32], likeliest: NDArray[np.int64], count: int) -> TailProfile:
    """Take the means and the directions of some rows.

    A pair of a top-1 class and one of the tail that hardly comes has nearly the mean of that class in all tails.

    Args:
        below: Scores less each row's largest, ``-inf`` outside the tail, ``(N, K)``.
        likeliest: Each row's top-1 class, ``(N,)``.
        count: How many directions.

    Returns:
        The profile.
    """
    classes = below.shape[1]
    outside = below == -np.inf
    known = np.maximum(below, DEEPEST).astype(np.float64)
    known[outside] = 0.0
    seen = (~outside).sum(0)
    overall = known.sum(0) / np.maximum(seen, 1)  # 0 for a class that is always in the head: likely wherever it is not
    table = means_rows(classes)
    means = np.tile(overall.astype("<f4"), (table, 1))
    if table > 1:
        order = np.argsort(likeliest, kind="stable")
        labels, starts = np.unique(likeliest[order], return_index=True)
        for label, here in zip(labels, np.split(order, starts[1:]), strict=True):
            means[label] = (known[here].sum(0) + overall) / ((~outside[here]).sum(0) + 1)
    usual = TailProfile(means, np.zeros((0, classes), "<f4"))._usual(likeliest)
    known -= usual
    known[outside] = 0.0
    found = _principal(known, count)
    reach = np.quantile(np.abs(_least_squares(below, usual, found)), _REACH, axis=0)
    return TailProfile(means, (found * (reach / _STEPS)[:, None]).astype("<f4"))


def _principal(left: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """The directions of greatest variance, of length 1, the greatest first; 0 where nothing varies, ``(q, K)``."""
    rows, classes = left.shape
    found = np.zeros((count, classes))
    many = min(count, rows, classes)
    if not many:
        return found
    if min(rows, classes) > _EXACT:
        values, vectors = _greatest(left, many)
    elif rows < classes:
        values, vectors = np.linalg.eigh(left @ left.T)
        vectors = left.T @ vectors
    else:
        values, vectors = np.linalg.eigh(left.T @ left)
    values, vectors = values[::-1][:many], vectors[:, ::-1][:, :many]
    kept = values > 1e-9 * max(values[0], 1e-30)
    length = np.linalg.norm(vectors, axis=0)
    unit = (vectors / np.where(length > 0, length, 1.0)).T * kept[:, None]
    # An eigenvector's sign is chance.
    largest = np.take_along_axis(unit, np.abs(unit).argmax(1)[:, None], 1)
    found[:many] = unit * np.where(largest < 0, -1.0, 1.0)
    return found


def _greatest(left: NDArray[np.float64], count: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The greatest variances, ascending, and their directions ``(K, n)``.

    By subspace iteration: Halko, Martinsson and Tropp, `Finding structure with randomness
    <https://arxiv.org/abs/0909.4061>`_, 2011, algorithm 4.4.

    Returns:
        Both; the variances of those looked for beside are too small.
    """
    width = min(count + _SPARE, *left.shape)
    basis = np.random.default_rng(0).standard_normal((left.shape[1], width))
    for _ in range(_ROUNDS):
        basis = np.linalg.qr(left.T @ np.linalg.qr(left @ basis)[0])[0]
    within = left @ basis
    values, turn = np.linalg.eigh(within.T @ within)
    return values, basis @ turn
