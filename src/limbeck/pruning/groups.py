"""Groups of coupled units, found in the graph that torch.export traces.

A unit is an output of a linear layer or a channel of a convolution. Where it is taken out, all go that hold one number
of it: a row of the layer's weights and bias, the numbers of batch normalisations and depthwise convolutions that pass
it on, the columns of the layers that read it; and where outputs are added or multiplied, a unit of each. What passes a
unit through an unknown operation stays whole, with the reason.
"""

__all__ = ["Group", "Part", "find_groups"]

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import NamedTuple

from torch import nn

from limbeck.inputs import Inputs
from limbeck.models.copying import copy_module
from limbeck.pruning.tracing import Node, nodes_of


class Part(NamedTuple):
    """Where a tensor holds the numbers of units.

    Attributes:
        tensor: Its name in the network.
        dim: Along which of its dimensions.
        block: Numbers of one unit, which lie together.
        reads: Whether it reads the units, as the columns of the next layer do.
    """

    tensor: str
    dim: int
    block: int
    reads: bool


@dataclass(frozen=True)
class Group:
    """Units that can be taken out together.

    Attributes:
        name: Of the layer that makes them, the first where there are several.
        units: How many.
        parts: Where their numbers are.
        reason: Why they must all stay, or None.
    """

    name: str
    units: int
    parts: tuple[Part, ...]
    reason: str | None

    @property
    def readers(self) -> dict[str, int]:
        """The layers that read the units: numbers of a unit in a row of their weights, by the layer's name."""
        return {part.tensor.rpartition(".")[0]: part.block for part in self.parts if part.reads}


class _Label(NamedTuple):
    """Which axis of a value holds units: of what group, and how many numbers each of its finest units has there."""

    axis: int
    group: int
    repeat: Fraction


@dataclass
class _Open:
    """A group while the graph is walked through."""

    name: str
    units: int
    parts: list[tuple[str, int, Fraction, bool]] = field(default_factory=list)
    factor: int = 1
    reason: str | None = None


def find_groups(model: nn.Module, example: Inputs) -> list[Group]:
    """The groups of units of a network, in the order of its layers.

    Args:
        model: A classifier, any module that :func:`torch.export.export` can trace; it is not modified.
        example: A batch of inputs.

    Returns:
        The groups, also those that must stay whole.

    Raises:
        ConfigError: If the network cannot be traced.

    Example:
        >>> import torch
        >>> net = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 2))
        >>> [(group.name, group.units, group.reason is None) for group in find_groups(net, torch.zeros(2, 8))]
        [('0', 6, True), ('2', 2, False)]
    """
    network = copy_module(model).cpu().eval().requires_grad_(False)
    walk = _Walk(network)
    for node in nodes_of(network, example):
        walk.step(node)
    return [walk.closed(number) for number in sorted(walk.roots())]


