"""Sources of a data set's parts: files in a folder, separate files, or tables in memory."""

__all__ = ["part_files", "part_sources", "require_columns", "whole_name"]

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from limbeck.data.splits import PART_NAMES
from limbeck.errors import ConfigError, FormatError
from limbeck.formats.column_names import no_column
from limbeck.formats.conll import CONLL_SUFFIXES
from limbeck.formats.in_memory import is_held, source_name
from limbeck.formats.records import RECORD_SUFFIXES, peek_columns

_FILE_NAMES = {**PART_NAMES, "eval": "test"}
"""Parts by the names of files, without their endings."""
_SUFFIXES = (*RECORD_SUFFIXES, *CONLL_SUFFIXES)


def part_sources(given: Any, validation: Any = None, test: Any = None) -> dict[str, Any]:
    """What holds each part of a data set.

    Args:
        given: A file; a folder with files ``train``, and where there are such ``validation`` and ``test``; a table in
            memory; or a mapping of such by the names of parts, such as a ``DatasetDict``.
        validation: A file or table of validation rows, or None.
        test: A file or table of test rows, or None.

    Returns:
        A path or a table in memory for each part that is there, ``train`` among them.

    Raises:
        ConfigError: If a part is there twice, or none is for training.

    Example:
        >>> sorted(part_sources("all.csv", test="held_out.csv"))
        ['test', 'train']
    """
    if isinstance(given, Mapping):
        found = {PART_NAMES[str(name).lower()]: each for name, each in given.items() if str(name).lower() in PART_NAMES}
        if "train" not in found:
            raise ConfigError(f"a mapping of tables needs one named train, and has {', '.join(map(str, given))[:200]}")
    elif not is_held(given) and Path(given).is_dir():
        found = dict(part_files(Path(given)))
    else:
        found = {"train": given}
    for name, apart in (("validation", validation), ("test", test)):
        if apart is not None and name in found:
            raise ConfigError(
                f"there is a {name} part in {_described(given)} already, and {name}_data (--{name}-data) gives "
                f"{_described(apart)}: leave one of them out"
            )
        if apart is not None:
            found[name] = apart
    return {name: each if is_held(each) else Path(each) for name, each in found.items()}


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
        if part is None or file.suffix.lower() not in _SUFFIXES or not file.is_file():
            continue
        if part in found:
            raise FormatError(folder, f"holds two {part} files, {found[part].name} and {file.name}: leave one of them")
        found[part] = file
    if "train" not in found:
        raise FormatError(folder, f"holds no training file: train{', train'.join(RECORD_SUFFIXES)}")
    return found


def require_columns(sources: Mapping[str, Any], wanted: Sequence[str | None]) -> None:
    """Refuse columns that are named and not there, in every part, before any row is read.

    Args:
        sources: From :func:`part_sources`.
        wanted: Names of columns; None is passed over.

    Raises:
        FormatError: If a part has no such column; the message names its columns.
    """
    needed = [column for column in wanted if column is not None]
    for source in sources.values():
        names = peek_columns(source, needed)
        for column in needed:
            if names is not None and column not in names:
                raise FormatError(source_name(source), no_column(column, names))


def whole_name(given: Any) -> Path:
    """What to call a data set of several parts in messages, and by its stem in reports.

    Args:
        given: As for :func:`part_sources`.

    Returns:
        Its path, or such as "the DataFrame".
    """
    return Path("the mapping of tables") if isinstance(given, Mapping) else source_name(given)


def _described(given: Any) -> str:
    return str(whole_name(given))
