"""Limbeck's own networks as a list of layers that a page computes without a runtime.

Axes: ``D`` inputs and ``O`` outputs of a linear layer, ``C`` channels.
"""

__all__ = ["LayerList", "layers_of"]

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from limbeck.models import CNN, MLP
from limbeck.models.dropout import Dropout
from limbeck.models.factored import Factored
from limbeck.models.layers import Maxout, Standardise

Layer = Mapping[str, Any]


class _Unknown(Exception):
    """A layer that the page does not compute by itself."""


class LayerList:
    """Layers as JSON can hold them, and their weights one after the other.

    Attributes:
        layers: In order. A tensor of weights is named by where it begins and ends in the weights.
    """

    def __init__(self) -> None:
        self.layers: list[Layer] = []
        self._weights: list[NDArray[np.float32]] = []
        self._length = 0

    def put(self, values: Tensor) -> tuple[int, int]:
        """Add some weights.

        Args:
            values: Of any shape and type.

        Returns:
            Where they begin and end, in numbers.
        """
        array = values.detach().float().contiguous().reshape(-1).numpy()
        self._weights.append(array)
        self._length += array.size
        return self._length - array.size, self._length

    def weights(self) -> bytes:
        """All weights: float32, the least byte first."""
        together = np.concatenate(self._weights) if self._weights else np.zeros(0, np.float32)
        return together.astype("<f4").tobytes()


def layers_of(model: nn.Module, *, flat: bool) -> LayerList | None:
    """The layers of one of Limbeck's own networks, or of an ``nn.Sequential`` of what these are made of.

    A module of another type is known where its class has ``page_layers``, which gives its layers, or ``page_start``,
    the layers before those of its children.

    Args:
        model: In evaluation mode, on the CPU.
        flat: Whether an example is a vector.

    Returns:
        The layers; None where there is a part that the page does not compute by itself.

    Example:
        >>> found = layers_of(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), flat=False)
        >>> [layer["kind"] for layer in found.layers], len(found.weights())
        (['flatten', 'linear'], 40)
        >>> layers_of(nn.LSTM(4, 2), flat=True) is None
        True
    """
    found = LayerList()
    try:
        found.layers += vars(type(model)).get("page_start", ())
        for part in _parts(model):
            # A type may say itself what it is on a page; one that inherits this may compute something else.
            own = vars(type(part)).get("page_layers")
            found.layers += _LAYERS[type(part)](part, found) if own is None else own(part, found.put)
        _check_shapes(found.layers, flat=flat)
    except (_Unknown, KeyError):
        return None
    return found


def _check_shapes(layers: Sequence[Layer], *, flat: bool) -> None:
    """The page's linear layers take vectors, and its convolutions channels of an image: others are left to ONNX."""
    for layer in layers:
        if (layer["kind"] in _OF_VECTORS and not flat) or (layer["kind"] in _OF_IMAGES and flat):
            raise _Unknown
        flat = flat or layer["kind"] == "flatten"


def _parts(model: nn.Module) -> Iterator[nn.Module]:
    """The parts in order. By their exact types: a subclass may compute something else."""
    # Hooks change what a module gives, and are not seen here.
    if model._forward_hooks or model._forward_pre_hooks:
        raise _Unknown
    if type(model) in _CHAINS or "page_start" in vars(type(model)):
        for part in model.children():
            yield from _parts(part)
    else:
        yield model


def _linear(layer: Any, found: LayerList) -> list[Layer]:
    """Weights transposed to ``(D, O)``: the page goes through the inputs, and leaves out those that are 0."""
    put: dict[str, Any] = {"weight": found.put(layer.weight.T)}
    if layer.bias is not None:
        put["bias"] = found.put(layer.bias)
    return [{"kind": "linear", **put}]


def _conv(layer: Any, found: LayerList) -> list[Layer]:
    if layer.groups != 1 or layer.padding_mode != "zeros" or isinstance(layer.padding, str):
        raise _Unknown
    put: dict[str, Any] = {"weight": found.put(layer.weight)}
    if layer.bias is not None:
        put["bias"] = found.put(layer.bias)
    sizes = {"size": [layer.out_channels, *layer.kernel_size], "stride": list(layer.stride)}
    return [{"kind": "conv", **sizes, "padding": list(layer.padding), "dilation": list(layer.dilation), **put}]


def _batch_norm(layer: Any, found: LayerList) -> list[Layer]:
    r"""With the statistics of training, :math:`a x + b` per channel."""
    if layer.running_mean is None:
        raise _Unknown
    factor = (layer.running_var.double() + layer.eps).rsqrt()
    if layer.weight is not None:
        factor = factor * layer.weight.double()
    summand = -layer.running_mean.double() * factor
    if layer.bias is not None:
        summand = summand + layer.bias.double()
    return [{"kind": "affine", "factor": found.put(factor), "summand": found.put(summand)}]


def _pool(layer: Any, found: LayerList) -> list[Layer]:
    size, stride, padding, dilation = (
        list(each) if isinstance(each, tuple) else [each, each]
        for each in (layer.kernel_size, layer.stride, layer.padding, layer.dilation)
    )
    if padding != [0, 0] or dilation != [1, 1] or layer.ceil_mode or layer.return_indices:
        raise _Unknown
    return [{"kind": "pool", "size": size, "stride": stride}]


def _flatten(layer: Any, found: LayerList) -> list[Layer]:
    if (layer.start_dim, layer.end_dim) != (1, -1):
        raise _Unknown
    return [{"kind": "flatten"}]


def _softmax(layer: Any, found: LayerList) -> list[Layer]:
    if layer.dim not in {-1, 1}:
        raise _Unknown
    return [{"kind": "softmax"}]


def _plain(kind: str) -> Callable[[Any, LayerList], list[Layer]]:
    return lambda layer, found: [{"kind": kind}]


_OF_VECTORS = ("linear", "softmax", "copy", "maxout", "lengthnorm", "prelu")
_OF_IMAGES = ("conv", "pool")
_CHAINS = (MLP, CNN, Factored, nn.Sequential)
_LAYERS: dict[type[nn.Module], Callable[[Any, LayerList], list[Layer]]] = {
    nn.Linear: _linear,
    nn.Conv2d: _conv,
    nn.BatchNorm2d: _batch_norm,
    nn.MaxPool2d: _pool,
    nn.Flatten: _flatten,
    nn.ReLU: _plain("relu"),
    nn.Sigmoid: _plain("sigmoid"),
    nn.Tanh: _plain("tanh"),
    nn.Softmax: _softmax,
    nn.Identity: lambda layer, found: [],
    nn.Dropout: lambda layer, found: [],
    Dropout: lambda layer, found: [],
    Standardise: lambda layer, found: [{"kind": "standardise", "mean": layer.mean, "std": layer.std}],
    Maxout: lambda layer, found: [{"kind": "maxout", "pieces": layer.pieces}],
}
