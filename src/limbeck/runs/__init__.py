"""Runs: train, distil, compress, evaluate, and the folders they write."""

__all__ = [
    "CompressRun",
    "DistillRun",
    "ExportRun",
    "Predictions",
    "RunFolder",
    "TrainRun",
    "compress",
    "distill",
    "evaluate",
    "export",
    "load",
    "predict",
    "save_model",
    "train",
]

from limbeck.runs.compressing import CompressRun, compress
from limbeck.runs.distilling import DistillRun, distill
from limbeck.runs.folder import RunFolder
from limbeck.runs.measure import evaluate
from limbeck.runs.model_export import ExportRun, export
from limbeck.runs.models import load, save_model
from limbeck.runs.predicting import Predictions, predict
from limbeck.runs.training import TrainRun, train
