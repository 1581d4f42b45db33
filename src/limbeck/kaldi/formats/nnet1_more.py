"""The components of nnet1 beyond plain feed-forward ones: convolution, pooling, recurrence, averages, nested networks.

Each class says by ``layout`` how its data stand in a file, in order. Axes: ``I`` inputs, ``O`` outputs, ``C`` cells.
"""

__all__ = [
    "ALL_TAGS",
    "AveragePooling",
    "BlstmProjected",
    "Convolutional",
    "FramePooling",
    "Item",
    "KlHmm",
    "LstmProjected",
    "MaxPooling",
    "More",
    "MultiBasis",
    "Parallel",
    "Pooling",
    "Rbm",
    "Recurrent",
    "SentenceAveraging",
    "SimpleSentenceAveraging",
    "whole_in",
]  # fmt: skip

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import DataError
from limbeck.kaldi.formats.nnet1_components import KNOWN_TAGS, Component, check_axes

Parts = tuple[Component, ...]


class Item(NamedTuple):
    """A piece of a component's data.

    Attributes:
        kind: "numbers" (tags with a number each, in any order), "line" (a new line in text), "tag" (alone), "M" a
            matrix, "V" a vector, "W" a word, "I" integers, "vectors" (one for each of ``times``), "net" a network,
            "nets" several, each after ``tag`` and its number.
        field: The field it fills.
        tag: Before it, or "".
        numbers: Of "numbers": tags with "i", "f" or "b" and the field.
        times: The field, or tag, that says how many there are.
    """

    kind: str
    field: str = ""
    tag: str = ""
    numbers: tuple[tuple[str, str, str], ...] = ()
    times: str = ""


@dataclass(frozen=True, eq=False)
class More(Component):
    """A component whose data are laid out as ``layout`` says."""

    layout: ClassVar[tuple[Item, ...]] = ()
    aliases: ClassVar[dict[str, str]] = {}
    whole: ClassVar[bool] = False
    """Whether a frame's output depends on others of its utterance."""
    dtype: ClassVar[Any] = np.float32

    def __post_init__(self) -> None:
        for array in self.arrays():
            if not np.isfinite(array).all():
                raise DataError(f"<{self.tag}> holds a weight that is NaN or infinite")
        for parts in self.nested():
            for left, right in zip(parts, parts[1:], strict=False):
                if left.output_dim != right.input_dim:
                    raise DataError(
                        f"<{self.tag}>: <{left.tag}> has {left.output_dim} outputs, and <{right.tag}> after it "
                        f"{right.input_dim} inputs"
                    )

    def nested(self) -> tuple[Parts, ...]:
        """Networks inside, each of its components."""
        return ()

    def arrays(self) -> tuple[NDArray[np.float32], ...]:
        """The arrays, those of nested networks too."""
        mine: list[NDArray[np.float32]] = []
        for field in fields(self):
            value = getattr(self, field.name)
            values = value if isinstance(value, tuple) else (value,)
            mine += [each for each in values if isinstance(each, np.ndarray)]
        return (*mine, *(array for parts in self.nested() for part in parts for array in part.arrays()))

    def _require(self, right: bool, what: str) -> None:
        if not right:
            raise DataError(f"<{self.tag}>: {what}")


_RATES = (("<LearnRateCoef>", "f", "learn_rate"), ("<BiasLearnRateCoef>", "f", "bias_learn_rate"))


