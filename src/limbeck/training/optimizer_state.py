"""The state of a user's optimiser as tensors and plain values, restored bit for bit.

The contents are not known beforehand: numbers beside tensors, averages of another dtype than the weights, changing
values in parameter groups. All of its ``state_dict`` is saved, or an error names what cannot be.
"""

__all__ = ["describe_groups", "laid_as", "pack", "unpack"]

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from limbeck.errors import ConfigError

_PLAIN = (bool, int, str, type(None))


def describe_groups(optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
    """The values that a resumed run must match: the optimiser's type and the settings of each parameter group.

    Args:
        optimizer: Before its first step.

    Returns:
        A mapping per group, of values that JSON can hold.

    Example:
        >>> describe_groups(torch.optim.Rprop([torch.zeros(2, requires_grad=True)]))[0]["etas"]
        ['0.5', '1.2']
    """
    kind = type(optimizer).__qualname__
    settings = ({name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups)
    return [{"kind": kind, **{name: _described(value) for name, value in group.items()}} for group in settings]


def _described(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_described(item) for item in value]
    return value if isinstance(value, _PLAIN) else f"{value:.12g}" if isinstance(value, float) else str(value)


def pack(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], Any]:
    """An optimiser's state as tensors and a value that JSON can hold.

    Args:
        optimizer: Any.

    Returns:
        Tensors by name, each beginning with ``optimizer.``, and the rest.

    Raises:
        ConfigError: If it keeps something that is neither a tensor nor a plain value.

    Example:
        >>> optimizer = torch.optim.Adagrad([torch.zeros(2, requires_grad=True)])
        >>> sorted(pack(optimizer)[0])
        ['optimizer.0', 'optimizer.1']
    """
    tensors: dict[str, Tensor] = {}

    def packed(value: Any, path: str) -> Any:
        if isinstance(value, Tensor):
            name = f"optimizer.{len(tensors)}"
            tensors[name] = value.detach()
            return {"tensor": name, "on cpu": value.device.type == "cpu"}
        if isinstance(value, Mapping):
            return {"items": [[packed(k, path), packed(v, f"{path}.{k}")] for k, v in value.items()]}
        if isinstance(value, list | tuple):
            kind = "tuple" if isinstance(value, tuple) else "list"
            return {kind: [packed(item, path) for item in value]}
        if isinstance(value, float):
            return value if math.isfinite(value) else {"float": str(value)}
        if isinstance(value, _PLAIN):
            return value
        raise ConfigError(
            f"the optimizer {type(optimizer).__name__} keeps a {type(value).__name__} in {path.strip('.')}, which no "
            "checkpoint can hold: numbers, texts, tensors, and lists and mappings of them can be kept"
        )

    return tensors, packed(optimizer.state_dict(), "")


def unpack(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], plain: Any, device: torch.device) -> None:
    """Restore a state from :func:`pack`.

    Args:
        optimizer: Made as that one was.
        tensors: By name.
        plain: The rest.
        device: Where the model is.
    """

    def unpacked(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        if "tensor" in value:
            held = tensors[value["tensor"]]
            return held.clone() if value["on cpu"] else held.to(device)
        if "items" in value:
            return {unpacked(name): unpacked(each) for name, each in value["items"]}
        if "float" in value:
            return float(value["float"])
        return tuple(map(unpacked, value["tuple"])) if "tuple" in value else list(map(unpacked, value["list"]))

    state = unpacked(plain)
    optimizer.load_state_dict(state)
    # It makes the type of each tensor that of its weights, which changes averages of another type.
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for number, slots in state["state"].items():
        if isinstance(number, int) and isinstance(slots, dict):
            for name, value in slots.items():
                if isinstance(value, Tensor):
                    optimizer.state[parameters[number]][name] = laid_as(parameters[number], value)


def laid_as(weight: Tensor, value: Tensor) -> Tensor:
    """A tensor in the memory format of a weight, such as channels last, which fused steps need.

    Args:
        weight: Of any shape.
        value: What an optimiser keeps of it.

    Returns:
        The same numbers; tensors of another shape as they are.

    Example:
        >>> weight = torch.zeros(2, 3, 4, 4).to(memory_format=torch.channels_last)
        >>> laid_as(weight, torch.ones(2, 3, 4, 4)).stride() == weight.stride()
        True
    """
    same = value.shape == weight.shape and value.layout == weight.layout == torch.strided
    return torch.empty_like(weight, dtype=value.dtype, device=value.device).copy_(value) if same else value
