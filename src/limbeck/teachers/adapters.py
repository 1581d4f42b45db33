"""Adapters that make teachers of other objects; the first one that accepts an object is used.

Another kind of teacher is a class with ``takes``, registered in front by :func:`register_teacher`.
"""

__all__ = ["Adapter", "adapted", "register_teacher"]

import inspect
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from typing import Any, Protocol, cast

from torch import nn

from limbeck.errors import DataError
from limbeck.protocols import Answering
from limbeck.teachers.estimator import EstimatorTeacher
from limbeck.teachers.estimator_file import EstimatorFile
from limbeck.teachers.function import FunctionTeacher
from limbeck.teachers.hugging_face import hugging_face
from limbeck.teachers.onnx_file import OnnxTeacher
from limbeck.teachers.timm_network import timm_network


class Adapter(Protocol):
    """An adapter: a class whose instances are teachers."""

    def __call__(self, given: Any, /, classes: Sequence[str] | None = None) -> nn.Module | Answering:
        """Make the teacher; DataError where it cannot be one."""

    def takes(self, given: Any, /) -> bool:
        """Whether it makes a teacher of something."""


_ADAPTERS: list[Adapter] = [hugging_face, timm_network, OnnxTeacher, EstimatorFile, EstimatorTeacher]
_NAMED = ("limbeck.kaldi.nnet3.teacher:ADAPTER", "limbeck.kaldi.nnet1_module:ADAPTER")
"""Built-in adapters, asked last; imported by name when needed."""
_LAST: Adapter = FunctionTeacher  # many callables are passed by mistake


def register_teacher(adapter: Adapter) -> None:
    """Register an adapter, so that its objects are accepted as teachers.

    Args:
        adapter: The adapter, asked before the others.

    Example:
        >>> class Constant:
        ...     classes = None
        ...     takes = staticmethod(lambda given: given == "always the first")
        ...     def __init__(self, given, classes=None): self.count = len(classes)
        ...     def log_probs(self, batch, temperature):
        ...         return torch.eye(self.count)[0].log().expand(len(batch.index), -1)
        >>> import torch
        >>> register_teacher(Constant)
        >>> adapted("always the first", ["a", "b"]).count
        2
    """
    _ADAPTERS.insert(0, adapter)


def adapted(teacher: Any, classes: Sequence[str] | None = None) -> Any:
    """Make a teacher of an object, or raise an error with the cure.

    Args:
        teacher: The given object.
        classes: Names of the data's classes in order, where known.

    Returns:
        A module or something with ``log_probs``.

    Raises:
        DataError: If it is neither, and cannot be converted without guessing.
    """
    if isinstance(teacher, nn.Module) or (hasattr(teacher, "log_probs") and not inspect.isclass(teacher)):
        return teacher
    for adapter in (*_ADAPTERS, *(_named() if _is_path(teacher) else ())):
        if adapter.takes(teacher):
            return adapter(teacher, classes)
    name = getattr(teacher, "__name__", type(teacher).__name__)
    for odd, cure in _REFUSED:
        if odd(teacher):
            raise DataError(cure.format(name=name, given=teacher, count=len(teacher) if _sized(teacher) else 0))
    if _LAST.takes(teacher):
        return _LAST(teacher, classes)
    raise DataError(
        "a teacher is a torch.nn.Module, limbeck.Ensemble, limbeck.SoftTargets, an estimator with predict_proba, the "
        f"path of an .onnx, .skops or nnet3 file, or a function from inputs to logits, and a {name} was given"
    )


def _named() -> Iterator[Adapter]:
    for module, _, name in (each.partition(":") for each in _NAMED):
        yield cast(Adapter, getattr(import_module(module), name))


def _sized(given: Any) -> bool:
    return isinstance(given, list | tuple)


def _is_path(given: Any) -> bool:
    return isinstance(given, str) or hasattr(given, "__fspath__")


_REFUSED: tuple[tuple[Callable[[Any], bool], str], ...] = (
    (inspect.isclass, "the teacher is the class {name}: give an instance of it"),
    (
        _sized,
        "the teacher is a {name} of {count}: give limbeck.Ensemble([...]), which says how they are averaged",
    ),
    (
        lambda given: hasattr(given, "__array__"),
        "the teacher is an array: existing outputs are given as limbeck.SoftTargets.from_array(probs=...), "
        "log_probs= or logits=, with a row for each training example",
    ),
    (
        lambda given: _is_path(given) and str(given).lower().endswith((".pkl", ".pickle", ".joblib")),
        "the teacher is the pickle {given!s}, and reading one executes what it says: save it with skops.io.dump as "
        ".skops, or load it yourself and give the estimator",
    ),
    (_is_path, "the teacher is the path {given!s}: give limbeck.load(path)"),
    (
        lambda given: hasattr(given, "predict") and "Regress" in type(given).__name__,
        "the teacher is a {name}, which is a regressor, and regression is not supported: give a classifier",
    ),
    (
        lambda given: hasattr(given, "predict"),
        "the teacher is a {name} with predict and without predict_proba: probabilities are needed, such as of "
        "scikit-learn's CalibratedClassifierCV around it",
    ),
)
