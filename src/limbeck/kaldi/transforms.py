"""Feature transforms, of a frame and its neighbours together: networks of nnet1, and matrices of LDA and MLLT.

Axes: ``D`` features after CMVN and deltas, ``E`` values of an i-vector.
"""

__all__ = ["ivector_beside", "linear_transform", "read_transform", "with_ivector"]

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import MismatchError
from limbeck.kaldi.formats import nnet1_components as nc
from limbeck.kaldi.formats.nnet1 import Nnet, read_nnet
from limbeck.kaldi.formats.nnet1_nested import Parallel
from limbeck.kaldi.formats.sniff import identify
from limbeck.kaldi.formats.table import read_matrix_file


def read_transform(path: Path, read: Callable[[Path], Nnet] = read_nnet) -> Nnet | NDArray[np.float32]:
    """Read a feature transform.

    Args:
        path: A network, such as ``final.feature_transform``; or a matrix, such as ``final.mat``.
        read: Reads a network.

    Returns:
        The network, or the matrix ``(outputs, inputs)``, whose inputs are one more where it has an offset.
    """
    # A matrix in text begins like a vector of counts.
    if identify(path) in ("matrix", "counts"):
        matrix: NDArray[np.float32] = read_matrix_file(path, dtype=np.float32)
        return matrix
    return read(path)


def linear_transform(matrix: NDArray[np.float32], inputs: int) -> nc.Component:
    """A matrix as a component, as ``transform-feats`` takes it: with one more column than inputs, the last is added.

    Args:
        matrix: ``(outputs, inputs)`` or ``(outputs, inputs + 1)``.
        inputs: Values of a frame with its neighbours.

    Returns:
        The component.

    Raises:
        MismatchError: If the matrix is for others.

    Example:
        >>> linear_transform(np.array([[2.0, 3.0]], np.float32), 1).tag
        'AffineTransform'
    """
    if matrix.shape[1] == inputs:
        return nc.LinearTransform(matrix)
    if matrix.shape[1] == inputs + 1:
        return nc.AffineTransform(matrix[:, :-1].copy(), matrix[:, -1].copy())
    raise MismatchError(
        f"a matrix of {matrix.shape[1]} columns for {inputs} features with their context: it needs {inputs}, or one "
        "more for an offset; is the context that of its training?"
    )


def with_ivector(transform: Nnet, ivector: int) -> Nnet:
    """A transform of features that passes the i-vector after them on as it is, as ``steps/nnet/train.sh`` makes it.

    Args:
        transform: Of the features.
        ivector: Values of the i-vector, ``E``.

    Returns:
        For features with an i-vector.

    Example:
        >>> whole = with_ivector(Nnet((nc.Splice(2, (-1, 0, 1)),)), 3)
        >>> whole.input_dim, whole.output_dim, ivector_beside(whole)[1]
        (5, 9, 3)
    """
    copy = nc.Copy(ivector, tuple(range(ivector)))
    return Nnet((Parallel((transform.components, (copy,))),))


def ivector_beside(transform: Nnet) -> tuple[Nnet, int]:
    """Take apart what :func:`with_ivector` put together.

    Args:
        transform: Any.

    Returns:
        The part for the features, and how many values of an i-vector are passed on beside it: 0 where none are.
    """
    parts = transform.components
    if len(parts) != 1 or not isinstance(parts[0], Parallel) or len(parts[0].networks) != 2:
        return transform, 0
    features, other = parts[0].networks
    copied = other[0]
    if len(other) == 1 and isinstance(copied, nc.Copy) and copied.indices == tuple(range(copied.input_dim)):
        return Nnet(features), copied.input_dim
    return transform, 0
