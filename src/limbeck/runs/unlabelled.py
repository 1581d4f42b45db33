"""Reading of unlabelled examples in a model's presentation."""

__all__ = ["given_unlabelled", "open_unlabelled", "open_unlabelled_texts"]

from collections.abc import Callable, Sequence, Set
from pathlib import Path
from typing import Any

from limbeck.data.conversion import as_examples
from limbeck.data.examples import Examples
from limbeck.data.idx_folders import has_idx
from limbeck.data.opening import open_inputs
from limbeck.data.position_files import WORDS, is_conll, open_next_token_inputs, open_word_inputs
from limbeck.data.registry import not_predicted
from limbeck.data.table import Table
from limbeck.data.table_encoding import TableEncoding
from limbeck.data.text_files import open_text_inputs
from limbeck.errors import ConfigError, DataError, FormatError, MismatchError
from limbeck.formats.column_names import no_column
from limbeck.formats.in_memory import is_held, with_columns
from limbeck.formats.pandas_files import is_table, read_frame
from limbeck.options import DataOptions, ImagePresentation, TextPresentation
from limbeck.runs.data_warnings import tell_unknown_categories


def given_unlabelled(data: Any, seen: Any, id_column: str | None) -> tuple[Examples, Sequence[Any]]:
    """Convert examples given in Python, with the identifier of each."""
    if is_held(data) and (isinstance(seen, TableEncoding) or hasattr(data, "iloc")):
        return _table("the DataFrame", with_columns(data), seen, id_column)
    examples = as_examples(data).without_labels()
    return examples.with_presentation(seen), range(len(examples))


def open_unlabelled(
    path: str | Path, seen: Any, options: DataOptions, *, id_column: str | None = None
) -> tuple[Examples, Sequence[Any]]:
    """Read unlabelled examples in a model's presentation.

    Args:
        path: A folder of images, a table, a file of texts, or other data that :func:`~limbeck.data.open_inputs` reads.
        seen: The model's presentation, or None.
        options: The data options.
        id_column: The column of a table that identifies its rows.

    Returns:
        The examples, and their identifiers: file names, or row numbers from 0.

    Raises:
        MismatchError: If the model does not take this kind of data.
        FormatError: If a file is missing or damaged.
        ConfigError: If the kind is for another command, or ``id_column`` does not apply.
    """
    place = Path(path)
    refused = not_predicted(place)
    if refused is not None:
        raise ConfigError(f"{path} {refused}")
    opener = _OPENERS.get(type(seen))
    if opener is not None:
        of_texts = isinstance(seen, TextPresentation)
        _refuse_idle(options, _OF_TEXTS if of_texts else set(), "texts" if of_texts else "rows of a table")
        return opener(place, seen, options, id_column)
    if options.image_column is not None:
        _refuse_idle(options, {"image_column", "image_size"}, "images")
        return _listed_images(place, seen, options, id_column)
    if id_column is not None:
        raise ConfigError("id_column is for rows of files, and the model's data are not rows: leave it out")
    if place.is_dir() and not has_idx(place):
        _refuse_idle(options, {"image_size"}, "images")
        return _images(place, seen, options)
    if type(seen) is ImagePresentation:
        if not place.exists():
            raise FormatError(place, "there is no such folder")
        raise MismatchError(f"the model takes images, and {path} is not a folder of images")
    examples = open_inputs(path, options=options)
    return examples, range(len(examples))


_OF_TEXTS = frozenset({"text_column", "pair_column", "words_column", "next_token"})
_OF_IMAGES = frozenset({"image_column", "image_size", "layout"})


def _refuse_idle(options: DataOptions, taken: Set[str], what: str) -> None:
    """Refuse settings that say nothing about what the model takes."""
    plain = DataOptions()
    for name in sorted((_OF_TEXTS | _OF_IMAGES) - taken):
        if getattr(options, name) != getattr(plain, name):
            raise ConfigError(f"{name} is for other data, and the model is given {what}: leave it out")


