"""A network's outputs for many utterances: what ``nnet-forward`` writes.

Axes: ``N`` frames, ``K`` pdfs.
"""

__all__ = ["AcousticModel"]

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from limbeck.convert import read_network
from limbeck.decoding.options import OutputOptions
from limbeck.errors import MismatchError
from limbeck.formats import nnet1_components as nc
from limbeck.nnet1_forward import forward, read_pdf_counts

Frames = NDArray[np.float32]
_BATCH = 2048  # frames that go through the network together: large enough for the matrix products


class AcousticModel:
    """A network with what is done to its outputs.

    Args:
        path: The network, in any format.
        options: What is done to its outputs.
        activation: For an HDF5 file that does not name its activations.

    Attributes:
        nnet: The network.
        counts: Counts of pdfs, or None.
        notes: What was left out or assumed when the network was read.

    """

    def __init__(self, path: Path, options: OutputOptions, *, activation: str | None = None) -> None:
        self.path, self.options = path, options
        self.nnet, _, self.notes = read_network(path, activation=activation)
        self.counts = self.read_counts(options.class_frame_counts)
        self._alone = any(isinstance(part, nc.Splice) for part in self.nnet.components)

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
        if counts.size != self.nnet.output_dim:
            raise MismatchError(
                f"{path} holds counts of {counts.size} pdfs, and {self.path} has {self.nnet.output_dim} outputs"
            )
        return counts

    def __call__(self, frames: Frames) -> Frames:
        """The outputs of frames ``(N, D)``, ``(N, K)``."""
        options = self.options
        return forward(
            self.nnet,
            frames,
            no_softmax=options.no_softmax,
            apply_log=options.apply_log,
            counts=self.counts,
            prior_scale=options.prior_scale,
            prior_floor=options.prior_floor,
        )

    def run(self, utterances: Iterable[tuple[str, Frames]]) -> Iterator[tuple[str, Frames]]:
        """The outputs of utterances, several of which go through the network together.

        Args:
            utterances: Keys and frames ``(N, D)``.

        Yields:
            The key and its outputs, ``(N, K)``.

        Raises:
            MismatchError: If the frames have another dimension than the network's inputs.
        """
        held: list[tuple[str, Frames]] = []
        size = 0
        for key, frames in utterances:
            if frames.shape[1] != self.nnet.input_dim:
                raise MismatchError(
                    f"{key} has {frames.shape[1]} features for each frame, and {self.path} has {self.nnet.input_dim} "
                    "inputs: a feature transform, deltas or context may be missing"
                )
            held.append((key, frames))
            size += len(frames)
            if size >= _BATCH or self._alone:
                yield from self._together(held)
                held, size = [], 0
        yield from self._together(held)

    def _together(self, held: list[tuple[str, Frames]]) -> Iterator[tuple[str, Frames]]:
        if not held:
            return
        outputs = self(np.concatenate([frames for _, frames in held]))
        ends = np.cumsum([len(frames) for _, frames in held])
        for (key, frames), end in zip(held, ends.tolist(), strict=True):
            yield key, outputs[end - len(frames) : end]
