"""The outputs of a network, or of several averaged, for many utterances: what ``nnet-forward`` writes.

Axes: ``N`` frames, ``K`` pdfs.
"""

__all__ = ["Acoustic", "AcousticModel"]

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import ConfigError, DataError, MismatchError
from limbeck.kaldi.convert import read_network
from limbeck.kaldi.decoding.fronts import Front, Members, agreed, members_of, read_front, settled, stored_counts
from limbeck.kaldi.decoding.options import FeatureOptions, OutputOptions
from limbeck.kaldi.experiment import read_experiment
from limbeck.kaldi.formats import nnet1_components as nc
from limbeck.kaldi.formats.nnet1 import Nnet
from limbeck.kaldi.forward import likelihoods, needs_utterances, propagate, read_pdf_counts, without_softmax
from limbeck.kaldi.ivectors import IVectors

Frames = NDArray[np.float32]
_BATCH = 2048  # frames that go through the network together: large enough for the matrix products
_FRONT_NOTE = "how the features are made"


@dataclass(frozen=True, eq=False)
class _Member:
    """A network, with its own neighbours."""

    path: Path
    nnet: Nnet
    front: Front

    def inputs(self, key: str, frames: Frames) -> Frames:
        try:
            spliced = self.front.neighbours(frames)
        except MismatchError as error:
            raise MismatchError(f"{key}: {error} (the feature transform of {self.path})") from error
        if spliced.shape[1] != self.nnet.input_dim:
            raise MismatchError(
                f"{key} has {spliced.shape[1]} features for each frame, and {self.path} has {self.nnet.input_dim} "
                "inputs: a feature transform, deltas or context may be missing"
            )
        return spliced


class Acoustic(Protocol):
    """What gives outputs of utterances, whatever it is made of.

    Attributes:
        path: Where it is.
        front: What is done to single frames.
        outputs: How many outputs there are.
        notes: What was left out or assumed when it was read.
    """

    path: Path
    front: Front
    outputs: int
    notes: tuple[str, ...]

    @property
    def stored_counts(self) -> Path | None:
        """The counts of pdfs beside it, or None."""

    def read_counts(self, path: Path | None) -> Frames | None:
        """Counts of pdfs to take off as priors, or None."""

    def run(self, utterances: Iterable[tuple[str, Frames]]) -> Iterator[tuple[str, Frames]]:
        """The outputs of utterances."""


