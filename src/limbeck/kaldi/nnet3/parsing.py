"""Descriptors out of text."""

__all__ = ["parse_descriptor"]

import re
from collections.abc import Callable

from limbeck.errors import DataError
from limbeck.kaldi.formats.numbers import parse_float32
from limbeck.kaldi.nnet3 import descriptors as d

_DEEPEST = 32
_LARGEST_TIME = 1 << 20
_MOST_PARTS = 10_000
_WORD = re.compile(r"\s*([A-Za-z_][A-Za-z0-9_.\-]*|[+-]?[0-9.][0-9.eE+-]*|[(),])")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-]*")

_Arguments = list["d.Descriptor | str"]


def parse_descriptor(text: str) -> d.Descriptor:
    """Read a descriptor.

    Args:
        text: As in a configuration line; white space around brackets and commas is free.

    Returns:
        The descriptor.

    Raises:
        DataError: If it is malformed, or one of its numbers is out of range.

    Example:
        >>> print(parse_descriptor("Append(Offset(input,-1),Sum( a , Scale(0.5, b) ))"))
        Append(Offset(input, -1), Sum(a, Scale(0.5, b)))
    """
    words: list[str] = []
    place = 0
    text = text.rstrip()
    while place < len(text):
        match = _WORD.match(text, place)
        if match is None:
            raise DataError(f"the descriptor {_short(text)!r} has an odd character at {text[place : place + 10]!r}")
        words.append(match[1])
        place = match.end()
    found, rest = _parse(words, 0, text, 0)
    if isinstance(found, str):
        raise DataError(f"the descriptor {_short(text)!r} is a number")
    if rest != len(words):
        raise DataError(f"the descriptor {_short(text)!r} goes on after its end, with {words[rest]!r}")
    return found


def _parse(words: list[str], place: int, text: str, depth: int) -> tuple["d.Descriptor | str", int]:
    if depth > _DEEPEST:
        raise DataError(f"the descriptor {_short(text)!r} is nested more than {_DEEPEST} deep")
    if place >= len(words):
        raise DataError(f"the descriptor {_short(text)!r} ends too early")
    word = words[place]
    if word in "(),":
        raise DataError(f"the descriptor {_short(text)!r} has {word!r} where a name should be")
    if place + 1 >= len(words) or words[place + 1] != "(":
        return (d.Node(word) if _NAME.fullmatch(word) else word), place + 1
    make = _MAKERS.get(word)
    if make is None:
        raise DataError(f"{_short(text)!r}: {word} is not a kind of descriptor: known are {', '.join(_MAKERS)}")
    arguments: _Arguments = []
    place += 2
    while True:
        argument, place = _parse(words, place, text, depth + 1)
        arguments.append(argument)
        if len(arguments) > _MOST_PARTS:
            raise DataError(f"the descriptor {_short(text)!r} has more than {_MOST_PARTS} parts")
        after = words[place] if place < len(words) else ""
        place += 1
        if after == ")":
            break
        if after != ",":
            raise DataError(f"the descriptor {_short(text)!r} has no ')' where one should be")
    return make(word, arguments, text), place


def _short(text: str) -> str:
    return text if len(text) <= 80 else text[:77] + "..."


def _wrong(word: str, text: str, wants: str) -> DataError:
    return DataError(f"{_short(text)!r}: {word} wants {wants}")


def _whole(word: str, text: str, argument: "d.Descriptor | str", low: int, high: int) -> int:
    if not isinstance(argument, str) or not re.fullmatch(r"[+-]?[0-9]{1,9}", argument):
        raise _wrong(word, text, "a whole number")
    value = int(argument)
    if not low <= value <= high:
        raise _wrong(word, text, f"a number from {low} to {high}, and this is {value}")
    return value


def _real(word: str, text: str, argument: "d.Descriptor | str") -> float:
    value = parse_float32(argument.encode()) if isinstance(argument, str) else None
    if value is None:
        raise _wrong(word, text, "a finite number")
    return value


def _inside(word: str, text: str, arguments: _Arguments, least: int, most: int) -> tuple[d.Descriptor, ...]:
    found = tuple(argument for argument in arguments if not isinstance(argument, str))
    if len(found) != len(arguments) or not least <= len(found) <= most:
        count = str(least) if least == most else f"at least {least}"
        raise _wrong(word, text, f"{count} descriptors")
    return found


def _offset(word: str, arguments: _Arguments, text: str) -> d.Descriptor:
    if len(arguments) not in (2, 3):
        raise _wrong(word, text, "a descriptor and a number of frames")
    (part,) = _inside(word, text, arguments[:1], 1, 1)
    if len(arguments) == 3 and _whole(word, text, arguments[2], -_LARGEST_TIME, _LARGEST_TIME) != 0:
        raise _wrong(word, text, "no offset in x here: only times are run")
    return d.Offset(part, _whole(word, text, arguments[1], -_LARGEST_TIME, _LARGEST_TIME))


def _scale(word: str, arguments: _Arguments, text: str) -> d.Descriptor:
    if len(arguments) != 2:
        raise _wrong(word, text, "a number and a descriptor")
    (part,) = _inside(word, text, arguments[1:], 1, 1)
    return d.Scale(part, _real(word, text, arguments[0]))


def _const(word: str, arguments: _Arguments, text: str) -> d.Descriptor:
    if len(arguments) != 2:
        raise _wrong(word, text, "a number and a dimension")
    return d.Const(_real(word, text, arguments[0]), _whole(word, text, arguments[1], 1, 1 << 16))


def _round(word: str, arguments: _Arguments, text: str) -> d.Descriptor:
    if len(arguments) != 2:
        raise _wrong(word, text, "a descriptor and a modulus")
    (part,) = _inside(word, text, arguments[:1], 1, 1)
    return d.Round(part, _whole(word, text, arguments[1], 1, 1000))


def _replace(word: str, arguments: _Arguments, text: str) -> d.Descriptor:
    if len(arguments) != 3 or arguments[1] not in (d.Node("t"), d.Node("x")):
        raise _wrong(word, text, "a descriptor, t or x, and a number")
    (part,) = _inside(word, text, arguments[:1], 1, 1)
    variable = str(arguments[1])
    value = _whole(word, text, arguments[2], -_LARGEST_TIME, _LARGEST_TIME)
    if variable == "x" and value != 0:
        raise _wrong(word, text, "x to be 0 here: only times are run")
    return d.ReplaceIndex(part, variable, value)


_MAKERS: dict[str, Callable[[str, _Arguments, str], d.Descriptor]] = {
    "Append": lambda w, a, t: d.Append(_inside(w, t, a, 1, _MOST_PARTS)),
    "Sum": lambda w, a, t: d.Sum(_inside(w, t, a, 1, _MOST_PARTS)),
    "Failover": lambda w, a, t: d.Failover(_inside(w, t, a, 2, 2)),
    "Switch": lambda w, a, t: d.Switch(_inside(w, t, a, 1, 1000)),
    "IfDefined": lambda w, a, t: d.IfDefined(_inside(w, t, a, 1, 1)[0]),
    "Offset": _offset,
    "Scale": _scale,
    "Const": _const,
    "Round": _round,
    "ReplaceIndex": _replace,
}
