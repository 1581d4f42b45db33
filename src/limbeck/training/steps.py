"""One step of a training: the gradient of a batch's loss, and the weights after it.

This defines what a step does; the engine decides when steps run and are saved and reported.
"""

__all__ = ["Stepper", "Sums"]

from collections.abc import Iterator, Sequence
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from limbeck.errors import DataError
from limbeck.models.calling import call_model, weights_dtype
from limbeck.models.dropout import draw_for
from limbeck.options import Training
from limbeck.protocols import Batch, Objective, Output
from limbeck.system.devices import Device, widest
from limbeck.system.processes import World
from limbeck.training.batch_norm import has_batch_norm, over_all
from limbeck.training.nonfinite import Guard
from limbeck.training.step_graphs import StepGraphs

_NO_GRADIENT = (
    "the model's logits do not depend on weights that can be trained: its forward rounds them, detaches them, or "
    "computes them under torch.no_grad()"
)


class Sums(Protocol):
    """Adds up what an epoch's steps find."""

    def add(self, total: Tensor, errors: Tensor | None, size: int, bad: Tensor | None) -> None:
        """Add a step."""


class Stepper:
    """Runs training steps: each is :meth:`learn`, :meth:`judge` and :meth:`update`, in this order.

    Of several processes each calls :meth:`add_up` after :meth:`learn`.

    Args:
        model: The model, in training mode.
        objective: The loss that is minimised.
        optimizer: Its optimiser.
        training: The settings; clipping, and what happens to steps that are not finite.
        device: Device and precision.
        world: This process among those that divide each batch.
        called: Called instead of the model, such as its compiled form; None for itself.
        own: The objective's own module of trainable parameters, or None.

    Attributes:
        guard: Skips non-finite steps.
        waits: Whether the host synchronises at each step.
        graphs: Makes steps that are recorded; None where none are.
    """

    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        optimizer: torch.optim.Optimizer,
        training: Training,
        device: Device,
        world: World,
        called: nn.Module | None = None,
        own: nn.Module | None = None,
    ) -> None:
        self.model, self.objective, self.optimizer, self.world = model, objective, optimizer, world
        self.called = model if called is None else called
        # An optimiser that is not a fused one of ours cannot read the verdict on the device.
        self.waits = device.device.type != "cuda" or training.own_optimizer
        self.skip, self.clip = training.skip_nonfinite, training.clip_norm
        trained = model if own is None else nn.ModuleList([model, own])
        self.guard = Guard(trained, optimizer, skip=self.skip, waits=self.waits, device=device.device)
        self._autocast, self._dtype = device.autocast(), weights_dtype(model)
        self._parameters = [parameter for parameter in trained.parameters() if parameter.requires_grad]
        self._project = getattr(model, "project_", None)
        self._spread = world.size > 1
        self._normalised = self._spread and has_batch_norm(model)
        self._share = torch.empty(0)  # each example's share of the batch's mean: the gradient starts from it
        self._size = 0
        self.graphs: StepGraphs | None = None

    def learn(self, batch: Batch, own: int, size: int) -> tuple[Tensor, Tensor | None]:
        """Compute the loss of this process's part of a batch, and its gradient.

        Args:
            batch: The examples.
            own: How many of them count here; of several processes one may have none.
            size: How many the whole batch has.

        Returns:
            The sum of the losses, and how many predictions are wrong, None without labels.

        Raises:
            DataError: If the logits do not depend on weights that can be trained.
        """
        self.guard.remember()
        return self._learn(batch, own, size)

    def learn_parts(
        self, first: Batch, others: Iterator[Batch], parts: Sequence[slice], size: int
    ) -> tuple[Tensor, Tensor | None]:
        """Compute the losses of the parts of a batch, one after the other, and the gradient of their sum.

        Args:
            first: The first part.
            others: The parts that follow it.
            parts: Which rows of the whole batch each part has here.
            size: How many rows the whole batch has.

        Returns:
            As :meth:`learn`, over all parts.
        """
        self.guard.remember()
        found: list[tuple[Tensor, Tensor | None]] = []
        for number, rows in enumerate(parts):
            batch, own = next(others) if number else first, rows.stop - rows.start
            draw_for((rows.start, size), part=number if len(parts) > 1 else None)
            total, errors = self._learn(batch, own, size)
            # A part without a row of its own computes with another's, which does not count.
            found.append((total, errors) if own else (0 * total, None if errors is None else 0 * errors))
        if len(found) == 1:
            return found[0]
        wrong = [errors for _, errors in found if errors is not None]
        return torch.stack([total for total, _ in found]).sum(), torch.stack(wrong).sum() if wrong else None

    def _learn(self, batch: Batch, own: int, size: int) -> tuple[Tensor, Tensor | None]:
        if self._normalised:
            with over_all(self.world, own=own):
                return self._passes(batch, own, size)
        return self._passes(batch, own, size)

    def _passes(self, batch: Batch, own: int, size: int) -> tuple[Tensor, Tensor | None]:
        """The forward and the backward pass."""
        with self._autocast:
            logits = call_model(self.called, batch.inputs, dtype=self._dtype)
            if not logits.requires_grad:
                raise DataError(_NO_GRADIENT)
            losses = self.objective(logits, batch).per_example
        if len(self._share) != len(losses) or self._size != size or self._spread:
            self._share, self._size = torch.full_like(losses, 1 / size if own else 0.0), size
        # The gradient of the product is the share itself; handing the share to backward imports sympy, a second.
        torch.dot(losses, self._share).backward()  # type: ignore[no-untyped-call]
        labels = batch.main_labels
        errors = None if labels is None else (logits.detach().argmax(-1) != labels).sum()
        return losses.detach().sum(), errors

    def add_up(self, total: Tensor, errors: Tensor | None, own: int, *flags: bool) -> Tensor:
        """Add up gradients and sums over all processes, in one exchange.

        Args:
            total: From :meth:`learn`.
            errors: From :meth:`learn`.
            own: How many examples count in this process.
            *flags: What each process has noticed.

        Returns:
            The sum of the losses, the errors, and how many processes noticed each.
        """
        tally = torch.tensor([0, 0, *flags], dtype=widest(total.device), device=total.device)
        if own:
            tally[0] = total
            tally[1] = 0 if errors is None else errors
        self.world.add_up([*self._gradients(), tally])
        return tally

    def judge(self, step: int | Tensor, total: Tensor) -> Tensor:
        """Check whether a step is finite.

        Args:
            step: Its number; as a tensor on the device where the step is recorded in a graph.
            total: The sum of the losses of the whole batch.

        Returns:
            The norm of the gradient, before it is clipped.
        """
        norm = torch.nn.utils.get_total_norm(self._gradients())
        self.guard.judge(step, total, norm)
        return norm

    def make(self, batch: Batch, answers: Output | None, number: Tensor, sums: Sums) -> None:
        """Make a whole step, in which the host waits for nothing: what a graph records.

        Args:
            batch: The examples.
            answers: The teacher's, where they were asked for beforehand; else None.
            number: Of the step, a tensor on the device.
            sums: Where the losses and errors of the epoch are added up.
        """
        objective, size = self.objective, len(batch.index)
        if answers is not None:
            self.objective = cast(Any, objective).answered(answers)
        self._share = torch.empty(0)  # the graph must have its own
        try:
            total, errors = self.learn(batch, size, size)
            self.update(self.judge(number, total))
            sums.add(total, errors, size, self.guard.bad if self.skip else None)
        finally:
            self.objective, self._share = objective, torch.empty(0)

    def update(self, norm: Tensor) -> None:
        """Clip the gradient, change the weights, and forget the gradient.

        Args:
            norm: From :meth:`judge`.
        """
        if self.clip is not None:
            torch.nn.utils.clip_grads_with_norm_(self._parameters, self.clip, norm)
        self.guard.step()
        for parameter in self._parameters:
            parameter.grad = None
        if self._project is not None:
            self._project()

    def _gradients(self) -> list[Tensor]:
        return [parameter.grad for parameter in self._parameters if parameter.grad is not None]
