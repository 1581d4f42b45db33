"""Callbacks: one interface for whoever wants to hear of a run, such as progress bars, loggers and code of your own.

The engine prints nothing. Without a callback that shows them, notes go to ``logging.getLogger("limbeck")`` at level
INFO, and warnings to Python's :mod:`warnings`.
"""

__all__ = ["Callback", "Callbacks", "Recording", "as_callback", "warn_user"]

import logging
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from limbeck.errors import ConfigError, LimbeckWarning

_LOG = logging.getLogger("limbeck")


def warn_user(text: str) -> None:
    """Issue a warning, attributed to the user's line that called Limbeck.

    Args:
        text: The warning, with the cure where there is one.

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
    """What a run calls as it goes. Each method does nothing here; a subclass has those that it wants.

    A run calls ``on_run_start``; for each of its trainings ``on_start``, ``on_step``, ``on_epoch`` and ``on_end``; and
    ``on_run_end``. What a method raises ends the run, which can be resumed. In a run of several processes the first
    calls; with ``jobs`` above 1 all trainings are told as one, by their epochs.

    Example:
        >>> class Losses(Callback):
        ...     def on_epoch(self, row):
        ...         print(row["epoch"], sorted(row)[:2])
        >>> Losses().on_epoch({"epoch": 1, "train_loss": 0.5})
        1 ['epoch', 'train_loss']
    """

    def on_run_start(self, command: str, settings: Mapping[str, Any]) -> None:
        """A run begins or resumes; ``command`` is such as "distill", ``settings`` what ``config.toml`` holds."""

    def on_start(self, name: str, epochs: int, steps: int, epoch: int) -> None:
        """A training of so many epochs and steps per epoch starts at an epoch, or resumes there.

        ``name`` says which of the run's trainings it is, such as "student", "baseline" or "seeds/2".
        """

    def on_step(self, epoch: int, step: int, loss: float, accuracy: float | None, rate: float) -> None:
        """Some steps are done; ``loss`` and ``accuracy`` are means since the start of the epoch, ``rate`` is
        examples/s.
        """

    def on_epoch(self, row: Mapping[str, Any]) -> None:
        """An epoch ended; ``row`` is its line of the history, with its timing."""

    def on_end(self) -> None:
        """The training ended, or was interrupted."""

    def on_run_end(self, metrics: Mapping[str, Any]) -> None:
        """The run is finished; ``metrics`` is what ``metrics.json`` holds. An interrupted run does not call it."""

    def on_note(self, text: str) -> None:
        """Information on progress; logged unless a subclass shows it."""
        _LOG.info(text)

    def on_warning(self, text: str) -> None:
        """A warning; a :class:`~limbeck.LimbeckWarning` unless a subclass shows it."""
        warn_user(text)


class Callbacks(Callback):
    """Several callbacks as one.

    Args:
        parts: Each is called, in order.

    Attributes:
        warned: The warnings so far, each once, which a run keeps among its metrics.
        keep: Called with these when there is one more.
    """

    def __init__(self, *parts: Callback) -> None:
        self.parts = parts
        self.warned: list[str] = []
        self.keep: Callable[[list[str]], None] | None = None

    def on_run_start(self, command: str, settings: Mapping[str, Any]) -> None:
        """Call each part."""
        for part in self.parts:
            part.on_run_start(command, settings)

    def on_start(self, name: str, epochs: int, steps: int, epoch: int) -> None:
        """Call each part."""
        for part in self.parts:
            part.on_start(name, epochs, steps, epoch)

    def on_step(self, epoch: int, step: int, loss: float, accuracy: float | None, rate: float) -> None:
        """Call each part."""
        for part in self.parts:
            part.on_step(epoch, step, loss, accuracy, rate)

    def on_epoch(self, row: Mapping[str, Any]) -> None:
        """Call each part."""
        for part in self.parts:
            part.on_epoch(row)

    def on_end(self) -> None:
        """Call each part."""
        for part in self.parts:
            part.on_end()

    def on_run_end(self, metrics: Mapping[str, Any]) -> None:
        """Call each part."""
        for part in self.parts:
            part.on_run_end(metrics)

    def on_note(self, text: str) -> None:
        """Call each part that shows notes; log the note once where none does."""
        for part in [part for part in self.parts if type(part).on_note is not Callback.on_note] or [Callback()]:
            part.on_note(text)

    def on_warning(self, text: str) -> None:
        """Keep it; call each part that shows warnings; warn once where none does."""
        if text not in self.warned:
            self.warned.append(text)
            if self.keep is not None:
                self.keep(self.warned)
        for part in [part for part in self.parts if type(part).on_warning is not Callback.on_warning] or [Callback()]:
            part.on_warning(text)


class Recording(Callback):
    """Keeps what it is told of a training, to tell it when others are done; notes and warnings pass at once.

    Args:
        callback: Is told in the end.

    Example:
        >>> class Losses(Callback):
        ...     def on_epoch(self, row):
        ...         print(row)
        >>> kept = Recording(Losses())
        >>> kept.on_epoch({"epoch": 1})
        >>> kept.replay()
        {'epoch': 1}
    """

    def __init__(self, callback: Callback) -> None:
        self.callback = callback
        self._told: list[Callable[[], None]] = []

    def on_start(self, name: str, epochs: int, steps: int, epoch: int) -> None:
        """Keep it."""
        self._told.append(partial(self.callback.on_start, name, epochs, steps, epoch))

    def on_epoch(self, row: Mapping[str, Any]) -> None:
        """Keep it."""
        self._told.append(partial(self.callback.on_epoch, row))

    def on_end(self) -> None:
        """Keep it."""
        self._told.append(self.callback.on_end)

    def on_note(self, text: str) -> None:
        """Pass it on."""
        self.callback.on_note(text)

    def on_warning(self, text: str) -> None:
        """Pass it on."""
        self.callback.on_warning(text)

    def replay(self) -> None:
        """Tell it; the steps within an epoch are left out."""
        for tell in self._told:
            tell()


def as_callback(given: Callback | Sequence[Callback], *more: Callback) -> Callbacks:
    """One callback for all that were given.

    Args:
        given: One, or several.
        more: Others, which are called after them.

    Returns:
        A callback that calls each.

    Raises:
        ConfigError: If something that was given is not a callback.

    Example:
        >>> as_callback([Callback()]).parts
        (<limbeck.system.callbacks.Callback object at ...>,)
    """
    parts = (given,) if isinstance(given, Callback) else tuple(given)
    for part in parts:
        if not isinstance(part, Callback):
            raise ConfigError(f"callbacks has {part!r}: give instances of classes based on limbeck.Callback")
    return Callbacks(*parts, *more)
