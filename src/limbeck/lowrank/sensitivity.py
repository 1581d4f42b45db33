"""Sensitivity: measure the effect of each layer's truncation on the outputs, and weight the layers by it."""

__all__ = ["weigh"]

import dataclasses
import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from limbeck.errors import DataError, MismatchError
from limbeck.inputs import Inputs, move
from limbeck.lowrank.act import replacement, rounded_for
from limbeck.lowrank.layers import Matrix, find_layers, model_digest
from limbeck.lowrank.moments import batches_of
from limbeck.lowrank.spectrum import LayerSpectrum, Spectrum
from limbeck.models.calling import call_model
from limbeck.models.copying import copy_module
from limbeck.system.devices import widest

_SHARES = (0.1, 0.25, 0.5)
_ROUNDING = 1e-9


def weigh(spectrum: Spectrum, model: nn.Module, calibration: Inputs | Iterable[Inputs]) -> Spectrum:
    r"""Set the layers' weights so that losses are divergences that were measured.

    Each layer alone is truncated to the ranks that leave it 10, 25 and 50 % of its parameters, and the network is run
    over the calibration data. The layer's weight is multiplied by the geometric mean, over these ranks, of

    .. math::
        \mathrm{KL}(\text{old answers} \,\|\, \text{new answers}) \, / \, \text{loss by the spectrum}.

    This makes up for what the estimate leaves out, such as the correlation between an image's positions. It takes
    three runs over the data for each layer, and changes only how a budget for the whole network is allocated.

    Args:
        spectrum: What :func:`limbeck.lowrank.look` saw of the network, in any metric.
        model: The network; it is not modified.
        calibration: Inputs as the network sees them, ``(N, ...)``, or batches of such.

    Returns:
        The spectrum with other weights; losses are nats per example.

    Raises:
        DataError: If there are no data, or the answers are not finite.
        MismatchError: If the spectrum is of another network.
    """
    if (digest := model_digest(model)) != spectrum.model_digest:
        raise MismatchError(
            f"the spectrum is of the network {spectrum.model_digest[:16]}, and this one is {digest[:16]}: look at it"
        )
    # A generator of batches can be run through once only, and is needed often.
    batches = list(batches_of(calibration))
    if not batches:
        raise DataError("there are no calibration data: at least one example is needed")
    trial = copy_module(model).eval()
    reference = _answers(trial, batches)
    seen = {layer.name: layer for layer in spectrum.layers}
    layers = {}
    for layer in find_layers(trial):
        layers[layer.name] = _weighed(seen[layer.name], layer, trial, batches, reference)
    return dataclasses.replace(spectrum, layers=tuple(layers[layer.name] for layer in spectrum.layers))


def _weighed(
    seen: LayerSpectrum, layer: Matrix, trial: nn.Module, batches: list[Inputs], reference: Tensor
) -> LayerSpectrum:
    if (parts := seen.decomposition) is None:
        return seen
    m, n = seen.shape
    largest = len(parts.values)
    ranks = sorted({min(largest, max(1, int(share * m * n / (m + n)))) for share in _SHARES})
    module = layer.module
    old = [parameter.detach().clone() for parameter in module.parameters(recurse=False)]
    logs = []
    for rank in ranks:
        predicted = seen.weight * parts.discarded(rank)
        (first, second), bias = replacement(layer, rank, "input", seen)
        with torch.no_grad():
            module.weight.copy_(rounded_for(module.weight, second @ first))
            if module.bias is not None and bias is not None:
                module.bias.copy_(rounded_for(module.bias, bias))
            divergence = float((reference.exp() * (reference - _answers(trial, batches))).sum(-1).mean())
            for parameter, value in zip(module.parameters(recurse=False), old, strict=True):
                parameter.copy_(value)
        # Below this both are rounding, and say nothing of the layer.
        if predicted > _ROUNDING and divergence > _ROUNDING:
            logs.append(math.log(divergence / predicted))
    factor = math.exp(math.fsum(logs) / len(logs)) if logs else 1.0
    spatial, tucker = (
        None if form is None else dataclasses.replace(form, weight=form.weight * factor)
        for form in (seen.spatial, seen.tucker)
    )
    return dataclasses.replace(seen, weight=seen.weight * factor, spatial=spatial, tucker=tucker)


def _answers(model: nn.Module, batches: list[Inputs]) -> Tensor:
    device = next(model.parameters()).device
    with torch.no_grad():
        scores = torch.cat([call_model(model, move(batch, device)).cpu() for batch in batches])
    answers = scores.to(widest("cpu")).log_softmax(-1).reshape(-1, scores.shape[-1])
    if not bool(answers.isfinite().all()):
        raise DataError("the network gives NaN or infinite logits for the calibration data")
    return answers
