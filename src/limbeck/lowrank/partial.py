"""The largest singular values of a large matrix, without the others, and a check that they are the largest."""

__all__ = ["partial_svd"]

import numpy as np
import scipy
from numpy.typing import NDArray

_SMALLEST = 512
_LARGEST_SHARE = 1 / 12
_TOLERANCE = 1e-9


def partial_svd(
    matrix: NDArray[np.float64], most: int, *, always: bool = False
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    r"""The largest singular values and left vectors by Lanczos iteration, or None where that is not worth it.

    Two bounds are checked, and None is returned where one fails, so that the caller takes the full decomposition:

    - the vectors span an invariant subspace, :math:`\lVert A A^\top U - U S^2 \rVert \le \epsilon \lVert S^2 \rVert`;
    - nothing larger was missed: the largest singular value of what is left,
      :math:`\lVert A - U U^\top A \rVert_2`, is no larger than the smallest one found.

    Args:
        matrix: :math:`A`, ``(M, N)``.
        most: How many.
        always: Try it on small matrices too, where the full decomposition is faster.

    Returns:
        ``U`` ``(M, most)`` and the singular values ``(most,)``, falling; or None.

    Example:
        >>> wide = np.diag(np.arange(1.0, 41.0))
        >>> partial_svd(wide, 3, always=True)[1].round(6)
        array([40., 39., 38.])
        >>> partial_svd(wide, 3) is None
        True
    """
    smaller = min(matrix.shape)
    worthwhile = smaller >= _SMALLEST and most <= _LARGEST_SHARE * smaller
    if not (1 <= most < smaller and (worthwhile or always)):
        return None
    start = np.random.default_rng(0).standard_normal(smaller)
    try:
        found = scipy.sparse.linalg.svds(matrix, k=most, v0=start, tol=0, return_singular_vectors=True)
        basis, values = np.asarray(found[0], np.float64), np.asarray(found[1], np.float64)
        order = np.argsort(-values)
        # The order of equal values is free, and so is a rotation among them; orthonormal columns are not.
        basis, values = np.linalg.qr(basis[:, order])[0], values[order]
        if values[0] == 0:
            return None
        through = matrix.T @ basis
        residual = np.linalg.norm(matrix @ through - basis * values**2)
        if residual > _TOLERANCE * np.linalg.norm(values**2):
            return None
        left_over = matrix - basis @ through.T
        missed = scipy.sparse.linalg.svds(
            left_over, k=1, v0=start[::-1].copy(), tol=1e-6, return_singular_vectors=False
        )[0]
    except (scipy.sparse.linalg.ArpackError, np.linalg.LinAlgError):
        return None
    return (basis, values) if missed <= values[-1] * (1 + 1e-6) else None
