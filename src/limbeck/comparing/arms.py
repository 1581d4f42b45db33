"""The arms of a comparison, and the settings that their searches draw.

All arms draw as many settings, by one rule, and the same learning rates, so that none is searched more than another.
"""

__all__ = ["LONGER", "Arm", "Settings", "arms_for"]

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from limbeck.methods import method_class
from limbeck.options import Distillation, Training
from limbeck.options.methods import has_temperature, method_parts

LONGER = 2
"""How many times as many epochs the arm "labels longer" has."""
_RATES = (1 / 3, 3.0)
"""Learning rates are drawn between these multiples of the given one."""
_WEIGHTS = (1 / 4, 4.0)
"""Weights of a method are drawn between these multiples of its authors'."""
_TEMPERATURES = (1.0, 8.0)
_SMOOTHINGS = (0.02, 0.3)
_HARD_WEIGHTS = (0.0, 0.9)


@dataclass(frozen=True)
class Settings:
    """How one training is made.

    Attributes:
        learning_rate: The largest learning rate.
        epochs: How many.
        label_smoothing: Share of a hard label's mass spread over all classes.
        hard_weight: Weight of the true labels; 1 for labels alone.
        temperature: T, where the method has one.
        options: The method's options by name, but for its temperature.
    """

    learning_rate: float
    epochs: int
    label_smoothing: float = 0.0
    hard_weight: float = 1.0
    temperature: float | None = None
    options: tuple[tuple[str, float], ...] = ()

    def words(self) -> str:
        """The settings as a table shows them."""
        parts = [f"rate {self.learning_rate:.2g}"]
        if self.label_smoothing:
            parts.append(f"smoothing {self.label_smoothing:.2g}")
        if self.temperature is not None:
            parts.append(f"T {self.temperature:.2g}")
        if self.hard_weight < 1:
            parts.append(f"labels {self.hard_weight:.2g}")
        return ", ".join(parts + [f"{name} {value:.3g}" for name, value in self.options])


@dataclass(frozen=True)
class Arm:
    """One row of the table.

    Attributes:
        name: Of the row, and of its folder.
        method: What the student learns from the teacher; None for labels alone.
        smoothed: Whether label smoothing is searched.
        epochs_factor: How many times as many epochs it has as the others.
    """

    name: str
    method: str | None = None
    smoothed: bool = False
    epochs_factor: int = 1

    def first(self, training: Training) -> Settings:
        """The defaults, which are tried first."""
        plain = Settings(training.peak_learning_rate, self.epochs_factor * training.epochs)
        if self.method is None:
            return dataclasses.replace(plain, label_smoothing=0.1 if self.smoothed else training.label_smoothing)
        usual = Distillation()
        return dataclasses.replace(
            plain,
            label_smoothing=training.label_smoothing,
            hard_weight=usual.hard_weight,
            temperature=usual.temperature if has_temperature(self.method) else None,
            options=tuple(weights_of(self.method).items()),
        )

    def draw(self, training: Training, count: int, seed: int) -> list[Settings]:
        """Settings to try: the defaults, and points of a Latin hypercube.

        Args:
            training: The settings that all arms have in common.
            count: How many.
            seed: Of the points; the learning rates are the same in all arms.

        Returns:
            As many settings.

        Example:
            >>> found = Arm("kd", "kd").draw(Training(epochs=3, learning_rate=0.01), 4, seed=0)
            >>> found[0].words(), len(found)
            ('rate 0.01, T 4, labels 0.1', 4)
            >>> other = Arm("labels").draw(Training(epochs=3, learning_rate=0.01), 4, seed=0)
            >>> [a.learning_rate == b.learning_rate for a, b in zip(found, other)]
            [True, True, True, True]
        """
        start = self.first(training)
        rates = _points(1, count - 1, seed)[:, 0]
        rest = _points(3 + len(start.options), count - 1, seed + 1)
        return [start] + [self._at(start, float(rate), list(map(float, row))) for rate, row in zip(rates, rest)]  # noqa: B905

    def _at(self, start: Settings, rate: float, row: Sequence[float]) -> Settings:
        found = dataclasses.replace(start, learning_rate=start.learning_rate * _between(_RATES, rate))
        if self.smoothed:
            found = dataclasses.replace(found, label_smoothing=_between(_SMOOTHINGS, row[0]))
        if self.method is None:
            return found
        low, high = _HARD_WEIGHTS
        return dataclasses.replace(
            found,
            hard_weight=low + (high - low) * row[1],
            temperature=None if start.temperature is None else _between(_TEMPERATURES, row[2]),
            options=tuple(
                (name, value * _between(_WEIGHTS, at)) for (name, value), at in zip(start.options, row[3:], strict=True)
            ),
        )


def arms_for(methods: Sequence[str]) -> list[Arm]:
    """The arms of a comparison: three on labels, then the methods.

    Args:
        methods: As ``--method`` takes them.

    Returns:
        The arms; the first is what all others are compared with.

    Example:
        >>> [arm.name for arm in arms_for(["kd"])]
        ['labels', 'labels smoothed', 'labels longer', 'kd']
    """
    return [
        Arm("labels"),
        Arm("labels smoothed", smoothed=True),
        Arm("labels longer", epochs_factor=LONGER),
        *(Arm(method, method) for method in methods),
    ]


def weights_of(method: str) -> dict[str, float]:
    """A method's options that are searched: the weights that it declares ranges for, at their defaults.

    Args:
        method: As ``--method`` takes it.

    Returns:
        Defaults by the names that ``--method-options`` takes.

    Example:
        >>> weights_of("dkd"), weights_of("kd+dkd:0.5")
        ({'alpha': 1.0, 'beta': 8.0}, {'dkd.alpha': 1.0, 'dkd.beta': 8.0})
    """
    parts = method_parts(method)
    found: dict[str, float] = {}
    for part in parts:
        if ":" in part.name:  # user code: its options are unknown
            continue
        kind = method_class(part.name)
        weights = {name for name, limits in kind.ranges.items() if limits.log}
        for name, value in kind.option_defaults().items():
            if name in weights and 0 < value < math.inf:
                found[name if len(parts) == 1 else f"{part.name}.{name}"] = value
    return found


def _between(limits: tuple[float, float], share: float) -> float:
    """The number at a share of a range, by its logarithm."""
    low, high = limits
    return float(low * (high / low) ** share)


def _points(dimensions: int, count: int, seed: int) -> NDArray[np.float64]:
    """Points of a Latin hypercube, ``(count, dimensions)``: in each dimension one in every ``count``-th part."""
    chance = np.random.default_rng(seed)
    parts = chance.permuted(np.tile(np.arange(count), (dimensions, 1)), axis=1).T
    return (parts + chance.random((count, dimensions))) / count
