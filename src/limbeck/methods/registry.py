"""The registry of methods: built-in, of other packages, and in a user's file.

A method of another package is an entry point of the group ``limbeck.methods`` that names a subclass of
:class:`~limbeck.methods.Method`. Modules are imported when a method is needed.
"""

__all__ = ["MethodClass", "OptionKind", "describe_methods", "make_method", "method_class", "option_kinds"]

import difflib
import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

from limbeck.errors import ConfigError
from limbeck.methods.base import Method
from limbeck.methods.own import OwnLoss
from limbeck.methods.sums import Sum
from limbeck.options.checks import as_type
from limbeck.options.methods import (
    GROUP,
    METHODS,
    OWN,
    Range,
    method_names,
    method_parts,
    option_list,
    option_table,
    option_value,
    spelled,
)
from limbeck.system.extras import entry_points, load_entry_point
from limbeck.system.user_code import import_user_module

MethodClass = type[Method]


class OptionKind(NamedTuple):
    """The options of one method, as a search needs them.

    Attributes:
        name: Name of the method.
        given: The given options, as text by name.
        hints: The annotation of each.
        ranges: Search ranges of the others.
    """

    name: str
    given: Mapping[str, str]
    hints: Mapping[str, Any]
    ranges: Mapping[str, Range]


def option_kinds(names: Sequence[str], options: Sequence[str]) -> list[OptionKind]:
    """The options of some methods.

    Args:
        names: Names of methods, without repetition.
        options: Those that are given, for all of them, as :func:`~limbeck.options.methods.option_list` has them.

    Returns:
        One for each name.

    Raises:
        ConfigError: If no method, or more than one, has an option of a name.

    Example:
        >>> kind = option_kinds(["dkd"], ["alpha=2"])[0]
        >>> kind.given, sorted(kind.ranges)
        ({'alpha': '2'}, ['alpha', 'beta'])
    """
    kinds = [_kind(name) for name in names]
    apart = _divided(option_table(options), names, kinds)
    return [
        OptionKind(name, given, get_type_hints(kind.__init__), kind.ranges_for(given))
        if _is_class(kind)
        else OptionKind(name, given, {}, {})
        for name, kind, given in zip(names, kinds, apart, strict=True)
    ]


def method_class(name: str) -> MethodClass:
    """The class of a method.

    Args:
        name: From :func:`~limbeck.options.methods.method_names`.

    Returns:
        The class; one of another package comes before one of Limbeck's of the same name.

    Raises:
        ConfigError: If a package's method cannot be imported, or is not a class of methods.

    Example:
        >>> method_class("kd").__name__
        'KD'
    """
    for point in entry_points(group=GROUP):
        if point.name != name:
            continue
        found = load_entry_point(point, "method")
        if not (inspect.isclass(found) and issubclass(found, Method)):
            raise ConfigError(f"the method {name} ({point.value}) is not a subclass of limbeck.methods.Method")
        return found
    if name == OWN:
        raise ConfigError("method own was given as an object in Python: give it again, with method= or objective=")
    method_parts(name)  # refuses an unknown name
    module, kind = METHODS[name].split(":")
    own: type[Method] = getattr(importlib.import_module(module), kind)
    return own


def make_method(
    method: str | Mapping[str, float] | Method,
    options: Sequence[str] | Mapping[str, Any] = (),
    *,
    temperature: float = 4.0,
    classes: int = 5,
) -> Method:
    """A method, or a sum of several, with its options.

    Args:
        method: A name; several as ``kd:1+dkd:0.5`` or a mapping of names to weights; ``FILE.py:NAME`` or
            ``package.module:NAME`` for a class or a function of your own; or a method object.
        options: By name, as a mapping or as texts ``NAME=VALUE``; in a sum ``METHOD.NAME`` where several have it.
        temperature: T of every method that has one, unless an option sets it.
        classes: Number of classes.

    Returns:
        The method.

    Raises:
        ConfigError: If a name or an option is unknown, or a value out of range.

    Example:
        >>> make_method("dkd", {"beta": 2}, temperature=1.0)
        DKD(temperature=1.0, alpha=1.0, beta=2.0)
    """
    if isinstance(method, Method):
        return method
    parts = method_parts(spelled(method))
    given = option_table(option_list(options))
    kinds = [_kind(part.name) for part in parts]
    apart = _divided(given, [part.name for part in parts], kinds)
    made = [
        _made(part.name, kind, own, temperature, classes) for part, kind, own in zip(parts, kinds, apart, strict=True)
    ]
    if len(made) == 1 and parts[0].weight == 1:
        return made[0]
    return Sum(made, [part.weight for part in parts], [part.name for part in parts])


