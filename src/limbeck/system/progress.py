"""Progress bars in terminals and notebooks, and nothing where there is neither.

Drawn on the error stream by rich, or by IPython as one line that is drawn anew. Both are imported where they are used.
"""

__all__ = ["ProgressBar", "counting", "place_of_progress"]

import html
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any, Literal, Protocol

from limbeck.system.callbacks import Callback

_WIDE, _BAR, _NARROW_BAR = 115, 24, 8
"""Columns of a terminal that is wide, and those of the bar there and on others."""
_BETWEEN = 0.2
"""Seconds between two drawings in a notebook, each of which is a message to the browser."""
_PATIENCE = 0.5
"""Seconds that counted work may take before a bar is shown at all."""


class _Line(Protocol):
    """One line that shows how far something is."""

    def show(self, done: int, total: int | None, words: Sequence[str]) -> None:
        """Draw it, with the words that fit, the first ones first."""

    def close(self) -> None:
        """It is done, or was interrupted."""


def place_of_progress() -> Literal["notebook", "terminal"] | None:
    """Where progress can be shown: in a notebook, on a terminal, or nowhere."""
    found = sys.modules.get("IPython")
    shell = None if found is None else found.get_ipython()
    if shell is not None and getattr(shell, "kernel", None) is not None:
        return "notebook"
    return "terminal" if sys.stderr.isatty() and os.environ.get("TERM") != "dumb" else None


class _Terminal:
    """A bar by rich; what is written to the streams meanwhile stands above it."""

    def __init__(self, name: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        console = Console(stderr=True, highlight=False, emoji=False)
        self._name, self._width = name, console.width
        self._bar = _BAR if console.width >= _WIDE else _NARROW_BAR
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=self._bar),
            MofNCompleteColumn(),
            TextColumn("{task.fields[words]}", markup=False),
            TimeRemainingColumn(),
            console=console,
        )
        self._progress.start()
        self._task = self._progress.add_task(name, total=None, words="")

    def show(self, done: int, total: int | None, words: Sequence[str]) -> None:
        counts = 2 * len(str(total)) + 1
        room = self._width - len(self._name) - self._bar - counts - len("0:00:00") - 4  # a space between each two
        self._progress.update(self._task, completed=done, total=total, words=_fitting(words, room))

    def close(self) -> None:
        self._progress.stop()


class _Notebook:
    """A bar in the output of a cell."""

    def __init__(self, name: str) -> None:
        shown = import_module("IPython.display")  # no package of ours, and there wherever this is

        self._name, self._html = name, shown.HTML
        self._began, self._drawn = time.monotonic(), 0.0
        self._last: tuple[int, int | None, Sequence[str]] = (0, None, ())
        self._handle = shown.display(shown.HTML(self._text(0, None, ())), display_id=True)

    def show(self, done: int, total: int | None, words: Sequence[str]) -> None:
        self._last = (done, total, words)
        if time.monotonic() - self._drawn >= _BETWEEN:
            self._draw()

    def close(self) -> None:
        self._draw()

    def _draw(self) -> None:
        self._drawn = time.monotonic()
        if self._handle is not None:
            self._handle.update(self._html(self._text(*self._last)))

    def _text(self, done: int, total: int | None, words: Sequence[str]) -> str:
        passed = time.monotonic() - self._began
        left = f", {_clock(passed * (total - done) / done)} left" if total and 0 < done < total else ""
        value = f'value="{done}" max="{total}"' if total else ""
        return (
            f'<div><code>{html.escape(self._name)}</code> <progress {value} aria-label="{html.escape(self._name)}">'
            f"</progress> {done:,}{f' of {total:,}' if total else ''} {html.escape('  '.join(words))} "
            f"<small>{_clock(passed)}{left}</small></div>"
        )


def _fitting(words: Sequence[str], room: int) -> str:
    """As many of the words as there is room for, the first ones first."""
    kept = list(words)
    while kept and len("  ".join(kept)) > room:
        kept.pop()
    return "  ".join(kept)


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


def _line(name: str) -> _Line | None:
    place = place_of_progress()
    return None if place is None else _Notebook(name) if place == "notebook" else _Terminal(name)


class ProgressBar(Callback):
    """A bar for each training of a run, with loss, accuracy, examples per second and time left."""

    def __init__(self) -> None:
        self._shown: _Line | None = None
        self._all = self._steps = 1

    def on_start(self, name: str, epochs: int, steps: int, epoch: int) -> None:
        """Show the bar, where there is a place for it."""
        self._all, self._steps = epochs * steps, steps
        self._shown = _line(name)
        if self._shown is not None:
            self._shown.show(epoch * steps, self._all, ())

    def on_step(self, epoch: int, step: int, loss: float, accuracy: float | None, rate: float) -> None:
        """Move the bar."""
        if self._shown is not None:
            words = [f"epoch {epoch + 1}", f"loss {loss:.4f}"]
            words += [] if accuracy is None else [f"accuracy {accuracy:.2%}"]
            words.append(f"{rate:,.0f}/s")
            self._shown.show(epoch * self._steps + step, self._all, words)

    def on_epoch(self, row: Mapping[str, Any]) -> None:
        """Move the bar to the epoch's end, with what validation said."""
        if self._shown is not None:
            words = [f"epoch {row['epoch']}", f"loss {row['train_loss']:.4f}"]
            if "validation_accuracy" in row:
                words.append(f"validation {row['validation_accuracy']:.2%}")
            words.append(f"{row['examples_per_second']:,.0f}/s")
            self._shown.show(row["epoch"] * self._steps, self._all, words)

    def on_end(self) -> None:
        """The bar stays as it is."""
        if self._shown is not None:
            self._shown.close()
            self._shown = None


@contextmanager
def counting(
    name: str, progress: bool | Callable[[int, int], None] | None = True
) -> Iterator[Callable[[int, int], None]]:
    """A bar for work that is counted; work that is done in half a second shows none.

    Args:
        name: What is being done.
        progress: Whether to show it; or a function that is called with what is done and all, instead of a bar.

    Yields:
        A function to call with what is done, and all of it.

    Example:
        >>> with counting("reading", lambda done, total: print(done, total)) as show:
        ...     show(1, 3)
        1 3
    """
    if callable(progress):
        yield progress
        return
    if not progress or place_of_progress() is None:
        yield lambda done, total: None
        return
    began, shown = time.monotonic(), list[_Line]()

    def show(done: int, total: int) -> None:
        if not shown and time.monotonic() - began >= _PATIENCE:
            shown.extend(filter(None, [_line(name)]))
        for line in shown:
            line.show(done, total or None, ())

    try:
        yield show
    finally:
        for line in shown:
            line.close()
