r"""A convolution as one over columns, ``h x 1`` to ``k`` channels, and one over rows, ``1 x w`` from these.

The kernel :math:`W_{mcij}` of M outputs and C channels is the matrix :math:`\tilde W_{(mj)(ci)}`, ``(M w, C h)``: of
rank k it is the product of the two. Its squared error in the metric of inputs and outputs,

.. math::
    \mathrm{tr}(G \Delta C \Delta^\top), \qquad C_{(cij)(c'i'j')} \approx A_{(ci)(c'i')} B_{jj'},

has no closed minimum for any second moment C of patches. With the Kronecker product beside it, whose factors are C's
partial traces, it has: a singular value decomposition of :math:`\tilde W` with the moments A of the inputs and
:math:`G \otimes B` of the outputs. How far that estimate is from the error in C itself is measured at some ranks.

Axes: ``M`` outputs, ``N = C h w`` inputs of a patch, ``k`` a rank.

References:
    Jaderberg, Vedaldi and Zisserman, `Speeding up Convolutional Neural Networks with Low Rank Expansions
    <https://arxiv.org/abs/1405.3866>`_, 2014, section 2.1, scheme 2. Van Loan and Pitsianis, Approximation with
    Kronecker Products, 1993.
"""

__all__ = ["as_columns_and_rows", "as_kernel", "decompose_spatial", "spatial_factors"]

import math

import numpy as np

from limbeck.lowrank.matrices import Array, Decomposition, Placement, decompose, truncate

_SHARES = (0.1, 0.25, 0.5)
_ROUNDING = 1e-12


def as_columns_and_rows(weight: Array, kernel: tuple[int, int]) -> Array:
    r"""The matrix :math:`\tilde W` of a convolution.

    Args:
        weight: W, ``(M, C h w)``.
        kernel: h and w.

    Returns:
        ``(M w, C h)``.

    Example:
        >>> as_columns_and_rows(np.arange(6.0).reshape(1, 6), (3, 2))
        array([[0., 2., 4.],
               [1., 3., 5.]])
    """
    (high, wide), outputs = kernel, len(weight)
    parts = weight.reshape(outputs, -1, high, wide).transpose(0, 3, 1, 2)
    return np.ascontiguousarray(parts.reshape(outputs * wide, -1))


def as_kernel(matrix: Array, kernel: tuple[int, int]) -> Array:
    """The inverse of :func:`as_columns_and_rows`.

    Args:
        matrix: ``(M w, C h)``.
        kernel: h and w.

    Returns:
        ``(M, C h w)``.

    Example:
        >>> weight = np.arange(24.0).reshape(2, 12)
        >>> np.array_equal(as_kernel(as_columns_and_rows(weight, (3, 2)), (3, 2)), weight)
        True
    """
    (high, wide), outputs = kernel, len(matrix) // kernel[1]
    parts = matrix.reshape(outputs, wide, -1, high).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(parts.reshape(outputs, -1))


def decompose_spatial(
    weight: Array, kernel: tuple[int, int], inputs: Array | None = None, outputs: Array | None = None
) -> tuple[Decomposition, float]:
    r"""Singular values of a convolution's columns and rows, and by what their squares are to be multiplied.

    Args:
        weight: W, ``(M, N)``.
        kernel: h and w.
        inputs: Second moment C of patches, ``(N, N)``; the identity where it is None.
        outputs: Second moment G of the gradients at the outputs, ``(M, M)``; the identity where it is None.

    Returns:
        The decomposition of the matrix ``(M w, C h)``; and the error in C beside the one that the decomposition says,
        the geometric mean over some ranks.

    Example:
        >>> rank_one = np.einsum("m,c,i,j->mcij", *(np.arange(1.0, n + 1) for n in (2, 2, 3, 3))).reshape(2, 18)
        >>> bool((decompose_spatial(rank_one, (3, 3))[0].values[1:] < 1e-12).all())
        True
    """
    matrix, wide = as_columns_and_rows(weight, kernel), kernel[1]
    if inputs is None:
        metric = None if outputs is None else np.kron(outputs, np.eye(wide))
        return decompose(matrix, outputs=metric), 1.0
    moment = inputs.reshape(len(inputs) // wide, wide, -1, wide)
    columns, rows = np.einsum("ajbj->ab", moment), np.einsum("ajak->jk", moment)
    whole = float(np.trace(inputs))
    rows = rows / whole if whole > 0 else np.eye(wide)
    gradients = np.eye(len(weight)) if outputs is None else outputs
    found = decompose(matrix, inputs=columns, outputs=np.kron(gradients, rows))
    largest, m, n = len(found.values), *matrix.shape
    logs = []
    for rank in sorted({min(largest, max(1, int(share * weight.size / (m + n)))) for share in _SHARES}):
        missing = weight - as_kernel(found.left[:, :rank] @ (found.right[:rank] @ matrix), kernel)
        exact = float(np.sum((gradients @ missing) * (missing @ inputs)))
        said = found.discarded(rank)
        if min(exact, said) > _ROUNDING * found.total:
            logs.append(math.log(exact / said))
    return found, math.exp(math.fsum(logs) / len(logs)) if logs else 1.0


def spatial_factors(
    weight: Array, kernel: tuple[int, int], rank: int, parts: Decomposition | None, placement: Placement
) -> tuple[Array, Array, Array]:
    """Both convolutions' weights, and the kernel of the two together.

    Args:
        weight: W, ``(M, N)``.
        kernel: h and w.
        rank: k.
        parts: What :func:`decompose_spatial` said; None for the identity metric.
        placement: Where the singular values go.

    Returns:
        The weights ``(k, C h)`` of the ``h x 1`` convolution and ``(M, k w)`` of the ``1 x w`` convolution, in the
        order of PyTorch's own, and the kernel ``(M, N)`` that they make.
    """
    matrix, wide = as_columns_and_rows(weight, kernel), kernel[1]
    first, second = truncate(matrix, rank, decomposition=parts or decompose(matrix, most=rank), placement=placement)
    spread = second.reshape(-1, wide, rank).transpose(0, 2, 1).reshape(-1, rank * wide)
    return first, spread, as_kernel(second @ first, kernel)
