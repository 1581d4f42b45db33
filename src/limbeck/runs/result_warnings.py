"""Warnings about what came out of a run: results that a reader of the verdict alone would not suspect."""

__all__ = ["tell_results", "tell_teacher_unused", "tell_unjudged"]

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from limbeck.data import DataSet
from limbeck.evaluation.prediction import predict
from limbeck.options import Distillation
from limbeck.system.callbacks import Callback

_LOST = 1000.0
"""A mean loss of so many times that of guessing is no training; below, the weights of a method may have made it."""
_LOOKED_AT, _ROUNDING = 64, 1e-3
_FEW = 20
"""Fewer examples are not said to show that nothing was learned."""


def tell_teacher_unused(aims: Distillation, callback: Callback | None) -> None:
    """Warn where labels have all the weight.

    Args:
        aims: The distillation settings.
        callback: Receives the warning.
    """
    if aims.hard_weight == 1:
        (callback or Callback()).on_warning(
            "hard_weight is 1: the teacher is not used, and the student is trained on labels alone, as its baseline is"
        )


def tell_unjudged(data: DataSet, callback: Callback | None) -> None:
    """Say that there will be no verdict, where no labelled examples are left to evaluate on.

    Args:
        data: The data set.
        callback: Receives the note.
    """
    judged = data.test or data.validation
    if judged is None or judged.labels is None:
        (callback or Callback()).on_note(
            "there are no labelled test or validation examples, so nothing is evaluated and there is no verdict: give "
            "test=, or --test-data"
        )


def tell_results(
    metrics: Mapping[str, Any],
    histories: Mapping[str, Sequence[Mapping[str, Any]]],
    models: Mapping[str, nn.Module],
    data: DataSet,
    callback: Callback | None,
) -> None:
    """Warn of networks that learned nothing, answer at random, or are larger than their teacher.

    Args:
        metrics: The contents of ``metrics.json``.
        histories: One row per epoch of each network's training, by role.
        models: The networks by role, in evaluation mode.
        data: The data set.
        callback: Receives the warnings.
    """
    warn = (callback or Callback()).on_warning
    for role, rows in histories.items():
        loss = rows[-1].get("train_loss") if rows else None
        usual = math.log(len(data.classes))
        if isinstance(loss, int | float) and not loss <= _LOST * max(usual, 0.1):
            warn(
                f"the training of the {role} ended with a loss of {loss:.3g}, where guessing has about {usual:.2g}: it "
                "diverged, and a smaller learning rate may help"
            )
    judged = data.test or data.validation
    if judged is None:
        return
    guessing = None
    if judged.labels is not None and judged.labels.ndim == 1 and len(judged) >= _FEW:
        guessing = float(torch.bincount(judged.labels.long()).max()) / len(judged)
    for role, model in models.items():
        accuracy = metrics.get(role, {}).get("accuracy")
        if guessing is not None and isinstance(accuracy, int | float) and accuracy <= guessing:
            warn(
                f"the {role} has {accuracy:.1%} accuracy on {len(judged):,} {metrics.get('judged_on')} examples, no "
                f"more than always guessing the most frequent class ({guessing:.1%}): it has learned nothing that can "
                "be compared"
            )
        few = judged.take(torch.arange(min(_LOOKED_AT, len(judged))))
        if not torch.allclose(predict(model, few), predict(model, few), atol=_ROUNDING, equal_nan=True):
            warn(
                f"the {role} gives different outputs for the same inputs in evaluation mode: does its forward draw "
                "random numbers, or dropout without regard to self.training?"
            )
    sizes = [metrics.get(role, {}).get("parameters") for role in ("teacher", "student")]
    if all(isinstance(size, int) and size > 0 for size in sizes) and sizes[1] > sizes[0]:
        warn(f"the student has {sizes[1]:,} parameters and its teacher {sizes[0]:,}: it is larger, not smaller")
