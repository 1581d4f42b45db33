"""Weights in other formats during a run: HDF5 in Keras's layout after each epoch, nnet1 text at the end."""

__all__ = ["epoch_writer", "nnet_of", "write_final"]

from collections.abc import Callable
from pathlib import Path

from torch import nn

from limbeck.errors import ConfigError, DataError
from limbeck.kaldi.convert import write_network
from limbeck.kaldi.convert.dense import dense_from_nnet
from limbeck.kaldi.convert.runs import nnet_of_config
from limbeck.kaldi.formats import nnet1_components as nc
from limbeck.kaldi.formats.nnet1 import Nnet
from limbeck.models import describe
from limbeck.system.files import make_folder


def nnet_of(model: nn.Module) -> Nnet:
    """A fully connected network as nnet1 components, with a softmax on its logits.

    Args:
        model: An :class:`~limbeck.models.MLP` or :class:`~limbeck.kaldi.network.Nnet1`; a standardisation becomes
            ``<AddShift>`` and ``<Rescale>``, and dropout is left out.

    Returns:
        The network.

    Raises:
        ConfigError: If it is another kind of network.

    Example:
        >>> from limbeck.models import MLP, MLPConfig
        >>> net = MLP(MLPConfig(input_shape=(11, 40), classes=1000, hidden=(256,), activation="sigmoid"))
        >>> [part.tag for part in nnet_of(net).components]
        ['AffineTransform', 'Sigmoid', 'AffineTransform', 'Softmax']
    """
    # Copies, since training continues in the tensors.
    weights = {name: value.detach().cpu().numpy().copy() for name, value in model.state_dict().items()}
    try:
        return nnet_of_config(describe(model) or {"model_type": type(model).__name__}, weights)[0]
    except DataError as error:
        raise ConfigError(f"nnet1 and HDF5 cannot hold this network: {error}") from error


def epoch_writer(folder: Path, model: nn.Module) -> Callable[[int, nn.Module], None]:
    """Make a function that writes the weights after each epoch, as ``epochs/epoch-001.h5`` and so on.

    Args:
        folder: The run's folder.
        model: The model to train; refused now if it cannot be written later.

    Returns:
        A function of the epoch's number and the model.

    Raises:
        ConfigError: If it cannot be written as nnet1 or HDF5.
    """
    try:
        dense_from_nnet(nnet_of(model))
    except DataError as error:
        raise ConfigError(f"HDF5 cannot hold this network: {error}") from error

    def write(epoch: int, model: nn.Module) -> None:
        path = make_folder(folder / "epochs") / f"epoch-{epoch:03d}.h5"
        write_network(path, nnet_of(model), "hdf5", overwrite=True)

    return write


def write_final(folder: Path, model: nn.Module) -> None:
    """Write ``final.h5`` and ``final.nnet.txt`` beside the model: Kaldi's text, or the older dialect with maxout.

    Args:
        folder: The run's folder.
        model: The trained network.
    """
    nnet = nnet_of(model)
    stock = not any(isinstance(part, nc.Maxout) for part in nnet.components)  # stock Kaldi has none
    write_network(folder / "final.h5", nnet, "hdf5", overwrite=True)
    write_network(folder / "final.nnet.txt", nnet, "text" if stock else "legacy", overwrite=True)
