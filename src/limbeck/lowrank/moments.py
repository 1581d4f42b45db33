r"""Second moments of layers' inputs and of gradients at their outputs, streamed over calibration data.

For a layer with inputs :math:`x` and outputs :math:`z = W x + b`, over all rows (examples, or positions in images):

.. math::
    C = \mathrm{E}[x x^\top], \qquad G = \mathrm{E}[g g^\top], \quad g = T\, \partial \log p_T(y) / \partial z,

with :math:`y` drawn from the network's own answer :math:`p_T`, softened at a temperature, so that :math:`G` is the
Fisher information of the layer's outputs, times :math:`T^2`. A small change :math:`\Delta` of the weights then costs
about

.. math::
    T^2\, \mathrm{KL}_T \approx \tfrac{1}{2}\, P\, \mathrm{tr}(G \Delta C \Delta^\top)

an example: the soft-target loss of :func:`limbeck.losses.soft_target_loss`, with the old network as the teacher and
:math:`P` the number of rows per example. A trained network is confident on most examples, and at :math:`T = 1` these
would contribute almost nothing; a higher temperature lets them count. The products are those of K-FAC: inputs and
gradients are taken as independent, and so are the positions of an image.

References:
    Martens and Grosse, `Optimizing Neural Networks with Kronecker-factored Approximate Curvature
    <https://arxiv.org/abs/1503.05671>`_, 2015. Grosse and Martens, `A Kronecker-factored approximate Fisher matrix for
    convolution layers <https://arxiv.org/abs/1602.01573>`_, 2016.
"""

__all__ = ["Moments", "batches_of", "count_positions", "measure_moments"]

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from limbeck.errors import DataError
from limbeck.inputs import Inputs, count_of, first_few, in_blocks, move
from limbeck.lowrank.layers import Matrix, gradient_rows, input_rows
from limbeck.models.calling import call_model, evaluating
from limbeck.models.fused import plain_layers
from limbeck.system.devices import has_float64, widest

_BATCH = 256


@dataclass(frozen=True, eq=False)
class Moments:
    """What the calibration data say of one layer.

    Attributes:
        positions: Rows an example, :math:`P`.
        mean: Mean of the inputs, ``(N,)``.
        inputs: :math:`C`, not centred, ``(N, N)``.
        outputs: :math:`G`, ``(M, M)``.
    """

    positions: float
    mean: NDArray[np.float64]
    inputs: NDArray[np.float64]
    outputs: NDArray[np.float64]


class _Sums:
    def __init__(self) -> None:
        self.rows = 0
        self.mean: Tensor | float = 0.0
        self.inputs: Tensor | float = 0.0
        self.outputs: Tensor | float = 0.0


def batches_of(calibration: Inputs | Iterable[Inputs]) -> Iterator[Inputs]:
    """Batches of some inputs, or those given, without the empty ones."""
    batches = in_blocks(calibration, _BATCH) if isinstance(calibration, Tensor | Mapping) else calibration
    for batch in batches:
        if count_of(batch):
            yield batch


def _wide(values: Tensor) -> Tensor:
    place = values if has_float64(values.device) else values.cpu()
    return place.to(widest(place.device))


