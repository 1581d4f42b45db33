"""The front end: CMVN, deltas, a feature transform, and spliced context.

All of it is numpy on one utterance at a time, in the order of Kaldi's pipes: ``apply-cmvn``, ``add-deltas``,
``nnet-forward`` of the feature transform. What depends on one frame alone is done when an utterance is read; the
neighbours are put together later, in batches, where the training is (:mod:`limbeck.kaldi.source.frames`).

Axes: ``N`` frames of one utterance, ``D`` features.
"""

__all__ = ["KEY", "FrontEnd", "Splicing", "divide_transform", "read_front_end", "splice"]

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import ConfigError, FormatError, MismatchError
from limbeck.kaldi.formats import nnet1_components as nc
from limbeck.kaldi.formats.cmvn import add_deltas, apply_cmvn
from limbeck.kaldi.formats.nnet1 import Nnet, read_nnet, write_nnet
from limbeck.kaldi.forward import propagate
from limbeck.kaldi.options import SpeechOptions, is_kaldi
from limbeck.kaldi.source.alignments import write_pdf_counts
from limbeck.kaldi.transforms import ivector_beside
from limbeck.options import DataOptions
from limbeck.system.checksums import check_file

if TYPE_CHECKING:
    from limbeck.data.examples import Examples

Frames = NDArray[np.float32]
Statistics = NDArray[np.float64]

KEY = "front_end"
"""In the ``config.json`` of a model: how its inputs are made."""
_TRANSFORM, _COUNTS = SpeechOptions.kept_files

_AFTER = (nc.AddShift, nc.Rescale, nc.Copy, nc.AffineTransform, nc.LinearTransform)


@dataclass(frozen=True, eq=False)
class Splicing:
    """Which neighbours a network sees beside a frame, and what is done to them together.

    Attributes:
        offsets: Places of the neighbours, such as -1, 0, 1. Beyond the ends of an utterance its first or last frame
            is repeated.
        after: What follows the splice in a feature transform, or None.
        ivector: Values of the frame's i-vector that are put beside all that, as they are; 0 for none.
    """

    offsets: tuple[int, ...]
    after: Nnet | None = None
    ivector: int = 0

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Splicing):
            return NotImplemented
        mine, theirs = ((() if s.after is None else s.after.components) for s in (self, other))
        return self.offsets == other.offsets and mine == theirs and self.ivector == other.ivector

    def __hash__(self) -> int:
        return hash(self.offsets)

    def shape(self, features: int) -> tuple[int, ...]:
        """Shape of one example: frames and features; or flat, where a transform or an i-vector is part of it."""
        if self.after is None and not self.ivector:
            return len(self.offsets), features
        flat = len(self.offsets) * features if self.after is None else self.after.output_dim
        return (flat + self.ivector,)


