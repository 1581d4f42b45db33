"""Detection of permuted classes from the confusion matrix.

Axes: ``N`` examples, ``K`` classes.
"""

__all__ = ["describe_swapped", "swapped_classes"]

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_ERRORS = 3.0
"""Standard errors by which a class must be predicted as another more often than as itself."""
_STAYS, _GOES = 0.25, 0.5
"""Largest accuracy of such a class, and smallest share predicted as the one other class."""
_SHOWN = 4


def swapped_classes(labels: NDArray[np.int64], predicted: NDArray[np.int64], count: int) -> list[tuple[int, ...]]:
    r"""Find permuted classes: most of each is predicted as the next one in a cycle, and hardly any as itself.

    The permutation :math:`\pi` that makes most answers right, :math:`\sum_k C_{k \pi(k)}` with the confusion matrix C,
    is taken apart into cycles. In a cycle no class may be right more often than under :math:`\pi`; and at least two
    classes, and half of all, must be taken for the next one in most examples and seldom be right, by three standard
    errors. Classes that are merely confused, a model that always answers one class, and guessing do not look so.

    Args:
        labels: True classes, ``(N,)``.
        predicted: Top-1 classes, ``(N,)``.
        count: K.

    Returns:
        The cycles: each class is predicted as the next, the last as the first.

    Example:
        >>> truth = np.repeat([0, 1, 2], 20)
        >>> swapped_classes(truth, np.array([2, 1, 0])[truth], 3)
        [(0, 2)]
    """
    if _surely_gone(labels, predicted, count) < 2:
        return []  # nearly always: the assignment takes the cube of K, and its import half a second
    from scipy.optimize import linear_sum_assignment

    present = np.union1d(labels, predicted)
    labels, predicted = np.searchsorted(present, labels), np.searchsorted(present, predicted)
    many = len(present)
    confusion = np.bincount(labels * many + predicted, minlength=many * many).reshape(many, many)
    _, chosen = linear_sum_assignment(confusion, maximize=True)
    own = np.arange(many)
    goes = confusion[own, chosen]
    stays, sure = confusion[own, own], _sure(goes, confusion[own, own], confusion.sum(1))
    found, seen = [], set[int]()
    for first in range(many):
        cycle: list[int] = []
        while (place := int(chosen[cycle[-1]]) if cycle else first) not in seen:
            seen.add(place)
            cycle.append(place)
        part = np.array(cycle, np.int64)
        if len(part) > 1 and bool((goes >= stays)[part].all()) and sure[part].sum() >= max(2, len(part) / 2):
            found.append(tuple(present[cycle].tolist()))
    return found


def _sure(goes: NDArray[np.int64], stays: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which classes of some sizes are predicted as another one in most examples, and seldom as themselves."""
    apart: NDArray[np.bool_] = goes - stays > _ERRORS * np.sqrt(goes + stays)
    apart &= (stays <= _STAYS * sizes) & (goes >= _GOES * sizes)
    return apart


def _surely_gone(labels: NDArray[np.int64], predicted: NDArray[np.int64], count: int) -> int:
    """How many classes would be sure, were each predicted as the other class that most of it is taken for."""
    pairs, counts = np.unique(labels * count + predicted, return_counts=True)
    truth, answer = np.divmod(pairs, count)
    sizes, stays, goes = (np.zeros(count, np.int64) for _ in range(3))
    np.add.at(sizes, truth, counts)
    right = truth == answer
    stays[truth[right]] = counts[right]
    np.maximum.at(goes, truth[~right], counts[~right])
    return int(_sure(goes, stays, sizes).sum())


def describe_swapped(cycles: Sequence[Sequence[int]], names: Sequence[str] | None = None) -> str:
    """Describe permuted classes in words.

    Args:
        cycles: From :func:`swapped_classes`.
        names: Names of the classes; None for their indices.

    Returns:
        Such as "class 3 as 5, and class 5 as 3".

    Example:
        >>> describe_swapped([(0, 2)], ["cat", "dog", "fox"])
        'class cat as fox, and class fox as cat'
    """
    pairs = [(one, other) for cycle in cycles for one, other in zip(cycle, [*cycle[1:], cycle[0]], strict=True)]
    called = str if names is None else names.__getitem__
    said = [f"class {called(one)} as {called(other)}" for one, other in pairs[:_SHOWN]]
    if len(pairs) > _SHOWN:
        return f"{', '.join(said)}, and so on ({len(pairs)} classes)"
    return f"{', '.join(said[:-1])}, and {said[-1]}"
