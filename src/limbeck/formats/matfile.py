"""EMNIST as published: one MATLAB 5 file per split, with a struct ``dataset``.

Its fields are ``train`` and ``test``, each with ``images`` of shape (N, 784), ``labels`` of shape (N, 1) and
``writers``, which are not read; and ``mapping``, with one row per class: the label, then one or more character
codes.

Axes: ``N`` images, ``K`` classes.
"""

__all__ = ["EmnistArrays", "read_emnist"]

from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import FormatError
from limbeck.formats._matlab5 import Fields, Wanted, read_struct

_SIDE = 28
_PART: Wanted = {"images": None, "labels": None}
_WANTED: Wanted = {"train": _PART, "test": _PART, "mapping": None}


@dataclass(frozen=True, eq=False)
class EmnistArrays:
    """One EMNIST split.

    Attributes:
        train_images: uint8 ``(N, 28, 28)``, upright, 0 is paper and 255 is ink.
        train_labels: int64 ``(N,)`` in [0, K): rows of the file's mapping.
        test_images: As ``train_images``.
        test_labels: As ``train_labels``.
        classes: The K names: a character, or all characters that share a label, such as ``"Aa"``.
    """

    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.int64]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.int64]
    classes: tuple[str, ...]


def read_emnist(path: str | PathLike[str]) -> EmnistArrays:
    """Read an official EMNIST ``.mat`` file: letters, digits, mnist, balanced, byclass or bymerge.

    The images, stored transposed, are turned upright. The labels, which start at 1 in some splits, become
    positions in ``classes``, which keep the order of the file's mapping. A file that is of another format,
    truncated or corrupt, or whose fields are missing, of another type or shape, or contradict each other,
    gives a `FormatError`.

    Args:
        path: The file, in MATLAB's version 5 format.

    Returns:
        The arrays, C-contiguous and writable.

    Example:
        >>> split = read_emnist("emnist-letters.mat")  # doctest: +SKIP
        >>> split.classes[:3]  # doctest: +SKIP
        ('Aa', 'Bb', 'Cc')
    """
    fields = read_struct(path, "dataset", _WANTED)
    labels, classes = _read_mapping(path, fields["mapping"])
    train_images, train_labels = _read_part(path, "train", fields.pop("train"), labels)
    test_images, test_labels = _read_part(path, "test", fields.pop("test"), labels)
    return EmnistArrays(train_images, train_labels, test_images, test_labels, classes)


def _read_part(
    path: str | PathLike[str], part: str, fields: Fields, labels: NDArray[np.int64]
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    images, stored = fields["images"], fields["labels"]
    where = f"dataset.{part}"
    if images.dtype != np.uint8 or images.ndim != 2 or images.shape[1] != _SIDE**2:
        raise FormatError(
            path,
            f"{where}.images has shape {images.shape} of {images.dtype}, not (N, {_SIDE**2}) of uint8",
        )
    if stored.size != len(images) or stored.size != max(stored.shape):
        raise FormatError(
            path,
            f"{where}.images holds {len(images)} images, and {where}.labels has shape {stored.shape}: "
            "one label per image is needed",
        )
    transposed = images.reshape(-1, _SIDE, _SIDE)
    return np.ascontiguousarray(transposed.transpose(0, 2, 1)), _rows(path, f"{where}.labels", stored, labels)


# The K labels as the file writes them, and the K names.
def _read_mapping(path: str | PathLike[str], mapping: NDArray[Any]) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    rows = _whole(path, "dataset.mapping", mapping)
    if rows.ndim != 2 or rows.shape[1] < 2:
        raise FormatError(
            path, f"dataset.mapping has shape {rows.shape}, and needs one row per class: label, character codes"
        )
    names = []
    for row in rows[:, 1:].tolist():
        if not all(0 <= code <= 0x10FFFF and chr(code).isprintable() for code in row):
            raise FormatError(path, f"dataset.mapping holds {row}, which are not codes of printable characters")
        names.append("".join(dict.fromkeys(map(chr, row))))
    for what, values in (("labels", rows[:, 0].tolist()), ("class names", names)):
        if len(set(values)) != len(values):
            raise FormatError(path, f"dataset.mapping gives {what} twice: {values}")
    return rows[:, 0], tuple(names)


# Replaces each stored label by its row in the mapping.
def _rows(path: str | PathLike[str], where: str, stored: NDArray[Any], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    values = _whole(path, where, stored.reshape(-1))
    order = np.argsort(labels)
    found: NDArray[np.int64] = order[np.searchsorted(labels, values, sorter=order).clip(max=len(labels) - 1)]
    strange = values[labels[found] != values]
    if len(strange):
        raise FormatError(path, f"{where} holds {strange[0]}, and the labels in dataset.mapping are {labels.tolist()}")
    return found.astype(np.int64)


def _whole(path: str | PathLike[str], where: str, values: NDArray[Any]) -> NDArray[np.int64]:
    with np.errstate(invalid="ignore"):
        whole = values.astype(np.int64)
    strange = values[whole != values]
    if len(strange):
        raise FormatError(path, f"{where} holds {strange[0]}, and whole numbers are needed")
    return whole
