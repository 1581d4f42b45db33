"""Model inputs: a tensor, or a mapping of tensors by argument name; and functions that work on either.

Axes: ``N`` examples.
"""

__all__ = [
    "BARE",
    "POSITIONS",
    "Inputs",
    "count_of",
    "first_few",
    "in_blocks",
    "join",
    "labels_key",
    "mapped",
    "move",
    "places_in",
    "same",
    "shapes_of",
    "split_places",
    "tensors_of",
]

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

Inputs = Tensor | Mapping[str, Tensor]
"""``(N, ...)``, or several of these by name."""
POSITIONS = "positions of examples"
"""The key (not a model argument) of the positions that are examples, int64 ``(N,)``. With logits for each
position of a sequence, ``(S, L, K)``, position ``l`` of sequence ``s`` is ``s * L + l``."""
BARE = "the inputs of one tensor"
"""The key (not a model argument) of inputs that are one tensor where other tensors accompany them."""


def labels_key(count: int) -> str:
    """The key (not a model argument) of the labels that are examples, int64 ``(N,)``.

    Where a model answers for each of L labels with logits ``(S, L)``, label ``l`` of example ``s`` is ``s * L + l``.

    Args:
        count: L.

    Returns:
        The name.

    Example:
        >>> labels_key(5)
        'positions of examples among 5 labels'
    """
    return f"{POSITIONS} among {count} labels"


def places_in(inputs: Inputs) -> str | None:
    """The key under which inputs say which positions or labels are examples; None where each row is one.

    Args:
        inputs: Any.

    Returns:
        The name.

    Example:
        >>> places_in({"x": torch.zeros(1)}), places_in({POSITIONS: torch.zeros(1)})
        (None, 'positions of examples')
    """
    if not isinstance(inputs, Mapping):
        return None
    return next((name for name in inputs if name.startswith(POSITIONS)), None)


def split_places(inputs: Inputs) -> tuple[Inputs, Tensor | None, str]:
    """Split inputs into the model's arguments and the positions or labels that are examples.

    Args:
        inputs: Any.

    Returns:
        The inputs as the model takes them; the positions, int64 ``(N,)``, or None where each row is an example; and the
        key of the positions.

    Example:
        >>> split_places({BARE: torch.zeros(1, 2), labels_key(3): torch.tensor([2])})
        (tensor([[0., 0.]]), tensor([2]), 'positions of examples among 3 labels')
    """
    key = places_in(inputs)
    if key is None or not isinstance(inputs, Mapping):
        return inputs, None, ""
    others = {name: each for name, each in inputs.items() if name != key}
    return others.get(BARE, others) if len(others) == 1 else others, inputs[key], key


def tensors_of(inputs: Inputs) -> list[Tensor]:
    """The tensors in some inputs.

    Returns:
        One, or one per name.

    Example:
        >>> len(tensors_of({"input_ids": torch.zeros(1, 2), "attention_mask": torch.ones(1, 2)}))
        2
    """
    return list(inputs.values()) if isinstance(inputs, Mapping) else [inputs]


def shapes_of(inputs: Inputs) -> str:
    """The shapes of some inputs, for a message.

    Returns:
        Such as "(2, 3)", or "(2, 3) and (2, 1)".

    Example:
        >>> shapes_of(torch.zeros(2, 3))
        '(2, 3)'
    """
    return " and ".join(str(tuple(values.shape)) for values in tensors_of(inputs))


def count_of(inputs: Inputs) -> int:
    """The number of examples.

    Returns:
        N.

    Example:
        >>> count_of({"input_ids": torch.zeros(3, 2)})
        3
    """
    places = places_in(inputs)
    if places is not None and isinstance(inputs, Mapping):
        return len(inputs[places])
    return len(tensors_of(inputs)[0])


def mapped(inputs: Inputs, function: Callable[[Tensor], Tensor]) -> Inputs:
    """Apply a function to each tensor.

    Args:
        inputs: Any.
        function: Of one tensor.

    Returns:
        New inputs.

    Example:
        >>> mapped({"x": torch.arange(3)}, lambda t: t[:1])
        {'x': tensor([0])}
    """
    if isinstance(inputs, Mapping):
        return {name: function(values) for name, values in inputs.items()}
    return function(inputs)


def move(inputs: Inputs, device: torch.device | str) -> Inputs:
    """Inputs on a device."""
    return mapped(inputs, lambda values: values.to(device))


def first_few(inputs: Inputs, count: int = 1) -> Inputs:
    """The inputs of the first examples."""
    return _part(inputs, slice(0, count))


def in_blocks(inputs: Inputs, size: int) -> Iterator[Inputs]:
    """Split inputs into blocks of at most a given size.

    Args:
        inputs: Of N examples.
        size: Examples at a time.

    Yields:
        Each block.
    """
    for start in range(0, count_of(inputs), size):
        yield _part(inputs, slice(start, start + size))


def _part(inputs: Inputs, rows: slice) -> Inputs:
    """Select examples; where these are positions, their whole sequences are kept."""
    places = places_in(inputs)
    if places is not None and isinstance(inputs, Mapping):
        return {**inputs, places: inputs[places][rows]}
    return mapped(inputs, lambda values: values[rows])


def join(parts: Sequence[Inputs]) -> Inputs:
    """Concatenate the inputs of several blocks; ragged axes are not padded.

    Args:
        parts: At least one, all with the same names.

    Returns:
        ``(N, ...)`` of all.

    Example:
        >>> join([torch.zeros(2, 3), torch.zeros(1, 3)]).shape
        torch.Size([3, 3])
    """
    first = parts[0]
    if isinstance(first, Mapping):
        return {name: torch.cat([part[name] for part in parts if isinstance(part, Mapping)]) for name in first}
    return torch.cat([part for part in parts if isinstance(part, Tensor)])


def same(one: Inputs, other: Inputs) -> bool:
    """Whether names, types, shapes and values are the same.

    Returns:
        Whether they are.

    Example:
        >>> same(torch.zeros(1), torch.zeros(1)), same(torch.zeros(1), {"x": torch.zeros(1)})
        (True, False)
    """
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    return False
