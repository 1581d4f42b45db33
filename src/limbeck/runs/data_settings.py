"""The data settings of a run, reused for new data of the same kind."""

__all__ = ["options_as_read", "own_data", "require_own_test"]

import dataclasses
from pathlib import Path

from limbeck.data.data_set import DataSet
from limbeck.data.registry import kind_of, own_settings
from limbeck.errors import ConfigError, FormatError, RunError
from limbeck.options import DataOptions
from limbeck.options.data import OWN_DATA
from limbeck.options.kinds import every_option
from limbeck.runs.folder import RunFolder
from limbeck.runs.settings import options_of
from limbeck.system.files import read_json

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


def own_data(options: DataOptions, run: str | Path) -> DataOptions:
    """A run's own data, with its settings, where no data are named.

    Args:
        options: The given options.
        run: The run's folder.

    Returns:
        The options; unchanged where they name data. What they set otherwise replaces the run's setting.

    Raises:
        ConfigError: If the run does not name its data, or these are gone.
    """
    if options.data != OWN_DATA:
        return options
    place = Path(run)
    config = RunFolder(place).config() if (place / "config.toml").is_file() else {}
    if "data" not in config:
        raise ConfigError(f"{run} does not name the data that it was trained on: give data (--data)")
    fields = [field for field in dataclasses.fields(every_option()) if field.name not in {"data", "allow_pipes"}]
    kept = {field.name: config[field.name] for field in fields if field.name in config}
    given = {name: value for name, value in dataclasses.asdict(options).items() if name != "data"}
    plain = dataclasses.asdict(every_option()())
    asked = {name: value for name, value in given.items() if value != plain[name]}
    found = options_of(place, {**kept, "data": config["data"], **asked})
    try:
        kind_of(found.data, found)
    except FormatError as error:
        raise ConfigError(f"{run} names its data, which cannot be opened: give data (--data): {error}") from error
    return found


def require_own_test(run: str | Path, data: DataSet, options: DataOptions) -> None:
    """Refuse a run's own data that have changed since.

    Args:
        run: The run's folder.
        data: What was read.
        options: As from :func:`own_data`.

    Raises:
        RunError: If the test set is not the one that the run was evaluated on.
    """
    path = Path(run) / "identity.json"
    before = read_json(path) if path.is_file() else None
    digest = before.get("test") if isinstance(before, dict) else None
    if digest is None or data.test is None or data.test.digest == digest:
        return
    raise RunError(
        f"{options.test_data or options.data} has changed since {run} was trained: its test set had the digest "
        f"{str(digest)[:12]}..., and has {data.test.digest[:12]}... now: name the data with data (--data) to evaluate "
        "on them as they are"
    )
