"""From the features in an archive to what a network sees: CMVN, deltas, a feature transform, neighbours.

All of it is numpy on one utterance at a time, in the order of Kaldi's pipes: ``apply-cmvn``, ``add-deltas``,
``nnet-forward`` of the feature transform. What depends on one frame alone is done when an utterance is read; the
neighbours are put together later, in batches, where the training is (:mod:`limbeck.data.speech.frames`).

Axes: ``N`` frames of one utterance, ``D`` features.
"""

__all__ = ["FrontEnd", "Splicing", "add_deltas", "divide_transform", "normalise", "splice", "statistics_of"]

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import ConfigError, DataError, MismatchError
from limbeck.formats import nnet1_components as nc
from limbeck.formats.nnet1 import Nnet
from limbeck.nnet1_forward import propagate

Frames = NDArray[np.float32]
Statistics = NDArray[np.float64]

_DELTA_WINDOW = 2
_VARIANCE_FLOOR = 1e-20
_AFTER = (nc.AddShift, nc.Rescale, nc.Copy, nc.AffineTransform, nc.LinearTransform)


@dataclass(frozen=True, eq=False)
class Splicing:
    """Which neighbours a network sees beside a frame, and what is done to them together.

    Attributes:
        offsets: Places of the neighbours, such as -1, 0, 1. Beyond the ends of an utterance its first or last frame
            is repeated.
        after: What follows the splice in a feature transform, or None.
    """

    offsets: tuple[int, ...]
    after: Nnet | None = None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Splicing):
            return NotImplemented
        mine, theirs = ((() if s.after is None else s.after.components) for s in (self, other))
        return self.offsets == other.offsets and mine == theirs

    def __hash__(self) -> int:
        return hash(self.offsets)

    def shape(self, features: int) -> tuple[int, ...]:
        """Shape of one example: frames and features, or the outputs of what follows the splice."""
        return (len(self.offsets), features) if self.after is None else (self.after.output_dim,)


