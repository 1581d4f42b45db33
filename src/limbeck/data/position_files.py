"""Token classification and next-token data sets from files."""

__all__ = [
    "WORDS",
    "is_conll",
    "next_token_set",
    "open_next_token_inputs",
    "open_next_tokens",
    "open_word_inputs",
    "open_words",
]

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limbeck.data.data_set import DataSet
from limbeck.data.examples import Examples
from limbeck.data.label_columns import Labels, class_labels, number_labels
from limbeck.data.next_tokens import NextTokens
from limbeck.data.part_sources import part_sources, require_columns, whole_name
from limbeck.data.splits import cut_test
from limbeck.data.words import Words
from limbeck.errors import ConfigError, DataError, FormatError
from limbeck.formats.conll import CONLL_SUFFIXES, read_conll
from limbeck.formats.in_memory import class_names, is_held, source_name
from limbeck.formats.records import read_records
from limbeck.options.text import TextPresentation
from limbeck.system.hugging_face import load_tokenizer

WORDS, TAGS = "tokens", "tags"
"""The columns of words and of their labels where none are named."""
IGNORED = -100
"""The usual label of a word that is not an example."""


def open_words(
    path: Any,
    *,
    words_column: str | None = None,
    labels_column: str | None = None,
    group_column: str | None = None,
    id_column: str | None = None,
    validation: Any = None,
    test: Any = None,
    classes: Sequence[str] | None = None,
    presentation: TextPresentation | None = None,
) -> DataSet:
    """Read sentences whose words have a class each.

    Args:
        path: A ``.jsonl`` or ``.parquet`` file with a list of words and a list of labels in each row; a CoNLL file
            (``.conll``, ``.conllu``, ``.iob``, ``.bio``) with a word and its tag in each line; a folder with files
            ``train``, and where there are such ``validation`` and ``test``; or a DataFrame, a data set of Hugging Face,
            or a mapping of such by the names of parts. Where no test rows come with the data a tenth is cut out, by
            sentence.
        words_column: The column of the words, ``tokens`` where it is not given; of a CoNLL file its number, from 1.
        labels_column: The column of their labels, ``tags`` where it is not given, strings or whole numbers; -100 or
            null for words that do not count. Of a CoNLL file its number.
        group_column: A column whose equal values stay together when sentences are set aside; None for each sentence.
        id_column: A column that names the sentences; None for their numbers.
        validation: A file or table of validation sentences, where they are apart.
        test: A file or table of test sentences, where they are separate.
        classes: Names of the classes, in order; None for the labels that there are, sorted.
        presentation: The student's tokenizer; None until it is known.

    Returns:
        The data set; each word that has a class is an example.

    Raises:
        DataError: If there are fewer than two classes, or too few words.
        FormatError: If a file is missing, damaged, or a row's lists do not fit each other.
    """  # noqa: DOC502
    sources = part_sources(path, validation, test)
    place = whole_name(path)
    beside = [name for name in (group_column, id_column) if name is not None]
    columns = _Columns(words_column, labels_column, group_column, id_column)
    if not any(is_conll(source) for source in sources.values()):
        require_columns(sources, [words_column or WORDS, labels_column or TAGS, *beside])
    read = {part: _sentences(source, columns) for part, source in sources.items()}
    labels = {part: found for part, (_, found, _) in read.items()}
    known = classes or class_names(sources["train"], labels_column or TAGS)
    numbered = number_labels(labels, place, known, every=False)
    parts = {
        part: numbered.examples(part, found.with_presentation(presentation)).named(names)
        for part, (found, _, names) in read.items()
    }
    data = numbered.data_set(place.stem, parts, every_class=False)  # of rare tags there may be none in a part
    return data if data.test is not None else cut_test(data)


@dataclass(frozen=True)
class _Columns:
    """Columns of a file of sentences."""

    words: str | None
    labels: str | None
    group: str | None = None
    names: str | None = None

    @property
    def beside(self) -> list[str]:
        return [name for name in (self.group, self.names) if name is not None]


def is_conll(source: Any) -> bool:
    """Whether something is the path of a file with a word and its tag in each line."""
    return not is_held(source) and Path(source).suffix.lower() in CONLL_SUFFIXES


def _rows(source: Any, columns: _Columns, *, labelled: bool) -> tuple[dict[str, list[Any]], Callable[[int], str]]:
    """Words, labels and what is beside them, by what they are."""
    if is_conll(source):
        if columns.beside:
            raise ConfigError(f"{source} has no column {columns.beside[0]!r}: the columns of CoNLL files have no names")
        numbers = {
            name: _column_number(source, name, given)
            for name, given in (("words", columns.words), ("tags", columns.labels))
        }
        words, tags, where = read_conll(source, **numbers, tagged=labelled)
        return {"words": words, "labels": tags} if labelled else {"words": words}, where
    wanted = {"words": columns.words or WORDS, "labels": columns.labels or TAGS} if labelled else {}
    wanted |= {"words": columns.words or WORDS}
    wanted |= {what: name for what, name in (("group", columns.group), ("names", columns.names)) if name is not None}
    found, where = read_records(source, list(wanted.values()))
    return {what: found[name] for what, name in wanted.items()}, where


def _column_number(source: Any, what: str, given: str | None) -> int | None:
    if given is not None and not given.isdecimal():
        raise ConfigError(
            f"the columns of {source} have no names: give that of the {what} as a number from 1, and not as {given!r}"
        )
    return None if given is None else int(given)


