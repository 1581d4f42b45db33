"""Narrower layers: the same layer with fewer inputs or outputs, as a structure that is saved and rebuilt."""

__all__ = ["as_own_config", "narrow", "narrowed_widths", "set_tensor"]

import dataclasses
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from limbeck.errors import ConfigError
from limbeck.models.cnn import CNN
from limbeck.models.copying import copy_module
from limbeck.models.dropout import Dropout
from limbeck.models.mlp import MLP

Widths = Mapping[str, tuple[int, int]]

_MARK = "narrowed_to"
"""The attribute of a layer that was made narrower: its inputs and outputs."""


def narrow(model: nn.Module, widths: Widths) -> nn.Module:
    """A copy of a network whose named layers have other numbers of inputs and outputs; their weights are zeros.

    Args:
        model: The network; it is left as it was.
        widths: Inputs and outputs by the layer's name, of linear layers, convolutions (channels; one in as many groups
            as channels stays so) and batch normalisations.

    Returns:
        The new network; one of Limbeck's own has the configuration of its new sizes.

    Raises:
        ConfigError: If a name is not such a layer, or a width is impossible.

    Example:
        >>> small = narrow(nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 2)), {"0": (8, 3), "2": (3, 2)})
        >>> [tuple(p.shape) for p in small.parameters()]
        [(3, 8), (3,), (2, 3), (2,)]
    """
    new = copy_module(model)
    named = dict(new.named_modules())
    for name, (inputs, outputs) in widths.items():
        layer = named.get(name)
        if not isinstance(layer, nn.Linear | nn.Conv2d | nn.BatchNorm1d | nn.BatchNorm2d):
            raise ConfigError(f"layer {name!r} cannot be made narrower: there is no such layer")
        if type(inputs) is not int or type(outputs) is not int or min(inputs, outputs) < 1:
            raise ConfigError(f"layer {name!r} cannot have {inputs} inputs and {outputs} outputs")
        _resize(layer, inputs, outputs)
    return as_own_config(new)


def _resize(layer: nn.Linear | nn.Conv2d | nn.BatchNorm1d | nn.BatchNorm2d, inputs: int, outputs: int) -> None:
    """Give a layer other widths, in place."""
    if isinstance(layer, nn.Linear):
        layer.in_features, layer.out_features = inputs, outputs
        _zeros(layer, "weight", (outputs, inputs))
    elif isinstance(layer, nn.Conv2d):
        if layer.groups > 1:
            layer.groups = inputs
        layer.in_channels, layer.out_channels = inputs, outputs
        _zeros(layer, "weight", (outputs, inputs // layer.groups, *layer.weight.shape[2:]))
    else:
        layer.num_features = outputs
        for name in ("weight", "running_mean", "running_var"):
            _zeros(layer, name, (outputs,))
    _zeros(layer, "bias", (outputs,))
    setattr(layer, _MARK, (inputs, outputs))


def _zeros(layer: nn.Module, name: str, shape: tuple[int, ...]) -> None:
    """Put zeros of another shape in the place of a layer's tensor, where it has one."""
    before = getattr(layer, name)
    if before is not None:
        set_tensor(layer, name, torch.zeros(shape, dtype=before.dtype, device=before.device))


def set_tensor(layer: nn.Module, name: str, values: Tensor) -> None:
    """Put a tensor of any shape in the place of a layer's parameter or buffer.

    Args:
        layer: The layer, changed in place.
        name: Of the parameter or buffer.
        values: The tensor; it is laid out in memory as the one before was.
    """
    before = getattr(layer, name)
    if values.ndim == 4 and before.is_contiguous(memory_format=torch.channels_last):
        values = values.contiguous(memory_format=torch.channels_last)
    if isinstance(before, nn.Parameter):
        setattr(layer, name, nn.Parameter(values, requires_grad=before.requires_grad))
    else:
        setattr(layer, name, values)


def narrowed_widths(model: nn.Module) -> dict[str, list[int]]:
    """Inputs and outputs of the layers of a network that were made narrower.

    Args:
        model: Any module.

    Returns:
        Widths by name; nothing of networks whose own configuration has them.

    Example:
        >>> narrowed_widths(narrow(nn.Sequential(nn.Linear(8, 6)), {"0": (8, 3)}))
        {'0': [8, 3]}
    """
    return {
        name: list(getattr(part, _MARK))
        for name, part in model.named_modules()
        if getattr(part, _MARK, None) is not None
    }


def as_own_config(model: nn.Module) -> nn.Module:
    """Let an MLP or CNN whose layers were made narrower have the configuration of its sizes.

    Args:
        model: Any module, changed in place.

    Returns:
        The same.
    """
    if type(model) is not MLP and type(model) is not CNN:
        return model
    parts = list(cast(nn.Sequential, model))
    plain = [part for part in parts if not isinstance(part, Dropout)]
    linear = [part.out_features for part in plain if type(part) is nn.Linear]
    if len(linear) != len(model.config.hidden) + 1:
        return model  # of low rank or 8 bits too: its changes are described layer by layer
    fields: dict[str, Any] = {"hidden": tuple(linear[:-1])}
    if isinstance(model, CNN):
        fields["channels"] = tuple(part.out_channels for part in plain if type(part) is nn.Conv2d)
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # as where it is built
    elif model.config.activation == "maxout":
        fields["hidden"] = tuple(width // model.config.pieces for width in linear[:-1])
    model.config = dataclasses.replace(cast(Any, model.config), **fields)
    for part in parts:
        if getattr(part, _MARK, None) is not None:
            delattr(part, _MARK)
    return model
