"""Examples out of collections of items: a ``torch.utils.data.Dataset``, a DataLoader, a list, read into memory.

Axes: ``N`` items, ``C`` channels, ``H`` and ``W`` pixels.
"""

__all__ = ["INPUT_KEYS", "LABEL_KEYS", "has_items", "pick_keys", "read_items"]

import random
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
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
from limbeck.data.values import as_labels, as_tensor
from limbeck.errors import DataError, LimbeckWarning

INPUT_KEYS = ("x", "input", "inputs", "image", "images", "img", "pixel_values", "input_ids", "input_values", "features",
              "data")  # fmt: skip
LABEL_KEYS = ("y", "label", "labels", "target", "targets", "class", "fine_label")
_NAMES_OF_ITEMS = ("id", "idx", "index", "file", "filename", "name", "path")
"""Keys that name an item, so that leaving them out loses nothing."""
_READ_TWICE = 32
"""Items compared with a second reading: a transform that changes one item in five is missed once in 1,000 times."""


class Item(NamedTuple):
    """One item as tensors; the label without an axis, or None."""

    inputs: Tensor
    label: Tensor | None
    image: bool
    """Whether it was an image of Pillow, whose channels are certain to be first."""


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
        pair = isinstance(first, tuple) and len(first) == 2 and not isinstance(first[0], int | float)
        return isinstance(first, Mapping) or (pair and len(given) != 2)
    return hasattr(given, "__len__") and hasattr(given, "__getitem__")


def read_items(given: Any) -> Examples:
    """Read every item once, in order.

    An item is a pair of input and label, an input alone, or a mapping with one of :data:`INPUT_KEYS` and one of
    :data:`LABEL_KEYS`; an input is numbers or an image of Pillow, a label a class number or one-hot. Some items are
    read twice: where they differ, the collection transforms at random, and all epochs would see one view.

    Args:
        given: A data set or loader of torch, a list, or what has ``__len__`` and ``__getitem__``.

    Returns:
        The examples.

    Raises:
        DataError: If an item cannot be read or used, or items differ in kind or shape.

    Warns:
        LimbeckWarning: If items differ when they are read again.

    Example:
        >>> read_items([{"x": [1.0, 2.0], "label": 1}, {"x": [3.0, 4.0], "label": 0}]).labels
        tensor([1, 0])
    """
    if isinstance(given, DataLoader):
        given = _behind(given)
    if isinstance(given, TensorDataset):
        if len(given.tensors) > 2:
            raise DataError(
                f"the TensorDataset has {len(given.tensors)} tensors, and inputs and labels are needed: give "
                "TensorDataset(inputs, labels)"
            )
        return Examples.of(*given.tensors)
    kind = type(given).__name__
    count = _length(given, kind)
    with _randomness_of_its_own():
        if isinstance(given, IterableDataset):
            items = [_item(kind, number, each) for number, each in enumerate(_first(given, count, kind))]
        else:
            items = [_item(kind, number, _get(given, number, kind)) for number in range(count)]
            _tell_random(given, items, kind)
    return _joined(items, kind)


def pick_keys(found: Mapping[Any, Any], what: str) -> tuple[Any, Any | None]:
    """The input and the label of a mapping.

    Args:
        found: The mapping.
        what: What to call it in a message.

    Returns:
        Both; None where it has no label.

    Raises:
        DataError: If there is not one input, there are several labels, or something would be left out.

    Example:
        >>> pick_keys({"image": 5, "label": 1, "idx": 7}, "item 7")
        (5, 1)
    """
    inputs = [key for key in found if key in INPUT_KEYS]
    labels = [key for key in found if key in LABEL_KEYS]
    others = [key for key in found if key not in (*INPUT_KEYS, *LABEL_KEYS, *_NAMES_OF_ITEMS)]
    if len(inputs) != 1 or len(labels) > 1 or others:
        raise DataError(
            f"{what} has the keys {', '.join(map(str, found))}: one input ({', '.join(INPUT_KEYS)}), at most one label "
            f"({', '.join(LABEL_KEYS)}) and nothing else can be used; make it a pair (input, label)"
        )
    return found[inputs[0]], found[labels[0]] if labels else None


def _behind(loader: "DataLoader[Any]") -> Any:
    """The data set that a loader draws from, where the loader does no more than shuffle it."""
    cure = "give its data set, with items that are pairs (input, label)"
    if loader.collate_fn not in (default_collate, default_convert):
        raise DataError(f"the DataLoader has a collate_fn of its own, which may change its items: {cure}")
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


def _length(given: Any, kind: str) -> int:
    try:
        count = len(given)
    except Exception as error:
        more = " and its order may change" if isinstance(given, IterableDataset) else ""
        raise DataError(
            f"the {kind} does not say how many items it has{more}: give a data set with __len__, or read it into "
            "tensors first"
        ) from error
    if count == 0:
        raise DataError(f"the {kind} has no items: at least one is needed")
    return count


