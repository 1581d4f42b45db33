"""Dense layers in HDF5 in Keras's layout: one group per layer, with ``kernel`` (inputs x outputs) and ``bias``.

Both layouts are read: weights in ``layer/layer/kernel:0`` under an attribute ``weight_names``, as Keras 1 and
2 write them (in ``model_weights`` where the file holds a whole model), and plain ``layer/kernel``, as older scripts
write them. What activation follows a layer is read from the attribute ``model_config`` of a whole model, and from an
attribute ``activation`` of the layer's group, which we write. Axes: ``I`` inputs, ``O`` outputs.
"""

__all__ = ["DenseLayer", "read_here", "read_keras_h5", "write_keras_h5"]

import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from limbeck.errors import DataError, FormatError
from limbeck.formats._bounded import open_regular
from limbeck.formats._subprocess import read_apart
from limbeck.system.files import replace_bytes

_MOST_LAYERS = 4096
_DEEPEST = 4
_KERNEL = re.compile(r"(?:.*_)?(?:kernel|W)(?::0)?")
_BIAS = re.compile(r"(?:.*_)?(?:bias|b)(?::0)?")


@dataclass(frozen=True, eq=False)
class DenseLayer:
    """``y = x kernel + bias``.

    Attributes:
        name: The layer's group.
        kernel: float32 ``(I, O)``.
        bias: float32 ``(O,)``, or None where the layer has none.
        activation: What follows it, such as "relu" or "softmax", or None where the file does not say.
    """

    name: str
    kernel: NDArray[np.float32]
    bias: NDArray[np.float32] | None
    activation: str | None = None

    def __post_init__(self) -> None:
        if self.kernel.ndim != 2 or 0 in self.kernel.shape:
            raise DataError(f"layer {self.name}: the kernel has shape {self.kernel.shape}, and should be a matrix")
        if self.bias is not None and self.bias.shape != self.kernel.shape[1:]:
            raise DataError(
                f"layer {self.name}: a bias of shape {self.bias.shape} beside a kernel of shape {self.kernel.shape}"
            )


def read_keras_h5(path: str | PathLike[str]) -> list[DenseLayer]:
    """Read the dense layers of an HDF5 file.

    Groups without weights (activations, dropout) are skipped. The order is that of the attribute
    ``layer_names`` where there is one, else of the names with their numbers compared as numbers.

    The HDF5 library hangs on some damaged files, and crashes on others, so the file is read in a subprocess, with
    limits on time and memory.

    Args:
        path: The file.

    Returns:
        The layers in order, at least one, the outputs of each being the inputs of the next.

    Raises:
        FormatError: If it is not such a file, is damaged, points outside itself, or its layers do not chain.
    """
    with open_regular(path) as (_, size):
        found = read_apart(path, "limbeck.formats._keras_h5_child", size)
    return [
        DenseLayer(item["name"], arrays[0], arrays[1] if len(arrays) > 1 else None, item["activation"])
        for item, arrays in found
    ]


def read_here(path: str | PathLike[str]) -> list[DenseLayer]:
    """Read in this process what :func:`read_keras_h5` reads in another.

    Args:
        path: The file.

    Returns:
        The layers.

    Raises:
        FormatError: As :func:`read_keras_h5`, unless the HDF5 library crashes first.
    """
    with open_regular(path) as (file, size):
        try:
            with h5py.File(file, "r") as root:
                layers = _read_layers(path, root, size)
        except FormatError:
            raise
        except DataError as error:
            raise FormatError(path, str(error)) from error
        except (
            OSError,
            RuntimeError,
            KeyError,
            ValueError,
            TypeError,
            UnicodeError,
            AttributeError,
        ) as error:
            raise FormatError(path, f"not a readable HDF5 file: {' '.join(str(error).split())[:200]}") from error
    for left, right in zip(layers, layers[1:], strict=False):
        outputs, inputs = left.kernel.shape[1], right.kernel.shape[0]
        if left.activation == "maxout" and outputs % inputs == 0:  # the largest of some outputs each
            continue
        if outputs != inputs:
            raise FormatError(
                path,
                f"layer {left.name} has {outputs} outputs, and the next, {right.name}, {inputs} inputs",
            )
    return layers


def write_keras_h5(path: str | PathLike[str], layers: Sequence[DenseLayer]) -> None:
    """Write dense layers, one group each; the file is replaced atomically.

    Args:
        path: The file; its folder must exist.
        layers: The layers in order, with names of their own.

    Raises:
        DataError: If there is no layer, or names repeat or hold a slash.
        RunError: If the file cannot be written.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "weights.h5")
        >>> write_keras_h5(path, [DenseLayer("dense_1", np.ones((3, 2), np.float32), None)])
        >>> read_keras_h5(path)[0].kernel.shape
        (3, 2)
    """
    names = [layer.name for layer in layers]
    if not names or len(set(names)) != len(names) or not all(re.fullmatch(r"[\w.-]*\w[\w.-]*", n) for n in names):
        raise DataError(f"layers need names of their own, of letters, digits, '_', '.' and '-', and have {names}")
    # In memory first: the library does not survive a write that fails.
    content = io.BytesIO()
    with h5py.File(content, "w") as root:
        root.attrs["layer_names"] = [name.encode() for name in names]
        for layer in layers:
            group = root.create_group(layer.name)
            weights = {"kernel": layer.kernel, "bias": layer.bias}
            present = {name: value for name, value in weights.items() if value is not None}
            group.attrs["weight_names"] = [name.encode() for name in present]
            if layer.activation is not None:
                group.attrs["activation"] = layer.activation
            for name, value in present.items():
                group.create_dataset(name, data=value, dtype="<f4", track_times=False)
    replace_bytes(Path(path), [content.getbuffer()])


