r"""Low rank for one matrix, on plain arrays: decompose, choose a rank, truncate.

Axes: a weight matrix is ``(M, N)``, outputs by inputs; ``R`` is the smaller of the two, ``k`` a rank.

The error of a matrix :math:`W_k` of rank :math:`k` in place of :math:`W` is counted in a metric,

.. math::
    \lVert W - W_k \rVert^2_{G, C} = \mathrm{tr}\bigl(G\,(W - W_k)\,C\,(W - W_k)^\top\bigr),

with :math:`C` the second moment of the inputs and :math:`G` that of the gradients at the outputs. With both the
identity it is the Frobenius norm; with :math:`G` the identity it is the mean squared error of the outputs. The best
:math:`W_k` follows from one singular value decomposition, of :math:`G^{1/2} W C^{1/2}`, and is a projection of
:math:`W` from the left: :math:`W_k = G^{-1/2} U_k U_k^\top G^{1/2}\, W`. So no inverse of :math:`C` is needed.
"""

__all__ = [
    "Array",
    "Decomposition",
    "Factors",
    "Placement",
    "decompose",
    "rank_for_energy",
    "rank_for_parameters",
    "rank_for_sum",
    "root_of_inputs",
    "root_of_outputs",
    "truncate",
]

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import scipy
from numpy.typing import NDArray

from limbeck.errors import ConfigError, DataError
from limbeck.lowrank.partial import partial_svd

Array: TypeAlias = NDArray[np.float64]
Placement = Literal["input", "split"]

_RIDGE_INPUTS = 1e-6
_RIDGE_OUTPUTS = 1e-4


class Factors(NamedTuple):
    """Two matrices whose product replaces a weight matrix: ``second @ first``.

    Attributes:
        first: Applied to the inputs, ``(k, N)``.
        second: Applied to what the first gives, ``(M, k)``.
    """

    first: Array
    second: Array


@dataclass(frozen=True, eq=False)
class Decomposition:
    r"""What truncation to any rank needs to know of a matrix.

    Attributes:
        values: Singular values in the metric, falling, ``(R,)``, or only the largest of them.
        left: :math:`G^{-1/2} U`, ``(M, R)``.
        right: :math:`U^\top G^{1/2}`, ``(R, M)``.
        total: Sum of the squares of all singular values, those left out included.
        possible: The largest possible rank ``R``.
    """

    values: Array
    left: Array
    right: Array
    total: float
    possible: int

    @property
    def complete(self) -> bool:
        """Whether all singular values are there."""
        return len(self.values) == self.possible

    def discarded(self, rank: int) -> float:
        """Squared error, in the metric, of the best matrix of a rank: the sum of the squares of the rest."""
        if self.complete:
            return float(np.sum(self.values[rank:] ** 2))
        return max(0.0, self.total - float(np.sum(self.values[:rank] ** 2)))

    def kept(self, rank: int) -> float:
        """Share of the sum of squares that a rank keeps, in [0, 1]; 1 for a matrix of zeros."""
        return 1.0 if self.total == 0 else min(1.0, max(0.0, 1.0 - self.discarded(rank) / self.total))


def _checked(weight: NDArray[Any]) -> Array:
    matrix: Array = np.asarray(weight, np.float64)
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise DataError(f"a matrix (outputs, inputs) is needed, and the weights have shape {matrix.shape}")
    if not np.isfinite(matrix).all():
        row, column = np.argwhere(~np.isfinite(matrix))[0].tolist()
        raise DataError(f"the weights hold NaN or infinite values, the first in row {row}, column {column}")
    return matrix


