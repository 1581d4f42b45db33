"""Data sets whose examples are positions of texts, out of files: words with a class each, and tokens with the next."""

__all__ = ["next_token_set", "open_next_tokens", "open_words"]

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from limbeck.data.data_set import DataSet
from limbeck.data.examples import Examples
from limbeck.data.positions import NextTokens, Words
from limbeck.data.splits import cut_test
from limbeck.data.text_files import class_labels, part_files, sorted_names
from limbeck.errors import DataError, FormatError
from limbeck.formats.records import read_records
from limbeck.options.text import TextPresentation
from limbeck.system.hugging_face import load_tokenizer

IGNORED = -100
"""The label of a word that is no example, as is the custom."""


def open_words(
    path: str | Path,
    *,
    words_column: str = "tokens",
    labels_column: str = "tags",
    group_column: str | None = None,
    classes: Sequence[str] | None = None,
    presentation: TextPresentation | None = None,
) -> DataSet:
    """Read sentences whose words have a class each.

    Args:
        path: A ``.jsonl`` or ``.parquet`` file with a list of words and a list of labels in each row; or a folder with
            files ``train``, and where there are such ``validation`` and ``test``. Where no test file comes with the
            data a tenth is cut out, by sentence.
        words_column: The column of the words.
        labels_column: The column of their labels, strings or whole numbers; -100 or null for words that do not count.
        group_column: A column whose equal values stay together when sentences are set aside; None for each sentence.
        classes: Names of the classes, in order; None for the labels that there are, sorted.
        presentation: The student's tokenizer; None until it is known.

    Returns:
        The data set; each word that has a class is an example.

    Raises:
        DataError: If there are fewer than two classes, or too few words.
        FormatError: If a file is missing, damaged, or a row's lists do not fit each other.
    """  # noqa: DOC502
    place = Path(path)
    files = part_files(place) if place.is_dir() else {"train": place}
    read = {part: _sentences(file, words_column, labels_column, group_column) for part, file in files.items()}
    names = (
        tuple(classes) if classes is not None else sorted_names([n for _, found in read.values() for n in found], place)
    )
    numbers = {name: number for number, name in enumerate(names)}
    parts = {}
    for part, (source, labels) in read.items():
        odd = next((label for label in labels if str(label) not in numbers), None)
        if odd is not None:
            raise FormatError(
                files[part], f"has the label {odd!r}, which is not among the classes {', '.join(names)[:200]}"
            )
        parts[part] = Examples.of(source.with_presentation(presentation), [numbers[str(label)] for label in labels])
    data = DataSet(place.stem, names, parts["train"], parts.get("test"), parts.get("validation"))
    return data if data.test is not None else cut_test(data)


def _sentences(file: Path, words: str, labels: str, group: str | None) -> tuple[Words, list[Any]]:
    columns, where = read_records(file, [words, labels, *([] if group is None else [group])])
    kept, found = [], []
    for row, (sentence, classes) in enumerate(zip(columns[words], columns[labels], strict=True)):
        for name, value in ((words, sentence), (labels, classes)):
            if not isinstance(value, list):
                raise FormatError(file, f"{where(row)} has {value!r:.60} in column {name!r}, and a list is needed")
        if len(sentence) != len(classes):
            raise FormatError(file, f"{where(row)} has {len(sentence)} words and {len(classes)} labels")
        kept.append([label is not None and label != IGNORED for label in classes])
        found.append([label for label, flag in zip(classes, kept[-1], strict=True) if flag])
    try:
        source = Words(columns[words], kept, groups=None if group is None else columns[group])
        return source, class_labels([label for sentence in found for label in sentence])
    except DataError as error:
        raise FormatError(file, str(error)) from error


def open_next_tokens(
    path: str | Path,
    presentation: TextPresentation,
    *,
    text_column: str = "text",
    group_column: str | None = None,
    vocabulary: int | None = None,
) -> DataSet:
    """Read texts for language models: each position of a text has the next token as its class.

    Args:
        path: As for :func:`~limbeck.data.text_files.open_text`.
        presentation: The tokenizer of teacher and student, and the tokens of a window.
        text_column: The column of the texts.
        group_column: A column whose equal values stay together when texts are set aside; None for each text.
        vocabulary: Tokens that the models know; None for those of the tokenizer.

    Returns:
        The data set; its classes are the tokens.

    Raises:
        DataError: If no text has two tokens.
        FormatError: If a file is missing, damaged, or lacks a column or a text.
    """  # noqa: DOC502
    place = Path(path)
    files = part_files(place) if place.is_dir() else {"train": place}
    texts, groups = {}, {}
    for part, file in files.items():
        columns, where = read_records(file, [text_column, *([] if group_column is None else [group_column])])
        _refuse_missing(file, columns[text_column], text_column, where)
        texts[part] = columns[text_column]
        groups[part] = None if group_column is None else columns[group_column]
    return next_token_set(place.stem, texts, presentation, groups=groups, vocabulary=vocabulary)


def next_token_set(
    name: str,
    texts: Mapping[str, Sequence[str]],
    presentation: TextPresentation,
    *,
    groups: Mapping[str, Any] | None = None,
    vocabulary: int | None = None,
) -> DataSet:
    """A data set for language models out of texts.

    Args:
        name: What it is called.
        texts: By part: ``train``, and where there are such ``validation`` and ``test``.
        presentation: The tokenizer of teacher and student, and the tokens of a window.
        groups: What each text of a part belongs to.
        vocabulary: Tokens that the models know; None for those of the tokenizer.

    Returns:
        The data set; its classes are the tokens.

    Raises:
        DataError: If no text has two tokens.
    """  # noqa: DOC502
    tokenizer = load_tokenizer(presentation.tokenizer)
    known = [str(token) for token in tokenizer.convert_ids_to_tokens(range(len(tokenizer)))]
    known += [f"(unused {number})" for number in range(len(known), vocabulary or 0)]
    parts = {}
    for part, rows in texts.items():
        source = NextTokens(rows, presentation, groups=(groups or {}).get(part))
        parts[part] = Examples.of(source, source.labels)
    data = DataSet(
        name, tuple(known), parts["train"], parts.get("test"), parts.get("validation"), every_class=False
    )  # not every token comes in every text
    return data if data.test is not None else cut_test(data)


def _refuse_missing(file: Path, texts: Sequence[Any], column: str, where: Callable[[int], str]) -> None:
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            raise FormatError(file, f"{where(row)} has no text in column {column!r}: fill it in, or leave the row out")
