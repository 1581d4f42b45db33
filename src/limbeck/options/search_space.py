"""What a search goes through: ranges to draw from, or lists whose every combination is tried.

Nothing here imports torch or Optuna, so that ``limbeck --help`` is quick.
"""

__all__ = ["Axis", "Search", "Values", "baseline_axes", "combinations", "counts", "option_texts", "options_of"]

import dataclasses
import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from limbeck.errors import ConfigError
from limbeck.options.checks import check_types
from limbeck.options.methods import has_temperature, method_parts, option_table

Values = dict[str, Any]
"""Settings of a trial by name; where scores are matched there is no temperature."""


@dataclass(frozen=True)
class Axis:
    """One setting that is searched.

    Attributes:
        name: The setting, as flags and TOML have it: "method", "temperature", "hard_weight", "learning_rate" or
            "epochs"; of a method's own option METHOD.OPTION, such as "dkd.beta".
        values: The lowest and the highest value; in a grid every value, rising; names to choose from; one value alone
            is fixed.
        scale: How values lie in a range: "log", "linear" or "whole" for whole numbers; "choice" for names.
    """

    name: str
    values: tuple[Any, ...]
    scale: Literal["log", "linear", "whole", "choice"]

    @property
    def fixed(self) -> bool:
        """Whether there is nothing to choose."""
        return len(self.values) == 1


