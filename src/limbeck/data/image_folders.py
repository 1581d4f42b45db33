"""Folders of images: one sub-folder per class, in parts or not, or images without classes."""

__all__ = ["layout_of", "open_folder", "open_folder_inputs"]

import warnings
from pathlib import Path

import numpy as np
from torch import Tensor

from limbeck.data.data_set import DataSet
from limbeck.data.examples import Examples
from limbeck.data.image_reading import read_images
from limbeck.data.splits import PART_NAMES
from limbeck.data.values import Layout
from limbeck.errors import FormatError, LimbeckWarning
from limbeck.formats.image_files import EXTENSIONS, list_classes, list_images, visible
from limbeck.options import ImagePresentation


def open_folder(
    folder: Path, image_size: int | None = None, *, presentation: ImagePresentation | None = None
) -> DataSet:
    """Read a folder with one sub-folder per class, or with such folders named train, val and test.

    ``training``, ``valid``, ``validation``, ``dev`` and ``testing`` are understood as well, in upper or lower case. A
    folder named ``train`` that holds images itself is a class like any other. Images are resized and centre-cropped;
    whether they are held in memory or decoded lazily is decided by :func:`~limbeck.data.image_reading.plan_images`, and
    noted.

    Args:
        folder: The folder.
        image_size: Resize all to this many pixels, square; None where all have one size, or are large.
        presentation: The student's own presentation, if it has one; the files are then decoded lazily.

    Returns:
        The data set.

    Raises:
        FormatError: If an image or a folder cannot be used, or the parts have different classes.
    """
    found, notes = _find_parts(folder)
    found = {"train": found["train"], **found} if found else {"train": folder}
    listings = {part: list_classes(path) for part, path in found.items()}
    first = listings["train"]
    for part, each in listings.items():
        if each.classes != first.classes:
            odd = sorted(set(first.classes) ^ set(each.classes))
            named = f"{found['train'].name} and {found[part].name}"
            raise FormatError(folder, f"{named} have different classes: {', '.join(odd)} in one alone")
        notes += each.notes
    files = {part: each.files for part, each in listings.items()}
    inputs, told = read_images(folder, files, image_size=image_size, presentation=presentation)
    parts = {
        part: Examples.of(inputs[part], np.array(each.labels, np.int64), layout=layout_of(inputs[part])).named(
            [str(file.relative_to(folder)) for file in each.files]
        )
        for part, each in listings.items()
    }
    return DataSet(
        folder.name,
        first.classes,
        parts["train"],
        parts.get("test"),
        parts.get("validation"),
        notes=(*notes, told),
    )


def open_folder_inputs(
    folder: Path, image_size: int | None = None, *, presentation: ImagePresentation | None = None
) -> Examples | None:
    """Read a folder of images without classes: images in it, or in a single sub-folder, or nested deeper.

    Args:
        folder: The folder.
        image_size: Resize all to this many pixels, square; None where all have one size, or are large.
        presentation: How the images of the data beside it are seen, where they are decoded as they are wanted.

    Returns:
        The examples; None where it has one sub-folder per class, or parts.

    Raises:
        FormatError: If an image or a folder cannot be used.

    Warns:
        LimbeckWarning: If other files were skipped.
    """  # noqa: DOC502
    if _has_classes(folder):
        return None
    listing = list_images(folder)
    for note in listing.notes:
        warnings.warn(note, LimbeckWarning, stacklevel=2)
    found, _ = read_images(folder, {"all": listing.files}, image_size=image_size, presentation=presentation)
    names = [str(file.relative_to(folder)) for file in listing.files]
    return Examples.of(found["all"], layout=layout_of(found["all"])).named(names)


def layout_of(inputs: object) -> Layout | None:
    """Where images that were read have their channels; None where a source makes them."""
    return "NCHW" if isinstance(inputs, Tensor) else None


def _find_parts(folder: Path) -> tuple[dict[str, Path], tuple[str, ...]]:
    """The folders of the parts, none where the sub-folders are classes; and what to tell of the others."""
    parts: dict[str, Path] = {}
    others: list[str] = []
    twice: tuple[Path, Path] | None = None
    for entry in _folders(folder):
        part = PART_NAMES.get(entry.name.lower())
        if part is None:
            others.append(entry.name)
        elif part in parts:
            twice = parts[part], entry
        else:
            parts[part] = entry
    if "train" not in parts or not _folders(parts["train"]):
        return {}, ()
    if twice is not None:
        raise FormatError(folder, f"{twice[0].name} and {twice[1].name} are names of one part: keep one of them")
    told = f"beside train, {', '.join(others)} are not read: known are train, val and test"
    return parts, (told,) if others else ()


def _has_classes(folder: Path) -> bool:
    if _find_parts(folder)[0]:
        return True
    folders = _folders(folder)
    return len(folders) > 1 and not _has_images(folder) and all(_has_images(each) for each in folders)


def _folders(folder: Path) -> list[Path]:
    return [entry for entry in _entries(folder) if entry.is_dir()]


def _has_images(folder: Path) -> bool:
    return any(entry.suffix.lower() in EXTENSIONS and entry.is_file() for entry in _entries(folder))


def _entries(folder: Path) -> list[Path]:
    try:
        return visible(folder)
    except (OSError, ValueError) as error:
        raise FormatError(folder, f"cannot be read: {getattr(error, 'strerror', None) or error}") from error
