"""Argument checking of public functions by their annotations, before anything is computed or written."""

__all__ = ["checked_arguments"]

import collections.abc
import dataclasses
import inspect
import os
import types
from collections.abc import Callable, Iterator, Mapping, Sequence, Set, Sized
from functools import cache, wraps
from numbers import Real
from pathlib import Path
from typing import Any, Literal, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np
import torch
from torch import Tensor, nn

from limbeck.data.conversion import as_examples
from limbeck.data.examples import Examples
from limbeck.data.values import as_tensor
from limbeck.errors import ArgumentError, ConfigError, LimbeckError
from limbeck.options.checks import as_type, class_number, from_keywords, shown
from limbeck.system.devices import Device, find_device

P = ParamSpec("P")
R = TypeVar("R")

_NONE, _PLAIN = type(None), (bool, int, float, str)
_STARRED = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}
_WORDS = {bool: "True or False", int: "a whole number", float: "a number", str: "text", Path: "a path"}


def checked_arguments(function: Callable[P, R]) -> Callable[P, R]:
    """Check a function's arguments against its annotations, and convert what can stand for the annotated type.

    Convertible are: a pair, an array or a data set of PyTorch for :class:`~limbeck.Examples`; an array or a list for a
    tensor; a mapping of settings for a dataclass such as :class:`~limbeck.Augmentation`; a device's name for a
    :class:`~limbeck.system.devices.Device`; 3.0 for 3. Protocols, such as those of teachers, are left to the function.

    Args:
        function: A public function. A wrong call of it raises ArgumentError, or DataError where values are wrong; the
            message names the argument, what is needed and what was given.

    Returns:
        The function.

    Example:
        >>> @checked_arguments
        ... def double(number: int) -> int:
        ...     return 2 * number
        >>> double(3.0)
        6
        >>> double("3")
        Traceback (most recent call last):
        limbeck.errors.ArgumentError: number must be a whole number, and is '3'
    """
    signature = inspect.signature(function)
    starred = {name for name, parameter in signature.parameters.items() if parameter.kind in _STARRED}
    hints = cache(lambda: get_type_hints(function))

    @wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError:
            return function(*args, **kwargs)  # Python's own message for an unknown or missing name
        for name, value in bound.arguments.items():
            if name in hints() and name not in starred:
                bound.arguments[name] = _as_argument(name, value, hints()[name])
        return function(*bound.args, **bound.kwargs)

    return checked


def _as_argument(name: str, value: Any, hint: Any) -> Any:
    """The value converted to one of the types that an annotation allows."""
    kinds = get_args(hint) if get_origin(hint) in {Union, types.UnionType} else (hint,)
    if value is None and _NONE in kinds:
        return None
    if any(kind is Any or getattr(kind, "_is_protocol", False) for kind in kinds):
        return value
    if nn.Module in kinds and len(kinds) > 1:
        return value  # or a factory of one, which limbeck.models.factories checks further
    kinds = tuple(kind for kind in kinds if kind is not _NONE)
    if any(inspect.isclass(kind) and kind not in _PLAIN and isinstance(value, kind) for kind in kinds):
        return _path(name, value) if isinstance(value, Path) else value
    if Path in kinds and isinstance(value, str | os.PathLike):
        return _path(name, value)
    wanted = " or ".join(dict.fromkeys(_described(kind) for kind in kinds if kind is not str or Path not in kinds))
    refusal: LimbeckError | None = None
    for kind in kinds:
        try:
            return _as_kind(name, value, kind)
        except _NotThisKind:
            continue
        except LimbeckError as error:
            refusal = refusal or error
    raise refusal or ArgumentError(f"{name} must be {wanted}, and is {shown(value)}{_cure(value, kinds)}")


class _NotThisKind(Exception):
    """The value cannot be converted to this type at all; the message then names every accepted type."""


