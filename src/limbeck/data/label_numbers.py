"""Labels of files that are whole numbers: marks of a missing label are refused, and gaps between numbers are told."""

__all__ = ["check_numbers"]

import numpy as np
from numpy.typing import ArrayLike

from limbeck.errors import DataError
from limbeck.system.callbacks import warn_user

_MARKS = (-1, -100)
"""Numbers that mark a missing label: of scikit-learn and Hugging Face's test sets, and of PyTorch's losses."""
_MOST_SHOWN = 5


def check_numbers(given: ArrayLike, name: str, *, taught: ArrayLike | None = None) -> None:
    """Refuse numbers that mark a missing label, -1 or -100, and warn of numbers that no example has.

    They are refused where all other labels are at least 0. Labels that are -1 and 1 alone are two classes, as usual for
    binary problems, and those with other negative numbers are classes too.

    Args:
        given: The labels of a part, ``(N,)``; anything but whole numbers passes.
        name: What to call them in the warning.
        taught: The training labels; None where they are these. A small test set may have gaps.

    Raises:
        DataError: If there are such marks.

    Example:
        >>> check_numbers([1, -1, 1], "y"), check_numbers(["-1", "no"], "y")
        (None, None)
        >>> check_numbers([0, 1, -1, 2], "y")
        Traceback (most recent call last):
        limbeck.errors.DataError: 1 of 4 labels is -1, the first of row 2, which marks a missing label: leave out
        examples without a label (they can be the transfer set), and number classes from 0 or write them as names
    """
    values = np.asarray(given)
    if values.dtype.kind not in "iu" or not values.size:
        return
    known = np.unique(values)
    negative = values < 0
    marks = any(known[known < 0].tolist() == [mark] for mark in _MARKS)
    if marks and np.unique(values if taught is None else np.asarray(taught)).tolist() != [-1, 1]:
        count, row = int(negative.sum()), int(values.argmin())
        raise DataError(
            f"{count} of {len(values)} labels {'is' if count == 1 else 'are'} {known[0]}, the first of row {row}, "
            "which marks a missing label: leave out examples without a label (they can be the transfer set), and "
            "number classes from 0 or write them as names"
        )
    if taught is not None:
        return
    missing = int(known[-1]) - int(known[0]) + 1 - len(known)
    if known[0] >= 0 and 0 < missing <= len(known):
        absent = np.setdiff1d(np.arange(known[0], known[-1] + 1), known)
        shown = ", ".join(map(str, absent[:_MOST_SHOWN])) + (", ..." if missing > _MOST_SHOWN else "")
        warn_user(
            f"labels of {name} are whole numbers from {known[0]} to {known[-1]}, and none is {shown}: there are "
            f"{len(known)} classes, named by the numbers that occur"
        )
