"""nnet1 networks as plain values and named arrays, and in one safetensors file of these.

The arrays are named after the place of their component and their field, ``0.weight``, ``0.bias``, which are the names
that a ``torch.nn.Sequential`` of the components gives its parameters.
"""

__all__ = [
    "arrays_of",
    "nnet_from_records",
    "read_arrays",
    "read_nnet_safetensors",
    "records_of",
    "write_nnet_safetensors",
]

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from os import PathLike
from pathlib import Path
from typing import Any, get_origin

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from limbeck.errors import DataError, FormatError
from limbeck.formats._bounded import open_regular
from limbeck.kaldi.formats import nnet1_components as nc
from limbeck.kaldi.formats.nnet1 import Nnet
from limbeck.kaldi.formats.nnet1_more import More
from limbeck.system.checksums import check_file
from limbeck.system.files import replace_bytes

_KEY = "nnet1"


def records_of(nnet: Nnet) -> list[dict[str, Any]]:
    """Describe each component by its tag and its numbers, without the arrays.

    Args:
        nnet: The network.

    Returns:
        A record a component, of values that JSON can hold.

    Example:
        >>> records_of(Nnet((nc.Splice(2, (-1, 0)), nc.Sigmoid(4))))
        [{'tag': 'Splice', 'inputs': 2, 'offsets': [-1, 0]}, {'tag': 'Sigmoid', 'dim': 4}]
    """
    records = []
    for component in nnet.components:
        values = {field.name: getattr(component, field.name) for field in fields(component)}
        plain = {name: value for name, value in values.items() if _is_plain(value)}
        listed = {name: list(value) if isinstance(value, tuple) else value for name, value in plain.items()}
        records.append({"tag": component.tag, **listed})
    return records


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple):  # of networks inside, and of arrays
        return all(_is_plain(each) for each in value)
    return isinstance(value, int | float | str)


def arrays_of(nnet: Nnet) -> dict[str, NDArray[np.float32]]:
    """The arrays of all components, by place and field.

    Args:
        nnet: The network.

    Returns:
        The arrays, such as ``0.weight``.

    Example:
        >>> list(arrays_of(Nnet((nc.Sigmoid(2), nc.AddShift(np.zeros(2, np.float32))))))
        ['1.values']
    """
    return {
        f"{place}.{field.name}": value
        for place, component in enumerate(nnet.components)
        for field in fields(component)
        if isinstance(value := getattr(component, field.name), np.ndarray)
    }


def nnet_from_records(records: Sequence[Mapping[str, Any]], arrays: Mapping[str, NDArray[np.float32]]) -> Nnet:
    """The network of its records and arrays.

    Args:
        records: As from :func:`records_of`.
        arrays: As from :func:`arrays_of`.

    Returns:
        The network.

    Raises:
        DataError: If a record is unknown or incomplete, or an array is missing, left over or of another shape.

    Example:
        >>> net = Nnet((nc.AddShift(np.ones(2, np.float32)), nc.Tanh(2)))
        >>> nnet_from_records(records_of(net), arrays_of(net)) == net
        True
    """
    left = dict(arrays)
    components = []
    for place, record in enumerate(records):
        values = {str(name): tuple(value) if isinstance(value, list) else value for name, value in record.items()}
        tag = values.pop("tag", None)
        kind = nc.KNOWN_TAGS.get(str(tag).lower())
        if kind is None:
            raise DataError(f"component {place} has the unknown tag {tag!r}")
        named = {field.name for field in fields(kind) if _is_array(field.type)}
        held = {name: left.pop(f"{place}.{name}") for name in sorted(named) if f"{place}.{name}" in left}
        if missing := sorted(named - set(held)):
            raise DataError(f"component {place}, <{tag}>, lacks its array {place}.{missing[0]}")
        if unknown := sorted(set(values) - {field.name for field in fields(kind)} | set(values) & named):
            raise DataError(f"component {place}, <{tag}>, has no number {unknown[0]!r}")
        _check_numbers(f"component {place}, <{tag}>", values)
        try:
            components.append(kind(**values, **held))
        except TypeError as error:
            raise DataError(f"component {place}, <{tag}>, cannot be made: {error}") from error
    if left:
        raise DataError(f"the array {min(left)} belongs to no component")
    return Nnet(tuple(components))


def _is_array(kind: Any) -> bool:
    """Whether a field holds an array; ``NDArray`` is a type of its own from NumPy 2.5 on."""
    origin = get_origin(kind)
    return origin is np.ndarray or getattr(origin, "__name__", "") == "NDArray"


def _check_numbers(what: str, values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        numbers = value if isinstance(value, tuple) else (value,)
        allowed = (int, float) if name.endswith("rate") or name == "max_norm" else (int,)
        for number in numbers:
            if isinstance(number, bool) or not isinstance(number, allowed) or not np.isfinite(number):
                raise DataError(f"{what}: {name} is {value!r}, which is no such number")


def write_nnet_safetensors(path: str | PathLike[str], nnet: Nnet) -> None:
    """Write a network as one safetensors file; every bit of it is kept.

    Args:
        path: The file; its folder must exist.
        nnet: The network.

    Raises:
        DataError: If it has a component that nnet1 files alone can hold.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp(), "net.safetensors")
        >>> write_nnet_safetensors(file, Nnet((nc.AddShift(np.ones(2, np.float32)),)))
        >>> read_nnet_safetensors(file).components[0].values
        array([1., 1.], dtype=float32)
    """
    odd = next((part.tag for part in nnet.components if isinstance(part, More)), None)
    if odd is not None:
        raise DataError(f"<{odd}> is written in nnet1 files alone: give a name that ends in .nnet or .txt")
    arrays = {name: np.ascontiguousarray(value) for name, value in arrays_of(nnet).items()}
    replace_bytes(Path(path), save(arrays, {"format": "np", _KEY: json.dumps(records_of(nnet))}))


def read_nnet_safetensors(path: str | PathLike[str]) -> Nnet:
    """Read what :func:`write_nnet_safetensors` wrote.

    Args:
        path: The file.

    Returns:
        The network.

    Raises:
        FormatError: If it is missing, truncated, corrupt, or holds other tensors.
    """
    arrays, metadata = read_arrays(path)
    if _KEY not in metadata:
        raise FormatError(path, "holds tensors, but no description of an nnet1 network")
    try:
        records = json.loads(metadata[_KEY])
        if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
            raise FormatError(path, "its description is not a list of components")
        return nnet_from_records(records, arrays)
    except (ValueError, RecursionError) as error:
        raise FormatError(path, f"its description is not valid JSON: {error}") from error
    except DataError as error:
        raise FormatError(path, str(error)) from error


def read_arrays(path: str | PathLike[str]) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Read the arrays and the metadata of any safetensors file of float32 arrays.

    Args:
        path: The file.

    Returns:
        Arrays by name, and metadata.

    Raises:
        FormatError: If it is missing, truncated, corrupt or not a safetensors file.
    """
    with open_regular(path):
        pass
    check_file(Path(path))
    try:
        with safe_open(path, framework="np") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise FormatError(path, f"is truncated, corrupt or not a safetensors file: {reason}") from error
