r"""Fake quantisation: a trainable network that computes like its 8-bit file, with straight-through gradients.

Weights are rounded for each output channel and symmetric, inputs and outputs of layers for the whole tensor between the
least and the largest value that calibration examples show:

.. math::
    \hat w = s \,\mathrm{clamp}(\lfloor w / s \rceil, -L, L), \qquad
    \hat x = s (\mathrm{clamp}(\lfloor x / s \rceil + z, 0, 255) - z)

In the gradient rounding counts as the identity, and what is clamped as a constant.

References:
    Jacob et al., `Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference
    <https://arxiv.org/abs/1712.05877>`_, 2017. Bengio, Leonard and Courville, `Estimating or Propagating Gradients
    Through Stochastic Neurons <https://arxiv.org/abs/1308.3432>`_, 2013.
"""

__all__ = ["FakeRounding", "finetuned"]

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from limbeck.errors import ConfigError
from limbeck.exporters.protocol import Finetuning
from limbeck.inputs import Inputs
from limbeck.losses import soft_target_loss
from limbeck.models.calling import call_model
from limbeck.models.copying import copy_module

WEIGHT_LEVELS = 64
"""Of 7 bits, as the file has them."""
_INPUT_LEVELS = 255
_LEARNING_RATE, _TEMPERATURE = 3e-4, 4.0
_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


class _RoundedWeight(nn.Module):
    """Weights rounded for each output channel."""

    def __init__(self, levels: int) -> None:
        super().__init__()
        self.levels = levels

    def forward(self, weight: Tensor) -> Tensor:
        largest = weight.detach().abs().flatten(1).amax(1).clamp_min(1e-30)
        scale = (largest / self.levels).reshape(-1, *[1] * (weight.ndim - 1))
        return weight + ((weight / scale).round().clamp(-self.levels, self.levels) * scale - weight).detach()


class _Range:
    """The least and the largest value that a tensor had, 0 among them, and the rounding between them."""

    def __init__(self) -> None:
        self.low = self.high = 0.0

    def widen(self, values: Tensor) -> None:
        self.low, self.high = min(self.low, float(values.min())), max(self.high, float(values.max()))

    def rounded(self, values: Tensor) -> Tensor:
        scale = max((self.high - self.low) / _INPUT_LEVELS, 1e-30)
        zero = round(-self.low / scale)
        inside = values.clamp(-zero * scale, (_INPUT_LEVELS - zero) * scale)
        return inside + ((inside / scale).round() * scale - inside).detach()


class FakeRounding:
    """The layers of a network, whose weights, inputs and outputs are rounded while :meth:`on` lasts.

    Args:
        model: In evaluation mode; its weights may be trained meanwhile.
        levels: Steps of a weight on each side of 0.

    Raises:
        ConfigError: If it has no convolution or linear layer.
    """

    def __init__(self, model: nn.Module, levels: int = WEIGHT_LEVELS) -> None:
        self.model, self.levels = model, levels
        self.layers = [layer for layer in model.modules() if type(layer) in _LAYERS]
        if not self.layers:
            raise ConfigError(
                f"{type(model).__name__} has no linear layer or convolution of 32 bits to fine-tune: leave "
                "finetune_epochs out"
            )
        self.ranges = {id(layer): (_Range(), _Range()) for layer in self.layers}

    def observe(self, batches: Iterable[Inputs]) -> None:
        """Recalibrate the ranges for the current weights.

        Args:
            batches: Calibration examples.
        """
        self.ranges = {id(layer): (_Range(), _Range()) for layer in self.layers}

        def watch(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            of_inputs, of_outputs = self.ranges[id(layer)]
            of_inputs.widen(inputs[0])
            of_outputs.widen(output)

        hooks = [layer.register_forward_hook(watch) for layer in self.layers]
        try:
            with torch.no_grad():
                for batch in batches:
                    call_model(self.model, batch)
        finally:
            for hook in hooks:
                hook.remove()

    @contextmanager
    def on(self) -> Iterator[None]:
        """Round, until the end of the context: the weights are afterwards those that were trained, not rounded.

        Yields:
            Nothing.
        """

        def before(layer: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            return (self.ranges[id(layer)][0].rounded(inputs[0]), *inputs[1:])

        def after(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            return self.ranges[id(layer)][1].rounded(output)

        hooks: list[Any] = []
        try:
            for layer in self.layers:
                hooks += [layer.register_forward_pre_hook(before), layer.register_forward_hook(after)]
                parametrize.register_parametrization(layer, "weight", _RoundedWeight(self.levels), unsafe=True)
            yield
        finally:
            for hook in hooks:
                hook.remove()
            for layer in self.layers:
                if parametrize.is_parametrized(layer, "weight"):
                    parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)


def finetuned(
    model: nn.Module,
    calibration: Callable[[], Iterable[Inputs]],
    training: Finetuning,
    *,
    levels: int = WEIGHT_LEVELS,
) -> nn.Module:
    """Quantisation-aware self-distillation; no labels are used.

    Statistics of batch normalisation stay what they are, and dropout is off. Ranges are those of the calibration
    examples, set anew before each epoch. AdamW without weight decay; the learning rate falls to zero along a cosine.

    Args:
        model: In evaluation mode on the CPU; it is not modified. It outputs logits, or probabilities where its
            attribute ``output_name`` says so.
        calibration: Gives batches of calibration examples.
        training: Epochs, and the examples of each.
        levels: Steps of a weight on each side of 0.

    Returns:
        A copy with weights that lose less when they are rounded.

    Raises:
        ConfigError: If it has no layer to fine-tune, or the loss is not finite.

    Example:
        >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
        >>> batches = [torch.randn(16, 4)]
        >>> tuned = finetuned(net, lambda: batches, Finetuning(2, 1, lambda epoch: batches))
        >>> [tuple(p.shape) for p in tuned.parameters()]
        [(8, 4), (8,), (3, 8), (3,)]
    """
    student = copy_module(model).eval().requires_grad_(True)
    rounding = FakeRounding(student, levels)
    probabilities = getattr(model, "output_name", "logits") == "probabilities"

    def answers(network: nn.Module, batch: Inputs) -> Tensor:
        found = call_model(network, batch).float()
        return found.clamp_min(1e-12).log() if probabilities else found

    optimizer = torch.optim.AdamW(
        [each for each in student.parameters() if each.is_floating_point()], lr=_LEARNING_RATE, weight_decay=0.0
    )
    with torch.enable_grad():
        for epoch in range(training.epochs):
            rounding.observe(calibration())
            with rounding.on():
                for step, batch in enumerate(training.batches(epoch)):
                    done = (epoch * training.steps + step) / (training.epochs * training.steps)
                    for group in optimizer.param_groups:
                        group["lr"] = 0.5 * _LEARNING_RATE * (1 + math.cos(math.pi * done))
                    with torch.no_grad():
                        wanted = (answers(model, batch) / _TEMPERATURE).log_softmax(-1)
                    loss = soft_target_loss(answers(student, batch), wanted, temperature=_TEMPERATURE).mean()
                    if not bool(loss.isfinite()):
                        raise ConfigError("the fine-tuning of int8 diverged: leave finetune_epochs out")
                    optimizer.zero_grad(set_to_none=True)
                    torch.autograd.backward(loss)
                    optimizer.step()
    # Into a copy that was never changed: the order of its weights is what files are named by.
    made = copy_module(model).eval().requires_grad_(False)
    made.load_state_dict(student.state_dict())
    return made
