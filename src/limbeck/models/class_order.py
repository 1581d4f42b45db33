"""Reordering of a model's classes to the data's, matched by name.

Axes: ``N`` examples, ``K`` classes.
"""

__all__ = ["InOrder", "matched", "named_by_number"]

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.errors import MismatchError
from limbeck.models.calling import logits_of, presentation_of

_PLACEHOLDER = re.compile(r"(?:LABEL_|class_?)?(\d+)", re.IGNORECASE)


class InOrder(nn.Module):
    """A model whose logits are put in another order.

    Args:
        network: Gives logits ``(N, ..., K)``, or whatever :func:`~limbeck.models.calling.logits_of` understands.
        order: For each class wanted, its place in what the network gives, int64 ``(K,)``.

    Example:
        >>> InOrder(nn.Identity(), torch.tensor([2, 0, 1]))(torch.tensor([[5.0, 6.0, 7.0]]))
        tensor([[7., 5., 6.]])
    """

    order: Tensor

    def __init__(self, network: nn.Module, order: Tensor) -> None:
        super().__init__()
        self.network = network
        self.presentation = presentation_of(network)
        self.register_buffer("order", order)

    def forward(self, *inputs: Any, **named: Any) -> Tensor:
        """The logits, in the order that is wanted."""
        return logits_of(self.network(*inputs, **named)).index_select(-1, self.order)


def named_by_number(names: Sequence[str]) -> bool:
    """Whether names say no more than the numbers of classes, as ``LABEL_0`` does.

    Args:
        names: In order.

    Returns:
        Whether each is its place, from 0.

    Example:
        >>> named_by_number(["LABEL_0", "LABEL_1"]), named_by_number(["1", "0"])
        (True, False)
    """
    found = [_PLACEHOLDER.fullmatch(name) for name in names]
    return all(each is not None and int(each[1]) == place for place, each in enumerate(found))


def matched(role: str, theirs: Sequence[str], ours: Sequence[str]) -> Tensor | None:
    """Where each class of the data is among a model's, by name.

    Args:
        role: What to call the model in a message.
        theirs: The model's names, in its order.
        ours: The data's.

    Returns:
        Places, int64 ``(K,)``; None where the order is the same, as it is taken to be where one side has numbers only.

    Raises:
        MismatchError: If the names or their number differ.

    Example:
        >>> matched("teacher", ["good", "bad"], ["bad", "good"])
        tensor([1, 0])
    """
    if len(theirs) != len(ours):
        raise MismatchError(f"the {role} has {len(theirs)} classes, and the data have {len(ours)}")
    if list(theirs) == list(ours) or named_by_number(theirs) or named_by_number(ours):
        return None
    if set(theirs) != set(ours):
        odd = next(name for name in ours if name not in theirs)
        known = ", ".join(theirs)
        raise MismatchError(
            f"the {role} has no class {odd!r}, which the data have: its classes are {known[:200]}; name those of both "
            "alike, in id2label of its config.json or in the data"
        )
    return torch.tensor([list(theirs).index(name) for name in ours])
