"""Terminal output: progress bars, tables, and one-line errors."""

__all__ = [
    "Told",
    "clean",
    "explain",
    "print_json",
    "print_metrics",
    "print_pairs",
    "print_rows",
    "print_text",
    "print_verdicts",
    "say",
    "say_odd",
    "show_warning",
]

import contextlib
import json
import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from limbeck.errors import LimbeckError, LimbeckWarning
from limbeck.system.callbacks import Callback

_UNSAFE = (
    *(code for code in range(0x20) if code not in {0x09, 0x0A}), *range(0x7F, 0xA0),  # ESC and other control characters
    0x061C, 0x200E, 0x200F, 0x2028, 0x2029, *range(0x202A, 0x202F), *range(0x2066, 0x206A),  # bidirectional overrides
    *range(0xD800, 0xE000),  # bytes of a file's name that are not UTF-8
)  # fmt: skip
_SHOWN = {code: f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" for code in _UNSAFE}
_IN_JSON = {code: f"\\u{code:04x}" for code in _UNSAFE}


def clean(text: str) -> str:
    r"""Escape the control characters and bidirectional overrides of a text.

    Args:
        text: Any, such as a class name from an untrusted file.

    Returns:
        The same with such characters as escapes.

    Example:
        >>> print(clean("cat" + chr(27) + "[2J"))
        cat\x1b[2J
    """
    return text.translate(_SHOWN)


def say(text: str) -> None:
    """Print a message on stderr, so that stdout has results only."""
    sys.stderr.write(clean(text) + "\n")


def say_odd(text: str) -> None:
    """Print a warning on stderr, in one line."""
    say(f"odd: {' '.join(text.split())}")


def show_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, file: Any = None, line: Any = None
) -> None:
    """Show Limbeck's warnings in one line, and others as Python does.

    Args:
        message: The warning.
        category: Its class.
        filename: Where it was raised.
        lineno: In which line.
        file: Where Python would write it.
        line: The source line.
    """
    if issubclass(category, LimbeckWarning):
        say_odd(str(message))
    elif (stream := file or sys.stderr) is not None:
        stream.write(warnings.formatwarning(message, category, filename, lineno, line))


def print_json(value: object) -> None:
    """Print a value as JSON on stdout."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    sys.stdout.write(text.translate(_IN_JSON) + "\n")


def print_text(text: str) -> None:
    """Print text on stdout, with control characters escaped."""
    sys.stdout.write(clean(text) + "\n")


def explain(error: Exception) -> int:
    """Print an error in one line, and return the exit code.

    Args:
        error: The exception. Those that are not :class:`~limbeck.errors.LimbeckError` are faults of Limbeck, and shown
            with their place in the code; ``LIMBECK_TRACEBACK=1`` shows the whole traceback.

    Returns:
        2 for a user's mistake, 1 for a fault of Limbeck, 128 + n after signal n.
    """
    if isinstance(error, LimbeckError):
        text = " ".join(str(error).split())
        say(f"limbeck: {text}")
        return error.exit_code
    if isinstance(error, BrokenPipeError):
        _forget_output()
        return 0
    if isinstance(error, MemoryError) or "not enough memory" in str(error) or "out of memory" in str(error).lower():
        say("limbeck: out of memory: use a smaller --batch-size, or fewer examples: --train-examples")
        return 2
    if isinstance(error, OSError) and error.errno is not None:
        _forget_output()
        place = "" if error.filename is None else f" {os.fsdecode(error.filename)}"
        say(f"limbeck: cannot read or write{place}: {error.strerror}: solve that, and try again")
        return 2
    place = _place_of(error)
    say(
        f"limbeck: internal error: {type(error).__name__}: {' '.join(str(error).split())}{place}; "
        "please report it (LIMBECK_TRACEBACK=1 shows where it happened)"
    )
    if os.environ.get("LIMBECK_TRACEBACK") == "1":
        import traceback

        say("".join(traceback.format_exception(error)))
    return 1


def _place_of(error: Exception) -> str:
    """File and line where an error was raised."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return ""
    return f" ({os.path.basename(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno})"


def _forget_output() -> None:
    """After stdout failed, keep Python from flushing it again at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class Told(Callback):
    """Says notes and warnings to the person at the terminal."""

    def on_note(self, text: str) -> None:
        """Say something."""
        say(text)

    def on_warning(self, text: str) -> None:
        """Say what is odd."""
        say_odd(text)


def print_metrics(models: Mapping[str, Mapping[str, Any]], *, part: str = "test") -> None:
    """Print the metrics of models side by side, one column per model.

    Args:
        models: Metrics by model name.
        part: The part of the data they were evaluated on.
    """
    from rich.table import Table
    from rich.text import Text

    from limbeck.cli.terminal import print_table
    from limbeck.evaluation.score_table import score_rows

    table = Table(title=None, show_edge=False, pad_edge=False)
    table.add_column(f"on the {part} set", no_wrap=True)
    for name, scores in models.items():
        table.add_column(Text(f"{name}\n{scores.get('title', '')}"), justify="right", overflow="fold")
    for row in score_rows(models):
        table.add_row(*row)
    print_table(table)


def print_verdicts(metrics: Mapping[str, Any]) -> None:
    """Print a run's verdicts, one per line.

    Args:
        metrics: The contents of ``metrics.json``.
    """
    from limbeck.evaluation.verdicts import sentences

    for sentence in sentences(metrics):
        say(sentence)


def print_rows(heading: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a plain table.

    Args:
        heading: Names of the columns.
        rows: The cells of each row.
    """
    from rich.table import Table
    from rich.text import Text

    from limbeck.cli.terminal import print_table

    table = Table(show_edge=False, pad_edge=False)
    for name in heading:
        table.add_column(Text(name))
    for row in rows:
        table.add_row(*[Text(str(cell)) for cell in row])
    print_table(table)


def print_pairs(pairs: Sequence[tuple[str, str]]) -> None:
    """Print names and values, one pair per line.

    Args:
        pairs: Names and values.
    """
    width = max((len(name) for name, _ in pairs), default=0)
    for name, value in pairs:
        print_text(f"{name:<{width}}  {value}")
