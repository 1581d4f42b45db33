"""Kaldi directories as a data set: features, alignments, and how they are put together."""

__all__ = ["front_end", "judged_alone", "open_frames", "open_speech", "open_transfer", "with_context"]

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from limbeck.data.data_set import DataSet
from limbeck.data.examples import Examples
from limbeck.errors import ConfigError, DataError, MismatchError
from limbeck.kaldi.formats.cmvn import accumulate_cmvn
from limbeck.kaldi.formats.nnet1 import read_nnet
from limbeck.kaldi.formats.scp import read_entries
from limbeck.kaldi.options import SpeechOptions
from limbeck.kaldi.source.alignments import Alignment, Match, match_frames, read_labels, refuse_too_many
from limbeck.kaldi.source.directory import KaldiDirectory, open_directory
from limbeck.kaldi.source.frontend import FrontEnd, Splicing, divide_transform
from limbeck.kaldi.source.spliced import Spliced
from limbeck.kaldi.source.store import FrameStore, checked_frames

CONTEXT = 5
"""Neighbours on each side where nothing says otherwise."""

Progress = Callable[[int, int], None]


def front_end(options: SpeechOptions, directory: KaldiDirectory) -> FrontEnd:
    """Settle how inputs are made.

    Args:
        options: What was asked for.
        directory: The training data, which decide whether there is CMVN where nobody says.

    Returns:
        The front end.

    Raises:
        ConfigError: If a context is given and the feature transform has one too.
    """
    transform = None if options.feature_transform is None else read_nnet(options.feature_transform)
    before, splicing = (None, None) if transform is None else divide_transform(transform)
    if splicing is not None and (options.left, options.right) != (None, None):
        raise ConfigError("the feature transform has a splice of its own: leave --left and --right out")
    if splicing is None:
        left = CONTEXT if options.left is None else options.left
        right = CONTEXT if options.right is None else options.right
        splicing = Splicing(tuple(range(-left, right + 1)))
    whose = options.cmvn
    if whose == "auto":
        whose = "speaker" if directory.cmvn else "none"
    if whose == "none" and options.norm_vars:
        raise ConfigError("norm_vars is part of CMVN, and there is none: use --cmvn speaker or --cmvn utterance")
    return FrontEnd(splicing, whose, options.norm_vars, options.deltas, options.every, before, transform)


def open_frames(
    directory: KaldiDirectory,
    front: FrontEnd,
    *,
    labels: Alignment | None = None,
    most_left_out: float = 1.0,
    in_memory_bytes: float = 4 * 2**30,
    progress: Progress | None = None,
) -> tuple[Examples, Match | None]:
    """Read a directory once: check all of it, and keep it in memory if there is room.

    Args:
        directory: The features.
        front: How inputs are made.
        labels: Labels; without them all utterances are taken.
        most_left_out: Largest share of utterances whose labels may be missing or of another number.
        in_memory_bytes: Features up to this size stay in memory; larger ones are read again each epoch.
        progress: Called with utterances read and all.

    Returns:
        The examples, and which utterances were taken where there are labels.

    Raises:
        FormatError: If an archive is damaged, or an utterance cannot be used.
        MismatchError: If too many utterances are left out.
    """
    keys = [entry.key for entry in directory.entries]
    wanted = [n for n, key in enumerate(keys) if labels is None or key in labels.pdfs]
    if not wanted:
        raise MismatchError(f"no utterance of {directory.path} has labels: do alignments and features belong together?")
    read = _Reader(directory, front)
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


