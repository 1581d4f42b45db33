r"""Forward computation of nnet1 networks like Kaldi's ``nnet-forward``, in numpy and float32.

Axes: ``N`` frames of one utterance, ``D`` features, ``K`` pdfs. This is the reference for the torch modules,
and enough to run a network where torch is not at hand.
"""

__all__ = [
    "forward",
    "likelihoods",
    "log_priors",
    "needs_utterances",
    "propagate",
    "read_pdf_counts",
    "without_softmax",
]

from collections.abc import Callable, Sequence
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import ConfigError, DataError, MismatchError
from limbeck.kaldi.formats import nnet1_components as nc
from limbeck.kaldi.formats.nnet1 import Nnet
from limbeck.kaldi.formats.nnet1_more import whole_in
from limbeck.kaldi.formats.table import open_stream, read_object
from limbeck.kaldi.forward_more import RUN_MORE

Frames = NDArray[np.float32]

_LOG_FLOOR = np.float32(1e-20)  # nnet-forward adds it before each logarithm
_NEVER = np.sqrt(np.finfo(np.float32).max)  # log-prior of a pdf that was never seen: no decoder picks it


def propagate(nnet: Nnet, frames: Frames) -> Frames:
    """Run the frames of one utterance through a network.

    ``Splice`` repeats the first and last frame at the edges, so the frames of one utterance go together.

    Args:
        nnet: The network.
        frames: float32 ``(N, inputs)``.

    Returns:
        float32 ``(N, outputs)``.

    Raises:
        MismatchError: If the frames have another dimension.
        DataError: If there is no frame, or a component cannot be run.

    Example:
        >>> propagate(Nnet((nc.Splice(1, (-1, 0)),)), np.array([[1.0], [2.0]], np.float32))
        array([[1., 1.],
               [1., 2.]], dtype=float32)
    """
    if frames.ndim != 2 or not len(frames):
        raise DataError(f"the frames of an utterance are a matrix with at least one row, and this is {frames.shape}")
    if frames.shape[1] != nnet.input_dim:
        raise MismatchError(f"frames of {frames.shape[1]} features for a network of {nnet.input_dim} inputs")
    return _run(nnet.components, np.ascontiguousarray(frames, np.float32))


def _run(parts: Sequence[nc.Component], values: Frames) -> Frames:
    for part in parts:
        more = RUN_MORE.get(type(part))
        values = _RUN[type(part)](part, values) if more is None else more(part, values, _run)
    return values


def needs_utterances(nnet: Nnet) -> bool:
    """Whether the frames of one utterance must go together, without those of others.

    Args:
        nnet: The network.

    Returns:
        Whether a component looks at neighbours, remembers, or takes means over time.
    """
    return any(True for _ in whole_in(nnet.components))


def without_softmax(nnet: Nnet) -> Nnet:
    """Drop the softmax at the end, as ``--no-softmax`` does.

    Args:
        nnet: The network.

    Returns:
        The network without its last component if that is a softmax, plain or in blocks; else as it is.
    """
    if isinstance(nnet.components[-1], (nc.Softmax, nc.BlockSoftmax)) and len(nnet.components) > 1:
        return Nnet(nnet.components[:-1])
    return nnet


def log_priors(counts: NDArray[Any], *, floor: float = 1e-10) -> Frames:
    r"""Log-priors out of the counts of pdfs, as ``nnet-forward --class-frame-counts`` takes them.

    .. math::
        \log p_k = \log(c_k / \sum_j c_j + 10^{-20})

    Args:
        counts: Frames of each pdf, at least 0, ``(K,)``.
        floor: A pdf of a lower relative frequency gets the log-prior ``sqrt(FLT_MAX)``, which no decoder
            picks.

    Returns:
        Natural logarithms, float32 ``(K,)``.

    Raises:
        DataError: If counts are negative, not finite or all zero.
    """
    counts = np.asarray(counts, np.float32)
    if counts.ndim != 1 or not np.isfinite(counts).all() or (counts < 0).any() or not counts.sum() > 0:
        raise DataError("counts of pdfs must be finite, at least 0 and not all 0")
    frequency = counts * np.float32(1 / counts.sum())
    logs = np.where(frequency < np.float32(floor), _NEVER, np.log(frequency + _LOG_FLOOR))
    return np.asarray(logs, np.float32)


def read_pdf_counts(path: str | PathLike[str]) -> Frames:
    """Read the counts that ``analyze-counts`` writes: one text vector, ``[ 10.5 200.5 ]``.

    Args:
        path: The file.

    Returns:
        float32 ``(K,)``.

    Raises:
        FormatError: If it is not a text vector, or something follows it.
    """
    with open_stream(path) as stream:
        counts: Frames = read_object(stream, "vector", what="vector of counts")
        stream.skip_space()
        if not stream.at_end():
            raise stream.error("bytes follow the vector of counts")
    return counts


