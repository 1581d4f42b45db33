"""Between nnet1 networks and the model folder of a run, ``model/config.json`` and ``model/model.safetensors``.

The weights of a run are plain float32 arrays under the names of its modules, so torch is not needed to read them.
"""

__all__ = ["logits_of", "nnet_from_run", "nnet_of_config", "records_with_sizes", "write_run"]

import json
import math
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from limbeck.errors import DataError, FormatError, RunError
from limbeck.kaldi.formats import nnet1_components as nc
from limbeck.kaldi.formats.nnet1 import Nnet
from limbeck.kaldi.formats.nnet1_more import More
from limbeck.kaldi.formats.nnet1_record import arrays_of, nnet_from_records, read_arrays, records_of
from limbeck.system.files import make_beside, make_folder, replace_bytes, replace_json, seal_files, why
from limbeck.system.model_folders import open_model_folder

_KINDS = frozenset({"mlp", "nnet1"})
_LABELS = frozenset({"library_name", "id2label", "label2id", "front_end"})
_MLP = frozenset({"model_type", "input_shape", "classes", "hidden", "dropout", "input_dropout", "max_norm",
                  "activation", "pieces", "ranks", "int8", "input_mean", "input_std"})  # fmt: skip
_ACTIVATIONS: dict[str, Callable[[int], nc.Component]] = {"relu": nc.Relu, "sigmoid": nc.Sigmoid, "tanh": nc.Tanh}
# What a record of the module says beyond the record of the component, where an array has it.
_SIZES: dict[str, frozenset[str]] = {
    "AffineTransform": frozenset({"inputs", "outputs"}),
    "LinearTransform": frozenset({"inputs", "outputs"}),
    "ParametricRelu": frozenset({"dim"}),
    "AddShift": frozenset({"dim"}),
    "Rescale": frozenset({"dim"}),
}
_NEEDS_NEIGHBOURS = "a run sees frames one by one: keep the splice in a feature transform"
_SEES_MORE = "teach by its posteriors, which limbeck forward writes"
_NO_MODULE = {
    nc.Splice: _NEEDS_NEIGHBOURS,
    nc.BlockSoftmax: "a run has one softmax over all its classes",
}


def nnet_from_run(path: str | Path) -> tuple[Nnet, list[str]]:
    """The network of a run's folder, with a softmax at its end.

    Args:
        path: Folder of a run, or its ``model`` folder.

    Returns:
        The network, and what was left out, a note each.

    Raises:
        FormatError: If a file is missing, damaged, or they do not fit each other.
        DataError: If the architecture has no form in nnet1.
    """
    folder = Path(path)
    if (folder / "ensemble.json").exists():
        raise DataError(
            f"{folder} is an ensemble, and an nnet1 file holds one network: give one of its members, such as "
            f"{folder / 'members' / '1'}, or distil it"
        )
    folder, config = open_model_folder(folder)
    if not isinstance(kind := config.get("model_type"), str):
        raise FormatError(
            folder / "config.json", f"model_type must be the name of an architecture, and is {kind!r}"[:200]
        )
    if kind not in _KINDS:
        raise DataError(f"{folder} holds a {kind} network, which has no form in nnet1: only mlp networks have")
    if "presentation" in config:
        raise DataError(f"{folder} says how its inputs are made, under 'presentation', for which nnet1 has no form")
    arrays, _ = read_arrays(folder / "model.safetensors")
    if not config.get("int8") and (wrong := [name for name, value in arrays.items() if value.dtype != np.float32]):
        raise FormatError(folder / "model.safetensors", f"{wrong[0]} is not of float32")
    try:
        return nnet_of_config(config, arrays)
    except FormatError:
        raise
    except DataError as error:
        raise FormatError(folder, str(error)) from error
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        raise FormatError(folder / "config.json", f"is incomplete or damaged: {error!r}") from error


def nnet_of_config(config: Mapping[str, Any], arrays: Mapping[str, NDArray[np.float32]]) -> tuple[Nnet, list[str]]:
    """The network that a description and weights make, with a softmax at its end.

    Args:
        config: As in ``config.json``, of an ``mlp`` or ``nnet1`` network.
        arrays: The weights by the names of their modules.

    Returns:
        The network, and what was left out, a note each.

    Raises:
        DataError: If the network has no form in nnet1.
    """
    if config.get("model_type") not in _KINDS:
        raise DataError(f"a {config.get('model_type')} network has no form in nnet1: only mlp networks have")
    if config["model_type"] == "nnet1":
        return _with_softmax(_from_components(config, arrays)), []
    return _from_mlp(config, arrays)


def _with_softmax(nnet: Nnet) -> Nnet:
    return Nnet((*nnet.components, nc.Softmax(nnet.output_dim)))


def _from_components(config: Mapping[str, Any], arrays: Mapping[str, NDArray[np.float32]]) -> Nnet:
    records = [
        {name: value for name, value in record.items() if name not in _SIZES.get(record["tag"], frozenset())}
        for record in config["components"]
    ]
    return nnet_from_records(records, arrays)


