"""Who hears how a run goes: the engine prints nothing, a watcher may."""

__all__ = ["Watcher", "Watchers"]

from collections.abc import Mapping
from typing import Any


class Watcher:
    """Hears how a run goes. The engine prints nothing; a subclass may."""

    def start(self, epochs: int, steps: int, epoch: int) -> None:
        """Training starts at an epoch, or goes on there."""

    def step(self, epoch: int, step: int, loss: float, accuracy: float | None, rate: float) -> None:
        """Some steps were made; ``loss`` and ``accuracy`` are means since the epoch began, ``rate`` is examples/s."""

    def epoch(self, row: Mapping[str, Any]) -> None:
        """An epoch ended; ``row`` is its line of the history, with its timing."""

    def note(self, text: str) -> None:
        """Something a person should know."""

    def finish(self) -> None:
        """Training ended, or was interrupted."""


class Watchers(Watcher):
    """Several watchers as one.

    Args:
        parts: Each hears everything, in order.
    """

    def __init__(self, *parts: Watcher) -> None:
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
        """Tell each part."""
        for part in self.parts:
            part.note(text)

    def finish(self) -> None:
        """Tell each part."""
        for part in self.parts:
            part.finish()
