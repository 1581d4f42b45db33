"""Examples from collections of items: a ``torch.utils.data.Dataset``, a DataLoader, a list, a Hugging Face data set.

Small collections without random transforms are read into memory; others item by item, when a batch is wanted.
"""

__all__ = ["class_names_of", "has_items", "read_items"]

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    default_collate,
    default_convert,
)

from limbeck.data.examples import Examples
from limbeck.data.item_reading import joined_items, length_of, read_stream, unreadable
from limbeck.data.item_source import ItemSource, example_seed
from limbeck.data.parsing import LABEL_KEYS, Item, left_out, parse_item
from limbeck.data.text_items import read_texts, text_fields
from limbeck.errors import DataError, LimbeckWarning
from limbeck.inputs import Inputs, same, tensors_of
from limbeck.system.callbacks import warn_user

_READ_TWICE = 32
"""Items compared with a second reading: a transform that changes one item in five is missed once in 1,000 times."""
_IN_MEMORY = 1 << 28
"""Bytes of inputs, at most, that are read into memory once; larger collections are read as they are needed."""


def has_items(given: Any) -> bool:
    """Whether something is a collection of items that :func:`read_items` may read.

    Args:
        given: Anything.

    Returns:
        Whether it is a data set or loader of torch, a list of pairs or mappings, or behaves as a data set.

    Example:
        >>> has_items([({}, 0)] * 3), has_items([1, 2, 3]), has_items("some.npz")
        (True, False, False)
    """
    if isinstance(given, Dataset | DataLoader):
        return True
    if isinstance(given, str | bytes | Mapping | Tensor) or hasattr(given, "__array__"):
        return False
    if isinstance(given, list | tuple):
        first = given[0] if given else None
        return isinstance(first, Mapping) or (_is_pair(first) and (len(given) != 2 or _two_items(*given)))
    return hasattr(given, "__len__") and hasattr(given, "__getitem__") and not hasattr(given, "iloc")


def _is_pair(given: Any) -> bool:
    return isinstance(given, tuple) and len(given) == 2 and not isinstance(given[0], int | float)


def _two_items(one: Any, other: Any) -> bool:
    """Whether two pairs are two items, and not the inputs and the labels of two examples."""
    return _is_pair(one) and _is_pair(other) and all(np.ndim(each[1]) == 0 for each in (one, other))


def read_items(given: Any, *, progress: Callable[[int, int], None] | None = None) -> Examples:
    """Inspect a collection of items, and read it now or lazily.

    An item is a pair of input and label, an input alone, or a mapping with one of
    :data:`~limbeck.data.parsing.INPUT_KEYS` and one of :data:`~limbeck.data.parsing.LABEL_KEYS`; an input is numbers,
    an image of Pillow, or a mapping of numbers such as token ids and their mask; a label a class number or one-hot.

    Some items are read under two seeds. Where they differ the collection transforms at random, and each epoch gets a
    view of its own, which is a function of the example and the epoch alone. Such collections, and large ones, are read
    by worker processes as training goes on; others once, into memory.

    Args:
        given: A data set or loader of torch or Hugging Face, a list, or what has ``__len__`` and ``__getitem__``. Of a
            loader its data set and ``collate_fn`` are taken; its order is not, since an epoch's order here is a
            function of the seed.
        progress: Called with items read and all, where every item must be read for its label.

    Returns:
        The examples.

    Raises:
        DataError: If an item cannot be read or used, or items differ in kind or shape.

    Warns:
        LimbeckWarning: If items draw from a generator that no seed reaches.

    Example:
        >>> read_items([{"x": [1.0, 2.0], "label": 1}, {"x": [3.0, 4.0], "label": 0}]).labels
        tensor([1, 0])
    """
    collate = None
    if isinstance(given, DataLoader):
        collate = None if given.collate_fn in (default_collate, default_convert) else given.collate_fn
        given = _behind(given)
    if isinstance(given, TensorDataset) and collate is None:
        if len(given.tensors) > 2:
            raise DataError(
                f"the TensorDataset has {len(given.tensors)} tensors, and inputs and labels are needed: give "
                "TensorDataset(inputs, labels)"
            )
        return Examples.of(*given.tensors)
    kind = type(given).__name__
    if isinstance(given, IterableDataset):
        with example_seed(0):
            return read_stream(given, kind)
    count = length_of(given, kind)
    first = _read_first(given, kind)
    if collate is None and (fields := text_fields(first)) is not None:
        return read_texts(given, fields, kind)
    if collate is None and (names := left_out(first)):
        warn_user(f"items of the {kind} have strings beside their inputs, which are left out: {', '.join(names)}")
    source = ItemSource(given, torch.arange(count), _parsed(first, kind, collate), collate=collate)
    changes = _draws(source, count)
    size = sum(each.numel() * each.element_size() for each in tensors_of(source.first.inputs)) * count
    if changes == "unreachable":
        warnings.warn(
            f"items of the {kind} differ when they are read again under the same seed, so they draw from a generator "
            "of their own: each was read once, and every epoch sees that one view; let them draw from random, "
            "numpy.random or torch, whose generators are seeded for each example",
            LimbeckWarning,
            stacklevel=2,
        )
    shapes = _shapes(source)
    alike = len({shape[1:] for shape in shapes}) <= 1
    if changes != "seeded" and collate is None and (changes == "unreachable" or (alike and size <= _IN_MEMORY)):
        items = [source.item(number, 0) for number in range(count)]
        shapes = [tuple(each.inputs.shape) for each in items if each.image and isinstance(each.inputs, Tensor)]
        if changes == "unreachable" or len({shape[1:] for shape in shapes}) <= 1:
            return joined_items(items, kind)
    source.random = changes == "seeded"
    labels = _known_labels(given, source)
    if labels is None:
        labels = source.labels(progress=progress)
    if not shapes:
        return Examples.of(source, labels)
    from limbeck.data.image_items import ImageItems, presentation_of_items  # Pillow is imported where it is used

    return Examples.of(ImageItems(source, presentation_of_items(source, shapes)), labels)