def forward(
    nnet: Nnet,
    frames: Frames,
    *,
    feature_transform: Nnet | None = None,
    no_softmax: bool = False,
    apply_log: bool = False,
    counts: NDArray[Any] | None = None,
    prior_scale: float = 1.0,
    prior_floor: float = 1e-10,
) -> Frames:
    """Do what ``nnet-forward`` does with one utterance.

    Args:
        nnet: The network.
        frames: float32 ``(N, D)``.
        feature_transform: Run before the network, or None.
        no_softmax: Drop the softmax at the end.
        apply_log: Take ``log(y + 1e-20)`` of the outputs.
        counts: Counts of pdfs ``(K,)`` whose scaled log-priors are taken off the outputs, or None.
        prior_scale: Scale of the log-priors.
        prior_floor: See :func:`log_priors`.

    Returns:
        float32 ``(N, K)``.

    Raises:
        ConfigError: If both ``no_softmax`` and ``apply_log`` are set, or counts come with neither.
        MismatchError: If dimensions do not fit.
        DataError: If there is no frame.
    """
    if no_softmax and apply_log:
        raise ConfigError("no_softmax and apply_log exclude each other: there is no logarithm of logits")
    if counts is not None and not (no_softmax or apply_log):
        raise ConfigError("log-priors can be taken off logits or log-posteriors only: set no_softmax or apply_log")
    if feature_transform is not None:
        frames = propagate(feature_transform, frames)
    values = propagate(without_softmax(nnet) if no_softmax else nnet, frames)
    return likelihoods(values, apply_log=apply_log, counts=counts, prior_scale=prior_scale, prior_floor=prior_floor)


def likelihoods(
    values: Frames,
    *,
    apply_log: bool = False,
    counts: NDArray[Any] | None = None,
    prior_scale: float = 1.0,
    prior_floor: float = 1e-10,
) -> Frames:
    """What ``nnet-forward`` does after the network.

    Args:
        values: Outputs, float32 ``(N, K)``.
        apply_log: Take ``log(y + 1e-20)`` of them.
        counts: Counts of pdfs ``(K,)`` whose scaled log-priors are taken off, or None.
        prior_scale: Scale of the log-priors.
        prior_floor: See :func:`log_priors`.

    Returns:
        float32 ``(N, K)``.

    Raises:
        MismatchError: If there are counts of another number of pdfs.
    """
    if apply_log:
        values = np.log(values + _LOG_FLOOR)
    if counts is not None:
        priors = log_priors(counts, floor=prior_floor)
        if priors.shape != values.shape[1:]:
            raise MismatchError(f"counts of {priors.size} pdfs for a network of {values.shape[1]} outputs")
        values = values - np.float32(prior_scale) * priors
    return values


def _softmax(values: Frames) -> Frames:
    values = np.exp(values - values.max(-1, keepdims=True))
    result: Frames = values / values.sum(-1, keepdims=True)
    return result


def _block_softmax(part: nc.BlockSoftmax, values: Frames) -> Frames:
    blocks = np.split(values, np.cumsum(part.block_dims)[:-1], axis=1)
    return np.concatenate([_softmax(block) for block in blocks], axis=1)


def _sigmoid(values: Frames) -> Frames:
    decay = np.exp(-np.abs(values))  # at most 1, so nothing overflows
    return np.asarray(np.where(values >= 0, 1 / (1 + decay), decay / (1 + decay)), np.float32)


def _length_norm(values: Frames) -> Frames:
    norm = np.sqrt((values * values).sum(-1, keepdims=True))
    return np.asarray(values / np.where(norm > 0, norm, np.float32(1)), np.float32)


def _splice(part: nc.Splice, values: Frames) -> Frames:
    last = len(values) - 1
    index = np.clip(np.arange(len(values))[:, None] + np.array(part.offsets), 0, last)
    spliced: Frames = values[index].reshape(len(values), -1)
    return spliced


_RUN: dict[type[nc.Component], Callable[[Any, Frames], Frames]] = {
    nc.AffineTransform: lambda part, x: x @ part.weight.T + part.bias,
    nc.LinearTransform: lambda part, x: x @ part.weight.T,
    nc.Sigmoid: lambda part, x: _sigmoid(x),
    nc.Tanh: lambda part, x: np.tanh(x),
    nc.Softmax: lambda part, x: _softmax(x),
    nc.HiddenSoftmax: lambda part, x: _softmax(x),
    nc.BlockSoftmax: _block_softmax,
    nc.LengthNormComponent: lambda part, x: _length_norm(x),
    nc.ParametricRelu: lambda part, x: np.where(x > 0, part.alpha * x, part.beta * x),
    nc.Relu: lambda part, x: np.maximum(x, 0),
    nc.Linear: lambda part, x: x,
    nc.Maxout: lambda part, x: x.reshape(len(x), part.outputs, -1).max(-1),
    nc.Dropout: lambda part, x: x,
    nc.Splice: _splice,
    nc.Copy: lambda part, x: x[:, list(part.indices)],
    nc.AddShift: lambda part, x: x + part.values,
    nc.Rescale: lambda part, x: x * part.values,
}
