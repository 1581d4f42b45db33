"""Weights as the scripts of before left them: HDF5 in Keras's layout after each epoch, nnet1 text at the end.

Axes: ``I`` inputs, ``O`` outputs.
"""

__all__ = ["dense_layers", "epoch_writer", "nnet_of", "write_final"]

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from limbeck.errors import ConfigError
from limbeck.files import make_folder
from limbeck.formats import nnet1_components as nc
from limbeck.formats.keras_h5 import DenseLayer, write_keras_h5
from limbeck.formats.nnet1 import Nnet, write_nnet
from limbeck.models import MLP
from limbeck.models.layers import Maxout, Standardise


def nnet_of(model: nn.Module) -> Nnet:
    """A fully connected network as nnet1 components, with the softmax that its scores need.

    Args:
        model: An :class:`~limbeck.models.MLP`; a standardisation becomes ``<AddShift>`` and ``<Rescale>``, and dropout
            is left out.

    Returns:
        The network.

    Raises:
        ConfigError: If it is another kind of network.

    Example:
        >>> from limbeck.models import MLPConfig
        >>> net = MLP(MLPConfig(input_shape=(11, 40), classes=1000, hidden=(256,), activation="sigmoid"))
        >>> [part.tag for part in nnet_of(net).components]
        ['AffineTransform', 'Sigmoid', 'AffineTransform', 'Softmax']
    """
    model = _exportable(model)
    return Nnet((*_components(model), nc.Softmax(model.config.classes)))


def dense_layers(model: nn.Module) -> list[DenseLayer]:
    """The linear layers of a fully connected network, named as Keras names them.

    Args:
        model: An :class:`~limbeck.models.MLP`.

    Returns:
        Kernels ``(I, O)`` and biases, in order.

    Raises:
        ConfigError: If it is another kind of network.
    """
    layers = [part for part in _exportable(model) if isinstance(part, nn.Linear)]
    return [
        DenseLayer(f"dense_{number}", np.ascontiguousarray(_array(layer.weight).T), _array(layer.bias))
        for number, layer in enumerate(layers, 1)
    ]


def epoch_writer(folder: Path, model: nn.Module) -> Callable[[int, nn.Module], None]:
    """A function that writes the weights after each epoch, as ``epochs/epoch-001.h5`` and so on.

    Args:
        folder: The run's folder.
        model: What is to be trained: it is refused now if it cannot be written then.

    Returns:
        What to call with the number of an epoch and the model.

    Raises:
        ConfigError: If it is no fully connected network.
    """
    _exportable(model)

    def write(epoch: int, model: nn.Module) -> None:
        write_keras_h5(make_folder(folder / "epochs") / f"epoch-{epoch:03d}.h5", dense_layers(model))

    return write


def write_final(folder: Path, model: nn.Module) -> None:
    """Write ``final.h5`` and ``final.nnet.txt`` beside the model: Kaldi's text, or the older dialect with maxout.

    Args:
        folder: The run's folder.
        model: The trained network.
    """
    write_keras_h5(folder / "final.h5", dense_layers(model))
    nnet = nnet_of(model)
    if any(isinstance(part, nc.Maxout) for part in nnet.components):  # stock Kaldi has none
        write_nnet(folder / "final.nnet.txt", nnet, dialect="legacy")
    else:
        write_nnet(folder / "final.nnet.txt", nnet.for_kaldi(), dialect="text")


def _exportable(model: nn.Module) -> MLP:
    if not isinstance(model, MLP):
        raise ConfigError(f"nnet1 and HDF5 hold fully connected networks, and this is a {type(model).__name__}")
    return model


def _components(model: MLP) -> Iterator[nc.Component]:
    width = int(np.prod(model.config.input_shape))
    for part in model:
        if isinstance(part, Standardise):
            yield nc.AddShift(np.full(width, -part.mean, np.float32), learn_rate=0.0)
            yield nc.Rescale(np.full(width, 1 / part.std, np.float32), learn_rate=0.0)
        elif isinstance(part, nn.Linear):
            width = part.out_features
            yield nc.AffineTransform(_array(part.weight), _array(part.bias))
        elif isinstance(part, Maxout):
            yield nc.Maxout(width, width // part.pieces)
            width //= part.pieces
        elif type(part) in _POINTWISE:
            yield _POINTWISE[type(part)](width)


_POINTWISE: dict[type[nn.Module], Callable[[int], nc.Component]] = {
    nn.ReLU: nc.Relu,
    nn.Sigmoid: nc.Sigmoid,
    nn.Tanh: nc.Tanh,
}


def _array(values: Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = values.detach().cpu().float().numpy().copy()
    return array