def open_unlabelled_texts(
    source: Any, seen: TextPresentation, options: DataOptions, id_column: str | None
) -> tuple[Examples, Sequence[Any]]:
    """Read texts, words or next tokens, as the options say."""
    named = id_column or options.id_column
    if options.words_column is not None or is_conll(source):
        column = None if is_conll(source) and options.words_column == WORDS else options.words_column
        found = open_word_inputs(source, words_column=column, id_column=named, presentation=seen)
    elif options.next_token:
        if named is not None:
            raise ConfigError(
                "id_column is for rows, and next tokens are identified by text and position: leave it out"
            )
        found = open_next_token_inputs(source, seen, text_column=options.text_column or "text")
    else:
        column, pair = options.text_column or "text", options.pair_column
        found = open_text_inputs(source, text_column=column, pair_column=pair, id_column=named, presentation=seen)
    return found, _names_of(found)


def _names_of(examples: Examples) -> Sequence[Any]:
    return range(len(examples)) if examples.names is None else examples.names.tolist()


_Opened = tuple[Examples, Sequence[Any]]


def _open_rows(place: Path, seen: Any, options: DataOptions, id_column: str | None) -> _Opened:
    """Read the rows of a table."""
    if not place.exists():
        raise FormatError(place, "there is no such file")
    if not is_table(place):
        raise MismatchError(f"the model takes rows of a table, and {place} is not a .csv or .parquet file")
    return _table(str(place), read_frame(place), seen, id_column)


_OPENERS: dict[type[Any], Callable[[Path, Any, DataOptions, str | None], _Opened]] = {
    TableEncoding: _open_rows,
    TextPresentation: open_unlabelled_texts,
}
"""Readers by the type of presentation; other data are opened by their detected kind."""


def _listed_images(place: Path, seen: Any, options: DataOptions, id_column: str | None) -> _Opened:
    """Read the images listed in a column of a table."""
    from limbeck.data.image_tables import open_image_table_inputs

    assert options.image_column is not None
    listed = open_image_table_inputs(
        place,
        image_column=options.image_column,
        id_column=id_column or options.id_column,
        image_size=options.image_size,
        presentation=_of_images(seen),
    )
    return listed, _names_of(listed)


def _of_images(seen: Any) -> ImagePresentation | None:
    """The model's presentation, if it is of images."""
    return seen if isinstance(seen, ImagePresentation) else None


def _images(folder: Path, seen: Any, options: DataOptions) -> tuple[Examples, Sequence[Any]]:
    """All images in a folder and its subfolders, identified by relative paths."""
    from limbeck.data.image_reading import read_images
    from limbeck.formats.image_files import list_images

    files = list_images(folder).files
    shown = _of_images(seen)
    found = read_images(folder, {"all": files}, image_size=options.image_size, presentation=shown)[0]["all"]
    layout = None if shown is not None or not hasattr(found, "dtype") else "NCHW"
    return Examples.of(found, layout=layout), [str(file.relative_to(folder)) for file in files]  # type: ignore[arg-type]


def _table(path: str, frame: Any, seen: Any, id_column: str | None) -> tuple[Examples, Sequence[Any]]:
    """The columns that the model takes; others are ignored."""
    if id_column is not None and id_column not in frame.columns:
        raise ConfigError(f"{path} {no_column(id_column, frame.columns)}")
    ids = range(len(frame)) if id_column is None else frame[id_column].tolist()
    if isinstance(seen, TableEncoding):
        names = [column.name for column in seen.columns]
        missing = [name for name in names if name not in frame.columns]
        if missing:
            raise MismatchError(f"{path} {no_column(missing[0], frame.columns)}; the model takes that column")
        frame = frame[names]
    elif id_column is not None:
        frame = frame.drop(columns=[id_column])
    try:
        table = Table.of(frame)
        shown = Examples.of(table).with_presentation(seen)
    except DataError as error:
        raise MismatchError(f"{path}: {error}") from error
    if isinstance(seen, TableEncoding):
        tell_unknown_categories(seen, table)
    return shown, ids
