"""The weights that trainings start from: a module's own, or those that a function makes of each seed."""

__all__ = ["apart_from", "starts", "tell_equal_ends"]

from collections.abc import Callable, Sequence

import torch
from torch import nn

from limbeck.errors import DataError
from limbeck.models.copying import copy_module
from limbeck.models.factories import make_model
from limbeck.protocols import Teacher
from limbeck.system.callbacks import Callback

_HALF = {torch.float16, torch.bfloat16}


def starts(
    model: nn.Module | Callable[..., nn.Module],
    seeds: Sequence[int],
    *,
    role: str = "model",
    callback: Callback | None = None,
) -> list[nn.Module]:
    """A model to train for each seed.

    A module keeps its weights, pretrained or not, for every seed: trainings differ by order, views and dropout. A
    function is called once for each seed, under that seed (:func:`~limbeck.models.factories.make_model`).

    Args:
        model: A module, which is copied, or a function that makes one from a seed or from nothing.
        seeds: One for each training.
        role: What to call it in messages.
        callback: Is told of weights that are equal where they need not be.

    Returns:
        Modules that share no weight with each other, or with what was given.

    Raises:
        DataError: If nothing in it can be trained, or it cannot be copied.
    """  # noqa: DOC502
    callback = callback or Callback()
    if isinstance(model, nn.Module):
        if len(seeds) > 1:
            callback.warn(
                f"all {len(seeds)} trainings start from the weights of the {role} that is given, and differ by order, "
                "views and dropout: for weights of each seed's own give a function that makes the model"
            )
        return [_trainable(copy_module(model, what=role), role, callback) for _ in seeds]
    made: list[nn.Module] = []
    for seed in seeds:
        one = make_model(model, seed)
        # The same object twice would be trained twice.
        if any(one is other for other in made):
            one = copy_module(one, what=role)
        made.append(one)
    alike = _first_alike(made)
    if alike is not None:
        first, second = alike
        callback.warn(
            f"the function that makes the {role} gives the same weights for seeds {seeds[first]} and {seeds[second]}, "
            "so that these trainings differ by order, views and dropout alone: let it make the model anew at each call"
        )
    return [_trainable(one, role, callback) for one in made]


def apart_from(teacher: Teacher, models: Sequence[nn.Module]) -> list[nn.Module]:
    """Students that share no weight with their teacher, which is frozen for the time: those that do are copied.

    Args:
        teacher: Who teaches.
        models: The students, as a function of the user's own may have made them around a part of the teacher.

    Returns:
        The students, in order.
    """
    held = {id(weight) for network, _ in teacher.modules() for weight in network.parameters()}
    shared = [any(id(weight) in held for weight in model.parameters()) for model in models]
    return [copy_module(model, what="student") if own else model for model, own in zip(models, shared, strict=True)]


def tell_equal_ends(models: Sequence[nn.Module], *, role: str, callback: Callback | None) -> None:
    """Warn of models that ended with the same weights.

    Args:
        models: What was trained.
        role: What to call them, such as "members".
        callback: Is told.
    """
    alike = _first_alike(models)
    if alike is not None:
        (callback or Callback()).warn(
            f"{role} {alike[0] + 1} and {alike[1] + 1} ended with the same weights, and count as one: their seeds "
            "changed nothing; give a function that makes the model anew at each call"
        )


def _first_alike(models: Sequence[nn.Module]) -> tuple[int, int] | None:
    for second in range(1, len(models)):
        for first in range(second):
            if _alike(models[first], models[second]):
                return first, second
    return None


def _alike(one: nn.Module, other: nn.Module) -> bool:
    mine, theirs = list(one.parameters()), list(other.parameters())
    if len(mine) != len(theirs) or not mine or any(map(torch.nn.parameter.is_lazy, (*mine, *theirs))):
        return False
    pairs = zip(mine, theirs, strict=True)
    return all(a.shape == b.shape and a.dtype == b.dtype and torch.equal(a.to(b.device), b) for a, b in pairs)


def _trainable(model: nn.Module, role: str, callback: Callback) -> nn.Module:
    """The model, where it can be trained; weights of 16 bits become float32, for steps are lost in their rounding."""
    weights = list(model.parameters())
    if weights and not any(weight.requires_grad for weight in weights):
        raise DataError(
            f"every weight of the {role} is frozen (requires_grad is False), so that nothing can be trained: call "
            "model.requires_grad_(True), or thaw the layers that shall learn"
        )
    halves = {weight.dtype for weight in weights if weight.requires_grad and weight.dtype in _HALF}
    if halves:
        names = " and ".join(sorted(str(kind).removeprefix("torch.") for kind in halves))
        callback.warn(
            f"the {role} has weights of {names}, in whose rounding small steps are lost: it is trained in float32, and "
            "stays so; model.to(...) afterwards makes it as small as it was"
        )
        model = model.float()
    return model
