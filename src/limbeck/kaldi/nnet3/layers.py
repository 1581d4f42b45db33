"""The components of an nnet3 network as torch modules, in test mode. Axes: ``B`` chunks, ``T`` times, columns last.

A module has parameters where Kaldi trains them, and says by ``arrays`` what they are called in the file.
"""

__all__ = ["KINDS", "Layer", "layer_of"]

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from limbeck.errors import DataError
from limbeck.kaldi.nnet3.components import Component

_SMALLEST_SQUARE = 2.0**-66
_SMALLEST_POSTERIOR = 1e-20


class Layer(nn.Module):
    """A component that maps columns at each time.

    Args:
        part: The component.
    """

    def __init__(self, part: Component) -> None:
        super().__init__()
        self.tags: dict[str, str] = {}

    def learn(self, name: str, tag: str, values: NDArray[Any]) -> None:
        """Hold a parameter that the file calls ``tag``."""
        self.register_parameter(name, nn.Parameter(_tensor(values)))
        self.tags[tag] = name

    def keep(self, name: str, values: NDArray[Any]) -> None:
        """Hold numbers that training does not change."""
        self.register_buffer(name, _tensor(values), persistent=True)

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """The parameters by the tags of the file."""
        return {tag: getattr(self, name).detach().float().cpu().numpy() for tag, name in self.tags.items()}


def _tensor(values: NDArray[Any]) -> Tensor:
    return torch.from_numpy(np.array(values, np.float32))


def _split(x: Tensor, columns: int) -> Tensor:
    """Blocks of so many columns, on an axis of their own."""
    return x.reshape(*x.shape[:-1], -1, columns)