def class_names_of(given: Any) -> tuple[str, ...] | None:
    """Names of the classes where a data set says them, in ``classes`` or in a ``ClassLabel``.

    Args:
        given: Anything.

    Returns:
        The names in the order of the labels, or None.

    Example:
        >>> class_names_of(type("Folder", (), {"classes": ["cat", "dog"]})())
        ('cat', 'dog')
    """
    if isinstance(given, DataLoader | Subset):
        return class_names_of(given.dataset)
    features = getattr(given, "features", None)
    if isinstance(features, Mapping):
        named = [getattr(features[key], "names", None) for key in features if key in LABEL_KEYS]
        return tuple(map(str, named[0])) if len(named) == 1 and named[0] else None
    classes = getattr(given, "classes", None)
    if isinstance(classes, list | tuple) and classes and all(isinstance(name, str) for name in classes):
        return tuple(classes)
    return None


def _behind(loader: "DataLoader[Any]") -> Any:
    """The data set that a loader draws from, where the loader does no more than shuffle it."""
    cure = "give its data set, with items that are pairs (input, label)"
    if isinstance(loader.dataset, IterableDataset):
        return loader.dataset
    if loader.batch_sampler is not None and type(loader.batch_sampler) is not BatchSampler:
        raise DataError(f"the DataLoader has a batch sampler of its own: {cure}")
    sampler = loader.sampler
    if type(sampler) is SubsetRandomSampler:
        return Subset(loader.dataset, sorted(sampler.indices))
    whole = type(sampler) is RandomSampler and not sampler.replacement and len(sampler) == len(loader.dataset)  # type: ignore[arg-type]
    if not whole and type(sampler) is not SequentialSampler:
        raise DataError(f"the DataLoader draws by a {type(sampler).__name__}, which batches here do not follow: {cure}")
    return loader.dataset


def _read_first(given: Any, kind: str) -> Any:
    try:
        with example_seed(0):
            return given[0]
    except DataError:
        raise
    except Exception as error:
        raise unreadable(kind, 0, error) from error


def _parsed(read: Any, kind: str, collate: Callable[[list[Any]], Any] | None) -> Item:
    """The first item as tensors."""
    try:
        with example_seed(0):
            joined = read if collate is None else collate([read])
    except DataError:
        raise
    except Exception as error:
        raise unreadable(kind, 0, error) from error
    if collate is None:
        return parse_item(kind, 0, joined)
    whole = parse_item(kind, 0, joined)
    # A batch of one: the item is its only row.
    inputs: Inputs = (
        {name: each[0] for name, each in whole.inputs.items()} if isinstance(whole.inputs, Mapping) else whole.inputs[0]
    )
    return Item(inputs, whole.label, image=False)


def _draws(source: ItemSource, count: int) -> str:
    """Whether items are "fixed", random but controlled by the seed ("seeded"), or random despite the seed."""
    step = -(-count // _READ_TWICE)
    found = "fixed"
    for number in range(0, count, step):
        once, again, other = (source.item(number, seed) for seed in (0, 0, 1))
        if any(_class_of(once) != _class_of(each) for each in (again, other)):
            raise DataError(
                f"the label of item {number} of the {source.name} differs when it is read again: only inputs may be "
                "transformed at random"
            )
        if not same(once.inputs, again.inputs):
            return "unreachable"
        if not same(once.inputs, other.inputs):
            found = "seeded"
    return found


def _shapes(source: ItemSource) -> list[tuple[int, ...]]:
    """``(C, H, W)`` of some items, where they are images of Pillow; else none."""
    if not source.first.image or source.collate is not None:
        return []
    step = -(-len(source) // _READ_TWICE)
    read = (source.item(number, 0).inputs for number in range(0, len(source), step))
    return [tuple(each.shape) for each in read if isinstance(each, Tensor)]


def _class_of(item: Item) -> int | None:
    return None if item.label is None else int(item.label)


def _known_labels(given: Any, source: ItemSource) -> Tensor | None:
    """The labels where a data set holds them beside its items, and some items agree; None where it does not."""
    held = _held_labels(given)
    if held is None or held.shape != (len(source),):
        return None
    step = -(-len(source) // _READ_TWICE)
    for number in range(0, len(source), step):
        label = source.item(number, 0).label
        if label is None or int(label) != int(held[number]):
            return None
    return held


def _held_labels(given: Any) -> Tensor | None:
    if isinstance(given, Subset):
        inner = _held_labels(given.dataset)
        return None if inner is None else inner[torch.tensor(list(given.indices))]
    if isinstance(given, ConcatDataset):
        parts = [_held_labels(part) for part in given.datasets]
        known = [part for part in parts if part is not None]
        return torch.cat(known) if len(known) == len(parts) else None
    column_names = getattr(given, "column_names", None)
    found: Any = None
    if isinstance(column_names, list):
        keys = [key for key in column_names if key in LABEL_KEYS]
        found = given[keys[0]] if len(keys) == 1 else None
    else:
        found = getattr(given, "targets", getattr(given, "labels", None))
    try:
        values = torch.as_tensor(found if isinstance(found, Tensor) else list(found))
    except (TypeError, ValueError, RuntimeError):
        return None
    return values.long() if values.ndim == 1 and not values.is_floating_point() else None