@dataclass(frozen=True, kw_only=True)
class Search:
    """What is searched, and for how long.

    Attributes:
        methods: Methods to choose from, such as kd logits dkd. Default kd alone. In logits no temperature counts.
        method_options: Options of the methods, as NAME=VALUE to fix one, and NAME=LOW:HIGH to search it in a range,
            such as beta=1:16; with --grid NAME=FIRST,SECOND to try each. Where several methods have it METHOD.NAME.
        search_options: Search the methods' own weights, which limbeck methods lists, in ranges around their authors';
            with --grid none is searched that method_options do not list.
        temperatures: Lowest and highest temperature, such as 1 20; with --grid the list of them; one value is fixed.
            Default 1 to 20, and 1 2 4 8 16 with --grid.
        hard_weights: The same for the weight of the true labels. Default 0 to 0.9, and 0 0.1 0.5 0.9 with --grid.
        learning_rates: The same for the largest learning rate. Default: a tenth to ten times --learning-rate, and
            --learning-rate alone with --grid.
        epoch_counts: The same for the number of epochs. Default: --epochs alone.
        grid: Try every combination of the lists, and stop none early, instead of drawing from ranges.
        trials: How many settings to try; with --grid there are as many as combinations. Default 30.
        timeout_minutes: Begin no further trial after this many minutes; --resume goes on.
        prune: Stop a trial early where it is worse than the median of the others at the same epoch.
        baseline: Where learning rates are searched, search the baseline's too, over the same range with as many trials
            on labels alone: a verdict that compares a searched student with an unsearched baseline is not fair.
    """

    methods: tuple[str, ...] = ("kd",)
    method_options: tuple[str, ...] = ()
    search_options: bool = True
    temperatures: tuple[float, ...] | None = None
    hard_weights: tuple[float, ...] | None = None
    learning_rates: tuple[float, ...] | None = None
    epoch_counts: tuple[int, ...] | None = None
    grid: bool = False
    trials: int | None = None
    timeout_minutes: float | None = None
    prune: bool = True
    baseline: bool = True

    def __post_init__(self) -> None:
        check_types(self)
        rules: tuple[tuple[str, Callable[[float], bool], str], ...] = (
            ("temperatures", lambda value: 0 < value < math.inf, "above 0 and finite"),
            ("hard_weights", lambda value: 0 <= value <= 1, "in [0, 1]"),
            ("learning_rates", lambda value: 0 < value < math.inf, "above 0 and finite"),
            ("epoch_counts", lambda value: value >= 1 and float(value).is_integer(), "whole numbers of at least 1"),
        )
        for name, good, rule in rules:
            values = getattr(self, name)
            if values is None:
                continue
            if not values or not all(map(good, values)):
                raise ConfigError(f"{name} must be {rule}, at least one, and are {_listed(values)}")
            if len(set(values)) != len(values):
                raise ConfigError(f"{name} name a value twice: {_listed(values)}")
            if not self.grid and len(values) > 2:
                raise ConfigError(
                    f"{name} are the lowest and the highest value, and {len(values)} are given: {_listed(values)}; "
                    "a list is for a grid"
                )
            if not self.grid and list(values) != sorted(values):
                raise ConfigError(f"{name} are an empty range: {values[0]:g} is above {values[1]:g}")
        if not self.methods or len(set(self.methods)) != len(self.methods):
            raise ConfigError(f"methods must be named, once each, and are {' '.join(self.methods) or 'none'}")
        for method in self.methods:
            method_parts(method)
        option_table(self.method_options)
        hot = any(has_temperature(method, self.method_options) for method in self.methods)
        if not hot and self.temperatures is not None:
            raise ConfigError(
                f"methods are {' '.join(self.methods)} alone, in which no temperature counts: leave temperatures out"
            )
        if self.grid and self.trials is not None:
            raise ConfigError("a grid tries each combination once: leave trials out")
        if self.trials is not None and self.trials < 1:
            raise ConfigError(f"trials must be at least 1, and is {self.trials}")
        if self.timeout_minutes is not None and not 0 < self.timeout_minutes < math.inf:
            raise ConfigError(f"timeout_minutes must be above 0 and finite, and is {self.timeout_minutes}")

    def axes(
        self,
        *,
        learning_rate: float,
        epochs: int,
        only_temperature: float | None = None,
        labelled: bool = True,
        least_weight: float = 0.0,
        options: tuple[Axis, ...] = (),
    ) -> tuple[Axis, ...]:
        """What is searched, with every default filled in.

        Args:
            learning_rate: That of the training, which unnamed learning rates lie around.
            epochs: Those of the training, where none are searched.
            only_temperature: The one temperature that the soft targets hold for, or None where they serve all.
            labelled: Whether there are true labels to give a weight to.
            least_weight: The lowest weight of the labels where none is named.
            options: Those of the methods' own options.

        Returns:
            The axes, in the order method, temperature, hard weight, learning rate, epochs, options.

        Raises:
            ConfigError: If temperatures are asked for that the soft targets do not hold for, or weights of labels that
                are not there.

        Example:
            >>> for axis in Search(hard_weights=(0.1,)).axes(learning_rate=0.001, epochs=5):
            ...     print(axis.name, axis.values, axis.fixed)
            method ('kd',) True
            temperature (1.0, 20.0) False
            hard_weight (0.1,) True
            learning_rate (0.0001, 0.01) False
            epochs (5.0,) True
        """
        temperatures, weights = self.temperatures, self.hard_weights
        if only_temperature is not None:
            if temperatures is not None and temperatures != (only_temperature,):
                raise ConfigError(
                    f"the soft targets hold for temperature {only_temperature:g} alone, and temperatures are "
                    f"{_listed(temperatures)}: leave them out"
                )
            temperatures = (only_temperature,)
        if not labelled:
            if weights is not None and weights != (0,):
                raise ConfigError(
                    f"hard_weights are {_listed(weights)}, and the training set has no labels: leave them out"
                )
            weights = (0.0,)
        rates: tuple[float, ...] = (learning_rate,) if self.grid else (learning_rate / 10, learning_rate * 10)
        found: tuple[
            tuple[Literal["temperature", "hard_weight", "learning_rate", "epochs"], tuple[float, ...]], ...
        ] = (
            ("temperature", temperatures or ((1, 2, 4, 8, 16) if self.grid else (1, 20))),
            ("hard_weight", weights or _default_weights(least_weight, grid=self.grid)),
            ("learning_rate", self.learning_rates or rates),
            ("epochs", self.epoch_counts or (epochs,)),
        )
        scales: dict[str, Literal["log", "linear", "whole"]] = {"hard_weight": "linear", "epochs": "whole"}
        return (
            Axis("method", self.methods, "choice"),
            *(
                Axis(name, tuple(sorted(float(value) for value in values)), scales.get(name, "log"))
                for name, values in found
            ),
            *options,
        )


