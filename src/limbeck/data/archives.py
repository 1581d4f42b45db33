"""Data sets in ``.npz`` archives, under the usual names of arrays."""

__all__ = ["open_archive", "open_archive_inputs"]

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from limbeck.data.data_set import DataSet
from limbeck.data.examples import Examples
from limbeck.data.label_numbers import check_numbers
from limbeck.data.splits import PART_NAMES
from limbeck.data.values import Layout, unpaired, whole_numbers
from limbeck.errors import DataError, FormatError
from limbeck.formats.npz import read_npz

_ROLES = {
    **dict.fromkeys(("x", "images", "image", "imgs", "img", "data", "inputs", "input", "features"), "x"),
    **dict.fromkeys(("y", "labels", "label", "targets", "target"), "y"),
}
_CLASSES = ("classes", "class_names", "label_names", "target_names")
_KNOWN = "x and y, or images and labels, each with _train, _val or _test; and classes"

Arrays = dict[tuple[str, str], tuple[str, NDArray[np.generic]]]
"""Part and role; the array's own name, and the array."""


def open_archive(path: Path, layout: Layout | None) -> DataSet:
    """Read a data set out of an archive.

    Arrays are found by name, in upper or lower case: ``x`` and ``y`` (or ``images`` and ``labels``, ``data`` and
    ``targets``), alone or with ``train``, ``val`` or ``test`` before or after, as in ``x_train`` and ``val_images``.
    Labels are whole numbers or names, ``(N,)`` or ``(N, 1)``, or one-hot rows; without ``classes`` the sorted values
    in the training part are the classes.

    Args:
        path: The archive.
        layout: Axes of images, NHWC or NCHW.

    Returns:
        The data set, with the parts that exist.

    Raises:
        FormatError: If the archive is damaged, or arrays are missing, not known, contradict each other or cannot be
            used.
    """
    arrays, names = _find(path)
    if ("train", "x") not in arrays or ("train", "y") not in arrays:
        role = "x" if ("train", "x") not in arrays else "y"
        raise FormatError(path, f"has no array {role}: it holds {_listed(arrays)}; known are {_KNOWN}")
    for part in ("validation", "test"):
        if ((part, "x") in arrays) != ((part, "y") in arrays):
            role, other = ("x", "labels") if (part, "x") in arrays else ("y", "inputs")
            raise FormatError(path, f"has {arrays[part, role][0]} without the {other} that belong to it")
    labels = {part: _labels(path, arrays, part) for part, role in arrays if role == "y"}
    classes, numbers = _classes(path, names, labels, {part: arrays[part, "y"][0] for part in labels})
    parts = {part: _examples(path, *arrays[part, "x"], numbers[part], layout) for part, role in arrays if role == "x"}
    return DataSet(path.stem, classes, parts["train"], parts.get("test"), parts.get("validation"))


def open_archive_inputs(path: Path, layout: Layout | None) -> Examples:
    """Read the training inputs of an archive, whatever else it holds.

    Args:
        path: The archive.
        layout: Axes of images, NHWC or NCHW.

    Returns:
        The examples, without labels.

    Raises:
        FormatError: If the archive is damaged, or has no such array or one that cannot be used.
    """
    arrays, _ = _find(path, strict=False)
    if ("train", "x") not in arrays:
        raise FormatError(path, f"has no array x: it holds {_listed(arrays)}")
    return _examples(path, *arrays["train", "x"], None, layout)


def _find(path: Path, *, strict: bool = True) -> tuple[Arrays, NDArray[np.generic] | None]:
    found: Arrays = {}
    classes: NDArray[np.generic] | None = None
    unknown = []
    for name, array in read_npz(path).items():
        words = name.lower().split("_")
        part = next((PART_NAMES[word] for word in words if word in PART_NAMES), "train")
        roles = [word for word in words if word not in PART_NAMES]
        if name.lower() in _CLASSES and classes is None:
            classes = array
        elif len(words) > 2 or len(roles) != 1 or roles[0] not in _ROLES:
            unknown.append(name)
        elif (key := (part, _ROLES[roles[0]])) in found:
            raise FormatError(path, f"has {found[key][0]} and {name}, and which to use is ambiguous: leave one out")
        else:
            found[key] = name, array
    if unknown and strict:
        missing = "" if ("train", "x") in found else "has no array x, and "
        raise FormatError(
            path, f"{missing}has arrays that are not known: {', '.join(sorted(unknown))}; known are {_KNOWN}"
        )
    return found, classes


