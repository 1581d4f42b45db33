"""Estimators with ``predict_proba``, such as scikit-learn's classifiers, as teachers.

Axes: ``N`` examples, ``K`` classes.
"""

__all__ = ["EstimatorTeacher"]

import copy
import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from limbeck.data.values import as_tensor
from limbeck.errors import DataError, MismatchError
from limbeck.inputs import Inputs, split_places
from limbeck.losses import softened
from limbeck.protocols import Batch
from limbeck.system.user_code import introduce_error

if TYPE_CHECKING:
    from limbeck.data.examples import Examples


class EstimatorTeacher:
    """An estimator with ``predict_proba``, such as scikit-learn's classifiers, as a teacher.

    Its columns are put in the data's order by ``classes_``. It runs on the CPU, on rows of numbers: further axes of the
    inputs are flattened.

    Args:
        estimator: Fitted; where several labels may hold at a time, of all labels in the order of the data's.
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
    looks_up = False
    softens = True
    """Outputs are softened here, and respect the temperature."""
    fitted = True
    """Whether it may have been fitted on the training examples."""

    def __init__(self, estimator: Any, classes: Sequence[str] | None = None) -> None:
        self.estimator = estimator
        known = getattr(estimator, "classes_", None)
        self.columns, self.classes = _columns(known, None if classes is None else tuple(map(str, classes)))
        self.table: Any = None
        self.labels: int | None = None

    @staticmethod
    def takes(given: Any) -> bool:
        """Whether something has ``predict_proba``."""
        return hasattr(given, "predict_proba") and not inspect.isclass(given) and not isinstance(given, nn.Module)

    @property
    def title(self) -> str:
        """What it is called in reports."""
        return type(self.estimator).__name__

    def bound_to(self, examples: "Examples") -> "EstimatorTeacher":
        """The same estimator, which sees the rows of a table as a DataFrame with its names and types."""
        bound = copy.copy(self)
        bound.table = getattr(getattr(examples.inputs, "base", examples.inputs), "raw", None)
        bound.labels = getattr(examples.inputs, "outputs", None)
        return bound

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
        inputs, places, _ = split_places(batch.inputs)
        rows = self._rows(batch, inputs)
        try:
            answer: Any = self.estimator.predict_proba(rows)
        except Exception as error:  # any error of the user's estimator
            introduce_error(error, f"predict_proba of {type(self.estimator).__name__}", f"rows of shape {rows.shape}")
        if places is not None:
            every = as_tensor("predict_proba", self._held(answer, len(rows))).flatten()
            held = every[places.cpu()].to(batch.index.device)
            return softened(torch.stack([1 - held, held], 1).log().float(), temperature)
        found: NDArray[np.float64] = np.asarray(answer, np.float64) if not isinstance(answer, list) else np.empty(0)
        if self.columns is not None and found.shape == (len(rows), len(self.columns)):
            found = found[:, self.columns]
        if (
            found.ndim != 2
            or len(found) != len(rows)
            or not bool(np.isfinite(found).all() and (found >= 0).all())
            or not np.allclose(found.sum(1), 1, atol=1e-3)
        ):
            several = isinstance(answer, list) or (found.ndim == 2 and bool(((found >= 0) & (found <= 1)).all()))
            cure = ": where several labels may hold at a time give labels of 0 and 1, (examples, labels)"
            raise DataError(
                f"predict_proba of {type(self.estimator).__name__} must give a distribution (examples, classes) for "
                f"{len(rows)} examples, and gave {_shape_of(answer)}{cure if several else ''}"
            )
        with np.errstate(divide="ignore"):
            logs = torch.from_numpy(np.log(found)).to(batch.index.device, torch.float32)
        return softened(logs, temperature)

    def _held(self, answer: Any, count: int) -> NDArray[np.float64]:
        """The probability that each label holds, ``(S, L)``, of either form in which scikit-learn gives them."""
        name = type(self.estimator).__name__
        if isinstance(answer, list):  # an array of two columns for each label
            known = getattr(self.estimator, "classes_", None) or [[0, 1]] * len(answer)
            found = np.stack([_yes(name, each, of) for each, of in zip(answer, known, strict=True)], 1)
        else:
            found = np.asarray(answer, np.float64)
            if self.columns is not None and found.shape == (count, len(self.columns)):
                found = found[:, self.columns]
        if found.ndim != 2 or len(found) != count or not bool(((found >= 0) & (found <= 1)).all()):
            raise DataError(
                f"predict_proba of {name} must give a probability for each of several labels, (examples, labels), for "
                f"{count} examples, and gave {_shape_of(answer)}"
            )
        if self.labels is not None and found.shape[1] != self.labels:
            raise MismatchError(f"{name} has {found.shape[1]} labels, and the data have {self.labels}")
        return found

    def _rows(self, batch: Batch, inputs: Inputs) -> Any:
        """What the estimator is asked about: a table's raw columns as a DataFrame or array, or numbers."""
        if self.table is not None and batch.presented is not None:
            frame = self.table.frame(batch.seen_as(self.table))
            wanted = getattr(self.estimator, "feature_names_in_", None)
            if wanted is not None:
                missing = [str(name) for name in wanted if name not in frame.columns]
                if missing:
                    raise MismatchError(
                        f"the estimator was fitted on the column {missing[0]!r}, which the data do not have; they have "
                        f"{', '.join(map(repr, list(frame.columns)[:8]))}"
                    )
                return frame[list(wanted)]
            count = getattr(self.estimator, "n_features_in_", None)
            numbers = all(kind.kind in "fiub" for kind in frame.dtypes)
            if count is None or (count == len(frame.columns) and numbers):
                return frame.to_numpy() if count is not None else frame
        if not isinstance(inputs, Tensor):
            raise DataError(
                f"{type(self.estimator).__name__} takes rows of numbers, and an example has the inputs "
                f"{', '.join(inputs)}"
            )
        return inputs.detach().flatten(1).cpu().numpy()


def _yes(name: str, answer: Any, known: Any) -> NDArray[np.float64]:
    """The probability that one label holds; of a label that always did, or never, there is one column."""
    values, classes = np.asarray(answer, np.float64), [str(each) for each in np.asarray(known).tolist()]
    held = [place for place, each in enumerate(classes) if each in {"1", "True", "1.0"}]
    if not set(classes) <= {"0", "1", "True", "False", "0.0", "1.0"} or values.ndim != 2:
        raise MismatchError(f"{name} has an output of the classes {', '.join(classes[:6])}, and a label is 0 or 1")
    return values[:, held[0]] if held else np.zeros(len(values))


def _shape_of(answer: Any) -> str:
    return f"a list of {len(answer)}" if isinstance(answer, list) else f"shape {np.shape(answer)}"


def _columns(known: Any, classes: tuple[str, ...] | None) -> tuple[list[int] | None, tuple[str, ...] | None]:
    """Which column each class of the data has, and the names of the classes where they are known."""
    if known is None:
        return None, classes
    if isinstance(known, list):  # of several outputs, which must be the labels, in their order
        return None, classes
    names = [value.item() if isinstance(value, np.generic) else value for value in np.asarray(known)]
    truths = classes == ("0", "1")  # labels that are false and true have these names
    numbers = [name for name in names if isinstance(name, int | float) and (truths or not isinstance(name, bool))]
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
        f"the estimator has the classes {', '.join(texts[:8])}{', ...' if len(texts) > 8 else ''}, and {wanted} are "
        "needed: fit it on examples of every class, with the same labels"
    )