def measure_moments(
    model: nn.Module,
    calibration: Inputs | Iterable[Inputs],
    layers: Sequence[Matrix],
    *,
    temperature: float = 1.0,
    seed: int = 0,
) -> dict[str, Moments]:
    """Run a network over calibration data and sum the moments of its layers, in float64.

    The network is run in evaluation mode, and restored afterwards; it keeps no gradient.

    Args:
        model: A classifier: logits over the last axis.
        calibration: Inputs as the network sees them, ``(N, ...)``, or batches of such; at least one example.
        layers: The layers to watch.
        temperature: :math:`T > 0`, no unit, that softens the answers.
        seed: Of the answers drawn.

    Returns:
        Moments by the layer's name; layers that the data never reach are missing.

    Raises:
        DataError: If the logits are invalid or not finite, or no gradient reaches a layer.
    """
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(seed)
    sums = {layer.name: _Sums() for layer in layers}
    added: list[tuple[Matrix, Tensor]] = []

    def watch(layer: Matrix) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
        def note(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            rows = _wide(input_rows(layer.module, inputs[0].detach()))
            found = sums[layer.name]
            found.rows += len(rows)
            found.mean = found.mean + rows.sum(0)
            found.inputs = found.inputs + rows.T @ rows
            # A zero with a gradient, so that nothing is asked of the parameters' own gradients.
            zero = torch.zeros_like(output, requires_grad=True)
            added.append((layer, zero))
            return output + zero

        return note

    hooks = [layer.module.register_forward_hook(watch(layer)) for layer in layers]
    examples = 0
    try:
        # Hooks on layers inside make PyTorch give nested tensors to layers that cannot take them.
        with evaluating(model), plain_layers(model, ()), torch.enable_grad():
            for batch in batches_of(calibration):
                added.clear()
                scores = call_model(model, move(batch, device))
                gradient = _drawn_gradient(scores, temperature, generator)
                zeros = [zero for _, zero in added]
                if zeros and not scores.requires_grad:
                    raise DataError("no gradient passes through the network: is its forward under no_grad?")
                for (layer, _), found in zip(
                    added, torch.autograd.grad(scores, zeros, gradient, allow_unused=True), strict=True
                ):
                    if found is not None:
                        rows = _wide(gradient_rows(layer.module, found))
                        sums[layer.name].outputs = sums[layer.name].outputs + rows.T @ rows
                examples += count_of(batch)
    finally:
        for hook in hooks:
            hook.remove()
    return {name: _finished(name, found, examples) for name, found in sums.items() if found.rows}


def _drawn_gradient(scores: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
    if not isinstance(scores, Tensor) or scores.ndim < 2 or not scores.is_floating_point():
        raise DataError("calibration needs a network that gives one tensor of logits, (examples, classes)")
    probabilities = scores.detach().cpu().to(widest("cpu")).div(temperature).softmax(-1)
    if not bool(probabilities.isfinite().all()):
        raise DataError("the network gives NaN or infinite logits for the calibration data")
    flat = probabilities.reshape(-1, probabilities.shape[-1])
    drawn = torch.multinomial(flat, 1, generator=generator)
    return (flat - torch.zeros_like(flat).scatter_(1, drawn, 1.0)).reshape(scores.shape).to(scores)


def _finished(name: str, sums: _Sums, examples: int) -> Moments:
    if not isinstance(sums.outputs, Tensor):
        raise DataError(f"no gradient of the logits reaches layer {name}: does the network detach it?")
    assert isinstance(sums.mean, Tensor) and isinstance(sums.inputs, Tensor)
    mean, inputs, outputs = ((value / sums.rows).cpu().numpy() for value in (sums.mean, sums.inputs, sums.outputs))
    if not (np.isfinite(inputs).all() and np.isfinite(outputs).all()):
        raise DataError(f"layer {name} sees NaN or infinite values in the calibration data")
    return Moments(sums.rows / examples, mean, inputs, outputs)


def count_positions(
    model: nn.Module,
    example: Inputs,
    layers: Sequence[Matrix],
    *,
    at: Literal["outputs", "columns", "inputs"] = "outputs",
) -> dict[str, float]:
    """How often each layer's matrix is applied for one example.

    Args:
        model: The network.
        example: A batch of inputs, of which the first is used.
        layers: The layers to watch.
        at: Where a convolution is applied: at its outputs; as one over columns alone, the first half of one in two, at
            the rows of the output and the columns of the input; or as a 1x1 convolution before it, at its inputs.

    Returns:
        Applications by the layer's name.

    Example:
        >>> from limbeck.lowrank.layers import find_layers
        >>> net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 2))
        >>> count_positions(net, torch.zeros(1, 1, 4, 4), find_layers(net))
        {'0': 4.0, '2': 1.0}
    """
    counts: dict[str, float] = {}

    def watch(layer: Matrix) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def note(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            rows = float(len(gradient_rows(layer.module, output)))
            if at != "outputs" and isinstance(layer.module, nn.Conv2d):
                rows *= inputs[0].shape[-1] / output.shape[-1]
                rows *= inputs[0].shape[-2] / output.shape[-2] if at == "inputs" else 1.0
            counts[layer.name] = counts.get(layer.name, 0.0) + rows

        return note

    hooks = [layer.module.register_forward_hook(watch(layer)) for layer in layers]
    try:
        with evaluating(model), plain_layers(model, ()), torch.no_grad():
            call_model(model, move(first_few(example), next(model.parameters()).device))
    finally:
        for hook in hooks:
            hook.remove()
    return counts
