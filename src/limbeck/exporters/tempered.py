r"""Temperature scaling of a model, folded into its weights where possible.

Axes: ``N`` examples, ``K`` classes.
"""

__all__ = ["Tempered", "tempered"]

from typing import Any

import torch
from torch import Tensor, nn

from limbeck.inputs import Inputs
from limbeck.models.calling import call_model, logits_of, presentation_of
from limbeck.models.int8 import Int8Linear

_TRIED = 8
"""The last layers of a network that are tried."""
_ROUNDINGS = 64
_SHARE = 1e-3
"""What is missed of the change itself, at most, where a layer is taken for the last."""


class Tempered(nn.Module):
    """A model whose logits are divided by a temperature, for networks that do not end in a layer of weights.

    Args:
        model: Any.
        temperature: T, positive.

    Example:
        >>> net = nn.Linear(2, 2)
        >>> x = torch.ones(1, 2)
        >>> bool(torch.equal(Tempered(net, 2.0)(x), net(x) / 2))
        True
    """

    presentation: Any

    def __init__(self, model: nn.Module, temperature: float) -> None:
        super().__init__()
        self.model, self.temperature = model, temperature
        self.presentation = presentation_of(model)

    def forward(self, *inputs: Tensor, **named: Tensor) -> Tensor:
        """The logits, divided."""
        return logits_of(self.model(*inputs, **named)) / self.temperature


def tempered(model: nn.Module, temperature: float, inputs: Inputs) -> nn.Module:
    r"""Divide a model's logits by a temperature.

    The weights and biases of the layer that makes the logits are divided, so that the network keeps its architecture
    and any format of it is calibrated. Which layer that is cannot be read off a network: the last ones are tried, and
    one is taken where the answers to some inputs become those of :math:`z / T`. Where there is none, as where the
    weights are used in a second place, the model is wrapped.

    Args:
        model: It is changed; in evaluation mode.
        temperature: T, positive and finite.
        inputs: Some examples.

    Returns:
        The model, or a :class:`Tempered` around it.

    Example:
        >>> net = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 2))
        >>> x = torch.randn(3, 2)
        >>> before = net(x)
        >>> found = tempered(net, 2.0, x)
        >>> found is net, bool(((found(x) - before / 2).abs() < 1e-6).all())
        (True, True)
    """
    with torch.no_grad():
        before = call_model(model, inputs).double()
        wanted = before / temperature
        eps = max([torch.finfo(each.dtype).eps for each in model.parameters() if each.is_floating_point()] or [1e-7])
        allowed = _ROUNDINGS * eps * float(wanted.abs().max()) + _SHARE * float((wanted - before).abs().max())
        for layer in _last_layers(model):
            scaled = [each for each in (_weights(layer), layer.bias) if isinstance(each, Tensor)]
            kept = [each.detach().clone() for each in scaled]
            for each in scaled:
                each.div_(temperature)
            _forget(layer)
            if float((call_model(model, inputs).double() - wanted).abs().max()) <= allowed:
                return model
            for each, value in zip(scaled, kept, strict=True):
                each.copy_(value)
            _forget(layer)
    return Tempered(model, temperature).eval()


def _last_layers(model: nn.Module) -> list[Any]:
    found = [each for each in model.modules() if isinstance(each, nn.Linear | nn.modules.conv._ConvNd | Int8Linear)]
    return found[: -_TRIED - 1 : -1]


def _weights(layer: Any) -> Tensor:
    """What the product of a layer goes with: of 8-bit weights, their scales."""
    found: Tensor = layer.scale if isinstance(layer, Int8Linear) else layer.weight
    return found


def _forget(layer: Any) -> None:
    """Drop what an 8-bit layer has made of its weights."""
    if isinstance(layer, Int8Linear):
        layer._held = None
