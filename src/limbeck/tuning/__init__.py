"""Search the settings of a distillation on validation: one store of soft targets, many students."""

__all__ = ["TuneRun", "report_search", "tune"]

from limbeck.tuning.results import report_search
from limbeck.tuning.tuner import TuneRun, tune