@dataclass(frozen=True, eq=False)
class FrontEnd:
    """How the inputs of an acoustic model are made.

    Attributes:
        splicing: The neighbours.
        cmvn: Whose mean is taken off: "none", "speaker" or "utterance".
        norm_vars: Whether the variance is made 1 as well.
        deltas: Order of the time derivatives that are put beside the features; 0 for none.
        every: Every how many frames there is an example; context comes from all frames.
        before: The part of a feature transform before its splice, run on each frame, or None.
        transform: The whole feature transform, as it was read, or None.
    """

    splicing: Splicing
    cmvn: Literal["none", "speaker", "utterance"] = "none"
    norm_vars: bool = False
    deltas: int = 0
    every: int = 1
    before: Nnet | None = None
    transform: Nnet | None = None

    def prepare(self, raw: Frames, statistics: Statistics | None) -> Frames:
        """Do all that is done to single frames.

        Args:
            raw: Features as in the archive, float32 ``(N, D)``.
            statistics: CMVN statistics ``(2, D + 1)``, where ``cmvn`` is not "none".

        Returns:
            float32 ``(N, D')``.

        Raises:
            MismatchError: If the statistics or the feature transform are for other features.
        """
        frames = raw if statistics is None else normalise(raw, statistics, norm_vars=self.norm_vars)
        frames = add_deltas(frames, self.deltas) if self.deltas else frames
        if self.transform is not None and self.transform.input_dim != frames.shape[1]:
            raise MismatchError(
                f"{frames.shape[1]} features for a feature transform of {self.transform.input_dim} inputs"
            )
        return frames if self.before is None else propagate(self.before, frames)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for ``config.json``; a feature transform is kept in a file of its own beside it."""
        return {
            "offsets": list(self.splicing.offsets),
            "cmvn": self.cmvn,
            "norm_vars": self.norm_vars,
            "deltas": self.deltas,
            "every": self.every,
            "feature_transform": self.transform is not None,
        }

    def agrees_in_frames(self, other: "FrontEnd") -> bool:
        """Whether single frames are the same with both, so that one reading of the data serves both."""
        settings = [(front.cmvn, front.norm_vars, front.deltas) for front in (self, other)]
        befores = [() if front.before is None else front.before.components for front in (self, other)]
        return settings[0] == settings[1] and befores[0] == befores[1]


def statistics_of(frames: Frames) -> Statistics:
    """CMVN statistics of an utterance, as ``compute-cmvn-stats`` makes them.

    Args:
        frames: float32 ``(N, D)``.

    Returns:
        Sums and count in the first row, sums of squares in the second, float64 ``(2, D + 1)``.

    Example:
        >>> statistics_of(np.array([[1.0], [3.0]], np.float32))
        array([[ 4.,  2.],
               [10.,  0.]])
    """
    exact = frames.astype(np.float64)
    statistics = np.zeros((2, frames.shape[1] + 1))
    statistics[0, :-1], statistics[0, -1] = exact.sum(0), len(frames)
    statistics[1, :-1] = np.square(exact).sum(0)
    return statistics


def normalise(frames: Frames, statistics: Statistics, *, norm_vars: bool = False) -> Frames:
    r"""Take the mean off, and make the variance 1 where that is asked for, as ``apply-cmvn`` does.

    Args:
        frames: float32 ``(N, D)``.
        statistics: Sums and count, and sums of squares, ``(2, D + 1)``; one row is enough without ``norm_vars``.
        norm_vars: Divide by the standard deviation too.

    Returns:
        float32 ``(N, D)``.

    Raises:
        MismatchError: If the statistics are those of other features.
        DataError: If they count less than one frame, or hold no squares and ``norm_vars`` asks for them.

    Example:
        >>> normalise(np.array([[1.0], [3.0]], np.float32), np.array([[4.0, 2.0], [10.0, 0.0]]), norm_vars=True)
        array([[-1.],
               [ 1.]], dtype=float32)
    """
    if statistics.ndim != 2 or statistics.shape[1] != frames.shape[1] + 1:
        raise MismatchError(
            f"CMVN statistics of shape {statistics.shape} for {frames.shape[1]} features: "
            f"(2, {frames.shape[1] + 1}) is needed"
        )
    count = float(statistics[0, -1])
    if not (np.isfinite(statistics).all() and count >= 1):
        raise DataError(f"CMVN statistics of {count} frames, or with NaN or infinite sums")
    mean = statistics[0, :-1] / count
    if not norm_vars:
        return frames - mean.astype(np.float32)
    if len(statistics) < 2:
        raise DataError("CMVN statistics without sums of squares: they serve the mean alone")
    variance = np.maximum(statistics[1, :-1] / count - np.square(mean), _VARIANCE_FLOOR)
    scale = 1 / np.sqrt(variance)
    return frames * scale.astype(np.float32) + (-mean * scale).astype(np.float32)


def add_deltas(frames: Frames, order: int) -> Frames:
    """Put time derivatives beside the features, as ``add-deltas`` does, with its window of two frames.

    Args:
        frames: float32 ``(N, D)``.
        order: How many derivatives, at least 0.

    Returns:
        float32 ``(N, (order + 1) D)``; at the ends the first or last frame is repeated.

    Example:
        >>> add_deltas(np.arange(5, dtype=np.float32)[:, None], 1)[:, 1].round(3)
        array([0.5, 0.8, 1. , 0.8, 0.5], dtype=float32)
    """
    window = np.arange(-_DELTA_WINDOW, _DELTA_WINDOW + 1)
    step = window / np.square(window).sum()
    kernel, parts = np.ones(1), [frames]
    for _ in range(order):
        kernel = np.convolve(kernel, step)
        reach = len(kernel) // 2
        place = np.clip(np.arange(len(frames))[:, None] + np.arange(-reach, reach + 1), 0, len(frames) - 1)
        parts.append(np.einsum("nwd,w->nd", frames[place], kernel.astype(np.float32)))
    return np.concatenate(parts, axis=1)


def splice(frames: Frames, offsets: tuple[int, ...]) -> Frames:
    """The neighbours of each frame, one after the other: the plain definition, for whole utterances.

    Args:
        frames: float32 ``(N, D)``.
        offsets: Places of the neighbours.

    Returns:
        float32 ``(N, len(offsets), D)``.

    Example:
        >>> splice(np.array([[1.0], [2.0]], np.float32), (-1, 0))[:, :, 0]
        array([[1., 1.],
               [1., 2.]], dtype=float32)
    """
    place = np.arange(len(frames))[:, None] + np.array(offsets)
    spliced: Frames = frames[np.clip(place, 0, len(frames) - 1)]
    return spliced


def divide_transform(transform: Nnet) -> tuple[Nnet | None, Splicing | None]:
    """Divide a feature transform at its splice.

    Args:
        transform: Read from a ``final.feature_transform``.

    Returns:
        What is run on single frames, and the splice with what follows it; None where there is no such part.

    Raises:
        ConfigError: If it splices twice, or goes on after the splice with a component that is not for that.
    """
    parts = transform.components
    places = [place for place, part in enumerate(parts) if isinstance(part, nc.Splice)]
    if not places:
        return transform, None
    if len(places) > 1:
        raise ConfigError("a feature transform with two splices cannot be used for training: make one of them")
    first = places[0]
    strange = [part.tag for part in parts[first + 1 :] if not isinstance(part, _AFTER)]
    if strange:
        raise ConfigError(
            f"a feature transform may go on after its splice with {', '.join(kind.tag for kind in _AFTER)}, "
            f"and this one has <{strange[0]}>"
        )
    spliced = parts[first]
    assert isinstance(spliced, nc.Splice)
    before = Nnet(parts[:first]) if first else None
    after = Nnet(parts[first + 1 :]) if len(parts) > first + 1 else None
    return before, Splicing(tuple(spliced.offsets), after)
