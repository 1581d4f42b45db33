r"""What a teacher usually thinks of the classes that top-k leaves out: learnt once, from some of its answers.

Of a top-k row the tail is known in sum. How the sum is shared out follows from what is known of the teacher: let c be a
row's scores less their mean, and a its likeliest class. Over some thousand rows, the mean :math:`m_a` of c is taken for
each likeliest class, and one covariance S about these means. If scores were normal with these, a row's expected scores
given those of its head H would be

.. math::
    \hat c = m_a + S_{\cdot H}\, S_{HH}^{-1}\, (c_H - m_{a H})

No class of the tail may come above the last one of the head. The tail's mass at T is then shared out in proportion to
:math:`\exp(\hat c / T)`, so one profile serves every temperature. It costs 2 K² numbers a store and nothing an example.
The mean of a row's scores, which c needs, is not stored: it is taken from the ladder, whose polynomial has the mean of
the tail as its slope at 1/T = 0.

On letters (26 classes, k = 3; ``docs/results/soft-targets.md``) a third of the divergence at T = 4 is left of what an
even tail has, and students made fewer errors than with an even tail, or with one in their own proportions.

Axes: ``N`` rows, ``K`` classes, ``L`` rungs; ``T`` is the temperature.
"""

__all__ = ["DEEPEST", "TailProfile", "learn_profile", "mean_weights", "profile_parts", "sample_size"]

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_SAMPLE_ROWS = 1 << 14
"""Rows that a profile is learnt from at most."""
_SAMPLE_BYTES = 64 << 20
_TABLE_BYTES = 64 << 20
"""Means for each likeliest class are kept up to this size, and beyond it one mean for all."""
_COVARIANCE_NUMBERS = 4096
"""A covariance is kept where a row takes at most so many numbers of it, k K: with more, a batch would wait for it."""
_RIDGE = 1e-3
"""Of the mean variance, added to each: no head's covariance is singular then."""
DEEPEST = -50.0
"""A score further below the largest counts as this one: exp(-50) is nothing, and would spoil the means."""


@dataclass(frozen=True, eq=False)
class TailProfile:
    """Expected scores of all classes.

    Attributes:
        means: Mean scores for each likeliest class, less their mean, float32 ``(K, K)``; ``(1, K)`` for all alike.
        covariance: Of the scores about these means, float32 ``(K, K)``; None where none is kept.
    """

    means: NDArray[np.float32]
    covariance: NDArray[np.float32] | None

    def expected(self, ids: NDArray[np.int64], centred: NDArray[np.float64]) -> NDArray[np.float64]:
        """Scores of all classes given the head's, in float64.

        Args:
            ids: The head's classes, likeliest first, ``(N, k)``.
            centred: Their scores, less the mean of all classes, ``(N, k)``.

        Returns:
            Scores, of which those of the head mean nothing, ``(N, K)``.

        Example:
            >>> profile = TailProfile(np.float32([[0, -1, 1]]), np.eye(3, dtype=np.float32))
            >>> profile.expected(np.array([[0]]), np.array([[0.5]])).tolist()
            [[0.5, -1.0, 0.5]]
        """
        rows = ids[:, 0] if len(self.means) > 1 else np.zeros(len(ids), np.int64)
        found = self.means[rows].astype(np.float64)
        if self.covariance is not None:
            away = centred - np.take_along_axis(found, ids, 1)
            between = self.covariance[ids].astype(np.float64)
            within = np.take_along_axis(between, np.repeat(ids[:, None, :], ids.shape[1], 1), 2)
            found += np.einsum("nh,nhk->nk", np.linalg.solve(within, away[:, :, None])[:, :, 0], between)
        return np.minimum(found, centred[:, -1:])


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


def profile_parts(classes: int, k: int) -> tuple[int, bool]:
    """What a profile of so many classes holds.

    Args:
        classes: K.
        k: Classes that a row keeps.

    Returns:
        Rows of the table of means, and whether there is a covariance.

    Example:
        >>> profile_parts(26, 3), profile_parts(1000, 40), profile_parts(50_000, 40)
        ((26, True), (1000, False), (1, False))
    """
    return classes if 4 * classes**2 <= _TABLE_BYTES else 1, k * classes <= _COVARIANCE_NUMBERS


def mean_weights(ladder: Sequence[float], most: int) -> tuple[NDArray[np.float64], float]:
    """How the rungs combine into the mean score of the tail: the slope of its log mass at infinite temperature.

    Args:
        ladder: Temperatures of the rungs, ascending.
        most: Nodes of the polynomial at most; the hottest are taken.

    Returns:
        A weight for each rung, ``(L,)``, and one for ``log(K - k)``.

    Example:
        >>> weights, last = mean_weights((1.0,), 6)  # a line through the one rung
        >>> weights.tolist(), last
        ([1.0], -1.0)
    """
    nodes = [1.0 / rung for rung in ladder]
    weights = np.zeros(len(nodes))
    near = range(max(0, len(nodes) - most + 1), len(nodes))
    for here in near:
        others = [nodes[other] for other in near if other != here]
        weights[here] = math.prod(other / (other - nodes[here]) for other in others) / nodes[here]
    return weights, -math.fsum(1 / nodes[here] for here in near)


def learn_profile(
    below: NDArray[np.float32], likeliest: NDArray[np.int64], means_of_rows: NDArray[np.float64], k: int
) -> TailProfile:
    """Take the means and the covariance of some rows.

    A likeliest class that hardly comes has nearly the mean over all rows.

    Args:
        below: Differences from each row's largest score, ``(N, K)``.
        likeliest: Each row's likeliest class, ``(N,)``.
        means_of_rows: The mean of each row of ``below`` as it will be known when reading, ``(N,)``.
        k: Classes that a row keeps.

    Returns:
        The profile.
    """
    rows, classes = below.shape
    centred = np.maximum(below, DEEPEST) - means_of_rows[:, None]
    table, kept = profile_parts(classes, k)
    overall = centred.mean(0)
    means = np.broadcast_to(overall, (table, classes))
    if table > 1:
        counts = np.bincount(likeliest, minlength=classes)
        sums = np.zeros((classes, classes))
        for label in np.flatnonzero(counts):
            sums[label] = centred[likeliest == label].sum(0)
        means = (sums + overall) / (counts[:, None] + 1)
    if not kept:
        return TailProfile(means.astype("<f4"), None)
    centred -= means[likeliest] if table > 1 else means[0]
    covariance = centred.T @ centred / rows
    covariance[np.diag_indices(classes)] += _RIDGE * covariance.diagonal().mean() + 1e-6
    return TailProfile(means.astype("<f4"), covariance.astype("<f4"))
