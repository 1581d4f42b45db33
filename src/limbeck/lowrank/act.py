"""Act: a new network with low-rank layers, from a plan."""

__all__ = ["apply", "check_plan", "replacement", "restructure"]

from collections.abc import Collection, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from limbeck.errors import ConfigError, MismatchError
from limbeck.lowrank.layers import Matrix, find_layers, model_digest
from limbeck.lowrank.matrices import Array, Placement, decompose, truncate
from limbeck.lowrank.plan import RankPlan
from limbeck.lowrank.spatial import spatial_factors
from limbeck.lowrank.spectrum import LayerSpectrum, Spectrum
from limbeck.lowrank.tucker import decompose_channels, tucker_factors
from limbeck.models import split_layers
from limbeck.system.devices import widest


def restructure(
    model: nn.Module,
    ranks: Mapping[str, int],
    spatial: Collection[str] = (),
    tucker: Mapping[str, int] | None = None,
) -> nn.Module:
    """A copy of a network in which each named layer is factorised; the weights are not set yet.

    It makes the architecture that saved weights of a low-rank network are loaded into. A linear layer becomes a
    :class:`~limbeck.models.Factored` of one without bias and one with the old layer's bias, if it has one. A
    convolution becomes one of the same kernel, stride, padding and dilation to ``rank`` channels without bias, and a
    1x1 convolution; or one over columns and one over rows; or three.

    Args:
        model: The network; it is not modified.
        ranks: Of the layers, by name.
        spatial: Convolutions among them that become one over columns and one over rows.
        tucker: Convolutions among them that become three: to how many channels the first goes.

    Returns:
        The new network.

    Raises:
        ConfigError: If a layer cannot be factorised, or a rank is impossible.

    Example:
        >>> small = restructure(nn.Sequential(nn.Linear(8, 6), nn.ReLU()), {"0": 2})
        >>> [tuple(p.shape) for p in small.parameters()]
        [(2, 8), (6, 2), (6,)]
    """
    for layer in find_layers(model):
        if layer.name in ranks and layer.reason is not None:
            raise ConfigError(f"layer {layer.name!r} cannot be factorised: {layer.reason}")
    return split_layers(model, ranks, spatial, tucker)


def apply(plan: RankPlan, model: nn.Module, spectrum: Spectrum | None = None) -> nn.Module:
    """Make the network that a plan describes.

    Args:
        plan: The ranks.
        model: The network the plan was made for; it is not modified.
        spectrum: What the plan was made from. A plan in the metric ``"weights"`` does without it, and decomposes the
            layers again; one that was made with calibration data needs it.

    Returns:
        The new network, of the same class, in the same mode and on the same device.

    Raises:
        MismatchError: If the plan or the spectrum belongs to another network, or the spectrum to another plan.
        ConfigError: If the plan needs its spectrum, or a rank is impossible.

    Example:
        >>> from limbeck.lowrank import look, plan_ranks
        >>> net = nn.Sequential(nn.Linear(40, 50), nn.ReLU(), nn.Linear(50, 30))
        >>> small = apply(plan_ranks(look(net), rank=4), net)
        >>> sum(p.numel() for p in net.parameters()), sum(p.numel() for p in small.parameters())
        (3580, 760)
    """  # noqa: DOC502
    seen = check_plan(plan, model, spectrum)
    new = restructure(model, plan.ranks, plan.spatial, plan.tucker)
    pairs = dict(new.named_modules(remove_duplicate=False))
    for layer in find_layers(model):
        if layer.name not in plan.ranks:
            continue
        rank, along = plan.ranks[layer.name], layer.name in plan.spatial
        factors, bias = replacement(
            layer, rank, plan.placement, seen.get(layer.name), spatial=along, inner=plan.tucker.get(layer.name)
        )
        pair = pairs[layer.name]
        assert isinstance(pair, nn.Sequential)
        for part, factor in zip(pair, factors, strict=True):
            _fill(part.weight, factor)
        if bias is not None:
            _fill(pair[-1].bias, bias)
    return new


