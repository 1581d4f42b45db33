"""Items of collections read one after the other, and joined in memory."""

__all__ = ["joined_items", "length_of", "read_stream", "unreadable"]

from collections.abc import Iterator, Sequence
from itertools import chain, islice
from itertools import count as count_from
from typing import Any

import torch
from torch.utils.data import IterableDataset

from limbeck.data.examples import Examples
from limbeck.data.parsing import Item, parse_item, stack_inputs
from limbeck.data.text_items import read_texts, text_fields
from limbeck.errors import DataError
from limbeck.inputs import tensors_of

_MOST_STREAMED = 1 << 32
"""Bytes of inputs, at most, of a collection that can only be read from its beginning."""


def read_stream(given: "IterableDataset[Any]", kind: str) -> Examples:
    """The examples of a collection that can only be read from its beginning, once.

    Args:
        given: The collection.
        kind: What it is called in a message.

    Returns:
        The examples, in memory.

    Raises:
        DataError: If an item cannot be read or used, there are none, or they take too much memory.
    """
    read = _streamed(given, kind)
    first = next(read, None)
    if first is None:
        raise DataError(f"the {kind} has no items: at least one is needed")
    read = chain([first], read)
    fields = text_fields(first)
    if fields is not None:
        return read_texts(read, fields, kind)
    items: list[Item] = []
    taken = 0
    for number, each in enumerate(read):
        item = parse_item(kind, number, each)
        taken += sum(part.numel() * part.element_size() for part in tensors_of(item.inputs))
        if taken > _MOST_STREAMED:
            raise DataError(
                f"the {kind} can only be read from its beginning, and its first {number + 1:,} items take 4 GiB: give "
                "a data set with __len__ and __getitem__, whose items are read when they are needed"
            )
        items.append(item)
    return joined_items(items, kind)


def _streamed(given: "IterableDataset[Any]", kind: str) -> Iterator[Any]:
    """Its items, as they come."""
    said = getattr(given, "__len__", None)
    count = None if said is None else length_of(given, kind)
    iterator = iter(given)
    for number in count_from() if count is None else range(count):
        try:
            read = list(islice(iterator, 1))
        except DataError:
            raise
        except Exception as error:
            raise unreadable(kind, number, error) from error
        if not read:
            if count is not None:
                raise DataError(f"the {kind} says that it has {count} items, and ends after {number}")
            return
        yield read[0]


def length_of(given: Any, kind: str) -> int:
    """How many items a collection says that it has.

    Args:
        given: The collection.
        kind: What it is called in a message.

    Returns:
        At least 1.

    Raises:
        DataError: If it does not say, or has none.
    """
    try:
        count = len(given)
    except Exception as error:
        raise DataError(
            f"the {kind} does not say how many items it has: give a data set with __len__, or read it into tensors"
        ) from error
    if count == 0:
        raise DataError(f"the {kind} has no items: at least one is needed")
    return count


def unreadable(kind: str, number: int, error: Exception) -> DataError:
    """The error for an item whose data set raised one of its own.

    Args:
        kind: What the collection is called.
        number: Of the item.
        error: What was raised.

    Returns:
        The error, to be raised.
    """
    reason = " ".join(str(error).split())[:200]
    return DataError(f"item {number} of the {kind} cannot be read: {type(error).__name__}: {reason}")


def joined_items(items: Sequence[Item], kind: str) -> Examples:
    """All items in memory.

    Args:
        items: At least one.
        kind: What the collection is called in a message.

    Returns:
        The examples.

    Raises:
        DataError: If they do not fit together, or some have a label and others none.
    """
    without = [number for number, each in enumerate(items) if each.label is None]
    if without and len(without) < len(items):
        raise DataError(f"item {without[0]} of the {kind} has no label, and others have one")
    labels = None if without else torch.stack([each.label for each in items if each.label is not None])
    inputs = stack_inputs([each.inputs for each in items], kind, range(len(items)))
    return Examples.of(inputs, labels, layout="NCHW" if all(each.image for each in items) else None)
