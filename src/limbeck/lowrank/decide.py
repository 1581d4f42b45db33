"""Decide: from a spectrum and one rule to a plan."""

__all__ = ["budget_range", "parse_bytes", "plan_ranks"]

import math
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Literal, NamedTuple, cast, get_args

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import ConfigError
from limbeck.lowrank.allocation import Curve, allot
from limbeck.lowrank.matrices import (
    Decomposition,
    Placement,
    rank_for_energy,
    rank_for_parameters,
    rank_for_sum,
)
from limbeck.lowrank.plan import LayerPlan, RankPlan
from limbeck.lowrank.spectrum import Form, LayerSpectrum, Shape, Spectrum

_TRIED = 24
"""Ranks of channels, and of outputs, of which all pairs are tried where a convolution becomes three."""
_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def parse_bytes(text: str | int, *, share_of: int | None = None) -> int:
    """A number of bytes from text such as ``200KB`` (1,000 each) or ``1.5 MiB`` (1,048,576 each), or of a share.

    Args:
        text: The text, a number without a unit up to 1 being a share; or the number itself.
        share_of: Bytes that a share is of; None where there is nothing to take a share of.

    Returns:
        Bytes, rounded down.

    Raises:
        ConfigError: If it is not a positive size.

    Example:
        >>> parse_bytes("200KB"), parse_bytes("1.5 MiB"), parse_bytes(7), parse_bytes("0.25", share_of=1000)
        (200000, 1572864, 7, 250)
    """
    match = re.fullmatch(r"\s*([0-9]{1,15}(?:\.[0-9]{1,9})?)\s*([A-Za-z]*)\s*", str(text))
    if match is None or match[2].upper() not in _UNITS or float(match[1]) <= 0:
        raise ConfigError(f"size must be above 0, such as 200KB, 1.5MB or 1MiB, and is {text!r}")
    if share_of is not None and isinstance(text, str) and not match[2] and float(match[1]) <= 1:
        return int(float(match[1]) * share_of)
    return int(float(match[1]) * _UNITS[match[2].upper()])


def plan_ranks(
    spectrum: Spectrum,
    *,
    rank: int | Mapping[str, int] | None = None,
    sum_share: float | None = None,
    energy_share: float | None = None,
    layer_share: float | None = None,
    parameters: float | None = None,
    flops: float | None = None,
    size: int | str | None = None,
    placement: Placement = "input",
    only_smaller: bool = True,
) -> RankPlan:
    """Choose the rank of every layer by exactly one rule.

    Per layer: ``rank``, ``sum_share``, ``energy_share``, ``layer_share``. For the whole network: ``parameters``,
    ``flops``, ``size``; ranks are then allocated by least loss in the spectrum's metric
    (:func:`limbeck.lowrank.allocation.allot`); a convolution that was decomposed in both forms takes the one that loses
    less for what it costs. A layer is not factorised where its factors would not be smaller.

    Args:
        spectrum: What :func:`limbeck.lowrank.look` saw.
        rank: The same for all layers where it makes them smaller; or ranks by name, and other layers stay whole.
        sum_share: Share kept of each layer's sum of singular values, in (0, 1].
        energy_share: Share kept of each layer's sum of squares of singular values, in (0, 1].
        layer_share: Share of each layer's weights, in (0, 1].
        parameters: Parameters of the whole network, biases and all: a share up to 1, or a count above.
        flops: Multiply-adds of all linear layers and convolutions: a share up to 1, or a count above.
        size: Bytes of all that the network saves, such as ``"200KB"``.
        placement: Where the singular values go, see :func:`limbeck.lowrank.truncate`.
        only_smaller: Keep layers whole whose factors would not be smaller; otherwise the per-layer rules split all.

    Returns:
        The plan.

    Raises:
        ConfigError: If there is not one rule, a value is out of range, a layer's name is unknown, a rank is above the
            possible, or a budget below the smallest possible.

    Example:
        >>> import torch
        >>> from limbeck.lowrank import look
        >>> net = torch.nn.Sequential(torch.nn.Linear(40, 50), torch.nn.ReLU(), torch.nn.Linear(50, 30))
        >>> plan_ranks(look(net), rank={"0": 5}).parameters_after
        2030
    """
    rules = {
        "rank": rank,
        "sum_share": sum_share,
        "energy_share": energy_share,
        "layer_share": layer_share,
        "parameters": parameters,
        "flops": flops,
        "size": size,
    }
    given = {name: value for name, value in rules.items() if value is not None}
    if len(given) != 1:
        raise ConfigError(
            f"one rule is needed, and there are {len(given)} ({', '.join(given) or 'none'}): "
            f"give one of {', '.join(rules)}"
        )
    if placement not in get_args(Placement):
        raise ConfigError(f"placement must be 'input' or 'split', and is {placement!r}")
    name, value = next(iter(given.items()))
    if isinstance(rank, Mapping):
        ranks = _plain(_named_ranks(spectrum, rank))
    elif rank is not None:
        ranks = _plain(_same_rank(spectrum, rank))
    elif name in ("parameters", "flops", "size"):
        ranks = _global_ranks(spectrum, name, cast(float | str, value))
    else:
        ranks = _plain(_ranks_by_share(spectrum, name, cast(float, value)))
    layers = [_layer_plan(layer, ranks.get(layer.name), only_smaller) for layer in spectrum.layers]
    saved = [layer.parameters - layer.parameters_after for layer in layers]
    bytes_saved = sum(count * layer.itemsize for count, layer in zip(saved, spectrum.layers, strict=True))
    shown = "by layer" if isinstance(rank, Mapping) else value
    return RankPlan(
        model_digest=spectrum.model_digest,
        spectrum_digest=None if spectrum.metric == "weights" else spectrum.digest,
        rule=f"{name} {shown}",
        metric=spectrum.metric,
        placement=placement,
        layers=tuple(layers),
        parameters=spectrum.parameters,
        parameters_after=spectrum.parameters - sum(saved),
        bytes=spectrum.bytes,
        bytes_after=spectrum.bytes - bytes_saved,
    )


