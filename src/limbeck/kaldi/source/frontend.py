"""From the features in an archive to what a network sees: CMVN, deltas, a feature transform, neighbours.

All of it is numpy on one utterance at a time, in the order of Kaldi's pipes: ``apply-cmvn``, ``add-deltas``,
``nnet-forward`` of the feature transform. What depends on one frame alone is done when an utterance is read; the
neighbours are put together later, in batches, where the training is (:mod:`limbeck.kaldi.source.frames`).

Axes: ``N`` frames of one utterance, ``D`` features.
"""

__all__ = ["FrontEnd", "Splicing", "divide_transform", "splice"]

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import ConfigError, MismatchError
from limbeck.kaldi.formats import nnet1_components as nc
from limbeck.kaldi.formats.cmvn import add_deltas, apply_cmvn
from limbeck.kaldi.formats.nnet1 import Nnet
from limbeck.kaldi.forward import propagate

Frames = NDArray[np.float32]
Statistics = NDArray[np.float64]

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
        frames = raw if statistics is None else apply_cmvn(raw, statistics, variance=self.norm_vars)
        frames = add_deltas(frames, order=self.deltas) if self.deltas else frames
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
