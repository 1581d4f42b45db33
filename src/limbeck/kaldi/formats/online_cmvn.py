r"""Mean and variance taken off over the frames heard so far, as Kaldi's ``apply-cmvn-online``.

Axes: ``N`` frames of one utterance, ``D`` features. Statistics are Kaldi's, ``(2, D + 1)``.
"""

__all__ = ["apply_online_cmvn"]

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import ConfigError, DataError, MismatchError
from limbeck.kaldi.options import OnlineCmvnOptions

_VARIANCE_FLOOR = 1e-20


def apply_online_cmvn(
    frames: NDArray[np.float32],
    overall: NDArray[np.float64],
    speaker: NDArray[np.float64] | None = None,
    options: OnlineCmvnOptions | None = None,
) -> NDArray[np.float32]:
    r"""Take off the mean of the last frames, on request divided by their standard deviation.

    .. math::
        s_n = \sum_{m = n - W + 1}^{n} (x_m, x_m^2, 1) + \alpha_n s_\text{speaker} + \beta_n s_\text{overall}

    Frame ``n`` is normalised by the statistics :math:`s_n`. While the window is not full, the missing frames come out
    of earlier utterances of the speaker, at most ``speaker_frames`` of them, and then out of the overall statistics, at
    most ``global_frames``; :math:`\alpha_n` and :math:`\beta_n` scale those statistics to so many frames.

    Args:
        frames: float32 ``(N, D)``.
        overall: Statistics of many speakers, float64 ``(2, D + 1)``.
        speaker: The sum of :func:`~limbeck.kaldi.formats.cmvn.accumulate_cmvn` over earlier utterances of the
            speaker, or None where there is none.
        options: The window.

    Returns:
        float32 ``(N, D)``.

    Raises:
        MismatchError: If the statistics are of other features.
        DataError: If they hold no frame, or a result is not finite.

    Example:
        >>> frames = np.array([[1.0], [3.0], [8.0]], np.float32)
        >>> nothing = np.array([[0.0, 1.0], [0.0, 0.0]])
        >>> apply_online_cmvn(frames, nothing, options=OnlineCmvnOptions(cmn_window=2, global_frames=1)).ravel()
        array([0.5, 1. , 2.5], dtype=float32)
    """
    settings = OnlineCmvnOptions() if options is None else options
    width = frames.shape[1]
    if overall.shape != (2, width + 1):
        raise MismatchError(
            f"global CMVN statistics of shape {overall.shape} for frames of {width} features, which need {2, width + 1}"
        )
    if not (np.isfinite(overall).all() and overall[0, -1] > 0):
        raise DataError("global CMVN statistics hold no frame, or numbers that are not finite")
    if not np.isfinite(frames).all():
        raise DataError("a frame holds NaN or infinity, which every frame after it would see")
    if not settings.norm_means:
        return frames
    kept = _skipped(settings.skip_dims, width)
    wide = frames.astype(np.float64)
    seen = np.stack([_last(np.c_[wide, np.ones(len(wide))], settings.cmn_window),
                     _last(np.c_[wide * wide, np.zeros(len(wide))], settings.cmn_window)], 1)  # fmt: skip
    if speaker is not None and speaker[0, -1] > 0:
        seen += _share(settings.cmn_window - seen[:, 0, -1], settings.speaker_frames, speaker, speaker[0, -1])
    seen += _share(settings.cmn_window - seen[:, 0, -1], settings.global_frames, overall)
    count = seen[:, 0, -1:]
    if (count < 1).any():
        raise DataError("frames are normalised by statistics of no frame: give --global-frames, or a longer window")
    mean = seen[:, 0, :-1] / count
    with np.errstate(over="ignore", invalid="ignore"):
        if settings.norm_vars:
            scale = 1 / np.sqrt(np.maximum(seen[:, 1, :-1] / count - mean * mean, _VARIANCE_FLOOR))
            found = (-mean * scale).astype(np.float32) + frames * scale.astype(np.float32)
        else:
            found = frames - mean.astype(np.float32)
    normed: NDArray[np.float32] = np.where(kept, found, frames)
    if not np.isfinite(normed).all():
        raise DataError("normalised by what was heard before it, a frame is too large for float32")
    return normed


def _last(values: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """Sums over each row and the ``window - 1`` before it."""
    sums = values.cumsum(0)
    found = sums.copy()
    found[window:] -= sums[:-window]
    return found


def _share(
    missing: NDArray[np.float64], most: int, stats: NDArray[np.float64], held: float = np.inf
) -> NDArray[np.float64]:
    """Statistics scaled to the frames that are missing at each place, at most ``most`` and those that they hold."""
    frames = np.clip(missing, 0, min(most, held))
    share: NDArray[np.float64] = frames[:, None, None] / stats[0, -1] * stats
    return share


def _skipped(dims: str, width: int) -> NDArray[np.bool_]:
    """Which features are normalised."""
    kept = np.ones(width, np.bool_)
    for word in filter(None, dims.split(":")):
        if not (word.isascii() and word.isdigit() and len(word) < 10 and int(word) < width):
            raise ConfigError(f"skip_dims has {word!r}, and features are counted from 0 to {width - 1}")
        kept[int(word)] = False
    return kept
