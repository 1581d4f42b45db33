"""Shared by the nnet1 components beyond plain feed-forward ones: file layout, and nested networks.

Each class says by ``layout`` how its data stand in a file, in order.
"""

__all__ = ["RATES", "Item", "More", "Parts"]

from dataclasses import dataclass, fields
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import DataError
from limbeck.kaldi.formats.nnet1_components import Component

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


RATES = (("<LearnRateCoef>", "f", "learn_rate"), ("<BiasLearnRateCoef>", "f", "bias_learn_rate"))
