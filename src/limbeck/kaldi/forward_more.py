"""Forward computation of the nnet1 components beyond plain feed-forward ones, in numpy; states start at zero.

Axes: ``N`` frames of one utterance, ``D`` columns, ``C`` cells.
"""

__all__ = ["RUN_MORE", "Runner"]

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.kaldi.formats import nnet1_more as nm
from limbeck.kaldi.formats.nnet1_layout import Parts

Frames = NDArray[np.float32]
Runner = Callable[[Parts, Frames], Frames]
_LEAST = 1e-20
_LEAST_SHARE = 0.1  # a basis whose posteriors sum to no more over the utterance is left out


def _sigmoid(values: Frames) -> Frames:
    decay = np.exp(-np.abs(values))
    return np.asarray(np.where(values >= 0, 1 / (1 + decay), decay / (1 + decay)), np.float32)


def _convolution(part: nm.Convolutional, x: Frames, run: Runner) -> Frames:
    blocks = x.reshape(len(x), part.splice, part.patch_stride)
    starts = range(0, part.patches * part.patch_step, part.patch_step)
    patches = [blocks[:, :, start : start + part.patch_dim].reshape(len(x), -1) for start in starts]
    return np.concatenate([patch @ part.filters.T + part.bias for patch in patches], 1)


def _pooling(part: nm.Pooling, x: Frames, run: Runner) -> Frames:
    patches = x.reshape(len(x), -1, part.pool_stride)
    pools = [patches[:, q * part.pool_step : q * part.pool_step + part.pool_size] for q in range(part.pools)]
    largest = isinstance(part, nm.MaxPooling)
    return np.concatenate([pool.max(1) if largest else pool.mean(1, dtype=np.float32) for pool in pools], 1)


def _frame_pooling(part: nm.FramePooling, x: Frames, run: Runner) -> Frames:
    frames = x.reshape(len(x), -1, part.feature_dim)
    pools = [
        np.einsum("nkd,k->nd", frames[:, offset : offset + weight.size], weight)
        for offset, weight in zip(part.offsets, part.weights, strict=True)
    ]
    return np.concatenate(pools, 1)


def _lstm_over(part: Any, suffix: str, x: Frames) -> Frames:
    """One direction; the part that does not depend on the state is one product for all frames."""
    get = {name: getattr(part, name + suffix) for _, name in nm.LSTM_ARRAYS}
    before = x @ get["weight_in"].T + get["bias"]
    cell = np.zeros(part.cells, np.float32)
    output = np.zeros(len(get["weight_out"]), np.float32)
    found = np.empty((len(x), output.size), np.float32)
    for place, given in enumerate(before):
        g, i, f, o = np.split(given + get["weight_back"] @ output, 4)
        i, f = _sigmoid(i + get["peep_i"] * cell), _sigmoid(f + get["peep_f"] * cell)
        cell = np.tanh(g) * i + cell * f
        if part.cell_clip > 0:
            cell = np.clip(cell, -part.cell_clip, part.cell_clip)
        o = _sigmoid(o + get["peep_o"] * cell)
        output = get["weight_out"] @ (np.tanh(cell) * o)
        found[place] = output
    return found


def _lstm(part: nm.LstmProjected, x: Frames, run: Runner) -> Frames:
    return _lstm_over(part, "", x)


def _blstm(part: nm.BlstmProjected, x: Frames, run: Runner) -> Frames:
    return np.concatenate([_lstm_over(part, "", x), _lstm_over(part, "_late", x[::-1])[::-1]], 1)


def _recurrent(part: nm.Recurrent, x: Frames, run: Runner) -> Frames:
    found = x @ part.weight_in.T + part.bias
    state = np.zeros(part.output_dim, np.float32)
    for place, given in enumerate(found):
        state = np.tanh(given + part.weight_back @ state)
        found[place] = state
    return found


def _rbm(part: nm.Rbm, x: Frames, run: Runner) -> Frames:
    values = x @ part.weight.T + part.hidden_bias
    return _sigmoid(values) if part.hidden == "bern" else values


def _kl_hmm(part: nm.KlHmm, x: Frames, run: Runner) -> Frames:
    sums = part.statistics.sum(1, keepdims=True)
    states = np.maximum(part.statistics / np.where(sums > 0, sums, 1), _LEAST)
    given = x.astype(np.float64)
    own = (given * np.log(np.maximum(given, _LEAST))).sum(1, keepdims=True)
    return np.asarray(given @ np.log(states).T - own, np.float32)


def _parallel(part: nm.Parallel, x: Frames, run: Runner) -> Frames:
    ends = np.cumsum([network[0].input_dim for network in part.networks])[:-1]
    pieces = np.split(x, ends, axis=1)
    return np.concatenate([run(network, piece) for network, piece in zip(part.networks, pieces, strict=True)], 1)


def _multi_basis(part: nm.MultiBasis, x: Frames, run: Runner) -> Frames:
    width = part.bases[0][0].input_dim
    shares = run(part.selector, x[:, width:])
    total = np.zeros((len(x), part.output_dim), np.float32)
    for number, basis in enumerate(part.bases):
        if shares[:, number].sum() > _LEAST_SHARE:
            total += shares[:, number : number + 1] * run(basis, x[:, :width])
    return total


def _sentence_averaging(part: nm.SentenceAveraging, x: Frames, run: Runner) -> Frames:
    mean = run(part.network, x).mean(0, dtype=np.float64).astype(np.float32)
    return np.concatenate([np.broadcast_to(mean, (len(x), mean.size)), x], 1)


def _simple_averaging(part: nm.SimpleSentenceAveraging, x: Frames, run: Runner) -> Frames:
    total = x.sum(0, dtype=np.float64)
    if not part.only_summing:
        total = total / (len(x) + part.shrinkage)
    return np.broadcast_to(total.astype(np.float32), x.shape).copy()


RUN_MORE: dict[type[Any], Callable[[Any, Frames, Runner], Frames]] = {
    nm.Convolutional: _convolution,
    nm.MaxPooling: _pooling,
    nm.AveragePooling: _pooling,
    nm.FramePooling: _frame_pooling,
    nm.LstmProjected: _lstm,
    nm.BlstmProjected: _blstm,
    nm.Recurrent: _recurrent,
    nm.Rbm: _rbm,
    nm.KlHmm: _kl_hmm,
    nm.Parallel: _parallel,
    nm.MultiBasis: _multi_basis,
    nm.SentenceAveraging: _sentence_averaging,
    nm.SimpleSentenceAveraging: _simple_averaging,
}
"""By class; the last argument runs a network inside."""