def _root(moment: NDArray[Any], size: int, ridge: float) -> Array:
    values = np.asarray(moment, np.float64)
    if values.shape != (size, size):
        raise DataError(f"a second moment of shape {(size, size)} is needed, and it has {values.shape}")
    scale = float(np.trace(values)) / size
    if not np.isfinite(values).all():
        raise DataError("the second moment holds NaN or infinite values")
    if scale <= 0:
        # Nothing was ever seen here: rank by the weights. (Rounding can make a centred zero negative.)
        return np.eye(size)
    try:
        root: Array = scipy.linalg.cholesky(values + ridge * scale * np.eye(size), lower=True)
    except np.linalg.LinAlgError:
        # Rounding can push the smallest eigenvalues of a nearly singular moment below minus the ridge.
        eigenvalues, vectors = np.linalg.eigh(values)
        root = vectors * np.sqrt(np.maximum(eigenvalues, 0) + ridge * scale)
    return root


def root_of_inputs(moment: NDArray[Any]) -> Array:
    """A matrix by which inputs are multiplied from the right, so that squared errors are those in their moment.

    Args:
        moment: C, ``(N, N)``.

    Returns:
        L with L L' = C, but for a small ridge.
    """
    return _root(moment, len(moment), _RIDGE_INPUTS)


def root_of_outputs(moment: NDArray[Any]) -> Array:
    """The same for outputs, multiplied from the left.

    Args:
        moment: G, ``(M, M)``.

    Returns:
        L' with L L' = G, but for a small ridge.
    """
    return _root(moment, len(moment), _RIDGE_OUTPUTS).T


def decompose(
    weight: NDArray[Any],
    *,
    inputs: NDArray[Any] | None = None,
    outputs: NDArray[Any] | None = None,
    most: int | None = None,
) -> Decomposition:
    r"""Singular value decomposition of a matrix in the metric of its inputs and outputs.

    A moment that is singular gets a small ridge (1e-6 of the mean eigenvalue for inputs, 1e-4 for outputs), so
    directions that the data never showed are ranked last, among themselves by the weights, and full rank stays exact.

    Args:
        weight: :math:`W`, ``(M, N)``, of any real type.
        inputs: Second moment :math:`C` of the inputs, ``(N, N)``; the identity where it is None.
        outputs: Second moment :math:`G` of the gradients at the outputs, ``(M, M)``; the identity where it is None.
        most: Ranks above this will not be asked for: on a large matrix only the largest singular values are then
            computed, and checked (:func:`limbeck.lowrank.partial.partial_svd`).

    Returns:
        The decomposition, in float64.

    Raises:
        DataError: If a shape does not fit, or a value is not finite.

    Example:
        >>> decompose(np.diag([3.0, 2.0, 1.0])).values
        array([3., 2., 1.])
        >>> decompose(np.diag([3.0, 2.0, 1.0]), inputs=np.diag([0.0, 1.0, 100.0])).values.round(2)
        array([10.  ,  2.  ,  0.02])
    """
    matrix = _checked(weight)
    m, n = matrix.shape
    scaled = matrix if inputs is None else matrix @ _root(inputs, n, _RIDGE_INPUTS)
    root = None if outputs is None else _root(outputs, m, _RIDGE_OUTPUTS)
    if root is not None:
        scaled = root.T @ scaled
    found = None if most is None else partial_svd(scaled, most)
    if found is None:
        basis, values, _ = np.linalg.svd(scaled, full_matrices=False)
    else:
        basis, values = found
    left, right = (basis, basis.T) if root is None else (np.linalg.solve(root.T, basis), basis.T @ root.T)
    return Decomposition(values, left, right, float(np.sum(scaled**2)), min(m, n))


