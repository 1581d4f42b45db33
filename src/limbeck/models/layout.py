"""The memory layout in which a convolutional network is trained.

PyTorch's processor kernels of depthwise convolutions are faster where the channels of a pixel lie side by side: a step
of MobileNetV3 or EfficientNet takes up to a quarter less time, while networks of other convolutions gain nothing
(``benchmarks/layout.py``).
"""

__all__ = ["Layout"]

from collections.abc import Callable
from types import TracebackType
from typing import Self

import torch
from torch import Tensor, nn

from limbeck.inputs import Inputs
from limbeck.models.calling import call_model, evaluating


class Layout:
    """While the block runs, the weights of a network with depthwise convolutions lie channels last.

    Args:
        model: What is trained.
        device: Where; elsewhere than on the processor nothing is done.

    Attributes:
        changed: The weights that lie otherwise meanwhile.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, groups=8))
        >>> with Layout(net, torch.device("cpu")):
        ...     net(torch.ones(2, 3, 8, 8)).is_contiguous(memory_format=torch.channels_last)
        True
    """

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        self.model = model
        convolutions = [part for part in model.modules() if isinstance(part, nn.Conv2d)]
        deep = device.type == "cpu" and any(_depthwise(each) for each in convolutions)
        weights = [each.weight for each in convolutions] if deep else []
        self.changed: list[Tensor] = [each for each in weights if not _lies_last(each)]

    def __enter__(self) -> Self:
        for weight in self.changed:
            weight.data = weight.data.contiguous(memory_format=torch.channels_last)
        return self

    def keep_if(self, some: Callable[[], Inputs]) -> None:
        """Lay the weights as before where the network cannot be asked otherwise: its forward may view what lies so.

        Args:
            some: Gives inputs to ask it with.
        """
        if not self.changed:
            return
        try:
            with torch.no_grad(), evaluating(self.model):
                call_model(self.model, some())
        except Exception:  # any error of a user's module: where it has another cause, it comes again and is told
            self.undo()

    def undo(self) -> None:
        """Lay the weights as before."""
        for weight in self.changed:
            weight.data = weight.data.contiguous()
        self.changed = []

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.undo()


def _depthwise(layer: nn.Conv2d) -> bool:
    return layer.groups == layer.in_channels > 1


def _lies_last(weight: Tensor) -> bool:
    return weight.is_contiguous(memory_format=torch.channels_last)
