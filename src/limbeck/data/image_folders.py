"""Folders of images: one sub-folder for each class, in parts or not, or images without classes."""

__all__ = ["open_folder", "open_folder_inputs"]

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np

from limbeck.data.examples import DataSet, Examples
from limbeck.errors import FormatError, LimbeckWarning
from limbeck.formats.image_files import EXTENSIONS, visible
from limbeck.formats.pictures import Pictures, read_pictures, read_unlabelled

_PARTS = {"train": "train", "training": "train", "val": "validation", "valid": "validation",
          "validation": "validation", "dev": "validation", "test": "test", "testing": "test"}  # fmt: skip


def open_folder(folder: Path, image_size: int | None) -> DataSet:
    """Read a folder with one sub-folder for each class, or with such folders named train, val and test.

    ``training``, ``valid``, ``validation``, ``dev`` and ``testing`` are understood as well, in upper or lower case. A
    folder named ``train`` that holds images itself is a class like any other.

    Args:
        folder: The folder.
        image_size: Resize all to this many pixels, square; None where all have one size.

    Returns:
        The data set.

    Raises:
        FormatError: If an image or a folder cannot be used, or the parts have different classes or sizes.
    """
    size = None if image_size is None else (image_size, image_size)
    parts, notes = _find_parts(folder)
    if not parts:
        found = read_pictures(folder, size=size)
        return DataSet(folder.name, found.classes, _examples(found), notes=found.notes)
    read = {part: read_pictures(path, size=size) for part, path in parts.items()}
    first = read["train"]
    colour = any(each.images.shape[1] == 3 for each in read.values())
    for part, each in read.items():
        named = f"{parts['train'].name} and {parts[part].name}"
        if each.classes != first.classes:
            odd = sorted(set(first.classes) ^ set(each.classes))
            raise FormatError(folder, f"{named} have different classes: {', '.join(odd)} in one alone")
        if each.images.shape[2:] != first.images.shape[2:]:
            sizes = " and ".join("x".join(map(str, one.images.shape[2:])) for one in (first, each))
            raise FormatError(folder, f"{named} have images of {sizes} pixels: resize all, as with --image-size 224")
        if colour and each.images.shape[1] == 1:
            read[part] = replace(each, images=np.repeat(each.images, 3, 1))
        notes += each.notes
    examples = {part: _examples(each) for part, each in read.items()}
    return DataSet(
        folder.name, first.classes, examples["train"], examples.get("test"), examples.get("validation"), notes=notes
    )


def open_folder_inputs(folder: Path, image_size: int | None) -> Examples | None:
    """Read a folder of images without classes: images in it, or in a single sub-folder, or nested deeper.

    Args:
        folder: The folder.
        image_size: Resize all to this many pixels, square; None where all have one size.

    Returns:
        The examples; None where it has one sub-folder for each class, or parts.

    Raises:
        FormatError: If an image or a folder cannot be used.

    Warns:
        LimbeckWarning: If other files were passed over.
    """  # noqa: DOC502
    if _has_classes(folder):
        return None
    found = read_unlabelled(folder, size=None if image_size is None else (image_size, image_size))
    for note in found.notes:
        warnings.warn(note, LimbeckWarning, stacklevel=2)
    return Examples.of(found.images, layout="NCHW")


def _examples(found: Pictures) -> Examples:
    return Examples.of(found.images, found.labels, layout="NCHW")


def _find_parts(folder: Path) -> tuple[dict[str, Path], tuple[str, ...]]:
    """The folders of the parts, none where the sub-folders are classes; and what to tell of the others."""
    parts: dict[str, Path] = {}
    others: list[str] = []
    twice: tuple[Path, Path] | None = None
    for entry in _folders(folder):
        part = _PARTS.get(entry.name.lower())
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
