"""The counter-based generator of :mod:`limbeck.keyed` in numpy, for a process that writes targets without torch.

Axes: ``N`` examples.
"""

__all__ = ["philox_words", "uniforms"]

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import DataError

_MASK = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)
_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10
_SAMPLING = 1 << 31
"""Added to the draw: these numbers stay apart from those of the views, whose draws are small."""


def philox_words(
    counter: tuple[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.uint64], NDArray[np.uint64]],
    key: tuple[int, int],
) -> NDArray[np.uint64]:
    """Philox 4x32-10: four 32-bit words out of four counter words and two key words.

    Args:
        counter: Four arrays with values in [0, 2**32), of shapes that broadcast to ``(...)``.
        key: Two integers in [0, 2**32).

    Returns:
        The words, in [0, 2**32), ``(..., 4)``.

    Example:
        >>> zero = np.zeros((), np.uint64)
        >>> [f"{word:08x}" for word in philox_words((zero, zero, zero, zero), (0, 0)).tolist()]
        ['6627e8d5', 'e169c58d', 'bc57ac4c', '9b00dbd8']
    """
    x0, x1, x2, x3 = np.broadcast_arrays(*counter)
    k0, k1 = key
    for _ in range(_ROUNDS):
        left, right = x0 * _MULTIPLIERS[0], x2 * _MULTIPLIERS[1]
        x0, x1, x2, x3 = (
            (right >> _SHIFT) ^ x1 ^ np.uint64(k0),
            right & _MASK,
            (left >> _SHIFT) ^ x3 ^ np.uint64(k1),
            left & _MASK,
        )
        k0, k1 = (k0 + _WEYL[0]) & 0xFFFFFFFF, (k1 + _WEYL[1]) & 0xFFFFFFFF
    return np.stack((x0, x1, x2, x3), -1)


def uniforms(index: NDArray[np.int64], view: NDArray[np.int64], count: int, *, seed: int) -> NDArray[np.float64]:
    """Uniform numbers per example and view, independent of those of the augmentation.

    Args:
        index: The examples' numbers, int64 in [0, 2**62), ``(N,)``.
        view: The view of each, in [0, 2**32), ``(N,)``.
        count: How many numbers for each.
        seed: Any integer in [0, 2**64).

    Returns:
        Numbers in (0, 1), odd multiples of 2**-53, ``(N, count)``.

    Raises:
        DataError: If the seed is out of its range.

    Example:
        >>> both = uniforms(np.array([7, 8]), np.array([0, 0]), 3, seed=1)
        >>> bool((uniforms(np.array([8]), np.array([0]), 3, seed=1)[0] == both[1]).all())
        True
    """
    if not 0 <= seed < 1 << 64:
        raise DataError(f"seed must be in [0, 2**64), and is {seed}")
    draws = np.arange(-(-count // 2), dtype=np.uint64) + np.uint64(_SAMPLING)
    number = index.astype(np.uint64)[:, None]
    counter = (number & _MASK, number >> _SHIFT, view.astype(np.uint64)[:, None], draws[None, :])
    words = philox_words(counter, (seed & 0xFFFFFFFF, seed >> 32))
    # 52 bits out of two words, and half a step more so that neither 0 nor 1 comes.
    high, low = words[..., 0::2] >> np.uint64(5), words[..., 1::2] >> np.uint64(7)
    numbers = (high.astype(np.float64) * 2.0**25 + low.astype(np.float64) + 0.5) * 2.0**-52
    return numbers.reshape(len(index), -1)[:, :count]