class _Choice(NamedTuple):
    """A rank, the form that a layer takes, and where it is three convolutions to how many channels the first goes."""

    rank: int
    form: Shape = "channels"
    inner: int | None = None


def _plain(ranks: Mapping[str, int]) -> dict[str, _Choice]:
    return {name: _Choice(rank) for name, rank in ranks.items()}


def _named_ranks(spectrum: Spectrum, ranks: Mapping[str, int]) -> dict[str, int]:
    layers = {layer.name: layer for layer in spectrum.layers}
    for name, rank in ranks.items():
        if name not in layers:
            raise ConfigError(f"there is no layer {name!r}: there are {', '.join(layers)}")
        parts = layers[name].decomposition
        if parts is None:
            raise ConfigError(f"layer {name} cannot be factorised: {layers[name].reason}")
        _check_rank(rank, parts, f"layer {name}", layers[name].shape)
    return dict(ranks)


def _check_rank(rank: int, parts: Decomposition, owner: str, shape: tuple[int, int]) -> None:
    if not 1 <= rank <= parts.possible:
        raise ConfigError(f"rank {rank} is impossible for {owner} of shape {shape}: 1 to {parts.possible} are possible")
    if rank > len(parts.values):
        raise ConfigError(
            f"rank {rank} was asked for {owner}, and only {len(parts.values)} singular values were computed: "
            "look again with a larger most"
        )


def _same_rank(spectrum: Spectrum, rank: int) -> dict[str, int]:
    parts = {layer.name: layer.decomposition for layer in spectrum.layers if layer.decomposition is not None}
    largest = max((part.possible for part in parts.values()), default=0)
    if not 1 <= rank <= largest:
        raise ConfigError(f"rank {rank} is impossible: the largest possible of any layer is {largest}")
    chosen = {layer.name: rank for layer in spectrum.layers if (p := parts.get(layer.name)) and rank <= p.possible}
    for layer in spectrum.layers:
        if layer.name in chosen and layer.decomposition is not None:
            _check_rank(rank, layer.decomposition, f"layer {layer.name}", layer.shape)
    return chosen


def _ranks_by_share(spectrum: Spectrum, rule: str, share: float) -> dict[str, int]:
    ranks = {}
    for layer in spectrum.layers:
        if (parts := layer.decomposition) is None:
            continue
        if rule == "layer_share":
            ranks[layer.name] = min(rank_for_parameters(*layer.shape, share), parts.possible)
            _check_rank(ranks[layer.name], parts, f"layer {layer.name}", layer.shape)
            continue
        if not parts.complete:
            raise ConfigError(f"{rule} needs all singular values of layer {layer.name}: look again without most")
        ranks[layer.name] = (rank_for_sum if rule == "sum_share" else rank_for_energy)(parts.values, share)
    return ranks


