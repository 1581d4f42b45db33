"""Kaldi's text tables: a key and words on each line, as in ``text``, ``utt2spk``, ``spk2utt``, ``words.txt``."""

__all__ = ["read_map", "read_symbols", "read_table", "write_table"]

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path

from limbeck.errors import FormatError
from limbeck.formats._bounded import open_regular
from limbeck.system.files import replace_text

_LONGEST_LINE = 1 << 20


def read_table(path: str | PathLike[str]) -> dict[str, list[str]]:
    r"""Read lines of a key and any number of words.

    Args:
        path: The file.

    Returns:
        The words of each key, in the order of the file.

    Raises:
        FormatError: If it is no such text, or a key comes twice.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp(), "text")
        >>> _ = file.write_text("utt1 GOOD MORNING\nutt2\n")
        >>> read_table(file)
        {'utt1': ['GOOD', 'MORNING'], 'utt2': []}
    """
    table: dict[str, list[str]] = {}
    with open_regular(path) as (file, _):
        number = 0
        while line := file.readline(_LONGEST_LINE + 1):
            number += 1
            if len(line) > _LONGEST_LINE:
                raise FormatError(path, f"line {number} has more than {_LONGEST_LINE} bytes: no table of words")
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise FormatError(path, f"line {number} is not UTF-8") from error
            words = text.split()
            if not words or "\0" in text:
                raise FormatError(path, f"line {number} should be a key and words")
            if words[0] in table:
                raise FormatError(path, f"line {number} has the key {words[0]!r} a second time")
            table[words[0]] = words[1:]
    return table


def read_map(path: str | PathLike[str]) -> dict[str, str]:
    """Read lines of a key and one word, as in ``utt2spk``.

    Args:
        path: The file.

    Returns:
        The word of each key.

    Raises:
        FormatError: If a line has not exactly two words.
    """
    table = read_table(path)
    for key, words in table.items():
        if len(words) != 1:
            raise FormatError(path, f"the line of {key} should have two words, and has {1 + len(words)}")
    return {key: words[0] for key, words in table.items()}


def read_symbols(path: str | PathLike[str]) -> dict[int, str]:
    """Read a symbol table, as ``words.txt``: a symbol and its number on each line.

    Args:
        path: The file.

    Returns:
        The symbol of each number.

    Raises:
        FormatError: If a line is not a symbol and a number, or a number comes twice.
    """
    symbols: dict[int, str] = {}
    for symbol, word in read_map(path).items():
        number = int(word) if word.isascii() and word.isdigit() and len(word) < 10 else -1
        if number < 0 or number in symbols:
            raise FormatError(path, f"the symbol {symbol!r} should have a number of its own, and has {word[:20]!r}")
        symbols[number] = symbol
    return symbols


def write_table(path: str | PathLike[str], table: Mapping[str, Sequence[str]]) -> None:
    """Write lines of a key and its words, sorted by key as Kaldi wants them.

    Args:
        path: The file; its folder must exist.
        table: The words of each key.
    """
    lines = (" ".join((key, *table[key])) + "\n" for key in sorted(table, key=str.encode))
    replace_text(Path(path), "".join(lines))
