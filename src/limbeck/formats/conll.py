"""CoNLL and CoNLL-U files: sentences of tagged words, one word per line."""

__all__ = ["CONLL_SUFFIXES", "read_conll"]

import re
from collections.abc import Callable
from pathlib import Path

from limbeck.errors import ConfigError, FormatError
from limbeck.system.utf8 import not_utf8

CONLL_SUFFIXES = (".conll", ".conllu", ".conll03", ".iob", ".iob2", ".bio")
"""Endings of the files that are read here."""
_UNIVERSAL = re.compile(r"\d+-\d+|\d+\.\d+")
"""Numbers of words that are written together, and of words that are not there, in Universal Dependencies."""


def read_conll(
    path: str | Path, *, words: int | None = None, tags: int | None = None, tagged: bool = True
) -> tuple[list[list[str]], list[list[str]], Callable[[int], str]]:
    r"""Read a file with a word and its tag in each line, and an empty line after each sentence.

    Columns are apart by tabs where the file has any, else by spaces. Lines that begin with ``-DOCSTART-``, and in
    ``.conllu`` files with ``#``, hold no word.

    Args:
        path: The file, UTF-8.
        words: Number of the column of words, from 1; None for the first, in ``.conllu`` files the second.
        tags: Number of the column of tags, from 1; None for the last, in ``.conllu`` files the fourth.
        tagged: Whether tags are wanted; without, they need not be there.

    Returns:
        The words of each sentence, their tags (the words again where these are not wanted), and a function that says
        where a sentence, counted from 0, begins.

    Raises:
        ConfigError: If a number of a column is below 1, or both are the same.
        FormatError: If the file is missing, is not text, or a line has no such column.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "two.conll"
        >>> _ = file.write_text("Anna B-PER\nsings O\n\nYes O\n")
        >>> read_conll(file)[:2]
        ([['Anna', 'sings'], ['Yes']], [['B-PER', 'O'], ['O']])
    """
    file = Path(path)
    universal = file.suffix.lower() == ".conllu"
    for name, number in (("the words", words), ("the tags", tags)):
        if number is not None and number < 1:
            raise ConfigError(f"columns of {file.name} are counted from 1, and that of {name} is {number}")
    word_at, tag_at = (words or (2 if universal else 1)) - 1, (tags or (4 if universal else 0)) - 1
    if word_at == tag_at and tagged:
        raise ConfigError(f"words and tags cannot be the same column of {file.name}, {word_at + 1}")
    if not tagged:
        tag_at = word_at
    lines = _lines(file)
    separator = "\t" if any("\t" in line for line in lines) else None
    sentences: list[list[str]] = [[]]
    tags_of: list[list[str]] = [[]]
    begins = [1]
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("-DOCSTART-"):
            if sentences[-1]:
                sentences.append([])
                tags_of.append([])
            begins[len(sentences) - 1 :] = [number + 1]
            continue
        if universal and line.startswith("#"):
            continue
        fields = [field.strip() for field in line.strip("\n").split(separator)]
        if universal and _UNIVERSAL.fullmatch(fields[0]):
            continue
        place = tag_at if tag_at >= 0 else len(fields) - 1
        if max(word_at, place) >= len(fields) or (place == word_at and tagged):
            raise FormatError(
                file,
                f"line {number} has {len(fields)} column{'s' if len(fields) > 1 else ''}, and a word and its tag are "
                f"needed, in column {word_at + 1} and {'the last' if tag_at < 0 else f'column {tag_at + 1}'}",
            )
        if not fields[word_at] or not fields[place]:
            raise FormatError(file, f"line {number} has no {'tag' if fields[word_at] else 'word'}")
        sentences[-1].append(fields[word_at])
        tags_of[-1].append(fields[place])
    if not sentences[-1]:
        del sentences[-1], tags_of[-1]
    if not sentences:
        raise FormatError(file, "holds no words: a word and its tag are needed in each line")
    return sentences, tags_of, lambda row: f"the sentence at line {begins[row]}"


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8-sig").split("\n")
    except FileNotFoundError as error:
        raise FormatError(file, "there is no such file") from error
    except UnicodeDecodeError as error:
        raise not_utf8(file) from error
    except OSError as error:
        raise FormatError(file, f"cannot be read: {error.strerror or error}") from error
