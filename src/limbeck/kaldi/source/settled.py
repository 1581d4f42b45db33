"""How inputs are made, settled from options, the data and an experiment's folder."""

__all__ = ["CONTEXT", "front_end"]

from pathlib import Path

from limbeck.errors import ConfigError
from limbeck.kaldi.experiment import Experiment, is_nnet3_folder, read_experiment
from limbeck.kaldi.formats import nnet1_components as nc
from limbeck.kaldi.formats.nnet1 import Nnet
from limbeck.kaldi.formats.scp import read_entry
from limbeck.kaldi.ivectors import IVectors
from limbeck.kaldi.options import SpeechOptions
from limbeck.kaldi.source.directory import KaldiDirectory
from limbeck.kaldi.source.frontend import FrontEnd, Splicing, divide_transform
from limbeck.kaldi.transforms import linear_transform, read_transform, with_ivector

CONTEXT = 5
"""Neighbours on each side where nothing says otherwise."""


def front_end(options: SpeechOptions, directory: KaldiDirectory, ivectors: IVectors | None = None) -> FrontEnd:
    """Settle how inputs are made.

    Args:
        options: What was asked for.
        directory: The training data, which decide whether there is CMVN where nobody says.
        ivectors: Those of the training data, or None.

    Returns:
        The front end.

    Raises:
        ConfigError: If a context is given and the feature transform has one too, or what an experiment's folder needs
            is missing.
    """
    said = _experiment(options, ivectors)
    given = (options.left, options.right, options.feature_transform) != (None, None, None)
    path = options.feature_transform if given else said.feature_transform
    left, right = (options.left, options.right) if given or said.context is None else said.context
    span = tuple(range(-(CONTEXT if left is None else left), (CONTEXT if right is None else right) + 1))
    deltas = said.deltas if options.deltas is None else options.deltas
    ivector = 0 if ivectors is None else ivectors.dim
    width = _features(directory) * (deltas + 1) if path is not None or ivector else 0
    transform, has_splice = (None, False) if path is None else _transform(Path(path), span, width)
    if has_splice and (options.left, options.right) != (None, None):
        raise ConfigError("the feature transform has a splice of its own: leave --left and --right out")
    if ivector and (transform is None or transform.input_dim == width):
        transform = with_ivector(Nnet((nc.Splice(width, span),)) if transform is None else transform, ivector)
    before, splicing = (None, None) if transform is None else divide_transform(transform)
    whose = options.cmvn
    if whose == "auto":
        whose = said.cmvn if options.exp is not None else ("speaker" if directory.cmvn else "none")
    norm_vars = (said.norm_vars and whose != "none") if options.norm_vars is None else options.norm_vars
    if whose == "none" and norm_vars:
        raise ConfigError("norm_vars is part of CMVN, and there is none: use --cmvn speaker or --cmvn utterance")
    return FrontEnd(
        splicing or Splicing(span),
        whose,
        norm_vars,
        deltas,
        said.delta_window if options.delta_window is None else options.delta_window,
        ivector,
        options.every,
        before,
        transform,
    )


def _experiment(options: SpeechOptions, ivectors: IVectors | None) -> Experiment:
    """What an experiment's folder says; nothing where none is given."""
    if options.exp is None:
        return Experiment()
    said = read_experiment(Path(options.exp), nnet3=is_nnet3_folder(Path(options.exp)))
    if said.ivector_dim and (ivectors is None or ivectors.dim != said.ivector_dim):
        held = "none are given" if ivectors is None else f"those given have {ivectors.dim}"
        raise ConfigError(
            f"{options.exp} says that i-vectors of {said.ivector_dim} values are appended to features, and {held}: "
            "give --ivectors"
        )
    return said


def _features(directory: KaldiDirectory) -> int:
    """How many features the first utterance has."""
    return int(read_entry(directory.entries[0], allow_pipes=directory.allow_pipes).shape[1])


def _transform(path: Path, span: tuple[int, ...], width: int) -> tuple[Nnet, bool]:
    """A feature transform with its splice, and whether the splice is its own."""
    # A matrix is for frames with their context; of a network without a splice the context comes after it.
    found = read_transform(path)
    if not isinstance(found, Nnet):
        return Nnet((nc.Splice(width, span), linear_transform(found, width * len(span)))), False
    if divide_transform(found)[1] is None:
        return Nnet((*found.components, nc.Splice(found.output_dim, span))), False
    return found, True
