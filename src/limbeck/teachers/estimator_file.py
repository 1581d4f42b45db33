"""Estimators in ``.skops`` files as teachers; no code in the file is executed."""

__all__ = ["EstimatorFile"]

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from limbeck.errors import FormatError
from limbeck.system.extras import load_extra
from limbeck.teachers.estimator import EstimatorTeacher


class EstimatorFile(EstimatorTeacher):
    """The estimator in a file that ``skops.io.dump`` wrote.

    Types that skops does not know to be harmless are refused by name.

    Args:
        path: The ``.skops`` file.
        classes: Names of the data's classes in order, where known.

    Raises:
        FormatError: If the file is missing or damaged, holds other types, or no estimator with ``predict_proba``.
    """

    def __init__(self, path: str | os.PathLike[str], classes: Sequence[str] | None = None) -> None:
        self.path = os.fspath(path)
        super().__init__(_read(self.path), classes)
        with open(self.path, "rb") as file:
            self.teacher_digest = hashlib.file_digest(file, "sha256").hexdigest()

    @staticmethod
    def takes(given: Any) -> bool:
        """Whether something is the path of a ``.skops`` file."""
        return isinstance(given, str | os.PathLike) and os.fspath(given).lower().endswith(".skops")


_HARMLESS = (
    "numpy.dtype",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
    "sklearn.tree._tree.Tree",
    "sklearn.utils._bunch.Bunch",
)
"""Types that skops does not know and that execute nothing; where trees lead is looked at."""


def _parts(whole: Any) -> Iterator[Any]:
    """An estimator and all that is in it."""
    waiting, known = [whole], set()
    while waiting:
        part = waiting.pop()
        if id(part) in known or isinstance(part, str | bytes | int | float) or part is None:
            continue
        known.add(id(part))
        yield part
        if isinstance(part, np.ndarray):
            waiting += part.flat if part.dtype == object else []
        elif isinstance(part, Mapping):
            waiting += part.values()
        elif isinstance(part, list | tuple | set):
            waiting += part
        else:
            waiting += vars(part).values() if hasattr(part, "__dict__") else []


def _stays_inside(part: Any) -> bool:
    """Whether the nodes of a tree lead to nodes of it, and ask for features that there are."""
    if type(part).__name__ == "Tree":
        inner = part.children_left >= 0
        links = np.concatenate([part.children_left[inner], part.children_right[inner]])
        asked, features = part.feature[inner], part.n_features
        count, first = part.node_count, 1
    elif type(part).__name__ == "TreePredictor":
        inner = part.nodes["is_leaf"] == 0
        links = np.concatenate([part.nodes["left"][inner], part.nodes["right"][inner]]).astype(np.int64)
        asked = part.nodes["bitset_idx"][inner & (part.nodes["is_categorical"] != 0)]
        features, count, first = len(part.raw_left_cat_bitsets), len(part.nodes), 1
    else:
        return True
    within = bool((links >= first).all() and (links < count).all())
    return within and bool((asked >= 0).all() and (asked < features).all())


def _read(path: str) -> Any:
    if not os.path.isfile(path):
        raise FormatError(path, "there is no such file")
    load_extra("sklearn", "table", package="scikit-learn")
    skops = load_extra("skops.io", "table")
    try:
        odd = [kind for kind in skops.get_untrusted_types(file=path) if kind not in _HARMLESS]
    except Exception as error:  # zipfile, json and skops raise many types on damaged files
        raise FormatError(path, f"is not a .skops file, or damaged: {' '.join(str(error).split())[:200]}") from error
    if odd:
        raise FormatError(
            path,
            f"holds the type {odd[0]}{f' and {len(odd) - 1} more' if len(odd) > 1 else ''}, which could execute code, "
            "and was not loaded: where you trust it, load it with skops.io.load(path, trusted=[...]) in Python and "
            "give the estimator",
        )
    try:
        found = skops.load(path, trusted=list(_HARMLESS))
    except Exception as error:  # whatever scikit-learn's own states raise
        raise FormatError(path, f"cannot be loaded: {' '.join(str(error).split())[:200]}") from error
    if not all(_stays_inside(part) for part in _parts(found)):
        raise FormatError(path, "holds a tree whose nodes lead outside of it: the file is damaged")
    if not hasattr(found, "predict_proba"):
        raise FormatError(path, f"holds a {type(found).__name__} without predict_proba: probabilities are needed")
    return found