def budget_range(spectrum: Spectrum, rule: Literal["parameters", "flops", "size"]) -> tuple[int, int]:
    """The smallest budget that a rule takes, with every layer at rank 1, and what the network has.

    Args:
        spectrum: What was seen.
        rule: The rule, whose unit counts.

    Returns:
        Parameters, multiply-adds or bytes.

    Raises:
        ConfigError: If multiply-adds are asked for and not known.
    """  # noqa: DOC502
    units, whole = _units(spectrum, rule)
    curves = [_curve(each, units[each.name])[1] for each in spectrum.layers if each.decomposition is not None]
    return whole - sum(int(curve.costs[-1] - curve.costs[0]) for curve in curves), whole


def _global_ranks(spectrum: Spectrum, rule: str, value: float | str) -> dict[str, _Choice]:
    units, whole = _units(spectrum, rule)
    budget = (
        parse_bytes(value, share_of=whole)
        if rule == "size" and isinstance(value, str | int)
        else _amount(rule, float(value), whole)
    )
    free = [layer for layer in spectrum.layers if layer.decomposition is not None]
    choices: list[list[_Choice | None]] = []
    curves = []
    for layer in free:
        offered, curve = _curve(layer, units[layer.name])
        choices.append(offered)
        curves.append(curve)
    fixed = whole - sum(int(curve.costs[-1]) for curve in curves)
    smallest = fixed + sum(int(curve.costs[0]) for curve in curves)
    if budget < smallest:
        unit = {"parameters": "parameters", "flops": "multiply-adds", "size": "bytes"}[rule]
        share = f" ({smallest / whole:.4f} of the whole)" if rule != "size" else ""
        raise ConfigError(
            f"{rule} {value} is {budget:,} {unit}, and the smallest possible, every layer at rank 1, is "
            f"{smallest:,}{share}"
        )
    places = allot(curves, budget - fixed)
    picked = {layer.name: offered[place] for layer, offered, place in zip(free, choices, places, strict=True)}
    return {name: choice for name, choice in picked.items() if choice is not None}


def _amount(rule: str, value: float, whole: int) -> int:
    if not (math.isfinite(value) and value > 0):
        raise ConfigError(f"{rule} must be a share in (0, 1] or a count above 1, and is {value}")
    return int(value * whole) if value <= 1 else int(value)


_Unit = Callable[[int, int, tuple[float, float] | None], int]
"""Cost of a layer, from the weights of its two halves and how often each is applied."""


def _units(spectrum: Spectrum, rule: str) -> tuple[dict[str, _Unit], int]:
    """Cost of each layer, and the whole network's."""
    if rule == "parameters":
        return {layer.name: lambda first, second, _: first + second for layer in spectrum.layers}, spectrum.parameters
    if rule == "size":
        sizes = {layer.name: layer.itemsize for layer in spectrum.layers}
        return {name: partial(_bytes, size) for name, size in sizes.items()}, spectrum.bytes
    whole = 0
    for layer in spectrum.layers:
        if layer.positions is None:
            raise ConfigError(
                f"how often layer {layer.name} is applied is not known: look again with example= or calibration data"
            )
        whole += round(layer.positions * layer.shape[0] * layer.shape[1])
    return {layer.name: _products for layer in spectrum.layers}, whole


def _bytes(itemsize: int, first: int, second: int, positions: tuple[float, float] | None) -> int:
    return itemsize * (first + second)


def _products(first: int, second: int, positions: tuple[float, float] | None) -> int:
    assert positions is not None, "asked before"
    return round(first * positions[0] + second * positions[1])


