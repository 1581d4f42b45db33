"""Conversion of user data to examples."""

__all__ = ["as_examples"]

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from limbeck.data.data_set import DataSet
from limbeck.data.examples import Examples
from limbeck.data.items import has_items, read_items
from limbeck.data.parsing import pick_keys
from limbeck.data.table_files import examples_of_frame, is_frame
from limbeck.data.text import Text
from limbeck.data.text_items import are_texts
from limbeck.errors import DataError


def as_examples(given: Any) -> Examples:
    """Convert user data to examples.

    Args:
        given: :class:`Examples`; a pair of inputs and labels (arrays or tensors), or a mapping of both; inputs alone;
            a DataFrame, or a pair of one and labels; or a ``torch.utils.data.Dataset``, a DataLoader, a Hugging Face
            data set or a list of items (see :func:`~limbeck.data.items.read_items`).

    Returns:
        The examples.

    Raises:
        DataError: If it is none of these.

    Example:
        >>> import torch
        >>> len(as_examples((torch.zeros(3, 4), torch.tensor([0, 1, 0]))))
        3
    """
    if isinstance(given, Examples):
        return given
    if hasattr(given, "tocsr"):  # a sparse matrix, which is refused there
        return Examples.of(given)
    if is_frame(given):
        return examples_of_frame(given)
    if isinstance(given, tuple | list) and len(given) == 2 and is_frame(given[0]):
        return examples_of_frame(*given)
    if has_items(given):
        return read_items(given)
    if isinstance(given, tuple | list) and len(given) == 2 and are_texts(given[0]):
        return Examples.of(Text(list(given[0])), given[1])
    if isinstance(given, tuple | list) and len(given) == 2:
        return Examples.of(given[0], given[1])
    if isinstance(given, Mapping):
        return Examples.of(*pick_keys(given, "a mapping"))
    if isinstance(given, Tensor) or hasattr(given, "__array__"):
        return Examples.of(given)
    cure = ": open files with limbeck.open_data(path)" if isinstance(given, str | Path) else ""
    cure = ": give one of its parts, such as data.train" if isinstance(given, DataSet) else cure
    raise DataError(
        "examples must be a pair (inputs, labels), a data set of torch, a list of items or Examples, and are a "
        f"{type(given).__name__}{cure}"
    )
