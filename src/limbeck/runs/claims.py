"""What a run will be able to claim: a margin that can be judged, and what the examples can show at best."""

__all__ = ["check_margin", "judged_by", "tell_reach"]

from limbeck.data.data_set import DataSet
from limbeck.data.examples import Examples
from limbeck.errors import ConfigError, MismatchError
from limbeck.evaluation.non_inferiority import checked_margin
from limbeck.evaluation.sample_size import ASSUMED_DISCORDANT, examples_needed, smallest_difference, smallest_margin
from limbeck.protocols import Teacher
from limbeck.system.callbacks import Callback


def check_margin(margin: float | None, data: DataSet, reference: Teacher | None = None) -> None:
    """Refuse a margin that cannot be judged, before anything is trained.

    Args:
        margin: Percentage points of the error rate, or None.
        data: What will be judged on.
        reference: Who is compared with, where that may be a store of answers.

    Raises:
        ConfigError: If the margin is out of range, or there is nothing to judge it by.
    """
    if margin is None:
        return
    checked_margin(margin)
    judged = data.test or data.validation
    if judged is None or judged.labels is None:
        raise ConfigError("a margin is judged on labelled test or validation examples: give some, or leave it out")
    if reference is not None and judged_by(reference, judged) is None:
        raise ConfigError(
            "a margin is judged by the teacher's own answers to these examples, and it has none stored: give the "
            "teacher itself, or leave the margin out"
        )


def judged_by(teacher: Teacher, examples: Examples) -> Teacher | None:
    """The teacher for other examples than it was bound to; None where its answers are stored, and of others."""
    try:
        return teacher.bind(examples)
    except MismatchError:
        return None


def tell_reach(
    margin: float | None, data: DataSet, callback: Callback | None, *, teacher: Teacher | None = None
) -> None:
    """Say in a line what the examples can show at best, and how many a margin needs; and that a teacher is not judged.

    Args:
        margin: Percentage points of the error rate, or None.
        data: What will be judged on.
        callback: Is told; None: it is logged.
        teacher: Whose answers may be stored, for training examples alone.
    """
    judged = data.test or data.validation
    if judged is None or judged.labels is None:
        return
    if teacher is not None and judged_by(teacher, judged) is None:
        (callback or Callback()).note("the teacher's answers are stored for training examples: it is not judged itself")
    part, groups = "test" if data.test is not None else "validation", judged.groups()
    text = (
        f"{len(judged):,} {part} examples show a difference of {100 * smallest_difference(len(judged)):.2g} points "
        f"between two networks at best"
    )
    if margin is not None:
        text += (
            f" and a margin of {100 * smallest_margin(len(judged)):.2g}; a margin of {margin:g} needs "
            f"{examples_needed(margin / 100):,}"
        )
    text += f" (power 90 %, if the two differ on {100 * ASSUMED_DISCORDANT:g} % of examples)"
    (callback or Callback()).note(
        text + ("; examples of a group are alike and show less" if groups is not None else "")
    )
