"""Weighted sums of methods.

Axes: ``N`` examples, ``K`` classes.
"""

__all__ = ["Sum"]

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from limbeck.errors import ConfigError
from limbeck.methods.base import Method
from limbeck.protocols import Batch, Output


class Sum(Method):
    r"""A weighted sum :math:`\sum_m w_m \ell^{(m)}_n` of methods; its gradient is the sum of theirs.

    The teacher is asked at the temperature that all parts work at; where they differ, at T = 1, from which each
    softens for itself.

    Args:
        parts: At least one method.
        weights: One positive number per method.
        names: Name of each, for the fingerprint; None for the class names.

    Raises:
        ConfigError: If a part has several phases.

    Example:
        >>> from limbeck.methods.kd import KD
        >>> from limbeck.methods.logits import LogitMatching
        >>> both = Sum([KD(temperature=4.0), LogitMatching()], [1.0, 0.5])
        >>> both.needs_logits, both.temperature
        (True, 1.0)
    """

    def __init__(self, parts: Sequence[Method], weights: Sequence[float], names: Sequence[str] | None = None) -> None:
        super().__init__()
        for part in parts:
            if part.phases > 1:
                raise ConfigError(
                    f"method {part.name} in {part.phases} stages says for each alone what is learnt: name it alone, "
                    "without others and without a weight"
                )
        self.parts, self.weights = (
            nn.ModuleList(parts),
            tuple(map(float, weights)),
        )  # registered as submodules, so that they move with it
        self.names = tuple(names or (type(part).__name__ for part in parts))
        asked = {part.temperature for part in parts if part.reads_logits}
        self.temperature = asked.pop() if len(asked) == 1 else 1.0
        self.needs_logits = bool(asked) or any(part.needs_logits for part in parts)
        for name in ("coupled", "needs_every_class", "needs_labels", "reads_logits", "reads_features"):
            setattr(self, name, any(getattr(part, name) for part in parts))
        for name in ("shift_invariant", "takes_samples"):
            setattr(self, name, all(getattr(part, name) for part in parts))
        self.name = "+".join(self.names)
        self._gather_taps()

    @property
    def members(self) -> list[tuple[float, Method]]:
        """Each method with its weight."""
        return [(weight, cast(Method, part)) for weight, part in zip(self.weights, self.parts, strict=True)]

    def forward(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        """The value of each example, ``(N,)``."""
        return torch.stack([weight * part(student, teacher, batch) for weight, part in self.members]).sum(0)

    def reference_gradient(self, student: Output, teacher: Output, batch: Batch) -> Output | None:
        """The sum of the parts' gradients; None where one has no formula."""
        logits = torch.zeros_like(student.logits)
        features: dict[str, Tensor] = {}
        for weight, part in self.members:
            found = part.reference_gradient(student, teacher, batch)
            if found is None:
                return None
            logits = logits + weight * found.logits
            for name, slope in found.features.items():
                features[name] = features.get(name, torch.zeros_like(slope)) + weight * slope
        return Output(logits, features)

    def known_gradient(self, logits: Tensor, batch: Batch) -> tuple[Tensor, Tensor] | None:
        """The sum of the parts' gradients, where all know theirs at the same student."""
        total, place = torch.zeros_like(logits), None
        for weight, part in self.members:
            if not part.reads_logits:
                continue
            found = part.known_gradient(logits, batch)
            if found is None or (place is not None and not torch.equal(found[0], place)):
                return None
            place, total = found[0], total + weight * found[1]
        return None if place is None else (place, total)

    def rounding(
        self, student: Output, teacher: Output, batch: Batch, unit: float, moved: float
    ) -> tuple[Tensor, Tensor] | None:
        """The sum of the parts' bounds; None where one has none."""
        value, gradient = student.logits.new_zeros(student.logits.shape[:1]), torch.zeros_like(student.logits)
        for weight, part in self.members:
            found = part.rounding(student, teacher, batch, unit, moved)
            if found is None:
                return None
            value, gradient = value + weight * found[0], gradient + weight * found[1]
        return value, gradient

    def require(self, classes: int) -> None:
        """Refuse what any part refuses."""
        for _, part in self.members:
            part.require(classes)

    def find_taps(self, stages: list[str], others: list[str]) -> None:
        """Let each part choose its layers."""
        for _, part in self.members:
            part.find_taps(stages, others)
        self._gather_taps()

    def _gather_taps(self) -> None:
        """Names of all submodules that are read, each once."""
        parts = [part for _, part in self.members]
        self.student_taps = tuple(dict.fromkeys(name for part in parts for name in part.student_taps))
        self.teacher_taps = tuple(dict.fromkeys(name for part in parts for name in part.teacher_taps))

    def prepare(self, student: Output, teacher: Output) -> None:
        """Let each part make its parameters."""
        for _, part in self.members:
            part.prepare(student, teacher)

    @property
    def options(self) -> dict[str, Any]:
        """The weight and the options of each part, by its name."""
        return {
            name: {"weight": weight, **part.options}
            for name, (weight, part) in zip(self.names, self.members, strict=True)
        }

    def fingerprint(self) -> dict[str, Any]:
        """The values that a resumed run must match."""
        parts = [
            [name, weight, part.fingerprint()] for name, (weight, part) in zip(self.names, self.members, strict=True)
        ]
        return {"method": "sum", "parts": parts}
