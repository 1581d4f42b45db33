"""The optimiser: one of PyTorch's, or made by a user's function."""

__all__ = ["check_slots", "make_optimizer", "rates_of"]

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.errors import ConfigError, DataError
from limbeck.models import own_function
from limbeck.options import Training
from limbeck.options.checks import shown
from limbeck.system import eager_torch
from limbeck.system.devices import Device
from limbeck.system.user_code import introduce_error


def make_optimizer(
    model: nn.Module, training: Training, device: Device, own: nn.Module | None = None
) -> torch.optim.Optimizer:
    """Make the optimiser; weight decay excludes biases and normalisation layers.

    Args:
        model: The model to train, on its device.
        training: The settings.
        device: Where it computes.
        own: The objective's own module of trainable parameters, or None.

    Returns:
        A fused optimiser where there is one; or the result of the user's function.

    Raises:
        ConfigError: If the user's function returns something unusable.
        DataError: If the model has no parameters to train.
        UserCodeError: If it raises an error.

    Example:
        >>> here = Device(torch.device("cpu"), "float32")
        >>> optimizer = make_optimizer(nn.Linear(2, 2), Training(weight_decay=0.1), here)
        >>> [group["weight_decay"] for group in optimizer.param_groups]
        [0.1, 0.0]
    """
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trainable:
        frozen = next(model.parameters(), None) is not None
        cure = ": all are frozen (requires_grad is False): call model.requires_grad_(True)" if frozen else ""
        raise DataError(f"the model has no parameters to train{cure}")
    if own is not None:
        trainable += [parameter for parameter in own.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim >= 2], "weight_decay": training.weight_decay},
        {"params": [p for p in trainable if p.ndim < 2], "weight_decay": 0.0},
    ]
    # One group is one fused call per step.
    groups = [group for group in groups if group["params"]] if training.weight_decay else [{"params": trainable}]
    if training.own_optimizer:
        return _own(training.optimizer, groups, model)
    fused = device.device.type in {"cpu", "cuda"}
    rate: float | Tensor = training.peak_learning_rate
    recorded = device.device.type == "cuda"
    if recorded:  # a graph reads it at each step
        rate = torch.tensor(rate, device=device.device)
    if training.optimizer == "adamw":
        return eager_torch.AdamW(groups, lr=rate, weight_decay=0.0, fused=fused, capturable=recorded)
    nesterov = training.nesterov and training.momentum > 0
    return eager_torch.SGD(groups, lr=rate, momentum=training.momentum, nesterov=nesterov, fused=fused)


def rates_of(optimizer: torch.optim.Optimizer, training: Training) -> list[float]:
    """The factor of the schedule's learning rate for each parameter group.

    Args:
        optimizer: From :func:`make_optimizer`.
        training: The settings.

    Returns:
        1 for each group; of a user's optimiser, whose schedule has the peak 1, each group's own learning rate.

    Example:
        >>> def adagrad(groups):
        ...     return torch.optim.Adagrad(groups, lr=0.02)
        >>> training = Training(optimizer=adagrad, weight_decay=0.1)
        >>> rates_of(make_optimizer(nn.Linear(2, 2), training, Device(torch.device("cpu"), "float32")), training)
        [0.02, 0.02]
    """
    return [float(group["lr"]) if training.own_optimizer else 1.0 for group in optimizer.param_groups]


def _own(name: str, groups: list[dict[str, Any]], model: nn.Module) -> torch.optim.Optimizer:
    """Make and check the optimiser of a user's function."""
    function: Callable[..., Any] = getattr(name, "function", None) or own_function(name, what="optimizer")
    trained = {id(parameter) for group in groups for parameter in group["params"]}
    try:
        optimizer = function(groups)
    except Exception as error:  # any error of the user's function
        introduce_error(error, f"optimizer {name}", f"{len(groups)} parameter groups")
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise ConfigError(f"optimizer {name} returned {shown(optimizer)}, and a torch.optim.Optimizer is needed")
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    kind = type(optimizer).__name__
    if closure is not None and closure.default is closure.empty:
        raise ConfigError(
            f"optimizer {name} gives {kind}, whose step computes the loss again by a closure, several times perhaps: "
            "one whose step needs no closure is needed"
        )
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    left_out = [path for path, value in model.named_parameters() if id(value) in trained - held]
    if left_out or held - trained:
        what = f"leaves out {left_out[0]}" if left_out else "holds parameters that are not those of the model"
        raise ConfigError(
            f"optimizer {name} {what}: it must have each parameter of the groups that it is given; freeze others with "
            "requires_grad_(False) beforehand"
        )
    for group in optimizer.param_groups:
        rate = group.get("lr")
        if not isinstance(rate, float | int | Tensor) or not 0 < float(rate) < math.inf:
            raise ConfigError(
                f"optimizer {name} gives {kind} with a group whose lr is {shown(rate)}: the schedule multiplies each "
                "group's lr, which must be positive and finite"
            )
    return optimizer


_SLOTS = {
    eager_torch.AdamW: {"step", "exp_avg", "exp_avg_sq"},
    eager_torch.SGD: {"momentum_buffer"},
}
_COUNTERS = (torch.float32, torch.float64)


def check_slots(optimizer: torch.optim.Optimizer, state: Mapping[int, Mapping[str, Tensor]]) -> None:
    """Check an optimiser state before loading it.

    Loading silently converts dtypes, and the fused steps do not check shapes.

    Args:
        optimizer: One that :func:`make_optimizer` made.
        state: Tensors of each parameter by name; parameters are numbered through the groups.

    Raises:
        ValueError: If something of a parameter's state is missing, or has another shape or type.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for number, slots in state.items():
        if not 0 <= number < len(parameters):
            raise ValueError(f"the optimiser's state is of parameter {number}, and there are {len(parameters)}")
        parameter = parameters[number]
        if set(slots) != _SLOTS[type(optimizer)]:
            raise ValueError(f"the optimiser's state of parameter {number} holds {sorted(slots)}")
        for name, value in slots.items():
            counter = name == "step"
            shape = torch.Size() if counter else parameter.shape
            right = value.dtype in _COUNTERS if counter else value.dtype == parameter.dtype
            if value.shape != shape or not right:
                raise ValueError(
                    f"optimizer.{number}.{name} is {value.dtype} of shape {tuple(value.shape)}, and its parameter is "
                    f"{parameter.dtype} of shape {tuple(parameter.shape)}"
                )
