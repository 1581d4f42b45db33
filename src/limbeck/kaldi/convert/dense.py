"""Between nnet1 networks and the dense layers of a Keras file. Axes: ``I`` inputs, ``O`` outputs of a layer.

A Keras kernel is ``(I, O)`` and an nnet1 weight ``(O, I)``: one is the transpose of the other.
"""

__all__ = ["dense_from_nnet", "nnet_from_dense"]

from collections.abc import Callable, Sequence

import numpy as np

from limbeck.errors import ConfigError, DataError
from limbeck.formats.keras_h5 import DenseLayer
from limbeck.kaldi.formats import nnet1_components as nc
from limbeck.kaldi.formats.nnet1 import Nnet
from limbeck.kaldi.formats.nnet1_more import More

_ACTIVATIONS: dict[str, Callable[[int], nc.Component]] = {
    "linear": nc.Linear,
    "relu": nc.Relu,
    "sigmoid": nc.Sigmoid,
    "tanh": nc.Tanh,
    "softmax": nc.Softmax,
}
_NAMES: dict[type[nc.Component], str] = {nc.Relu: "relu", nc.Sigmoid: "sigmoid", nc.Tanh: "tanh", nc.Softmax: "softmax",
                                     nc.Maxout: "maxout"}  # fmt: skip


def nnet_from_dense(layers: Sequence[DenseLayer], *, activation: str | None = None) -> Nnet:
    """The network of dense layers; it ends in a softmax.

    Args:
        layers: In order. A layer that notes its activation has that one.
        activation: What follows the other layers, but for the last, which gets a softmax: "relu", "sigmoid", "tanh"
            or "linear".

    Returns:
        The network. A layer without bias is a linear transform.

    Raises:
        ConfigError: If an activation is not known, or is noted nowhere and not given.

    Example:
        >>> layer = DenseLayer("dense", np.ones((3, 2), np.float32), None)
        >>> [part.tag for part in nnet_from_dense([layer]).components]
        ['LinearTransform', 'Softmax']
    """
    components: list[nc.Component] = []
    for place, layer in enumerate(layers):
        last = place == len(layers) - 1
        noted = layer.activation or ("softmax" if last else activation)
        if last and noted == "linear":  # a classifier's scores: Kaldi's networks end in their softmax
            noted = "softmax"
        if noted is None:
            raise ConfigError(
                f"layer {layer.name} does not say what activation follows it: give --activation relu, sigmoid, tanh "
                "or linear"
            )
        weight = np.ascontiguousarray(layer.kernel.T)
        components.append(
            nc.LinearTransform(weight) if layer.bias is None else nc.AffineTransform(weight, layer.bias.copy())
        )
        if noted == "maxout" and not last:
            components.append(_maxout(layer, layers[place + 1]))
            continue
        if noted not in _ACTIVATIONS:
            raise ConfigError(f"layer {layer.name} has the activation {noted!r}: known are {', '.join(_ACTIVATIONS)}")
        components.append(_ACTIVATIONS[noted](weight.shape[0]))
    return Nnet(tuple(components))


def _maxout(layer: DenseLayer, following: DenseLayer) -> nc.Component:
    """Of how many units each is the largest follows from how many the next layer takes."""
    inputs, outputs = layer.kernel.shape[1], following.kernel.shape[0]
    if inputs % outputs or inputs == outputs:
        raise DataError(f"maxout of {inputs} units of layer {layer.name} cannot give the {outputs} of {following.name}")
    return nc.Maxout(inputs, outputs)


def dense_from_nnet(nnet: Nnet) -> list[DenseLayer]:
    """The dense layers of a network, each with the activation that follows it.

    Args:
        nnet: Transforms, each followed by at most one of ReLU, sigmoid, tanh, maxout and softmax. Shifts and scales
            before the first transform become part of it, up to rounding.

    Returns:
        The layers, named ``dense_1``, ``dense_2`` and so on.

    Raises:
        DataError: If the network holds anything else.

    Example:
        >>> [layer.name for layer in dense_from_nnet(Nnet((nc.LinearTransform(np.ones((2, 3), np.float32)),)))]
        ['dense_1']
    """
    layers: list[DenseLayer] = []
    shift, scale = np.zeros(nnet.input_dim), np.ones(nnet.input_dim)
    for place, component in enumerate(nnet.components):
        if isinstance(component, nc.AddShift | nc.Rescale) and not layers:
            if isinstance(component, nc.AddShift):
                shift = shift + component.values
            else:
                shift, scale = shift * component.values, scale * component.values
            continue
        if isinstance(component, nc.Dropout):
            continue
        if isinstance(component, (nc.AffineTransform, nc.LinearTransform)):
            bias = component.bias if isinstance(component, nc.AffineTransform) else None
            kernel = component.weight.T
            if not layers and (shift.any() or (scale != 1).any()):
                bias = (shift @ kernel + (0.0 if bias is None else bias)).astype(np.float32)
                kernel = (scale[:, None] * kernel).astype(np.float32)
            layers.append(DenseLayer(f"dense_{len(layers) + 1}", kernel, bias, "linear"))
            continue
        if isinstance(component, nc.Linear) and layers and layers[-1].activation == "linear":
            continue
        name = _NAMES.get(nc.Relu if _is_relu(component) else type(component))
        if name is None or not layers or layers[-1].activation != "linear":
            cure = "nnet1" if any(isinstance(part, More) for part in nnet.components) else "nnet1 or safetensors"
            raise DataError(
                f"component {place}, <{component.tag}>, has no place in dense layers, each of a kernel, a bias and one "
                f"activation (relu, sigmoid, tanh, maxout, softmax): write {cure}"
            )
        last = layers[-1]
        layers[-1] = DenseLayer(last.name, last.kernel, last.bias, name)
    if not layers:
        raise DataError("the network has no affine or linear transform, so there is no dense layer to write")
    return layers


def _is_relu(component: nc.Component) -> bool:
    return isinstance(component, nc.Relu) or (isinstance(component, nc.ParametricRelu) and component.is_relu)
