"""An nnet1 file as a torch module, for teaching or training, and trained weights back in their components."""

__all__ = ["ADAPTER", "trainable", "with_weights"]

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from limbeck.errors import DataError, LimbeckError, MismatchError
from limbeck.kaldi.convert.runs import logits_of, records_with_sizes
from limbeck.kaldi.formats.nnet1 import Nnet, read_nnet
from limbeck.kaldi.formats.nnet1_record import arrays_of, nnet_from_records, records_of
from limbeck.kaldi.formats.sniff import identify
from limbeck.kaldi.network import Nnet1, Nnet1Config

_KINDS = ("nnet1 binary", "nnet1 text", "nnet1 legacy")


def trainable(nnet: Nnet) -> Nnet1:
    """A network as a module that gives logits, with its weights.

    What has a learning-rate factor of 0 in the file is not trained.

    Args:
        nnet: The network; a softmax at its end is left out.

    Returns:
        The module, in evaluation mode.

    Example:
        >>> from limbeck.kaldi.formats.nnet1_components import AffineTransform, Softmax
        >>> weight, bias = np.ones((2, 3), np.float32), np.zeros(2, np.float32)
        >>> trainable(Nnet((AffineTransform(weight, bias, 1.0, 0.0), Softmax(2))))(torch.ones(1, 3)).tolist()
        [[3.0, 3.0]]
    """
    logits = logits_of(nnet)
    module = Nnet1(
        Nnet1Config(
            input_shape=(nnet.input_dim,), classes=nnet.output_dim, components=tuple(records_with_sizes(logits))
        )
    )
    arrays = {name: torch.from_numpy(np.array(value)) for name, value in arrays_of(logits).items()}
    module.load_state_dict(arrays)
    for place, part in enumerate(logits.components):
        for field, rate in (("weight", "learn_rate"), ("bias", "bias_learn_rate")):
            if getattr(part, rate, 1.0) == 0 and hasattr(module[place], field):
                module[place].get_parameter(field).requires_grad_(False)
    return module.eval()


def with_weights(nnet: Nnet, module: nn.Module) -> Nnet:
    """A network with the weights of the module that was made of it.

    Args:
        nnet: What :func:`trainable` was given.
        module: The module, trained.

    Returns:
        The same components with these weights; what has none is as it was.

    Raises:
        MismatchError: If the module has other weights.
    """
    logits = logits_of(nnet)
    arrays = {name: value.detach().float().cpu().numpy().copy() for name, value in module.state_dict().items()}
    before = arrays_of(logits)
    if {name: value.shape for name, value in arrays.items()} != {name: value.shape for name, value in before.items()}:
        raise MismatchError("the trained network has other components than the file")
    trained = nnet_from_records(records_of(logits), arrays).components
    parts = [new if old is kept else kept
             for kept, old, new in zip(nnet.components, logits.components, trained, strict=False)]  # fmt: skip
    return Nnet((*parts, *nnet.components[len(parts) :]))


class _Nnet1Files:
    """Makes a module of the path of a file of nnet1; it sees the inputs as the data are read."""

    def takes(self, given: Any) -> bool:
        """Whether it is the path of such a file."""
        if not isinstance(given, str | os.PathLike) or not os.path.isfile(given):
            return False
        try:
            return identify(given) in _KINDS
        except LimbeckError:
            return False

    def __call__(self, given: Any, classes: Sequence[str] | None = None) -> nn.Module:
        """The network in evaluation mode."""
        try:
            return trainable(read_nnet(given))
        except DataError as error:
            raise type(error)(f"{given}: {error}") from error


ADAPTER = _Nnet1Files()
