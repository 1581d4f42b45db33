"""Parsing of a data set's items into inputs and label.

Axes: ``C`` channels, ``H`` and ``W`` pixels.
"""

__all__ = [
    "INPUT_KEYS",
    "LABEL_KEYS",
    "NAMES_OF_ITEMS",
    "Item",
    "left_out",
    "parse_item",
    "pick_keys",
    "seen",
    "stack_inputs",
    "with_tensors",
]

import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from limbeck.data.columns import seen_values
from limbeck.data.values import as_labels, as_tensor
from limbeck.errors import DataError
from limbeck.inputs import Inputs, mapped

INPUT_KEYS = ("x", "input", "inputs", "image", "images", "img", "pixel_values", "input_ids", "input_values", "features",
              "data")  # fmt: skip
LABEL_KEYS = ("y", "label", "labels", "target", "targets", "class", "fine_label")
NAMES_OF_ITEMS = ("id", "idx", "index", "image_id", "guid", "uid", "file", "file_name", "filename", "name", "path",
                  "__index_level_0__")  # fmt: skip
"""Keys that name an item, so that leaving them out loses nothing."""
_BESIDE = ("attention_mask", "token_type_ids", "position_ids", "pixel_mask", "bbox", "special_tokens_mask")
"""Keys that are inputs beside another, as arguments of Hugging Face's models."""


class Item(NamedTuple):
    """One item as tensors; the label without an axis, or None."""

    inputs: Inputs
    label: Tensor | None
    image: bool
    """Whether it was an image of Pillow, whose channels are certain to be first."""


def parse_item(kind: str, number: int, given: Any) -> Item:
    """The inputs and the label of an item.

    Args:
        kind: What the collection is called in a message.
        number: Of the item.
        given: A pair (input, label), an input alone, or a mapping.

    Returns:
        Both, as tensors.

    Raises:
        DataError: If it is none of these, or holds what are no numbers.

    Example:
        >>> parse_item("list", 0, {"input_ids": [5, 6], "attention_mask": [1, 1], "label": 1}).inputs
        {'input_ids': tensor([5, 6]), 'attention_mask': tensor([1, 1])}
    """
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
        inputs = with_tensors(given)
        return Item(inputs, None if label is None else _class_number(label), image)
    except DataError as error:
        raise DataError(f"{what}: {error}") from error


def with_tensors(given: Any) -> Inputs:
    """Inputs as tensors: images of Pillow as uint8 ``(C, H, W)``, numbers as they are.

    Args:
        given: An image, numbers, or a mapping of such.

    Returns:
        The inputs of one item.

    Raises:
        DataError: If they are not numbers.
    """  # noqa: DOC502
    if isinstance(given, Mapping):
        return {str(name): _pixels(each) if _is_image(each) else as_tensor(name, each) for name, each in given.items()}
    return _pixels(given) if _is_image(given) else as_tensor("inputs", given)


def pick_keys(found: Mapping[Any, Any], what: str) -> tuple[Any, Any | None]:
    """The input and the label of a mapping.

    Args:
        found: The mapping.
        what: What to call it in a message.

    Returns:
        The input, or a mapping of several that belong together, such as token ids with their mask; and the label, None
        where there is none.

    Raises:
        DataError: If there is not one input, there are several labels, or something would be left out.

    Example:
        >>> pick_keys({"image": 5, "label": 1, "idx": 7}, "item 7")
        (5, 1)
    """
    inputs = [key for key in found if key in INPUT_KEYS]
    labels = [key for key in found if key in LABEL_KEYS]
    beside = [key for key in found if key in _BESIDE]
    known = (*INPUT_KEYS, *LABEL_KEYS, *_BESIDE, *NAMES_OF_ITEMS)
    others = [key for key in found if key not in known]
    if len(inputs) == 1:  # strings beside an input, which no model of that input takes
        others = [key for key in others if not isinstance(found[key], str)]
    if len(inputs) != 1 or len(labels) > 1 or others:
        texts = [str(key) for key in others if isinstance(found[key], str)]
        cure = f"; tokenise the text of {texts[0]!r} first" if texts else ""
        raise DataError(
            f"{what} has the keys {', '.join(map(str, found))}: one input ({', '.join(INPUT_KEYS)}), what belongs to "
            f"it ({', '.join(_BESIDE[:3])}), at most one label ({', '.join(LABEL_KEYS)}) and nothing else can be used; "
            f"make it a pair (input, label){cure}"
        )
    label = found[labels[0]] if labels else None
    if beside:
        return {str(key): found[key] for key in found if key in (inputs[0], *beside)}, label
    return found[inputs[0]], label


