"""The names of a table's columns, in messages."""

__all__ = ["listed_columns", "no_column"]

from collections.abc import Iterable
from difflib import get_close_matches

_MOST = 20
"""How many names a message lists."""


def listed_columns(names: Iterable[object]) -> str:
    """The names of columns; of very many the first and the last, which is often the label.

    Args:
        names: The names in order.

    Returns:
        At most 20 of them, in quotation marks.

    Example:
        >>> listed_columns(["age", "label"])
        "'age', 'label'"
        >>> listed_columns(range(99)).endswith("'17', ... (99 columns), '98'")
        True
    """
    every = [repr(str(name)) for name in names]
    if len(every) <= _MOST:
        return ", ".join(every)
    return f"{', '.join(every[: _MOST - 2])}, ... ({len(every)} columns), {every[-1]}"


def no_column(column: str, names: Iterable[object]) -> str:
    """What is wrong where a table lacks a column.

    Args:
        column: The wanted name.
        names: Those that there are.

    Returns:
        The complaint, with the nearest name, or all names where none is near.

    Example:
        >>> no_column("Lable", ["age", "label"])
        "has no column 'Lable': did you mean 'label'?"
        >>> no_column("y", ["age", "label"])
        "has no column 'y': its columns are 'age', 'label'"
    """
    every = [str(name) for name in names]
    lower = {name.lower(): name for name in reversed(every)}
    near = get_close_matches(column.lower(), list(lower), 1)
    cure = f"did you mean {lower[near[0]]!r}?" if near else f"its columns are {listed_columns(every)}"
    return f"has no column {column!r}: {cure}"
