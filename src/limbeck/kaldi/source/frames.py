"""Frames of a directory, checked and prepared, as examples; in memory, or read again each epoch."""

__all__ = ["Progress", "open_frames"]

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from limbeck.data.examples import Examples
from limbeck.errors import DataError, MismatchError
from limbeck.kaldi.formats.cmvn import accumulate_cmvn
from limbeck.kaldi.formats.scp import read_entries
from limbeck.kaldi.ivectors import IVectors
from limbeck.kaldi.source.alignments import Alignment, Match, match_frames, refuse_too_many
from limbeck.kaldi.source.directory import KaldiDirectory
from limbeck.kaldi.source.frontend import FrontEnd
from limbeck.kaldi.source.spliced import Spliced
from limbeck.kaldi.source.store import FrameStore, checked_frames

Progress = Callable[[int, int], None]


def open_frames(
    directory: KaldiDirectory,
    front: FrontEnd,
    *,
    labels: Alignment | None = None,
    ivectors: IVectors | None = None,
    most_left_out: float = 1.0,
    in_memory_bytes: float = 4 * 2**30,
    progress: Progress | None = None,
) -> tuple[Examples, Match | None]:
    """Read a directory once: check all of it, and keep it in memory if there is room.

    Args:
        directory: The features.
        front: How inputs are made.
        labels: Labels; without them all utterances are taken.
        ivectors: I-vectors, where the front end appends them.
        most_left_out: Largest share of utterances whose labels may be missing or of another number.
        in_memory_bytes: Features up to this size stay in memory; larger ones are read again each epoch.
        progress: Called with utterances read and all.

    Returns:
        The examples, and which utterances were taken where there are labels.

    Raises:
        FormatError: If an archive is damaged, or an utterance cannot be used.
        MismatchError: If too many utterances are left out, or i-vectors are missing or of another dimension.
    """
    held_dim = 0 if ivectors is None else ivectors.dim
    if held_dim != front.ivector_dim:
        cure = "give --ivectors, --validation-ivectors and --test-ivectors for what is read" if not held_dim else (
            "they must be those of the training")  # fmt: skip
        raise MismatchError(
            f"i-vectors of {held_dim} values for {directory.path}, and the training data have {front.ivector_dim}: "
            f"{cure}"
        )
    keys = [entry.key for entry in directory.entries]
    wanted = [n for n, key in enumerate(keys) if labels is None or key in labels.pdfs]
    if not wanted:
        raise MismatchError(f"no utterance of {directory.path} has labels: do alignments and features belong together?")
    read = _Reader(directory, front, ivectors)
    lengths: list[int | None] = [None] * len(keys)
    digests: dict[int, bytes] = {}
    held: dict[int, NDArray[np.float32]] | None = {}
    size, features = 0, 0
    for done, (number, matrix) in enumerate(read(wanted), 1):
        lengths[number], features = len(matrix), matrix.shape[1]
        digests[number] = hashlib.blake2b(matrix.tobytes(), digest_size=16).digest()
        if labels is None or len(labels.pdfs[keys[number]]) == len(matrix):
            size += matrix.nbytes
            if held is not None and size > in_memory_bytes:
                held = None
            if held is not None:
                held[number] = matrix
        if progress is not None:
            progress(done, len(wanted))
    match = None if labels is None else match_frames(keys, lengths, labels.pdfs)
    if match is not None:
        refuse_too_many(match, str(directory.path), most_left_out)
    kept = list(range(len(keys))) if match is None else list(match.kept)

    sizes = [length for length in (lengths[n] for n in kept) if length is not None]
    store = FrameStore(
        torch.tensor(sizes),
        features,
        _Again(read, kept, sizes, features),
        None if held is None else _joined(held, kept, features),
        ivector=front.splicing.ivector,
    )
    inputs = Spliced(
        store,
        torch.arange(len(kept)),
        front.splicing,
        front.every,
        [keys[n] for n in kept],
        [directory.speakers[n] for n in kept],
        [digests[n] for n in kept],
        json.dumps({"every": front.every}),
    )
    targets = None
    if labels is not None:
        targets = torch.from_numpy(np.concatenate([labels.pdfs[keys[n]][:: front.every] for n in kept]))
    return Examples(inputs, targets, torch.arange(len(inputs), dtype=torch.int32)), match


@dataclass(frozen=True, eq=False)
class _Reader:
    """Reads, checks and prepares utterances, in the order in which they lie on the disk."""

    directory: KaldiDirectory
    front: FrontEnd
    ivectors: IVectors | None = None

    def __call__(self, numbers: Iterable[int]) -> Iterator[tuple[int, NDArray[np.float32]]]:
        directory, front = self.directory, self.front
        ordered = sorted(numbers, key=lambda n: (directory.entries[n].source, directory.entries[n].offset or 0))
        statistics = directory.statistics(ordered, front.cmvn)
        entries = [directory.entries[n] for n in ordered]
        raw = checked_frames(entries, read_entries(entries, allow_pipes=directory.allow_pipes))
        for number, entry, matrix in zip(ordered, entries, raw, strict=True):
            given = statistics.get(entry.key)
            if given is None and front.cmvn == "utterance":
                given = accumulate_cmvn(matrix)
            try:
                beside = None if self.ivectors is None else self.ivectors.frames(entry.key, len(matrix))
                yield number, front.prepare(matrix, given, beside)
            except DataError as error:
                raise type(error)(f"{entry.source}: utterance {entry.key}: {error}") from error


@dataclass(frozen=True, eq=False)
class _Again:
    """Reads utterances once more, which must be as they were; their numbers are those among the kept."""

    read: _Reader
    kept: list[int]
    lengths: list[int]
    features: int

    def __call__(self, numbers: Sequence[int]) -> Iterator[tuple[int, NDArray[np.float32]]]:
        place = {self.kept[number]: number for number in numbers}
        for number, matrix in self.read(place):
            if matrix.shape != (self.lengths[place[number]], self.features):
                directory = self.read.directory
                key = directory.entries[number].key
                raise DataError(f"{key} in {directory.path} changed since training began: start anew")
            yield place[number], matrix


def _joined(matrices: dict[int, NDArray[np.float32]], order: Sequence[int], features: int) -> torch.Tensor:
    """All matrices as one, each forgotten once it is copied."""
    frames = torch.empty(sum(len(matrices[number]) for number in order), features)
    held, begin = frames.numpy(), 0
    for number in order:
        matrix = matrices.pop(number)
        held[begin : begin + len(matrix)] = matrix
        begin += len(matrix)
    return frames
