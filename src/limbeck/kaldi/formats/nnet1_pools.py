"""Convolution and pooling over frequency, and pooling of spliced frames, as records of nnet1. Axes: ``I`` inputs."""

__all__ = ["AveragePooling", "Convolutional", "FramePooling", "MaxPooling", "Pooling"]

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from limbeck.kaldi.formats.nnet1_components import check_axes
from limbeck.kaldi.formats.nnet1_layout import RATES, Item, More


@dataclass(frozen=True, eq=False)
class Convolutional(More):
    """Filters over patches of the frequency axis; outputs patch by patch, all filters of each."""

    tag: ClassVar[str] = "ConvolutionalComponent"
    layout: ClassVar[tuple[Item, ...]] = (
        Item("numbers", numbers=(("<PatchDim>", "i", "patch_dim"), ("<PatchStep>", "i", "patch_step"),
                                 ("<PatchStride>", "i", "patch_stride"))),
        Item("line"),
        Item("numbers", numbers=(*RATES, ("<MaxNorm>", "f", "max_norm"))),
        Item("line"), Item("tag", tag="<Filters>"), Item("line"), Item("M", "filters"),
        Item("tag", tag="<Bias>"), Item("line"), Item("V", "bias"),
    )  # fmt: skip
    inputs: int
    outputs: int
    patch_dim: int
    patch_step: int
    patch_stride: int
    filters: NDArray[np.float32]
    bias: NDArray[np.float32]
    learn_rate: float = 1.0
    bias_learn_rate: float = 1.0
    max_norm: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require(1 <= self.patch_dim <= self.patch_stride <= self.inputs and self.patch_step >= 1,
                      f"patches of {self.patch_dim} in {self.patch_stride} of {self.inputs} inputs")  # fmt: skip
        self._require(self.inputs % self.patch_stride == 0, "inputs are not a multiple of the patch stride")
        self._require((self.patch_stride - self.patch_dim) % self.patch_step == 0, "patches do not fill the stride")
        check_axes(self.tag, "filters", self.filters, (None, self.splice * self.patch_dim))
        check_axes(self.tag, "bias", self.bias, (len(self.filters),))

    @property
    def splice(self) -> int:
        """Blocks of the input, a spliced frame each."""
        return self.inputs // self.patch_stride

    @property
    def patches(self) -> int:
        """How many patches there are."""
        return 1 + (self.patch_stride - self.patch_dim) // self.patch_step

    def _dims(self) -> tuple[int, int]:
        return self.inputs, len(self.filters) * self.patches


@dataclass(frozen=True, eq=False)
class Pooling(More):
    """Neighbouring patches made one, by column; pools may overlap."""

    layout: ClassVar[tuple[Item, ...]] = (
        Item("numbers", numbers=(("<PoolSize>", "i", "pool_size"), ("<PoolStep>", "i", "pool_step"),
                                 ("<PoolStride>", "i", "pool_stride"))),
    )  # fmt: skip
    inputs: int
    outputs: int
    pool_size: int
    pool_step: int
    pool_stride: int

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require(min(self.pool_size, self.pool_step, self.pool_stride) >= 1, "sizes of pools must be positive")
        self._require(self.inputs % self.pool_stride == 0, "inputs are not a multiple of the pool stride")
        left = self.inputs // self.pool_stride - self.pool_size
        self._require(left >= 0 and left % self.pool_step == 0, "pools do not fill the patches")

    @property
    def pools(self) -> int:
        """How many pools there are."""
        return 1 + (self.inputs // self.pool_stride - self.pool_size) // self.pool_step

    def _dims(self) -> tuple[int, int]:
        return self.inputs, self.pools * self.pool_stride


@dataclass(frozen=True, eq=False)
class MaxPooling(Pooling):
    """The largest of each pool."""

    tag: ClassVar[str] = "MaxPoolingComponent"


@dataclass(frozen=True, eq=False)
class AveragePooling(Pooling):
    """The mean of each pool."""

    tag: ClassVar[str] = "AveragePoolingComponent"


@dataclass(frozen=True, eq=False)
class FramePooling(More):
    """Weighted sums of spliced frames; each pool begins at an offset from the leftmost of them."""

    tag: ClassVar[str] = "FramePoolingComponent"
    layout: ClassVar[tuple[Item, ...]] = (
        Item("numbers", numbers=(("<FeatureDim>", "i", "feature_dim"), ("<LearnRateCoef>", "f", "learn_rate"),
                                 ("<Normalize>", "b", "normalize"))),
        Item("I", "offsets", tag="<FrameOffset>"),
        Item("tag", tag="<FrameWeight>"), Item("vectors", "weights", times="offsets"),
    )  # fmt: skip
    inputs: int
    outputs: int
    feature_dim: int
    offsets: tuple[int, ...]
    weights: tuple[NDArray[np.float32], ...]
    learn_rate: float = 0.01
    normalize: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require(self.feature_dim >= 1 and self.inputs % self.feature_dim == 0, "inputs are not whole frames")
        frames = self.inputs // self.feature_dim
        for offset, weight in zip(self.offsets, self.weights, strict=True):
            self._require(0 <= offset and 1 <= weight.size <= frames - offset, "a pool reaches beyond the frames")

    def _dims(self) -> tuple[int, int]:
        return self.inputs, self.feature_dim * len(self.offsets)
