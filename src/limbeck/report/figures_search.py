"""Figures of a search: errors by temperature and hard weight, by trial, and by setting."""

__all__ = ["Cells", "cells_of", "draw_axes", "draw_heat_map", "draw_history", "log_ticks", "temperature_of"]

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from limbeck.report.figures_style import INK, MUTED, figure, legend, styled, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_STUDENT = "#d55e00"
_NAMES = {
    "method": "method",
    "temperature": "temperature",
    "hard_weight": "hard weight",
    "learning_rate": "learning rate",
    "epochs": "epochs",
}
_ROWS, _COLUMNS = 6, 5
"""Number of cells for ranges of temperatures and of weights."""


def temperature_of(trial: Mapping[str, Any]) -> str:
    """A trial's temperature as text; the method's name where it has no temperature.

    Args:
        trial: With ``temperature``.

    Returns:
        The text.

    Example:
        >>> temperature_of({"temperature": 4.0}), temperature_of({"temperature": None})
        ('4', 'logits')
    """
    return str(trial.get("method", "logits")) if trial["temperature"] is None else f"{trial['temperature']:.3g}"


@dataclass(frozen=True, eq=False)
class Cells:
    """Mean errors by temperature and hard weight.

    Attributes:
        temperatures: Names of the rows, from the lowest; "logits" comes last, as the high-temperature limit.
        weights: Names of the columns, from the lowest.
        errors: Means, float ``(rows, columns)``; NaN where no trial falls.
        counts: Trials in each cell, ``(rows, columns)``.
        best: Row and column of the cell with the fewest; of equal ones, of that with the likeliest trial.
    """

    temperatures: tuple[str, ...]
    weights: tuple[str, ...]
    errors: NDArray[np.float64]
    counts: NDArray[np.int64]
    best: tuple[int, int]


def cells_of(trials: Sequence[Mapping[str, Any]], *, grid: bool) -> Cells | None:
    """Group completed trials into cells.

    Args:
        trials: Mappings with ``temperature``, ``hard_weight``, ``validation_errors`` and ``state``.
        grid: Whether each value has a row or column of its own; else ranges of temperatures are divided evenly in
            their logarithms, and of weights evenly.

    Returns:
        The cells, or None where no trial is complete.

    Example:
        >>> row = {"temperature": 2.0, "hard_weight": 0.5, "state": "complete"}
        >>> cells = cells_of([row | {"validation_errors": 10}, row | {"validation_errors": 14}], grid=True)
        >>> cells.errors, cells.counts, cells.temperatures
        (array([[12.]]), array([[2]]), ('2',))
    """
    complete = [row for row in trials if row["state"] == "complete"]
    if not complete:
        return None
    soft = np.array([row["temperature"] is not None for row in complete])
    rows, row_names = np.zeros(len(complete), np.int64), tuple[str, ...]()
    if soft.any():
        temperatures = np.array([row["temperature"] for row in complete if row["temperature"] is not None], float)
        rows[soft], row_names = _places(temperatures, _ROWS, grid=grid, log=True)
    if not soft.all():
        rows[~soft], row_names = len(row_names), (*row_names, _without_temperature(complete))
    columns, names = _places(np.array([row["hard_weight"] for row in complete], float), _COLUMNS, grid=grid, log=False)
    sums, counts = np.zeros((len(row_names), len(names))), np.zeros((len(row_names), len(names)), np.int64)
    np.add.at(sums, (rows, columns), [row["validation_errors"] for row in complete])
    np.add.at(counts, (rows, columns), 1)
    means = np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)
    nll = np.array([np.inf if row.get("validation_nll") is None else row["validation_nll"] for row in complete], float)
    first = min(range(len(complete)), key=lambda trial: (means[rows[trial], columns[trial]], nll[trial]))
    return Cells(row_names, names, means, counts, (int(rows[first]), int(columns[first])))


def _without_temperature(rows: Sequence[Mapping[str, Any]]) -> str:
    """The methods without a temperature."""
    return ", ".join(sorted({str(row.get("method", "logits")) for row in rows if row["temperature"] is None}))


def _places(
    values: NDArray[np.float64], most: int, *, grid: bool, log: bool
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Each value's row or column, and their names."""
    known = np.unique(values)
    if grid or len(known) == 1:
        return np.searchsorted(known, values).astype(np.int64), tuple(f"{value:.3g}" for value in known)
    edges = np.geomspace(known[0], known[-1], most + 1) if log else np.linspace(known[0], known[-1], most + 1)
    places = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, most - 1).astype(np.int64)
    return places, tuple(f"{low:.2g} to {high:.2g}" for low, high in zip(edges, edges[1:], strict=False))


def draw_heat_map(trials: Sequence[Mapping[str, Any]], *, examples: int, grid: bool) -> "Figure | None":
    """Validation errors by temperature and hard weight.

    Args:
        trials: As for :func:`cells_of`.
        examples: Number of validation examples.
        grid: Whether each value has a row or column of its own.

    Returns:
        The figure, or None where no trial is complete.
    """
    cells = cells_of(trials, grid=grid)
    if cells is None:
        return None
    height, width = cells.errors.shape
    low, high = float(np.nanmin(cells.errors)), float(np.nanmax(cells.errors))
    with styled():
        drawing = figure(max(4.5, 2.2 + 1.15 * width), max(2.6, 1.4 + 0.62 * height))
        axes = drawing.add_subplot(1, 1, 1)
        image = axes.imshow(
            cells.errors,
            cmap="Blues_r",
            aspect="auto",
            origin="lower",
            vmin=low,
            vmax=high + 0.15 * (high - low) + 1e-9,
        )
        axes.set_facecolor("#f0f0f0")
        for row, column in np.ndindex(height, width):
            value, count = cells.errors[row, column], cells.counts[row, column]
            if not count:
                axes.text(column, row, "–", ha="center", va="center", color=MUTED)
                continue
            dark = value < low + 0.5 * (high - low) or high == low
            text = f"{value:,.0f}\n{100 * (1 - value / examples):.2f} %" + (f"  ({count})" if count > 1 else "")
            axes.text(column, row, text, ha="center", va="center", color="white" if dark else INK, fontsize=8.5)
        best = cells.best
        from matplotlib.patches import Rectangle

        axes.add_patch(
            Rectangle((best[1] - 0.47, best[0] - 0.47), 0.94, 0.94, fill=False, edgecolor=_STUDENT, linewidth=2.5)
        )
        axes.set_xticks(range(width), cells.weights)
        axes.set_yticks(range(height), cells.temperatures)
        axes.set_xlabel("hard weight")
        axes.set_ylabel("temperature")
        axes.set_title(f"Validation errors of {examples:,}")
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        drawing.colorbar(image, ax=axes, shrink=0.9).outline.set_visible(False)
    return drawing


