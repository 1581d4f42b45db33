"""Checks that all settings share: types and ranges, when a settings object is made."""

__all__ = ["as_type", "check_types", "class_number", "from_keywords", "require", "require_whole", "shown"]

import dataclasses
import difflib
import inspect
import reprlib
import types
from collections.abc import Mapping
from functools import cache
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from limbeck.errors import ConfigError, DataError

T = TypeVar("T")

_RENAMED = {
    "loss": 'method: method="kd" for loss "kl", and method="logits" for "logits"',
    "losses": 'methods: "kd" for "kl", and "logits"',
}
"""Settings of earlier versions."""
_OF_NETWORKS = frozenset(
    {
        "hidden",
        "channels",
        "dropout",
        "input_dropout",
        "max_norm",
        "activation",
        "pieces",
        "batch_norm",
        "padding",
        "standardise",
    }
)
"""Flags of commands that in Python are settings of a network."""

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80


def require(holds: bool, name: str, value: object, rule: str) -> None:
    """Raise an error for a setting that is out of range.

    Args:
        holds: Whether it is in range.
        name: Name of the setting.
        value: The given value.
        rule: The valid range, in words.

    Raises:
        ConfigError: If it is not.

    Example:
        >>> require(3 > 0, "epochs", 3, "above 0")
    """
    if not holds:
        raise ConfigError(f"{name} must be {rule}, and is {value}")


def _require_kind(holds: bool, name: str, value: Any, kind: str) -> None:
    """As :func:`require`, where anything may have been given: it is described only for a message."""
    if not holds:
        require(False, name, shown(value), kind)


def require_whole(name: str, value: Any) -> int:
    """Convert an integer of any type, including numpy's and floats such as 3.0, to int.

    Args:
        name: Name of the setting.
        value: The given value.

    Returns:
        The number.

    Raises:
        ConfigError: If it is not a whole number, such as 2.5, True or "3".

    Example:
        >>> require_whole("seeds", 3.0)
        3
    """
    whole = isinstance(value, Integral) or (isinstance(value, Real) and float(value).is_integer())
    _require_kind(whole and not _is_bool(value), name, value, "a whole number")
    return int(value)


def class_number(given: Any) -> int:
    """Convert a class index to int.

    Args:
        given: An integer of any type, including floats such as 3.0.

    Returns:
        The number.

    Raises:
        DataError: If it is not an integer: 0.5 would become class 0, and True class 1.

    Example:
        >>> class_number(3.0)
        3
    """
    try:
        return require_whole("a class number", given)
    except ConfigError as error:
        raise DataError(str(error)) from None


def check_types(settings: Any) -> None:
    """Check the types of a frozen dataclass's fields, and convert numpy scalars to Python's.

    Call it first in ``__post_init__``. An int is accepted for a float; neither is accepted for a bool.

    Args:
        settings: The dataclass.

    Raises:
        ConfigError: If a value is of another type; the message names the field.
    """
    kind: Any = type(settings)
    hints = _hints(kind)
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        found = as_type(field.name, value, hints[field.name])
        if found is not value:
            object.__setattr__(settings, field.name, found)


def from_keywords(kind: type[T], given: Mapping[str, Any]) -> T:
    """Make settings from keyword arguments.

    Args:
        kind: Their dataclass type.
        given: Values by the names of its fields.

    Returns:
        The settings.

    Raises:
        ConfigError: If a name is unknown, or a value is invalid.
    """
    names = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
    for name in given:
        if name not in names:
            if name in _RENAMED:
                raise ConfigError(f"{name} is called {_RENAMED[name]} now")
            if name in _OF_NETWORKS:
                raise ConfigError(
                    f"{name} belongs to the network: give limbeck.ModelOptions(model='mlp', {name}=...) as the model"
                )
            near = difflib.get_close_matches(name, names, 1)
            raise ConfigError(f"there is no setting {name!r}" + (f": did you mean {near[0]}?" if near else ""))
    return kind(**given)


@cache
def _hints(kind: type[Any]) -> dict[str, Any]:
    return get_type_hints(kind)


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool) or type(value).__name__ in {"bool_", "bool"}


def shown(value: Any) -> str:
    """Describe a value for a message: short plain values as they are, others by their type.

    Args:
        value: Anything.

    Returns:
        The description.

    Example:
        >>> shown("3"), shown(float), shown(object())
        ("'3'", 'the class float', 'an object')
    """
    if inspect.isclass(value):
        return f"the class {value.__name__}"
    if value is None or isinstance(value, str | bytes | Real | list | tuple | dict | set | Path):
        return " ".join(_SHORT.repr(value).split())
    name = type(value).__name__
    return f"{'an' if name[0] in 'AEIOUaeiou' else 'a'} {name}"


def as_type(name: str, value: Any, hint: Any) -> Any:
    """Convert a value to a field's annotated type, such as numpy's 3 or 3.0 to 3.

    Args:
        name: Name of the field.
        value: The given value.
        hint: The annotation: bool, int, float, str, a Literal of strings, a tuple of these, or one of these or None.

    Returns:
        The value.

    Raises:
        ConfigError: If it is of another type.
    """  # noqa: DOC502
    if isinstance(hint, types.UnionType) or get_origin(hint) is not None and type(None) in get_args(hint):
        if value is None:
            return None
        return as_type(name, value, next(kind for kind in get_args(hint) if kind is not type(None)))
    if hint is bool:
        _require_kind(_is_bool(value), name, value, "True or False")
        return bool(value)
    if hint is int:
        return require_whole(name, value)
    if hint is float:
        _require_kind(isinstance(value, Real) and not _is_bool(value), name, value, "a number")
        return value if type(value) in {int, float} else float(value)
    if hint is str or get_origin(hint) is Literal:
        _require_kind(isinstance(value, str), name, value, "text")
        return value
    if get_origin(hint) is tuple:
        kind = get_args(hint)[0]
        _require_kind(isinstance(value, tuple | list), name, value, "a list")
        found = tuple(as_type(name, item, kind) for item in value)
        return value if type(value) is tuple and found == value else found
    return value
