"""Duplicates between parts of the data, found by hashes of their bytes.

Axes: ``N`` examples, ``B`` bytes of an example.
"""

__all__ = ["shared_examples", "shared_groups"]

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from limbeck.data.examples import Examples
from limbeck.data.row_hashes import bytes_of, hash_rows
from limbeck.data.source import Source


def shared_examples(some: Examples, others: Examples) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Find examples with bitwise equal inputs in another part.

    Of texts white space does not count. Of image files the bytes of those are compared that have the size of another;
    no image is decoded. Of tensors 8 bytes are kept of each example, and at most 4 KiB of each are hashed.

    Args:
        some: The examples to look up, such as a test set.
        others: The examples to search, such as the training set.

    Returns:
        Rows of ``some``, in order, and for each a row of ``others`` with the same inputs. Empty where examples have
        other shapes or types, or nothing is known of them before they are made, as of frames of speech. Examples that
        are looked up among themselves need not be listed where no other is the same.

    Example:
        >>> import torch
        >>> some = torch.eye(4)
        >>> train, test = Examples.of(some), Examples.of(torch.stack([some[3], 2 * some[3], some[0]]))
        >>> [rows.tolist() for rows in shared_examples(test, train)]
        [[0, 2], [3, 0]]
    """
    nothing: NDArray[np.int64] = np.empty(0, np.int64)
    mine, theirs = some.inputs, others.inputs
    if isinstance(mine, Source) and isinstance(theirs, Source):
        return _of_sources(mine, theirs)
    if not (isinstance(mine, Tensor) and isinstance(theirs, Tensor)):
        return nothing, nothing
    if mine.shape[1:] != theirs.shape[1:] or mine.dtype != theirs.dtype or not mine[0].numel():
        return nothing, nothing
    here, there = bytes_of(mine), bytes_of(theirs)
    hashes, found = hash_rows(there), hash_rows(here)
    order = np.argsort(hashes, kind="stable")
    place = np.searchsorted(hashes, found, sorter=order).clip(max=len(order) - 1)
    candidates = order[place]
    rows = np.flatnonzero(hashes[candidates] == found)
    # Equal hashes are nearly always equal rows; where the first of several is not, nothing is claimed.
    step = max(1, (1 << 26) // here.shape[1])
    parts = [rows[start : start + step] for start in range(0, len(rows), step)]
    kept = np.concatenate([nothing, *(part[(here[part] == there[candidates[part]]).all(1)] for part in parts)])
    return kept, candidates[kept].astype(np.int64)


def _of_sources(mine: Source, theirs: Source) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows with equal marks first, then of these the ones with equal contents."""
    nothing: NDArray[np.int64] = np.empty(0, np.int64)
    here, there = mine.marks(), theirs.marks()
    if here is None or there is None or type(mine) is not type(theirs):
        return nothing, nothing
    if mine is theirs:
        _, place, counts = np.unique(here, return_inverse=True, return_counts=True)
        known = looked_up = np.flatnonzero(counts[place] > 1)
    else:
        looked_up, known = np.flatnonzero(np.isin(here, there)), np.flatnonzero(np.isin(there, here))
    first: dict[bytes, int] = {}
    for row in known.tolist():
        first.setdefault(theirs.exact(row), row)
    pairs = [(row, first.get(mine.exact(row), -1)) for row in looked_up.tolist()]
    found = [(row, other) for row, other in pairs if other >= 0]
    return np.array([row for row, _ in found], np.int64), np.array([other for _, other in found], np.int64)


def shared_groups(some: Examples, others: Examples) -> tuple[list[str], int]:
    """Find groups, such as authors, that have examples in both parts of a split.

    Args:
        some: Examples, such as those of a test set.
        others: Others, such as the training set.

    Returns:
        Their names, and how many of ``some`` belong to them. Empty where examples have no groups.
    """
    mine, theirs = (each.inputs.group_names() if isinstance(each.inputs, Source) else None for each in (some, others))
    if mine is None or theirs is None:
        return [], 0
    known = {str(name) for name in theirs}
    both = [str(name) for name in mine if str(name) in known]
    return list(dict.fromkeys(both)), len(both)
