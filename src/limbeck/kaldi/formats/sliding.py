r"""Mean and variance taken off over a window that goes along, as Kaldi's ``apply-cmvn-sliding``.

Axes: ``N`` frames of one utterance, ``D`` features.
"""

__all__ = ["apply_sliding_cmvn"]

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import DataError
from limbeck.kaldi.options import SlidingOptions

_VARIANCE_FLOOR = 1e-10


def apply_sliding_cmvn(frames: NDArray[np.float32], options: SlidingOptions | None = None) -> NDArray[np.float32]:
    r"""Take off the mean of a window of frames, and on request divide by its standard deviation.

    .. math::
        y_n = (x_n - \mu_{[a_n, b_n)}) / \sigma_{[a_n, b_n)}

    Sums over windows are differences of sums from the first frame on, in float64.

    Args:
        frames: float32 ``(N, D)``.
        options: The window.

    Returns:
        float32 ``(N, D)``.

    Raises:
        DataError: If a frame is not finite, or a result is too large for float32.

    Example:
        >>> frames = np.array([[1.0], [3.0], [8.0]], np.float32)
        >>> apply_sliding_cmvn(frames, SlidingOptions(cmn_window=1, min_cmn_window=1)).ravel()
        array([0. , 1. , 2.5], dtype=float32)
    """
    settings = SlidingOptions() if options is None else options
    if not np.isfinite(frames).all():
        raise DataError("a frame holds NaN or infinity, which every window after it would see")
    begins, ends = _windows(len(frames), settings)
    wide = frames.astype(np.float64)
    count = (ends - begins)[:, None].astype(np.float64)
    mean = _over(wide, begins, ends) / count
    found = wide - mean
    if settings.norm_vars:
        variance = np.maximum(_over(wide * wide, begins, ends) / count - mean * mean, _VARIANCE_FLOOR)
        found = np.where(count > 1, found / np.sqrt(variance), 0.0)
    with np.errstate(over="ignore"):
        normed = found.astype(np.float32)
    if not np.isfinite(normed).all():
        raise DataError("normalised over the window, a frame is too large for float32")
    return normed


def _over(values: NDArray[np.float64], begins: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.float64]:
    sums = np.concatenate([np.zeros((1, values.shape[1])), values.cumsum(0)])
    found: NDArray[np.float64] = sums[ends] - sums[begins]
    return found


def _windows(count: int, options: SlidingOptions) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The first frame of each window, and the frame after its last."""
    place = np.arange(count, dtype=np.int64)
    if options.center:
        begins = place - options.cmn_window // 2
        ends = begins + options.cmn_window
    else:
        begins, ends = place - options.cmn_window, place + 1
    early = begins < 0
    ends = np.where(early, ends - begins, ends)
    begins = np.maximum(begins, 0)
    if not options.center:
        ends = np.maximum(place + 1, options.min_cmn_window)
    late = np.maximum(ends - count, 0)
    return np.maximum(begins - late, 0), ends - late