def _listed(arrays: Arrays) -> str:
    return ", ".join(sorted(name for name, _ in arrays.values())) or "nothing"


def _labels(path: Path, arrays: Arrays, part: str) -> NDArray[np.generic]:
    """Labels of a part as int64, bool or text ``(N,)``."""
    (name, given), (of, inputs) = arrays[part, "y"], arrays[part, "x"]
    if not inputs.size or inputs.ndim < 2:
        raise FormatError(
            path, f"{of}: at least one example of at least one number is needed, not shape {inputs.shape}"
        )
    count = len(inputs)
    try:
        if given.dtype.kind not in "USb" or given.ndim > 1 and given.dtype.kind == "b":
            return whole_numbers(given, count, shape=inputs.shape).numpy()
        values = given.reshape(-1) if given.ndim == 2 and given.shape[1] == 1 else given
        if values.shape != (count,):
            raise DataError(unpaired(count, given.shape, inputs.shape))
        return _text(values)
    except DataError as error:
        raise FormatError(path, f"{name}: {error}") from error


def _text(values: NDArray[np.generic]) -> NDArray[np.generic]:
    if values.dtype.kind != "S":
        return values
    try:
        return np.char.decode(values.astype(np.bytes_), "utf-8")
    except UnicodeDecodeError as error:
        raise DataError("the names are not UTF-8") from error


def _classes(
    path: Path, names: NDArray[np.generic] | None, labels: dict[str, NDArray[np.generic]], called: dict[str, str]
) -> tuple[tuple[str, ...], dict[str, NDArray[np.generic]]]:
    """The names of the classes, and the labels of each part as positions among them."""
    kinds = {part: values.dtype.kind for part, values in labels.items()}
    if odd := next((part for part, kind in kinds.items() if kind != kinds["train"]), None):
        both = [f"{called[part]} is of type {labels[part].dtype}" for part in ("train", odd)]
        raise FormatError(path, f"{' and '.join(both)}: labels must be all numbers or all names")
    if names is not None:
        try:
            listed = _text(names)
        except DataError as error:
            raise FormatError(path, f"classes: {error}") from error
        if listed.ndim != 1 or listed.dtype.kind not in "buiU":
            raise FormatError(
                path, f"classes must be a list of names or integers, and are {names.dtype} of shape {names.shape}"
            )
        classes = tuple(str(name) for name in listed.tolist())
        if kinds["train"] != "U":
            return classes, labels
        known = np.array(classes)
    else:
        # Labels may be names, or numbers with gaps: their sorted values are the classes.
        for part in labels:
            try:
                taught = None if part == "train" else labels["train"]
                check_numbers(labels[part], f"{called[part]} in {path.name}", taught=taught)
            except DataError as error:
                raise FormatError(path, f"{called[part]}: {error}") from error
        known = np.unique(labels["train"])
        classes = tuple(str(value) for value in known.tolist())
    order = np.argsort(known)
    numbers: dict[str, NDArray[np.generic]] = {}
    for part, values in labels.items():
        places = order[np.searchsorted(known, values, sorter=order).clip(max=max(len(known) - 1, 0))]
        if (strange := known[places] != values).any():
            where = "is not among the classes" if names is not None else "is not among the training labels"
            raise FormatError(path, f"{called[part]} has the class {str(values[strange][0])!r}, which {where}")
        numbers[part] = places
    return classes, numbers


def _examples(
    path: Path, name: str, inputs: NDArray[np.generic], labels: NDArray[np.generic] | None, layout: Layout | None
) -> Examples:
    try:
        return Examples.of(inputs, labels, layout=layout)
    except DataError as error:
        raise FormatError(path, f"{name}: {error}") from error
