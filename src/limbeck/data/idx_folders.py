"""Folders with the four IDX files of MNIST and similar data sets."""

__all__ = ["has_idx", "open_idx"]

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from limbeck.data.data_set import DataSet
from limbeck.data.examples import Examples
from limbeck.errors import DataError, FormatError
from limbeck.formats.idx import read_idx

_NAME = re.compile(r"(|.+-)(train|t10k|test)-(images[-.]idx3|labels[-.]idx1)-ubyte(\.gz)?", re.IGNORECASE)
_ROLES = ("images", "labels")


def has_idx(folder: Path) -> bool:
    """Whether a folder holds an IDX file of a known name.

    Args:
        folder: The folder.

    Returns:
        True if it does.
    """
    return bool(_find(folder))


def open_idx(folder: Path) -> DataSet:
    """Read the four files: images and labels, for training and for testing, gzipped or not.

    The labels that occur in training, in order, are the classes: EMNIST's letters count from 1. EMNIST's own files,
    whose names begin with "emnist-", have transposed images, which are corrected.

    Args:
        folder: The folder.

    Returns:
        The data set.

    Raises:
        FormatError: If a file is missing or damaged, does not hold images or labels, or files of several data sets
            lie there.
        DataError: If there are no training images.
    """
    found = _find(folder)
    sets = sorted({prefix for prefix, _, _ in found})
    if len(sets) != 1:
        names = ", ".join(prefix.rstrip("-") or "(no name)" for prefix in sets)
        raise FormatError(folder, f"holds the files of several data sets, {names}: put those of one into a folder")
    prefix = sets[0]
    upright = prefix.lower().startswith("emnist-")
    parts = [_part(folder, found, prefix, part, upright) for part in ("train", "test")]
    (x, y), (x_test, y_test) = parts
    if not len(y):
        raise DataError("the training files hold no images")
    values = np.unique(y)
    strange = np.setdiff1d(y_test, values)
    if len(strange):
        raise FormatError(folder, f"the test labels hold {strange[0]}, and the training labels do not")
    train = Examples.of(x, np.searchsorted(values, y), layout="NCHW")
    test = Examples.of(x_test, np.searchsorted(values, y_test), layout="NCHW") if len(y_test) else None
    notes = ("EMNIST's files have transposed images: they were corrected",) if upright else ()
    return DataSet(folder.name, tuple(str(value) for value in values.tolist()), train, test, notes=notes)


def _find(folder: Path) -> dict[tuple[str, str, str], Path]:
    """The file of each data set's prefix, part and role; of several, unpacked before gzipped, dashes before dots."""
    found: dict[tuple[str, str, str], Path] = {}
    for file in sorted(folder.iterdir(), key=lambda path: (path.name.endswith(".gz"), ".idx" in path.name, path.name)):
        match = _NAME.fullmatch(file.name)
        if match is not None and file.is_file():
            part = "train" if match[2].lower() == "train" else "test"
            found.setdefault((match[1], part, match[3][:6].lower()), file)
    return found


def _part(
    folder: Path, found: dict[tuple[str, str, str], Path], prefix: str, part: str, upright: bool
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    arrays = []
    for role in _ROLES:
        file = found.get((prefix, part, role))
        if file is None:
            stem = f"{prefix}{'train' if part == 'train' else 't10k'}-{role}-idx{3 if role == 'images' else 1}-ubyte"
            raise FormatError(folder / stem, "is missing, with .gz or without; the four files belong together")
        array = read_idx(file)
        if array.dtype != np.uint8 or array.ndim != (3 if role == "images" else 1):
            raise FormatError(file, f"holds {array.dtype} of shape {array.shape}, not the bytes of images or labels")
        arrays.append(array)
    images, labels = arrays
    if len(images) != len(labels):
        raise FormatError(folder, f"the {part} files hold {len(images)} images and {len(labels)} labels")
    # A channel axis, so that images with 3 rows are not mistaken for channels.
    turned = np.ascontiguousarray(images.transpose(0, 2, 1)) if upright else images
    return turned[:, None], labels