def check_plan(plan: RankPlan, model: nn.Module, spectrum: Spectrum | None) -> dict[str, LayerSpectrum]:
    """Refuse a plan or a spectrum that does not belong to a network.

    Args:
        plan: The ranks.
        model: The network.
        spectrum: What the plan was made from, or None.

    Returns:
        What was seen of each layer, by name, where the plan needs it; otherwise nothing.

    Raises:
        MismatchError: If the plan or the spectrum belongs to another network, or the spectrum to another plan.
        ConfigError: If the plan needs its spectrum.
    """
    digest = model_digest(model)
    if plan.model_digest != digest:
        raise MismatchError(
            f"the plan is for the network {plan.model_digest[:16]}, and this one is {digest[:16]}: make a plan for it"
        )
    if plan.spectrum_digest is not None and spectrum is None:
        raise ConfigError(
            f"a plan in the metric {plan.metric!r} is applied with the spectrum it was made from "
            f"({plan.spectrum_digest[:16]}): give it"
        )
    if spectrum is not None and plan.spectrum_digest not in (None, spectrum.digest):
        raise MismatchError(
            f"the plan was made from the spectrum {str(plan.spectrum_digest)[:16]}, and this one is "
            f"{spectrum.digest[:16]}"
        )
    # A plan without calibration data is applied the same way, with or without the spectrum.
    return {} if spectrum is None or plan.spectrum_digest is None else {s.name: s for s in spectrum.layers}


def replacement(
    layer: Matrix,
    rank: int,
    placement: Placement,
    seen: LayerSpectrum | None,
    *,
    spatial: bool = False,
    inner: int | None = None,
) -> tuple[tuple[Array, ...], Array | None]:
    """The factors of a layer, and its bias.

    Args:
        layer: The layer.
        rank: Of the factors.
        placement: Which factor gets the singular values.
        seen: The layer's spectrum, or None to decompose its weights as they are.
        spatial: Whether a convolution becomes one over columns and one over rows.
        inner: To how many channels the first goes where it becomes three; else None.

    Returns:
        The first factor ``(k, N)`` and the second ``(M, k)``, where it is spatial ``(k, C h)`` and ``(M, k w)``, or
        three (:func:`limbeck.lowrank.tucker.tucker_factors`); and the bias ``(M,)`` or None, in float64.
    """
    weight = layer.weight()
    form = None if seen is None else seen.forms.get("spatial" if spatial else "channels")
    parts = None if form is None else form.decomposition
    factors: tuple[Array, ...]
    if inner is not None:
        kernel = _kernel(layer)
        plain = parts or decompose(weight)
        channels = seen.tucker.decomposition if seen is not None and seen.tucker is not None else None
        channels = channels or decompose_channels(weight, kernel, plain)[0]
        *factors_, product = tucker_factors(weight, kernel, (inner, rank), plain, channels)
        factors = tuple(factors_)
    elif spatial:
        first, second, product = spatial_factors(weight, _kernel(layer), rank, parts, placement)
        factors = first, second
    else:
        factors = truncate(weight, rank, decomposition=parts or decompose(weight, most=rank), placement=placement)
        product = factors[1] @ factors[0]
    if layer.module.bias is None:
        return factors, None
    bias: Array = layer.module.bias.detach().cpu().to(widest("cpu")).numpy().astype(np.float64)
    if seen is not None and seen.mean is not None:
        bias = bias + (weight - product) @ seen.mean
    return factors, bias


def _kernel(layer: Matrix) -> tuple[int, int]:
    high, wide = layer.module.weight.shape[2:]
    return high, wide


@torch.no_grad()
def _fill(parameter: Tensor | nn.Module, values: Array) -> None:
    assert isinstance(parameter, Tensor)
    parameter.copy_(rounded_for(parameter, values))


def rounded_for(parameter: Tensor, values: Array) -> Tensor:
    """Values as a tensor of a parameter's shape, in float32 before they go to a device that may have no more.

    Args:
        parameter: Where they go.
        values: As many numbers.

    Returns:
        The tensor, on the CPU; float64 where the parameter is.
    """
    wanted = np.float64 if parameter.dtype == torch.float64 else np.float32
    return torch.from_numpy(np.ascontiguousarray(values, wanted)).reshape(parameter.shape)
