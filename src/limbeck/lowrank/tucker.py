r"""A convolution as three: ``1 x 1`` to fewer channels, one of the old kernel, and ``1 x 1`` to the outputs.

The kernel :math:`W_{mcij}` is projected along its outputs and along its channels, :math:`W' = P W Q`. With the second
moments C of patches and G of gradients at the outputs, P of rank k is that of :mod:`limbeck.lowrank.matrices`, exactly;
Q of rank :math:`k_1` is that of the matrix :math:`W_{c(mij)}` with the moments A of the channels and
:math:`G \otimes B` of the rest, where A and B are C's partial traces, as for convolutions over columns and rows. Since
P projects at right angles in G, the squared error is at most the sum of both. How far that sum is from the error in C
itself is measured at some ranks.

Axes: ``M`` outputs, ``C`` channels, ``N = C h w`` inputs of a patch, ``k`` and ``k_1`` ranks.

References:
    Kim, Park, Yoo, Choi, Yang and Shin, `Compression of Deep Convolutional Neural Networks for Fast and Low Power
    Mobile Applications <https://arxiv.org/abs/1511.06530>`_, 2016. De Lathauwer, De Moor and Vandewalle, A Multilinear
    Singular Value Decomposition, 2000.
"""

__all__ = ["decompose_channels", "tucker_factors"]

import math

import numpy as np

from limbeck.lowrank.matrices import Array, Decomposition, decompose, root_of_inputs, root_of_outputs

_SHARES = (0.25, 0.5, 0.75)
_ROUNDING = 1e-12


def decompose_channels(
    weight: Array,
    kernel: tuple[int, int],
    plain: Decomposition,
    inputs: Array | None = None,
    outputs: Array | None = None,
) -> tuple[Decomposition, float]:
    r"""Singular values of a convolution's channels, and by what the sum of both losses is to be multiplied.

    Args:
        weight: W, ``(M, N)``.
        kernel: h and w.
        plain: What :func:`~limbeck.lowrank.matrices.decompose` said of W in the same moments.
        inputs: Second moment C of patches, ``(N, N)``; the identity where it is None.
        outputs: Second moment G of the gradients at the outputs, ``(M, M)``; the identity where it is None.

    Returns:
        The decomposition of the matrix ``(C, M h w)``; and the error in C beside the sum of what both decompositions
        say, the geometric mean over some ranks.

    Example:
        >>> one_channel = np.einsum("mij,c->mcij", np.ones((2, 3, 3)), np.arange(1.0, 4.0)).reshape(2, 27)
        >>> found, _ = decompose_channels(one_channel, (3, 3), decompose(one_channel))
        >>> bool((found.values[1:] < 1e-12).all())
        True
    """
    size = kernel[0] * kernel[1]
    tensor = weight.reshape(len(weight), -1, size)
    channels = tensor.shape[1]
    if outputs is not None:
        tensor = np.einsum("nm,nck->mck", root_of_outputs(outputs), tensor)
    among = None
    if inputs is not None:
        moment = inputs.reshape(channels, size, channels, size)
        among, within = np.einsum("akbk->ab", moment), np.einsum("ajak->jk", moment)
        whole = float(np.trace(inputs))
        if whole > 0:
            tensor = tensor @ root_of_inputs(within / whole)
    found = decompose(tensor.transpose(1, 0, 2).reshape(channels, -1), outputs=among)
    logs = []
    for share in _SHARES:
        ranks = max(1, int(share * len(found.values))), max(1, int(share * len(plain.values)))
        missing = weight - tucker_factors(weight, kernel, ranks, plain, found)[3]
        moved = missing if inputs is None else missing @ inputs
        exact = float(np.sum((missing if outputs is None else outputs @ missing) * moved))
        said = found.discarded(ranks[0]) + plain.discarded(ranks[1])
        if min(exact, said) > _ROUNDING * plain.total:
            logs.append(math.log(exact / said))
    return found, math.exp(math.fsum(logs) / len(logs)) if logs else 1.0


def tucker_factors(
    weight: Array, kernel: tuple[int, int], ranks: tuple[int, int], plain: Decomposition, channels: Decomposition
) -> tuple[Array, Array, Array, Array]:
    """The weights of the three convolutions, and the kernel of all together.

    Args:
        weight: W, ``(M, N)``.
        kernel: h and w.
        ranks: Of the channels, k_1, and of the outputs, k.
        plain: Of W.
        channels: What :func:`decompose_channels` said.

    Returns:
        ``(k_1, C)``, ``(k, k_1 h w)`` and ``(M, k)``, in the order of PyTorch's own, and the kernel ``(M, N)``.

    Example:
        >>> weight = np.random.default_rng(0).normal(size=(4, 27))
        >>> plain = decompose(weight)
        >>> parts = tucker_factors(weight, (3, 3), (3, 4), plain, decompose_channels(weight, (3, 3), plain)[0])
        >>> [part.shape for part in parts], bool(np.allclose(parts[3], weight))
        ([(3, 3), (4, 27), (4, 4), (4, 27)], True)
    """
    inner, outer = ranks
    size = kernel[0] * kernel[1]
    tensor = weight.reshape(len(weight), -1, size)
    first = channels.left[:, :inner].T
    core = np.einsum("nm,rc,mck->nrk", plain.right[:outer], channels.right[:inner], tensor, optimize=True)
    last = plain.left[:, :outer]
    whole = np.einsum("mn,nrk,rc->mck", last, core, first, optimize=True)
    return first, core.reshape(outer, -1), last, whole.reshape(weight.shape)
