r"""User-defined losses: a function or a module.

Axes: ``N`` examples, ``K`` classes.
"""

__all__ = ["OwnLoss", "OwnObjective", "code_of", "probed"]

import copy
import hashlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn

from limbeck.errors import DataError
from limbeck.losses import widened
from limbeck.methods.base import Method, labels_of, targets_at
from limbeck.options.checks import shown
from limbeck.protocols import Batch, Loss, Output
from limbeck.system.user_code import introduce_error

_PROBES = 4
"""Number of probe examples to recognise a function by."""
_DIGITS = 5
"""Significant digits of its values on probes in which machines agree."""


class OwnLoss(Method):
    """A function of the student's logits, the teacher's log-probabilities at T = 1 and the labels.

    Args:
        function: ``f(student_logits, teacher_log_probs, labels)`` gives one value per example, ``(N,)``, of float32
            logits ``(N, K)``, natural logarithms ``(N, K)`` and labels ``(N,)``, None where they are not known. A
            module's parameters are trained and checkpointed too. It may have an attribute ``coupled``, see
            :class:`Method`.
        classes: K, for the probes that recognise the function when a run is resumed.

    Example:
        >>> batch = Batch(torch.arange(2), 0, torch.zeros(2, 1), None)
        >>> loss = OwnLoss(lambda z, v, y: (z.log_softmax(-1) - v).square().mean(-1), classes=3)
        >>> loss(Output(torch.zeros(2, 3)), Output(torch.zeros(2, 3).log_softmax(-1)), batch)
        tensor([0., 0.])
    """

    shift_invariant = False

    def __init__(self, function: Callable[..., Any], *, classes: int = 5) -> None:
        super().__init__()
        self.function, self.classes = function, classes
        self.coupled = bool(getattr(function, "coupled", False))

    def forward(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        """The value of each example, ``(N,)``."""
        return _mixed(self.function, batch, student.logits, targets_at(teacher, 1.0))

    def known_gradient(self, logits: Tensor, batch: Batch) -> None:
        """No gradient is known."""
        return

    @property
    def options(self) -> dict[str, Any]:
        """No reference formula."""
        return {}

    def fingerprint(self) -> dict[str, Any]:
        """Its name, a digest of its source, and its values on probes."""
        return {"method": "own", **code_of(self.function), "probes": probed(self.function, self.classes, taught=True)}


class OwnObjective:
    """A function of logits and labels as an objective of training on labels.

    Args:
        function: ``f(logits, labels)`` gives one value per example, ``(N,)``.
        classes: K, for the probes.
    """

    hard_weight = 0.0

    def __init__(self, function: Callable[..., Any], *, classes: int) -> None:
        self.function, self.classes = function, classes
        self.coupled = bool(getattr(function, "coupled", False))

    def __call__(self, logits: Tensor, batch: Batch) -> Loss:
        """The loss of logits ``(N, K)``."""
        labels_of(batch)  # refuses examples without labels
        return Loss(_mixed(self.function, batch, widened(logits)))

    @property
    def own(self) -> nn.Module | None:
        """The function, if it is a module with parameters."""
        module = self.function if isinstance(self.function, nn.Module) else None
        return None if module is None or next(module.parameters(), None) is None else module

    def begun(self, model: nn.Module, feed: Any) -> Self:
        """The objective of one training, with a copy of the function if it is a module."""
        one = copy.copy(self)
        if isinstance(self.function, nn.Module):
            place = next((weight.device for weight in model.parameters()), None)
            one.function = copy.deepcopy(self.function).to(place)
        return one

    def frozen(self) -> Self:
        """The same with its parameters as constants, for the self-check."""
        one = copy.copy(self)
        if isinstance(self.function, nn.Module):
            one.function = copy.deepcopy(self.function).requires_grad_(False)
        return one

    def reference_gradient(self, logits: Tensor, batch: Batch) -> None:
        """None: its formula is unknown."""
        return

    def fingerprint(self) -> Mapping[str, Any]:
        """Its name, a digest of its source, and its values on probes."""
        found = {"method": "own", **code_of(self.function), "probes": probed(self.function, self.classes, taught=False)}
        return {"objective": "own", "method": found}


def _mixed(function: Callable[..., Any], batch: Batch, *arguments: Any) -> Tensor:
    """A function's value with the labels; for mixtures, the mean over both labels weighted by the mixing ratio."""
    own = _called(function, *arguments, batch.labels)
    if batch.mixed is None:
        return own
    share = batch.mixed.share.to(own.dtype)
    return share * own + (1 - share) * _called(function, *arguments, batch.mixed.labels)


def _called(function: Callable[..., Any], *arguments: Any) -> Tensor:
    """A function's value, checked to be one number per example."""
    name, count = _name(function), len(arguments[0])
    try:
        value = function(*arguments)
    except Exception as error:  # any error of the user's function
        introduce_error(error, name, f"logits of shape {tuple(arguments[0].shape)}")
    if not isinstance(value, Tensor) or value.shape != (count,):
        found = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else shown(value)
        cure = ': give reduction="none" and sum over the classes' if isinstance(value, Tensor) else ""
        raise DataError(f"{name} must give one value per example, shape ({count},), and gave {found}{cure}")
    return value


def _name(function: Callable[..., Any]) -> str:
    return str(getattr(function, "__qualname__", type(function).__qualname__))


def code_of(function: Any) -> dict[str, Any]:
    """The name of a function or a class, and a digest of its source where that can be read.

    Args:
        function: A function, a module or a class.

    Returns:
        ``name`` and ``source``.
    """
    place = function if inspect.isfunction(function) or inspect.isclass(function) else type(function)
    try:
        text: bytes | None = inspect.getsource(place).encode()
    except (OSError, TypeError):
        text = getattr(getattr(place, "__code__", None), "co_code", None)
    return {"name": _name(function), "source": None if text is None else hashlib.sha256(text).hexdigest()}


def probed(function: Callable[..., Any], classes: int, *, taught: bool) -> list[list[float]] | None:
    """A function's values and gradients on logits that are the same for every run.

    Args:
        function: Of logits, log-probabilities where ``taught``, and labels.
        classes: K.
        taught: Whether it takes a teacher's log-probabilities.

    Returns:
        A value and a row of its gradient per example, to five digits; None where it fails on them.
    """
    generator = torch.Generator().manual_seed(7)
    draws = torch.randn(2, _PROBES, classes, generator=generator)
    logits, labels = draws[0].requires_grad_(), torch.arange(_PROBES) % classes
    place = next((p.device for p in function.parameters()), None) if isinstance(function, nn.Module) else None
    teacher = [draws[1].detach().log_softmax(-1)] if taught else []
    moved = [each if place is None else each.to(place) for each in (logits, *teacher, labels)]
    try:
        with torch.enable_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            value = function(*moved)
            (slope,) = torch.autograd.grad(value.sum(), logits)
        rows = torch.cat([value.detach().cpu().reshape(_PROBES, 1), slope[:, :16]], -1)
    except Exception:  # it will fail on real data with its own error
        return None
    return [[float(f"{number:.{_DIGITS}g}") for number in row] for row in rows.tolist()]
