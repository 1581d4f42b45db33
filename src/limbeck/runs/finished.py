"""What finished runs have in common: they are shown, drawn and exported alike."""

__all__ = ["FinishedRun"]

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from limbeck.data.data_set import DataSet
from limbeck.errors import ConfigError
from limbeck.evaluation.verdicts import sentences
from limbeck.report.notebook import run_html
from limbeck.teachers import Ensemble

if TYPE_CHECKING:
    from limbeck.runs.model_export import ExportRun


class FinishedRun:
    """A finished run in memory, whose network can be exported."""

    metrics: dict[str, Any]
    folder: Path | None

    @property
    @abstractmethod
    def data(self) -> DataSet | None:
        """The data set that the run was of; None where it is not known."""

    @property
    @abstractmethod
    def shipped(self) -> nn.Module | Ensemble:
        """The network that the run is about."""

    def report(self) -> Path:
        """Draw ``report.html`` and ``figures/`` into the run's folder.

        Returns:
            The page.

        Raises:
            ConfigError: If the run is kept in no folder.
        """
        from limbeck.runs.pages import report_run

        if self.folder is None:
            raise ConfigError("a report is drawn into the run's folder: give the run out= when it is made")
        return report_run(self.folder, data=self.data)

    def export(self, out: str | Path, formats: Sequence[str] = ("onnx",), **options: Any) -> "ExportRun":
        """Export the run's network, with a parity report on its held-out examples; see :func:`limbeck.export`.

        Args:
            out: A folder that does not exist yet.
            formats: Such as "onnx", "torch" and "hub".
            **options: As of :func:`limbeck.export`: ``with_preprocessing``, ``calibrate``, ``margin``,
                ``parity_examples``, and ``data`` in place of the run's own.

        Returns:
            The files, and what the report says.
        """
        from limbeck.runs.model_export import export

        known = {"data": self.data, "metrics": self.metrics, "source": self.folder}
        return export(self.shipped, out=out, formats=formats, **{**known, **options})

    def _repr_html_(self) -> str:
        """What a notebook shows: the models side by side, and the verdicts."""
        return run_html(self.metrics, sentences(self.metrics))
