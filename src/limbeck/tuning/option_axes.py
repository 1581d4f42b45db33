"""The search axes of the methods' own options: fixed values, ranges and lists."""

__all__ = ["features_alone", "option_axes", "reads_features"]

from collections.abc import Sequence
from typing import Any, Literal

from limbeck.errors import ConfigError
from limbeck.methods import make_method
from limbeck.methods.registry import OptionKind, option_kinds
from limbeck.options.methods import Range, method_parts, option_value
from limbeck.options.search_space import Axis, Search


def option_axes(search: Search) -> tuple[Axis, ...]:
    """An axis for each option of each method that is given or searched.

    Args:
        search: What is searched.

    Returns:
        Axes named METHOD.OPTION.

    Raises:
        ConfigError: If an option is unknown, or neither a value nor a range nor a list.

    Example:
        >>> for axis in option_axes(Search(methods=("dkd", "kd"), method_options=("alpha=2",))):
        ...     print(axis.name, axis.values, axis.scale)
        dkd.alpha (2,) choice
        dkd.beta (0.5, 50) log
    """
    found: list[Axis] = []
    for kind in option_kinds(_names(search), search.method_options):
        found += [_given(search, kind, option, text) for option, text in kind.given.items()]
        if search.search_options and not search.grid:
            found += [
                Axis(f"{kind.name}.{option}", (limits.low, limits.high), "log" if limits.log else "linear")
                for option, limits in kind.ranges.items()
                if option not in kind.given
            ]
    return tuple(found)


def _given(search: Search, kind: OptionKind, option: str, text: str) -> Axis:
    """The axis of an option that was given: one value, a range, or a list."""
    name, hint = f"{kind.name}.{option}", kind.hints.get(option)
    low, colon, high = text.partition(":")
    if hint is not str and colon:
        return _range(search, kind, option, hint, (low, high))
    if hint is not str and "," in text:
        values = tuple(option_value(each.strip(), hint) for each in text.split(","))
        numbers = any(isinstance(each, int | float) and not isinstance(each, bool) for each in values)
        if numbers and not search.grid:
            raise ConfigError(
                f"method_options list values of {name}, {text}: a list is for a grid, a range is LOW:HIGH"
            )
        return Axis(name, values, "choice")
    return Axis(name, (option_value(text, hint),), "choice")


def _range(search: Search, kind: OptionKind, option: str, hint: Any, ends: Sequence[str]) -> Axis:
    name = f"{kind.name}.{option}"
    try:
        low, high = (float(end) for end in ends)
    except ValueError:
        raise ConfigError(f"method_options give {name} the range {':'.join(ends)}: LOW:HIGH are numbers") from None
    if not low < high:
        raise ConfigError(f"method_options give {name} an empty range: {low:g} is not below {high:g}")
    if search.grid:
        raise ConfigError(f"method_options give {name} a range, and a grid needs a list: FIRST,SECOND")
    log = low > 0 and kind.ranges.get(option, Range(low, high)).log
    scale: Literal["whole", "log", "linear"] = "whole" if hint is int else "log" if log else "linear"
    return Axis(name, (low, high), scale)


def features_alone(search: Search) -> bool:
    """Whether a method of the search learns nothing of logits, so that labels must have a weight."""
    return any(not _made(method, search).reads_logits for method in search.methods)


def reads_features(search: Search) -> bool:
    """Whether a method of the search reads layers of the teacher, which must then be asked in each trial."""
    return any(_made(method, search).reads_features for method in search.methods)


def _made(method: str, search: Search) -> Any:
    """The method with the options that are given and fixed."""
    own = {part.name for part in method_parts(method)}
    kinds = [kind for kind in option_kinds(_names(search), search.method_options) if kind.name in own]
    plain = {
        f"{kind.name}.{option}": text
        for kind in kinds
        for option, text in kind.given.items()
        if kind.hints.get(option) is str or not {":", ","} & set(text)
    }
    return make_method(method, plain)


def _names(search: Search) -> list[str]:
    return list(dict.fromkeys(part.name for method in search.methods for part in method_parts(method)))
