"""CSV, JSON lines and parquet files that list image files and their labels."""

__all__ = ["open_image_table", "open_image_table_inputs"]

import os
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from limbeck.data.data_set import DataSet
from limbeck.data.examples import Examples
from limbeck.data.image_folders import layout_of
from limbeck.data.image_reading import read_images
from limbeck.data.label_columns import LabelColumns, Labels, number_labels
from limbeck.data.part_sources import part_sources, require_columns, whole_name
from limbeck.data.splits import PART_NAMES, cut_test
from limbeck.errors import ConfigError, FormatError
from limbeck.formats.in_memory import class_names, is_held, source_name
from limbeck.formats.records import read_records
from limbeck.options import ImagePresentation


def open_image_table(
    path: Any,
    *,
    image_column: str = "path",
    label_column: str = "label",
    label_columns: Sequence[str] | None = None,
    label_separator: str | None = None,
    split_column: str = "split",
    id_column: str | None = None,
    validation: Any = None,
    test: Any = None,
    root: str | Path | None = None,
    image_size: int | None = None,
    presentation: ImagePresentation | None = None,
) -> DataSet:
    r"""Read a file of records that has a row for each image, with its path and its label.

    Args:
        path: A ``.csv``, ``.tsv``, ``.jsonl`` or ``.parquet`` file, or a table in memory.
        image_column: The column of the paths.
        label_column: The column of the labels, strings or whole numbers; or lists of such, where several labels may
            hold at a time.
        label_columns: Instead: columns of 0 and 1, one per label.
        label_separator: What separates several labels in a text of the label column, such as ";".
        split_column: A column that says train, val or test, or another of the names that
            :func:`~limbeck.data.image_folders.open_folder` knows. Where the file has none, or no test image, a tenth is
            cut out as a test set.
        id_column: A column that names the images; None for their paths as they are written.
        validation: A file or table of validation images, where they are apart.
        test: A file or table of test images, where they are separate.
        root: The folder that paths are relative to; None for that of each file.
        image_size: As for :func:`~limbeck.data.image_folders.open_folder`.
        presentation: As for :func:`~limbeck.data.image_folders.open_folder`.

    Returns:
        The data set; the classes are sorted.

    Raises:
        ConfigError: If a part is there twice.
        FormatError: If the file or an image is missing or damaged, or a path, a label or a part cannot be used.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> folder = Path(tempfile.mkdtemp())
        >>> for number in range(20):
        ...     Image.new("L", (4, 4), 10 * number).save(folder / f"{number}.png")
        >>> rows = [f"{number}.png,{'even' if number % 2 == 0 else 'odd'}" for number in range(20)]
        >>> _ = (folder / "all.csv").write_text("\n".join(["path,label", *rows]))
        >>> data = open_image_table(folder / "all.csv")
        >>> data.classes, data.train.shape, len(data.train), len(data.test)
        (('even', 'odd'), (1, 4, 4), 18, 2)
    """  # noqa: DOC502
    labelled = LabelColumns(label_column, (), label_separator)
    if label_columns is not None:
        labelled = LabelColumns(None, tuple(label_columns))
    sources = part_sources(path, validation, test)
    require_columns(sources, [image_column, *labelled.names, id_column])
    place = whole_name(path)
    listed: dict[str, _Listed] = {}
    for part, source in sources.items():
        found = _listed(source, image_column, id_column, labelled, split_column, root)
        if part != "train":
            found = {part: found["train"]} if set(found) == {"train"} else {part: _one_part(source, found, part)}
        for name, rows in found.items():
            if name in listed and rows.files:
                raise ConfigError(
                    f"there is a {name} part in {place} already, by its column {split_column!r}, and --{name}-data "
                    "gives another: leave one of them out"
                )
            listed[name] = rows
    if not listed["train"].files:
        raise FormatError(place, f"no row has train in column {split_column!r}")
    numbered = number_labels({name: rows.labels for name, rows in listed.items()}, place)
    base = _base(sources["train"], root)
    inputs, note = read_images(
        base, {part: rows.files for part, rows in listed.items()}, image_size=image_size, presentation=presentation
    )
    made = {
        part: numbered.examples(part, Examples.of(inputs[part], layout=layout_of(inputs[part])).inputs, rows.names)
        for part, rows in listed.items()
    }
    whole = numbered.data_set(place.stem, made, notes=(note,))
    return whole if whole.test is not None else cut_test(whole)


