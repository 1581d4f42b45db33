"""Convolutions of one pixel with a stride and few channels, which PyTorch's processor kernels get wrong.

For channels-last inputs oneDNN's gradient of such weights writes past its workspace where there are fewer input
channels than a register holds (8 with AVX2, 16 with AVX-512): wrong gradients, or a process that aborts. In other
layouts it is right. Shortcuts of narrow or pruned residual networks are such layers.

References:
    oneDNN, issue 6035: 1x1 convolution backward_weights writes past the rtus workspace (nhwc, IC < ic_block), 2026.
"""

__all__ = ["contiguous_strided"]

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

_REGISTER = 16
"""Channels from which any processor's kernel is right."""


@contextmanager
def contiguous_strided(model: nn.Module, device: torch.device) -> Iterator[None]:
    """While the block runs, give such layers inputs and weights in the default layout.

    Args:
        model: The model that is trained; weights that change their layout keep it.
        device: Where it is trained; elsewhere than on the processor nothing is done.

    Example:
        >>> layer = nn.Conv2d(4, 8, 1, stride=2).to(memory_format=torch.channels_last)
        >>> images = torch.ones(2, 4, 6, 6).contiguous(memory_format=torch.channels_last)
        >>> with contiguous_strided(nn.Sequential(layer), torch.device("cpu")):
        ...     layer(images).is_contiguous()
        True
    """
    hooks = []
    if device.type == "cpu":
        for layer in model.modules():
            if isinstance(layer, nn.Conv2d) and _overruns(layer):
                layer.weight.data = layer.weight.data.flatten().reshape(layer.weight.shape)
                hooks.append(layer.register_forward_pre_hook(_contiguous))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _overruns(layer: nn.Conv2d) -> bool:
    narrow = layer.in_channels // layer.groups < _REGISTER
    return narrow and set(layer.kernel_size) == {1} and max(layer.stride) > 1


def _contiguous(layer: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
    del layer
    return tuple(each.contiguous() if isinstance(each, Tensor) else each for each in given)
