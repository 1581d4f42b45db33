"""Which trainings can be made side by side, and are faster so."""

__all__ = ["Member", "suit"]

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.data.examples import Examples
from limbeck.data.feed import Feed
from limbeck.losses.fused import HOT
from limbeck.methods.kd import KD
from limbeck.models.calling import call_model, presentation_of
from limbeck.models.layers import Maxout, Standardise
from limbeck.models.mlp import MLP
from limbeck.options import Training
from limbeck.protocols import Objective
from limbeck.system.callbacks import Callback
from limbeck.system.devices import Device
from limbeck.system.processes import world
from limbeck.training.objective import DistillationObjective, LabelObjective
from limbeck.training.stacked import stacked_logits

_FEWEST = 4
"""Trainings that are worth it."""
_LARGEST = 6e7
"""Floating-point operations of a network's step above which starting them is no longer what takes the time."""
_LAYERS: tuple[type[nn.Module], ...] = (
    nn.Linear, nn.Flatten, nn.Identity, nn.LayerNorm, nn.ReLU, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid, nn.LeakyReLU,
    nn.ELU, nn.Softplus, nn.Hardswish, Maxout, Standardise,
)  # fmt: skip
"""Layers that keep nothing, draw nothing, and do the same for each example."""
_CLOSE = 1e-4
"""How far stacked logits may be from a network's own, as a share of the largest."""


@dataclass(frozen=True)
class Member:
    """One of the trainings: the arguments of :func:`~limbeck.training.engine.fit`."""

    model: nn.Module
    objective: Objective
    feed: Feed
    training: Training
    validation: Examples | None = None
    folder: Path | None = None
    callback: Callback = field(default_factory=Callback)
    name: str = "model"


def suit(members: Sequence[Member], device: Device, *, width: int | None = None) -> bool:
    """Whether trainings can be made side by side, and are faster so.

    The answer is a function of networks, settings and data, never of the machine's mood.

    Args:
        members: The trainings.
        device: Where they are to compute.
        width: Of how many these are a part, as for :func:`~limbeck.training.side_by_side.fit_side_by_side`.

    Returns:
        Whether there are several small networks of one architecture, on the CPU in float32, which differ in weights,
        seed, learning rate, and a loss of labels or soft targets.

    Example:
        >>> examples = Examples.of(torch.rand(20, 3), torch.arange(20) % 2)
        >>> training = Training(batch_size=10)
        >>> feed = Feed(examples, batch_size=10, seed=0)
        >>> members = [Member(nn.Linear(3, 2), LabelObjective(), feed, training) for _ in range(4)]
        >>> here = Device(torch.device("cpu"), "float32")
        >>> suit(members, here), suit(members[:2], here)
        (True, False)
    """
    if (
        (width or len(members)) < _FEWEST
        or device.device.type != "cpu"
        or device.precision != "float32"
        or world().size > 1
    ):
        return False
    first = members[0]
    alike = {
        (
            _shapes(each.model),
            str(first.model) == str(each.model),
            replace(each.training, seed=0, learning_rate=None),
            (each.feed.steps, each.feed.batch_size, each.feed.accumulate, len(each.feed.examples)),
            id(each.validation),
        )
        for each in members
    }
    return (
        len(alike) == 1
        and _plain(first.training)
        and all(_small(each) and _known(each.objective) and _in_memory(each) for each in members)
        and _stackable([each.model for each in members], first.feed)
    )


def _shapes(model: nn.Module) -> tuple[Any, ...]:
    return tuple((name, value.shape, value.dtype, value.requires_grad) for name, value in model.named_parameters())


def _plain(training: Training) -> bool:
    return not (
        training.own_optimizer
        or training.skip_nonfinite
        or training.compile
        or training.class_weight
        or training.accumulate > 1
        or training.schedule == "newbob"
        or not training.side_by_side
    )


def _small(member: Member) -> bool:
    """Whether a network is of known layers, all of them trained, and its step little work."""
    model = member.model
    leaves = [part for part in model.modules() if next(part.children(), None) is None]
    weights = list(model.parameters())
    constrained = getattr(model, "project_", None) is not None
    if constrained and not (isinstance(model, MLP) and model.config.max_norm is None):
        return False
    once = len(weights) == len(list(model.named_parameters(remove_duplicate=False)))
    return (
        once
        and bool(weights)
        and all(type(part) in _LAYERS for part in leaves)
        and next(model.buffers(), None) is None
        and all(weight.requires_grad and weight.dtype == torch.float32 for weight in weights)
        and presentation_of(model) is None
        and 6.0 * sum(weight.numel() for weight in weights) * member.feed.batch_size <= _LARGEST
    )


def _known(objective: Objective) -> bool:
    if type(objective) is LabelObjective:
        return True
    if type(objective) is not DistillationObjective or objective.teaching is not None:
        return False
    return objective.hard_weight == 1 or (type(objective.method) is KD and objective.temperature <= HOT)


def _in_memory(member: Member) -> bool:
    feed = member.feed
    parts = [feed.examples, *([] if member.validation is None else [member.validation])]
    return (
        feed.viewing.mixing is None
        and not feed.viewing.made
        and all(isinstance(each.inputs, Tensor) and each.presentation is None for each in parts)
    )


def _stackable(models: Sequence[nn.Module], feed: Feed) -> bool:
    """Whether the stacked networks answer as each alone does, on the first examples."""
    batch = next(feed.batches(0)).head(8)
    assert isinstance(batch.inputs, Tensor)
    try:
        with torch.no_grad():
            alone = torch.stack([call_model(model, batch.inputs) for model in models])
            weights = {
                name: torch.stack([dict(model.named_parameters())[name] for model in models])
                for name, _ in models[0].named_parameters()
            }
            together = stacked_logits(models[0], weights, batch.inputs.expand(len(models), *batch.inputs.shape))
    except Exception:  # whatever a user's module does that cannot be batched: it is trained alone
        return False
    largest = max(1.0, float(alone.abs().max()))
    return together.shape == alone.shape and float((together - alone).abs().max()) <= _CLOSE * largest
