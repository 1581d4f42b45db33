"""What a run will be able to show: checks of the margin, and the power of the evaluation set."""

__all__ = ["check_margin", "judged_by", "reach_of", "tell_reach"]

from limbeck.data.data_set import DataSet
from limbeck.data.examples import Examples
from limbeck.errors import ConfigError, MismatchError
from limbeck.evaluation.non_inferiority import checked_margin
from limbeck.evaluation.sample_size import ASSUMED_DISCORDANT, examples_needed, smallest_difference, smallest_margin
from limbeck.protocols import Teacher
from limbeck.system.callbacks import Callback


def check_margin(margin: float | None, data: DataSet, reference: Teacher | None = None) -> None:
    """Refuse a margin that cannot be tested, before anything is trained.

    Args:
        margin: Percentage points of the error rate, or None.
        data: The data set.
        reference: The teacher to compare with, where that may be a store of soft targets.

    Raises:
        ConfigError: If the margin is out of range, or there are no examples to test it on.
    """
    if margin is None:
        return
    checked_margin(margin)
    judged = data.test or data.validation
    if judged is None or judged.labels is None:
        raise ConfigError("a margin is evaluated on labelled test or validation examples: give some, or leave it out")
    if reference is not None and judged_by(reference, judged) is None:
        raise ConfigError(
            "a margin is tested against the teacher's outputs for these examples, and the store does not have them: "
            "give the teacher itself, or leave the margin out"
        )


def judged_by(teacher: Teacher, examples: Examples) -> Teacher | None:
    """The teacher for other examples than it was bound to; None where its outputs are stored, for others."""
    try:
        return teacher.bind(examples)
    except MismatchError:
        return None


def reach_of(examples: int, part: str, margin: float | None) -> str:
    """What so many examples can show, and how many a margin needs, in words.

    Args:
        examples: How many the networks are evaluated on.
        part: Their part of the data: "test" or "validation".
        margin: Percentage points of the error rate, or None.

    Returns:
        A sentence without a full stop.

    Example:
        >>> reach_of(10_000, "test", None)
        '10,000 test examples are enough to show a difference of 0.72 points or more between two networks (power ...'
    """
    text = (
        f"{examples:,} {part} examples are enough to show a difference of "
        f"{100 * smallest_difference(examples):.2g} points or more between two networks"
    )
    if margin is not None:
        text += (
            f", and a margin of {100 * smallest_margin(examples):.2g} or more; a margin of {margin:g} needs "
            f"{examples_needed(margin / 100):,}"
        )
    return text + f" (power 90 %, if the two differ on {100 * ASSUMED_DISCORDANT:g} % of examples)"


def tell_reach(
    margin: float | None, data: DataSet, callback: Callback | None, *, teacher: Teacher | None = None
) -> None:
    """Note the smallest detectable difference, the examples that a margin needs, and that a stored teacher is not
    evaluated.

    Args:
        margin: Percentage points of the error rate, or None.
        data: The data set.
        callback: Receives the note; None: it is logged.
        teacher: The teacher; its outputs may be stored, for training examples only.
    """
    judged = data.test or data.validation
    if judged is None or judged.labels is None:
        return
    if teacher is not None and judged_by(teacher, judged) is None:
        (callback or Callback()).on_note(
            "the teacher's outputs are stored for training examples only: the teacher itself is not evaluated"
        )
    part, groups = "test" if data.test is not None else "validation", judged.groups()
    text = reach_of(len(judged), part, margin)
    (callback or Callback()).on_note(
        text + ("; examples of a group are correlated and show less" if groups is not None else "")
    )
