"""The components of a Kaldi nnet1 network as frozen records of numpy arrays and numbers.

Axes: ``I`` inputs, ``O`` outputs of a component. Weights are ``(O, I)``, so ``y = x W^T + b``.
"""

__all__ = [
    "KNOWN_TAGS",
    "NOT_RUN",
    "AddShift",
    "AffineTransform",
    "BlockSoftmax",
    "Component",
    "Copy",
    "Dropout",
    "HiddenSoftmax",
    "LengthNormComponent",
    "Linear",
    "LinearTransform",
    "Maxout",
    "ParametricRelu",
    "Relu",
    "Rescale",
    "Sigmoid",
    "Softmax",
    "Splice",
    "Tanh",
    "check_axes",
]

from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import DataError

_LARGEST = (1 << 31) - 1


@dataclass(frozen=True, eq=False)
class Component:
    """One component: a tag, an input and an output dimension, and what the subclass holds.

    Two components are equal where their classes, numbers and array bits are.
    """

    tag: ClassVar[str] = ""

    def __post_init__(self) -> None:
        for value in (self.input_dim, self.output_dim):
            if not 1 <= value <= _LARGEST:
                raise DataError(f"<{self.tag}> has {value} inputs or outputs: at least 1 and below 2**31 are allowed")
        for array in self.arrays():
            if array.dtype != np.float32:
                raise DataError(f"<{self.tag}> holds float32 arrays, and was given {array.dtype}")
            if not np.isfinite(array).all():
                raise DataError(f"<{self.tag}> holds a weight that is NaN or infinite")

    @property
    def input_dim(self) -> int:
        """Number of inputs."""
        return self._dims()[0]

    @property
    def output_dim(self) -> int:
        """Number of outputs."""
        return self._dims()[1]

    def _dims(self) -> tuple[int, int]:
        """Return inputs and outputs."""
        raise NotImplementedError

    def arrays(self) -> tuple[NDArray[np.float32], ...]:
        """Return the float arrays, in the order of the file."""
        values = (getattr(self, field.name) for field in fields(self))
        return tuple(value for value in values if isinstance(value, np.ndarray))

    @property
    def parameter_count(self) -> int:
        """Number of values in the arrays."""
        return sum(array.size for array in self.arrays())

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        return all(_same(getattr(self, field.name), getattr(other, field.name)) for field in fields(self))

    __hash__ = None  # type: ignore[assignment]


def _same(left: object, right: object) -> bool:
    if isinstance(left, tuple) and isinstance(right, tuple):
        return len(left) == len(right) and all(_same(one, other) for one, other in zip(left, right, strict=True))
    if isinstance(left, np.ndarray) and isinstance(right, np.ndarray):
        return left.shape == right.shape and left.tobytes() == right.tobytes()
    return left == right


def check_axes(tag: str, name: str, array: NDArray[Any], shape: tuple[int | None, ...]) -> None:
    """Raise DataError where an array has another shape; None stands for any size."""
    if array.ndim != len(shape) or any(
        want is not None and have != want for have, want in zip(array.shape, shape, strict=False)
    ):
        wanted = tuple("any" if want is None else want for want in shape)
        raise DataError(f"<{tag}>: the {name} has shape {array.shape}, and should have {wanted}")


@dataclass(frozen=True, eq=False)
class AffineTransform(Component):
    """``y = x W^T + b``; weight ``(O, I)``, bias ``(O,)``, learning-rate factors, a limit on row norms."""

    tag: ClassVar[str] = "AffineTransform"
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    learn_rate: float = 1.0
    bias_learn_rate: float = 1.0
    max_norm: float = 0.0

    def __post_init__(self) -> None:
        check_axes(self.tag, "weight", self.weight, (None, None))
        check_axes(self.tag, "bias", self.bias, (self.output_dim,))
        super().__post_init__()

    def _dims(self) -> tuple[int, int]:
        return int(self.weight.shape[1]), int(self.weight.shape[0])


@dataclass(frozen=True, eq=False)
class LinearTransform(Component):
    """``y = x W^T``; weight ``(O, I)``. Two of them, or one and an affine one, make a bottleneck."""

    tag: ClassVar[str] = "LinearTransform"
    weight: NDArray[np.float32]
    learn_rate: float = 1.0

    def __post_init__(self) -> None:
        check_axes(self.tag, "weight", self.weight, (None, None))
        super().__post_init__()

    def _dims(self) -> tuple[int, int]:
        return int(self.weight.shape[1]), int(self.weight.shape[0])


@dataclass(frozen=True, eq=False)
class _Pointwise(Component):
    dim: int

    def _dims(self) -> tuple[int, int]:
        return self.dim, self.dim


@dataclass(frozen=True, eq=False)
class Sigmoid(_Pointwise):
    """``y = 1 / (1 + exp(-x))``."""

    tag: ClassVar[str] = "Sigmoid"


@dataclass(frozen=True, eq=False)
class Tanh(_Pointwise):
    """``y = tanh(x)``."""

    tag: ClassVar[str] = "Tanh"


@dataclass(frozen=True, eq=False)
class Softmax(_Pointwise):
    """``y = exp(x) / sum exp(x)``."""

    tag: ClassVar[str] = "Softmax"


@dataclass(frozen=True, eq=False)
class HiddenSoftmax(_Pointwise):
    """A softmax inside the network."""

    tag: ClassVar[str] = "HiddenSoftmax"


