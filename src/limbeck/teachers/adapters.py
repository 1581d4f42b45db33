"""Teachers that are neither modules nor teachers: estimators with ``predict_proba``, and functions of the inputs.

Axes: ``N`` examples, ``K`` classes.
"""

__all__ = ["EstimatorTeacher", "FunctionTeacher", "adapted"]

import inspect
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from limbeck.errors import DataError, MismatchError
from limbeck.inputs import shapes_of
from limbeck.losses import softened
from limbeck.models.calling import logits_of, require_logits
from limbeck.protocols import Batch
from limbeck.system.user_code import introduce_error


class EstimatorTeacher:
    """An estimator with ``predict_proba``, such as scikit-learn's classifiers, as a teacher.

    Its columns are put in the data's order by ``classes_``. It is asked on the processor, about rows of numbers:
    further axes of the inputs are flattened.

    Args:
        estimator: Fitted, of one output.
        classes: Names of the data's classes in order, where known.

    Raises:
        MismatchError: If the estimator knows other classes than the data.

    Example:
        >>> class Half:
        ...     classes_ = np.array([1, 0])
        ...     def predict_proba(self, rows): return np.tile([0.75, 0.25], (len(rows), 1))
        >>> EstimatorTeacher(Half()).log_probs(Batch(torch.arange(1), 0, torch.ones(1, 3), None), 1.0).exp()
        tensor([[0.2500, 0.7500]])
    """  # noqa: DOC502

    every_temperature = True
    has_logits = False  # a class may have a probability of 0, whose logit is infinite

    def __init__(self, estimator: Any, classes: Sequence[str] | None = None) -> None:
        self.estimator = estimator
        known = getattr(estimator, "classes_", None)
        self.columns, self.classes = _columns(known, None if classes is None else tuple(map(str, classes)))

    def log_probs(self, batch: Batch, temperature: float) -> Tensor:
        """Log-probabilities softened at a temperature, float32 ``(N, K)``.

        Args:
            batch: The examples.
            temperature: :math:`T > 0`.

        Returns:
            Natural logarithms, without gradient.

        Raises:
            DataError: If the estimator gives what is not a distribution over its classes for each example.
        """
        if not isinstance(batch.inputs, Tensor):
            raise DataError(
                f"{type(self.estimator).__name__} takes rows of numbers, and an example has the inputs "
                f"{', '.join(batch.inputs)}"
            )
        rows = batch.inputs.detach().flatten(1).cpu().numpy()
        try:
            answer: Any = self.estimator.predict_proba(rows)
        except Exception as error:  # whatever the user's estimator raises
            introduce_error(error, f"predict_proba of {type(self.estimator).__name__}", f"rows of shape {rows.shape}")
        found: NDArray[np.float64] = np.asarray(answer, np.float64) if not isinstance(answer, list) else np.empty(0)
        if self.columns is not None and found.shape == (len(rows), len(self.columns)):
            found = found[:, self.columns]
        if (
            found.ndim != 2
            or len(found) != len(rows)
            or not bool(np.isfinite(found).all() and (found >= 0).all())
            or not np.allclose(found.sum(1), 1, atol=1e-3)
        ):
            raise DataError(
                f"predict_proba of {type(self.estimator).__name__} must give a distribution (examples, classes) for "
                f"{len(rows)} examples, and gave {_shape_of(answer)}"
            )
        with np.errstate(divide="ignore"):
            logs = torch.from_numpy(np.log(found)).to(batch.index.device, torch.float32)
        return softened(logs, temperature)


def _shape_of(answer: Any) -> str:
    return f"a list of {len(answer)}" if isinstance(answer, list) else f"shape {np.shape(answer)}"