def draw_history(trials: Sequence[Mapping[str, Any]]) -> "Figure | None":
    """Validation errors trial by trial, and the best so far.

    Args:
        trials: Mappings with ``trial``, ``state`` and ``validation_errors``.

    Returns:
        The figure, or None where there is nothing to compare.
    """
    rows = sorted((row for row in trials if row["validation_errors"] is not None), key=lambda row: row["trial"])
    complete = [row for row in rows if row["state"] == "complete"]
    if len(rows) < 2 or not complete:
        return None
    from matplotlib.ticker import MaxNLocator

    with styled():
        drawing = figure(9.0, 3.2)
        axes = drawing.add_subplot(1, 1, 1)
        _scatter(axes, "trial", rows)
        best = np.minimum.accumulate([row["validation_errors"] for row in complete])
        axes.step([row["trial"] for row in complete], best, where="post", color=INK, linewidth=1.2, label="best so far")
        axes.xaxis.set_major_locator(MaxNLocator(10, integer=True))
        if axes.get_yscale() == "linear":
            axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.set_xlabel("trial")
        axes.set_ylabel("validation errors")
        tidy(axes)
        legend(drawing, *axes.get_legend_handles_labels())
    return drawing


def draw_axes(trials: Sequence[Mapping[str, Any]]) -> "Figure | None":
    """Validation errors by each setting that was searched.

    Args:
        trials: Mappings with ``state``, ``validation_errors`` and the settings.

    Returns:
        The figure, or None where nothing was searched.
    """
    rows = [row for row in trials if row["validation_errors"] is not None]
    own = sorted({name for row in rows for name in row if "." in name})  # the methods' own options
    names = [name for name in (*_NAMES, *own) if len({row.get(name) for row in rows} - {None}) > 1]
    if not names:
        return None
    from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

    most = max(2, 14 // len(names))  # ticks that stand beside each other without touching
    with styled():
        drawing = figure(9.0, 2.9)
        for place, name in enumerate(names):
            axes = drawing.add_subplot(1, len(names), place + 1)
            known = [row for row in rows if row.get(name) is not None]
            _scatter(axes, name, known)
            values = [row[name] for row in known]
            if (name in {"temperature", "learning_rate"} or "." in name) and _spans(values):
                axes.set_xscale("log")
                axes.xaxis.set_major_locator(FixedLocator(log_ticks(min(values), max(values), most)))
                axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
                axes.xaxis.set_minor_locator(NullLocator())
            elif all(isinstance(value, int | float) for value in values):
                whole = all(float(value).is_integer() for value in values)
                axes.xaxis.set_major_locator(MaxNLocator(most, integer=whole))
            if axes.get_yscale() == "linear":
                axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))  # errors are counted
            axes.set_xlabel(_NAMES.get(name, name))
            if place == 0:
                axes.set_ylabel("validation errors")
            tidy(axes)
    return drawing


def log_ticks(low: float, high: float, most: int) -> list[float]:
    """Round values between two for a logarithmic axis: 1, 2 and 5 times powers of ten, or fewer of them.

    Args:
        low: The smallest value shown, above 0.
        high: The largest.
        most: How many ticks there is room for, at least 2.

    Returns:
        At most so many values, in order; the ends where no round value lies between.

    Example:
        >>> log_ticks(1, 20, 6), log_ticks(1e-4, 0.1, 3)
        ([1.0, 2.0, 5.0, 10.0, 20.0], [0.0001, 0.01])
    """
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1, 2, 5), (1, 3), (1,)):
        found = [float(f"{step}e{power}") for power in powers for step in steps]
        inside = [value for value in found if low / 1.001 <= value <= high * 1.001]
        if 2 <= len(inside) <= most:
            return inside
    if len(inside) > most:
        return inside[:: -(-len(inside) // most)]
    return [low, high]


def _spans(values: Sequence[Any]) -> bool:
    """Whether values suit a logarithmic axis."""
    numbers = all(isinstance(value, int | float) for value in values)
    return numbers and min(values) > 0 and max(values) > 3 * min(values)


def _scatter(axes: "Axes", name: str, rows: Sequence[Mapping[str, Any]]) -> None:
    for complete, mark, colour, label in ((True, "o", _STUDENT, "complete"), (False, "x", MUTED, "stopped")):
        some = [row for row in rows if (row["state"] == "complete") is complete]
        if some:
            places, errors = [row[name] for row in some], [row["validation_errors"] for row in some]
            axes.scatter(places, errors, marker=mark, color=colour, s=22, label=label, linewidths=1.2)
    ends = [row["validation_errors"] for row in rows if row["state"] == "complete"]
    if ends and max(row["validation_errors"] for row in rows) > 3 * max(ends):
        axes.set_yscale("log")
