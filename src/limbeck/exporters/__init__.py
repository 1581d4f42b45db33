"""Exporters: one module per format; each file is loaded again for the parity report.

The package is not called ``export``, for :func:`limbeck.export` is.
"""

__all__ = ["CannotRun", "Card", "Exporter", "Opened", "Samples", "exporter_named", "exporters"]

from limbeck.exporters.opened import Opened
from limbeck.exporters.protocol import CannotRun, Card, Exporter, Samples
from limbeck.exporters.registry import exporter_named, exporters
