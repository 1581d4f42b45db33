"""Kinds of data on disk: each says what it claims, which settings are its own, and how it is opened.

A kind of one's own is an entry point of the group ``limbeck.sources`` that names an object like :class:`Kind`; it is
asked before those that come with Limbeck.
"""

__all__ = ["Kind", "kind_of", "kinds", "own_settings", "refuse_others"]

import dataclasses
import os
from collections.abc import Callable, Iterator
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from limbeck.errors import ConfigError, FormatError
from limbeck.options import DataOptions

if TYPE_CHECKING:
    from limbeck.data.data_set import DataSet
    from limbeck.data.examples import Examples

Progress = Callable[[int, int], None]

_BUILT_IN = (
    "limbeck.kaldi.source.kind:KIND",
    "limbeck.data.kinds:MNIST",
    "limbeck.data.kinds:ARCHIVE",
    "limbeck.data.kinds:EMNIST",
    "limbeck.data.kinds:IDX",
    "limbeck.data.kinds:WORDS",
    "limbeck.data.kinds:NEXT_TOKEN",
    "limbeck.data.kinds:TEXT",
    "limbeck.data.kinds:IMAGE_LIST",
    "limbeck.data.kinds:TABLE",
    "limbeck.data.kinds:IMAGES",
)
"""In the order in which they are asked; named, so that none is imported before it is wanted."""
_GROUP = "limbeck.sources"


class Kind(Protocol):
    """One kind of data on disk.

    Attributes:
        name: What it is called, such as "images".
        what: What it looks like and what it is, a line each, for ``limbeck data``.
        settings: Names of the fields of :class:`~limbeck.options.DataOptions` that have a meaning for it alone, or for
            it and few others: given with another kind they are refused.
    """

    name: str
    what: tuple[str, str]
    settings: frozenset[str]

    def claims(self, path: Path, options: DataOptions) -> bool:
        """Whether a path, read with these options, is of this kind; it looks at names and first bytes alone."""

    def open(self, path: Path, options: DataOptions, progress: Progress | None) -> "DataSet":
        """Read it, with the parts that it has; a validation set is cut out by others."""

    def open_inputs(self, path: Path, options: DataOptions, like: "DataSet | None") -> "Examples":
        """Read examples whose labels are not wanted, to be used beside a data set."""


@cache
def kinds() -> tuple[Kind, ...]:
    """All kinds, those of other packages first.

    Returns:
        The kinds, in the order in which they are asked.

    Raises:
        ConfigError: If a package's kind cannot be imported.
    """
    found: list[Kind] = []
    for point in entry_points(group=_GROUP):
        try:
            found.append(cast(Kind, point.load()))
        except Exception as error:  # whatever another package raises
            raise ConfigError(
                f"the kind of data {point.name} ({point.value}) cannot be loaded: {type(error).__name__}: {error}"
            ) from error
    return (*found, *_built_in())


def _built_in() -> Iterator[Kind]:
    for place in _BUILT_IN:
        module, name = place.split(":")
        yield cast(Kind, getattr(import_module(module), name))


def kind_of(path: str | Path, options: DataOptions | None = None) -> Kind:
    """The kind that a path is of.

    Args:
        path: Any.
        options: How it would be read.

    Returns:
        The first kind that claims it.

    Raises:
        ConfigError: If a setting has no meaning for it.
        FormatError: If there is no such file, or none claims it.

    Example:
        >>> kind_of("mnist").name
        'mnist'
    """
    asked = options or DataOptions(data=str(path))
    place = Path(path)
    found = next((kind for kind in kinds() if _claims(kind, place, asked)), None)
    if found is None:
        if not os.path.exists(place):  # False for names that are too long
            raise FormatError(place, "there is no such file or folder; the only data set known by name is mnist")
        known = "; ".join(kind.what[0] for kind in kinds())
        raise FormatError(place, f"is not of a known kind: known are {known}")
    refuse_others(found, place, asked)
    return found


def _claims(kind: Kind, path: Path, options: DataOptions) -> bool:
    try:
        return kind.claims(path, options)
    except OSError:  # a name that no file can have
        return False


def own_settings() -> dict[str, list[str]]:
    """Which kinds each setting belongs to, for settings that do not belong to all.

    Returns:
        Names of kinds by the setting's name.
    """
    found: dict[str, list[str]] = {}
    for kind in kinds():
        for setting in sorted(kind.settings):
            found.setdefault(setting, []).append(kind.name)
    return found


def refuse_others(kind: Kind, path: Path, options: DataOptions) -> None:
    """Refuse settings that have no meaning for a kind of data.

    Args:
        kind: The kind.
        path: What is read, for the message.
        options: The settings.

    Raises:
        ConfigError: If one is set that belongs to other kinds alone.
    """
    own = own_settings()
    for setting in (f.name for f in dataclasses.fields(DataOptions) if _set(options, f)):
        owners = own.get(setting)
        if owners is not None and kind.name not in owners:
            raise ConfigError(f"{setting} is for {' and '.join(owners)}, and {path} is {kind.name}: leave it out")


def _set(options: DataOptions, field: "dataclasses.Field[Any]") -> bool:
    return bool(getattr(options, field.name) != field.default)
