"""Look: the singular values and vectors of every layer, in a metric."""

__all__ = ["Form", "LayerSpectrum", "Metric", "Spectrum", "look"]

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from torch import Tensor, nn

from limbeck.errors import ConfigError, DataError, FormatError
from limbeck.inputs import Inputs, count_of, first_few
from limbeck.lowrank.layers import Matrix, find_layers, model_digest, model_size
from limbeck.lowrank.matrices import Decomposition, decompose
from limbeck.lowrank.moments import Moments, count_positions, measure_moments
from limbeck.lowrank.spatial import decompose_spatial
from limbeck.lowrank.tucker import decompose_channels
from limbeck.models.calling import autograd_enabled
from limbeck.models.replaceable import whole_layers
from limbeck.system.checksums import check_file
from limbeck.system.files import digest_bytes, metadata_in_order, replace_bytes

Metric = Literal["weights", "outputs", "divergence"]
Shape = Literal["channels", "spatial", "tucker"]
"""A layer as two, the first to fewer channels; as one over columns and one over rows; or as three."""


@dataclass(frozen=True, eq=False)
class Form:
    """One factorisation of a layer.

    Attributes:
        shape: Of the matrix whose rank is chosen, ``(m, n)``: of rank k its factors have k n and k m weights. As three:
            channels, and kernel times outputs.
        weight: What a unit of squared error costs, beside other layers.
        positions: Applications of the first and the last factor per example; None where that is unknown.
        decomposition: Singular values and vectors of the matrix.
    """

    shape: tuple[int, int]
    weight: float
    positions: tuple[float, float] | None
    decomposition: Decomposition


@dataclass(frozen=True, eq=False)
class LayerSpectrum:
    """What was seen of one layer.

    Attributes:
        name: The layer's name in the network.
        kind: ``"linear"`` or ``"conv"``.
        shape: Of its matrix, outputs by inputs; of a convolution in groups, inputs of one group.
        itemsize: Bytes per parameter.
        weight: What a unit of squared error in the metric costs, beside other layers.
        positions: Applications per example, or None where that is unknown.
        decomposition: Singular values and vectors, or None where the layer must stay whole.
        mean: Mean of the inputs, if the bias shall make up for the mean error; else None.
        reason: Why the layer must stay whole, or None.
        spatial: Of a convolution: how it becomes one over columns and one over rows; None where that was not asked.
        tucker: Of a convolution: how its channels are projected where it becomes three; None where that was not asked.
    """

    name: str
    kind: str
    shape: tuple[int, int]
    itemsize: int
    weight: float
    positions: float | None
    decomposition: Decomposition | None
    mean: NDArray[np.float64] | None
    reason: str | None
    spatial: Form | None = None
    tucker: Form | None = None

    @property
    def forms(self) -> dict[Shape, Form]:
        """The ways in which it can become several, by name."""
        if self.decomposition is None:
            return {}
        twice = None if self.positions is None else (self.positions, self.positions)
        found: dict[Shape, Form] = {"channels": Form(self.shape, self.weight, twice, self.decomposition)}
        if self.spatial is not None:
            found["spatial"] = self.spatial
        if self.tucker is not None:
            found["tucker"] = self.tucker
        return found


