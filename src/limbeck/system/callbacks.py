"""Callbacks for training progress: the engine prints nothing, a callback may.

Without one, progress goes to ``logging.getLogger("limbeck")`` at level INFO, and what is odd to Python's warnings.
"""

__all__ = ["Callback", "Callbacks", "warn_user"]

import logging
import sys
import warnings
from collections.abc import Mapping
from typing import Any

from limbeck.errors import LimbeckWarning

_LOG = logging.getLogger("limbeck")


def warn_user(text: str) -> None:
    """Warn of something odd, at the line of the caller's own code that called Limbeck.

    Args:
        text: What is odd, and the cure where there is one.

    Example:
        >>> with warnings.catch_warnings(record=True) as heard:
        ...     warnings.simplefilter("always")
        ...     warn_user("the labels are constant")
        >>> heard[0].category.__name__, str(heard[0].message)
        ('LimbeckWarning', 'the labels are constant')
    """
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in {"limbeck", "torch"}:
        level, frame = level + 1, frame.f_back
    warnings.warn(text, LimbeckWarning, stacklevel=level)


class Callback:
    """Callbacks for training progress. The engine prints nothing; a subclass may."""

    def start(self, epochs: int, steps: int, epoch: int) -> None:
        """Training starts at an epoch, or resumes there."""

    def step(self, epoch: int, step: int, loss: float, accuracy: float | None, rate: float) -> None:
        """Some steps were made; ``loss`` and ``accuracy`` are means since the epoch began, ``rate`` is examples/s."""

    def epoch(self, row: Mapping[str, Any]) -> None:
        """An epoch ended; ``row`` is its line of the history, with its timing."""

    def note(self, text: str) -> None:
        """Information on progress; logged unless a subclass shows it."""
        _LOG.info(text)

    def warn(self, text: str) -> None:
        """Something odd that a person should know; a :class:`~limbeck.LimbeckWarning` unless a subclass shows it."""
        warn_user(text)

    def finish(self) -> None:
        """Training ended, or was interrupted."""


class Callbacks(Callback):
    """Several callbacks as one.

    Args:
        parts: Each is called, in order.
    """

    def __init__(self, *parts: Callback) -> None:
        self.parts = parts

    def start(self, epochs: int, steps: int, epoch: int) -> None:
        """Tell each part."""
        for part in self.parts:
            part.start(epochs, steps, epoch)

    def step(self, epoch: int, step: int, loss: float, accuracy: float | None, rate: float) -> None:
        """Tell each part."""
        for part in self.parts:
            part.step(epoch, step, loss, accuracy, rate)

    def epoch(self, row: Mapping[str, Any]) -> None:
        """Tell each part."""
        for part in self.parts:
            part.epoch(row)

    def note(self, text: str) -> None:
        """Tell each part that shows notes; log it once where none does."""
        for part in [part for part in self.parts if type(part).note is not Callback.note] or [Callback()]:
            part.note(text)

    def warn(self, text: str) -> None:
        """Tell each part that shows warnings; warn once where none does."""
        for part in [part for part in self.parts if type(part).warn is not Callback.warn] or [Callback()]:
            part.warn(text)

    def finish(self) -> None:
        """Tell each part."""
        for part in self.parts:
            part.finish()