def _columns(known: Any, classes: tuple[str, ...] | None) -> tuple[list[int] | None, tuple[str, ...] | None]:
    """Which column each class of the data has, and the names of the classes where they are known."""
    if known is None:
        return None, classes
    if isinstance(known, list):
        raise MismatchError("the estimator has several outputs, and a teacher has one: give one with a single output")
    names = [value.item() if isinstance(value, np.generic) else value for value in np.asarray(known)]
    numbers = [name for name in names if isinstance(name, int | float) and not isinstance(name, bool)]
    count = len(names) if classes is None else len(classes)
    if len(numbers) == len(names) and sorted(numbers) == list(range(count)):
        return [names.index(k) for k in range(count)], classes
    texts = [str(name) for name in names]
    if classes is None and not numbers:
        return None, tuple(texts)
    if classes is not None and sorted(texts) == sorted(classes):
        return [texts.index(name) for name in classes], classes
    wanted = f"{count} classes from 0" if classes is None else f"the data's classes {', '.join(classes[:8])}"
    raise MismatchError(
        f"the estimator knows the classes {', '.join(texts[:8])}{', ...' if len(texts) > 8 else ''}, and {wanted} are "
        "needed: fit it on examples of every class, with the same labels"
    )


class FunctionTeacher:
    """A function of the inputs as a teacher: it gives logits, as a module does.

    Args:
        function: Called with inputs ``(N, ...)`` as tensors, without gradient; gives logits ``(N, K)``.

    Example:
        >>> FunctionTeacher(lambda x: 2 * x).log_probs(Batch(torch.arange(1), 0, torch.eye(2)[:1], None), 2.0).exp()
        tensor([[0.7311, 0.2689]])
    """

    every_temperature = has_logits = True
    classes: tuple[str, ...] | None = None

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self.function = function

    @torch.no_grad()
    def logits(self, batch: Batch) -> Tensor:
        """What the function gives, float32 ``(N, K)``."""
        try:
            returned = self.function(batch.inputs)
        except Exception as error:  # whatever the user's function raises
            name = getattr(self.function, "__name__", type(self.function).__name__)
            introduce_error(error, f"the teacher {name}", f"inputs of shape {shapes_of(batch.inputs)}")
        if isinstance(returned, np.ndarray):
            returned = torch.from_numpy(returned).to(batch.index.device)
        logits = logits_of(returned).float()
        require_logits(logits, len(batch.index))
        return logits

    def log_probs(self, batch: Batch, temperature: float) -> Tensor:
        """Log-probabilities softened at a temperature, float32 ``(N, K)``, without gradient."""
        return softened(self.logits(batch), temperature)


def adapted(teacher: Any, classes: Sequence[str] | None = None) -> Any:
    """A teacher of what people have: an estimator or a function is wrapped, and what cannot teach is refused.

    Args:
        teacher: What was given.
        classes: Names of the data's classes in order, where known.

    Returns:
        A module or something with ``log_probs``.

    Raises:
        DataError: If it is neither, nor anything that can be made one without guessing.
    """
    if isinstance(teacher, nn.Module) or (hasattr(teacher, "log_probs") and not inspect.isclass(teacher)):
        return teacher
    name = getattr(teacher, "__name__", type(teacher).__name__)
    if inspect.isclass(teacher):
        raise DataError(f"the teacher is the class {name}: give an instance of it")
    if hasattr(teacher, "predict_proba"):
        return EstimatorTeacher(teacher, classes)
    if isinstance(teacher, list | tuple):
        raise DataError(
            f"the teacher is a {name} of {len(teacher)}: give limbeck.Ensemble([...]), which says how they are averaged"
        )
    if isinstance(teacher, Tensor) or hasattr(teacher, "__array__"):
        raise DataError(
            "the teacher is an array: answers that exist already are given as "
            "limbeck.SoftTargets.from_array(probs=...), log_probs= or logits=, with a row for each training example"
        )
    if isinstance(teacher, str | os.PathLike):
        raise DataError(f"the teacher is the path {os.fspath(teacher)!s}: give limbeck.load(path)")
    if hasattr(teacher, "predict"):
        raise DataError(
            f"the teacher is a {name} with predict and without predict_proba: probabilities are needed, such as of "
            "scikit-learn's CalibratedClassifierCV around it"
        )
    if callable(teacher):
        return FunctionTeacher(teacher)
    raise DataError(
        f"a teacher is a torch.nn.Module, limbeck.Ensemble, limbeck.SoftTargets, an estimator with predict_proba or a "
        f"function from inputs to logits, and a {name} was given"
    )