@dataclass(frozen=True, eq=False)
class LengthNormComponent(_Pointwise):
    """``y = x / |x|``: each frame scaled to unit Euclidean length."""

    tag: ClassVar[str] = "LengthNormComponent"


@dataclass(frozen=True, eq=False)
class Relu(_Pointwise):
    """``y = max(x, 0)``: in forks of Kaldi and the older text dialect; stock Kaldi has `ParametricRelu`."""

    tag: ClassVar[str] = "Relu"


@dataclass(frozen=True, eq=False)
class Linear(_Pointwise):
    """``y = x``: the activation ``<linear>`` of the older text dialect."""

    tag: ClassVar[str] = "Linear"


@dataclass(frozen=True, eq=False)
class Dropout(_Pointwise):
    """Nothing at test time; in training each input is dropped with probability ``rate``."""

    tag: ClassVar[str] = "Dropout"
    rate: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.rate < 1:
            raise DataError(f"<{self.tag}>: the rate must be in [0, 1), and is {self.rate}")


@dataclass(frozen=True, eq=False)
class Maxout(Component):
    """The largest of each ``inputs / outputs`` consecutive inputs; the older text dialect only."""

    tag: ClassVar[str] = "Maxout"
    inputs: int
    outputs: int

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.inputs % self.outputs:
            raise DataError(f"<{self.tag}>: {self.inputs} inputs cannot be shared among {self.outputs} outputs")

    def _dims(self) -> tuple[int, int]:
        return self.inputs, self.outputs


@dataclass(frozen=True, eq=False)
class BlockSoftmax(Component):
    """A softmax in each block of consecutive inputs."""

    tag: ClassVar[str] = "BlockSoftmax"
    block_dims: tuple[int, ...]

    def __post_init__(self) -> None:
        if any(dim < 1 for dim in self.block_dims):
            raise DataError(f"<{self.tag}>: each block needs at least 1 input")
        super().__post_init__()

    def _dims(self) -> tuple[int, int]:
        return sum(self.block_dims), sum(self.block_dims)


@dataclass(frozen=True, eq=False)
class ParametricRelu(Component):
    """``y = alpha x`` where ``x > 0``, else ``beta x``; both ``(O,)``. A ReLU has slopes 1 and 0, rates 0."""

    tag: ClassVar[str] = "ParametricRelu"
    alpha: NDArray[np.float32]
    beta: NDArray[np.float32]
    alpha_learn_rate: float = 0.0
    beta_learn_rate: float = 0.0

    def __post_init__(self) -> None:
        check_axes(self.tag, "alpha", self.alpha, (None,))
        check_axes(self.tag, "beta", self.beta, (self.output_dim,))
        super().__post_init__()

    def _dims(self) -> tuple[int, int]:
        return int(self.alpha.size), int(self.alpha.size)

    @property
    def is_relu(self) -> bool:
        """Whether this is a plain ReLU that training does not change."""
        return bool(
            (self.alpha == 1).all()
            and (self.beta == 0).all()
            and not self.alpha_learn_rate
            and not self.beta_learn_rate
        )


@dataclass(frozen=True, eq=False)
class Splice(Component):
    """The frames at some offsets side by side; at the ends of an utterance its edge frame is repeated."""

    tag: ClassVar[str] = "Splice"
    inputs: int
    offsets: tuple[int, ...]

    def _dims(self) -> tuple[int, int]:
        return self.inputs, self.inputs * len(self.offsets)


@dataclass(frozen=True, eq=False)
class Copy(Component):
    """Some of the inputs, in any order; ``indices`` count from 0 here and from 1 in the file."""

    tag: ClassVar[str] = "Copy"
    inputs: int
    indices: tuple[int, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        if not all(0 <= index < self.inputs for index in self.indices):
            raise DataError(f"<{self.tag}>: an index is outside the {self.inputs} inputs (the file counts from 1)")

    def _dims(self) -> tuple[int, int]:
        return self.inputs, len(self.indices)


@dataclass(frozen=True, eq=False)
class _Elementwise(Component):
    values: NDArray[np.float32]
    learn_rate: float = 1.0

    def __post_init__(self) -> None:
        check_axes(self.tag, "vector", self.values, (None,))
        super().__post_init__()

    def _dims(self) -> tuple[int, int]:
        return int(self.values.size), int(self.values.size)


@dataclass(frozen=True, eq=False)
class AddShift(_Elementwise):
    """``y = x + values``."""

    tag: ClassVar[str] = "AddShift"


@dataclass(frozen=True, eq=False)
class Rescale(_Elementwise):
    """``y = x * values``."""

    tag: ClassVar[str] = "Rescale"


KNOWN_TAGS: dict[str, type[Component]] = {
    kind.tag.lower(): kind
    for kind in (
        AffineTransform, LinearTransform, Sigmoid, Tanh, Softmax, HiddenSoftmax, LengthNormComponent,
        BlockSoftmax, ParametricRelu, Dropout, Splice, Copy, AddShift, Rescale, Relu, Linear, Maxout,
    )
}  # fmt: skip

NOT_RUN: dict[str, str] = {
    name.lower(): name
    for name in (
        "Convolutional2DComponent", "MaxPooling2DComponent", "AveragePooling2DComponent",
    )
}  # fmt: skip
"""Components that Kaldi has and that are not read here, by their names in lower case."""
