"""The losses of several networks that are trained side by side, computed at once.

Axes: ``M`` networks, ``N`` examples of each, ``K`` classes.
"""

__all__ = ["StackedLoss"]

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from limbeck.losses import softened
from limbeck.losses.fused import stacked_loss
from limbeck.protocols import Batch, Objective
from limbeck.training.objective import DistillationObjective
from limbeck.training.stacked import Stack


class StackedLoss:
    """The losses of several objectives at once.

    Args:
        objectives: One per network, of labels or of soft targets.
        stack: Of the networks.
    """

    def __init__(self, objectives: Sequence[Objective], stack: Stack) -> None:
        self.objectives, self.stack = objectives, stack
        weights = [float(getattr(each, "hard_weight", 1.0)) for each in objectives]
        self.soft, self.hard = [weight < 1 for weight in weights], any(weight > 0 for weight in weights)
        self.smoothing = float(getattr(objectives[0], "label_smoothing", 0.0))
        self.weights = stack.stacked([torch.tensor(weight) for weight in weights])
        self.temperatures = stack.stacked(
            [torch.tensor(float(getattr(each, "temperature", 1.0))) for each in objectives]
        )

    def __call__(self, logits: Tensor, batches: Sequence[Batch]) -> tuple[Tensor, Tensor | None]:
        """Losses ``(M, N)`` of logits ``(M, N, K)``, and the labels ``(M, N)`` where there are any."""
        known = [batch.labels for batch in batches if batch.labels is not None]
        labels = self.stack.stacked(known) if len(known) == len(batches) else None
        losses = stacked_loss(
            logits,
            self._targets(logits, batches) if any(self.soft) else None,
            labels if self.hard else None,
            temperatures=self.temperatures,
            hard_weights=self.weights,
            label_smoothing=self.smoothing,
        )
        return losses, labels

    def _targets(self, logits: Tensor, batches: Sequence[Batch]) -> Tensor:
        """The teacher's answers to each, asked once for the same batch at the same temperature."""
        found: dict[tuple[Any, ...], Tensor] = {}
        rows = []
        for number, (objective, batch) in enumerate(zip(self.objectives, batches, strict=True)):
            if not self.soft[number]:
                rows.append(torch.zeros_like(logits[0]))
                continue
            assert isinstance(objective, DistillationObjective)
            key = (id(objective.teacher), objective.asked_at, id(batch))
            if key not in found:
                found[key] = self._answers(objective, batch, found)
            rows.append(found[key])
        return self.stack.stacked(rows)

    @staticmethod
    def _answers(objective: DistillationObjective, batch: Batch, found: dict[tuple[Any, ...], Tensor]) -> Tensor:
        """The teacher's answers at the objective's temperature; its logits are looked up once for all temperatures."""
        teacher = objective.teacher
        if not teacher.has_logits:
            return objective.taught(batch).logits
        key = (id(teacher), 1.0, id(batch))
        if key not in found:
            answers = teacher.log_probs(batch.for_teacher, 1.0).detach()
            # Half precision sums to 1 but nearly.
            exactly = answers.dtype in {torch.float32, torch.float64}
            found[key] = answers if exactly else softened(answers.float())
        return found[key] if objective.asked_at == 1 else softened(found[key], objective.asked_at)
