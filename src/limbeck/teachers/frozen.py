"""A teacher's networks, frozen in place during a run and restored afterwards."""

__all__ = ["lent"]

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import torch
from torch import nn

from limbeck.models.calling import evaluating
from limbeck.protocols import Teacher


@contextmanager
def lent(teacher: Teacher, *, freeze: bool = True) -> Iterator[None]:
    """Freeze a teacher's networks in place, without a copy, and restore them afterwards.

    Within the context they are in evaluation mode, have ``requires_grad`` off, and may be moved to another device.
    Afterwards, also after an error or Ctrl-C, ``requires_grad``, the training modes and devices are as before. The
    user's hooks stay and are called.

    Args:
        teacher: Any teacher.
        freeze: Whether to freeze; False where the teacher is only moved.

    Yields:
        None.

    Example:
        >>> from limbeck.teachers import ModelTeacher
        >>> net = nn.Linear(2, 2)
        >>> with lent(ModelTeacher(net)):
        ...     print(net.training, net.weight.requires_grad)
        False False
        >>> net.training, net.weight.requires_grad
        (True, True)
    """
    networks = [network for network, _ in teacher.modules()]
    home = torch.device(getattr(teacher, "device", "cpu"))
    places = [_places(network) for network in networks]
    try:
        with ExitStack() as frozen:
            for network in networks if freeze else ():
                frozen.enter_context(evaluating(network))
                frozen.enter_context(_without_gradient(network))
            yield
    finally:
        if not networks or hasattr(teacher, "members"):
            teacher.to(home)
        for network, devices in zip(networks, places, strict=True):
            _bring_back(network, devices)


@contextmanager
def _without_gradient(network: nn.Module) -> Iterator[None]:
    # By place and not by object: some moves make the weights anew.
    needed = [
        (part, name, weight.requires_grad)
        for part in network.modules()
        for name, weight in part.named_parameters(recurse=False)
    ]
    try:
        _require([(part, name, False) for part, name, _ in needed])
        yield
    finally:
        _require(needed)


def _require(needed: list[tuple[nn.Module, str, bool]]) -> None:
    """Let weights need a gradient, or none, as it is noted."""
    for part, name, asked in needed:
        weight = part._parameters.get(name)
        if weight is not None:
            with suppress(RuntimeError):  # one that is computed from others cannot be frozen, and needs not be
                weight.requires_grad_(asked)


def _places(network: nn.Module) -> list[torch.device]:
    return [value.device for value in (*network.parameters(), *network.buffers())]


def _bring_back(network: nn.Module, devices: list[torch.device]) -> None:
    """Move each tensor back to its device; networks may be spread over several."""
    if _places(network) == devices:
        return
    if len(set(devices)) == 1:
        network.to(devices[0])
        return
    for value, device in zip((*network.parameters(), *network.buffers()), devices, strict=True):
        value.data = value.data.to(device)
