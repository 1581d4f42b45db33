"""Errors in the words of the command line: what Python calls ``hard_weight`` is ``--hard-weight`` there."""

__all__ = ["in_flags"]

import re
from collections.abc import Callable, Mapping

_NOUNS = frozenset(
    {"data", "model", "student", "teacher", "text", "features", "out", "run", "method", "methods", "target"}
)
"""Names that also stand for the thing itself at the beginning of a sentence."""
_SAYS = r"(?= (?:must|is|are|needs|was|exclude|excludes|contradict|contradicts|and|fits|does|takes|changes|chooses)\b)"


def in_flags(text: str, flags: Mapping[str, str]) -> str:
    """A message with the names of Python's parameters as the flags that they are on the command line.

    Names of several words are replaced wherever they stand by themselves; others only where they begin a sentence that
    says something of them, or where they are to be given, for they are words of English too.

    Args:
        text: The message.
        flags: Flags by the names of parameters.

    Returns:
        The message for whoever typed flags.

    Example:
        >>> flags = {"hard_weight": "--hard-weight", "calibrate": "--calibrate", "seeds": "--seeds"}
        >>> in_flags("hard_weight must be in [0, 1], and is 2", flags)
        '--hard-weight must be in [0, 1], and is 2'
        >>> in_flags("go on with seeds=3 (--seeds 3)", flags)
        'go on with --seeds 3'
        >>> in_flags("name it with hard_weight (--hard-weight): seeds differ; calibrate needs validation", flags)
        'name it with --hard-weight: seeds differ; --calibrate needs validation'
    """
    for name, flag in sorted(flags.items(), key=lambda item: -len(item[0])):
        if not flag.startswith("--"):
            continue
        beside = rf"(?<![\w-]){re.escape(name)}(?:=\S+)? \(({re.escape(flag)}(?: [^()]*)?)\)"
        text = re.sub(beside, r"\1", text)
        if "_" in name:
            text = re.sub(rf"(?<![-\w./'\"]){re.escape(name)}(?![\w/('\"]|\.\w)", _outside_calls(flag), text)
        elif name not in _NOUNS:
            text = re.sub(rf"(?:(?<=\A)|(?<=[:;] )){re.escape(name)}{_SAYS}", flag, text)
        text = re.sub(rf"\bgive {re.escape(name)}(?=\Z|[:,;]| too\b)", f"give {flag}", text)
        text = text.replace(f"{flag} ({flag})", flag)
    return text


def _outside_calls(flag: str) -> Callable[[re.Match[str]], str]:
    """A replacement by a flag that leaves the arguments of Python's calls alone, as in ``Presentation(max_length)``."""

    def replaced(match: re.Match[str]) -> str:
        before = match.string[: match.start()]
        inside = re.search(r"\w\([^()]*\Z", before) is not None
        return match.group(0) if inside else flag

    return replaced
