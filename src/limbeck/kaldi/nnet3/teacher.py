"""An nnet3 network as a teacher: each frame is seen with the neighbours that the network's context needs."""

__all__ = ["ADAPTER", "load_for_frames"]

import os
from collections.abc import Sequence
from typing import Any

from torch import nn

from limbeck.errors import ConfigError, LimbeckError
from limbeck.kaldi.formats.sniff import identify
from limbeck.kaldi.nnet3.heads import without_softmax
from limbeck.kaldi.nnet3.model import Nnet3Model, read_nnet3
from limbeck.kaldi.nnet3.module import Nnet3Module
from limbeck.kaldi.source.frontend import Splicing

_STARTS = (b"\0B<Nnet3> ", b"\0B<TransitionM", b"<Nnet3>", b"<TransitionM")


def load_for_frames(path: str | os.PathLike[str], model: Nnet3Model | None = None) -> Nnet3Module:
    """A network as a module that gives logits of single frames with their neighbours, and i-vectors if it reads them.

    Args:
        path: A raw network or a ``final.mdl``.
        model: What the file holds, where it was read already.

    Returns:
        The module; its attribute ``presentation`` says which neighbours it sees.

    Raises:
        ConfigError: If it needs more than frames and their neighbours.
    """
    module = Nnet3Module(without_softmax((read_nnet3(path) if model is None else model).nnet))
    if module.depends:
        raise ConfigError(
            f"the outputs of {path} depend on where a chunk begins, and here each frame is seen alone: write its "
            "posteriors with limbeck forward, and give them as --posteriors to limbeck soften"
        )
    left, right = module.context
    module.presentation = Splicing(tuple(range(-left, right + 1)), ivector=module.ivector_dim)
    return module


class _Nnet3Files:
    """Makes a module of the path of a raw network or a ``final.mdl``."""

    def takes(self, given: Any) -> bool:
        """Whether it is the path of such a file."""
        if not isinstance(given, str | os.PathLike) or not os.path.isfile(given):
            return False
        try:
            with open(given, "rb") as file:
                if not file.read(16).lstrip(b" \t\r\n").startswith(_STARTS):
                    return False
            return identify(given) in ("nnet3", "nnet3 model")
        except (OSError, LimbeckError):
            return False

    def __call__(self, given: Any, classes: Sequence[str] | None = None) -> nn.Module:
        """The network in evaluation mode."""
        return load_for_frames(given)


ADAPTER = _Nnet3Files()
