"""Names of methods of distillation and their spelling, as flags, TOML and Python have it.

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
from importlib.metadata import entry_points
from typing import Any, Literal, NamedTuple, get_origin

from limbeck.errors import ConfigError
from limbeck.options.checks import shown

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
"""Where each method that comes with Limbeck is: named, so that none is imported before it is wanted."""
WITHOUT_TEMPERATURE = frozenset({"logits", "fitnets", "attention", "rkd", "similarity", "srd"})
"""Those in which no temperature counts."""
_WITH_IT = {"fitnets": ("stages", "2")}
"""An option by which one counts all the same."""
OWN = "own"
"""What a method is called that was given as an object in Python."""
GROUP = "limbeck.methods"
"""Entry points of this group name classes of other packages."""
OLD_LOSSES = {"kl": "kd", "logits": "logits"}
"""What methods were called before there were others."""


class Part(NamedTuple):
    """One method of a sum.

    Attributes:
        name: Of the method, or ``FILE.py:NAME`` for one of the user's own.
        weight: By which its value is multiplied.
    """

    name: str
    weight: float


class Range(NamedTuple):
    """Where a search looks for an option of a method.

    Attributes:
        low: The lowest value.
        high: The highest.
        log: Whether its logarithm counts, as of a weight.
    """

    low: float
    high: float
    log: bool = True


def method_names() -> list[str]:
    """All methods that there are, those of other packages last.

    Returns:
        Their names.

    Example:
        >>> method_names()[:2]
        ['kd', 'logits']
    """
    return list(dict.fromkeys([*METHODS, *(point.name for point in entry_points(group=GROUP))]))


def method_parts(method: str) -> tuple[Part, ...]:
    """The methods in a sum, and their weights.

    Args:
        method: A name, or several as ``kd:1+attention:0.5``; a weight that is left out is 1.

    Returns:
        One part per method.

    Raises:
        ConfigError: If there is no method of a name, one comes twice, or a weight is not positive.

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
        raise ConfigError(f"method {whole!r} gives {name} the weight {weight:g}: weights are positive and finite")
    return Part(name, weight)


def has_temperature(method: str, options: Sequence[str] = ()) -> bool:
    """Whether a temperature counts in a method, or in one of a sum.

    Args:
        method: As :func:`method_parts` takes it.
        options: Its options, as :func:`option_list` has them.

    Returns:
        Whether it does.

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
    """Whether a method names code of the user's own.

    Args:
        method: As :func:`method_parts` takes it.

    Returns:
        Whether it does.

    Example:
        >>> names_code("kd:1+dkd:0.5"), names_code("mine.py:loss")
        (False, True)
    """
    return any(":" in _part(each.strip(), method).name for each in method.split("+"))


def spelled(method: Any) -> str:
    """A method as a name; Python may also give a mapping of names to weights.

    Args:
        method: A name, or a mapping such as ``{"kd": 1, "attention": 0.5}``.

    Returns:
        The name, as :func:`method_parts` takes it.

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
            raise ConfigError(f"method gives each name a weight, a number, and is {shown(dict(method))}") from None
    if not isinstance(method, str) or not method:
        raise ConfigError(
            f'method must be a name such as "kd", or a mapping of names to weights, and is {shown(method)}; '
            "a loss of your own is objective="
        )
    return method


def renamed(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a run of an earlier version, in which the method was called the loss.

    Args:
        settings: What ``config.toml`` holds.

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
    """Options of methods as the command line has them.

    Args:
        options: ``["beta=8"]``, or a mapping ``{"beta": 8}``, in a sum ``{"dkd": {"beta": 8}}`` or
            ``{"dkd.beta": 8}``.

    Returns:
        One text ``NAME=VALUE`` per option.

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
    """Options of methods by name, as text: what they are is said by the method that has them.

    Args:
        options: From :func:`option_list`.

    Returns:
        Texts by name.

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
    """The value of an option, by the annotation of the method's argument.

    Args:
        text: From :func:`option_table`.
        hint: The annotation.

    Returns:
        Text where that is wanted; else a number or a boolean, where it looks like one.

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