def _sentences(source: Any, columns: _Columns) -> tuple[Words, Labels, list[str] | None]:
    file = source_name(source)
    rows, where = _rows(source, columns, labelled=True)
    kept, found = [], []
    names = class_names(source, columns.labels or TAGS)
    for row, (sentence, classes) in enumerate(zip(rows["words"], rows["labels"], strict=True)):
        for name, value in ((columns.words or WORDS, sentence), (columns.labels or TAGS, classes)):
            _require_list(file, name, value, where(row))
        if len(sentence) != len(classes):
            raise FormatError(file, f"{where(row)} has {len(sentence)} words and {len(classes)} labels")
        kept.append([label is not None and label == label and label != IGNORED for label in classes])
        found.append([label for label, flag in zip(classes, kept[-1], strict=True) if flag])
    try:
        inputs = Words(rows["words"], kept, groups=rows.get("group"))
        labels = Labels(file, class_labels([label for sentence in found for label in sentence]), None, None)
        return inputs, labels.renamed(names), inputs.names(rows["names"]) if "names" in rows else None
    except DataError as error:
        raise FormatError(file, str(error)) from error


def _require_list(file: Path, name: str, value: Any, where: str) -> None:
    if not isinstance(value, list | tuple):
        cure = ": in a file of lists, such as JSON lines or parquet" if file.suffix.lower() in {".csv", ".tsv"} else ""
        raise FormatError(file, f"{where} has {value!r:.60} in column {name!r}, and a list is needed{cure}")


def open_word_inputs(
    path: Any,
    *,
    words_column: str | None = None,
    group_column: str | None = None,
    id_column: str | None = None,
    presentation: TextPresentation | None = None,
) -> Examples:
    """Read sentences, all of whose words are examples, without labels.

    Args:
        path: As for :func:`open_words`; of several parts the training part is taken. Of a CoNLL file tags are not
            looked at, and need not be there.
        words_column: The column of the words.
        group_column: A column whose equal values belong together, or None.
        id_column: A column that names the sentences, or None.
        presentation: The student's tokenizer; None until it is known.

    Returns:
        The examples; each is named by its sentence and its place in it, from 0, such as "12:3".

    Raises:
        FormatError: If a file is missing, damaged, or holds no words.
    """
    source = part_sources(path)["train"]
    columns = _Columns(words_column, None, group_column, id_column)
    rows, where = _rows(source, columns, labelled=False)
    for row, sentence in enumerate(rows["words"]):
        _require_list(source_name(source), words_column or WORDS, sentence, where(row))
    try:
        inputs = Words(rows["words"], groups=rows.get("group"), presentation=presentation)
    except DataError as error:
        raise FormatError(source_name(source), str(error)) from error
    return Examples.of(inputs).named(inputs.names(rows.get("names")))


def open_next_tokens(
    path: Any,
    presentation: TextPresentation,
    *,
    text_column: str = "text",
    group_column: str | None = None,
    vocabulary: int | None = None,
    validation: Any = None,
    test: Any = None,
) -> DataSet:
    """Read texts for language models: each position of a text has the next token as its class.

    Args:
        path: As for :func:`~limbeck.data.text_files.open_text`.
        presentation: The tokenizer of teacher and student, and the tokens of a window.
        text_column: The column of the texts.
        group_column: A column whose equal values stay together when texts are set aside; None for each text.
        vocabulary: Tokens that the models know; None for those of the tokenizer.
        validation: A file or table of validation texts, where they are apart.
        test: A file or table of test texts, where they are separate.

    Returns:
        The data set; its classes are the tokens.

    Raises:
        DataError: If no text has two tokens.
        FormatError: If a file is missing, damaged, or lacks a column or a text.
    """  # noqa: DOC502
    sources = part_sources(path, validation, test)
    place = whole_name(path)
    require_columns(sources, [text_column, group_column])
    texts, groups = {}, {}
    for part, source in sources.items():
        columns, where = read_records(source, [text_column, *([] if group_column is None else [group_column])])
        _refuse_missing(source_name(source), columns[text_column], text_column, where)
        texts[part] = columns[text_column]
        groups[part] = None if group_column is None else columns[group_column]
    return next_token_set(place.stem, texts, presentation, groups=groups, vocabulary=vocabulary)


def open_next_token_inputs(
    path: Any, presentation: TextPresentation, *, text_column: str = "text", group_column: str | None = None
) -> Examples:
    """Read texts for language models as a transfer set, or to be predicted.

    Args:
        path: As for :func:`open_next_tokens`; of several parts the training part is taken.
        presentation: The tokenizer, and the tokens of a window.
        text_column: The column of the texts.
        group_column: A column whose equal values belong together, or None.

    Returns:
        The examples, without labels: positions that have a next token.

    Raises:
        FormatError: If a file is missing, damaged, or lacks a column or a text.
    """  # noqa: DOC502
    source = part_sources(path)["train"]
    columns, where = read_records(source, [text_column, *([] if group_column is None else [group_column])])
    _refuse_missing(source_name(source), columns[text_column], text_column, where)
    groups = None if group_column is None else columns[group_column]
    inputs = NextTokens(columns[text_column], presentation, groups=groups)
    return Examples.of(inputs).named(inputs.names())


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
