"""Small parts that the architectures share."""

__all__ = ["Maxout", "Standardise", "as_floating", "initialise", "limit_norms", "require_widths"]

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from limbeck.errors import ConfigError


class Standardise(nn.Module):
    """Subtract a mean and divide by a standard deviation, both fixed.

    Args:
        mean: Subtracted from every input.
        std: Divides every input; positive.

    Example:
        >>> Standardise(2.0, 4.0)(torch.tensor([6.0]))
        tensor([1.])
    """

    def __init__(self, mean: float, std: float) -> None:
        super().__init__()
        self.mean, self.std = mean, std

    def forward(self, x: Tensor) -> Tensor:
        """Standardised inputs, of the same shape."""
        return (x - self.mean) / self.std

    def extra_repr(self) -> str:
        """The two numbers, for printing."""
        return f"mean={self.mean:.4g}, std={self.std:.4g}"


class Maxout(nn.Module):
    """The largest of each few inputs that follow each other.

    Args:
        pieces: How many inputs make an output.

    Example:
        >>> Maxout(2)(torch.tensor([[1.0, 5.0, -3.0, -2.0]]))
        tensor([[ 5., -2.]])
    """

    def __init__(self, pieces: int) -> None:
        super().__init__()
        self.pieces = pieces

    def forward(self, x: Tensor) -> Tensor:
        """Outputs ``(..., D / pieces)`` of inputs ``(..., D)``."""
        return x.view(*x.shape[:-1], -1, self.pieces).amax(-1)

    def extra_repr(self) -> str:
        """The number of pieces, for printing."""
        return f"pieces={self.pieces}"


def as_floating(x: Tensor) -> Tensor:
    """Integers, such as the counts in a table, as float32; floating-point numbers as they are.

    Args:
        x: Inputs of a network whose first layer multiplies.

    Returns:
        The inputs, of the same shape.

    Example:
        >>> as_floating(torch.tensor([3]))
        tensor([3.])
    """
    return x if x.is_floating_point() else x.to(torch.float32)


def initialise(model: nn.Module, activation: str = "relu") -> None:
    """Draw the weights of linear and convolution layers, a tenth as large for the last.

    He's normal before a ReLU; Glorot's for sigmoid (times 4) and tanh; the variance kept for maxout, whose largest of
    two has the variance of each.

    References:
        He et al., `Delving deep into rectifiers <https://arxiv.org/abs/1502.01852>`_, 2015; Glorot and Bengio,
        `Understanding the difficulty of training deep feedforward neural networks
        <https://proceedings.mlr.press/v9/glorot10a.html>`_, 2010.

    Example:
        >>> layer = nn.Sequential(nn.Linear(10, 3))
        >>> initialise(layer)
        >>> layer[0].bias.abs().sum().item()
        0.0
    """
    found = [layer for layer in model.modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
    layers = [layer for layer in found if not layer.weight.is_meta]  # drawing numbers into no memory takes the compiler
    for layer in layers:
        if activation in {"sigmoid", "tanh"}:
            nn.init.xavier_normal_(layer.weight, gain=4.0 if activation == "sigmoid" else 1.0)
        else:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="linear" if activation == "maxout" else "relu")
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    if layers:
        with torch.no_grad():
            layers[-1].weight.mul_(0.1)


@torch.no_grad()
def limit_norms(weights: Iterable[Tensor], limit: float) -> None:
    """Scale each row whose Euclidean norm is above a limit down to it, in place.

    Args:
        weights: Matrices ``(outputs, inputs)``: a row holds a unit's incoming weights.
        limit: Largest norm, positive.

    References:
        Srivastava et al., `Dropout <https://jmlr.org/papers/v15/srivastava14a.html>`_, JMLR 2014, section 5.1.

    Example:
        >>> w = torch.tensor([[3.0, 4.0], [0.3, 0.4]])
        >>> limit_norms([w], 1.0)
        >>> w
        tensor([[0.6000, 0.8000], [0.3000, 0.4000]])
    """
    for weight in weights:
        norms = torch.linalg.vector_norm(weight, dim=1, keepdim=True)
        weight.mul_((limit / norms.clamp_min(1e-30)).clamp_max(1.0))


def require_widths(**sizes: Sequence[int]) -> None:
    """Refuse layers of no width: they cannot be initialised, and pass nothing on.

    Args:
        **sizes: Widths by the name of the setting.

    Raises:
        ConfigError: If one is below 1.

    Example:
        >>> require_widths(hidden=(8, 4), classes=[3])
    """
    for name, widths in sizes.items():
        if any(width < 1 for width in widths):
            raise ConfigError(f"{name} must be at least 1, and is {', '.join(map(str, widths))}")
