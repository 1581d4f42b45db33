"""Low-rank layers: a layer factorised into two thin ones, as a structure that is saved and rebuilt."""

__all__ = [
    "Factored",
    "factored_ranks",
    "is_linear",
    "limit_incoming",
    "spatial_layers",
    "split_layers",
    "tucker_layers",
]

from collections.abc import Collection, Mapping, Sequence
from typing import Any, cast

import torch
from torch import nn

from limbeck.errors import ConfigError
from limbeck.models.copying import copy_module
from limbeck.models.fused import take_off_fused
from limbeck.models.layers import limit_norms
from limbeck.models.transposed import carry_mark


class Factored(nn.Sequential):
    """A layer of low rank: a thin one without bias, then one with the bias that the old layer had.

    A linear layer becomes two linear ones. A convolution becomes one of the same kernel, stride, padding and dilation
    to ``rank`` channels, and a 1x1 convolution; or, spatial, one over columns (``h x 1``) to ``rank`` channels, and one
    over rows (``1 x w``); or, of Tucker's form, three: a 1x1 convolution to ``inner`` channels, one of the same kernel
    to ``rank`` channels, and a 1x1 convolution. The weights are zeros until they are loaded or set.

    Args:
        layer: The layer whose place it takes; its weights are not read.
        rank: Width between the two.
        spatial: Whether a convolution becomes one over columns and one over rows.
        inner: To how many channels the first of three goes; None for two.

    Example:
        >>> [tuple(p.shape) for p in Factored(nn.Linear(8, 6), 2).parameters()]
        [(2, 8), (6, 2), (6,)]
        >>> [tuple(p.shape) for p in Factored(nn.Conv2d(4, 6, 3), 2, spatial=True).parameters()]
        [(2, 4, 3, 1), (6, 2, 1, 3), (6,)]
    """

    def __init__(
        self, layer: nn.Linear | nn.Conv2d, rank: int, *, spatial: bool = False, inner: int | None = None
    ) -> None:
        like = {"device": layer.weight.device, "dtype": layer.weight.dtype}
        bias = layer.bias is not None
        if isinstance(layer, nn.Linear):
            first = _empty(nn.Linear, layer.in_features, rank, bias=False, **like)
            second = _empty(nn.Linear, rank, layer.out_features, bias=bias, **like)
        elif spatial:
            first = _empty(nn.Conv2d, layer.in_channels, rank, **_along(layer, 0), bias=False, **like)
            second = _empty(nn.Conv2d, rank, layer.out_channels, **_along(layer, 1), bias=bias, **like)
        else:
            first = _empty(
                nn.Conv2d,
                layer.in_channels if inner is None else inner,
                rank,
                layer.kernel_size,
                stride=layer.stride,
                padding=layer.padding,
                dilation=layer.dilation,
                padding_mode=layer.padding_mode,
                bias=False,
                **like,
            )
            second = _empty(nn.Conv2d, rank, layer.out_channels, 1, bias=bias, **like)
        before = (
            []
            if inner is None or isinstance(layer, nn.Linear)
            else [_empty(nn.Conv2d, layer.in_channels, inner, 1, bias=False, **like)]
        )
        super().__init__(*before, first, second)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.zero_()
        if layer.weight.ndim == 4 and layer.weight.is_contiguous(memory_format=torch.channels_last):
            self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.requires_grad_(layer.weight.requires_grad)
        self.train(layer.training)
        self.rank, self.spatial, self.inner = rank, spatial, inner
        carry_mark(layer, self)


def _along(layer: nn.Conv2d, axis: int) -> dict[str, Any]:
    """Kernel, stride, padding and dilation of a convolution along one axis; along the other it does nothing."""

    def only(values: tuple[int, ...], idle: int) -> tuple[int, int]:
        return (values[0], idle) if axis == 0 else (idle, values[1])

    padding = layer.padding if isinstance(layer.padding, str) else only(layer.padding, 0)
    return {
        "kernel_size": only(layer.kernel_size, 1),
        "stride": only(layer.stride, 1),
        "padding": padding,
        "dilation": only(layer.dilation, 1),
        "padding_mode": layer.padding_mode,
    }


def _empty(kind: type[nn.Module], *sizes: Any, **options: Any) -> nn.Module:
    # skip_init draws no random numbers, so the global generator is left as it was.
    module: nn.Module = nn.utils.skip_init(kind, *sizes, **options)  # type: ignore[no-untyped-call]
    return module


def factored_ranks(model: nn.Module) -> dict[str, int]:
    """The rank of each low-rank layer of a network, by name.

    Args:
        model: Any module.

    Returns:
        Ranks, in the order of the layers; empty where there are none.

    Example:
        >>> factored_ranks(split_layers(nn.Sequential(nn.ReLU(), nn.Linear(8, 6)), {"1": 2}))
        {'1': 2}
    """
    return {name: module.rank for name, module in model.named_modules() if isinstance(module, Factored)}


