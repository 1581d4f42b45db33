"""A finished run, opened from its folder."""

__all__ = ["OpenedRun", "open_run"]

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import nn

from limbeck.arguments import checked_arguments
from limbeck.data.data_set import DataSet
from limbeck.errors import DataError, RunError
from limbeck.runs.finished import FinishedRun
from limbeck.runs.folder import RunFolder
from limbeck.runs.models import load
from limbeck.runs.pages import opened_data
from limbeck.teachers import Ensemble


@dataclass(frozen=True)
class OpenedRun(FinishedRun):
    """A finished run, opened from its folder, with the methods of a run in memory.

    Attributes:
        metrics: The contents of ``metrics.json``.
        history: A mapping per epoch of the run's own network; empty where it is an ensemble or a search.
        config: Its settings.
        folder: Where it is.
        architecture: Your own architecture of the network.
    """

    metrics: dict[str, Any] = field(repr=False)
    history: list[dict[str, Any]] = field(repr=False)
    config: dict[str, Any] = field(repr=False)
    folder: Path
    architecture: Callable[..., nn.Module] | nn.Module | None = field(default=None, repr=False)

    @cached_property
    def model(self) -> nn.Module | Ensemble:
        """The network, in evaluation mode on the CPU; loaded on first access."""
        return load(self.folder, model=self.architecture)

    @property
    def shipped(self) -> nn.Module | Ensemble:
        """The network."""
        return self.model

    @cached_property
    def data(self) -> DataSet | None:
        """The data set, opened again by its name; None where that is impossible."""
        try:
            return opened_data(RunFolder(self.folder))
        except DataError:
            return None


@checked_arguments
def open_run(path: str | Path, *, model: Callable[..., nn.Module] | nn.Module | None = None) -> OpenedRun:
    """Open a finished run.

    Args:
        path: Its folder.
        model: Your own architecture: a module, or a function that makes one.

    Returns:
        The run.

    Raises:
        RunError: If it is not finished.
        FormatError: If the folder is missing, or a file of it is damaged.
    """  # noqa: DOC502
    folder = RunFolder(path)
    config = folder.config()
    if not folder.finished:
        raise RunError(f"{path} is not finished: resume it with resume=True (--resume)")
    history = folder.history() if (folder.path / "history.jsonl").exists() else []
    return OpenedRun(folder.metrics(), history, config, folder.path, model)
