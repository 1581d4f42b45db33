"""Texts with labels out of CSV, JSON lines and parquet files."""

__all__ = ["class_labels", "open_text", "open_text_inputs", "part_files", "sorted_names"]

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from limbeck.data.data_set import DataSet
from limbeck.data.examples import Examples
from limbeck.data.splits import PART_NAMES, cut_test
from limbeck.data.text import Text
from limbeck.errors import DataError, FormatError
from limbeck.formats.records import RECORD_SUFFIXES, read_records
from limbeck.options.text import TextPresentation

_FILE_NAMES = {**PART_NAMES, "eval": "test"}
"""Parts by the names of files, without their endings."""


def open_text(
    path: str | Path,
    *,
    text_column: str = "text",
    pair_column: str | None = None,
    label_column: str = "label",
    group_column: str | None = None,
    classes: Sequence[str] | None = None,
    presentation: TextPresentation | None = None,
) -> DataSet:
    r"""Read texts with labels.

    Args:
        path: A ``.csv``, ``.tsv``, ``.jsonl`` or ``.parquet`` file; or a folder with files ``train``, and where there
            are such ``validation`` and ``test``, of one of these kinds. Where no test file comes with the data a tenth
            is cut out as a test set, by group where there are groups.
        text_column: The column of the texts.
        pair_column: The column of each example's second text, for models that answer about two; None for one text.
        label_column: The column of the labels, strings or whole numbers.
        group_column: A column whose equal values stay together when examples are set aside, and are the clusters of
            verdicts, such as an author; None where each text stands alone.
        classes: Names of the classes, in order; None for the labels that there are, sorted.
        presentation: The student's tokenizer; None until it is known.

    Returns:
        The data set.

    Raises:
        DataError: If there are fewer than two classes, or too few texts.
        FormatError: If a file is missing, damaged, lacks a column, a text or a label.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "reviews.csv"
        >>> rows = [f"a {word} book,{label}" for word, label in [("good", "yes"), ("bad", "no")] * 10]
        >>> _ = file.write_text("\n".join(["text,label", *rows]))
        >>> data = open_text(file)
        >>> data.classes, len(data.train), len(data.test)
        (('no', 'yes'), 18, 2)
    """
    place = Path(path)
    files = part_files(place) if place.is_dir() else {"train": place}
    wanted = (text_column, pair_column, label_column, group_column)
    read = {part: _read(file, *wanted) for part, file in files.items()}
    names = sorted_names([label for part in read.values() for label in part.labels], place)
    if classes is not None:
        _refuse_unknown(names, classes, place)
        names = tuple(classes)
    numbers = {name: number for number, name in enumerate(names)}
    parts = {part: found.examples(numbers, presentation) for part, found in read.items()}
    whole = DataSet(place.stem, names, parts["train"], parts.get("test"), parts.get("validation"))
    return whole if whole.test is not None else cut_test(whole)


def open_text_inputs(
    path: str | Path,
    *,
    text_column: str = "text",
    pair_column: str | None = None,
    group_column: str | None = None,
    presentation: TextPresentation | None = None,
) -> Examples:
    """Read texts whose labels are not wanted: a transfer set.

    Args:
        path: As for :func:`open_text`; of a folder with parts the training part is taken.
        text_column: The column of the texts.
        pair_column: The column of each example's second text, or None.
        group_column: A column whose equal values belong together, or None.
        presentation: The student's tokenizer; None until it is known.

    Returns:
        The examples, without labels.

    Raises:
        FormatError: If a file is missing, damaged, or lacks a column or a text.
    """  # noqa: DOC502
    place = Path(path)
    file = part_files(place)["train"] if place.is_dir() else place
    return _read(file, text_column, pair_column, None, group_column).examples({}, presentation)


def part_files(folder: Path) -> dict[str, Path]:
    """The files of records in a folder that hold the parts of a data set.

    Args:
        folder: Any folder.

    Returns:
        A file for each part that is there, ``train`` among them.

    Raises:
        FormatError: If there is no training file, or two files of one part.
    """
    found: dict[str, Path] = {}
    for file in sorted(folder.iterdir()):
        part = _FILE_NAMES.get(file.stem.lower())
        if part is None or file.suffix.lower() not in RECORD_SUFFIXES or not file.is_file():
            continue
        if part in found:
            raise FormatError(folder, f"holds two {part} files, {found[part].name} and {file.name}: leave one of them")
        found[part] = file
    if "train" not in found:
        raise FormatError(folder, f"holds no training file: train{', train'.join(RECORD_SUFFIXES)}")
    return found


