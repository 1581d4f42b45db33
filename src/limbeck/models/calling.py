"""Calling of models, and extraction of their logits.

Axes: ``N`` examples, ``K`` classes.
"""

__all__ = [
    "at_examples",
    "at_labels",
    "at_positions",
    "autograd_enabled",
    "call_model",
    "evaluating",
    "logits_of",
    "presentation_of",
    "presentations_of",
    "refuse_changed",
    "require_logits",
    "two_of_one",
    "versions",
    "weights_dtype",
]

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import wraps
from itertools import chain
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor, nn

from limbeck.errors import DataError
from limbeck.inputs import POSITIONS, Inputs, count_of, labels_key, split_places, tensors_of
from limbeck.system.user_code import introduce_error

P = ParamSpec("P")
R = TypeVar("R")


def autograd_enabled(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function that trains be called under ``torch.no_grad()`` or ``torch.inference_mode()``.

    Args:
        function: It needs gradients.

    Returns:
        The function, in whose calls gradients are enabled.

    Example:
        >>> with torch.inference_mode():
        ...     autograd_enabled(lambda: torch.is_grad_enabled())()
        True
    """

    @wraps(function)
    def enabled(*args: P.args, **kwargs: P.kwargs) -> R:
        with torch.inference_mode(False), torch.enable_grad():
            return function(*args, **kwargs)

    return enabled


def call_model(model: nn.Module, inputs: Inputs, *, dtype: torch.dtype | None = None) -> Tensor:
    """A model's logits for some inputs.

    Floating-point inputs are cast to the type of the model's weights first, so that a model of 16-bit or 64-bit weights
    is given what it can take; integers are passed as they are.

    Args:
        model: Any module. What it returns may be whatever :func:`logits_of` understands.
        inputs: ``(N, ...)``, or tensors by the names of the model's arguments.
        dtype: From :func:`weights_dtype`, for callers that ask at every step; None to look it up.

    Returns:
        Logits in float32, with gradient where that is enabled; of positions of sequences, those that are examples.

    Raises:
        DataError: If there are no logits in what the model returns, or it changes its inputs in place: whoever sees
            them next would see something else.
        UserCodeError: If the model raises an error.

    Example:
        >>> call_model(nn.Linear(2, 3).double(), torch.ones(4, 2)).dtype
        torch.float32
    """  # noqa: DOC502
    inputs, places, key = split_places(inputs)
    wanted = dtype or weights_dtype(model)
    given = tensors_of(inputs)
    before = versions(given)
    try:
        if isinstance(inputs, Mapping):
            returned = model(**{name: _cast(values, wanted) for name, values in inputs.items()})
        else:
            returned = model(_cast(inputs, wanted))
    except Exception as error:  # any error in the forward pass of a user's module
        introduce_error(error, type(model).__name__, f"inputs of shape {' and '.join(map(_shape, given))}")
    refuse_changed(type(model).__name__, given, before)
    return at_examples(logits_of(returned), inputs, places, key).float()


def at_examples(logits: Tensor, inputs: Inputs, places: Tensor | None, key: str) -> Tensor:
    """The logits of each example, out of those of the rows that a model was given.

    Args:
        logits: What the model answered.
        inputs: What it was given, from :func:`~limbeck.inputs.split_places`, as the other arguments are.
        places: Which positions or labels are examples; None where each row is one.
        key: What tells positions from labels.

    Returns:
        ``(N, K)``, with two classes for each label and for a binary head of one logit.

    Raises:
        DataError: If the logits are not of positions or labels where they must be.
    """  # noqa: DOC502
    if places is None:
        return two_of_one(logits, count_of(inputs))
    return at_positions(logits, places) if key == POSITIONS else at_labels(logits, places, key)


def two_of_one(logits: Tensor, count: int) -> Tensor:
    r"""Two logits, :math:`(0, z)`, for the one of a binary head, whose sigmoid is then their softmax.

    Args:
        logits: ``(N, 1)`` or ``(N,)``; or of several classes.
        count: N.

    Returns:
        ``(N, 2)``; logits of several classes as they are.

    Example:
        >>> two_of_one(torch.tensor([[3.0]]), 1), two_of_one(torch.tensor([[3.0, 1.0]]), 1)
        (tensor([[0., 3.]]), tensor([[3., 1.]]))
    """
    if logits.shape == (count,):
        logits = logits.unsqueeze(1)
    return nn.functional.pad(logits, (1, 0)) if logits.shape == (count, 1) else logits


def at_labels(logits: Tensor, places: Tensor, key: str) -> Tensor:
    """The logits of some labels of examples, each as one of two classes from here on.

    Args:
        logits: ``(S, L)`` of S examples.
        places: Which labels, ``s * L + l`` each, int64 ``(N,)``.
        key: From :func:`~limbeck.inputs.labels_key`, which tells L.

    Returns:
        ``(N, 2)``, of which the first is 0.

    Raises:
        DataError: If the logits are not of L labels.

    Example:
        >>> at_labels(torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([2, 0]), labels_key(3))
        tensor([[0., 3.],
                [0., 1.]])
    """
    if logits.ndim != 2 or key != labels_key(logits.shape[1]):
        raise DataError(
            f"the examples are{key.removeprefix(POSITIONS)}, and the model gives logits of shape "
            f"{tuple(logits.shape)}: one logit for each label is needed"
        )
    return nn.functional.pad(logits.reshape(-1).index_select(0, places).unsqueeze(1), (1, 0))


def at_positions(logits: Tensor, places: Tensor) -> Tensor:
    """The logits of some positions of sequences, each an example from here on.

    Args:
        logits: ``(S, L, K)`` of S sequences.
        places: Which positions, ``s * L + l`` each, int64 ``(N,)``.

    Returns:
        ``(N, K)``.

    Raises:
        DataError: If the logits are not of positions.

    Example:
        >>> at_positions(torch.arange(12.0).view(2, 3, 2), torch.tensor([5, 0]))
        tensor([[10., 11.],
                [ 0.,  1.]])
    """
    if logits.ndim != 3:
        raise DataError(
            f"the examples are positions of sequences, and the model gives logits of shape {tuple(logits.shape)}: "
            "(sequences, positions, classes) are needed, as of a model for token classification"
        )
    return logits.flatten(0, 1).index_select(0, places)


def presentation_of(model: object) -> Any:
    """A model's own presentation, from its attribute ``presentation``.

    Args:
        model: Any module.

    Returns:
        The presentation; None without, or where a layer or a method has that name.

    Example:
        >>> presentation_of(nn.ModuleDict({"presentation": nn.Identity()})) is None
        True
    """
    found = getattr(model, "presentation", None)
    return None if isinstance(found, Tensor) or callable(found) else found


def presentations_of(teacher: Any) -> list[Any]:
    """How the networks in a teacher see the examples.

    Args:
        teacher: A teacher; with ``members``, those of all of them.

    Returns:
        The presentation of each network, and the attribute ``presentation`` of a teacher whose networks are unknown;
        None for the data's own.

    Example:
        >>> class Given:
        ...     presentation = "as rows"
        ...     def modules(self): return []
        >>> presentations_of(Given())
        ['as rows']
    """
    members = getattr(teacher, "members", None)
    if members:
        return [seen for member in members for seen in presentations_of(member)]
    networks = teacher.modules() if hasattr(teacher, "modules") else []
    return [seen for _, seen in networks] or [presentation_of(teacher)]


def versions(tensors: Sequence[Tensor]) -> list[int | None]:
    """How often each tensor was written to; None where PyTorch does not count, for tensors of inference mode."""
    return [None if tensor.is_inference() else tensor._version for tensor in tensors]


def refuse_changed(name: str, tensors: Sequence[Tensor], before: Sequence[int | None]) -> None:
    """Raise DataError where a call wrote to a tensor that it was given.

    Args:
        name: Of what was called.
        tensors: What it was given.
        before: From :func:`versions`, before the call.

    Raises:
        DataError: If any was changed.
    """
    if versions(tensors) != list(before):
        raise DataError(
            f"{name} changes its inputs in place, so that whoever sees them next sees other examples: write x = x - 1 "
            "for x -= 1, and nn.ReLU() for nn.ReLU(inplace=True) in the first layer"
        )


def _shape(values: Tensor) -> str:
    return str(tuple(values.shape))


def _cast(values: Tensor, dtype: torch.dtype | None) -> Tensor:
    return values if dtype is None or values.dtype == dtype or not values.is_floating_point() else values.to(dtype)


def weights_dtype(model: nn.Module) -> torch.dtype | None:
    """The type of a model's first floating-point weight, which its inputs are cast to; None where it has none."""
    for values in chain(model.parameters(), model.buffers()):
        if values.is_floating_point():
            return values.dtype
    return None


def logits_of(returned: object) -> Tensor:
    """The logits in what a model returned.

    Args:
        returned: A tensor; an object with an attribute ``logits``, such as an output of Hugging Face's models; a
            mapping with the key ``"logits"``; or a tuple or list whose first item is a tensor of logits, as models
            with auxiliary heads return while they train.

    Returns:
        The logits, as they are.

    Raises:
        DataError: If it is none of these.

    Example:
        >>> logits_of((torch.zeros(2, 3), "features")).shape, logits_of({"logits": torch.ones(1, 2)})
        (torch.Size([2, 3]), tensor([[1., 1.]]))
    """
    if isinstance(returned, Tensor):
        return _real(returned)
    found = getattr(returned, "logits", None)
    if found is None and isinstance(returned, Mapping):
        found = returned.get("logits")
    elif found is None and isinstance(returned, tuple | list) and returned:
        found = returned[0]
    if isinstance(found, Tensor):
        return _real(found)
    raise DataError(
        f"no logits in what the model returns, which is {_described(returned)}: wrap the model in a module whose "
        "forward returns the logits (examples, classes)"
    )


def _real(logits: Tensor) -> Tensor:
    if logits.is_complex():
        raise DataError(f"a model must give logits that are real numbers, and gave {logits.dtype}: give .real")
    return logits


def _described(returned: object) -> str:
    name = f"a {type(returned).__name__}"
    if isinstance(returned, Mapping):
        return f"{name} with the keys {', '.join(map(str, list(returned)[:8])) or '(none)'}"
    if isinstance(returned, tuple | list):
        return f"{name} of {', '.join(type(item).__name__ for item in returned[:8]) or 'nothing'}"
    return name


def require_logits(logits: Tensor, count: int) -> None:
    """Refuse what is not one row of logits per example.

    Args:
        logits: From :func:`call_model`.
        count: Examples that were given.

    Raises:
        DataError: If the shape is not ``(count, K)``.
    """
    if logits.ndim != 2 or len(logits) != count:
        raise DataError(
            f"a model must give logits (examples, classes), and gave shape {tuple(logits.shape)} for {count} examples"
        )


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model in evaluation mode, and restore the mode of each submodule afterwards.

    Modules that refuse ``eval()``, as exported programs do, are called as they are.

    Args:
        model: Any module.

    Yields:
        Nothing.
    """
    modes = [(part, part.training) for part in model.modules()]
    if not any(training for _, training in modes):
        yield
        return
    whole = model.training
    try:
        with suppress(NotImplementedError):
            model.eval()
        yield
    finally:
        if whole:  # a model may do more than set flags, such as merging weights
            with suppress(NotImplementedError):
                model.train()
        for part, training in modes:
            part.training = training
