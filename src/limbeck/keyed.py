"""Counter-based random numbers keyed to the example, not to the order in which examples are drawn.

A counter-based generator turns (seed, view, example index, draw) into four words, without any state. The k-th
augmented view of an example is therefore the same on any device, batch size, number of workers or after a resume.

The generator is Philox 4x32 with ten rounds: Salmon, Moraes, Dror and Shaw, `Parallel random numbers: as easy as
1, 2, 3 <https://doi.org/10.1145/2063384.2063405>`_, SC 2011.

Axes: ``N`` examples.
"""

__all__ = ["permutation", "philox", "seeds", "small_integers", "uniform", "uniform_draws"]

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from limbeck.errors import DataError

_MASK = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10
_PIECE = {"cpu": 1 << 15}
_LARGE_PIECE = 1 << 22
"""Keys of a permutation that are drawn at a time: what ten rounds go through stays in a processor's cache."""


def philox(counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[int, int]) -> Tensor:
    """Philox 4x32-10: four 32-bit words out of four counter words and two key words.

    Args:
        counter: Four tensors of int64 with values in [0, 2**32), of shapes that broadcast to ``(...)``.
        key: Two integers in [0, 2**32).

    Returns:
        The words as int64 in [0, 2**32), ``(..., 4)``.

    Example:
        >>> zero = torch.zeros((), dtype=torch.int64)
        >>> [f"{int(word):08x}" for word in philox((zero, zero, zero, zero), (0, 0))]
        ['6627e8d5', 'e169c58d', 'bc57ac4c', '9b00dbd8']
    """
    if all(word.device.type == "cpu" for word in counter):
        return torch.from_numpy(_on_host(counter, key).view(np.int64))
    return _on_device(counter, key)


def _on_host(counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[int, int]) -> NDArray[np.uint64]:
    """The same by numpy, in whose words nothing wraps: two to three times as fast on a processor."""
    words = np.broadcast_arrays(*(word.numpy() for word in counter))
    x0, x1, x2, x3 = (np.ascontiguousarray(word).view(np.uint64) for word in words)  # of one axis at least
    first, second, half, mask = (np.uint64(value) for value in (*_MULTIPLIERS, 32, _MASK))
    k0, k1 = key
    for _ in range(_ROUNDS):
        left, right = x0 * first, x2 * second
        high, low = right >> half, left >> half
        high ^= x1
        high ^= np.uint64(k0)
        low ^= x3
        low ^= np.uint64(k1)
        right &= mask
        left &= mask
        x0, x1, x2, x3 = high, right, low, left
        k0, k1 = (k0 + _WEYL[0]) & _MASK, (k1 + _WEYL[1]) & _MASK
    return np.stack((x0, x1, x2, x3), -1).reshape(*words[0].shape, 4)


def _on_device(counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[int, int]) -> Tensor:
    """The same by tensors, wherever they are."""
    x0, x1, x2, x3 = torch.broadcast_tensors(*counter)  # type: ignore[no-untyped-call]
    k0, k1 = key
    for _ in range(_ROUNDS):
        # The product of two 32-bit words wraps in int64, and its 64 bits are those of the unsigned product.
        left, right = x0 * _MULTIPLIERS[0], x2 * _MULTIPLIERS[1]
        x0, x1, x2, x3 = (
            ((right >> 32) & _MASK) ^ x1 ^ k0,
            right & _MASK,
            ((left >> 32) & _MASK) ^ x3 ^ k1,
            left & _MASK,
        )
        k0, k1 = (k0 + _WEYL[0]) & _MASK, (k1 + _WEYL[1]) & _MASK
    return torch.stack((x0, x1, x2, x3), -1)


def uniform(index: Tensor, *, seed: int, view: int, draw: int = 0) -> Tensor:
    """Four uniform numbers for each example.

    Args:
        index: The examples' numbers in their data set, int64 in [0, 2**32), ``(N,)``.
        seed: Any integer in [0, 2**64).
        view: Which view of the example, in [0, 2**32).
        draw: Which group of four numbers, in [0, 2**32), where one view needs more than four.

    Returns:
        Numbers in [0, 1) with a step of 2**-24, exactly the same on every device, float32 ``(N, 4)``.

    Raises:
        DataError: If seed, view or draw is out of its range.

    Example:
        >>> both = uniform(torch.tensor([7, 8]), seed=1, view=0)
        >>> torch.equal(uniform(torch.tensor([8]), seed=1, view=0)[0], both[1])
        True
    """
    return (_words(index, seed, view, draw) >> 8).to(torch.float32) * 2.0**-24


