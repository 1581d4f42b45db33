"""CSV, JSON lines and parquet files that list image files and their labels."""

__all__ = ["open_image_table", "open_image_table_inputs"]

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from limbeck.data.data_set import DataSet
from limbeck.data.examples import Examples
from limbeck.data.image_folders import layout_of
from limbeck.data.image_reading import read_images
from limbeck.data.splits import PART_NAMES, cut_test
from limbeck.data.text_files import class_labels, sorted_names
from limbeck.errors import DataError, FormatError
from limbeck.formats.records import read_records
from limbeck.options import ImagePresentation


def open_image_table(
    path: str | Path,
    *,
    image_column: str = "path",
    label_column: str = "label",
    split_column: str = "split",
    root: str | Path | None = None,
    image_size: int | None = None,
    presentation: ImagePresentation | None = None,
) -> DataSet:
    r"""Read a file of records that has a row for each image, with its path and its label.

    Args:
        path: A ``.csv``, ``.tsv``, ``.jsonl`` or ``.parquet`` file.
        image_column: The column of the paths.
        label_column: The column of the labels, strings or whole numbers.
        split_column: A column that says train, val or test, or another of the names that
            :func:`~limbeck.data.image_folders.open_folder` knows. Where the file has none, or no test image, a tenth is
            cut out as a test set.
        root: The folder that paths are relative to; None for that of the file.
        image_size: As for :func:`~limbeck.data.image_folders.open_folder`.
        presentation: Likewise.

    Returns:
        The data set; the classes are sorted.

    Raises:
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
    """
    place = Path(path)
    columns, where = read_records(place, [image_column, label_column], optional=[split_column])
    base = place.parent if root is None else Path(root)
    files = _files(place, columns[image_column], image_column, base, where)
    try:
        labels = [str(label) for label in class_labels(columns[label_column])]
    except DataError as error:
        raise FormatError(place, f"{error} in column {label_column!r}") from error
    names = sorted_names(labels, place)
    parts = _parts(place, columns.get(split_column), len(files), split_column, where)
    inputs, note = read_images(
        base,
        {part: [files[row] for row in rows] for part, rows in parts.items()},
        image_size=image_size,
        presentation=presentation,
    )
    numbers = {name: number for number, name in enumerate(names)}
    made = {
        part: Examples.of(
            inputs[part], np.array([numbers[labels[row]] for row in rows], np.int64), layout=layout_of(inputs[part])
        )
        for part, rows in parts.items()
    }
    whole = DataSet(place.stem, names, made["train"], made.get("test"), made.get("validation"), notes=(note,))
    return whole if whole.test is not None else cut_test(whole)


def open_image_table_inputs(
    path: str | Path,
    *,
    image_column: str = "path",
    root: str | Path | None = None,
    image_size: int | None = None,
    presentation: ImagePresentation | None = None,
) -> Examples:
    """Read the images that a file of records lists, without their labels: a transfer set.

    Args:
        path: As for :func:`open_image_table`.
        image_column: The column of the paths.
        root: The folder that paths are relative to; None for that of the file.
        image_size: As for :func:`~limbeck.data.image_folders.open_folder`.
        presentation: How the images of the data beside it are seen.

    Returns:
        The examples, without labels.

    Raises:
        FormatError: If the file or an image is missing or damaged.
    """  # noqa: DOC502
    place = Path(path)
    columns, where = read_records(place, [image_column])
    base = place.parent if root is None else Path(root)
    files = _files(place, columns[image_column], image_column, base, where)
    found: Tensor | Any = read_images(base, {"all": files}, image_size=image_size, presentation=presentation)[0]["all"]
    return Examples.of(found, layout=layout_of(found))


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
    if not parts["train"]:
        raise FormatError(place, f"no row has train in column {column!r}")
    return parts
