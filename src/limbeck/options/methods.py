"""Names of distillation methods and their options, as spelled in flags, TOML and Python.

Nothing here imports torch: the methods themselves are in :mod:`limbeck.methods`.
"""

__all__ = [
    "METHODS",
    "OWN",
    "Part",
    "Range",
    "has_temperature",
    "method_names",
    "method_parts",
    "names_code",
    "option_list",
    "option_table",
    "option_value",
    "renamed",
    "spelled",
]

import difflib
import math
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_origin

from limbeck.errors import ConfigError
from limbeck.options.checks import shown
from limbeck.system.extras import entry_points

METHODS = {
    "kd": "limbeck.methods.kd:KD",
    "logits": "limbeck.methods.logits:LogitMatching",
    "dkd": "limbeck.methods.dkd:DKD",
    "nkd": "limbeck.methods.nkd:NKD",
    "dist": "limbeck.methods.dist:DIST",
    "ttm": "limbeck.methods.ttm:TTM",
    "standardised": "limbeck.methods.standardised:Standardised",
    "fitnets": "limbeck.methods.fitnets:FitNets",
    "attention": "limbeck.methods.attention:Attention",
    "rkd": "limbeck.methods.rkd:RKD",
    "similarity": "limbeck.methods.similarity:Similarity",
    "srd": "limbeck.methods.srd:SRD",
}
"""The module of each built-in method; imported only when needed."""
WITHOUT_TEMPERATURE = frozenset({"logits", "fitnets", "attention", "rkd", "similarity", "srd"})
"""The methods that ignore the temperature."""
_WITH_IT = {"fitnets": ("stages", "2")}
"""The options that make such a method use the temperature."""
OWN = "own"
"""The name of a method that was given as an object in Python."""
GROUP = "limbeck.methods"
"""Entry points of this group name methods of other packages."""
OLD_LOSSES = {"kl": "kd", "logits": "logits"}
"""Names of methods in earlier versions."""


class Part(NamedTuple):
    """One method of a sum.

    Attributes:
        name: Name of the method, or ``FILE.py:NAME`` for a user's.
        weight: Factor of its loss.
    """

    name: str
    weight: float


class Range(NamedTuple):
    """The search range of a method's option.

    Attributes:
        low: The lowest value.
        high: The highest.
        log: Whether the search is on a log scale, as for a weight.
    """

    low: float
    high: float
    log: bool = True


def method_names() -> list[str]:
    """The names of all methods, those of other packages last.

    Returns:
        Their names.

    Example:
        >>> method_names()[:2]
        ['kd', 'logits']
    """
    return list(dict.fromkeys([*METHODS, *(point.name for point in entry_points(group=GROUP))]))


def method_parts(method: str) -> tuple[Part, ...]:
    """Parse a method, or a sum of methods with weights.

    Args:
        method: A name, or several as ``kd:1+attention:0.5``; the default weight is 1.

    Returns:
        One part per method.

    Raises:
        ConfigError: If a method is unknown or repeated, or a weight is not positive.

    Example:
        >>> method_parts("kd+dkd:0.5")
        (Part(name='kd', weight=1.0), Part(name='dkd', weight=0.5))
    """
    found = [_part(each.strip(), method) for each in method.split("+")]
    names = [part.name for part in found]
    for name in names:
        if ":" not in name and name not in METHODS and name != OWN and name not in (known := method_names()):
            near = difflib.get_close_matches(name, known, 1, cutoff=0.4)
            cure = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
            renamed = f"{name} is called {OLD_LOSSES[name]} now" if name in OLD_LOSSES else cure
            raise ConfigError(f"there is no method {name!r}: {renamed}")
        if names.count(name) > 1:
            raise ConfigError(f"method {method!r} names {name} twice: give it one weight")
    return tuple(found)


def _part(text: str, whole: str) -> Part:
    name, colon, last = text.rpartition(":")
    try:
        weight = float(last)
    except ValueError:  # the last part is a name
        name, colon, weight = text, ":", 1.0
    if not colon:
        name = text
    if not name:
        raise ConfigError(f"method must name methods, such as kd or kd:1+dkd:0.5, and is {whole!r}")
    if not 0 < weight < math.inf:
        raise ConfigError(
            f"method {whole!r} gives {name} the weight {weight:g}: give a positive one, or leave {name} out"
        )
    return Part(name, weight)