class AcousticModel:
    """A network with what is done before and after it; or several, whose posteriors are averaged.

    Args:
        paths: The network, in any format; several, or the run of an ensemble, are averaged.
        options: What is done to the outputs.
        features: What is done to features, where a run's folder does not say it or another way is wanted.
        ivectors: I-vectors to append to features, or None.
        activation: For an HDF5 file that does not name its activations.
        mean: How several are averaged; None: as the run of an ensemble says, else arithmetically.
        weights: How much each counts; None for all alike.

    Attributes:
        front: What is done to single frames, for :class:`~limbeck.kaldi.decoding.utterances.Utterances`.
        outputs: How many outputs there are.
        counts: Counts of pdfs, or None.
        notes: What was left out or assumed when networks were read.

    Raises:
        ConfigError: If a mean or weights are given for one network, or not one weight each; or i-vectors are missing.
        MismatchError: If i-vectors have another dimension than those of the training, or several networks do not go
            together.
    """

    def __init__(
        self,
        paths: Path | Sequence[Path],
        options: OutputOptions,
        *,
        features: FeatureOptions | None = None,
        ivectors: IVectors | None = None,
        activation: str | None = None,
        mean: Literal["arithmetic", "geometric"] | None = None,
        weights: Sequence[float] | None = None,
    ) -> None:
        given = [paths] if isinstance(paths, Path) else list(paths)
        found = members_of(given[0]) if len(given) == 1 else Members(tuple(given))
        if len(found.paths) == 1 and (mean is not None or weights is not None):
            raise ConfigError("a mean and weights are for several networks, and there is one")
        self.options, self.path = options, given[0]
        self.mean = mean or found.mean or "arithmetic"
        self.weights = _shares(weights, len(found.paths))
        self._members: list[_Member] = []
        notes: list[str] = []
        for path in found.paths:
            nnet, _, said = read_network(path, activation=activation)
            notes += [note for note in said if not note.startswith(_FRONT_NOTE)]
            front = settled(features or FeatureOptions(), read_front(path))
            self._members.append(_Member(path, nnet, _with_ivectors(front, ivectors, path)))
        self._exp = None if features is None else features.exp
        self.notes = tuple(dict.fromkeys(notes))
        self.outputs = self._members[0].nnet.output_dim
        self._refuse_odd()
        self.front = agreed([(member.path, member.front) for member in self._members])
        self.counts = self.read_counts(options.class_frame_counts)
        self._alone = any(needs_utterances(member.nnet) for member in self._members)

    def _refuse_odd(self) -> None:
        if len(self._members) == 1:
            return
        for member in self._members:
            if member.nnet.output_dim != self.outputs:
                raise MismatchError(
                    f"{member.path} has {member.nnet.output_dim} outputs, and {self._members[0].path} {self.outputs}: "
                    "networks of other pdfs cannot be averaged"
                )
            if isinstance(member.nnet.components[-1], nc.BlockSoftmax):
                raise MismatchError(f"{member.path} has several softmaxes side by side, and cannot be averaged")

    @property
    def stored_counts(self) -> Path | None:
        """The counts of pdfs that training left beside the first network, or in Kaldi's experiment; or None."""
        if self._exp is not None:
            return read_experiment(self._exp).class_frame_counts
        return stored_counts(self._members[0].path)

    def read_counts(self, path: Path | None) -> Frames | None:
        """Read counts of pdfs, one for each output.

        Args:
            path: The file, or None.

        Returns:
            Counts ``(K,)``, or None.

        Raises:
            MismatchError: If they are of another number of pdfs.
        """
        if path is None:
            return None
        counts = read_pdf_counts(path)
        if counts.size != self.outputs:
            raise MismatchError(
                f"{path} holds counts of {counts.size} pdfs, and {self.path} has {self.outputs} outputs"
            )
        return counts

    def run(self, utterances: Iterable[tuple[str, Frames]]) -> Iterator[tuple[str, Frames]]:
        """The outputs of utterances, several of which go through a network together.

        Args:
            utterances: Keys and frames ``(N, D)``, after CMVN and deltas.

        Yields:
            The key and its outputs, ``(N, K)``.

        Raises:
            MismatchError: If the frames have another dimension than the network's inputs.
            DataError: If an output is NaN or infinite.
        """  # noqa: DOC502
        held: list[tuple[str, Frames]] = []
        size = 0
        for key, frames in utterances:
            held.append((key, frames))
            size += len(frames)
            if size >= _BATCH or self._alone:
                yield from self._together(held)
                held, size = [], 0
        yield from self._together(held)

    def _together(self, held: list[tuple[str, Frames]]) -> Iterator[tuple[str, Frames]]:
        if not held:
            return
        # What overflows is told below, with its place, and not by a warning of numpy's.
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            outputs = self._outputs(held)
        ends = np.cumsum([len(frames) for _, frames in held])
        for (key, frames), end in zip(held, ends.tolist(), strict=True):
            found = outputs[end - len(frames) : end]
            if not np.isfinite(found).all():
                row, column = np.argwhere(~np.isfinite(found))[0].tolist()
                raise DataError(
                    f"{key}: output {column} of {self.path} is {found[row, column]} in frame {row}: features, weights "
                    "or a scale are too large for float32"
                )
            yield key, found

    def _outputs(self, held: list[tuple[str, Frames]]) -> Frames:
        options = self.options
        joined = [np.concatenate([member.inputs(key, frames) for key, frames in held]) for member in self._members]
        if len(self._members) == 1:
            nnet = self._members[0].nnet
            values = propagate(without_softmax(nnet) if options.no_softmax else nnet, joined[0])
        else:
            values = self._averaged(joined)
            values = values if options.no_softmax else np.exp(values)
        return likelihoods(
            values,
            apply_log=options.apply_log,
            counts=self.counts,
            prior_scale=options.prior_scale,
            prior_floor=options.prior_floor,
        )

    def _averaged(self, joined: list[Frames]) -> Frames:
        """Logarithms of the averaged posteriors, ``(N, K)``; one matrix a network is not kept."""
        total: NDArray[np.float64] | None = None
        for member, weight, inputs in zip(self._members, self.weights, joined, strict=True):
            if weight == 0:
                continue  # 0 * -inf is NaN
            logs = _log_softmax(propagate(without_softmax(member.nnet), inputs))
            if self.mean == "geometric":
                total = weight * logs if total is None else total + weight * logs
            else:
                shifted = logs + math.log(weight)
                total = shifted if total is None else np.logaddexp(total, shifted)
        assert total is not None, "weights are not all 0"
        return (_log_softmax(total) if self.mean == "geometric" else total).astype(np.float32)


def _with_ivectors(front: Front, ivectors: IVectors | None, path: Path) -> Front:
    if ivectors is None:
        if front.ivector_dim:
            raise ConfigError(
                f"{path} was trained with i-vectors of {front.ivector_dim} values: give --ivectors or --online-ivectors"
            )
        return front
    if front.ivector_dim not in (0, ivectors.dim):
        raise MismatchError(
            f"{ivectors.name} has i-vectors of {ivectors.dim} values, and {path} was trained with {front.ivector_dim}"
        )
    return replace(front, ivector_dim=ivectors.dim, ivectors=ivectors)


def _shares(weights: Sequence[float] | None, count: int) -> tuple[float, ...]:
    """Weights that sum to 1."""
    given = [1.0] * count if weights is None else [float(weight) for weight in weights]
    if len(given) != count:
        raise ConfigError(f"there are {count} networks and {len(given)} weights: give one each")
    if not all(0 <= weight < math.inf for weight in given) or sum(given) == 0:
        raise ConfigError(f"weights must be finite, at least 0 and not all 0, and are {given}")
    return tuple(weight / sum(given) for weight in given)


def _log_softmax(scores: NDArray[np.float32] | NDArray[np.float64]) -> NDArray[np.float64]:
    shifted = scores.astype(np.float64)
    shifted -= shifted.max(-1, keepdims=True)
    shifted -= np.log(np.exp(shifted).sum(-1, keepdims=True))
    return shifted
