"""Errors in the words of the command line: what Python calls ``hard_weight`` is ``--hard-weight`` there."""

__all__ = ["in_flags"]

import re
from collections.abc import Mapping

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
        >>> in_flags("name it with hard_weight (--hard-weight): seeds differ; calibrate needs validation", flags)
        'name it with --hard-weight: seeds differ; --calibrate needs validation'
    """
    for name, flag in sorted(flags.items(), key=lambda item: -len(item[0])):
        if not flag.startswith("--"):
            continue
        if "_" in name:
            text = re.sub(rf"(?<![-\w./'\"]){re.escape(name)}(?![\w/('\"]|\.\w)", flag, text)
        elif name not in _NOUNS:
            text = re.sub(rf"(?:(?<=\A)|(?<=[:;] )){re.escape(name)}{_SAYS}", flag, text)
        text = re.sub(rf"\bgive {re.escape(name)}(?=\Z|[:,;]| too\b)", f"give {flag}", text)
        text = text.replace(f"{flag} ({flag})", flag)
    return text
