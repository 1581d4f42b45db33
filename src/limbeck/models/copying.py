"""Copies of models, also of those that :func:`copy.deepcopy` refuses."""

__all__ = ["copy_module"]

import copy
import threading
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from limbeck.errors import DataError

_DEPTH = 4
"""How deep containers and objects in a module's attributes are looked through."""
_LOCKS = (type(threading.Lock()), type(threading.RLock()), threading.Condition, threading.Event, threading.local)
_OWN = {"_parameters", "_buffers", "_modules"}


def copy_module(model: nn.Module, *, what: str = "model") -> nn.Module:
    """A copy of a model that shares no weight with it.

    Tensors with a graph that a module keeps as attributes, such as activations of a forward pass or the weight of the
    old ``weight_norm``, are detached in the copy, and locks are shared: :func:`copy.deepcopy` refuses both.

    Args:
        model: Any module; it is not modified.
        what: What to call it in a message.

    Returns:
        The copy, in the same mode and on the same device.

    Raises:
        DataError: If a part cannot be copied; the message names it.

    Example:
        >>> net = nn.Linear(2, 2)
        >>> net.kept = net.weight.sum()  # has a graph
        >>> copy_module(net).kept.requires_grad
        False
    """
    memo: dict[int, Any] = {}
    for part in model.modules():
        for value in _kept(part):
            if not isinstance(value, Tensor):
                memo[id(value)] = value
            elif value.grad_fn is not None:
                memo[id(value)] = value.detach().clone()
    try:
        return copy.deepcopy(model, memo)
    except Exception as error:  # any error of an attribute of a user's module
        place = _culprit(model, dict(memo))
        raise DataError(
            f"the {what} cannot be copied: {place or type(model).__name__} ({' '.join(str(error).split())[:150]}): "
            "make it when forward needs it, or give the class a __deepcopy__ that leaves it out"
        ) from error


def _kept(part: nn.Module) -> Iterator[Any]:
    """Tensors and locks among a module's attributes."""
    for name, value in vars(part).items():
        if name not in _OWN:
            yield from _inside(value, _DEPTH)


def _inside(value: Any, depth: int) -> Iterator[Any]:
    if isinstance(value, (Tensor, *_LOCKS)):
        yield value
    elif depth == 0 or isinstance(value, nn.Module | type) or callable(value):
        return
    elif isinstance(value, dict):
        for item in list(value.values()):
            yield from _inside(item, depth - 1)
    elif isinstance(value, list | tuple | set):
        for item in value:
            yield from _inside(item, depth - 1)
    elif hasattr(value, "__dict__"):
        yield from _inside(vars(value), depth - 1)


def _culprit(model: nn.Module, memo: dict[int, Any]) -> str | None:
    """The attribute that cannot be copied, in words."""
    for path, part in model.named_modules():
        for name, value in vars(part).items():
            if name in _OWN:
                continue
            try:
                copy.deepcopy(value, dict(memo))
            except Exception:  # the same as above
                return f"its attribute {f'{path}.{name}' if path else name} is a {type(value).__name__}"
    return None
