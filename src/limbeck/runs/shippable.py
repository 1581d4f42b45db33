"""What finished runs have in common that can be exported."""

__all__ = ["Shippable"]

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from limbeck.data.data_set import DataSet
from limbeck.teachers import Ensemble

if TYPE_CHECKING:
    from limbeck.runs.shipping import ExportRun


class Shippable:
    """A finished run in memory, whose network can be exported."""

    metrics: dict[str, Any]
    folder: Path | None
    data: DataSet | None

    @property
    @abstractmethod
    def shipped(self) -> nn.Module | Ensemble:
        """The network that the run is about."""

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
        from limbeck.runs.shipping import export

        known = {"data": self.data, "metrics": self.metrics, "source": self.folder}
        return export(self.shipped, out=out, formats=formats, **{**known, **options})
