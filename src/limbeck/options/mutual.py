"""Settings of deep mutual learning."""

__all__ = ["Mutual", "Order"]

import math
from dataclasses import dataclass
from typing import Literal

from limbeck.options.checks import check_types, require

Order = Literal["together", "in turn"]


@dataclass(frozen=True, kw_only=True)
class Mutual:
    """Settings of deep mutual learning.

    Attributes:
        students: Number of students; the verdict is on the first.
        order: "together": all students are updated from the same outputs; or "in turn": on each batch one after the
            other is updated, and learns from the updated outputs of those before it.
        temperature: Temperature T of the outputs that they learn from each other; the paper's is 1.
        hard_weight: Weight of the hard labels, above 0 and below 1; the peers' outputs have the rest. 0.5 as in the
            paper.
    """

    students: int = 2
    order: Order = "together"
    temperature: float = 1.0
    hard_weight: float = 0.5

    def __post_init__(self) -> None:
        check_types(self)
        require(2 <= self.students <= 64, "students", self.students, "from 2 to 64")
        require(self.order in {"together", "in turn"}, "order", repr(self.order), "together or 'in turn'")
        require(0 < self.temperature < math.inf, "temperature", self.temperature, "positive and finite")
        require(0 < self.hard_weight < 1, "hard_weight", self.hard_weight, "above 0 and below 1")