def uniform_draws(index: Tensor, *, seed: int, view: int, draw: int, count: int) -> Tensor:
    """Several draws of :func:`uniform` at once.

    Args:
        index: As for :func:`uniform`.
        seed: As for :func:`uniform`.
        view: As for :func:`uniform`.
        draw: The first draw.
        count: How many.

    Returns:
        Numbers in [0, 1), float32 ``(N, count, 4)``.

    Raises:
        DataError: If seed, view or draw is out of its range.

    Example:
        >>> index = torch.arange(3)
        >>> both = uniform_draws(index, seed=1, view=0, draw=5, count=2)
        >>> torch.equal(both[:, 1], uniform(index, seed=1, view=0, draw=6))
        True
    """  # noqa: DOC502
    draws = torch.arange(count, device=index.device)
    return (_words(index.unsqueeze(-1), seed, view, draw, draws) >> 8).to(torch.float32) * 2.0**-24


def small_integers(index: Tensor, *, seed: int, view: int, draw: int, count: int) -> Tensor:
    """Many ten-bit numbers per example; :func:`uniform` would need three times the draws.

    Args:
        index: As for :func:`uniform`.
        seed: As for :func:`uniform`.
        view: As for :func:`uniform`.
        draw: The first draw; twelve numbers need one draw.
        count: How many numbers for each example.

    Returns:
        Numbers in [0, 1024), int16 ``(N, count)``.

    Raises:
        DataError: If seed, view or draw is out of its range.

    Example:
        >>> small_integers(torch.arange(3), seed=1, view=0, draw=0, count=50).shape
        torch.Size([3, 50])
    """
    found = torch.empty(len(index), -(-count // 12) * 12, dtype=torch.int16, device=index.device)
    for start in range(0, count, 12):
        words = _words(index, seed, view, draw + start // 12)
        for part in range(3):
            found[:, start + 4 * part : start + 4 * part + 4] = (words >> 10 * part) & 1023
    return found[:, :count]


def seeds(index: Tensor, *, seed: int, view: int) -> Tensor:
    """A seed per view of an example, for generators that are not counter-based, such as those of the user's transforms.

    Args:
        index: As for :func:`uniform`.
        seed: As for :func:`uniform`.
        view: As for :func:`uniform`.

    Returns:
        Integers in [0, 2**63), int64 ``(N,)``.

    Example:
        >>> both = seeds(torch.tensor([7, 8]), seed=1, view=0)
        >>> bool(both[0] != both[1]), torch.equal(seeds(torch.tensor([8]), seed=1, view=0)[0], both[1])
        (True, True)
    """
    # Draws above those of `uniform`, below that of `permutation`.
    words = _words(index, seed, view, _MASK - 1)
    return (words[:, 0] << 31) | (words[:, 1] >> 1)


def _words(index: Tensor, seed: int, view: int, draw: int, further: Tensor | int = 0) -> Tensor:
    if not 0 <= seed < 1 << 64:
        raise DataError(f"seed must be in [0, 2**64), and is {seed}")
    if not (0 <= view <= _MASK and 0 <= draw <= _MASK):
        raise DataError(f"view and draw must be in [0, 2**32), and are {view} and {draw}")
    constant = torch.zeros_like(index)
    return philox((index & _MASK, index >> 32, constant + view, constant + draw + further), (seed & _MASK, seed >> 32))


def permutation(count: int, *, seed: int, epoch: int, part: int = 0, device: torch.device | str = "cpu") -> Tensor:
    """The order of the examples in an epoch: a function of the seed and the epoch alone.

    Each example is given a 64-bit key; sorting by key is a uniform permutation.

    Args:
        count: How many examples.
        seed: Any integer in [0, 2**64).
        epoch: The epoch, from 0.
        part: Which part of an epoch, from 0, where it is shuffled in parts.
        device: Where to put the result.

    Returns:
        A permutation of ``range(count)``, int64 ``(count,)``.

    Example:
        >>> sorted(permutation(4, seed=0, epoch=3).tolist())
        [0, 1, 2, 3]
    """
    keys = torch.empty(count, dtype=torch.int64, device=device)
    step = _PIECE.get(keys.device.type, _LARGE_PIECE)
    for start in range(0, count, step):
        index = torch.arange(start, min(start + step, count), device=device)
        constant = torch.zeros_like(index)
        # The last counter word separates these numbers from those of `uniform`, whose draws are small.
        words = philox((index, constant + part, constant + epoch, constant + _MASK), (seed & _MASK, seed >> 32))
        keys[start : start + step] = (words[:, 0] << 31) | (words[:, 1] >> 1)
    return torch.argsort(keys, stable=True)
