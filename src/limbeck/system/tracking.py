"""Logs for trackers, written as a run goes."""

__all__ = ["TensorBoardCallback"]

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from limbeck.errors import MissingExtraError
from limbeck.system.callbacks import Callback


class TensorBoardCallback(Callback):
    """Writes every number of the history to TensorBoard, one log a training.

    Args:
        folder: Where the logs go.

    Raises:
        MissingExtraError: If TensorBoard is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise MissingExtraError("tensorboard", "track") from error
        self.make, self.folder, self.number = SummaryWriter, folder, 0
        self.writer: Any = None

    def start(self, epochs: int, steps: int, epoch: int) -> None:
        """Begin the log of the next training."""
        self.number += 1
        self.writer = self.make(str(self.folder / f"training-{self.number}"))

    def epoch(self, row: Mapping[str, Any]) -> None:
        """Write an epoch's numbers."""
        if self.writer is not None:
            for name, value in row.items():
                if name != "epoch" and isinstance(value, int | float):
                    self.writer.add_scalar(name, value, row["epoch"])

    def finish(self) -> None:
        """Close the log."""
        if self.writer is not None:
            self.writer.close()
            self.writer = None