def _as_kind(name: str, value: Any, kind: Any) -> Any:
    """The value converted to one type; LimbeckError where it is of that type but invalid."""
    origin = get_origin(kind)
    if kind in _PLAIN:
        try:
            return as_type(name, value, kind)
        except ConfigError:
            raise _NotThisKind from None
    if origin is Literal and isinstance(value, str) and value in get_args(kind):
        return value
    if origin is collections.abc.Callable and callable(value):
        return value
    if origin is collections.abc.Mapping and isinstance(value, Mapping):
        key, item = get_args(kind)
        return {
            _as_argument(f"a key of {name}", k, key): _as_argument(f"{name}[{k!r}]", v, item) for k, v in value.items()
        }
    if origin is collections.abc.Sequence:
        return _as_sequence(name, value, get_args(kind)[0])
    if origin is tuple and isinstance(value, tuple | list) and len(value) == len(get_args(kind)):
        pairs = enumerate(zip(value, get_args(kind), strict=True))
        return tuple(_as_argument(f"{name}[{place}]", item, part) for place, (item, part) in pairs)
    if kind is Examples:
        try:
            return as_examples(value)
        except LimbeckError as error:
            raise type(error)(f"{name}: {error}") from error
    if kind is Tensor and not isinstance(value, Real | _NONE):
        return as_tensor(name, value)
    if kind is Device and isinstance(value, str | torch.device):
        return find_device(str(value), "float32")
    if dataclasses.is_dataclass(kind) and isinstance(kind, type) and isinstance(value, Mapping):
        return from_keywords(kind, _as_argument(name, value, Mapping[str, Any]))
    raise _NotThisKind


def _as_sequence(name: str, value: Any, item: Any) -> tuple[Any, ...]:
    """A sequence as a tuple whose items are checked too."""
    if isinstance(value, np.ndarray | Tensor) and value.ndim and item is not Tensor:
        value = value.tolist()
    elif isinstance(value, Iterator):
        value = tuple(value)
    letters = item is str and name == "classes"  # a text of class names of one letter each
    unordered = isinstance(value, Mapping | Set | bytes) or (isinstance(value, str) and not letters)
    # An nn.Sequential is a sequence too, but is one network.
    layers = isinstance(value, nn.Module) and not isinstance(value, nn.ModuleList)
    if unordered or layers or not (isinstance(value, Sized) and hasattr(value, "__getitem__")):
        raise _NotThisKind
    items: Any = value
    if item is int:  # class indices are the only numbers given in lists
        return tuple(map(class_number, items))
    if item is str:  # class names are the only strings given in lists, and there may be 100,000 of them
        for each in items:
            if not isinstance(each, str):
                raise ArgumentError(f"{name}: the class name {shown(each)} is not text: give names as strings")
        return tuple(items)
    return tuple(_as_argument(f"{name}[{place}]", items[place], item) for place in range(len(items)))


def _path(name: str, value: "str | os.PathLike[Any]") -> Any:
    text = os.fspath(value)
    if not isinstance(text, str) or not text or "\0" in text:
        raise ArgumentError(f"{name} must be a path, as text without a null character, and is {shown(text)}")
    return value if isinstance(value, str) else Path(text)


def _cure(value: object, kinds: Sequence[Any]) -> str:
    if nn.Module in kinds and isinstance(value, str | os.PathLike):
        return ": open a run with limbeck.load(path)"
    if nn.Module in kinds and inspect.isclass(value) and issubclass(value, nn.Module):
        return ": give an instance of it"
    if isinstance(value, str) and any(get_origin(kind) is collections.abc.Sequence for kind in kinds):
        return f": give a list, as [{shown(value)}]"
    return ""


def _described(kind: Any) -> str:
    """The description of a type."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Literal:
        return " or ".join(map(str, parts))
    if origin in {Union, types.UnionType}:
        return " or ".join(_described(part) for part in parts if part is not _NONE)
    if origin is collections.abc.Callable:
        return "a function"
    if origin is collections.abc.Mapping:
        return "a mapping"
    if origin is collections.abc.Sequence:
        each = "" if getattr(parts[0], "_is_protocol", False) else f" (each item {_described(parts[0])})"
        return f"a list{each}"
    if origin is tuple:
        return f"a tuple of {len(parts)} ({', '.join(map(_described, parts))})"
    if kind in _WORDS:
        return _WORDS[kind]
    if kind is Tensor:
        return "a tensor or an array"
    if kind is Device:
        return 'the name of a device, such as "cpu"'
    if getattr(kind, "_is_protocol", False):
        return "a teacher"
    name = "torch.nn.Module" if kind is nn.Module else getattr(kind, "__qualname__", str(kind))
    settings = dataclasses.is_dataclass(kind) and kind.__module__.startswith(
        ("limbeck.options", "limbeck.options.search_space")
    )
    return f"a {name}" if not settings else f"limbeck.{name}, or a mapping of its settings"