def has_temperature(method: str, options: Sequence[str] = ()) -> bool:
    """Whether a method, or one of a sum, uses the temperature.

    Args:
        method: As for :func:`method_parts`.
        options: Its options, from :func:`option_list`.

    Returns:
        True if it does.

    Example:
        >>> has_temperature("logits"), has_temperature("logits+kd"), has_temperature("fitnets", ["stages=2"])
        (False, True, True)
    """
    given = option_table(options)

    def counts(name: str) -> bool:
        option, value = _WITH_IT.get(name, ("", ""))
        return name not in WITHOUT_TEMPERATURE or value in {given.get(option), given.get(f"{name}.{option}")} - {None}

    return any(counts(part.name) for part in method_parts(method))


def names_code(method: str) -> bool:
    """Whether a method names user code.

    Args:
        method: As for :func:`method_parts`.

    Returns:
        True if it does.

    Example:
        >>> names_code("kd:1+dkd:0.5"), names_code("mine.py:loss")
        (False, True)
    """
    return any(":" in _part(each.strip(), method).name for each in method.split("+"))


def spelled(method: Any) -> str:
    """Convert a mapping of method names to weights, which Python accepts, to a name.

    Args:
        method: A name, or a mapping such as ``{"kd": 1, "attention": 0.5}``.

    Returns:
        The name, as for :func:`method_parts`.

    Raises:
        ConfigError: If it is neither.

    Example:
        >>> spelled({"kd": 1, "dkd": 0.5})
        'kd:1+dkd:0.5'
    """
    if isinstance(method, Mapping) and method:
        try:
            return "+".join(f"{name}:{float(weight):g}" for name, weight in method.items())
        except (TypeError, ValueError):
            raise ConfigError(
                f"method must give each name a number as its weight, and is {shown(dict(method))}"
            ) from None
    if not isinstance(method, str) or not method:
        raise ConfigError(
            f'method must be a name such as "kd", or a mapping of names to weights, and is {shown(method)}; '
            "a loss of your own is objective="
        )
    return method


def renamed(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Convert the settings of an earlier version, in which the method was called the loss.

    Args:
        settings: The contents of ``config.toml``.

    Returns:
        The settings, with a method where there was a loss.

    Example:
        >>> renamed({"loss": "kl", "epochs": 3})
        {'method': 'kd', 'epochs': 3}
    """
    if not isinstance(old := settings.get("loss"), str) or old not in OLD_LOSSES:
        return dict(settings)
    return {"method": OLD_LOSSES[old]} | {name: value for name, value in settings.items() if name != "loss"}


def option_list(options: Any) -> tuple[str, ...]:
    """Convert method options to the form of the command line.

    Args:
        options: ``["beta=8"]``, or a mapping ``{"beta": 8}``, for a sum ``{"dkd": {"beta": 8}}`` or
            ``{"dkd.beta": 8}``.

    Returns:
        One string ``NAME=VALUE`` per option.

    Raises:
        ConfigError: If it is neither.

    Example:
        >>> option_list({"beta": 8, "variant": "paper"}), option_list({"dkd": {"beta": 8}})
        (('beta=8', 'variant=paper'), ('dkd.beta=8',))
    """
    if isinstance(options, Mapping):
        found = []
        for name, value in options.items():
            inside = value.items() if isinstance(value, Mapping) else None
            pairs = [(str(name), value)] if inside is None else [(f"{name}.{key}", each) for key, each in inside]
            found += [f"{key}={_written(each)}" for key, each in pairs]
        return tuple(found)
    if isinstance(options, Sequence) and not isinstance(options, str) and all(isinstance(o, str) for o in options):
        return tuple(options)
    raise ConfigError(f'method_options must be a mapping such as {{"beta": 8}}, and is {shown(options)}')


def _written(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def option_table(options: Sequence[str]) -> dict[str, str]:
    """Parse method options; values stay text, since each method knows its own types.

    Args:
        options: From :func:`option_list`.

    Returns:
        The values by name, as text.

    Raises:
        ConfigError: If one is not of the form ``NAME=VALUE``, or comes twice.

    Example:
        >>> option_table(["beta=8", "dkd.weighted = true"])
        {'beta': '8', 'dkd.weighted': 'true'}
    """
    found: dict[str, str] = {}
    for text in options:
        name, equals, value = text.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or not name:
            raise ConfigError(f"method_options are NAME=VALUE, such as beta=8, and one is {text!r}")
        if name in found:
            raise ConfigError(f"method_options name {name} twice")
        found[name] = value.strip()
    return found


def option_value(text: str, hint: Any) -> Any:
    """Convert an option's text by the annotation of the method's argument.

    Args:
        text: From :func:`option_table`.
        hint: The annotation.

    Returns:
        A string where that is annotated; else a number or a boolean, where it looks like one.

    Example:
        >>> option_value("1.10", str), option_value("1.10", float), option_value("true", bool)
        ('1.10', 1.1, True)
    """
    if hint is str or get_origin(hint) is Literal:
        return text
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
