"""Optional packages, imported where they are used."""

__all__ = ["entry_points", "load_entry_point", "load_extra"]

import importlib
import sys
from functools import cache
from importlib import metadata
from importlib.metadata import EntryPoint, EntryPoints
from typing import Any

from limbeck.errors import ConfigError, MissingExtraError


def load_extra(module: str, extra: str, *, package: str | None = None) -> Any:
    """Import a module of an optional package.

    Args:
        module: Its name, such as ``"pandas"``.
        extra: The extra of Limbeck that installs it.
        package: The name it is installed by, where that is another.

    Returns:
        The module.

    Raises:
        MissingExtraError: If it is not installed.

    Example:
        >>> load_extra("numpy", "table").__name__
        'numpy'
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(package or module.partition(".")[0], extra) from error


def entry_points(*, group: str) -> EntryPoints:
    """The entry points of a group; the packages that are installed are read once for each search path.

    Args:
        group: The group, such as "limbeck.methods".

    Returns:
        The entry points.

    Example:
        >>> len(entry_points(group="limbeck.nothing"))
        0
    """
    return _read_entry_points(group, tuple(sys.path))


@cache
def _read_entry_points(group: str, path: tuple[str, ...]) -> EntryPoints:
    return metadata.entry_points(group=group)


def load_entry_point(point: EntryPoint, what: str) -> Any:
    """Load an entry point of another package.

    Args:
        point: The entry point.
        what: What it names, such as "exporter".

    Returns:
        The object.

    Raises:
        ConfigError: If it cannot be imported, any error of the package.
    """
    try:
        return point.load()
    except Exception as error:
        raise ConfigError(
            f"the {what} {point.name} ({point.value}) cannot be loaded: {type(error).__name__}: {error}"
        ) from error
