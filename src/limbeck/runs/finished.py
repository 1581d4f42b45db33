"""The base class of finished runs: display, report and export."""

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
    """A finished run in memory."""

    metrics: dict[str, Any]
    folder: Path | None

    @property
    @abstractmethod
    def data(self) -> DataSet | None:
        """The run's data set; None where it is not known."""

    @property
    @abstractmethod
    def shipped(self) -> nn.Module | Ensemble:
        """The run's own network."""

    def report(self) -> Path:
        """Write ``report.html`` and ``figures/`` into the run's folder.

        Returns:
            The page.

        Raises:
            ConfigError: If the run has no folder.
        """
        from limbeck.runs.pages import report_run

        if self.folder is None:
            raise ConfigError("a report is written into the run's folder: give the run out= when it is made")
        return report_run(self.folder, data=self.data)

    def export(self, out: str | Path, formats: Sequence[str] = ("onnx",), **options: Any) -> "ExportRun":
        """Export the run's network, with a parity report on its held-out examples; see :func:`limbeck.export`.

        Args:
            out: The folder to write, which must not exist.
            formats: Names of formats, such as "onnx", "torch" and "hub".
            **options: As for :func:`limbeck.export`: ``with_preprocessing``, ``calibrate``, ``margin``,
                ``parity_examples``, and ``data`` instead of the run's own.

        Returns:
            The files and the parity report.
        """
        from limbeck.runs.model_export import export

        known = {"data": self.data, "metrics": self.metrics, "source": self.folder}
        return export(self.shipped, out=out, formats=formats, **{**known, **options})

    def _repr_html_(self) -> str:
        """The HTML form for notebooks: the models side by side, and the verdicts."""
        return run_html(self.metrics, sentences(self.metrics))
