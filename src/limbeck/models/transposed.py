"""``Conv1D`` of transformers as the linear layer that it is, so that it can be made smaller as others are.

GPT-2 and its kin hold the weights of their projections the other way round, inputs by outputs, in a class of their own.
A linear layer that stands in the place of one says so, and what it becomes says so too: saved weights are then loaded
into the same structure.
"""

__all__ = ["carry_mark", "close_conv1d", "conv1d_names", "has_conv1d", "open_conv1d"]

from collections.abc import Collection
from importlib import import_module
from typing import Any

import torch
from torch import nn

from limbeck.models.copying import copy_module

_MARK = "was_conv1d"


def has_conv1d(model: nn.Module) -> bool:
    """Whether a network has such layers.

    Args:
        model: Any module.

    Returns:
        Whether it has.

    Example:
        >>> has_conv1d(nn.Linear(2, 2))
        False
    """
    return any(_is_conv1d(part) for part in model.modules())


def _is_conv1d(part: nn.Module) -> bool:
    return type(part).__name__ == "Conv1D" and type(part).__module__ == "transformers.pytorch_utils"


def carry_mark(before: nn.Module, after: nn.Module) -> None:
    """Let a layer say what the one in whose place it is said.

    Args:
        before: The layer whose place it takes.
        after: The new layer, changed in place.
    """
    if getattr(before, _MARK, False):
        after.__dict__[_MARK] = True


def conv1d_names(model: nn.Module) -> list[str]:
    """Names of the layers that stand in the place of a ``Conv1D``.

    Args:
        model: Any module.

    Returns:
        Names, in order.
    """
    return [name for name, part in model.named_modules() if getattr(part, _MARK, False)]


def open_conv1d(model: nn.Module, names: Collection[str] | None = None) -> nn.Module:
    """A copy of a network in which each ``Conv1D`` is a linear layer.

    Args:
        model: The network; it is left as it was.
        names: Of the layers; None for all.

    Returns:
        The new network; the same one where there are none.
    """
    chosen = [name for name, part in model.named_modules() if _is_conv1d(part) and (names is None or name in names)]
    return _with(model, chosen, _linear_of)


def close_conv1d(model: nn.Module) -> nn.Module:
    """A network in which linear layers that took the place of a ``Conv1D``, and did not change, are one again.

    Args:
        model: Any module.

    Returns:
        A new network; the same one where there are none.
    """
    marked = dict(model.named_modules())
    return _with(model, [name for name in conv1d_names(model) if type(marked[name]) is nn.Linear], _conv1d_of)


def _with(model: nn.Module, names: Collection[str], make: Any) -> nn.Module:
    if not names:
        return model
    new = copy_module(model)
    for name in names:
        parent, _, own = name.rpartition(".")
        setattr(new.get_submodule(parent), own, make(new.get_submodule(name)))
    return new


def _linear_of(layer: Any) -> nn.Linear:
    inputs, outputs = layer.weight.shape
    like = {"device": layer.weight.device, "dtype": layer.weight.dtype}
    made: nn.Linear = nn.utils.skip_init(nn.Linear, inputs, outputs, **like)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        made.weight.copy_(layer.weight.T)
        made.bias.copy_(layer.bias)
    made.__dict__[_MARK] = True
    return made.requires_grad_(layer.weight.requires_grad).train(layer.training)


def _conv1d_of(layer: nn.Linear) -> Any:
    kind: Any = import_module("transformers.pytorch_utils").Conv1D
    with torch.random.fork_rng(devices=[]):  # its weights are drawn, and overwritten
        made = kind(layer.out_features, layer.in_features).to(layer.weight)
    with torch.no_grad():
        made.weight.copy_(layer.weight.T)
        made.bias.copy_(layer.bias)
    return made.requires_grad_(layer.weight.requires_grad).train(layer.training)