def _from_mlp(config: Mapping[str, Any], arrays: Mapping[str, NDArray[np.float32]]) -> tuple[Nnet, list[str]]:
    if config.get("int8"):
        raise DataError("its weights are 8-bit integers, and nnet1 holds floats: convert the run it was made from")
    if unknown := sorted(set(config) - _LABELS - _MLP):
        raise DataError(f"its config.json has {unknown[0]!r}, for which there is no form in nnet1")
    activation, pieces = config.get("activation", "relu"), 1
    if activation == "maxout":
        pieces = int(config.get("pieces", 2))
    elif activation not in _ACTIVATIONS:
        raise DataError(f"its activation {activation!r} is not known")
    inputs = (math.prod(config["input_shape"]), *config["hidden"])
    outputs = (*(pieces * width for width in config["hidden"]), config["classes"])
    places = sorted({int(name.split(".")[0]) for name in arrays})
    if len(places) != len(inputs):
        raise DataError(f"its model.safetensors has {len(places)} layers, and {len(inputs)} were to be there")
    components = _standardised(config, inputs[0])
    for number, place in enumerate(places):
        last = number == len(places) - 1
        limit = 0.0 if last else float(config.get("max_norm") or 0.0)
        layer = _layer(arrays, place, limit)
        if (layer[0].input_dim, layer[-1].output_dim) != (inputs[number], outputs[number]):
            raise DataError(
                f"layer {place} is {layer[-1].output_dim} by {layer[0].input_dim}: config.json says otherwise"
            )
        components += layer
        if not last and activation == "maxout":
            components.append(nc.Maxout(outputs[number], outputs[number] // pieces))
        elif not last:
            components.append(_ACTIVATIONS[activation](outputs[number]))
    dropped = config.get("dropout") or config.get("input_dropout")
    notes = ["dropout is left out: it has a part in training only"] if dropped else []
    if config.get("front_end"):
        notes.append("how the features are made (CMVN, deltas, context) is not part of an nnet1 file: give it again")
    return _with_softmax(Nnet(tuple(components))), notes


def _standardised(config: Mapping[str, Any], width: int) -> list[nc.Component]:
    mean, std = float(config.get("input_mean", 0.0)), float(config.get("input_std", 1.0))
    if (mean, std) == (0.0, 1.0):
        return []
    return [
        nc.AddShift(np.full(width, -mean, np.float32), 0.0),
        nc.Rescale(np.full(width, 1 / std, np.float32), 0.0),
    ]


def _layer(arrays: Mapping[str, NDArray[np.float32]], place: int, limit: float) -> list[nc.Component]:
    """A linear layer, or the two thin ones that a compressed run has in its place."""
    if f"{place}.weight" in arrays:
        return [nc.AffineTransform(arrays[f"{place}.weight"], arrays[f"{place}.bias"], max_norm=limit)]
    second = nc.AffineTransform(arrays[f"{place}.1.weight"], arrays[f"{place}.1.bias"])
    return [nc.LinearTransform(arrays[f"{place}.0.weight"]), second]


def logits_of(nnet: Nnet) -> Nnet:
    """The components that a run's model has, for a network that gives logits.

    Args:
        nnet: The network; a softmax at its end is left out, and a ``<ParametricRelu>`` that is a ReLU becomes one.

    Returns:
        The network without them.

    Raises:
        DataError: If it holds what sees more than one frame, or several softmaxes at its end.
    """
    for place, component in enumerate(nnet.components):
        reason = _SEES_MORE if isinstance(component, More) else _NO_MODULE.get(type(component))
        if reason is not None:
            raise DataError(f"component {place}, <{component.tag}>, has no place in a run: {reason}")
    has_softmax = isinstance(nnet.components[-1], nc.Softmax) and len(nnet.components) > 1
    kept = nnet.components[:-1] if has_softmax else nnet.components
    return Nnet(
        tuple(
            nc.Relu(part.output_dim) if isinstance(part, nc.ParametricRelu) and part.is_relu else part for part in kept
        )
    )


def records_with_sizes(logits: Nnet) -> list[dict[str, Any]]:
    """A record per component, with the dimensions that its module is made with.

    Args:
        logits: What :func:`logits_of` returned.

    Returns:
        The components as :class:`limbeck.models.Nnet1Config` has them.
    """
    records = records_of(logits)
    for record, component in zip(records, logits.components, strict=True):
        sizes = {"inputs": component.input_dim, "outputs": component.output_dim, "dim": component.output_dim}
        record |= {name: sizes[name] for name in sorted(_SIZES.get(component.tag, ()))}
    return records


def write_run(path: str | Path, nnet: Nnet) -> None:
    """Write a network as the folder of a run that ``limbeck.load`` reads: its weights bit for bit, its output logits.

    Args:
        path: The folder, which must not exist.
        nnet: The network; a softmax at its end is left out, for a run's model puts out logits.

    Raises:
        RunError: If the folder exists, or cannot be written.
    """
    folder = Path(path)
    if folder.exists():
        raise RunError(f"{folder} exists already: choose another folder for the run")
    logits = logits_of(nnet)
    records = records_with_sizes(logits)
    names = [str(number) for number in range(nnet.output_dim)]
    config = {
        "library_name": "limbeck",
        "model_type": "nnet1",
        "input_shape": [nnet.input_dim],
        "classes": nnet.output_dim,
        "components": records,
        "id2label": {name: name for name in names},
        "label2id": {name: int(name) for name in names},
    }
    weights = {name: np.ascontiguousarray(value) for name, value in arrays_of(logits).items()}
    make_folder(folder.parent)
    try:
        fresh = make_beside(folder)
    except OSError as error:
        raise RunError(f"cannot write {folder}: {why(error)}") from error
    try:
        model = make_folder(fresh / "model")
        replace_json(model / "config.json", config)
        replace_bytes(model / "model.safetensors", save(weights, {"format": "pt", "nnet1": json.dumps(records)}))
        seal_files(model, ("config.json", "model.safetensors"))
        os.rename(fresh, folder)
    except OSError as error:
        raise RunError(f"cannot write {folder}: {why(error)}") from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
