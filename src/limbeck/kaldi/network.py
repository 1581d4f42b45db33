"""A Kaldi nnet1 network as a torch module: what a converted acoustic model is made of.

Axes: ``N`` frames, ``D`` features, ``K`` pdfs. Frames come already spliced and normalised, as the network wants them.
"""

__all__ = ["Nnet1", "Nnet1Config"]

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from limbeck.errors import ConfigError
from limbeck.models import Dropout, register_architecture

Put = Callable[[Tensor], tuple[int, int]]
"""Keeps weights of a page, and says where they begin and end."""


@dataclass(frozen=True, kw_only=True)
class Nnet1Config:
    """The config of an nnet1 network.

    Attributes:
        input_shape: Shape of one example: its features.
        classes: Number of pdfs.
        components: One record per component: its tag, its dimensions and its numbers, as
            :func:`limbeck.kaldi.formats.nnet1_record.records_of` gives them, and ``inputs`` and ``outputs`` of each
            transform. The softmax at the end is left out.
    """

    input_shape: tuple[int, ...]
    classes: int
    components: tuple[dict[str, Any], ...]


class Nnet1(nn.Sequential):
    """The components of an nnet1 network in order; the output is logits.

    Args:
        config: The components.

    Raises:
        ConfigError: If a component is unknown, or cannot be run on a batch of frames.

    Example:
        >>> affine = {"tag": "AffineTransform", "inputs": 4, "outputs": 3}
        >>> net = Nnet1(Nnet1Config(input_shape=(4,), classes=3, components=(affine,)))
        >>> net(torch.zeros(2, 4)).shape
        torch.Size([2, 3])
    """

    page_start: ClassVar[tuple[dict[str, str], ...]] = ({"kind": "flatten"},)
    """What a page in a browser computes before the components, which follow as they are."""

    def __init__(self, config: Nnet1Config) -> None:
        layers: list[nn.Module] = []
        for place, record in enumerate(config.components):
            values = dict(record)
            tag = values.pop("tag", None)
            if tag not in _LAYERS:
                raise ConfigError(f"component {place} is {tag!r}, and known are {', '.join(_LAYERS)}")
            try:
                layers.append(_LAYERS[tag](values))
            except (KeyError, TypeError, ValueError, RuntimeError) as error:
                raise ConfigError(f"component {place}, <{tag}>, cannot be made of {values}: {error}") from error
        super().__init__(*layers)
        self.config = config

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(N, K)`` of frames ``(N, D)``."""
        result: Tensor = super().forward(x.flatten(1))  # type: ignore[no-untyped-call]
        return result


class _ParametricRelu(nn.Module):
    """``y = alpha x`` where ``x > 0``, else ``beta x``."""

    def __init__(self, dim: int, *, learned: tuple[bool, bool]) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(dim), requires_grad=learned[0])
        self.beta = nn.Parameter(torch.zeros(dim), requires_grad=learned[1])

    def forward(self, x: Tensor) -> Tensor:
        return torch.where(x > 0, self.alpha * x, self.beta * x)

    def page_layers(self, put: Put) -> list[dict[str, Any]]:
        """As a page in a browser computes it."""
        return [{"kind": "prelu", "alpha": put(self.alpha), "beta": put(self.beta)}]


class _Elementwise(nn.Module):
    def __init__(self, dim: int, rate: float) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.zeros(dim), requires_grad=rate != 0)


class _AddShift(_Elementwise):
    def forward(self, x: Tensor) -> Tensor:
        return x + self.values

    def page_layers(self, put: Put) -> list[dict[str, Any]]:
        """As a page in a browser computes it."""
        return [{"kind": "affine", "factor": put(torch.ones_like(self.values)), "summand": put(self.values)}]


class _Rescale(_Elementwise):
    def forward(self, x: Tensor) -> Tensor:
        return x * self.values

    def page_layers(self, put: Put) -> list[dict[str, Any]]:
        """As a page in a browser computes it."""
        return [{"kind": "affine", "factor": put(self.values), "summand": put(torch.zeros_like(self.values))}]


class _Copy(nn.Module):
    def __init__(self, indices: list[int]) -> None:
        super().__init__()
        self.indices = list(indices)

    def forward(self, x: Tensor) -> Tensor:
        return x[:, self.indices]

    def page_layers(self, put: Put) -> list[dict[str, Any]]:
        """As a page in a browser computes it."""
        return [{"kind": "copy", "indices": self.indices}]


class _Maxout(nn.Module):
    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.outputs = outputs

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(x.shape[0], self.outputs, -1).amax(-1)  # len(x) would be a fixed number to torch.export

    def page_layers(self, put: Put) -> list[dict[str, Any]]:
        """As a page in a browser computes it."""
        return [{"kind": "maxout", "outputs": self.outputs}]


class _LengthNorm(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        return x / torch.where(norm > 0, norm, torch.ones_like(norm))

    def page_layers(self, put: Put) -> list[dict[str, Any]]:
        """As a page in a browser computes it."""
        return [{"kind": "lengthnorm"}]


_Values = Mapping[str, Any]
_LAYERS: dict[str, Callable[[_Values], nn.Module]] = {
    "AffineTransform": lambda v: nn.Linear(v["inputs"], v["outputs"]),
    "LinearTransform": lambda v: nn.Linear(v["inputs"], v["outputs"], bias=False),
    "Sigmoid": lambda v: nn.Sigmoid(),
    "Tanh": lambda v: nn.Tanh(),
    "Relu": lambda v: nn.ReLU(),
    "Linear": lambda v: nn.Identity(),
    "HiddenSoftmax": lambda v: nn.Softmax(-1),
    "Softmax": lambda v: nn.Softmax(-1),
    "LengthNormComponent": lambda v: _LengthNorm(),
    "ParametricRelu": lambda v: _ParametricRelu(
        v["dim"], learned=(v.get("alpha_learn_rate", 0) != 0, v.get("beta_learn_rate", 0) != 0)
    ),
    "Dropout": lambda v: Dropout(v["rate"]),
    "Maxout": lambda v: _Maxout(v["outputs"]),
    "Copy": lambda v: _Copy(v["indices"]),
    "AddShift": lambda v: _AddShift(v["dim"], v.get("learn_rate", 1.0)),
    "Rescale": lambda v: _Rescale(v["dim"], v.get("learn_rate", 1.0)),
}

register_architecture("nnet1", Nnet1Config, Nnet1)
