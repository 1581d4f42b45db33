"""A fully connected network with any hidden widths.

Axes: ``N`` examples, ``K`` classes.
"""

__all__ = ["MLP", "MLPConfig"]

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from limbeck.errors import ConfigError
from limbeck.models.dropout import Dropout
from limbeck.models.factored import is_linear, limit_incoming
from limbeck.models.layers import Maxout, Standardise, as_floating, initialise, require_widths

ACTIVATIONS = ("relu", "sigmoid", "tanh", "maxout")


@dataclass(frozen=True, kw_only=True)
class MLPConfig:
    """The config of an MLP.

    Attributes:
        input_shape: Shape of one example, such as (1, 28, 28).
        classes: Number of classes.
        hidden: Widths of the hidden layers; none gives a linear classifier.
        dropout: Share of hidden units dropped while training.
        input_dropout: Share of inputs dropped while training.
        max_norm: Largest norm of a hidden unit's incoming weights, or None.
        activation: "relu", "sigmoid", "tanh" or "maxout".
        pieces: Linear units of which each maxout unit is the largest.
        input_mean: Subtracted from every input.
        input_std: Every input is divided by it.
    """

    input_shape: tuple[int, ...]
    classes: int
    hidden: tuple[int, ...] = (512,)
    dropout: float = 0.0
    input_dropout: float = 0.0
    max_norm: float | None = None
    activation: str = "relu"
    pieces: int = 2
    input_mean: float = 0.0
    input_std: float = 1.0

    def __post_init__(self) -> None:
        if self.activation not in ACTIVATIONS:
            raise ConfigError(f"activation must be {', '.join(ACTIVATIONS)}, and is {self.activation!r}")
        if self.pieces < 2:
            raise ConfigError(f"pieces must be at least 2, and is {self.pieces}")
        require_widths(input_shape=self.input_shape, classes=[self.classes], hidden=self.hidden)


class MLP(nn.Sequential):
    """Linear layers with an activation between them; the output is logits.

    Args:
        config: Widths, dropout and the rest.

    Example:
        >>> net = MLP(MLPConfig(input_shape=(1, 28, 28), classes=26, hidden=(512,)))
        >>> sum(p.numel() for p in net.parameters())
        415258
        >>> net(torch.zeros(2, 1, 28, 28)).shape
        torch.Size([2, 26])
    """

    def __init__(self, config: MLPConfig) -> None:
        layers: list[nn.Module] = [nn.Flatten()]
        if (config.input_mean, config.input_std) != (0.0, 1.0):
            layers.append(Standardise(config.input_mean, config.input_std))
        if config.input_dropout:
            layers.append(Dropout(config.input_dropout))
        widths = (math.prod(config.input_shape), *config.hidden)
        pieces = config.pieces if config.activation == "maxout" else 1
        for inputs, outputs in pairwise(widths):
            layers += [nn.Linear(inputs, pieces * outputs), _activation(config)]
            if config.dropout:
                layers.append(Dropout(config.dropout))
        layers.append(nn.Linear(widths[-1], config.classes))
        super().__init__(*layers)
        self.config = config
        initialise(self, config.activation)

    @torch.no_grad()
    def project_(self) -> None:
        """Scale down the incoming weights of each hidden unit whose norm is above ``max_norm``."""
        if self.config.max_norm is not None:
            limit_incoming([layer for layer in self if is_linear(layer)][:-1], self.config.max_norm)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(N, K)`` of inputs ``(N, ...)``, numbers of any type."""
        result: Tensor = super().forward(as_floating(x))  # type: ignore[no-untyped-call]
        return result


def _activation(config: MLPConfig) -> nn.Module:
    simple: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "sigmoid": nn.Sigmoid, "tanh": nn.Tanh}
    return Maxout(config.pieces) if config.activation == "maxout" else simple[config.activation]()