def _kind(name: str) -> Any:
    """The class of a method, or a user's function or method."""
    return _own(name) if ":" in name else method_class(name)


def _divided(given: Mapping[str, str], names: Sequence[str], kinds: Sequence[Any]) -> list[dict[str, str]]:
    """The options of each method."""
    found: list[dict[str, str]] = [{} for _ in names]
    taken = [list(kind.option_defaults()) if _is_class(kind) else [] for kind in kinds]
    for key, value in given.items():
        head, dot, option = key.rpartition(".")
        if dot and head not in names:
            raise ConfigError(f"method_options name {key}, and the methods are {', '.join(names)}")
        places = [k for k in range(len(names)) if (not dot or names[k] == head) and option in taken[k]]
        if not places:
            known = [each for k in range(len(names)) if not dot or names[k] == head for each in taken[k]]
            near = difflib.get_close_matches(option, known, 1)
            cure = f"did you mean {near[0]}?" if near else f"it has {', '.join(known) or 'none'}"
            raise ConfigError(f"method {head or ' + '.join(names)} has no option {option!r}: {cure}")
        if len(places) > 1:
            both = " and ".join(names[k] for k in places)
            raise ConfigError(f"{both} each have an option {option}: name one, as {names[places[0]]}.{option}")
        found[places[0]][option] = value
    return found


def _is_class(kind: Any) -> bool:
    return inspect.isclass(kind) and issubclass(kind, Method)


def _made(name: str, kind: Any, options: dict[str, str], temperature: float, classes: int) -> Method:
    if isinstance(kind, Method):
        return kind
    if not _is_class(kind):
        return OwnLoss(kind, classes=classes)
    if inspect.isabstract(kind):
        raise ConfigError(f"method {name}: {kind.__name__} has no forward, which gives the value of each example")
    hints = get_type_hints(kind.__init__)
    try:
        values = {key: option_value(value, hints.get(key)) for key, value in options.items()}
        given = {key: as_type(key, value, hints.get(key, Any)) for key, value in values.items()}
        if "temperature" in kind.option_defaults():
            given = {"temperature": temperature, **given}
        made: Method = kind(**given)
        return made
    except ConfigError as error:
        raise ConfigError(f"method {name}: {error}" if name not in str(error) else str(error)) from None


def _own(spec: str) -> Any:
    """A class, a method or a function in a user's file or module."""
    place, _, name = spec.rpartition(":")
    if place.endswith(".py"):
        module = _from_file(Path(place), spec)
    else:
        module = import_user_module(place, f"method {spec}")
    found = getattr(module, name, None)
    if found is None:
        raise ConfigError(f"method {spec}: {place} has no {name}")
    if inspect.isclass(found) and not issubclass(found, Method):
        raise ConfigError(f"method {spec}: {name} is not a subclass of limbeck.methods.Method, or a function")
    if not callable(found):
        raise ConfigError(f"method {spec}: {name} is not a function or a class")
    return found


def _from_file(path: Path, spec: str) -> Any:
    if not path.is_file():
        raise ConfigError(f"method {spec}: there is no file {path}")
    name = f"limbeck_method_{path.stem}"
    described = importlib.util.spec_from_file_location(name, os.fspath(path))
    assert described is not None and described.loader is not None, "it is a .py file"
    module = importlib.util.module_from_spec(described)
    sys.modules[name] = module  # so that its source can be read, and its classes pickled
    try:
        described.loader.exec_module(module)
    except Exception as error:  # any error of the user's file
        del sys.modules[name]
        raise ConfigError(f"method {spec}: {path} cannot be run: {type(error).__name__}: {error}") from error
    return module


def describe_methods(names: Sequence[str] | None = None) -> list[tuple[str, str, dict[str, Any]]]:
    """Methods: name, one line, and options with their defaults.

    Args:
        names: Names of methods; None for all.

    Returns:
        A tuple per method.

    Example:
        >>> describe_methods()[2][::2]
        ('dkd', {'temperature': 4.0, 'alpha': 1.0, 'beta': 8.0})
    """
    found = []
    for name in method_names() if names is None else names:
        kind = method_class(name)
        line = (inspect.getdoc(kind) or "").split("\n", 1)[0]
        found.append((name, line, kind.option_defaults()))
    return found