def left_out(item: Any) -> tuple[str, ...]:
    """Which strings of an item are not used, and are not known to name it or to be what its tokens were made of.

    Args:
        item: Anything.

    Returns:
        Their keys.

    Example:
        >>> left_out({"image": 5, "caption": "a cat", "file_name": "7.jpg"}), left_out((5, 1))
        (('caption',), ())
    """
    if not isinstance(item, Mapping) or "input_ids" in item or not any(key in INPUT_KEYS for key in item):
        return ()
    known = (*INPUT_KEYS, *LABEL_KEYS, *_BESIDE, *NAMES_OF_ITEMS)
    return tuple(str(key) for key in item if isinstance(item[key], str) and key not in known)


def seen(inputs: Inputs) -> Inputs:
    """Inputs as models see them: uint8 images as float32 in [0, 1], other numbers as they are."""
    return mapped(inputs, seen_values)


def stack_inputs(parsed: Sequence[Inputs], kind: str, numbers: Sequence[int]) -> Inputs:
    """The inputs of some items as one batch: stacked, token ids padded with 0 beside their mask.

    Args:
        parsed: Of each item, at least one.
        kind: What the collection is called in a message.
        numbers: Of the items.

    Returns:
        ``(n, ...)``, or such by name.

    Raises:
        DataError: If items differ in keys, shape or type.

    Example:
        >>> stack_inputs([torch.zeros(2), torch.ones(2)], "list", [0, 1]).shape
        torch.Size([2, 2])
    """  # noqa: DOC502
    named = [each for each in parsed if isinstance(each, Mapping)]
    if not named:
        return _stacked([each for each in parsed if isinstance(each, Tensor)], kind, numbers, padded=False)
    if len(named) < len(parsed):
        raise DataError(f"some items of the {kind} are one input, and others several by name")
    names = named[0].keys()
    if any(each.keys() != names for each in named):
        raise DataError(f"items of the {kind} have different keys")
    padded = "attention_mask" in names
    return {name: _stacked([each[name] for each in named], kind, numbers, padded=padded) for name in names}


def _stacked(values: Sequence[Tensor], kind: str, numbers: Sequence[int], *, padded: bool) -> Tensor:
    first = values[0]
    if padded and all(each.ndim == 1 and not each.is_floating_point() for each in values):
        return torch.nn.utils.rnn.pad_sequence(list(values), batch_first=True)
    if first.dtype == torch.uint8 and {each.shape[0] for each in values if each.ndim == 3} == {1, 3}:
        values = [each.expand(3, -1, -1) if each.ndim == 3 else each for each in values]  # grey among coloured images
    for number, each in zip(numbers, values, strict=True):
        if each.shape != values[0].shape:
            raise DataError(
                f"item {number} of the {kind} has shape {tuple(each.shape)}, and item {numbers[0]} has "
                f"{tuple(values[0].shape)}: resize, crop or pad them to one shape in the data set, or give a "
                "DataLoader with a collate_fn"
            )
        if each.dtype != first.dtype and not (each.is_floating_point() and first.is_floating_point()):
            raise DataError(
                f"item {number} of the {kind} is of type {each.dtype}, and item {numbers[0]} of {first.dtype}: give "
                "all in one type"
            )
    return torch.stack([each.to(first.dtype) for each in values])


def _class_number(label: Any) -> Tensor:
    values = as_tensor("labels", label)
    return as_labels(values.reshape(1, -1) if values.numel() > 1 else values.reshape(-1), 1)[0]


def _is_image(given: Any) -> bool:
    pillow = sys.modules.get("PIL.Image")  # where there is an image, Pillow was imported
    return pillow is not None and isinstance(given, pillow.Image)


def _pixels(image: Any) -> Tensor:
    from limbeck.formats.image_arrays import pixels_of

    values = torch.from_numpy(np.array(pixels_of(image)))
    return values.unsqueeze(0) if values.ndim == 2 else values.permute(2, 0, 1)
