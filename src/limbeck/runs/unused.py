"""Warnings of settings that have no effect."""

__all__ = [
    "tell_class_weights",
    "tell_own_unused",
    "tell_unused",
    "unused_in_compression",
    "unused_in_distillation",
    "unused_in_training",
]

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from limbeck.data.data_set import DataSet
from limbeck.errors import FormatError
from limbeck.lowrank import metric_for
from limbeck.options import Augmentation, Distillation, RankRule, Training
from limbeck.options.methods import has_temperature
from limbeck.system.callbacks import Callback
from limbeck.system.files import read_json

Unused = tuple[str, Any, str]
"""A setting's name, its value, and why it has no effect."""

_UNASKED = "hard_weight is 1, so that the teacher is not used"


def tell_unused(found: Sequence[Unused], callback: Callback | None) -> None:
    """Warn of settings that have no effect.

    Args:
        found: Which, and why.
        callback: Receives the warnings.

    Example:
        >>> class Loud(Callback):
        ...     def on_warning(self, text):
        ...         print(text)
        >>> tell_unused([("mean", "geometric", "there is one member")], Loud())
        mean is 'geometric', and has no effect: there is one member
    """
    for name, value, reason in found:
        (callback or Callback()).on_warning(f"{name} is {value!r}, and has no effect: {reason}")


def tell_own_unused(name: str, own: str | None, runs: Sequence[Path]) -> None:
    """Warn of an architecture that is given for networks that need none.

    Args:
        name: The setting's name.
        own: The architecture, or None.
        runs: Run folders; others, such as files and names of models, need none.
    """
    if own is not None and not any(_needs_architecture(run) for run in runs):
        tell_unused([(name, own, "no network here is of an architecture of your own")], None)


def _needs_architecture(run: Path) -> bool:
    """Whether a run has a user's network; True where that cannot be told, which is said when it is loaded."""
    if (run / "ensemble.json").exists():
        return any(_needs_architecture(member) for member in (run / "members").glob("*"))
    place = next((file for file in (run / "model" / "config.json", run / "config.json") if file.is_file()), None)
    try:
        config = None if place is None else read_json(place)
    except FormatError:
        return True
    return isinstance(config, dict) and config.get("model_type") == "own"


def tell_class_weights(options: Training, data: DataSet, source: DataSet, callback: Callback | None) -> None:
    """Warn of examples and classes that class weights do not apply to.

    Args:
        options: The training settings.
        data: Examples with labels.
        source: The student's training data: these, or a transfer set.
        callback: Receives the warnings.
    """
    if options.class_weight is None:
        return
    hears = callback or Callback()
    if source.train.labels is None:
        told = "and weights only the baseline" if data.train.labels is not None else "and has no effect"
        hears.on_warning(f"class_weight needs labels, {told}: the student's training data have none")
    counts = data.train.class_counts(len(data.classes))
    empty = [name for name, count in zip(data.classes, counts, strict=True) if not count]
    if empty and any(counts):
        shown = ", ".join(empty[:5]) + (f" and {len(empty) - 5} more" if len(empty) > 5 else "")
        hears.on_warning(f"class_weight: there are no training examples of {shown}, which no weight can make up for")


def unused_in_training(
    options: Training, data: DataSet, augmentation: Augmentation, *, kept: bool, jobs: int, trainings: int
) -> list[Unused]:
    """Training settings that have no effect.

    Args:
        options: The training settings.
        data: Its examples.
        augmentation: The augmentation, with the data set's own random transforms.
        kept: Whether there is a folder.
        jobs: How many trainings run in parallel.
        trainings: Number of trainings.

    Returns:
        Which, and why.
    """
    plain, found = Training(), list[Unused]()
    if options.patience is not None and data.validation is None:
        found.append(("patience", options.patience, "there is no validation set"))
    if options.checkpoint_minutes not in {plain.checkpoint_minutes, None} and not kept:
        found.append(("checkpoint_minutes", options.checkpoint_minutes, "there is no folder to write to (out)"))
    if jobs > 1 and trainings == 1:
        found.append(("jobs", jobs, "there is one training"))
    if not augmentation.active:
        reason = "there is no augmentation"
        found += _differing(augmentation, Augmentation(), dict.fromkeys(("views", "view_seed"), reason))
    return found


def unused_in_distillation(aims: Distillation, options: Training, *, baseline: bool) -> list[Unused]:
    """Distillation settings that have no effect.

    Args:
        aims: The distillation settings.
        options: The training settings.
        baseline: Whether there is a baseline.

    Returns:
        Which, and why.

    Example:
        >>> unused_in_distillation(Distillation(method="logits", temperature=2.0), Training(), baseline=True)
        [('temperature', 2.0, 'method logits has no temperature')]
    """
    reasons: dict[str, str] = {}
    if not baseline:
        reasons |= dict.fromkeys(("baseline_learning_rate", "searched"), "there is no baseline")
    if not has_temperature(aims.method, aims.method_options):
        reasons["temperature"] = f"method {aims.method} has no temperature"
    if aims.hard_weight == 1:
        reasons |= dict.fromkeys(("temperature", "method", "method_options"), _UNASKED)
    found = _differing(aims, Distillation(), reasons)
    if aims.hard_weight == 0 and not baseline:
        found += _differing(options, Training(), {"label_smoothing": "labels are not used"})
    return found


def unused_in_compression(
    rule: RankRule,
    *,
    by: str = "rank",
    planned: bool,
    metric: str | None,
    calibration: int,
    placement: str,
    convolutions: str = "best",
) -> list[Unused]:
    """Compression settings that have no effect.

    Args:
        rule: The rank rule.
        by: "rank", or "units" that go.
        planned: Whether a plan is given instead.
        metric: The metric of truncation errors; None for the rule's default.
        calibration: How many examples to calibrate with.
        placement: Which factor gets the singular values.
        convolutions: The allowed factorisations of convolutions.

    Returns:
        Which, and why.
    """
    found: list[Unused] = []
    counts = calibration >= 1 and calibration != 2000  # out-of-range values are refused elsewhere
    if rule.name is None:
        reason = "the plan fixes the ranks" if planned else "there is no rank rule"
        found += [("metric", metric, reason)] if metric is not None else []
        found += [("calibration", calibration, reason)] if counts else []
        found += [("placement", placement, reason)] if placement != "input" else []
        found += [("convolutions", convolutions, reason)] if convolutions != "best" else []
    elif by == "units" and convolutions != "best":
        found.append(("convolutions", convolutions, "units go, and no convolution is factorised"))
    elif by == "units" and placement != "input":
        found.append(("placement", placement, "units go, and no singular values are placed"))
    elif counts and (metric or metric_for(rule)) == "weights":
        found.append(("calibration", calibration, "errors of weights are counted without examples"))
    return found


def _differing(settings: Any, plain: Any, reasons: dict[str, str]) -> list[Unused]:
    """The settings that differ from their defaults."""
    names = [field.name for field in dataclasses.fields(settings) if field.name in reasons]
    return [
        (name, getattr(settings, name), reasons[name])
        for name in names
        if getattr(settings, name) != getattr(plain, name)
    ]
