"""Components of nnet1 that hold networks, or take means over the utterance, as records."""

__all__ = ["MultiBasis", "Parallel", "SentenceAveraging", "SimpleSentenceAveraging", "whole_in"]

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from limbeck.kaldi.formats.nnet1_components import Component
from limbeck.kaldi.formats.nnet1_layout import Item, More, Parts


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