@dataclass(frozen=True, eq=False)
class _Listed:
    """The images of one part."""

    files: list[Path]
    labels: Labels
    names: list[str]


def _listed(
    source: Any,
    image_column: str,
    id_column: str | None,
    labelled: LabelColumns,
    split_column: str,
    root: str | Path | None,
) -> dict[str, _Listed]:
    """The images of a file, by the parts that its split column says, that of training first."""
    place = source_name(source)
    wanted = [image_column, *labelled.names, *([] if id_column is None else [id_column])]
    columns, where = read_records(source, wanted, optional=[split_column])
    files = _files(place, columns[image_column], image_column, _base(source, root), where)
    labels = labelled.read(place, columns, where).renamed(class_names(source, labelled.column))
    names = [str(name) for name in columns[id_column or image_column]]
    parts = _parts(place, columns.get(split_column), len(files), split_column, where)
    return {
        part: _Listed([files[row] for row in rows], labels.take(rows), [names[row] for row in rows])
        for part, rows in parts.items()
    }


def _one_part(source: Any, found: Mapping[str, _Listed], part: str) -> _Listed:
    """The rows of a file that is given as one part, and says of itself what its rows are."""
    others = [name for name, rows in found.items() if name != part and rows.files]
    if others:
        raise ConfigError(f"{source_name(source)} is given as the {part} part, and has rows of the {others[0]} part")
    return found[part]


def _base(source: Any, root: str | Path | None) -> Path:
    """The folder that paths are relative to."""
    if root is not None:
        return Path(root)
    return Path() if is_held(source) else Path(source).parent


def open_image_table_inputs(
    path: Any,
    *,
    image_column: str = "path",
    id_column: str | None = None,
    root: str | Path | None = None,
    image_size: int | None = None,
    presentation: ImagePresentation | None = None,
) -> Examples:
    """Read the images that a file of records lists, without their labels: a transfer set.

    Args:
        path: As for :func:`open_image_table`.
        image_column: The column of the paths.
        id_column: A column that names the images; None for their paths as they are written.
        root: The folder that paths are relative to; None for that of the file.
        image_size: As for :func:`~limbeck.data.image_folders.open_folder`.
        presentation: How the images of the data beside it are seen.

    Returns:
        The examples, without labels.

    Raises:
        FormatError: If the file or an image is missing or damaged.
    """  # noqa: DOC502
    place = source_name(path)
    columns, where = read_records(path, [image_column, *([] if id_column is None else [id_column])])
    base = _base(path, root)
    files = _files(place, columns[image_column], image_column, base, where)
    found: Tensor | Any = read_images(base, {"all": files}, image_size=image_size, presentation=presentation)[0]["all"]
    return Examples.of(found, layout=layout_of(found)).named(columns[id_column or image_column])


def _files(place: Path, values: list[Any], column: str, base: Path, where: Callable[[int], str]) -> list[Path]:
    """The files of all rows; each is there."""
    if not values:
        raise FormatError(place, "holds no rows")
    files = []
    for row, value in enumerate(values):
        if not isinstance(value, str) or not value:
            raise FormatError(place, f"{where(row)} has no path in column {column!r}, but {value!r:.60}")
        file = base / value
        try:
            regular = stat.S_ISREG(os.stat(file).st_mode)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise FormatError(place, f"{where(row)} names {value!r:.200}, which is not in {base}: {reason}") from error
        if not regular:
            raise FormatError(place, f"{where(row)} names {value!r:.200}, which is not a regular file")
        files.append(file)
    return files


def _parts(
    place: Path, values: list[Any] | None, count: int, column: str, where: Callable[[int], str]
) -> dict[str, list[int]]:
    """Rows of each part, that of training first."""
    if values is None:
        return {"train": list(range(count))}
    parts: dict[str, list[int]] = {"train": []}
    for row, value in enumerate(values):
        part = PART_NAMES.get(str(value).lower())
        if part is None:
            raise FormatError(place, f"{where(row)} has {value!r:.60} in column {column!r}: known are train, val, test")
        parts.setdefault(part, []).append(row)
    return parts
