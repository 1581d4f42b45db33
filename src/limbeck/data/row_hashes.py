"""Hashes of array rows, to find equal rows.

Axes: ``N`` rows, ``B`` bytes of one.
"""

__all__ = ["bytes_of", "hash_rows", "mark_of", "mixed"]

import hashlib

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_WORDS = 512
"""Words of 8 bytes of a row that are hashed, spread over all of it; longer rows are compared afterwards."""
_BLOCK = 1 << 22
"""Words hashed at a time."""


def mark_of(content: bytes) -> int:
    """A number of 64 bits that equal contents share, and others nearly never.

    Args:
        content: Any bytes.

    Returns:
        The number, in [-2**63, 2**63).

    Example:
        >>> mark_of(b"one") == mark_of(b"one"), mark_of(b"one") == mark_of(b"two")
        (True, False)
    """
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little", signed=True)


def bytes_of(inputs: Tensor) -> NDArray[np.uint8]:
    """The bytes of each row, uint8 ``(N, B)``."""
    flat = inputs.detach().cpu().contiguous().reshape(len(inputs), -1)
    found: NDArray[np.uint8] = flat.view(torch.uint8).numpy()
    return found


def hash_rows(rows: NDArray[np.uint8]) -> NDArray[np.uint64]:
    r"""Sums of words times fixed odd numbers, mod :math:`2^{64}`, of at most :data:`_WORDS` words a row."""
    count, size = rows.shape
    words_in = size // 8 if size % 8 == 0 else 0
    if 0 < words_in <= _WORDS:
        return mixed(rows.view(np.uint64))
    chosen = np.unique(np.linspace(0, max(0, size - 8), min(_WORDS, -(-size // 8))).astype(np.int64))
    found = np.empty(count, np.uint64)
    step = max(1, _BLOCK // len(chosen))
    for start in range(0, count, step):
        block = rows[start : start + step]
        if size < 8:
            block = np.pad(block, ((0, 0), (0, 8 - size)))
        taken = np.ascontiguousarray(np.lib.stride_tricks.sliding_window_view(block, 8, axis=1)[:, chosen])
        found[start : start + step] = mixed(taken.view(np.uint64)[..., 0])
    return found


def mixed(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """One hash of each row of words."""
    found = np.zeros(len(words), np.uint64)
    factors = np.random.default_rng(0).integers(0, 1 << 63, words.shape[1], np.uint64) * np.uint64(2) + np.uint64(1)
    step = max(1, _BLOCK // words.shape[1])
    for start in range(0, len(words), step):
        block = words[start : start + step]
        # Words that differ in high bits alone would keep low ones alike without the shift.
        found[start : start + step] = ((block ^ (block >> np.uint64(32))) * factors).sum(1, dtype=np.uint64)
    return found