class _Affine(Layer):
    """``y = x W^T + b``; of a Tdnn the columns of all its offsets side by side."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, part: Component, *, weight: str = "LinearParams", fixed: bool = False) -> None:
        super().__init__(part)
        bias = part.array("BiasParams") if part.has("BiasParams") else np.empty(0, np.float32)
        hold: Callable[[str, str, NDArray[Any]], None] = (
            (lambda name, tag, values: self.keep(name, values)) if fixed else self.learn
        )
        hold("weight", weight, part.array(weight, axes=2))
        if bias.size:
            hold("bias", "BiasParams", bias)
        else:
            self.bias = None

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.weight, self.bias)


class _Blocks(Layer):
    """BlockAffine, whose blocks have weights of their own, and RepeatedAffine, whose blocks share them."""

    weight: Tensor
    bias: Tensor

    def __init__(self, part: Component, *, shared: bool) -> None:
        super().__init__(part)
        self.count = part.number("NumRepeats" if shared else "NumBlocks")
        self.shared = shared
        self.learn("weight", "LinearParams", part.array("LinearParams", axes=2))
        self.learn("bias", "BiasParams", part.array("BiasParams"))

    def forward(self, x: Tensor) -> Tensor:
        blocks = _split(x, x.shape[-1] // self.count)
        if self.shared:
            return nn.functional.linear(blocks, self.weight, self.bias).flatten(-2)
        weight = self.weight.reshape(self.count, -1, self.weight.shape[1])
        found: Tensor = torch.einsum("...ki,koi->...ko", blocks, weight)
        return found.flatten(-2) + self.bias


class _Elementwise(Layer):
    """``y = scale x + offset``, of all columns or block by block."""

    scale: Tensor | None
    offset: Tensor | None

    def __init__(
        self, part: Component, scale: NDArray[Any] | None, offset: NDArray[Any] | None, tags: dict[str, str]
    ) -> None:
        super().__init__(part)
        self.block = next(values.size for values in (scale, offset) if values is not None)
        for name, values in (("scale", scale), ("offset", offset)):
            if values is None:
                setattr(self, name, None)
            elif name in tags:
                self.learn(name, tags[name], values)
            else:
                self.keep(name, values)

    def forward(self, x: Tensor) -> Tensor:
        y = _split(x, self.block)
        y = y if self.scale is None else y * self.scale
        y = y if self.offset is None else y + self.offset
        return y.flatten(-2)


def _batch_norm(part: Component) -> Layer:
    mean, variance = (np.asarray(part.array(tag), np.float64) for tag in ("StatsMean", "StatsVar"))
    if not mean.size or not part.real("Count") > 0:
        raise DataError(f"component {part.name}, a BatchNormComponent, has no statistics: train the network first")
    if (variance < 0).any() or not part.real("Epsilon") > 0:
        raise DataError(f"component {part.name}, a BatchNormComponent, has a variance below 0")
    scale = part.real("TargetRms") / np.sqrt(variance + part.real("Epsilon"))
    largest = float(np.finfo(np.float32).max)
    if not (np.abs(scale).max() < largest and np.abs(mean * scale).max() < largest):
        raise DataError(f"component {part.name}, a BatchNormComponent, has statistics that are too large for float32")
    return _Elementwise(part, scale, -mean * scale, {})


class _Normalize(Layer):
    """Each block scaled to a root mean square, whose logarithm may stand beside it."""

    def __init__(self, part: Component) -> None:
        super().__init__(part)
        self.block = part.number("BlockDim", default=part.number("InputDim", "Dim"))
        self.target = part.real("TargetRms", default=1.0)
        self.says_log = part.flag("AddLogStddev", default=False)
        if not self.target > 0:
            raise DataError(f"component {part.name} has a <TargetRms> of {self.target}")

    def forward(self, x: Tensor) -> Tensor:
        y = _split(x, self.block)
        square = (y.square().mean(-1, keepdim=True) / self.target**2).clamp_min(_SMALLEST_SQUARE)
        z = y * square.rsqrt()
        if self.says_log:
            z = torch.cat([z, 0.5 * square.log() + float(np.log(self.target))], -1)
        return z.flatten(-2)


class _Plain(Layer):
    """A function without parameters."""

    def __init__(self, part: Component, run: Callable[[Tensor], Tensor]) -> None:
        super().__init__(part)
        self.run = run

    def forward(self, x: Tensor) -> Tensor:
        return self.run(x)


class _Constant(Layer):
    """The same output whatever the input is."""

    output: Tensor

    def __init__(self, part: Component) -> None:
        super().__init__(part)
        if part.flag("IsUpdatable", default=True):
            self.learn("output", "Output", part.array("Output"))
        else:
            self.keep("output", part.array("Output"))

    def forward(self, x: Tensor) -> Tensor:
        return self.output.expand(*x.shape[:-1], -1)


class _Permute(Layer):
    columns: Tensor

    def __init__(self, part: Component) -> None:
        super().__init__(part)
        self.register_buffer("columns", torch.from_numpy(part.array("ColumnMap").astype(np.int64)), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return x.index_select(-1, self.columns)


class _Softmax(Layer):
    def forward(self, x: Tensor) -> Tensor:
        return x.softmax(-1).clamp_min(_SMALLEST_POSTERIOR)


class _LogSoftmax(Layer):
    def forward(self, x: Tensor) -> Tensor:
        return x.log_softmax(-1)


def _dropout(part: Component) -> Layer:
    kept = 1.0 - part.real("DropoutProportion")  # as Kaldi does in test mode, for training does not scale
    return _Plain(part, _Times(kept))


class _Times:
    def __init__(self, number: float) -> None:
        self.number = number

    def __call__(self, x: Tensor) -> Tensor:
        return x * self.number


class _Folded:
    """Blocks, or groups, of columns made one each."""

    def __init__(self, outputs: int, fold: str, scale: float = 1.0) -> None:
        self.outputs, self.fold, self.scale = outputs, fold, scale

    def __call__(self, x: Tensor) -> Tensor:
        if self.fold == "norm":
            found: Tensor = torch.linalg.vector_norm(_split(x, x.shape[-1] // self.outputs), dim=-1)
            return found
        blocks = _split(x, self.outputs)
        return blocks.prod(-2) if self.fold == "product" else blocks.sum(-2) * self.scale


class _SumGroups:
    def __init__(self, sizes: list[int]) -> None:
        self.sizes = sizes

    def __call__(self, x: Tensor) -> Tensor:
        return torch.stack([group.sum(-1) for group in torch.split(x, self.sizes, -1)], -1)


def _identity(x: Tensor) -> Tensor:
    return x


KINDS: dict[str, Callable[[Component], Layer]] = {
    "NaturalGradientAffine": _Affine,
    "Affine": _Affine,
    "FixedAffine": lambda part: _Affine(part, fixed=True),
    "Linear": lambda part: _Affine(part, weight="Params"),
    "Tdnn": _Affine,
    "RectifiedLinear": lambda part: _Plain(part, torch.relu),
    "Sigmoid": lambda part: _Plain(part, torch.sigmoid),
    "Tanh": lambda part: _Plain(part, torch.tanh),
    "Softmax": _Softmax,
    "LogSoftmax": _LogSoftmax,
    "BatchNorm": _batch_norm,
    "Normalize": _Normalize,
    "NoOp": lambda part: _Plain(part, _identity),
    "GeneralDropout": lambda part: _Plain(part, _identity),
    "ClipGradient": lambda part: _Plain(part, _identity),
    "Dropout": _dropout,
    "Permute": _Permute,
    "FixedScale": lambda part: _Elementwise(part, part.array("Scales"), None, {}),
    "FixedBias": lambda part: _Elementwise(part, None, part.array("Bias"), {}),
    "PerElementScale": lambda part: _Elementwise(part, part.array("Params"), None, {"scale": "Params"}),
    "NaturalGradientPerElementScale": lambda part: _Elementwise(part, part.array("Params"), None, {"scale": "Params"}),
    "PerElementOffset": lambda part: _Elementwise(part, None, part.array("Offsets"), {"offset": "Offsets"}),
    "ScaleAndOffset": lambda part: _Elementwise(
        part, part.array("Scales"), part.array("Offsets"), {"scale": "Scales", "offset": "Offsets"}
    ),
    "ConstantFunction": _Constant,
    "BlockAffine": lambda part: _Blocks(part, shared=False),
    "RepeatedAffine": lambda part: _Blocks(part, shared=True),
    "Pnorm": lambda part: _Plain(part, _Folded(part.number("OutputDim"), "norm")),
    "ElementwiseProduct": lambda part: _Plain(part, _Folded(part.number("OutputDim"), "product")),
    "SumBlock": lambda part: _Plain(part, _Folded(part.number("OutputDim"), "sum", part.real("Scale"))),
    "SumGroup": lambda part: _Plain(part, _SumGroups(part.array("Sizes").tolist())),
}
"""What is run, by the component's type."""


def layer_of(part: Component) -> Layer:
    """A component as a torch module.

    Args:
        part: The component.

    Returns:
        The module, in evaluation mode.

    Raises:
        DataError: If its type is not run here, or its fields are not those of its type.
    """
    make = KINDS.get(part.kind)
    if make is None:
        raise DataError(f"component {part.name} is a {part.kind}Component, which is not run here")
    return make(part).eval()
