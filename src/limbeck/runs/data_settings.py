"""The data settings of a run, reused for new data of the same kind."""

__all__ = ["options_as_read"]

import dataclasses
from pathlib import Path

from limbeck.data.registry import kind_of, own_settings
from limbeck.errors import ConfigError, FormatError
from limbeck.options import DataOptions
from limbeck.runs.folder import RunFolder
from limbeck.runs.settings import options_of

_ROWS = ("text_column", "pair_column", "words_column", "next_token", "image_column", "layout", "image_size")
"""Settings of columns."""
_LABELS = (
    "label_column",
    "label_columns",
    "label_separator",
    "group_column",
    "id_column",
    "category_columns",
    "leave_out",
)
"""Columns that unlabelled files need not have."""


def options_as_read(options: DataOptions, run: str | Path, *, labelled: bool = True) -> DataOptions:
    """Complete data options by the settings of a run.

    Args:
        options: The given options.
        run: The run's folder; a folder without settings changes nothing.
        labelled: Whether labels will be read.

    Returns:
        The options; unchanged where the data are of another kind.
    """
    place = Path(run)
    if not (place / "config.toml").is_file():
        return options
    config, plain = RunFolder(place).config(), DataOptions()
    names = (*_ROWS, *(_LABELS if labelled else ()))
    kept = {
        name: config[name]
        for name in names
        if config.get(name) not in (None, False) and getattr(options, name) == getattr(plain, name)
    }
    found = options_of(place, kept)
    try:
        filled = dataclasses.replace(options, **{name: getattr(found, name) for name in kept})
        kind_of(filled.data, filled)
        return filled
    except (ConfigError, FormatError):  # data of another kind: only settings that apply to them
        try:
            kind = kind_of(options.data, options).name
        except (ConfigError, FormatError):
            return options
    owners = own_settings()
    shared = {name: getattr(found, name) for name in kept if kind in owners.get(name, [kind])}
    return dataclasses.replace(options, **shared)
