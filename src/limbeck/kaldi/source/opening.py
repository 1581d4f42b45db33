"""Kaldi directories as a data set: features, alignments, and how they are put together."""

__all__ = ["judged_alone", "open_speech", "open_transfer", "speech_ivectors", "with_context"]

import dataclasses
from pathlib import Path

from limbeck.data.data_set import DataSet
from limbeck.data.examples import Examples
from limbeck.errors import ConfigError, MismatchError
from limbeck.kaldi.ivectors import IVectors, read_ivectors
from limbeck.kaldi.options import SpeechOptions
from limbeck.kaldi.source.alignments import read_labels
from limbeck.kaldi.source.directory import KaldiDirectory, open_directory
from limbeck.kaldi.source.frames import Progress, open_frames
from limbeck.kaldi.source.frontend import FrontEnd, Splicing
from limbeck.kaldi.source.settled import CONTEXT, front_end
from limbeck.kaldi.source.spliced import Spliced


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
