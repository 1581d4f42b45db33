"""The optimiser that settings ask for."""

__all__ = ["check_slots", "make_optimizer"]

import torch
from torch import nn

from limbeck.devices import Device
from limbeck.errors import DataError
from limbeck.options import Training


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


def check_slots(optimizer: torch.optim.Optimizer) -> None:
    """Make sure that a state which was loaded is one that the optimiser can go on from.

    Args:
        optimizer: One that :func:`make_optimizer` made.

    Raises:
        ValueError: If something of a parameter's state is missing, or has another shape.
    """
    for parameter, slots in optimizer.state.items():
        if set(slots) != _SLOTS[type(optimizer)]:
            raise ValueError(f"the optimiser's state of a parameter holds {sorted(slots)}")
        for name, value in slots.items():
            if name != "step" and value is not None and value.shape != parameter.shape:
                raise ValueError(f"{name} of shape {tuple(value.shape)} for a parameter of {tuple(parameter.shape)}")
