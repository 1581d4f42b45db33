"""How a run's own data were read, for data of the same kind that its model is asked about later."""

__all__ = ["options_as_read"]

import dataclasses
from pathlib import Path

from limbeck.data.registry import kind_of, own_settings
from limbeck.errors import ConfigError, FormatError
from limbeck.options import DataOptions
from limbeck.runs.folder import RunFolder
from limbeck.runs.settings import options_of

_ROWS = ("text_column", "pair_column", "words_column", "next_token", "image_column", "layout", "image_size")
"""Which columns hold what, and what they are."""
_LABELS = ("label_column", "label_columns", "label_separator", "group_column", "id_column", "leave_out")
"""Columns that files without labels need not have."""


def options_as_read(options: DataOptions, run: str | Path, *, labelled: bool = True) -> DataOptions:
    """Fill in what a run's settings say of its data's columns and the options leave open.

    Args:
        options: What was asked for.
        run: The run's folder; a folder without settings changes nothing.
        labelled: Whether labels will be read.

    Returns:
        The options, as they were where the data are of a kind that these settings have no meaning for.
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
    except (ConfigError, FormatError):  # data of another kind: only what has a meaning for these
        try:
            kind = kind_of(options.data, options).name
        except (ConfigError, FormatError):
            return options
    owners = own_settings()
    shared = {name: getattr(found, name) for name in kept if kind in owners.get(name, [kind])}
    return dataclasses.replace(options, **shared)
