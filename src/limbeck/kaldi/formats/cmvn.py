r"""Mean and variance normalisation, and deltas, as Kaldi computes them.

Axes: ``N`` frames, ``D`` features. Statistics are Kaldi's: a matrix ``(2, D + 1)``, sums in the first row with the
number of frames at its end, sums of squares in the second.
"""

__all__ = ["accumulate_cmvn", "add_deltas", "apply_cmvn"]

from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import DataError, MismatchError

_VARIANCE_FLOOR = 1e-20


def accumulate_cmvn(frames: NDArray[np.float32]) -> NDArray[np.float64]:
    """Sum up frames and their squares; statistics of several utterances add up.

    Args:
        frames: ``(N, D)``.

    Returns:
        Statistics, float64 ``(2, D + 1)``.

    Example:
        >>> accumulate_cmvn(np.array([[1.0, 2.0], [3.0, 2.0]], np.float32))
        array([[ 4.,  4.,  2.],
               [10.,  8.,  0.]])
    """
    wide = frames.astype(np.float64)
    stats = np.zeros((2, frames.shape[1] + 1))
    stats[0, :-1], stats[0, -1] = wide.sum(0), len(frames)
    stats[1, :-1] = (wide * wide).sum(0)
    return stats


def apply_cmvn(frames: NDArray[np.float32], stats: NDArray[Any], *, variance: bool = False) -> NDArray[np.float32]:
    """Take off the mean, and on request divide by the standard deviation.

    Args:
        frames: ``(N, D)``.
        stats: Statistics ``(2, D + 1)`` of the speaker, the utterance, or all; the sums alone, ``(1, D + 1)``, are
            enough without ``variance``.
        variance: Divide by the standard deviation too.

    Returns:
        float32 ``(N, D)``.

    Raises:
        MismatchError: If the statistics are of other features.
        DataError: If they hold no frame, are not finite, or have no sums of squares where those are needed.

    Example:
        >>> frames = np.array([[1.0], [3.0]], np.float32)
        >>> apply_cmvn(frames, accumulate_cmvn(frames)).ravel()
        array([-1.,  1.], dtype=float32)
    """
    wanted = (2, frames.shape[1] + 1)
    if stats.shape not in {wanted, (1, wanted[1])}:
        raise MismatchError(
            f"CMVN statistics of shape {stats.shape} for frames of {frames.shape[1]} features, which need {wanted}"
        )
    count = float(stats[0, -1])
    if not np.isfinite(stats).all() or count < 1:
        raise DataError(f"CMVN statistics of {count:g} frames, or with numbers that are not finite")
    if variance and len(stats) < 2:
        raise DataError("CMVN statistics without sums of squares: they serve the mean alone")
    with np.errstate(over="ignore", invalid="ignore"):  # looked at below
        mean = stats[0, :-1] / count
        if variance:
            deviation = np.sqrt(np.maximum(stats[1, :-1] / count - mean * mean, _VARIANCE_FLOOR))
            normed = frames * (1 / deviation).astype(np.float32) - (mean / deviation).astype(np.float32)
        else:
            normed = frames - mean.astype(np.float32)
    if not np.isfinite(normed).all():
        row, column = np.argwhere(~np.isfinite(normed))[0]
        raise DataError(
            f"normalised by its CMVN statistics, feature {column} of frame {row} is not finite: the frame has "
            f"{frames[row, column]:.3g}, and the statistics a mean of {mean[column]:.3g}"
        )
    return normed


def add_deltas(frames: NDArray[np.float32], *, order: int = 2, window: int = 2) -> NDArray[np.float32]:
    r"""Append differences over time, as Kaldi's ``add-deltas``.

    .. math::
        \Delta x_n = \sum_{j=-w}^{w} j\, x_{n+j} \Big/ \sum_{j=-w}^{w} j^2

    Higher orders apply the filter to itself; frames beyond an edge are the edge's.

    Args:
        frames: ``(N, D)``.
        order: How many differences, at least 0.
        window: Frames to each side, at least 1.

    Returns:
        float32 ``(N, D * (order + 1))``.

    Example:
        >>> add_deltas(np.array([[0.0], [1.0], [2.0], [3.0], [4.0]], np.float32), order=1)[2]
        array([2., 1.], dtype=float32)
    """
    ramp = np.arange(-window, window + 1, dtype=np.float64)
    ramp /= (ramp * ramp).sum()
    taps = np.ones(1)
    parts = [frames]
    for _ in range(order):
        taps = np.convolve(taps, ramp)
        reach = len(taps) // 2
        places = np.arange(len(frames))[:, None] + np.arange(-reach, reach + 1)
        near = frames[np.clip(places, 0, len(frames) - 1)]
        parts.append(np.einsum("njd,j->nd", near, taps).astype(np.float32))
    return np.concatenate(parts, axis=1)