def _default_weights(least: float, *, grid: bool) -> tuple[float, ...]:
    return tuple(weight for weight in (0, 0.1, 0.5, 0.9) if weight >= least) if grid else (least, 0.9)


def baseline_axes(axes: tuple[Axis, ...], epochs: int) -> tuple[Axis, ...]:
    """What is searched for the baseline: the learning rate, on labels alone and for the student's number of epochs.

    Args:
        axes: What is searched for the student.
        epochs: The student's.

    Returns:
        The same axes, of which only the learning rate's is free.
    """
    fixed = {"method": "kd", "hard_weight": 1.0, "epochs": float(epochs)}
    fixed |= {axis.name: axis.values[0] for axis in axes if axis.name == "temperature"}
    return tuple(
        dataclasses.replace(axis, values=(fixed[axis.name],)) if axis.name in fixed else axis
        for axis in axes
        if "." not in axis.name
    )


def option_texts(values: Mapping[str, Any]) -> tuple[str, ...]:
    """The methods' own options among the settings of a trial, as ``--method-options`` takes them.

    Args:
        values: Settings by name; None for what does not count.

    Returns:
        One text per option.

    Example:
        >>> option_texts({"method": "dkd", "dkd.beta": 2.5, "dist.beta": None, "ttm.weighted": True})
        ('dkd.beta=2.5', 'ttm.weighted=true')
    """
    found = {name: value for name, value in values.items() if "." in name and value is not None}
    return tuple(f"{name}={str(v).lower() if isinstance(v, bool) else v}" for name, v in found.items())


def options_of(row: Mapping[str, Any]) -> str:
    """The methods' own options in a trial, for a table.

    Args:
        row: The trial.

    Returns:
        Names and values, in three digits.

    Example:
        >>> options_of({"method": "dkd", "dkd.alpha": 1.23456, "dkd.beta": 8, "dist.beta": None})
        'dkd.alpha=1.23 dkd.beta=8'
    """
    found = {name: value for name, value in row.items() if "." in name and value is not None}
    return " ".join(f"{name}={f'{v:.3g}' if isinstance(v, float) else v}" for name, v in found.items())


def counts(name: str, values: Mapping[str, Any]) -> bool:
    """Whether a setting counts in a trial: a temperature, and a method's own option, not in every method.

    Args:
        name: Of the axis.
        values: The trial's method, and the options of methods that are known.

    Returns:
        Whether it does.

    Example:
        >>> counts("temperature", {"method": "logits"}), counts("dkd.beta", {"method": "kd+dkd:0.5"})
        (False, True)
    """
    if name == "temperature":
        return has_temperature(values["method"], option_texts(values))
    head, dot, _ = name.rpartition(".")
    return not dot or head in {part.name for part in method_parts(values["method"])}


def combinations(axes: tuple[Axis, ...]) -> list[Values]:
    """Every combination of the axes' values, those of one temperature beside each other.

    What does not count in a method, such as a temperature where logits are matched, is not combined with it.

    Args:
        axes: The axes.

    Returns:
        Values by the settings' names.

    Example:
        >>> axes = Search(grid=True, temperatures=(1, 4), hard_weights=(0, 0.5)).axes(learning_rate=0.1, epochs=3)
        >>> [(point["temperature"], point["hard_weight"]) for point in combinations(axes)]
        [(1.0, 0.0), (1.0, 0.5), (4.0, 0.0), (4.0, 0.5)]
    """
    found: list[Values] = []
    for method in next(axis.values for axis in axes if axis.name == "method"):
        own = [axis for axis in axes if "." not in axis.name or counts(axis.name, {"method": method})]
        chosen = [(method,) if axis.name == "method" else axis.values for axis in own]
        for values in itertools.product(*chosen):
            point: Values = dict(zip([axis.name for axis in own], values, strict=True))
            if not counts("temperature", point):
                del point["temperature"]
            if point not in found:
                found.append(point)
    return found


def _listed(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:g}" for value in values) or "none"
