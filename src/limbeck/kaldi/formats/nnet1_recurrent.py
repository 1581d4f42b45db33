"""Recurrent components of nnet1 as records. Axes: ``I`` inputs, ``O`` outputs, ``C`` cells."""

__all__ = ["LSTM_ARRAYS", "BlstmProjected", "LstmProjected", "Recurrent"]

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from limbeck.kaldi.formats.nnet1_components import check_axes
from limbeck.kaldi.formats.nnet1_layout import RATES, Item, More

_LSTM = (
    Item("numbers", numbers=(("<CellDim>", "i", "cells"), *RATES, ("<CellClip>", "f", "cell_clip"),
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
        Item("numbers", numbers=(("<GradClip>", "f", "grad_clip"), ("<DiffClip>", "f", "diff_clip"), *RATES)),
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
