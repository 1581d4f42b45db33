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
from limbeck.kaldi.experiment import Experiment, is_nnet3_folder, read_experiment
from limbeck.kaldi.formats import nnet1_components as nc
from limbeck.kaldi.formats.cmvn import accumulate_cmvn
from limbeck.kaldi.formats.nnet1 import Nnet
from limbeck.kaldi.formats.scp import read_entries, read_entry
from limbeck.kaldi.ivectors import IVectors, read_ivectors
from limbeck.kaldi.options import SpeechOptions
from limbeck.kaldi.source.alignments import Alignment, Match, match_frames, read_labels, refuse_too_many
from limbeck.kaldi.source.directory import KaldiDirectory, open_directory
from limbeck.kaldi.source.frontend import FrontEnd, Splicing, divide_transform
from limbeck.kaldi.source.spliced import Spliced
from limbeck.kaldi.source.store import FrameStore, checked_frames
from limbeck.kaldi.transforms import linear_transform, read_transform, with_ivector

CONTEXT = 5
"""Neighbours on each side where nothing says otherwise."""

Progress = Callable[[int, int], None]


def front_end(options: SpeechOptions, directory: KaldiDirectory, ivectors: IVectors | None = None) -> FrontEnd:
    """Settle how inputs are made.

    Args:
        options: What was asked for.
        directory: The training data, which decide whether there is CMVN where nobody says.
        ivectors: Those of the training data, or None.

    Returns:
        The front end.

    Raises:
        ConfigError: If a context is given and the feature transform has one too, or what an experiment's folder needs
            is missing.
    """
    said = _experiment(options, ivectors)
    given = (options.left, options.right, options.feature_transform) != (None, None, None)
    path = options.feature_transform if given else said.feature_transform
    left, right = (options.left, options.right) if given or said.context is None else said.context
    span = tuple(range(-(CONTEXT if left is None else left), (CONTEXT if right is None else right) + 1))
    deltas = said.deltas if options.deltas is None else options.deltas
    ivector = 0 if ivectors is None else ivectors.dim
    width = _features(directory) * (deltas + 1) if path is not None or ivector else 0
    transform, has_splice = (None, False) if path is None else _transform(Path(path), span, width)
    if has_splice and (options.left, options.right) != (None, None):
        raise ConfigError("the feature transform has a splice of its own: leave --left and --right out")
    if ivector and (transform is None or transform.input_dim == width):
        transform = with_ivector(Nnet((nc.Splice(width, span),)) if transform is None else transform, ivector)
    before, splicing = (None, None) if transform is None else divide_transform(transform)
    whose = options.cmvn
    if whose == "auto":
        whose = said.cmvn if options.exp is not None else ("speaker" if directory.cmvn else "none")
    norm_vars = (said.norm_vars and whose != "none") if options.norm_vars is None else options.norm_vars
    if whose == "none" and norm_vars:
        raise ConfigError("norm_vars is part of CMVN, and there is none: use --cmvn speaker or --cmvn utterance")
    return FrontEnd(
        splicing or Splicing(span),
        whose,
        norm_vars,
        deltas,
        said.delta_window if options.delta_window is None else options.delta_window,
        ivector,
        options.every,
        before,
        transform,
    )


def _experiment(options: SpeechOptions, ivectors: IVectors | None) -> Experiment:
    """What an experiment's folder says; nothing where none is given."""
    if options.exp is None:
        return Experiment()
    said = read_experiment(Path(options.exp), nnet3=is_nnet3_folder(Path(options.exp)))
    if said.ivector_dim and (ivectors is None or ivectors.dim != said.ivector_dim):
        held = "none are given" if ivectors is None else f"those given have {ivectors.dim}"
        raise ConfigError(
            f"{options.exp} says that i-vectors of {said.ivector_dim} values are appended to features, and {held}: "
            "give --ivectors"
        )
    return said


def _features(directory: KaldiDirectory) -> int:
    """How many features the first utterance has."""
    return int(read_entry(directory.entries[0], allow_pipes=directory.allow_pipes).shape[1])


def _transform(path: Path, span: tuple[int, ...], width: int) -> tuple[Nnet, bool]:
    """A feature transform with its splice, and whether the splice is its own."""
    # A matrix is for frames with their context; of a network without a splice the context comes after it.
    found = read_transform(path)
    if not isinstance(found, Nnet):
        return Nnet((nc.Splice(width, span), linear_transform(found, width * len(span)))), False
    if divide_transform(found)[1] is None:
        return Nnet((*found.components, nc.Splice(found.output_dim, span))), False
    return found, True


def speech_ivectors(given: str | None, directory: KaldiDirectory, options: SpeechOptions) -> IVectors | None:
    """The i-vectors of a directory, which may be of its speakers.

    Args:
        given: What was asked for, or None.
        directory: The features.
        options: The period of online ones, and whether pipes are allowed.

    Returns:
        The i-vectors, or None.
    """
    if given is None:
        return None
    return read_ivectors(
        given, period=options.ivector_period, speakers=directory.owners, allow_pipes=options.allow_pipes
    )


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
    ivectors = speech_ivectors(options.ivectors, directory, options)
    front = front_end(options, directory, ivectors)
    labels = read_labels(options.ali, transition_model=options.mdl)
    notes: list[str] = []
    parts: dict[str, Examples] = {}
    for part, (data, ali, beside) in {
        "train": (options.data, options.ali, options.ivectors),
        "validation": (options.validation_data, options.validation_ali, options.validation_ivectors),
        "test": (options.test_data, options.test_ali, options.test_ivectors),
    }.items():
        if (data is None) != (ali is None):
            raise ConfigError(f"--{part}-data and --{part}-ali belong together: give both, or neither")
        if data is None or ali is None:
            if beside is not None:
                raise ConfigError(f"--{part}-ivectors belong to --{part}-data: give both, or neither")
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
            ivectors=ivectors if part == "train" else speech_ivectors(beside, here, options),
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
    ivectors = speech_ivectors(options.ivectors, directory, options)
    examples, _ = open_frames(directory, front, ivectors=ivectors, in_memory_bytes=options.in_memory_gb * 1e9)
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
    """Options that open only what is evaluated on: the test directory, or the one given as the data.

    Args:
        options: What was asked for.

    Returns:
        The options.
    """
    if options.test_data is None:
        return dataclasses.replace(
            options, validation=0.0, validation_data=None, validation_ali=None, validation_ivectors=None
        )
    mdl = options.mdl
    if mdl is None and options.ali is not None and (Path(options.ali) / "final.mdl").exists():
        mdl = str(Path(options.ali) / "final.mdl")
    return dataclasses.replace(
        options,
        data=options.test_data,
        ali=options.test_ali,
        ivectors=options.test_ivectors,
        ivector_period=None if options.test_ivectors is None else options.ivector_period,
        mdl=mdl,
        validation=0.0,
        validation_data=None,
        validation_ali=None,
        validation_ivectors=None,
        test_data=None,
        test_ali=None,
        test_ivectors=None,
    )


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