@dataclass(frozen=True, eq=False)
class FrontEnd:
    """How the inputs of an acoustic model are made: what a model of speech keeps beside its weights.

    It is a :class:`limbeck.data.registry.Reading`.

    Attributes:
        splicing: The neighbours.
        cmvn: Whose mean is taken off: "none", "speaker" or "utterance".
        norm_vars: Whether the variance is made 1 as well.
        deltas: Order of the time derivatives that are put beside the features; 0 for none.
        delta_window: Frames to each side that one time derivative looks at.
        ivector_dim: Values of the i-vectors that are appended to the features; 0 for none.
        every: Every how many frames there is an example; context comes from all frames.
        before: The part of a feature transform before its splice, run on each frame, or None.
        transform: The whole feature transform, as it was read, or None.
    """

    splicing: Splicing
    cmvn: Literal["none", "speaker", "utterance"] = "none"
    norm_vars: bool = False
    deltas: int = 0
    delta_window: int = 2
    ivector_dim: int = 0
    every: int = 1
    before: Nnet | None = None
    transform: Nnet | None = None

    def prepare(self, raw: Frames, statistics: Statistics | None, ivectors: Frames | None = None) -> Frames:
        """Do all that is done to single frames.

        Args:
            raw: Features as in the archive, float32 ``(N, D)``.
            statistics: CMVN statistics ``(2, D + 1)``, where ``cmvn`` is not "none".
            ivectors: The i-vector of each frame, ``(N, E)``, where there are any.

        Returns:
            float32 ``(N, D')``, the i-vectors at the end.

        Raises:
            MismatchError: If the statistics or the feature transform are for other features.
        """
        frames = raw if statistics is None else apply_cmvn(raw, statistics, variance=self.norm_vars)
        frames = add_deltas(frames, order=self.deltas, window=self.delta_window) if self.deltas else frames
        width = frames.shape[1] + self.ivector_dim
        if self.transform is not None and self.transform.input_dim != width:
            raise MismatchError(f"{width} features for a feature transform of {self.transform.input_dim} inputs")
        beside = [] if ivectors is None else [ivectors]
        if not self.splicing.ivector:
            frames, beside = np.concatenate([frames, *beside], axis=1), []
        frames = frames if self.before is None else propagate(self.before, frames)
        return np.concatenate([frames, *beside], axis=1) if beside else frames

    def to_dict(self) -> dict[str, Any]:
        """Plain values for ``config.json``; a feature transform is kept in a file of its own beside it."""
        rare = {"delta_window": (self.delta_window, 2), "ivector_dim": (self.ivector_dim, 0)}
        return {
            "offsets": list(self.splicing.offsets),
            "cmvn": self.cmvn,
            "norm_vars": self.norm_vars,
            "deltas": self.deltas,
            "every": self.every,
            "feature_transform": self.transform is not None,
            **{name: value for name, (value, usual) in rare.items() if value != usual},
        }

    @property
    def key(self) -> str:
        """Where it is in the ``config.json`` of a model."""
        return KEY

    @property
    def presentation(self) -> Splicing:
        """How a model sees a frame: with which neighbours."""
        return self.splicing

    def write(self, folder: Path) -> dict[str, Any]:
        """Write the feature transform, where there is one, and return the rest.

        Args:
            folder: Of the model.

        Returns:
            Plain values for its ``config.json``.
        """
        if self.transform is not None:
            write_nnet(folder / _TRANSFORM, self.transform)
        return self.to_dict()

    def write_training(self, folder: Path, examples: "Examples", classes: int) -> None:
        """Write how many training frames each pdf has, for scaled likelihoods.

        Args:
            folder: Of the model.
            examples: With labels.
            classes: How many pdfs there are.
        """
        write_pdf_counts(folder / _COUNTS, examples.class_counts(classes))

    def seen_in(self, other: object, role: str, name: str) -> Splicing | None:
        """The neighbours that a model of this front end sees in data that were read with another.

        Args:
            other: How the data were read, or None.
            role: What to call the model.
            name: What the data are called.

        Returns:
            The neighbours, or None where they are the same.

        Raises:
            MismatchError: If more than the neighbours differs.
        """
        if not isinstance(other, FrontEnd):
            raise MismatchError(f"the {role} was trained on speech, and {name} is none: give a Kaldi directory")
        if not self.agrees_in_frames(other):
            if self.ivector_dim != other.ivector_dim:
                cure = "leave --ivectors out" if other.ivector_dim else "give --ivectors"
                raise MismatchError(
                    f"the {role} was trained with i-vectors of {self.ivector_dim} values, and {name} is read with "
                    f"{other.ivector_dim}: {cure}"
                )
            theirs, ours = ({**front.to_dict(), "delta_window": front.delta_window} for front in (self, other))
            names = ("cmvn", "norm_vars", "deltas", "delta_window", "feature_transform")
            odd = next((field for field in names if theirs[field] != ours[field]), "feature_transform")
            raise MismatchError(
                f"the {role} was trained with {odd} = {theirs[odd]}, and {name} is read with {ours[odd]}"
                + (": the transforms differ" if theirs[odd] == ours[odd] else "")
            )
        return None if self.splicing == other.splicing else self.splicing

    def fill_in(self, options: DataOptions, *, context: bool) -> DataOptions:
        """Fill in what this says of the inputs, and the options leave open.

        Args:
            options: What was asked for.
            context: Whether the context is wanted too; a student may have another than its teacher.

        Returns:
            The options; as they were where the data are no speech.
        """
        if not isinstance(options, SpeechOptions) or not is_kaldi(options.data):
            return options
        fresh = SpeechOptions()
        found: dict[str, Any] = {
            name: getattr(self, name)
            for name in ("cmvn", "norm_vars", "deltas", "delta_window")
            if options.exp is None and getattr(options, name) == getattr(fresh, name)
        }
        offsets = self.splicing.offsets
        plain = (
            (self.transform is None or self.plain_ivector)
            and options.exp is None
            and offsets == tuple(range(offsets[0], offsets[-1] + 1))
        )
        if context and plain and options.feature_transform is None and (options.left, options.right) == (None, None):
            found |= {"left": -offsets[0], "right": offsets[-1]}
        return dataclasses.replace(options, **found)

    def illustrate(
        self, config: Mapping[str, Any], examples: "Examples", ask: Callable[["Examples"], Iterator[tuple[str, Any]]]
    ) -> tuple[tuple[Any, ...] | None, list[str]]:
        """One utterance, and what models take each frame of it for.

        Args:
            config: Settings of a run.
            examples: The part that it was evaluated on.
            ask: Gives each model's role and log-probabilities of some examples.

        Returns:
            What :func:`limbeck.kaldi.source.phones.heard` does.
        """
        from limbeck.kaldi.source.phones import heard

        return heard(config, examples, ask)

    @property
    def plain_ivector(self) -> bool:
        """Whether the feature transform is a splice with an i-vector beside it, and nothing more."""
        return bool(self.splicing.ivector) and self.before is None and self.splicing.after is None

    def agrees_in_frames(self, other: "FrontEnd") -> bool:
        """Whether single frames are the same with both, so that one reading of the data serves both."""
        settings = [
            (front.cmvn, front.norm_vars, front.deltas, front.delta_window, front.ivector_dim, front.splicing.ivector)
            for front in (self, other)
        ]
        befores = [() if front.before is None else front.before.components for front in (self, other)]
        return settings[0] == settings[1] and befores[0] == befores[1]


def read_front_end(folder: Path, described: Any) -> FrontEnd:
    """The front end that a model keeps.

    Args:
        folder: Of the model, where a feature transform is.
        described: What its ``config.json`` holds under :data:`KEY`.

    Returns:
        The front end.

    Raises:
        FormatError: If the description is damaged.
    """
    try:
        given = dict(described)
        offsets = tuple(int(offset) for offset in given.pop("offsets"))
        check_file(folder / _TRANSFORM)
        transform = read_nnet(folder / _TRANSFORM) if given.pop("feature_transform") else None
        before, splicing = (None, None) if transform is None else divide_transform(transform)
        return FrontEnd(splicing or Splicing(offsets), before=before, transform=transform, **given)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FormatError(folder / "config.json", f"describes a front end that cannot be used: {error}") from error


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
    features, ivector = ivector_beside(transform)
    if ivector:
        before, splicing = divide_transform(features)
        return before, dataclasses.replace(splicing or Splicing((0,)), ivector=ivector)
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
