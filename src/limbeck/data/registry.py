"""The registry of kinds of data on disk: detection, settings and opening.

Your own kind is an entry point of the group ``limbeck.sources`` that names an object like :class:`Kind`; it is
asked before those that come with Limbeck.
"""

__all__ = [
    "Kind",
    "Reading",
    "claimed",
    "kind_of",
    "kinds",
    "not_predicted",
    "own_settings",
    "reading_in",
    "reading_keys",
    "refuse_others",
    "settings_for",
]

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast, runtime_checkable

from limbeck.errors import ConfigError, FormatError
from limbeck.options import DataOptions
from limbeck.system.extras import load_entry_point

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
_SPREADSHEETS = frozenset({".xlsx", ".xls", ".xlsm", ".xlsb", ".ods", ".numbers"})
_ROWS = frozenset({".jsonl", ".ndjson", ".json"})


class Kind(Protocol):
    """One kind of data on disk.

    Attributes:
        name: Its name, such as "images".
        what: What it looks like and what it is, a line each, for ``limbeck data``.
        settings: Names of the fields of :class:`~limbeck.options.DataOptions` that have a meaning for it alone, or for
            it and few others: given with another kind they are refused.

    It may have more, where it needs that:

    - ``options``: a frozen dataclass based on :class:`~limbeck.options.DataOptions`, whose further fields are settings
      of this kind alone; it then gets an instance. An entry point of the group ``limbeck.source_options`` that names
      the class makes flags of them.
    - ``reading_key`` and ``reading_in(folder, described)``: where models keep how their inputs were made, the key in
      their ``config.json``, and what makes the :class:`Reading` of it again.
    - ``not_predicted``: why ``limbeck predict`` does not take it, and what does.
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


@runtime_checkable
class _KeepsReading(Protocol):
    """What a kind has besides whose models keep how their inputs were made."""

    reading_key: str

    def reading_in(self, folder: Path, described: Any) -> "Reading": ...


@runtime_checkable
class Reading(Protocol):
    """How inputs are made of what is on the disk, where a model keeps that: it must see other data in the same way."""

    @property
    def key(self) -> str:
        """Its key in the model's ``config.json``."""

    @property
    def presentation(self) -> Any:
        """What :meth:`Examples.with_presentation` takes to show examples as such a model sees them."""

    def write(self, folder: Path) -> dict[str, Any]:
        """Write what does not fit ``config.json`` beside a model, and return what does, as plain values."""

    def write_training(self, folder: Path, examples: "Examples", classes: int) -> None:
        """Write what the training examples tell of the classes, and whoever uses the model will want."""

    def seen_in(self, other: "Reading | None", role: str, name: str) -> Any:
        """The presentation for data that were read as ``other`` says, or None where that is the same.

        MismatchError, which names ``role`` and the data, where a model of this reading cannot take such data.
        """

    def fill_in(self, options: DataOptions, *, context: bool) -> DataOptions:
        """Settings as the model's data were read, where these leave it open; ``context``: also what is its own."""

    def illustrate(
        self, config: Mapping[str, Any], examples: "Examples", ask: Callable[["Examples"], Iterator[tuple[str, Any]]]
    ) -> tuple[tuple[Any, ...] | None, list[str]]:
        """What a report shows of one example: the fields of :class:`limbeck.report.Heard`, or None; and notes.

        ``ask`` gives each model's role and its log-probabilities, one after the other, and may raise LimbeckError.
        """


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
        found.append(cast(Kind, load_entry_point(point, "kind of data")))
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
    return claimed(path, options)[0]


def claimed(path: str | Path, options: DataOptions | None = None) -> tuple[Kind, DataOptions]:
    """The kind that a path is of, and the settings as this kind takes them.

    Args:
        path: Any.
        options: How it would be read; settings of other kinds may be among them, at their defaults.

    Returns:
        The first kind that claims it, and its settings: of the class that it has for them.

    Raises:
        ConfigError: If a setting has no meaning for it.
        FormatError: If there is no such file, or none claims it.
    """
    asked = options or DataOptions(data=str(path))
    place = Path(path)
    found = next((kind for kind in kinds() if _claims(kind, place, asked)), None)
    if found is None:
        if not os.path.exists(place):  # False for names that are too long
            raise FormatError(place, "there is no such file or folder; the only data set known by name is mnist")
        known = f"known are {'; '.join(dict.fromkeys(kind.what[0] for kind in kinds()))}"
        raise FormatError(place, f"is not of a known kind: {_cure(place) or known}")
    refuse_others(found, place, asked)
    wanted = _options_of(found)
    if type(asked) is not wanted:
        shared = {f.name for f in dataclasses.fields(wanted)} & {f.name for f in dataclasses.fields(asked)}
        asked = wanted(**{name: getattr(asked, name) for name in shared})
    return found, asked


def _cure(path: Path) -> str:
    """What to do with a file whose ending tells what it is."""
    ending = path.suffix.lower()
    if ending in _SPREADSHEETS:
        return "save the sheet as CSV (UTF-8)"
    if ending in _ROWS:
        return "say what its rows are: text_column (--text-column), words_column or image_column names their column"
    if ending in {".txt", ".text", ".md"}:
        return "write texts as rows of a .csv or .jsonl file, and name their column with text_column (--text-column)"
    return ""


def not_predicted(path: Path) -> str | None:
    """Why ``limbeck predict`` does not take a path, and what does; None where it may."""
    asked = DataOptions(data=str(path))
    found = next((kind for kind in kinds() if _claims(kind, path, asked)), None)
    return getattr(found, "not_predicted", None)


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
        plain = {field.name for field in dataclasses.fields(DataOptions)}
        own = {field.name for field in dataclasses.fields(_options_of(kind))} - plain
        for setting in sorted(kind.settings | own):
            found.setdefault(setting, []).append(kind.name)
    return found


def reading_keys() -> frozenset[str]:
    """Keys of a model's ``config.json`` that say how its inputs were made, of all kinds."""
    return frozenset(kind.reading_key for kind in kinds() if isinstance(kind, _KeepsReading))


def reading_in(folder: Path, config: Mapping[str, Any]) -> Reading | None:
    """How the inputs of a model were made, where its description says so.

    Args:
        folder: Of the model.
        config: What its ``config.json`` holds.

    Returns:
        The reading, or None.
    """
    for kind in kinds():
        if isinstance(kind, _KeepsReading) and (described := config.get(kind.reading_key)) is not None:
            return kind.reading_in(folder, described)
    return None


def _options_of(kind: Kind) -> type[DataOptions]:
    return getattr(kind, "options", DataOptions)


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
    for setting in (f.name for f in dataclasses.fields(options) if _set(options, f)):
        owners = own.get(setting)
        if owners is not None and kind.name not in owners:
            raise ConfigError(f"{setting} is for {' and '.join(owners)}, and {path} is {kind.name}: leave it out")


def settings_for(path: str | Path, options: DataOptions) -> DataOptions:
    """The settings of other data, as far as they have a meaning for a path: the others have their defaults.

    Args:
        path: What is to be read.
        options: How other data were read.

    Returns:
        The settings; unchanged where nothing can be told of the path.
    """
    kind = next((kind for kind in kinds() if _claims(kind, Path(path), options)), None)
    if kind is None:
        return options
    own = own_settings()
    fields = [field for field in dataclasses.fields(options) if kind.name not in own.get(field.name, [kind.name])]
    strange: dict[str, Any] = {field.name: field.default for field in fields}
    return dataclasses.replace(options, **strange)


def _set(options: DataOptions, field: "dataclasses.Field[Any]") -> bool:
    return bool(getattr(options, field.name) != field.default)