def _curve(layer: LayerSpectrum, unit: _Unit) -> tuple[list[_Choice | None], Curve]:
    """The choices that a layer offers: the cheaper a form is for what it loses, the sooner it is one."""
    size = layer.shape[0] * layer.shape[1]
    offered: list[tuple[int, float, _Choice | None]] = []
    for name, form in layer.forms.items():
        parts, (m, n) = form.decomposition, form.shape
        tails = _tails(parts)
        if name == "tucker":
            offered += _as_three(layer, form, unit)
            continue
        for rank in range(1, min(len(parts.values), (size - 1) // (m + n)) + 1):
            cost = unit(rank * n, rank * m, form.positions)
            offered.append((cost, float(tails[rank]) * form.weight, _Choice(rank, name)))
    whole = unit(0, size, None if layer.positions is None else (layer.positions, layer.positions))
    kept: list[tuple[int, float, _Choice | None]] = []
    for cost, loss, choice in sorted(offered, key=lambda each: (each[0], each[1])):
        if cost < whole and (not kept or (cost > kept[-1][0] and (loss < kept[-1][1] or len(layer.forms) < 2))):
            kept.append((cost, loss, choice))
    kept.append((whole, 0.0, None))
    costs, losses = np.array([each[0] for each in kept], np.int64), np.array([each[1] for each in kept])
    return [each[2] for each in kept], Curve(costs, losses)


def _tails(parts: Decomposition) -> NDArray[np.float64]:
    """The squared error of each rank, from 0."""
    tails: NDArray[np.float64] = np.append(np.cumsum(parts.values[::-1] ** 2)[::-1], 0.0)
    return tails + max(0.0, parts.discarded(len(parts.values)))


def _as_three(layer: LayerSpectrum, form: Form, unit: _Unit) -> list[tuple[int, float, _Choice | None]]:
    """Choices of two ranks, from some of each, as far as they are smaller than the layer."""
    assert layer.decomposition is not None, "there would be no form"
    inside, outside = _tails(form.decomposition), _tails(layer.decomposition)
    channels, size = form.shape[0], layer.shape[0] * layer.shape[1]
    kernel = layer.shape[1] // channels
    found: list[tuple[int, float, _Choice | None]] = []
    for inner in _some(len(form.decomposition.values)):
        for rank in _some(len(layer.decomposition.values)):
            first, rest = inner * channels, rank * (inner * kernel + layer.shape[0])
            if first + rest < size:
                loss = float(inside[inner] + outside[rank]) * form.weight
                found.append((unit(first, rest, form.positions), loss, _Choice(rank, "tucker", inner)))
    return found


def _some(most: int) -> list[int]:
    """Ranks up to the largest: all where they are few, or so many at equal ratios."""
    if most <= _TRIED:
        return list(range(1, most + 1))
    return sorted({round(most ** (place / (_TRIED - 1))) for place in range(_TRIED)})


def _layer_plan(layer: LayerSpectrum, choice: _Choice | None, only_smaller: bool) -> LayerPlan:
    form = None if choice is None else layer.forms.get(choice.form)
    if choice is not None and choice.inner is not None and form is not None:
        return _plan_of_three(layer, form, choice.inner, choice.rank)
    rank, size, reason = None if choice is None else choice.rank, layer.shape[0] * layer.shape[1], layer.reason
    if rank is not None and form is not None and only_smaller and rank * sum(form.shape) >= size:
        rank, form, reason = None, None, f"two factors of rank {rank} would not be smaller"
    kept, loss, after = 1.0, 0.0, size
    if rank is not None and form is not None:
        kept, loss = form.decomposition.kept(rank), form.decomposition.discarded(rank) * form.weight
        after = rank * sum(form.shape)
    spatial = form is not None and choice is not None and choice.form == "spatial"
    return LayerPlan(
        name=layer.name,
        kind=layer.kind,
        shape=layer.shape,
        rank=rank,
        kept=kept,
        loss=loss,
        parameters=size,
        parameters_after=after,
        positions=layer.positions,
        reason=reason,
        spatial=form.shape if spatial and form is not None else None,
        columns=form.positions[0] if spatial and form is not None and form.positions is not None else None,
    )


def _plan_of_three(layer: LayerSpectrum, form: Form, inner: int, rank: int) -> LayerPlan:
    """A convolution as three."""
    assert layer.decomposition is not None, "there would be no form"
    (outputs, inputs), channels = layer.shape, form.shape[0]
    lost = form.decomposition.discarded(inner) + layer.decomposition.discarded(rank)
    total = layer.decomposition.total
    return LayerPlan(
        name=layer.name,
        kind=layer.kind,
        shape=layer.shape,
        rank=rank,
        kept=1.0 if total == 0 else min(1.0, max(0.0, 1.0 - lost / total)),
        loss=lost * form.weight,
        parameters=outputs * inputs,
        parameters_after=inner * channels + rank * (inner * (inputs // channels) + outputs),
        positions=layer.positions,
        reason=layer.reason,
        columns=None if form.positions is None else form.positions[0],
        inner=inner,
        channels=channels,
    )
