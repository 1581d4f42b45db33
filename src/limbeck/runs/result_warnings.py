"""Warnings about what came out of a run: results that a reader of the verdict alone would not suspect."""

__all__ = ["qualified", "tell_few_steps", "tell_results", "tell_teacher_unused"]

import dataclasses
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from limbeck.data import DataSet
from limbeck.evaluation.prediction import predict
from limbeck.evaluation.verdicts import Verdict
from limbeck.options import Distillation, Training
from limbeck.system.callbacks import Callback

_LOST, _FAR = 10.0, 1e6
"""A mean loss of so many times that of guessing is no training; and of a method whose loss has a scale of its own."""
_LOOKED_AT, _ROUNDING = 64, 1e-3
_FEW_STEPS = 300
"""Steps below which a training is said to be short."""
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


def tell_few_steps(training: Training, steps: int, callback: Callback | None) -> None:
    """Say where a training is so short that neither network may come to its end.

    Args:
        training: The settings.
        steps: Steps per epoch.
        callback: Receives the note.
    """
    made = steps * training.epochs
    if made < _FEW_STEPS:
        (callback or Callback()).on_note(
            f"each network makes {made} steps, {training.epochs} epochs of {steps}: a verdict on trainings that have "
            "not come to their end says little; more epochs (--epochs), or a smaller batch_size (--batch-size), may "
            "change it"
        )


def tell_results(
    metrics: Mapping[str, Any],
    histories: Mapping[str, Sequence[Sequence[Mapping[str, Any]]]],
    models: Mapping[str, nn.Module],
    data: DataSet,
    callback: Callback | None,
    *,
    seed: int = 0,
    on_labels: Collection[str] = ("model", "baseline"),
) -> None:
    """Warn of networks that learned nothing, answer at random, diverged, or are larger than their teacher.

    Args:
        metrics: The contents of ``metrics.json``.
        histories: By role, one history per seed, which has a row per epoch.
        models: The networks of the first seed by role, in evaluation mode.
        data: The data set.
        callback: Receives the warnings.
        seed: The first seed; the others are consecutive.
        on_labels: Roles whose loss is the cross-entropy with labels. Others' may be large by its weights, and counts
            as diverged where it grew.
    """
    warn = (callback or Callback()).on_warning
    usual = math.log(len(data.classes))
    for role, trainings in histories.items():
        losses = {seed + n: rows[-1].get("train_loss") for n, rows in enumerate(trainings) if rows}
        begun = {seed + n: rows[0].get("train_loss") for n, rows in enumerate(trainings) if rows}
        lost = {
            n: loss
            for n, loss in losses.items()
            if isinstance(loss, int | float) and not loss <= _bound(begun[n], usual, plain=role in on_labels)
        }
        if lost:
            warn(
                f"the training of the {role}{_of_seeds(list(lost), len(trainings))} ended with a loss of "
                f"{next(iter(lost.values())):.3g}, where guessing has about {usual:.2g}: it diverged, and a smaller "
                "learning rate may help"
            )
    judged = data.test or data.validation
    if judged is None:
        return
    guessing = _guessing(data)
    for role in models:
        found = _accuracies(metrics, role, seed)
        poor = _poor(found, guessing)
        if poor:
            warn(
                f"the {role}{_of_seeds(list(poor), len(found))} has {next(iter(poor.values())):.1%} accuracy on "
                f"{len(judged):,} {metrics.get('judged_on')} examples, no more than always guessing the most "
                f"frequent class ({guessing:.1%}): it has learned nothing"
            )
    for role, model in models.items():
        few = judged.take(torch.arange(min(_LOOKED_AT, len(judged))))
        if not torch.allclose(predict(model, few), predict(model, few), atol=_ROUNDING, equal_nan=True):
            warn(
                f"the {role} gives different outputs for the same inputs in evaluation mode: does its forward draw "
                "random numbers, or dropout without regard to self.training?"
            )
    sizes = [metrics.get(role, {}).get("parameters") for role in ("teacher", "student")]
    if all(isinstance(size, int) and size > 0 for size in sizes) and sizes[1] > sizes[0]:
        warn(f"the student has {sizes[1]:,} parameters and its teacher {sizes[0]:,}: it is larger, not smaller")


def qualified(verdict: Verdict, metrics: Mapping[str, Any], data: DataSet, seed: int) -> Verdict:
    """The verdict, which says so where one of the two networks has learned nothing: else it contradicts the warning.

    Args:
        verdict: The verdict.
        metrics: The contents of ``metrics.json``.
        data: The data set.
        seed: The first seed; the others are consecutive.

    Returns:
        The verdict; as it is where both have learned something.
    """
    guessing = _guessing(data)
    poor = [
        f"the {role}{_of_seeds(list(worse), len(found))}"
        for role in ("baseline", "student")
        if (worse := _poor(found := _accuracies(metrics, role, seed), guessing))
    ]
    if not poor:
        return verdict
    more = (
        f" But {' and '.join(poor)} {'does' if len(poor) == 1 else 'do'} no better than always guessing the most "
        f"frequent class ({guessing:.1%}): what has learned nothing says little about distillation."
    )
    return dataclasses.replace(verdict, sentence=verdict.sentence + more)


def _guessing(data: DataSet) -> float | None:
    """The accuracy of always guessing the most frequent class; None where it is not known, or examples are few."""
    judged = data.test or data.validation
    if judged is None or judged.labels is None or judged.labels.ndim != 1 or len(judged) < _FEW:
        return None
    return float(torch.bincount(judged.labels.long()).max()) / len(judged)


def _poor(accuracies: Mapping[int, float], guessing: float | None) -> dict[int, float]:
    """The accuracies that are no better than guessing, by seed."""
    return {} if guessing is None else {n: accuracy for n, accuracy in accuracies.items() if accuracy <= guessing}


def _bound(first: Any, guessing: float, *, plain: bool) -> float:
    """The largest mean loss of a last epoch that is not taken for diverged, given that of the first epoch."""
    usual = max(guessing, 0.1)
    if plain or not isinstance(first, int | float):
        return _LOST * usual
    return min(max(_LOST * usual, _LOST * first), _FAR * usual)


def _accuracies(metrics: Mapping[str, Any], role: str, seed: int) -> dict[int, float]:
    """The accuracies of a role by seed, where they are known."""
    rows = metrics.get("seeds") or [{"seed": seed, f"{role}_accuracy": metrics.get(role, {}).get("accuracy")}]
    found = {row["seed"]: row.get(f"{role}_accuracy") for row in rows}
    return {number: accuracy for number, accuracy in found.items() if isinstance(accuracy, int | float)}


def _of_seeds(seeds: Sequence[int], trainings: int) -> str:
    """Which of several trainings are meant, after a space; empty where there is one."""
    if trainings == 1:
        return ""
    return f" of seed{'' if len(seeds) == 1 else 's'} {', '.join(map(str, seeds))}"
