"""Names of a model's classes, where it has them as a run's model that was loaded does."""

__all__ = ["named_classes"]

from typing import Any


def named_classes(model: Any) -> tuple[str, ...] | None:
    """The names in a model's attribute ``classes``.

    Args:
        model: A module, a teacher, or anything else.

    Returns:
        The names in the order of its outputs; None where it has no such attribute, or something else of that name,
        such as a layer.

    Example:
        >>> from types import SimpleNamespace
        >>> named_classes(SimpleNamespace(classes=["cat", "dog"])), named_classes(SimpleNamespace(classes=print))
        (('cat', 'dog'), None)
    """
    named = getattr(model, "classes", None)
    if not isinstance(named, tuple | list) or not all(isinstance(name, str) for name in named):
        return None
    return tuple(named)