def _get(given: Any, number: int, kind: str) -> Any:
    try:
        return given[number]
    except Exception as error:
        raise _unreadable(kind, number, error) from error


def _first(given: "IterableDataset[Any]", count: int, kind: str) -> Iterator[Any]:
    number = 0
    try:
        for each in islice(given, count):
            yield each
            number += 1
    except DataError:
        raise
    except Exception as error:
        raise _unreadable(kind, number, error) from error
    if number < count:
        raise DataError(f"the {kind} says that it has {count} items, and ends after {number}")


def _unreadable(kind: str, number: int, error: Exception) -> DataError:
    reason = " ".join(str(error).split())[:200]
    return DataError(f"item {number} of the {kind} cannot be read: {type(error).__name__}: {reason}")


def _item(kind: str, number: int, given: Any) -> Item:
    what = f"item {number} of the {kind}"
    label: Any = None
    if isinstance(given, Mapping):
        given, label = pick_keys(given, what)
    elif isinstance(given, list | tuple):
        if not 1 <= len(given) <= 2:
            raise DataError(f"{what} has {len(given)} parts: a pair (input, label) is needed")
        given, label = given if len(given) == 2 else (given[0], None)
    try:
        image = _is_image(given)
        inputs = _pixels(given) if image else as_tensor("inputs", given)
        return Item(inputs, None if label is None else _class_number(label), image)
    except DataError as error:
        raise DataError(f"{what}: {error}") from error


def _class_number(label: Any) -> Tensor:
    values = as_tensor("labels", label)
    return as_labels(values.reshape(1, -1) if values.numel() > 1 else values.reshape(-1), 1)[0]


def _is_image(given: Any) -> bool:
    pillow = sys.modules.get("PIL.Image")  # where there is an image, Pillow was imported
    return pillow is not None and isinstance(given, pillow.Image)


def _pixels(image: Any) -> Tensor:
    from limbeck.formats.pictures import pixels_of

    values = torch.from_numpy(np.array(pixels_of(image)))
    return values.unsqueeze(0) if values.ndim == 2 else values.permute(2, 0, 1)


def _joined(items: Sequence[Item], kind: str) -> Examples:
    inputs = [each.inputs for each in items]
    if inputs[0].dtype == torch.uint8 and {each.shape[0] for each in inputs if each.ndim == 3} == {1, 3}:
        inputs = [each.expand(3, -1, -1) if each.ndim == 3 else each for each in inputs]  # grey among coloured images
    for number, each in enumerate(inputs):
        if each.shape != inputs[0].shape:
            raise DataError(
                f"item {number} of the {kind} has shape {tuple(each.shape)}, and item 0 has {tuple(inputs[0].shape)}: "
                "resize, crop or pad them to one shape in the data set"
            )
        if each.dtype != inputs[0].dtype and not (each.is_floating_point() and inputs[0].is_floating_point()):
            raise DataError(
                f"item {number} of the {kind} is of type {each.dtype}, and item 0 of {inputs[0].dtype}: give all in "
                "one type"
            )
    without = [number for number, each in enumerate(items) if each.label is None]
    if without and len(without) < len(items):
        raise DataError(f"item {without[0]} of the {kind} has no label, and others have one")
    labels = None if without else torch.stack([each.label for each in items if each.label is not None])
    values = torch.stack([each.to(inputs[0].dtype) for each in inputs])
    return Examples.of(values, labels, layout="NCHW" if all(each.image for each in items) else None)


def _tell_random(given: Any, items: Sequence[Item], kind: str) -> None:
    """Warn where some items are not the same when they are read again."""
    step = -(-len(items) // _READ_TWICE)
    for number in range(0, len(items), step):
        again, known = _item(kind, number, _get(given, number, kind)), items[number]
        if not _same(again.inputs, known.inputs) or not _same(again.label, known.label):
            warnings.warn(
                f"item {number} of the {kind} differs when it is read again, so it is transformed at random: each item "
                "was read once, and every epoch sees that one view; leave the random transforms out and give "
                "augmentation=limbeck.Augmentation(...) for new views in each epoch",
                LimbeckWarning,
                stacklevel=2,
            )
            return


def _same(one: Tensor | None, other: Tensor | None) -> bool:
    if one is None or other is None:
        return one is other
    return one.dtype == other.dtype and torch.equal(one, other)


@contextmanager
def _randomness_of_its_own() -> Iterator[None]:
    """Seed the global generators, so that random transforms give the same views in each run; restore them after."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng(devices=[]):
        try:
            torch.default_generator.manual_seed(0)
            random.seed(0)
            np.random.seed(0)  # noqa: NPY002
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002