def _read_layers(path: str | PathLike[str], root: h5py.File, size: int) -> list[DenseLayer]:
    group = root
    if "model_weights" in root:
        group = _member(path, root, "model_weights")
    if len(group) > _MOST_LAYERS:
        raise FormatError(path, f"{len(group)} groups: at most {_MOST_LAYERS} layers are read")
    listed = [_text(name) for name in np.ravel(group.attrs["layer_names"])] if "layer_names" in group.attrs else None
    names = sorted(group, key=_natural) if listed is None else listed
    if len(names) > _MOST_LAYERS or len(set(names)) != len(names):
        raise FormatError(path, "the attribute layer_names repeats a layer, or lists too many")
    layers = []
    budget = [size]
    activations = _read_activations(root)
    for name in names:
        member = _member(path, group, name)
        if not isinstance(member, h5py.Group):
            continue
        found: dict[str, NDArray[np.float32]] = {}
        _collect(path, member, found, budget, 0)
        if "kernel" in found:
            noted = _text(member.attrs["activation"]) if "activation" in member.attrs else activations.get(name)
            layers.append(DenseLayer(name, found["kernel"], found.get("bias"), noted))
        elif found:
            raise FormatError(path, f"layer {name} has a bias and no kernel")
    if not layers:
        raise FormatError(path, "no dense layer: none of its groups holds a kernel")
    return layers


def _read_activations(root: h5py.File) -> dict[str, str]:
    """Return the activation after each dense layer of a whole model, as far as its description tells."""
    if "model_config" not in root.attrs:
        return {}
    described = json.loads(_text(root.attrs["model_config"]))
    listed = described["config"]
    found: dict[str, str] = {}
    last: str | None = None
    for layer in listed["layers"] if isinstance(listed, dict) else listed:
        kind, config = layer["class_name"], layer["config"]
        if kind == "Dense":
            last = str(config["name"])
            found[last] = str(config.get("activation", "linear"))
        elif last is not None and kind in {"Activation", "ReLU", "Softmax"}:
            said = str(config["activation"]) if kind == "Activation" else kind.lower()
            found[last] = said if found[last] == "linear" else f"{found[last]} and {said}"
    return found


def _collect(
    path: str | PathLike[str],
    group: h5py.Group,
    found: dict[str, NDArray[np.float32]],
    budget: list[int],
    depth: int,
) -> None:
    if depth > _DEEPEST or len(group) > _MOST_LAYERS:
        raise FormatError(path, f"the group {group.name} is nested too deep or too wide for a layer")
    for name in group:
        member = _member(path, group, name)
        if isinstance(member, h5py.Group):
            _collect(path, member, found, budget, depth + 1)
            continue
        role = "kernel" if _KERNEL.fullmatch(name) else "bias" if _BIAS.fullmatch(name) else None
        if role is None:
            raise FormatError(path, f"{member.name} is not a weight of a dense layer (kernel or bias)")
        if role in found:
            raise FormatError(path, f"{member.name}: the layer has a second {role}")
        found[role] = _read_weight(path, member, budget)


def _read_weight(path: str | PathLike[str], dataset: h5py.Dataset, budget: list[int]) -> NDArray[np.float32]:
    if not isinstance(dataset, h5py.Dataset) or dataset.dtype.kind != "f" or dataset.dtype.itemsize > 8:
        raise FormatError(path, f"{dataset.name} is not an array of floats")
    if dataset.external or dataset.is_virtual:
        raise FormatError(path, f"{dataset.name} keeps its values in another file, which is not opened")
    # Deflate cannot gain more than 1032 to 1, and plain storage holds every byte.
    stored = dataset.id.get_storage_size()
    needed = dataset.size * dataset.dtype.itemsize
    if stored > budget[0] or needed > stored * (1032 if dataset.compression else 1):
        raise FormatError(
            path, f"{dataset.name} of shape {dataset.shape} needs {needed} bytes, and the file has {stored}"
        )
    budget[0] -= stored
    with np.errstate(over="ignore"):
        values = np.asarray(dataset[()]).astype(np.float32)
    if not np.isfinite(values).all():
        raise FormatError(path, f"{dataset.name} holds NaN or infinity")
    return values


def _member(path: str | PathLike[str], group: h5py.Group, name: str) -> h5py.Group | h5py.Dataset:
    link = group.get(name, getlink=True)
    if not isinstance(link, h5py.HardLink):
        raise FormatError(path, f"{group.name}/{name} is a link, perhaps to another file: links are not followed")
    return group[name]


def _text(name: object) -> str:
    return name.decode("utf-8") if isinstance(name, bytes) else str(name)


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part[:18]) if part.isdecimal() else -1, part) for part in re.split(r"(\d+)", name)]
