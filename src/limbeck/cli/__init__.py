"""The command line: one file per command. Nothing else in Limbeck prints.

The first page of the help, and the version, are printed without importing what commands need: torch, numpy and
cyclopts come in when a command runs.
"""

__all__ = ["main"]

import gc
import os
import sys


def main(tokens: list[str] | None = None) -> None:
    """Run a command line, and exit: 0 on success, 2 for a user's mistake, 1 for a fault of Limbeck.

    Args:
        tokens: The words of the command; None for those of this process.
    """
    words = list(sys.argv[1:] if tokens is None else tokens)
    _open_closed()
    if os.environ.get("RANK", "0") != "0" and _one_of_several():
        # Of several processes only the first prints.
        sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    try:
        _answer(words)
    except Exception as error:
        from limbeck.cli.console import explain

        sys.exit(explain(error))
    except KeyboardInterrupt as stop:
        from limbeck.system.interrupts import Terminated

        print("limbeck: stopped", file=sys.stderr)  # noqa: T201
        sys.exit(143 if isinstance(stop, Terminated) else 130)


def _open_closed() -> None:
    """Open streams that the caller closed, as in ``>&-``, to nowhere: else the next file that is opened is one."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # what is opened first gets the lowest number, which is the stream's own
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115


def _answer(words: list[str]) -> None:
    """Print a page, or run a command."""
    page = _first_page(words)
    if page is None:
        # Some hundred thousand objects are imported, and none is garbage: looking through them takes 0.6 seconds.
        gc.set_threshold(20_000, 50, 100)
        from limbeck.system.interrupts import raise_on_termination

        # Several may wait for one that is gone, where no signal is heard: they end as the system does it.
        with raise_on_termination(enabled=not _one_of_several()):
            from limbeck.cli.application import run

            run(words)
    else:
        sys.stdout.write(page)
    sys.stdout.flush()  # flush here: a full disk behind the output stream must not fail after the exit code is set


def _one_of_several() -> bool:
    """Whether this is one of several processes that are one run."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def _first_page(words: list[str]) -> str | None:
    """What is printed where no command is named; None where one is."""
    if not words or words[0] in {"--help", "-h", "--help-all"}:
        from limbeck.cli.help_text import front_page

        return front_page()
    if words[0] == "--version":
        from limbeck import __version__

        return f"{__version__}\n"
    return None