@dataclass(frozen=True, eq=False)
class Spectrum:
    """What was seen of a network.

    Attributes:
        model_digest: SHA-256 of the network.
        metric: In which errors are counted.
        layers: The matrices of the network, in order.
        parameters: Of the whole network.
        bytes: Of all that the network saves.
    """

    model_digest: str
    metric: Metric
    layers: tuple[LayerSpectrum, ...]
    parameters: int
    bytes: int

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all that is here."""
        description, arrays = self._parts()
        pieces: list[bytes | memoryview] = [json.dumps(description, sort_keys=True).encode()]
        for name in sorted(arrays):
            pieces += [f"{name}{arrays[name].shape}".encode(), arrays[name].tobytes()]
        return digest_bytes(pieces)

    def _parts(self) -> tuple[dict[str, Any], dict[str, NDArray[np.float64]]]:
        arrays: dict[str, NDArray[np.float64]] = {}
        layers = []
        for number, layer in enumerate(self.layers):
            parts = layer.decomposition
            if parts is not None:
                arrays |= _arrays_of(str(number), parts)
            if layer.mean is not None:
                arrays[f"{number}.mean"] = layer.mean
            others = {"spatial": layer.spatial, "tucker": layer.tucker}
            more = {name: _described(form) for name, form in others.items() if form is not None}
            for name, form in others.items():
                if form is not None:
                    arrays |= _arrays_of(f"{number}.{name}", form.decomposition)
            layers.append(
                {
                    "name": layer.name,
                    "kind": layer.kind,
                    "shape": list(layer.shape),
                    "itemsize": layer.itemsize,
                    "weight": layer.weight,
                    "positions": layer.positions,
                    "total": None if parts is None else parts.total,
                    "reason": layer.reason,
                    **more,
                }
            )
        head = {"model_digest": self.model_digest, "metric": self.metric}
        return {**head, "parameters": self.parameters, "bytes": self.bytes, "layers": layers}, arrays

    def save(self, path: str | Path) -> None:
        """Write it as safetensors, so that its plans can be applied without the calibration data.

        Args:
            path: The file; its folder must exist.
        """
        description, arrays = self._parts()
        content = save(arrays, {"spectrum": json.dumps(description), "sha256": self.digest})
        replace_bytes(Path(path), metadata_in_order(content))

    @classmethod
    def load(cls, path: str | Path) -> "Spectrum":
        """Read what :meth:`save` wrote, and check it.

        Args:
            path: The file.

        Returns:
            The spectrum.

        Raises:
            FormatError: If the file is missing, damaged, or holds something else.
        """
        check_file(Path(path))
        try:
            with safe_open(Path(path), framework="numpy") as file:
                metadata = file.metadata() or {}
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            text = json.loads(metadata["spectrum"])
            layers = tuple(_read_layer(number, layer, arrays) for number, layer in enumerate(text["layers"]))
            metric = get_args(Metric)[get_args(Metric).index(text["metric"])]
            found = cls(text["model_digest"], metric, layers, int(text["parameters"]), int(text["bytes"]))
        except FileNotFoundError as error:
            raise FormatError(path, "is missing") from error
        except (SafetensorError, OSError, LookupError, TypeError, ValueError, RuntimeError) as error:
            raise FormatError(path, f"is not a spectrum that Limbeck wrote, or is damaged: {error}") from error
        if found.digest != metadata.get("sha256"):
            raise FormatError(path, "does not match its checksum: it was damaged after it was written")
        return found


def _arrays_of(prefix: str, parts: Decomposition) -> dict[str, NDArray[np.float64]]:
    return {f"{prefix}.{key}": np.ascontiguousarray(getattr(parts, key)) for key in ("values", "left", "right")}


def _described(form: Form) -> dict[str, Any]:
    positions = None if form.positions is None else list(form.positions)
    numbers = {"shape": list(form.shape), "weight": form.weight, "positions": positions}
    return {**numbers, "total": form.decomposition.total}


def _read_form(prefix: str, text: dict[str, Any], arrays: dict[str, NDArray[np.float64]]) -> Form:
    m, n = (int(size) for size in text["shape"])
    at = text["positions"]
    positions = None if at is None else (float(at[0]), float(at[1]))
    parts = _read_parts(prefix, (m, n), float(text["total"]), arrays)
    return Form((m, n), float(text["weight"]), positions, parts)


def _read_parts(
    prefix: str, shape: tuple[int, int], total: float, arrays: dict[str, NDArray[np.float64]]
) -> Decomposition:
    values, left, right = (arrays[f"{prefix}.{key}"] for key in ("values", "left", "right"))
    if left.shape != (shape[0], len(values)) or right.shape != (len(values), shape[0]):
        raise ValueError(f"the vectors of {prefix} have shapes {left.shape} and {right.shape}")
    return Decomposition(values, left, right, total, min(shape))


def _read_layer(number: int, text: dict[str, Any], arrays: dict[str, NDArray[np.float64]]) -> LayerSpectrum:
    m, n = (int(size) for size in text["shape"])
    decomposition = None
    if text["total"] is not None:
        decomposition = _read_parts(str(number), (m, n), float(text["total"]), arrays)
    mean = arrays.get(f"{number}.mean")
    positions = None if text["positions"] is None else float(text["positions"])
    sizes = (m, n), int(text["itemsize"]), float(text["weight"])
    others = [
        _read_form(f"{number}.{name}", text[name], arrays) if text.get(name) else None for name in ("spatial", "tucker")
    ]
    return LayerSpectrum(text["name"], text["kind"], *sizes, positions, decomposition, mean, text["reason"], *others)


_FEWEST = 2
"""Channels and outputs from which a convolution is looked at as three."""


@autograd_enabled
def look(
    model: nn.Module,
    calibration: Inputs | Iterable[Inputs] | None = None,
    *,
    metric: Metric | None = None,
    temperature: float = 4.0,
    correct_bias: bool = True,
    example: Inputs | None = None,
    most: int | None = None,
    spatial: bool = False,
    seed: int = 0,
) -> Spectrum:
    r"""Decompose every linear layer and convolution of a network.

    ================ ============================================ ==================================================
    ``metric``       squared error of a layer                     beside other layers
    ================ ============================================ ==================================================
    ``"weights"``    of its weights                               as a share of the weights' own squares
    ``"outputs"``    of its outputs on the calibration data       times the mean Fisher information of an output
    ``"divergence"`` the same, weighted by the Fisher information as it is
    ================ ============================================ ==================================================

    The last two estimate the soft-target loss that truncation will cost (:mod:`limbeck.lowrank.moments`). On trained
    networks ``"divergence"`` kept the most of the answers at equal size, and a temperature of 4 more than one of 1
    (``benchmarks/lowrank.py``).

    Args:
        model: A classifier, any module; it is not modified.
        calibration: Inputs as the network sees them, ``(N, ...)``, or batches of such; some thousand examples.
        metric: As in the table; without calibration data only ``"weights"`` is possible, with them the last is taken.
        temperature: :math:`T > 0`, no unit: answers are compared softened by it.
        correct_bias: Let the new bias make up for the mean error on the calibration data, where there is a bias:
            errors are then counted about their mean. Otherwise the old bias stays.
        example: One batch of inputs, from which the multiply-adds of convolutions are known without calibration.
        most: Ranks above this will not be asked for; quicker for large layers.
        spatial: Look at convolutions in the other forms too, as one over columns and one over rows, and as three.
        seed: Of the answers drawn for the Fisher information.

    Returns:
        The spectrum.

    Raises:
        ConfigError: If the metric is unknown or needs calibration data, or ``most`` or the temperature not positive.
        DataError: If the network has no such layer, or holds or gives values that are not finite.

    Example:
        >>> net = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))
        >>> [layer.decomposition.values.shape for layer in look(net).layers]
        [(5,), (3,)]
    """  # noqa: DOC502
    chosen = metric or ("weights" if calibration is None else "divergence")
    if chosen not in get_args(Metric):
        raise ConfigError(f"unknown metric {chosen!r}: known are {', '.join(get_args(Metric))}")
    if chosen != "weights" and calibration is None:
        raise ConfigError(f"the metric {chosen!r} needs calibration data")
    if not (math.isfinite(temperature) and temperature > 0):
        raise ConfigError(f"temperature must be positive and finite, and is {temperature}")
    if most is not None and most < 1:
        raise ConfigError(f"most must be at least 1, and is {most}")
    found = find_layers(model)
    if example is None and isinstance(calibration, Tensor | Mapping) and count_of(calibration):
        tried: Inputs | None = first_few(calibration)
    else:
        tried = example
    if tried is not None:
        whole = whole_layers(model, tried)
        found = [dataclasses.replace(layer, reason=layer.reason or whole.get(layer.name)) for layer in found]
    weights = {layer.name: layer.weight() for layer in found}
    moments: dict[str, Moments] = {}
    positions: dict[str, float] = {}
    columns: dict[str, float] = {}
    places: dict[str, float] = {}
    if chosen != "weights" and calibration is not None:
        batches = iter([calibration] if isinstance(calibration, Tensor | Mapping) else calibration)
        example = next(batches, None)
        if example is None or not count_of(example):
            raise DataError("there are no calibration data: at least one example is needed")
        if not isinstance(calibration, Tensor | Mapping):
            calibration = chain([example], batches)
        free = [layer for layer in found if layer.reason is None]
        moments = measure_moments(model, calibration, free, temperature=temperature, seed=seed)
    if example is not None:
        positions = count_positions(model, example, found)
        columns = count_positions(model, example, found, at="columns") if spatial else {}
        places = count_positions(model, example, found, at="inputs") if spatial else {}
    layers = []
    for layer in found:
        seen = moments.get(layer.name)
        reason = layer.reason
        if reason is None and chosen != "weights" and seen is None:
            reason = "the calibration data never reach it"
        default = 1.0 if layer.kind == "linear" and example is None else None
        count = positions.get(layer.name, default)
        made = _layer_spectrum(layer, weights[layer.name], chosen, seen, count, reason, correct_bias, most)
        if spatial and made.decomposition is not None:
            at = columns.get(layer.name), places.get(layer.name)
            made = _with_others(made, layer, weights[layer.name], chosen, seen, at)
        layers.append(made)
    return Spectrum(model_digest(model), chosen, tuple(layers), *model_size(model))


def _layer_spectrum(
    layer: Matrix,
    weight: NDArray[np.float64],
    metric: Metric,
    seen: Moments | None,
    positions: float | None,
    reason: str | None,
    correct_bias: bool,
    most: int | None,
) -> LayerSpectrum:
    decomposition, mean, importance = None, None, 1.0
    if reason is None and seen is None:
        decomposition = decompose(weight, most=most)
        importance = 1.0 / decomposition.total if decomposition.total else 1.0
    elif reason is None and seen is not None:
        inputs = seen.inputs
        if correct_bias and layer.module.bias is not None:
            mean, inputs = seen.mean, inputs - np.outer(seen.mean, seen.mean)
        fisher = seen.outputs if metric == "divergence" else None
        decomposition = decompose(weight, inputs=inputs, outputs=fisher, most=most)
        importance = 0.5 * seen.positions
        if metric == "outputs":
            importance *= float(np.trace(seen.outputs)) / len(seen.outputs)
    shape = (weight.shape[0], weight.shape[1])
    itemsize = layer.module.weight.element_size()
    return LayerSpectrum(layer.name, layer.kind, shape, itemsize, importance, positions, decomposition, mean, reason)


def _with_others(
    made: LayerSpectrum,
    layer: Matrix,
    weight: NDArray[np.float64],
    metric: Metric,
    seen: Moments | None,
    at: tuple[float | None, float | None],
) -> LayerSpectrum:
    """The other forms of a convolution beside what was seen of it, where its kernel has columns and rows."""
    if not isinstance(layer.module, nn.Conv2d) or 1 in layer.module.kernel_size or made.decomposition is None:
        return made
    high, wide = layer.module.kernel_size
    inputs, outputs = None, None
    if seen is not None:
        inputs = seen.inputs if made.mean is None else seen.inputs - np.outer(seen.mean, seen.mean)
        outputs = seen.outputs if metric == "divergence" else None
    parts, factor = decompose_spatial(weight, (high, wide), inputs, outputs)
    outer, inner = layer.module.out_channels, layer.module.in_channels
    columns, places = (None if p is None or made.positions is None else (p, made.positions) for p in at)
    spatial = Form((outer * wide, inner * high), made.weight * factor, columns, parts)
    if min(outer, inner) < _FEWEST:
        return dataclasses.replace(made, spatial=spatial)
    channels, factor = decompose_channels(weight, (high, wide), made.decomposition, inputs, outputs)
    tucker = Form((inner, outer * high * wide), made.weight * factor, places, channels)
    return dataclasses.replace(made, spatial=spatial, tucker=tucker)
