"""Help as plain text in two columns, and the first page of it, for which nothing heavy is imported."""

__all__ = ["front_page", "heading", "terminal_width", "two_columns", "wrapped"]

import os
import shutil
import sys
import textwrap
from collections.abc import Sequence

from limbeck.cli.commands import COMMANDS

_NARROWEST, _WIDEST = 40, 110
_INDENT = 2

_INTRODUCTION = (
    "Distil a large classifier, or an ensemble, into a small one that can be shipped, and prove that it worked."
)
_EXAMPLES = """\
  limbeck quickstart
  limbeck train --data photos/ --model timm:resnet18 --out runs/teacher
  limbeck distill --data photos/ --teacher runs/teacher --student cnn --out runs/student
  limbeck export runs/student --to onnx --out shipped"""

_MORE = "limbeck COMMAND --help has what most people need, and examples; --help-all has every flag."


def terminal_width() -> int:
    """The width of the help in columns: the terminal's, within bounds; 80 without one."""
    return max(_NARROWEST, min(_WIDEST, shutil.get_terminal_size((80, 24)).columns))


def heading(text: str) -> str:
    """A heading, bold on a terminal unless NO_COLOR is set."""
    bold = sys.stdout.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
    return f"\x1b[1m{text}\x1b[0m" if bold else text


def wrapped(text: str, width: int, indent: int = 0) -> str:
    """Break a paragraph into lines of a width.

    Args:
        text: The paragraph.
        width: Columns there are.
        indent: Spaces before each line.

    Returns:
        Lines, without a newline at the end.

    Example:
        >>> print(wrapped("one two three", 10, indent=2))
          one two
          three
    """
    space = " " * indent
    return textwrap.fill(
        " ".join(text.split()), width, initial_indent=space, subsequent_indent=space, break_on_hyphens=False
    )


def two_columns(rows: Sequence[tuple[str, str]], width: int, left: int = 26) -> str:
    """Names and what they mean, beside each other.

    Args:
        rows: Names with their meaning.
        width: Columns there are.
        left: Columns for names; a longer name has a line of its own.

    Returns:
        Lines, without a newline at the end.

    Example:
        >>> print(two_columns([("--out PATH", "Folder of the run."), ("--a-long-name", "Meaning.")], 40, left=12))
          --out PATH  Folder of the run.
          --a-long-name
                      Meaning.
    """
    lines: list[str] = []
    start = _INDENT + left
    for name, meaning in rows:
        text = wrapped(meaning, width, start)
        if len(name) + 2 <= left:
            lines.append(f"{' ' * _INDENT}{name:<{left}}{text[start:]}".rstrip())
        else:
            lines += [f"{' ' * _INDENT}{name}", *([text] if text else [])]
    return "\n".join(lines)


def front_page() -> str:
    """The output of ``limbeck --help``: examples, and the commands, one per line."""
    width = terminal_width()
    left = 2 + max(len(command.name) for commands in COMMANDS.values() for command in commands)
    parts = ["Usage: limbeck COMMAND [OPTIONS]", wrapped(_INTRODUCTION, width), _EXAMPLES]
    for title, commands in COMMANDS.items():
        rows = [(command.name, command.summary) for command in commands]
        parts.append(f"{heading(title)}\n{two_columns(rows, width, left)}")
    parts.append(wrapped(_MORE, width))
    return "\n\n".join(parts) + "\n"
