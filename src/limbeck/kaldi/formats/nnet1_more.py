"""The components of nnet1 beyond plain feed-forward ones: all of them, and the tags of every component that is read."""

__all__ = [
    "ALL_TAGS",
    "LSTM_ARRAYS",
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
]

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from limbeck.kaldi.formats.nnet1_components import KNOWN_TAGS, Component, check_axes
from limbeck.kaldi.formats.nnet1_layout import Item, More
from limbeck.kaldi.formats.nnet1_nested import (
    MultiBasis,
    Parallel,
    SentenceAveraging,
    SimpleSentenceAveraging,
    whole_in,
)
from limbeck.kaldi.formats.nnet1_pools import AveragePooling, Convolutional, FramePooling, MaxPooling, Pooling
from limbeck.kaldi.formats.nnet1_recurrent import LSTM_ARRAYS, BlstmProjected, LstmProjected, Recurrent


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