def truncate(
    weight: NDArray[Any],
    rank: int,
    *,
    decomposition: Decomposition | None = None,
    placement: Placement = "input",
) -> Factors:
    r"""Split a matrix into two of a rank whose product is the best replacement in the metric.

    With :math:`W_k = U S V^\top` the singular value decomposition of the product, the factors are

    .. math::
        (S V^\top,\ U) \ \text{for "input"}, \qquad (S^{1/2} V^\top,\ U S^{1/2}) \ \text{for "split"}.

    Signs are fixed: the largest entry of each column of :math:`U` is positive.

    Args:
        weight: :math:`W`, ``(M, N)``.
        rank: :math:`k`, from 1 to ``min(M, N)``.
        decomposition: What :func:`decompose` said of this matrix; that of the identity metric where it is None.
        placement: Where the singular values go: all to the first factor, on the side of the input, or their square
            roots to each.

    Returns:
        The factors in float64.

    Raises:
        ConfigError: If the rank is impossible, or the placement unknown.

    Example:
        >>> first, second = truncate(np.diag([3.0, 2.0]), 1)
        >>> first, second @ first
        (array([[3., 0.]]), array([[3., 0.], [0., 0.]]))
    """
    matrix = _checked(weight)
    if not 1 <= rank <= min(matrix.shape):
        raise ConfigError(
            f"rank {rank} is impossible for a matrix of shape {matrix.shape}: 1 to {min(matrix.shape)} are possible"
        )
    if placement not in ("input", "split"):
        raise ConfigError(f"placement must be 'input' or 'split', and is {placement!r}")
    parts = decompose(matrix, most=rank) if decomposition is None else decomposition
    if rank > len(parts.values):
        raise ConfigError(f"rank {rank} was asked for, and only {len(parts.values)} singular values were computed")
    orthogonal, triangular = np.linalg.qr(parts.left[:, :rank])
    basis, values, inner = scipy.linalg.svd(triangular @ (parts.right[:rank] @ matrix), full_matrices=False)
    outer: Array = orthogonal @ basis
    signs = np.sign(outer[np.abs(outer).argmax(0), np.arange(rank)])
    outer, inner = outer * signs, inner * signs[:, None]
    if placement == "split":
        roots = np.sqrt(values)
        return Factors(roots[:, None] * inner, outer * roots)
    return Factors(values[:, None] * inner, outer)


def _rank_for(weights: Array, share: float) -> int:
    if not 0 < share <= 1:
        raise ConfigError(f"a share must be above 0 and at most 1, and is {share}")
    sums = np.cumsum(weights)
    return 1 if sums[-1] == 0 else int(np.searchsorted(sums, share * sums[-1])) + 1


def rank_for_sum(singular_values: NDArray[Any], share: float) -> int:
    """The smallest rank that keeps a share of the sum of the singular values.

    Args:
        singular_values: All of them, falling, ``(R,)``.
        share: In (0, 1].

    Returns:
        The rank, at least 1.

    Raises:
        ConfigError: If the share is out of its range.

    Example:
        >>> rank_for_sum(np.array([3.0, 2.0, 1.0]), 0.8)
        2
    """  # noqa: DOC502
    return _rank_for(np.asarray(singular_values, np.float64), share)


def rank_for_energy(singular_values: NDArray[Any], share: float) -> int:
    """The smallest rank that keeps a share of the sum of the squares of the singular values.

    Args:
        singular_values: All of them, falling, ``(R,)``.
        share: In (0, 1].

    Returns:
        The rank, at least 1.

    Raises:
        ConfigError: If the share is out of its range.

    Example:
        >>> rank_for_energy(np.array([3.0, 2.0, 1.0]), 0.6)
        1
    """  # noqa: DOC502
    return _rank_for(np.asarray(singular_values, np.float64) ** 2, share)


def rank_for_parameters(outputs: int, inputs: int, share: float) -> int:
    r"""The largest rank whose factors hold a share of a matrix's parameters: :math:`k = s\,MN / (M + N)`, rounded down.

    Args:
        outputs: :math:`M`.
        inputs: :math:`N`.
        share: In (0, 1].

    Returns:
        The rank, at least 1.

    Raises:
        ConfigError: If the share is out of its range.

    Example:
        >>> rank_for_parameters(512, 429, 0.5)
        116
    """
    if not 0 < share <= 1:
        raise ConfigError(f"a share must be above 0 and at most 1, and is {share}")
    return max(1, int(share * outputs * inputs / (outputs + inputs)))
