"""The learning rate as a function of the step, and of validation for the plateau schedule."""

__all__ = ["Schedule"]

import math
from typing import Any

from limbeck.options import Training

_SMALL_GAIN = 0.01
"""Relative gain on validation below which newbob starts halving."""
_LEAST_GAIN = 0.001
"""Relative gain below which it ends the run, once halving has started."""


class Schedule:
    r"""The learning rate per step.

    With t the epochs passed (a fraction counts), E all epochs, W those of warm-up and r the peak:

    - warm-up: :math:`r\,t / W` while t < W, with t counted to the end of the step, and never above r;
    - constant: r;
    - cosine: :math:`r\,(1 + \cos(\pi (t - W) / (E - W))) / 2`;
    - exponential: :math:`r\,d^{\lfloor t - W \rfloor}` with d the decay (0.95 where none is given);
    - plateau: r halved whenever validation has not improved for ``plateau_patience`` epochs (3 where none is given);
    - newbob: r until an epoch lowers the best validation loss by less than 1 %, then halved after every epoch. An epoch
      that raises it is undone (:attr:`undo`). Once halving has started, a gain below 0.1 % ends the run
      (:attr:`ended`). This is the rule of Kaldi's ``steps/nnet/train_scheduler.sh``.

    Args:
        training: The settings.
        steps: Steps per epoch.

    Example:
        >>> schedule = Schedule(Training(epochs=2, learning_rate=1.0, schedule="cosine"), steps=10)
        >>> [round(schedule.rate(step), 3) for step in (0, 10, 19)]
        [1.0, 0.5, 0.006]
    """

    def __init__(self, training: Training, steps: int) -> None:
        self.training, self.steps = training, steps
        self.factor = 1.0
        self.best = math.inf
        self.stalled = 0
        self.halving = self.undo = self.ended = False

    def rate(self, step: int) -> float:
        """Learning rate of a step, counted from 0 over the whole run."""
        training, peak = self.training, self.training.peak_learning_rate
        epoch, warmup = step / self.steps, training.warmup_epochs
        if epoch < warmup:  # the last step of warm-up may end beyond W
            return peak * min(1.0, (step + 1) / (warmup * self.steps))
        if training.schedule == "cosine":
            progress = (epoch - warmup) / max(training.epochs - warmup, 1e-9)
            return peak * (1 + math.cos(math.pi * progress)) / 2
        if training.schedule == "exponential":
            return float(peak * (training.decay or 0.95) ** math.floor(epoch - warmup))
        return peak * self.factor

    def observe(self, validation: float) -> None:
        """Report the validation loss of an epoch (lower is better); only plateau and newbob use it."""
        if self.training.schedule == "newbob":
            self._newbob(validation)
        if self.training.schedule != "plateau":
            return
        if validation < self.best:
            self.best, self.stalled = validation, 0
            return
        self.stalled += 1
        if self.stalled >= (self.training.plateau_patience or 3):
            self.factor, self.stalled = self.factor / 2, 0

    def _newbob(self, validation: float) -> None:
        self.undo = not validation < self.best
        gain = 0.0 if self.undo else (self.best - validation) / self.best if math.isfinite(self.best) else 1.0
        self.best = min(self.best, validation)
        self.ended = self.halving and gain < _LEAST_GAIN
        self.halving = self.halving or gain < _SMALL_GAIN
        if self.halving:
            self.factor /= 2

    def state(self) -> dict[str, Any]:
        """The state for a checkpoint."""
        best = None if math.isinf(self.best) else self.best
        return {
            "factor": self.factor,
            "best": best,
            "stalled": self.stalled,
            "halving": self.halving,
            "ended": self.ended,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Restore the state from a checkpoint."""
        self.factor, self.stalled = state["factor"], state["stalled"]
        self.halving, self.ended = state["halving"], state["ended"]
        self.best = math.inf if state["best"] is None else state["best"]
