"""Listing of a folder's image files and their classes; nothing is decoded."""

__all__ = ["EXTENSIONS", "Listing", "list_classes", "list_images", "visible"]

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from limbeck.errors import FormatError

EXTENSIONS = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
_LEFT_BY_SYSTEMS = {"__macosx", "@eadir", "thumbs.db", "desktop.ini"}
_DEEPEST = 32
_Found = TypeVar("_Found")


@dataclass(frozen=True)
class Listing:
    """Image files.

    Attributes:
        files: The paths, sorted by class and name.
        labels: Of each file its position in ``classes``; none where there are no classes.
        classes: Names of the sub-folders, sorted; none where the images are not labelled.
        passed_over: Other files that were seen.
    """

    files: tuple[Path, ...]
    labels: tuple[int, ...] = ()
    classes: tuple[str, ...] = ()
    passed_over: tuple[Path, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """A note on the number of skipped files."""
        if not self.passed_over:
            return ()
        return (f"{len(self.passed_over):,} other files were skipped, such as {self.passed_over[0]}",)


def visible(folder: Path) -> list[Path]:
    """What lies in a folder, sorted by name, without hidden files and those that operating systems leave.

    Args:
        folder: The folder.

    Returns:
        The paths.
    """
    return sorted(
        (each for each in folder.iterdir() if each.name[0] != "." and each.name.lower() not in _LEFT_BY_SYSTEMS),
        key=lambda path: path.name,
    )


def list_classes(root: Path) -> Listing:
    """Images of a folder with one sub-folder per class.

    Args:
        root: The folder.

    Returns:
        The images.

    Raises:
        FormatError: If it has no sub-folders, one of them has no images or sub-folders of its own, it cannot be read,
            or a link leads out of it.
    """  # noqa: DOC502
    return _readable(root, _list_classes)


def list_images(root: Path) -> Listing:
    """All images of a folder and of the folders inside it, without classes.

    Args:
        root: The folder.

    Returns:
        The images.

    Raises:
        FormatError: If there are none, folders are nested too deep, it cannot be read, or a link leads out of it.
    """  # noqa: DOC502
    return _readable(root, _list_images)


def _readable(root: Path, listed: Callable[[Path], _Found]) -> _Found:
    try:
        return listed(root)
    except OSError as error:
        raise FormatError(error.filename or root, f"cannot be read: {error.strerror or error}") from error
    except (RuntimeError, ValueError) as error:  # a loop of links, or a null character in the path
        raise FormatError(root, f"cannot be read: {error}") from error


def _list_classes(root: Path) -> Listing:
    inside = root.resolve(strict=True)
    entries = visible(root)
    folders = [entry for entry in entries if entry.is_dir()]
    if not folders:
        raise FormatError(root, "it has no sub-folders: put the images of each class into a sub-folder of that name")
    files: list[Path] = []
    labels: list[int] = []
    passed_over = [entry for entry in entries if entry not in folders]
    for label, folder in enumerate(folders):
        _check_inside(folder, inside)
        found, others = _divide(visible(folder), inside)
        for entry in others:
            if entry.is_dir():
                raise FormatError(
                    entry,
                    f"a folder inside the class {folder.name}: images lie in {folder} itself, and the parts of a data "
                    "set are named train, val and test",
                )
        if not found:
            there = f"{len(others)} other file(s)" if others else "nothing"
            raise FormatError(folder, f"no image in it, but {there}: known are {' '.join(EXTENSIONS)}")
        files += found
        labels += [label] * len(found)
        passed_over += others
    return Listing(tuple(files), tuple(labels), tuple(folder.name for folder in folders), tuple(passed_over))


def _list_images(root: Path) -> Listing:
    inside = root.resolve(strict=True)
    files: list[Path] = []
    passed_over: list[Path] = []
    waiting = [(root, 0)]
    while waiting:
        folder, depth = waiting.pop()
        if depth > _DEEPEST:
            raise FormatError(root, f"its folders are nested more than {_DEEPEST} deep")
        found, others = _divide(visible(folder), inside)
        files += found
        for entry in others:
            if entry.is_dir():
                _check_inside(entry, inside)
                waiting.append((entry, depth + 1))
            else:
                passed_over.append(entry)
    if not files:
        there = f"{len(passed_over)} other file(s)" if passed_over else "nothing"
        raise FormatError(root, f"no image in it, but {there}: known are {' '.join(EXTENSIONS)}")
    return Listing(tuple(sorted(files, key=os.fspath)), passed_over=tuple(passed_over))


def _divide(entries: list[Path], inside: Path) -> tuple[list[Path], list[Path]]:
    """The images, and all else."""
    found = [entry for entry in entries if entry.suffix.lower() in EXTENSIONS and not entry.is_dir()]
    for file in found:
        _check_inside(file, inside)
        if not file.is_file():
            raise FormatError(file, "not a regular file")
    images = set(found)
    return found, [entry for entry in entries if entry not in images]


def _check_inside(entry: Path, inside: Path) -> None:
    if entry.is_symlink() and not entry.resolve(strict=True).is_relative_to(inside):
        raise FormatError(entry, f"a link that leads outside the folder {inside}: copy what it points to")