@dataclass(frozen=True, eq=False)
class Convolutional(More):
    """Filters over patches of the frequency axis; outputs patch by patch, all filters of each."""

    tag: ClassVar[str] = "ConvolutionalComponent"
    layout: ClassVar[tuple[Item, ...]] = (
        Item("numbers", numbers=(("<PatchDim>", "i", "patch_dim"), ("<PatchStep>", "i", "patch_step"),
                                 ("<PatchStride>", "i", "patch_stride"))),
        Item("line"),
        Item("numbers", numbers=(*_RATES, ("<MaxNorm>", "f", "max_norm"))),
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


_LSTM = (
    Item("numbers", numbers=(("<CellDim>", "i", "cells"), *_RATES, ("<CellClip>", "f", "cell_clip"),
                             ("<DiffClip>", "f", "diff_clip"), ("<CellDiffClip>", "f", "cell_diff_clip"),
                             ("<GradClip>", "f", "grad_clip"))),
    Item("line"),
)  # fmt: skip
LSTM_ARRAYS = (("M", "weight_in"), ("M", "weight_back"), ("V", "bias"), ("V", "peep_i"), ("V", "peep_f"),
                ("V", "peep_o"), ("M", "weight_out"))  # fmt: skip


@dataclass(frozen=True, eq=False)
class LstmProjected(More):
    """An LSTM with peepholes whose output is projected; rows of its weights are cell input, and gates i, f, o."""

    tag: ClassVar[str] = "LstmProjected"
    whole: ClassVar[bool] = True
    aliases: ClassVar[dict[str, str]] = {"<ClipGradient>": "<GradClip>"}
    layout: ClassVar[tuple[Item, ...]] = (*_LSTM, *(Item(kind, name) for kind, name in LSTM_ARRAYS))
    inputs: int
    outputs: int
    cells: int
    weight_in: NDArray[np.float32]
    weight_back: NDArray[np.float32]
    bias: NDArray[np.float32]
    peep_i: NDArray[np.float32]
    peep_f: NDArray[np.float32]
    peep_o: NDArray[np.float32]
    weight_out: NDArray[np.float32]
    learn_rate: float = 1.0
    bias_learn_rate: float = 1.0
    cell_clip: float = 50.0
    diff_clip: float = 1.0
    cell_diff_clip: float = 0.0
    grad_clip: float = 250.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_lstm(self, "", self.outputs)

    def _dims(self) -> tuple[int, int]:
        return self.inputs, self.outputs


def _check_lstm(part: Any, suffix: str, outputs: int) -> None:
    cells, inputs = part.cells, part.inputs
    shapes = {"weight_in": (4 * cells, inputs), "weight_back": (4 * cells, outputs), "bias": (4 * cells,),
              "peep_i": (cells,), "peep_f": (cells,), "peep_o": (cells,), "weight_out": (outputs, cells)}  # fmt: skip
    for name, shape in shapes.items():
        check_axes(part.tag, name, getattr(part, name + suffix), shape)


@dataclass(frozen=True, eq=False)
class BlstmProjected(More):
    """An LSTM over time and another back, their outputs side by side."""

    tag: ClassVar[str] = "BlstmProjected"
    whole: ClassVar[bool] = True
    aliases: ClassVar[dict[str, str]] = {"<ClipGradient>": "<GradClip>"}
    layout: ClassVar[tuple[Item, ...]] = (
        *_LSTM, *(Item(kind, name) for kind, name in LSTM_ARRAYS), Item("line"),
        *(Item(kind, f"{name}_late") for kind, name in LSTM_ARRAYS),
    )  # fmt: skip
    inputs: int
    outputs: int
    cells: int
    weight_in: NDArray[np.float32]
    weight_back: NDArray[np.float32]
    bias: NDArray[np.float32]
    peep_i: NDArray[np.float32]
    peep_f: NDArray[np.float32]
    peep_o: NDArray[np.float32]
    weight_out: NDArray[np.float32]
    weight_in_late: NDArray[np.float32]
    weight_back_late: NDArray[np.float32]
    bias_late: NDArray[np.float32]
    peep_i_late: NDArray[np.float32]
    peep_f_late: NDArray[np.float32]
    peep_o_late: NDArray[np.float32]
    weight_out_late: NDArray[np.float32]
    learn_rate: float = 1.0
    bias_learn_rate: float = 1.0
    cell_clip: float = 50.0
    diff_clip: float = 1.0
    cell_diff_clip: float = 0.0
    grad_clip: float = 250.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require(self.outputs % 2 == 0, f"{self.outputs} outputs are not two halves")
        for suffix in ("", "_late"):
            _check_lstm(self, suffix, self.outputs // 2)

    def _dims(self) -> tuple[int, int]:
        return self.inputs, self.outputs


@dataclass(frozen=True, eq=False)
class Recurrent(More):
    """``h(t) = tanh(W x(t) + U h(t - 1) + b)``."""

    tag: ClassVar[str] = "RecurrentComponent"
    whole: ClassVar[bool] = True
    layout: ClassVar[tuple[Item, ...]] = (
        Item("numbers", numbers=(("<GradClip>", "f", "grad_clip"), ("<DiffClip>", "f", "diff_clip"), *_RATES)),
        Item("line"), Item("M", "weight_in"), Item("M", "weight_back"), Item("V", "bias"),
    )  # fmt: skip
    weight_in: NDArray[np.float32]
    weight_back: NDArray[np.float32]
    bias: NDArray[np.float32]
    grad_clip: float = 0.0
    diff_clip: float = 0.0
    learn_rate: float = 1.0
    bias_learn_rate: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_axes(self.tag, "input weight", self.weight_in, (None, None))
        check_axes(self.tag, "recurrent weight", self.weight_back, (self.output_dim, self.output_dim))
        check_axes(self.tag, "bias", self.bias, (self.output_dim,))

    def _dims(self) -> tuple[int, int]:
        return int(self.weight_in.shape[1]), int(self.weight_in.shape[0])


@dataclass(frozen=True, eq=False)
class Rbm(More):
    """A restricted Boltzmann machine: ``W x + b``, behind a sigmoid where the hidden units are of "bern" kind."""

    tag: ClassVar[str] = "Rbm"
    layout: ClassVar[tuple[Item, ...]] = (
        Item("W", "visible"), Item("W", "hidden"), Item("M", "weight"), Item("V", "visible_bias"),
        Item("V", "hidden_bias"),
    )  # fmt: skip
    visible: str
    hidden: str
    weight: NDArray[np.float32]
    visible_bias: NDArray[np.float32]
    hidden_bias: NDArray[np.float32]

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require({self.visible, self.hidden} <= {"bern", "gauss"}, "units are bern or gauss")
        check_axes(self.tag, "weight", self.weight, (None, None))
        check_axes(self.tag, "visible bias", self.visible_bias, (self.input_dim,))
        check_axes(self.tag, "hidden bias", self.hidden_bias, (self.output_dim,))

    def _dims(self) -> tuple[int, int]:
        return int(self.weight.shape[1]), int(self.weight.shape[0])


@dataclass(frozen=True, eq=False)
class KlHmm(More):
    """Minus the divergence of posteriors from those of each state, whose statistics are float64 ``(states, I)``."""

    tag: ClassVar[str] = "KlHmm"
    dtype: ClassVar[Any] = np.float64
    layout: ClassVar[tuple[Item, ...]] = (Item("M", "statistics"),)
    statistics: NDArray[np.float64]

    def __post_init__(self) -> None:
        super().__post_init__()
        check_axes(self.tag, "statistics", self.statistics, (None, None))
        self._require(bool((self.statistics >= 0).all()), "statistics are below 0")

    def _dims(self) -> tuple[int, int]:
        return int(self.statistics.shape[1]), int(self.statistics.shape[0])


@dataclass(frozen=True, eq=False)
class Parallel(More):
    """Networks side by side, each with its own columns."""

    tag: ClassVar[str] = "ParallelComponent"
    whole: ClassVar[bool] = True
    layout: ClassVar[tuple[Item, ...]] = (
        Item("nets", "networks", tag="<NestedNnet>", times="<NestedNnetCount>"),
        Item("tag", tag="</ParallelComponent>"),
    )  # fmt: skip
    networks: tuple[Parts, ...]

    def nested(self) -> tuple[Parts, ...]:
        """Networks inside."""
        return self.networks

    def _dims(self) -> tuple[int, int]:
        return sum(n[0].input_dim for n in self.networks), sum(n[-1].output_dim for n in self.networks)


@dataclass(frozen=True, eq=False)
class MultiBasis(More):
    """Networks summed with the posteriors of a selector, whose inputs are the last columns."""

    tag: ClassVar[str] = "MultiBasisComponent"
    whole: ClassVar[bool] = True
    layout: ClassVar[tuple[Item, ...]] = (
        Item("numbers", numbers=(("<SelectorLearnRateCoef>", "f", "selector_learn_rate"),)),
        Item("line"), Item("line"), Item("tag", tag="<Selector>"), Item("line"), Item("net", "selector"), Item("line"),
        Item("nets", "bases", tag="<Basis>", times="<NumBasis>"),
    )  # fmt: skip
    selector: Parts
    bases: tuple[Parts, ...]
    selector_learn_rate: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        dims = {(basis[0].input_dim, basis[-1].output_dim) for basis in self.bases}
        self._require(len(dims) == 1, "bases have different dimensions")
        self._require(self.selector[-1].output_dim == len(self.bases), "the selector has not one output for each basis")

    def nested(self) -> tuple[Parts, ...]:
        """Networks inside."""
        return (self.selector, *self.bases)

    def _dims(self) -> tuple[int, int]:
        return self.bases[0][0].input_dim + self.selector[0].input_dim, self.bases[0][-1].output_dim


@dataclass(frozen=True, eq=False)
class SentenceAveraging(More):
    """The mean of a network's outputs over the utterance, before each frame itself."""

    tag: ClassVar[str] = "SentenceAveragingComponent"
    whole: ClassVar[bool] = True
    layout: ClassVar[tuple[Item, ...]] = (Item("net", "network"),)
    network: Parts

    def nested(self) -> tuple[Parts, ...]:
        """Networks inside."""
        return (self.network,)

    def _dims(self) -> tuple[int, int]:
        return self.network[0].input_dim, self.network[-1].output_dim + self.network[0].input_dim


@dataclass(frozen=True, eq=False)
class SimpleSentenceAveraging(More):
    """The mean of all frames, or their sum, in the place of each."""

    tag: ClassVar[str] = "SimpleSentenceAveragingComponent"
    whole: ClassVar[bool] = True
    layout: ClassVar[tuple[Item, ...]] = (
        Item("numbers", numbers=(("<GradientBoost>", "f", "gradient_boost"), ("<Shrinkage>", "f", "shrinkage"),
                                 ("<OnlySumming>", "b", "only_summing"))),
    )  # fmt: skip
    inputs: int
    outputs: int
    gradient_boost: float = 100.0
    shrinkage: float = 0.0
    only_summing: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require(self.inputs == self.outputs, "it has as many outputs as inputs")

    def _dims(self) -> tuple[int, int]:
        return self.inputs, self.inputs


def whole_in(parts: Parts) -> Iterator[Component]:
    """Components, at any depth, for which the frames of one utterance go together."""
    for part in parts:
        if part.tag == "Splice" or getattr(part, "whole", False):
            yield part


_MORE: dict[str, type[Component]] = {
    kind.tag.lower(): kind
    for kind in (
        Convolutional, MaxPooling, AveragePooling, FramePooling, LstmProjected, BlstmProjected, Recurrent, Rbm, KlHmm,
        Parallel, MultiBasis, SentenceAveraging, SimpleSentenceAveraging,
    )
}  # fmt: skip
ALL_TAGS: dict[str, type[Component]] = {
    **KNOWN_TAGS,
    **_MORE,
    "lstmprojectedstreams": LstmProjected,
    "blstmprojectedstreams": BlstmProjected,
}
"""Every component that is read, by its tag in lower case."""
