"""Limbeck: distil a large classifier, or an ensemble, into a small one, and prove that it worked.

>>> import limbeck
>>> run = limbeck.distill(teacher, student, train, validation, temperature=4.0)  # doctest: +SKIP
>>> print(run.verdict)  # doctest: +SKIP
"""

__all__ = [
    "Augmentation",
    "Callback",
    "Comparison",
    "DataSet",
    "Ensemble",
    "Examples",
    "FineTuning",
    "LimbeckError",
    "LimbeckWarning",
    "MLflowLogger",
    "ModelOptions",
    "RankRule",
    "Search",
    "SoftTargets",
    "TensorBoardLogger",
    "TextPresentation",
    "TrackioLogger",
    "WandbLogger",
    "compare",
    "compare_methods",
    "compress",
    "distill",
    "evaluate",
    "export",
    "fix_bias",
    "load",
    "mutual",
    "open_data",
    "open_run",
    "predict",
    "save_model",
    "specialists",
    "train",
    "tune",
]

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from limbeck import specialists
    from limbeck.comparing import compare_methods
    from limbeck.data import DataSet, Examples, open_data
    from limbeck.errors import LimbeckError, LimbeckWarning
    from limbeck.options import Augmentation, FineTuning, ModelOptions, RankRule, TextPresentation
    from limbeck.options.comparison import Comparison
    from limbeck.options.search_space import Search
    from limbeck.runs import compress, distill, evaluate, export, load, predict, save_model, train
    from limbeck.runs.comparing import compare
    from limbeck.runs.mutual_learning import mutual
    from limbeck.runs.opened import open_run
    from limbeck.softtargets import SoftTargets
    from limbeck.system.callbacks import Callback
    from limbeck.system.tracking import MLflowLogger, TensorBoardLogger, TrackioLogger, WandbLogger
    from limbeck.teachers import Ensemble
    from limbeck.training.bias import fix_bias
    from limbeck.tuning import tune

__version__ = "0.1.0"

_HOMES = {
    "Callback": "limbeck.system.callbacks",
    "WandbLogger": "limbeck.system.tracking",
    "TrackioLogger": "limbeck.system.tracking",
    "TensorBoardLogger": "limbeck.system.tracking",
    "MLflowLogger": "limbeck.system.tracking",
    "Augmentation": "limbeck.options",
    "Comparison": "limbeck.options.comparison",
    "DataSet": "limbeck.data",
    "Ensemble": "limbeck.teachers",
    "Examples": "limbeck.data",
    "FineTuning": "limbeck.options",
    "LimbeckError": "limbeck.errors",
    "LimbeckWarning": "limbeck.errors",
    "ModelOptions": "limbeck.options",
    "RankRule": "limbeck.options",
    "Search": "limbeck.options.search_space",
    "SoftTargets": "limbeck.softtargets",
    "TextPresentation": "limbeck.options",
    "compare": "limbeck.runs.comparing",
    "compare_methods": "limbeck.comparing",
    "compress": "limbeck.runs",
    "distill": "limbeck.runs",
    "evaluate": "limbeck.runs",
    "export": "limbeck.runs",
    "fix_bias": "limbeck.training.bias",
    "load": "limbeck.runs",
    "mutual": "limbeck.runs.mutual_learning",
    "open_data": "limbeck.data",
    "open_run": "limbeck.runs.opened",
    "predict": "limbeck.runs",
    "save_model": "limbeck.runs",
    "train": "limbeck.runs",
    "tune": "limbeck.tuning",
}


def __getattr__(name: str) -> Any:
    if name == "specialists":
        return importlib.import_module("limbeck.specialists")
    # Torch takes two seconds to import, and `limbeck --help` does not need it.
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'limbeck' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES, "specialists"])
