"""The inputs that ``limbeck distill`` and ``limbeck tune`` share: data, teacher and augmentation."""

__all__ = ["DistillationInputs", "open_distillation_inputs", "tell_unused_of_teachers"]

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from limbeck.cli.common import open_examples
from limbeck.errors import ConfigError
from limbeck.options import Augmentation, DataOptions

if TYPE_CHECKING:
    from limbeck.data import DataSet
    from limbeck.protocols import Teacher


@dataclass(frozen=True, eq=False)
class DistillationInputs:
    """The data, teacher and augmentation of a distillation.

    Attributes:
        options: The data's settings, completed by those of the teacher's run.
        examples: The examples.
        teacher: The teacher: live, or a store of soft targets.
        augmentation: The augmentation; that of the store where none was asked for.
    """

    options: DataOptions
    examples: "DataSet"
    teacher: "Teacher"
    augmentation: Augmentation


def open_distillation_inputs(
    options: DataOptions,
    augmentation: Augmentation,
    teacher: Sequence[Path] | None,
    targets: Path | None,
    *,
    student: str,
    mean: Literal["arithmetic", "geometric"],
    weights: Sequence[float] | None = None,
    own: str | None = None,
    quiet: bool = False,
) -> DistillationInputs:
    """Open the examples, and the teachers or the store of their answers.

    Args:
        options: The data's settings.
        augmentation: The augmentation that was asked for.
        teacher: Run folders, or None.
        targets: Instead of teachers: a store of soft targets.
        student: The student's architecture, checked before data are read.
        mean: How several teachers' distributions are averaged.
        weights: How much each teacher counts; None: all alike.
        own: The teachers' architecture where it is the user's, as package.module:function.
        quiet: No bar.

    Returns:
        Examples and teacher.

    Raises:
        ConfigError: If not exactly one of teacher and store is given.
    """
    if (teacher is None) == (targets is None):
        raise ConfigError("give either --teacher or --teacher-targets")
    from limbeck.runs.models_for_data import load_teacher, options_as_trained
    from limbeck.runs.named_models import require_models
    from limbeck.softtargets import SoftTargets

    tell_unused_of_teachers(teacher, mean=mean, weights=weights, own=own, instead="the outputs are in a store")
    options = require_models(options, model=student, teachers=teacher or (), own=own)
    if teacher:
        options = options_as_trained(options, teacher[0], context=False)
    examples = open_examples(options, quiet=quiet)
    if targets is None:
        guide = load_teacher(teacher or [], mean=mean, weights=weights, own=own, data=examples, reading=options)
        return DistillationInputs(options, examples, guide, augmentation)
    store = SoftTargets.open(targets, examples=examples.train)
    return DistillationInputs(
        options, examples, store, store.augmentation if augmentation == Augmentation() else augmentation
    )


def tell_unused_of_teachers(
    teachers: Sequence[Path] | None,
    *,
    mean: str,
    weights: Sequence[float] | None,
    own: str | None,
    instead: str,
) -> None:
    """Warn of settings of teachers that have no effect.

    Args:
        teachers: Run folders; None where answers are stored.
        mean: How several teachers' distributions are averaged.
        weights: How much each teacher counts, or None.
        own: The teachers' architecture, or None.
        instead: Why there is no teacher.
    """
    from limbeck.runs.unused import tell_own_unused, tell_unused

    if teachers is None:
        given = {"--mean": None if mean == "arithmetic" else mean, "--weights": weights, "--teacher-model": own}
        tell_unused([(name, value, instead) for name, value in given.items() if value is not None], None)
        return
    if mean != "arithmetic" and len(teachers) == 1:
        tell_unused([("--mean", mean, "there is one teacher")], None)
    tell_own_unused("--teacher-model", own, teachers)
