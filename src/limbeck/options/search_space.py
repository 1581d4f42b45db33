"""The search space of ``limbeck tune``: ranges to sample from, or a grid.

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
"""Settings of a trial by name; logit matching has no temperature."""


@dataclass(frozen=True)
class Axis:
    """One axis of the search space.

    Attributes:
        name: The setting, as flags and TOML have it: "method", "temperature", "hard_weight", "learning_rate" or
            "epochs"; of a method's own option METHOD.OPTION, such as "dkd.beta".
        values: The lowest and the highest value; in a grid every value, ascending; names to choose from; a single value
            is fixed.
        scale: Scale of a range: "log", "linear" or "whole" for integers; "choice" for names.
    """

    name: str
    values: tuple[Any, ...]
    scale: Literal["log", "linear", "whole", "choice"]

    @property
    def fixed(self) -> bool:
        """Whether there is only one value."""
        return len(self.values) == 1


@dataclass(frozen=True, kw_only=True)
class Search:
    """The search space and budget.

    Attributes:
        methods: Methods to choose from, such as kd logits dkd. Default: kd. The method logits has no temperature.
        method_options: Options of the methods: NAME=VALUE fixes one, NAME=LOW:HIGH searches a range, such as beta=1:16;
            with --grid NAME=FIRST,SECOND tries each. METHOD.NAME where several methods have it.
        search_options: Search the methods' own weights (see limbeck methods) in ranges around their authors' values;
            with --grid only those that method_options list.
        temperatures: Lowest and highest temperature, such as 1 20; with --grid the list; a single value is fixed.
            Default: 1 to 20, and 1 2 4 8 16 with --grid.
        hard_weights: The same for the weight of the hard labels. Default: 0 to 0.9, and 0 0.1 0.5 0.9 with --grid.
        learning_rates: The same for the peak learning rate. Default: a tenth to ten times --learning-rate; with --grid
            only --learning-rate.
        epoch_counts: The same for the number of epochs. Default: --epochs.
        grid: Try every combination of the lists, without pruning, instead of sampling from ranges.
        trials: Number of trials; with --grid, one per combination. Default: 30.
        timeout_minutes: Start no further trials after this many minutes; --resume continues.
        prune: Stop a trial early if it is worse than the median of the others at the same epoch.
        baseline: Where learning rates are searched, search the baseline's too, over the same range with as many trials:
            comparing a tuned student with an untuned baseline is not fair.
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
                raise ConfigError(f"{name} repeat a value: {_listed(values)}")
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
                f"methods are only {' '.join(self.methods)}, which has no temperature: leave temperatures out"
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
        """The axes of the search, with every default filled in.

        Args:
            learning_rate: The training's, the centre of the default range.
            epochs: The training's, where none are searched.
            only_temperature: The only temperature that the soft targets are valid for, or None for all.
            labelled: Whether the training set has labels.
            least_weight: The default lowest hard weight.
            options: The axes of the methods' own options.

        Returns:
            The axes, in the order method, temperature, hard weight, learning rate, epochs, options.

        Raises:
            ConfigError: If the soft targets are not valid for the temperatures, or hard weights are given without
                labels.

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
                    f"the soft targets are valid only for temperature {only_temperature:g}, and temperatures are "
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
    """The axes of the baseline's search: the learning rate, on labels alone, for the student's number of epochs.

    Args:
        axes: The axes of the student's search.
        epochs: The student's.

    Returns:
        The same axes, all fixed but the learning rate's.
    """
    fixed = {"method": "kd", "hard_weight": 1.0, "epochs": float(epochs)}
    fixed |= {axis.name: axis.values[0] for axis in axes if axis.name == "temperature"}
    return tuple(
        dataclasses.replace(axis, values=(fixed[axis.name],)) if axis.name in fixed else axis
        for axis in axes
        if "." not in axis.name
    )


def option_texts(values: Mapping[str, Any]) -> tuple[str, ...]:
    """The methods' own options among a trial's settings, in the form of ``--method-options``.

    Args:
        values: Settings by name; None for those that do not apply.

    Returns:
        One string per option.

    Example:
        >>> option_texts({"method": "dkd", "dkd.beta": 2.5, "dist.beta": None, "ttm.weighted": True})
        ('dkd.beta=2.5', 'ttm.weighted=true')
    """
    found = {name: value for name, value in values.items() if "." in name and value is not None}
    return tuple(f"{name}={str(v).lower() if isinstance(v, bool) else v}" for name, v in found.items())


def options_of(row: Mapping[str, Any]) -> str:
    """The methods' own options of a trial, for a table.

    Args:
        row: The trial.

    Returns:
        Names and values, to three digits.

    Example:
        >>> options_of({"method": "dkd", "dkd.alpha": 1.23456, "dkd.beta": 8, "dist.beta": None})
        'dkd.alpha=1.23 dkd.beta=8'
    """
    found = {name: value for name, value in row.items() if "." in name and value is not None}
    return " ".join(f"{name}={f'{v:.3g}' if isinstance(v, float) else v}" for name, v in found.items())


def counts(name: str, values: Mapping[str, Any]) -> bool:
    """Whether a setting applies to a trial: temperatures and method options apply only to some methods.

    Args:
        name: Name of the axis.
        values: The trial's method, and the known method options.

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
    """Every combination of the axes' values, grouped by temperature.

    Settings that do not apply to a method, such as the temperature of logit matching, are not combined with it.

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
