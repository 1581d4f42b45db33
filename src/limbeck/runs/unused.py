"""Settings that change nothing beside others: told by name, so that nobody believes that they counted."""

__all__ = ["tell_class_weights", "tell_unused", "unused_in_compression", "unused_in_distillation", "unused_in_training"]

import dataclasses
from collections.abc import Sequence
from typing import Any

from limbeck.data.data_set import DataSet
from limbeck.lowrank import metric_for
from limbeck.options import Augmentation, Distillation, RankRule, Training
from limbeck.options.methods import has_temperature
from limbeck.system.callbacks import Callback

Unused = tuple[str, Any, str]
"""A setting's name, its value, and why it changes nothing."""

_UNASKED = "hard_weight is 1, so that the teacher is not asked"


def tell_unused(found: Sequence[Unused], callback: Callback | None) -> None:
    """Warn of settings that change nothing.

    Args:
        found: Which, and why.
        callback: Is told.

    Example:
        >>> class Loud(Callback):
        ...     def warn(self, text):
        ...         print(text)
        >>> tell_unused([("mean", "geometric", "there is one member")], Loud())
        mean is 'geometric', and changes nothing: there is one member
    """
    for name, value, reason in found:
        (callback or Callback()).warn(f"{name} is {value!r}, and changes nothing: {reason}")


def tell_class_weights(options: Training, data: DataSet, source: DataSet, callback: Callback | None) -> None:
    """Say which examples and classes no class weights are for, where settings ask for them.

    Args:
        options: The settings of the training.
        data: Examples with labels.
        source: What a student learns from: these, or a transfer set.
        callback: Is told.
    """
    if options.class_weight is None:
        return
    hears = callback or Callback()
    if source.train.labels is None:
        told = "and weights the baseline alone" if data.train.labels is not None else "and changes nothing"
        hears.warn(f"class_weight needs labels, {told}: what the student learns from has none")
    counts = data.train.class_counts(len(data.classes))
    empty = [name for name, count in zip(data.classes, counts, strict=True) if not count]
    if empty and any(counts):
        shown = ", ".join(empty[:5]) + (f" and {len(empty) - 5} more" if len(empty) > 5 else "")
        hears.warn(f"class_weight: no training example is of {shown}, which no weight makes up for")


def unused_in_training(
    options: Training, data: DataSet, augmentation: Augmentation, *, kept: bool, jobs: int, trainings: int
) -> list[Unused]:
    """Settings of any training that change nothing.

    Args:
        options: The settings of the training.
        data: Its examples.
        augmentation: What is drawn for each view, with the examples' own random transforms.
        kept: Whether there is a folder.
        jobs: How many trainings run at a time.
        trainings: How many there are.

    Returns:
        Which, and why.
    """
    plain, found = Training(), list[Unused]()
    if options.patience is not None and data.validation is None:
        found.append(("patience", options.patience, "there is no validation set to go by"))
    if options.checkpoint_minutes not in {plain.checkpoint_minutes, None} and not kept:
        found.append(("checkpoint_minutes", options.checkpoint_minutes, "there is no folder to write to (out)"))
    if jobs > 1 and trainings == 1:
        found.append(("jobs", jobs, "there is one training"))
    if not augmentation.active:
        reason = "there is no augmentation"
        found += _differing(augmentation, Augmentation(), dict.fromkeys(("views", "view_seed"), reason))
    return found


def unused_in_distillation(aims: Distillation, options: Training, *, baseline: bool) -> list[Unused]:
    """Settings of a distillation that change nothing.

    Args:
        aims: What the student learns.
        options: The settings of the training.
        baseline: Whether there is a baseline.

    Returns:
        Which, and why.

    Example:
        >>> unused_in_distillation(Distillation(method="logits", temperature=2.0), Training(), baseline=True)
        [('temperature', 2.0, 'method is logits, in which no temperature counts')]
    """
    reasons: dict[str, str] = {}
    if not baseline:
        reasons |= dict.fromkeys(("baseline_learning_rate", "searched"), "there is no baseline")
    if not has_temperature(aims.method, aims.method_options):
        reasons["temperature"] = f"method is {aims.method}, in which no temperature counts"
    if aims.hard_weight == 1:
        reasons |= dict.fromkeys(("temperature", "method", "method_options"), _UNASKED)
    found = _differing(aims, Distillation(), reasons)
    if aims.hard_weight == 0 and not baseline:
        found += _differing(options, Training(), {"label_smoothing": "nothing is learnt from labels"})
    return found


def unused_in_compression(
    rule: RankRule, *, by: str = "rank", planned: bool, metric: str | None, calibration: int, placement: str
) -> list[Unused]:
    """Settings of a compression that change nothing.

    Args:
        rule: How small the layers become.
        by: "rank", or "units" that go.
        planned: Whether a plan is given in its place.
        metric: In which errors are counted; None for that which suits the rule.
        calibration: How many examples to calibrate with.
        placement: Where singular values go.

    Returns:
        Which, and why.
    """
    found: list[Unused] = []
    counts = calibration >= 1 and calibration != 2000  # what is out of range is refused elsewhere
    if rule.name is None:
        reason = "the plan says the ranks" if planned else "there is no rank rule"
        found += [("metric", metric, reason)] if metric is not None else []
        found += [("calibration", calibration, reason)] if counts else []
        found += [("placement", placement, reason)] if placement != "input" else []
    elif by == "units" and placement != "input":
        found.append(("placement", placement, "units go, and no singular values are placed"))
    elif counts and (metric or metric_for(rule)) == "weights":
        found.append(("calibration", calibration, "errors of weights are counted without examples"))
    return found


def _differing(settings: Any, plain: Any, reasons: dict[str, str]) -> list[Unused]:
    """Those of some settings that are not as they are where nobody says."""
    names = [field.name for field in dataclasses.fields(settings) if field.name in reasons]
    return [
        (name, getattr(settings, name), reasons[name])
        for name in names
        if getattr(settings, name) != getattr(plain, name)
    ]