def open_speech(options: SpeechOptions, *, progress: Progress | None = None) -> DataSet:
    """Open the Kaldi directories that options name.

    Without validation data, whole speakers are set aside by :func:`~limbeck.data.cut_validation`.

    Args:
        options: The directories, and how inputs are made.
        progress: Called with utterances read and all, for each directory anew.

    Returns:
        The data set; its classes are the pdfs, named by their numbers.

    Raises:
        ConfigError: If options contradict each other or the alignments are missing.
        FormatError: If a file is missing, damaged, or cannot be used.
        MismatchError: If things do not belong together.
    """
    if options.ali is None:
        raise ConfigError(f"{options.data} is a Kaldi directory, and its labels are needed: give --ali ALI_DIR")
    directory = open_directory(options.data, allow_pipes=options.allow_pipes)
    front = front_end(options, directory)
    labels = read_labels(options.ali, transition_model=options.mdl)
    notes: list[str] = []
    parts: dict[str, Examples] = {}
    for part, (data, ali) in {
        "train": (options.data, options.ali),
        "validation": (options.validation_data, options.validation_ali),
        "test": (options.test_data, options.test_ali),
    }.items():
        if (data is None) != (ali is None):
            raise ConfigError(f"--{part}-data and --{part}-ali belong together: give both, or neither")
        if data is None or ali is None:
            continue
        here = directory if part == "train" else open_directory(data, allow_pipes=options.allow_pipes)
        own = labels if part == "train" else read_labels(ali, transitions=labels.transitions)
        if own.pdf_count != labels.pdf_count:
            raise MismatchError(
                f"{ali} was made with a model of {own.pdf_count} pdfs, and {options.ali} with one of {labels.pdf_count}"
            )
        examples, match = open_frames(
            here,
            front,
            labels=own,
            most_left_out=options.most_left_out,
            in_memory_bytes=options.in_memory_gb * 1e9,
            progress=progress,
        )
        parts[part] = examples
        if match is not None and (said := match.sentence(str(data))):
            notes.append(said)
    return DataSet(
        Path(options.data).name,
        tuple(str(pdf) for pdf in range(labels.pdf_count)),
        parts["train"],
        parts.get("test"),
        parts.get("validation"),
        every_class=False,
        reading=front,
        notes=tuple(notes),
    )


def open_transfer(path: Path, front: FrontEnd, options: SpeechOptions) -> Examples:
    """Features whose labels are not wanted.

    Args:
        path: A data directory.
        front: How inputs are made.
        options: Whether pipes are allowed, and how much is kept in memory.

    Returns:
        The examples, without labels.
    """
    directory = open_directory(path, allow_pipes=options.allow_pipes)
    examples, _ = open_frames(directory, front, in_memory_bytes=options.in_memory_gb * 1e9)
    return examples


def with_context(data: DataSet, options: SpeechOptions) -> DataSet:
    """The same frames with the context that other options name; nothing is read again.

    Args:
        data: Speech.
        options: Differing in ``left`` and ``right`` alone.

    Returns:
        The data set.
    """
    front = data.reading
    assert isinstance(front, FrontEnd)
    left, right = (CONTEXT if side is None else side for side in (options.left, options.right))
    splicing = Splicing(tuple(range(-left, right + 1)))

    def other(examples: Examples) -> Examples:
        assert isinstance(examples.inputs, Spliced)
        return dataclasses.replace(examples, inputs=examples.inputs.with_splicing(splicing))

    return dataclasses.replace(
        data,
        train=other(data.train),
        validation=None if data.validation is None else other(data.validation),
        test=None if data.test is None else other(data.test),
        reading=dataclasses.replace(front, splicing=splicing),
    )


def judged_alone(options: SpeechOptions) -> SpeechOptions:
    """Options that open only what is judged on: the test directory, or the one given as the data.

    Args:
        options: What was asked for.

    Returns:
        The options.
    """
    if options.test_data is None:
        return dataclasses.replace(options, validation=0.0, validation_data=None, validation_ali=None)
    mdl = options.mdl
    if mdl is None and options.ali is not None and (Path(options.ali) / "final.mdl").exists():
        mdl = str(Path(options.ali) / "final.mdl")
    return dataclasses.replace(
        options,
        data=options.test_data,
        ali=options.test_ali,
        mdl=mdl,
        validation=0.0,
        validation_data=None,
        validation_ali=None,
        test_data=None,
        test_ali=None,
    )


@dataclass(frozen=True, eq=False)
class _Reader:
    """Reads, checks and prepares utterances, in the order in which they lie on the disk."""

    directory: KaldiDirectory
    front: FrontEnd

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
                yield number, front.prepare(matrix, given)
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
