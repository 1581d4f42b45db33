"""The settings of a run, as frozen dataclasses: flags, TOML keys and Python arguments are three spellings of these.

Nothing here imports torch, so that ``limbeck --help`` is quick.
"""

__all__ = [
    "Augmentation",
    "DataKeywords",
    "DataOptions",
    "Distillation",
    "FineTuning",
    "ImagePresentation",
    "ModelOptions",
    "Network",
    "OwnAugmentation",
    "OwnOptimizer",
    "RankRule",
    "TeacherView",
    "TextPresentation",
    "Training",
    "TrainingKeywords",
]

from limbeck.options.compression import FineTuning, RankRule
from limbeck.options.data import Augmentation, DataKeywords, DataOptions, OwnAugmentation, TeacherView
from limbeck.options.network import ModelOptions, Network
from limbeck.options.presentation import ImagePresentation
from limbeck.options.text import TextPresentation
from limbeck.options.training import Distillation, OwnOptimizer, Training, TrainingKeywords
