"""The optimiser that settings ask for."""

__all__ = ["check_slots", "make_optimizer"]

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from limbeck.errors import DataError
from limbeck.options import Training
from limbeck.system.devices import Device


def make_optimizer(model: nn.Module, training: Training, device: Device) -> torch.optim.Optimizer:
    """Make the optimiser; weight decay is for matrices alone, and not for biases and normalisation.

    Args:
        model: What is to be trained, on its device.
        training: The settings.
        device: Where it computes.

    Returns:
        A fused optimiser where there is one.

    Raises:
        DataError: If the model has no parameters to train.

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
    groups = [
        {"params": [p for p in trainable if p.ndim >= 2], "weight_decay": training.weight_decay},
        {"params": [p for p in trainable if p.ndim < 2], "weight_decay": 0.0},
    ]
    # One group is one fused call a step.
    groups = [group for group in groups if group["params"]] if training.weight_decay else [{"params": trainable}]
    fused = device.device.type in {"cpu", "cuda"}
    rate = training.peak_learning_rate
    if training.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=rate, weight_decay=0.0, fused=fused)
    nesterov = training.nesterov and training.momentum > 0
    return torch.optim.SGD(groups, lr=rate, momentum=training.momentum, nesterov=nesterov, fused=fused)


_SLOTS = {
    torch.optim.AdamW: {"step", "exp_avg", "exp_avg_sq"},
    torch.optim.SGD: {"momentum_buffer"},
}
_COUNTERS = (torch.float32, torch.float64)


def check_slots(optimizer: torch.optim.Optimizer, state: Mapping[int, Mapping[str, Tensor]]) -> None:
    """Make sure that a state is one that the optimiser can resume from, before it is loaded.

    Loading it converts types without a word, and the fused steps trust all shapes.

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
