"""Labels that are names: strings beside inputs, as scikit-learn and pandas have them, become class indices."""

__all__ = ["numbered_labels"]

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from limbeck.errors import DataError


def numbered_labels(
    parts: Mapping[str, Any], classes: Sequence[str] | None
) -> tuple[dict[str, Any], Sequence[str] | None]:
    """Turn names in the place of labels into class indices.

    Args:
        parts: Pairs of inputs and labels by the parts' names, the training part first; others are left as they are.
        classes: Names of the classes in order; None for the sorted names of the training part.

    Returns:
        The parts, and the names of the classes: those given where no part has names as labels.

    Raises:
        DataError: If a name is none of the classes.

    Example:
        >>> parts, classes = numbered_labels({"training": ([[0.1], [0.2]], ["dog", "cat"])}, None)
        >>> parts["training"][1].tolist(), classes
        ([1, 0], ('cat', 'dog'))
    """
    named = {part: names for part, pair in parts.items() if (names := _names_in(pair)) is not None}
    if not named:
        return dict(parts), classes
    if classes is None:
        first = next(iter(named.values()))
        classes = tuple(sorted(set(first.tolist())))
    place = {name: number for number, name in enumerate(classes)}
    made = dict(parts)
    for part, names in named.items():
        unknown = next((row for row, name in enumerate(names) if name not in place), None)
        if unknown is not None:
            shown = ", ".join(map(repr, classes[:8])) + (", ..." if len(classes) > 8 else "")
            raise DataError(
                f"{part} data: example {unknown} has the label {str(names[unknown])!r}, and the classes are {shown}: "
                "name all with classes=[...], or leave such examples out"
            )
        made[part] = (parts[part][0], np.array([place[name] for name in names], dtype=np.int64))
    return made, classes


def _names_in(pair: Any) -> NDArray[Any] | None:
    """The labels of a pair as strings ``(N,)``; None where they are something else."""
    # A list of two items is a data set of two examples, unless the first of them is an array.
    paired = isinstance(pair, tuple) or (isinstance(pair, list) and len(pair) == 2 and hasattr(pair[0], "shape"))
    if not paired or len(pair) != 2 or isinstance(pair[1], Tensor | str | bytes):
        return None
    labels = pair[1]
    if not hasattr(labels, "__len__") or not hasattr(labels, "__getitem__") or hasattr(labels, "tocsr"):
        return None
    if len(labels) == 0:
        return None
    try:
        first = labels[0] if isinstance(labels, tuple | list) else np.asarray(labels).flat[0]
    except (TypeError, ValueError, KeyError, IndexError):
        return None
    if not isinstance(first, str):
        return None
    names = np.asarray(labels)
    return names if names.ndim == 1 and all(isinstance(name, str) for name in names.tolist()) else None