class _Walk:
    """Walks through a graph, and notes for each value which axis holds what units."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.labels: dict[str, _Label] = {}
        self.groups: list[_Open] = []
        self.parents: list[int] = []
        self.owners: dict[tuple[str, int], tuple[int, Fraction]] = {}
        names: dict[int, list[str]] = {}
        for name, value in model.named_parameters(remove_duplicate=False):
            names.setdefault(id(value), []).append(name)
        self.shared = {name for each in names.values() if len(each) > 1 for name in each}

    def step(self, node: Node) -> None:
        """One operation."""
        kind = _KINDS.get(node.operation)
        given = [self.labels[name] for name in node.inputs if name in self.labels]
        if kind is not None:
            label = kind(self, node)
        else:
            for each in given:
                self.keep(each.group, f"{node.operation} is not supported between units")
            label = None
        if label is not None:
            self.labels[node.name] = label

    def root(self, number: int) -> int:
        """The group that a group has become part of."""
        while self.parents[number] != number:
            number = self.parents[number]
        return number

    def roots(self) -> Iterator[int]:
        """The groups that are not part of another."""
        return (number for number in range(len(self.groups)) if self.parents[number] == number)

    def keep(self, number: int, reason: str) -> None:
        """Let all units of a group stay."""
        group = self.groups[self.root(number)]
        group.reason = group.reason or reason

    def fresh(self, tensor: str, units: int) -> int:
        """A new group, of the layer that has a tensor."""
        self.groups.append(_Open(tensor.rpartition(".")[0], units))
        self.parents.append(len(self.groups) - 1)
        return len(self.groups) - 1

    def join(self, one: int, two: int) -> int:
        """Make two groups one: of each unit of the one goes the unit of the other."""
        first, second = sorted((self.root(one), self.root(two)))
        if first == second:
            return first
        kept, gone = self.groups[first], self.groups[second]
        if kept.units != gone.units or kept.factor != gone.factor:
            self.keep(first, "units are added to others of another number")
            self.keep(second, "units are added to others of another number")
            return first
        kept.parts += gone.parts
        kept.reason = kept.reason or gone.reason
        self.parents[second] = first
        return first

    def hold(self, number: int, tensor: str | None, dim: int, repeat: Fraction, *, reads: bool = False) -> None:
        """Note that a tensor holds the units of a group."""
        if tensor is None:
            return
        number = self.root(number)
        before = self.owners.get((tensor, dim))
        if tensor in self.shared:
            self.keep(number, f"{tensor} is shared with another layer")
        if before is None:
            self.owners[tensor, dim] = (number, repeat)
            self.groups[number].parts.append((tensor, dim, repeat, reads))
        elif before[1] == repeat:  # the layer is called twice
            self.join(number, before[0])
        else:
            self.keep(number, f"{tensor} is used in two ways")
            self.keep(before[0], f"{tensor} is used in two ways")

    def closed(self, number: int) -> Group:
        """A group as it was found."""
        group = self.groups[number]
        reason = group.reason
        parts = []
        for tensor, dim, repeat, reads in group.parts:
            block = repeat * group.factor
            if block.denominator != 1:
                reason = reason or f"{tensor} holds parts of units"
            parts.append(Part(tensor, dim, max(1, int(block)), reads))
        units = group.units // group.factor
        if reason is None and not any(part.reads for part in parts):
            reason = "no layer reads them"
        if reason is None and units < 2:
            reason = "there is one unit"
        return Group(group.name, units, tuple(parts), reason)


def _linear(walk: _Walk, node: Node) -> _Label | None:
    """Rows make new units, columns read those of the input."""
    value, weight, bias = node.at(0), node.tensor(1), node.tensor(2)
    label = walk.labels.get(value or "")
    if weight is None:
        if label is not None:
            walk.keep(label.group, "a linear layer has computed weights")
        return None
    if label is not None and label.axis == len(node.shape_of(0)) - 1:
        walk.hold(label.group, weight, 1, label.repeat, reads=True)
    elif label is not None:
        walk.keep(label.group, "a linear layer mixes other axes than theirs")
    number = walk.fresh(weight, node.shape[-1])
    walk.hold(number, weight, 0, Fraction(1))
    walk.hold(number, bias, 0, Fraction(1))
    return _Label(len(node.shape) - 1, walk.root(number), Fraction(1))


def _convolution(walk: _Walk, node: Node) -> _Label | None:
    """As a linear layer over channels; in as many groups as channels it passes each on."""
    weight, bias, groups = node.tensor(1), node.tensor(2), node.number(6, 1)
    label, channels = walk.labels.get(node.at(0) or ""), node.shape_of(0)[1]
    if weight is None or (label is not None and (label.axis != 1 or label.repeat != 1)) or groups not in {1, channels}:
        if label is not None:
            walk.keep(label.group, "a convolution in groups, or with computed weights, reads them")
        return None
    if groups > 1:
        if label is None or node.shape[1] != channels:
            if label is not None:
                walk.keep(label.group, "a convolution in groups makes several channels of each")
            return None
        walk.hold(label.group, weight, 0, Fraction(1))
        walk.hold(label.group, bias, 0, Fraction(1))
        return _Label(1, walk.root(label.group), Fraction(1))
    if label is not None:
        walk.hold(label.group, weight, 1, Fraction(1), reads=True)
    number = walk.fresh(weight, node.shape[1])
    walk.hold(number, weight, 0, Fraction(1))
    walk.hold(number, bias, 0, Fraction(1))
    return _Label(1, walk.root(number), Fraction(1))


def _batch_norm(walk: _Walk, node: Node) -> _Label | None:
    """Each channel by itself."""
    label = walk.labels.get(node.at(0) or "")
    if label is None:
        return None
    if label.axis != 1:
        walk.keep(label.group, "batch normalisation is over another axis")
        return None
    for place in range(1, 5):
        walk.hold(label.group, node.tensor(place), 0, label.repeat)
    return label


def _passed(walk: _Walk, node: Node) -> _Label | None:
    """Each number by itself, or over the axes of an image."""
    return walk.labels.get(node.at(0) or "")


def _pooled(walk: _Walk, node: Node) -> _Label | None:
    label = walk.labels.get(node.at(0) or "")
    if label is not None and label.axis != 1:
        walk.keep(label.group, "pooling is over their axis")
        return None
    return label


def _reduced(walk: _Walk, node: Node) -> _Label | None:
    """Over other axes than that of the units."""
    label = walk.labels.get(node.at(0) or "")
    if label is None:
        return None
    ndim = len(node.shape_of(0))
    dims = node.numbers(1) or tuple(range(ndim))
    over = {dim % ndim for dim in dims}
    if label.axis in over:
        walk.keep(label.group, f"{node.operation} is over their axis")
        return None
    kept = len(node.shape) == ndim
    return label if kept else label._replace(axis=label.axis - sum(dim < label.axis for dim in over))


def _reshaped(walk: _Walk, node: Node) -> _Label | None:
    """Where units still lie together."""
    label = walk.labels.get(node.at(0) or "")
    if label is None:
        return None
    before, after = node.shape_of(0), node.shape
    outer, size = math.prod(before[: label.axis]), before[label.axis]
    group = walk.groups[walk.root(label.group)]
    for axis, wide in enumerate(after):
        if math.prod(after[:axis]) != outer or (wide == 1 and size > 1):
            continue
        if wide == size:
            return label._replace(axis=axis)
        if wide % size == 0 and wide in _products(before[label.axis :]):
            return label._replace(axis=axis, repeat=label.repeat * (wide // size))
        pieces = size // wide
        if size % wide == 0 and label.repeat == 1 and axis + 1 < len(after) and group.factor in {1, pieces}:
            if math.prod(after[axis + 1 :]) % pieces == 0 and after[axis + 1] == pieces:
                group.factor = pieces
                return label._replace(axis=axis, repeat=Fraction(1, pieces))
        break
    walk.keep(label.group, f"{node.operation} mixes them")
    return None


def _products(sizes: Sequence[int]) -> set[int]:
    """Products of the first sizes, one after the other."""
    found, product = set(), 1
    for size in sizes:
        product *= size
        found.add(product)
    return found


def _moved(walk: _Walk, node: Node) -> _Label | None:
    """Axes in another order."""
    label = walk.labels.get(node.at(0) or "")
    if label is None:
        return None
    ndim = len(node.shape)
    order = list(range(ndim))
    if node.operation == "transpose":
        one, two = node.number(1, 0) % ndim, node.number(2, 0) % ndim
        order[one], order[two] = order[two], order[one]
    else:
        order = [dim % ndim for dim in node.numbers(1)]
    return label._replace(axis=order.index(label.axis))


def _combined(walk: _Walk, node: Node) -> _Label | None:
    """Sums and products, number by number."""
    ndim = len(node.shape)
    found: list[tuple[_Label | None, tuple[int, ...]]] = [
        (walk.labels.get(node.at(place) or ""), node.shape_of(place)) for place in range(2) if node.at(place)
    ]
    labels = [label._replace(axis=label.axis + ndim - len(shape)) for label, shape in found if label is not None]
    if not labels:
        return None
    first = labels[0]
    fits = all(each.axis == first.axis and each.repeat == first.repeat for each in labels)
    for label, shape in found:
        at = first.axis - (ndim - len(shape))
        wide = shape[at] if at >= 0 else 1
        fits = fits and (wide == node.shape[first.axis] if label is not None else wide == 1)
    if not fits:
        for each in labels:
            walk.keep(each.group, f"{node.operation} is with numbers that are not theirs")
        return None
    for each in labels[1:]:
        walk.join(first.group, each.group)
    return first._replace(group=walk.root(first.group))


def _answers(walk: _Walk, node: Node) -> None:
    for name in node.inputs:
        if name in walk.labels:
            walk.keep(walk.labels[name].group, "they are the network's answers")


_KINDS: Mapping[str, Callable[[_Walk, Node], _Label | None]] = {
    "linear": _linear,
    "conv2d": _convolution,
    "batch_norm": _batch_norm,
    "output": _answers,
    **dict.fromkeys(("mean", "amax", "sum"), _reduced),
    **dict.fromkeys(("flatten", "view", "reshape", "unsqueeze", "squeeze", "unflatten", "_unsafe_view"), _reshaped),
    **dict.fromkeys(("permute", "transpose"), _moved),
    **dict.fromkeys(("add", "sub", "mul", "div"), _combined),
    **dict.fromkeys(("max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", "adaptive_max_pool2d"), _pooled),
    **dict.fromkeys(
        ("relu", "relu6", "gelu", "silu", "elu", "sigmoid", "tanh", "hardswish", "hardsigmoid", "hardtanh",
         "leaky_relu", "clamp", "clamp_min", "softplus", "mish", "dropout", "contiguous", "clone", "to",
         "detach", "alias"),
        _passed,
    ),
}  # fmt: skip
"""What operations do with units, by name."""
