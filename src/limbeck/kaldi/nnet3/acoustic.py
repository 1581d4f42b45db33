"""The outputs of an nnet3 network for many utterances: what ``nnet3-compute`` writes.

Axes: ``N`` frames, ``E`` values of an i-vector, ``K`` outputs.
"""

__all__ = ["Nnet3Acoustic"]

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import ConfigError, DataError, MismatchError
from limbeck.kaldi.decoding.fronts import Front, completed, settled
from limbeck.kaldi.decoding.options import FeatureOptions
from limbeck.kaldi.experiment import read_experiment
from limbeck.kaldi.forward import read_pdf_counts
from limbeck.kaldi.ivectors import IVectors
from limbeck.kaldi.nnet3.computing import Computer
from limbeck.kaldi.nnet3.model import read_nnet3
from limbeck.kaldi.nnet3.module import Nnet3Module
from limbeck.kaldi.nnet3.options import Nnet3Options

Frames = NDArray[np.float32]


class Nnet3Acoustic:
    """An nnet3 network with its i-vectors, and what is done to its outputs.

    Args:
        path: A raw network or a ``final.mdl``.
        options: How it is run.
        features: What is done to features before it.

    Attributes:
        front: What is done to single frames, for :class:`~limbeck.kaldi.decoding.utterances.Utterances`.
        outputs: How many outputs there are.
        notes: Nothing; as of other networks.

    Raises:
        ConfigError: If flags do not go together.
        MismatchError: If i-vectors or priors are of other dimensions.
    """

    notes: tuple[str, ...] = ()

    def __init__(self, path: Path, options: Nnet3Options, features: FeatureOptions) -> None:
        if features.exp is not None:
            every = read_experiment(features.exp, nnet3=True).frame_subsampling_factor
            if every != options.frame_subsampling_factor:
                raise ConfigError(
                    f"{features.exp} has frame_subsampling_factor {every}, and {options.frame_subsampling_factor} is "
                    f"asked for: give --frame-subsampling-factor {every}"
                )
            features = completed(features, nnet3=True)
        for name in ("left_context", "right_context", "feature_transform"):
            if getattr(features, name) is not None:
                raise ConfigError(f"{name} is for networks of nnet1: {path} is of nnet3, and sees its own context")
        self.path, self.options = path, options
        model = read_nnet3(path)
        self.module = Nnet3Module(model.nnet, output=options.output_node)
        self.outputs = self.module.outputs
        self.front: Front = settled(features, None)
        self._given = model.priors
        self._log_priors = self._priors(model.priors) if options.use_priors else None
        self._ivectors = self._find_ivectors(features)
        self._compute = Computer(self.module, options)

    def _priors(self, priors: Frames | None) -> Frames:
        if priors is None or not priors.size:
            raise ConfigError(f"use_priors is set, and {self.path} has no priors")
        if priors.size != self.outputs:
            raise MismatchError(f"{self.path} has priors of {priors.size} pdfs and {self.outputs} outputs")
        if not (priors > 0).all():
            raise DataError(f"{self.path} has priors that are not positive")
        return np.log(priors)

    @property
    def stored_counts(self) -> Path | None:
        """Nothing: the priors are in the model itself."""
        return None

    def read_counts(self, path: Path | None) -> Frames | None:
        """What to take off as priors when words are looked for: counts, or the model's own as Kaldi's decoders do.

        Args:
            path: Counts of pdfs, or None for the model's.

        Returns:
            Counts, or priors, ``(K,)``; None where there are none, as in a chain model.

        Raises:
            MismatchError: If they are of another number of pdfs.
        """
        counts = self._given if path is None else read_pdf_counts(path)
        if counts is None or not counts.size:
            return None
        if counts.size != self.outputs:
            raise MismatchError(f"{path or self.path} has priors of {counts.size} pdfs and {self.outputs} outputs")
        return counts

    def _find_ivectors(self, features: FeatureOptions) -> IVectors | None:
        options = self.options
        given = options.ivectors or options.online_ivectors
        if not self.module.ivector_dim:
            if given:
                raise ConfigError(f"i-vectors are given, and {self.path} does not read any: leave them out")
            return None
        if not given:
            raise ConfigError(
                f"{self.path} reads i-vectors of {self.module.ivector_dim} values: give --ivectors or --online-ivectors"
            )
        return options.read_ivectors(features)

    def run(self, utterances: Iterable[tuple[str, Frames]]) -> Iterator[tuple[str, Frames]]:
        """The outputs of utterances.

        Args:
            utterances: Keys and frames ``(N, D)``, after CMVN and deltas.

        Yields:
            The key and its outputs, ``(ceil(N / frame_subsampling_factor), K)``.

        Raises:
            MismatchError: If the frames have another dimension than the network's inputs.
            DataError: If an output is NaN or infinite.
        """
        options = self.options
        for key, frames in utterances:
            ivector = None if self._ivectors is None else self._ivectors.of(key)
            try:
                values = self._compute(frames, ivector, online=options.online_ivectors is not None)
            except MismatchError as error:
                raise MismatchError(f"{key}: {error} ({self.path})") from error
            if self._log_priors is not None:
                values = values - self._log_priors
            values = values * np.float32(options.acoustic_scale)
            with np.errstate(over="ignore"):
                values = np.exp(values) if options.apply_exp else values
            if not np.isfinite(values).all():
                row, column = np.argwhere(~np.isfinite(values))[0].tolist()
                raise DataError(
                    f"{key}: output {column} of {self.path} is {values[row, column]} in row {row}: features, weights "
                    "or a scale are too large for float32"
                )
            yield key, values
