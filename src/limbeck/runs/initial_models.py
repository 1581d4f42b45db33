"""The models to train, one per seed: copies of a module, or made by a function of the seed."""

__all__ = ["apart_from", "same_start", "starts", "tell_equal_ends"]

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
    """Make a model to train for each seed.

    Copies of a module start from its weights for every seed: trainings differ by order, views and dropout. A function
    is called once per seed, under that seed (:func:`~limbeck.models.factories.make_model`).

    Args:
        model: A module, which is copied, or a function that makes one, with the seed or without arguments.
        seeds: One per training.
        role: Display name in messages.
        callback: Receives warnings of equal weights.

    Returns:
        Modules that share no weights with each other or with the given model.

    Raises:
        DataError: If nothing in it can be trained, or it cannot be copied.
    """  # noqa: DOC502
    callback = callback or Callback()
    if isinstance(model, nn.Module):
        if len(seeds) > 1:
            callback.on_warning(
                f"all {len(seeds)} trainings start from the weights of the given {role}, and differ only in order, "
                "views and dropout: for different initial weights give a function that makes the model"
            )
        return [_trainable(copy_module(model, what=role), role, callback) for _ in seeds]
    made: list[nn.Module] = []
    for seed in seeds:
        one = make_model(model, seed)
        # The same object would be trained twice.
        if any(one is other for other in made):
            one = copy_module(one, what=role)
        made.append(one)
    alike = _first_alike(made)
    if alike is not None:
        first, second = alike
        callback.on_warning(
            f"the function that makes the {role} gives the same weights for seeds {seeds[first]} and {seeds[second]}, "
            "so that these trainings differ only in order, views and dropout: let it make a new model at each call"
        )
    return [_trainable(one, role, callback) for one in made]


def apart_from(teacher: Teacher, models: Sequence[nn.Module]) -> list[nn.Module]:
    """Copy the students that share weights with their teacher, which is frozen during the run.

    Args:
        teacher: Who teaches.
        models: The students; a user's function may have built them around parts of the teacher.

    Returns:
        The students, in order.
    """
    held = {id(weight) for network, _ in teacher.modules() for weight in network.parameters()}
    shared = [any(id(weight) in held for weight in model.parameters()) for model in models]
    return [copy_module(model, what="student") if own else model for model, own in zip(models, shared, strict=True)]


def same_start(models: Sequence[nn.Module]) -> bool:
    """Whether several models have the same weights, so that their trainings say nothing about other initial weights.

    Args:
        models: The models before their training.

    Returns:
        Whether there are several, and all are alike.

    Example:
        >>> one, other = nn.Linear(2, 2), nn.Linear(2, 2)
        >>> same_start([one, copy_module(one)]), same_start([one, other]), same_start([one])
        (True, False, False)
    """
    return len(models) > 1 and all(_alike(models[0], other) for other in models[1:])


def tell_equal_ends(models: Sequence[nn.Module], *, role: str, callback: Callback | None) -> None:
    """Warn of models that ended with the same weights.

    Args:
        models: The trained models.
        role: Display name, such as "members".
        callback: Receives the warnings.
    """
    alike = _first_alike(models)
    if alike is not None:
        (callback or Callback()).on_warning(
            f"{role} {alike[0] + 1} and {alike[1] + 1} ended with the same weights, and count as one: their seeds "
            "changed nothing; give a function that makes a new model at each call"
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
    """Check that the model is trainable; 16-bit weights become float32, since small steps would be rounded away."""
    weights = list(model.parameters())
    if weights and not any(weight.requires_grad for weight in weights):
        raise DataError(
            f"every weight of the {role} is frozen (requires_grad is False), so that nothing can be trained: call "
            "model.requires_grad_(True), or unfreeze the layers to train"
        )
    halves = {weight.dtype for weight in weights if weight.requires_grad and weight.dtype in _HALF}
    if halves:
        names = " and ".join(sorted(str(kind).removeprefix("torch.") for kind in halves))
        callback.on_warning(
            f"the {role} has weights of {names}, which round small steps away: it is trained in float32, and "
            "stays in float32; model.to(...) converts it back afterwards"
        )
        model = model.float()
    return model
