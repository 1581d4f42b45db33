"""NaN and infinity: detected at each step at little cost, diagnosed only after they occur."""

__all__ = ["Fault", "Guard", "explain_nonfinite"]

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.errors import DataError
from limbeck.inputs import tensors_of
from limbeck.models.calling import call_model
from limbeck.protocols import Batch, Objective
from limbeck.system.devices import Device
from limbeck.training.self_check import name_examples

_OF_TEACHER = "repair the teacher, or leave such examples out"


class Guard:
    """Skips the weight update of steps with a non-finite loss or gradient.

    On a CPU the host knows at once. On an accelerator the flag stays on the device, where the fused optimiser reads it,
    so that the host need not synchronise at each step. Unless such steps are to be skipped, the first one closes the
    guard for good: the weights then stay as they were before it, however many steps follow until the host checks.

    Args:
        model: The model that is trained.
        optimizer: Its optimiser.
        skip: Skip such steps and continue.
        waits: Whether the host checks each step; otherwise the optimiser must be a fused one.
        device: Where all this is.

    Attributes:
        bad: 1.0 where the last step is skipped, else 0.0.
    """

    def __init__(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, *, skip: bool, waits: bool, device: torch.device
    ) -> None:
        self.optimizer, self.skip, self.waits = optimizer, skip, waits
        self.bad = torch.zeros((), dtype=torch.float32, device=device)
        self._open = True
        self._first = torch.full((), -1, dtype=torch.int64, device=device)
        self._made = False
        # Normalisation keeps running means, which a bad batch would spoil before anything is known of its loss.
        self._buffers = [value for value in model.buffers() if value.is_floating_point()] if skip else []
        self._before: list[Tensor] = []

    def remember(self) -> None:
        """Save the buffers that a forward pass may change."""
        if self._buffers:
            self._before = [value.clone() for value in self._buffers]

    def judge(self, step: int | Tensor, total: Tensor, norm: Tensor) -> None:
        """Check whether a step is finite.

        Args:
            step: Its number; as a tensor on the device where the step is recorded in a graph.
            total: The sum of its losses.
            norm: The norm of its gradient, before it is clipped.
        """
        if self.waits:
            self._open = math.isfinite(total.item() + norm.item())
            if self._open:
                if self.skip:
                    self.bad.zero_()
                return
            self.bad.fill_(1.0)
            self._first.fill_(step)
        else:
            bad = (total + norm).isfinite().logical_not_()
            if not self.skip:
                self._first.copy_(torch.where(bad & (self._first < 0), step, self._first))
                bad = self._first >= 0
            self.bad.copy_(bad)
        for value, before in zip(self._buffers, self._before, strict=True):
            value.copy_(torch.where(self.bad > 0, before, value))

    def fault(self) -> int | None:
        """The number of the first non-finite step, where such steps are not skipped; may synchronise."""
        if self.skip or (self.waits and self._open):
            return None
        first = int(self._first.item())
        return None if first < 0 else first

    def step(self) -> None:
        """Run the optimiser's step, unless it is skipped."""
        if self.waits:
            if self._open:
                self.optimizer.step()
            return
        # A fused optimiser makes its state at its first step, whether or not that one is left out.
        if not self._made and self.bad.item():
            return
        self._made = True
        self.optimizer.grad_scale, self.optimizer.found_inf = None, self.bad  # type: ignore[attr-defined]
        self.optimizer.step()


@dataclass(frozen=True)
class Fault:
    """The diagnosis of a non-finite step.

    Attributes:
        examples: Which examples.
        place: What is not finite: a layer, a gradient, or the teacher's outputs.
        cure: What may help.
    """

    examples: str
    place: str
    cure: str = "try a smaller learning rate, clip_norm, or skip_nonfinite, which leaves such steps out"


def explain_nonfinite(
    model: nn.Module, objective: Objective, batch: Batch, device: Device, share: float
) -> Fault | None:
    """Run a batch again, and locate the non-finite values.

    Inputs are checked first, then the teacher's outputs: no setting repairs either.

    Args:
        model: The model, with the weights from before the step.
        objective: The objective.
        batch: The examples of the step.
        device: Device and precision.
        share: Weight of each example in the mean.

    Returns:
        Which examples, and what is wrong; None where all is finite this time.
    """
    odd = _odd_inputs(batch)
    if len(odd):
        return Fault(named := name_examples(odd.tolist()), f"the inputs of {named} are not finite", _OF_INPUTS)
    with device.autocast():
        taught = _teachers_fault(objective, batch)
    if taught is not None:
        return taught
    found: list[str] = []
    handles = [
        part.register_forward_hook(_looker(found, name))
        for name, part in model.named_modules()
        if next(part.children(), None) is None
    ]
    fork = [device.device] if device.device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=fork):
            with device.autocast():
                scores = call_model(model, batch.inputs)
            losses = objective(scores, batch).per_example
            losses.backward(torch.full_like(losses, share))  # type: ignore[no-untyped-call]
    finally:
        for handle in handles:
            handle.remove()
    gradients = {name: value.grad for name, value in model.named_parameters() if value.grad is not None}
    for value in model.parameters():
        value.grad = None
    spoilt = ~losses.detach().isfinite()
    numbers = batch.index[spoilt] if bool(spoilt.any()) else batch.index
    examples = name_examples(numbers.tolist())
    if found:
        return Fault(examples, found[0])
    if bool(spoilt.any()):
        largest = float(scores.detach().abs().max())
        return Fault(examples, f"every layer is finite, and the loss of logits up to {largest:.3g} is not")
    # Backwards the trouble begins at the layer nearest to the logits.
    wrong = [name for name, value in gradients.items() if not bool(value.isfinite().all())]
    if wrong:
        return Fault(examples, f"the gradient of {wrong[-1]} is not finite")
    return None


_OF_INPUTS = "repair or leave out such examples"


def _odd_inputs(batch: Batch) -> Tensor:
    """Indices of the examples with non-finite inputs, which lazy data sets may produce."""
    wrong = torch.zeros(len(batch.index), dtype=torch.bool, device=batch.index.device)
    for values in tensors_of(batch.inputs):
        if values.is_floating_point() and len(values) == len(wrong):
            wrong |= ~values.isfinite().flatten(1).all(1).to(wrong.device)
    return batch.index[wrong]


def _teachers_fault(objective: Objective, batch: Batch) -> Fault | None:
    look = getattr(objective, "fault_of_teacher", None)
    try:
        found = None if look is None else look(batch)
    except DataError as error:  # an ensemble names the member itself
        return Fault("", str(error), _OF_TEACHER)
    if found is None:
        return None
    words, numbers = found
    return Fault(named := name_examples(numbers.tolist()), f"the teacher's answer to {named} {words}", _OF_TEACHER)


def _looker(found: list[str], name: str) -> Callable[[nn.Module, Any, Any], None]:
    def look(part: nn.Module, inputs: Any, output: Any) -> None:
        if found or not isinstance(output, Tensor) or bool(output.isfinite().all()):
            return
        called = f"layer {name or 'model'} ({type(part).__name__})"
        for weight, value in part.named_parameters(recurse=False):
            if not bool(value.isfinite().all()):
                found.append(f"{called} holds a {weight} that is not finite")
                return
        found.append(f"{called} gives numbers that are not finite")

    return look
