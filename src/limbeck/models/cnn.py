"""A plain convolutional network: 3x3 convolutions with 2x2 pooling, then fully connected layers.

Axes: ``N`` examples, ``C`` channels, ``K`` classes.
"""

__all__ = ["CNN", "CNNConfig"]

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from limbeck.errors import ConfigError
from limbeck.models.dropout import Dropout
from limbeck.models.factored import is_linear, limit_incoming
from limbeck.models.layers import Standardise, as_floating, initialise, require_widths


@dataclass(frozen=True, kw_only=True)
class CNNConfig:
    """The config of a CNN.

    Attributes:
        input_shape: Shape of one example: channels, height, width.
        classes: Number of classes.
        channels: Channels of the convolutions, each followed by 2x2 max pooling and ReLU.
        hidden: Widths of the fully connected layers before the last.
        dropout: Share of the fully connected layers' inputs dropped while training.
        input_dropout: Share of inputs dropped while training.
        max_norm: Largest norm of a fully connected hidden unit's incoming weights, or None.
        batch_norm: Batch normalisation between convolution and ReLU.
        padding: Whether convolutions keep the size of the image.
        input_mean: Subtracted from every input.
        input_std: Every input is divided by it.
    """

    input_shape: tuple[int, ...]
    classes: int
    channels: tuple[int, ...] = (64, 128)
    hidden: tuple[int, ...] = (1024,)
    dropout: float = 0.0
    input_dropout: float = 0.0
    max_norm: float | None = None
    batch_norm: bool = False
    padding: bool = False
    input_mean: float = 0.0
    input_std: float = 1.0

    def __post_init__(self) -> None:
        require_widths(input_shape=self.input_shape, classes=[self.classes], channels=self.channels, hidden=self.hidden)


class CNN(nn.Sequential):
    """Convolutions, pooling, fully connected layers; the output is logits.

    Args:
        config: Channels, widths and the rest.

    Raises:
        ConfigError: If the input is not an image, or too small for so many pooling layers.

    Example:
        >>> net = CNN(CNNConfig(input_shape=(1, 28, 28), classes=26))
        >>> sum(p.numel() for p in net.parameters())
        3378970
        >>> net(torch.zeros(2, 1, 28, 28)).shape
        torch.Size([2, 26])
    """

    def __init__(self, config: CNNConfig) -> None:
        if len(config.input_shape) != 3:
            raise ConfigError(
                f"a cnn needs images (channels, height, width), and an example has shape {config.input_shape}"
            )
        inputs, height, width = config.input_shape
        layers: list[nn.Module] = []
        if (config.input_mean, config.input_std) != (0.0, 1.0):
            layers.append(Standardise(config.input_mean, config.input_std))
        if config.input_dropout:
            layers.append(Dropout(config.input_dropout))
        border = 0 if config.padding else 2
        for outputs in config.channels:
            layers.append(nn.Conv2d(inputs, outputs, 3, padding=1 if config.padding else 0))
            if config.batch_norm:
                layers.append(nn.BatchNorm2d(outputs))
            # ReLU and max pooling commute; pooling first leaves a quarter of the work to ReLU.
            layers += [nn.MaxPool2d(2), nn.ReLU()]
            inputs, height, width = outputs, (height - border) // 2, (width - border) // 2
            if min(height, width) < 1:
                raise ConfigError(
                    f"images of {config.input_shape[1]}x{config.input_shape[2]} pixels are too small for "
                    f"{len(config.channels)} layers of convolution and pooling: use fewer channels, or padding"
                )
        layers.append(nn.Flatten())
        widths = (inputs * height * width, *config.hidden, config.classes)
        for number, (before, after) in enumerate(pairwise(widths)):
            if number:
                layers.append(nn.ReLU())
            if config.dropout:
                layers.append(Dropout(config.dropout))
            layers.append(nn.Linear(before, after))
        super().__init__(*layers)
        self.config = config
        initialise(self)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @torch.no_grad()
    def project_(self) -> None:
        """Scale down the incoming weights of each hidden unit whose norm is above ``max_norm``."""
        if self.config.max_norm is not None:
            limit_incoming([layer for layer in self if is_linear(layer)][:-1], self.config.max_norm)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(N, K)`` of images ``(N, C, H, W)``, numbers of any type."""
        result: Tensor = super().forward(as_floating(x).contiguous(memory_format=torch.channels_last))  # type: ignore[no-untyped-call]
        return result
