"""Examples of one part of the data that are in another part too, found by hashes of their bytes.

Axes: ``N`` examples, ``B`` bytes of an example.
"""

__all__ = ["shared_examples"]

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from limbeck.data.examples import Examples

_WORDS = 512
"""Words of 8 bytes of an example that are hashed, spread over all of it; longer examples are compared afterwards."""
_BLOCK = 1 << 22
"""Words hashed at a time."""


def shared_examples(some: Examples, others: Examples) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which examples have the same inputs, to the bit, as some example of another part.

    Time and memory grow as the number of examples: 8 bytes are kept of each, and at most 4 KiB of each are hashed.

    Args:
        some: The examples that are looked up, such as those of a test set.
        others: Where they are looked for, such as the training set.

    Returns:
        Rows of ``some``, in order, and for each a row of ``others`` with the same inputs. Empty where inputs are made
        when they are asked for, as frames of speech are, or have other shapes or types.

    Example:
        >>> some = torch.eye(4)
        >>> train, test = Examples.of(some), Examples.of(torch.stack([some[3], 2 * some[3], some[0]]))
        >>> [rows.tolist() for rows in shared_examples(test, train)]
        [[0, 2], [3, 0]]
    """
    nothing: NDArray[np.int64] = np.empty(0, np.int64)
    mine, theirs = some.inputs, others.inputs
    if not (isinstance(mine, Tensor) and isinstance(theirs, Tensor)):
        return nothing, nothing
    if mine.shape[1:] != theirs.shape[1:] or mine.dtype != theirs.dtype or not mine[0].numel():
        return nothing, nothing
    here, there = _bytes_of(mine), _bytes_of(theirs)
    hashes, found = _hashes(there), _hashes(here)
    order = np.argsort(hashes, kind="stable")
    place = np.searchsorted(hashes, found, sorter=order).clip(max=len(order) - 1)
    candidates = order[place]
    rows = np.flatnonzero(hashes[candidates] == found)
    # Equal hashes are nearly always equal rows; where the first of several is not, nothing is claimed.
    step = max(1, (1 << 26) // here.shape[1])
    parts = [rows[start : start + step] for start in range(0, len(rows), step)]
    kept = np.concatenate([nothing, *(part[(here[part] == there[candidates[part]]).all(1)] for part in parts)])
    return kept, candidates[kept].astype(np.int64)


def _bytes_of(inputs: Tensor) -> NDArray[np.uint8]:
    """The examples' bytes, ``(N, B)``."""
    flat = inputs.detach().cpu().contiguous().reshape(len(inputs), -1)
    found: NDArray[np.uint8] = flat.view(torch.uint8).numpy()
    return found


def _hashes(rows: NDArray[np.uint8]) -> NDArray[np.uint64]:
    r"""Sums of words times fixed odd numbers, mod :math:`2^{64}`, of at most :data:`_WORDS` words a row."""
    count, size = rows.shape
    words_in = size // 8 if size % 8 == 0 else 0
    if 0 < words_in <= _WORDS:
        return _mixed(rows.view(np.uint64))
    chosen = np.unique(np.linspace(0, max(0, size - 8), min(_WORDS, -(-size // 8))).astype(np.int64))
    found = np.empty(count, np.uint64)
    step = max(1, _BLOCK // len(chosen))
    for start in range(0, count, step):
        block = rows[start : start + step]
        if size < 8:
            block = np.pad(block, ((0, 0), (0, 8 - size)))
        taken = np.ascontiguousarray(np.lib.stride_tricks.sliding_window_view(block, 8, axis=1)[:, chosen])
        found[start : start + step] = _mixed(taken.view(np.uint64)[..., 0])
    return found


def _mixed(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """One hash of each row of words."""
    found = np.zeros(len(words), np.uint64)
    factors = np.random.default_rng(0).integers(0, 1 << 63, words.shape[1], np.uint64) * np.uint64(2) + np.uint64(1)
    step = max(1, _BLOCK // words.shape[1])
    for start in range(0, len(words), step):
        block = words[start : start + step]
        # Words that differ in high bits alone would keep low ones alike without the shift.
        found[start : start + step] = ((block ^ (block >> np.uint64(32))) * factors).sum(1, dtype=np.uint64)
    return found