def spatial_layers(model: nn.Module) -> list[str]:
    """Which low-rank layers of a network are a convolution over columns and one over rows.

    Args:
        model: Any module.

    Returns:
        Names, in the order of the layers.
    """
    return [name for name, module in model.named_modules() if isinstance(module, Factored) and module.spatial]


def tucker_layers(model: nn.Module) -> dict[str, int]:
    """Which low-rank layers of a network are three convolutions, and to how many channels the first goes.

    Args:
        model: Any module.

    Returns:
        Channels by name, in the order of the layers.
    """
    found = {name: module for name, module in model.named_modules() if isinstance(module, Factored)}
    return {name: module.inner for name, module in found.items() if module.inner is not None}


def split_layers(
    model: nn.Module,
    ranks: Mapping[str, int],
    spatial: Collection[str] = (),
    tucker: Mapping[str, int] | None = None,
) -> nn.Module:
    """A copy of a network in which each named layer is a :class:`Factored`, whose weights are zeros.

    Args:
        model: The network; it is left as it was.
        ranks: Of the layers, by name.
        spatial: Convolutions among them that become one over columns and one over rows.
        tucker: Convolutions among them that become three: to how many channels the first goes.

    Returns:
        The new network; the factored layer itself where the network was one layer.

    Raises:
        ConfigError: If a name is not a linear layer or convolution, or a rank is impossible.

    Example:
        >>> small = split_layers(nn.Sequential(nn.Linear(8, 6), nn.ReLU()), {"0": 2})
        >>> type(small[0]).__name__, len(small)
        ('Factored', 2)
    """
    new = copy_module(model)
    named = dict(new.named_modules())
    pairs: dict[int, Factored] = {}
    for name, rank in ranks.items():
        layer = named.get(name)
        if type(layer) is not nn.Linear and type(layer) is not nn.Conv2d:
            raise ConfigError(f"layer {name!r} cannot be factorised: there is no such linear layer or convolution")
        along, inner = name in spatial, (tucker or {}).get(name)
        if (along or inner is not None) and not isinstance(layer, nn.Conv2d):
            raise ConfigError(f"layer {name} is not a convolution, and has no columns and rows")
        if inner is not None and (along or type(inner) is not int or not 1 <= inner <= layer.weight.shape[1]):
            raise ConfigError(f"layer {name} of {layer.weight.shape[1]} channels cannot become three by {inner}")
        shape = tuple(layer.weight.flatten(1).shape)
        if along:
            outputs, channels, high, wide = layer.weight.shape
            shape = (outputs * wide, channels * high)
        if type(rank) is not int or not 1 <= rank <= min(shape):
            raise ConfigError(
                f"rank {rank} is impossible for layer {name} of shape {shape}: 1 to {min(shape)} are possible"
            )
        pairs[id(layer)] = Factored(layer, rank, spatial=along, inner=inner)
    if id(new) in pairs:
        return pairs[id(new)]
    for parent in list(new.modules()):
        # named_children would leave out a layer's second place.
        for name, child in list(parent._modules.items()):
            if id(child) in pairs:
                setattr(parent, name, pairs[id(child)])
    take_off_fused(new)
    return new


def is_linear(layer: nn.Module) -> bool:
    """Whether a layer is linear, whole or of low rank."""
    return isinstance(layer[0] if isinstance(layer, Factored) else layer, nn.Linear)


@torch.no_grad()
def limit_incoming(layers: Sequence[nn.Module], limit: float) -> None:
    r"""Scale down each unit's incoming weights whose Euclidean norm is above a limit, in place.

    The incoming weights of a low-rank layer are the rows of :math:`B A`, with squared norms
    :math:`\mathrm{diag}(B A A^\top B^\top)`; a row is scaled by scaling that row of :math:`B`.

    Args:
        layers: Linear layers, whole or of low rank.
        limit: Largest norm, positive.

    Example:
        >>> pair = Factored(nn.Linear(2, 1), 1)
        >>> with torch.no_grad(): _ = pair[0].weight.fill_(3.0), pair[1].weight.fill_(2.0)
        >>> limit_incoming([pair], 1.0)
        >>> (pair[1].weight @ pair[0].weight).norm().item()
        1.0
    """
    for layer in layers:
        if isinstance(layer, Factored):
            first, second = (cast(nn.Linear, half).weight for half in layer)
            norms = ((second @ (first @ first.T)) * second).sum(1, keepdim=True).clamp_min(0).sqrt()
            second.mul_((limit / norms.clamp_min(1e-30)).clamp_max(1.0))
        else:
            limit_norms([cast(nn.Linear, layer).weight], limit)
