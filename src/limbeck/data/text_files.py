"""Labelled texts from CSV, JSON lines and parquet files, or tables in memory."""

__all__ = ["open_text", "open_text_inputs"]

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from limbeck.data.data_set import DataSet
from limbeck.data.examples import Examples
from limbeck.data.label_columns import LabelColumns, number_labels
from limbeck.data.part_sources import part_sources, require_columns, whole_name
from limbeck.data.splits import cut_test
from limbeck.data.text import Text
from limbeck.errors import DataError, FormatError
from limbeck.formats.in_memory import class_names, source_name
from limbeck.formats.records import read_records
from limbeck.options.text import TextPresentation


def open_text(
    path: Any,
    *,
    text_column: str = "text",
    pair_column: str | None = None,
    label_column: str = "label",
    label_columns: Sequence[str] | None = None,
    label_separator: str | None = None,
    group_column: str | None = None,
    id_column: str | None = None,
    validation: Any = None,
    test: Any = None,
    classes: Sequence[str] | None = None,
    presentation: TextPresentation | None = None,
) -> DataSet:
    r"""Read texts with labels.

    Args:
        path: A ``.csv``, ``.tsv``, ``.jsonl`` or ``.parquet`` file; or a folder with files ``train``, and where there
            are such ``validation`` and ``test``, of one of these kinds; or a DataFrame, a data set of Hugging Face, or
            a mapping of such by the names of parts. Where no test rows come with the data a tenth is cut out as a test
            set, by group where there are groups.
        text_column: The column of the texts.
        pair_column: The column of each example's second text, for models that answer about two; None for one text.
        label_column: The column of the labels, strings or whole numbers; or lists of such, where several labels may
            hold at a time.
        label_columns: Instead: columns of 0 and 1, one per label.
        label_separator: What separates several labels in a text of the label column, such as ";".
        group_column: A column whose equal values stay together when examples are set aside, and are the clusters of
            verdicts, such as an author; None where each text stands alone.
        id_column: A column that names the texts; None for numbers alone.
        validation: A file or table of validation texts, where they are apart.
        test: A file or table of test texts, where they are separate.
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
    """  # noqa: DOC502
    labelled = LabelColumns(label_column, (), label_separator)
    if label_columns is not None:
        labelled = LabelColumns(None, tuple(label_columns))
    sources = part_sources(path, validation, test)
    beside = [text_column, pair_column, group_column, id_column]
    require_columns(sources, [*beside, *labelled.names])
    place = whole_name(path)
    inputs, labels, names = {}, {}, {}
    for part, source in sources.items():
        columns, where = read_records(source, [*(name for name in beside if name is not None), *labelled.names])
        inputs[part] = _texts(source_name(source), columns, where, text_column, pair_column, group_column)
        held = class_names(source, label_column)
        labels[part] = labelled.read(source_name(source), columns, where).renamed(held)
        names[part] = None if id_column is None else columns[id_column]
    numbered = number_labels(labels, place, classes or class_names(sources["train"], label_column))
    parts = {
        part: numbered.examples(part, found.with_presentation(presentation), names[part])
        for part, found in inputs.items()
    }
    whole = numbered.data_set(place.stem, parts)
    return whole if whole.test is not None else cut_test(whole)


def open_text_inputs(
    path: Any,
    *,
    text_column: str = "text",
    pair_column: str | None = None,
    group_column: str | None = None,
    id_column: str | None = None,
    presentation: TextPresentation | None = None,
) -> Examples:
    """Read texts whose labels are not wanted: a transfer set.

    Args:
        path: As for :func:`open_text`; of several parts the training part is taken.
        text_column: The column of the texts.
        pair_column: The column of each example's second text, or None.
        group_column: A column whose equal values belong together, or None.
        id_column: A column that names the texts, or None.
        presentation: The student's tokenizer; None until it is known.

    Returns:
        The examples, without labels.

    Raises:
        FormatError: If a file is missing, damaged, or lacks a column or a text.
    """  # noqa: DOC502
    source = part_sources(path)["train"]
    wanted = [name for name in (text_column, pair_column, group_column, id_column) if name is not None]
    columns, where = read_records(source, wanted)
    texts = _texts(source_name(source), columns, where, text_column, pair_column, group_column)
    found = Examples.of(texts.with_presentation(presentation))
    return found.named(None if id_column is None else columns[id_column])


def _texts(
    file: Path,
    columns: dict[str, list[Any]],
    where: Any,
    text_column: str,
    pair_column: str | None,
    group_column: str | None,
) -> Text:
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
    groups = None if group_column is None else columns[group_column]
    pairs = None if pair_column is None else columns[pair_column]
    try:
        return Text(columns[text_column], pairs, groups=groups)
    except DataError as error:
        raise FormatError(file, str(error)) from error
    except TypeError as error:  # a list cannot be a group's name
        raise FormatError(file, f"column {group_column!r} must hold strings or numbers: {error}") from error
