r"""Conversion of objects to teachers."""

__all__ = ["as_teacher"]

from collections.abc import Sequence

from torch import nn

from limbeck.models.class_names import named_classes
from limbeck.protocols import Answering, Teacher
from limbeck.teachers.adapters import adapted
from limbeck.teachers.model import ModelTeacher
from limbeck.teachers.user import UserTeacher


def as_teacher(teacher: nn.Module | Answering, classes: Sequence[str] | None = None) -> Teacher:
    """Convert a module or another object to a teacher.

    Args:
        teacher: A module, a teacher, anything with ``classes`` and ``log_probs``, an estimator with ``predict_proba``,
            or a function from inputs to logits.
        classes: Names of the data's classes in order, where known; the columns of an estimator are put in their order.

    Returns:
        A teacher.

    Raises:
        DataError: If it is none of these.

    Example:
        >>> from limbeck.teachers import Ensemble
        >>> as_teacher(Ensemble([nn.Identity(), nn.Identity()], mean="arithmetic")).every_temperature
        False
    """  # noqa: DOC502
    teacher = adapted(teacher, classes)
    if isinstance(teacher, nn.Module):
        return ModelTeacher(teacher, named_classes(teacher))
    return teacher if hasattr(teacher, "bind") else UserTeacher(teacher)  # type: ignore[return-value]