class _Read:
    """The rows of one file."""

    def __init__(self, inputs: Text, labels: list[Any], where: Callable[[int], str]) -> None:
        self.inputs, self.labels, self.where = inputs, labels, where

    def examples(self, numbers: dict[str, int], presentation: TextPresentation | None) -> Examples:
        """The examples, with their classes numbered."""
        labels = [numbers[str(label)] for label in self.labels] or None
        return Examples.of(self.inputs.with_presentation(presentation), labels)


def _read(
    file: Path, text_column: str, pair_column: str | None, label_column: str | None, group_column: str | None
) -> _Read:
    wanted = [column for column in (text_column, pair_column, label_column, group_column) if column is not None]
    columns, where = read_records(file, wanted)
    if not columns[text_column]:
        raise FormatError(file, "holds no rows")
    for column in (text_column, pair_column):
        for row, text in enumerate(columns[column] if column is not None else ()):
            if not isinstance(text, str):
                missing = text is None or text != text
                raise FormatError(
                    file,
                    f"{where(row)} has no text in column {column!r}: fill it in, or leave the row out"
                    if missing
                    else f"{where(row)} has {text!r:.80} in column {column!r}, and a string is needed",
                )
    labels = [] if label_column is None else _labels(file, columns[label_column], label_column, where)
    groups = None if group_column is None else columns[group_column]
    pairs = None if pair_column is None else columns[pair_column]
    try:
        return _Read(Text(columns[text_column], pairs, groups=groups), labels, where)
    except DataError as error:
        raise FormatError(file, str(error)) from error
    except TypeError as error:  # a list cannot be a group's name
        raise FormatError(file, f"column {group_column!r} must hold strings or numbers: {error}") from error


def _labels(file: Path, values: list[Any], column: str, where: Callable[[int], str]) -> list[Any]:
    try:
        return class_labels(values)
    except _WrongLabel as error:
        raise FormatError(file, f"{where(error.row)} has {error.said} in column {column!r}") from error


class _WrongLabel(DataError):
    def __init__(self, row: int, said: str) -> None:
        super().__init__(f"row {row} has {said}")
        self.row, self.said = row, said


def class_labels(values: Sequence[Any]) -> list[str | int]:
    """Labels as strings or whole numbers, whatever they came as.

    Args:
        values: Strings, whole numbers, such as floats without a fraction, or booleans.

    Returns:
        The labels: whole numbers where all are, also where they are written as strings.

    Raises:
        DataError: If one is missing, or of another kind.
    """  # noqa: DOC501
    found: list[str | int] = []
    for row, value in enumerate(values):
        if value is None or value != value or value == "":
            raise _WrongLabel(row, "no label")
        if isinstance(value, bool | str):
            found.append(str(value))
        elif isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
            found.append(int(value))
        else:
            raise _WrongLabel(row, f"the label {value!r:.60}, and a string or a whole number is needed")
    return found


def sorted_names(labels: Sequence[str | int], place: Path) -> tuple[str, ...]:
    """Names of the classes that labels name, sorted: numbers by size, before other names.

    Args:
        labels: Of all examples.
        place: Where they are from, for messages.

    Returns:
        The names.

    Raises:
        FormatError: If there are fewer than two.
    """
    names = {str(label) for label in labels}
    if len(names) < 2:
        raise FormatError(place, f"has {len(names)} class: at least two are needed")
    return tuple(sorted(names, key=_rank))


def _rank(name: str) -> tuple[bool, int, str]:
    """Numbers by size and before other names."""
    number = name.lstrip("-").isascii() and name.lstrip("-").isdigit()
    return not number, int(name) if number else 0, name


def _refuse_unknown(names: Sequence[str], classes: Sequence[str], place: Path) -> None:
    odd = next((name for name in names if name not in classes), None)
    if odd is not None:
        raise FormatError(place, f"has the label {odd!r}, which is not among the classes {', '.join(classes)[:200]}")
