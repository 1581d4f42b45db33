"""Figures of a study: results beside the paper's, curves, heat maps, bars, and images with predictions."""

__all__ = [
    "draw_bars",
    "draw_curves",
    "draw_differences",
    "draw_gallery",
    "draw_heat_map",
    "draw_results",
    "draw_views",
]

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from limbeck.report.figures_softness import show_picture
from limbeck.report.figures_style import INK, MUTED, clean, figure, styled, tidy

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from limbeck.evaluation.statistics import Interval

_LINES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b8860b", "#56b4e9", "#7f8790")


def draw_results(
    names: Sequence[str],
    values: Sequence[Sequence[float]],
    paper: Sequence[float | None],
    unit: str,
    *,
    legend: tuple[str, str] = ("ours", "paper"),
) -> "Figure":
    """One row per measurement: a dot per seed, a bar at the mean, a diamond at the paper's value.

    Args:
        names: What was measured.
        values: For each, one number per seed.
        paper: For each, the paper's number, or None.
        unit: What the numbers are.
        legend: What the dots and the diamonds are.

    Returns:
        The figure.
    """
    with styled():
        drawing = figure(9.0, 0.9 + 0.42 * len(names))
        axes = drawing.add_subplot()
        places = np.arange(len(names))[::-1]
        for place, numbers, theirs in zip(places, values, paper, strict=True):
            axes.plot(numbers, [place] * len(numbers), "o", color=_LINES[1], markersize=6, alpha=0.6, label=legend[0])
            mean = float(np.mean(numbers))
            axes.plot([mean, mean], [place - 0.28, place + 0.28], color=_LINES[1], linewidth=2.2)
            if theirs is not None:
                axes.plot([theirs], [place], "D", color=_LINES[0], markersize=7, label=legend[1])
        axes.set_yticks(places, [clean(name, 64) for name in names])
        axes.set_ylim(-0.6, len(names) - 0.4)
        axes.set_xlim(left=0 if min(map(min, values)) < 0.6 * max(map(max, values)) else None)
        axes.set_xlabel(unit)
        tidy(axes, grid="x")
        handles = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
        axes.legend(list(handles.values()), list(handles), loc="best")
    return drawing


def draw_differences(names: Sequence[str], intervals: Sequence["Interval"], shown: Sequence[bool]) -> "Figure":
    """One row per arm: its difference from a reference in percentage points, with its interval.

    Args:
        names: Of the arms.
        intervals: Differences of error rates.
        shown: Whether each is significant: then the marker is filled.

    Returns:
        The figure.
    """
    with styled():
        drawing = figure(9.0, 0.9 + 0.42 * len(names))
        axes = drawing.add_subplot()
        places = np.arange(len(names))[::-1]
        for place, interval, filled in zip(places, intervals, shown, strict=True):
            low, middle, high = (100 * value for value in (interval.low, interval.estimate, interval.high))
            color = MUTED if not filled else _LINES[2] if middle < 0 else _LINES[1]
            axes.plot([low, high], [place, place], color=color, linewidth=2.0)
            axes.plot([middle], [place], "o", color=color, markerfacecolor=color if filled else "white", markersize=7)
        axes.axvline(0, color=INK, linewidth=1.0)
        axes.set_yticks(places, [clean(name, 64) for name in names])
        axes.set_ylim(-0.6, len(names) - 0.4)
        axes.set_xlabel("points of the test error rate; left of 0 is better")
        tidy(axes, grid="x")
    return drawing


def draw_curves(
    x: Sequence[float],
    curves: Mapping[str, NDArray[np.float64]],
    *,
    x_label: str,
    y_label: str,
    log_x: bool = False,
    log_y: bool = False,
) -> "Figure":
    """Curves through the mean over seeds, with the range of the seeds behind them.

    Args:
        x: Places, ``n`` of them, all shown as ticks.
        curves: By name, one row per seed, ``(seeds, n)``.
        x_label: What x is.
        y_label: What the values are.
        log_x: Whether the horizontal axis is logarithmic.
        log_y: Whether the vertical one is.

    Returns:
        The figure.
    """
    from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

    with styled():
        drawing = figure(8.0, 4.2)
        axes = drawing.add_subplot()
        for (name, values), line in zip(curves.items(), _LINES * (1 + len(curves) // len(_LINES)), strict=False):
            axes.plot(x, values.mean(0), marker="o", markersize=4, color=line, label=name)
            if len(values) > 1:
                axes.fill_between(x, values.min(0), values.max(0), color=line, alpha=0.15, linewidth=0)
        if log_x:
            axes.set_xscale("log")
        if log_y:
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.yaxis.set_minor_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xticks(list(x), [f"{value:g}" for value in x])
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        tidy(axes)
        axes.legend(loc="best")
    return drawing


def draw_heat_map(
    values: NDArray[np.float64], rows: Sequence[str], columns: Sequence[str], *, x_label: str, y_label: str, title: str
) -> "Figure":
    """Numbers in a grid, each row coloured from its own best (light) to its own worst.

    Args:
        values: The numbers, ``(rows, columns)``; lower is better.
        rows: Names of the rows.
        columns: Names of the columns.
        x_label: What the columns are.
        y_label: What the rows are.
        title: What the numbers are.

    Returns:
        The figure.
    """
    least = values.min(1, keepdims=True)
    excess = np.minimum(values / np.maximum(least, 1e-9) - 1, 1.0)
    with styled():
        drawing = figure(1.6 + 0.9 * len(columns), 1.3 + 0.5 * len(rows))
        axes = drawing.add_subplot()
        axes.imshow(excess, cmap="Oranges", vmin=0, vmax=1, aspect="auto")
        for line in range(len(rows)):
            for column in range(len(columns)):
                axes.text(
                    column,
                    line,
                    f"{values[line, column]:.4g}",
                    ha="center",
                    va="center",
                    color="white" if excess[line, column] > 0.6 else INK,
                    fontweight="bold" if values[line, column] == least[line, 0] else "normal",
                )
        axes.set_xticks(range(len(columns)), list(columns))
        axes.set_yticks(range(len(rows)), list(rows))
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        axes.set_title(title)
        axes.tick_params(length=0)
        for spine in axes.spines.values():
            spine.set_visible(False)
    return drawing


def draw_bars(
    labels: Sequence[str],
    bars: Mapping[str, Sequence[Sequence[float]]],
    *,
    x_label: str,
    y_label: str,
    notes: Sequence[str] = (),
) -> "Figure":
    """Grouped bars, each the mean of values that are drawn as dots.

    Args:
        labels: Names of the groups.
        bars: By name, for each group its values, one at least.
        x_label: What the groups are.
        y_label: What the heights are.
        notes: A word below each group's name, or none.

    Returns:
        The figure.
    """
    with styled():
        drawing = figure(max(5.0, min(10.0, 1.5 + 0.9 * len(labels))), 3.8)
        axes = drawing.add_subplot()
        width = 0.8 / len(bars)
        for number, (name, groups) in enumerate(bars.items()):
            places = np.arange(len(labels)) + (number - (len(bars) - 1) / 2) * width
            heights = [float(np.mean(values)) for values in groups]
            axes.bar(places, heights, width=width, color=_LINES[number % len(_LINES)], label=name)
            dots = [(place, value) for place, values in zip(places, groups, strict=True) for value in values]
            if len(dots) > len(groups):
                x, y = zip(*dots, strict=True)
                axes.scatter(x, y, s=16, color=INK, edgecolors="white", linewidths=0.6, zorder=3)
        names = [f"{label}\n{note}" for label, note in zip(labels, notes, strict=True)] if notes else list(labels)
        axes.set_xticks(range(len(labels)), names)
        axes.axhline(0, color=MUTED, linewidth=0.8)
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        tidy(axes)
        if len(bars) > 1:
            axes.legend(loc="best")
    return drawing


def draw_gallery(
    pictures: NDArray[np.uint8], answers: Mapping[str, NDArray[np.float64]], classes: Sequence[str]
) -> "Figure":
    """Images, and below each the models' probabilities.

    Args:
        pictures: Images, uint8 ``(n, H, W)``.
        answers: By model, probabilities ``(n, K)``.
        classes: Names of the classes.

    Returns:
        The figure.
    """
    with styled():
        drawing = figure(9.0, 1.5 + 1.15 * len(answers))
        grid = drawing.add_gridspec(1 + len(answers), len(pictures))
        for column, picture in enumerate(pictures):
            show_picture(drawing.add_subplot(grid[0, column]), picture)
            for line, (name, probabilities) in enumerate(answers.items()):
                axes = drawing.add_subplot(grid[1 + line, column])
                axes.bar(range(len(classes)), probabilities[column], color=_LINES[line % len(_LINES)], width=0.75)
                axes.set_ylim(0, 1)
                axes.set_yticks([0, 1], ["0", "1"] if column == 0 else ["", ""])
                shown = len(classes) <= 12 and line == len(answers) - 1
                axes.set_xticks(range(len(classes)) if shown else [], list(classes) if shown else [], fontsize=6.5)
                tidy(axes)
                if column == 0:
                    axes.set_ylabel(clean(name, 24), fontsize=8)
    return drawing


def draw_views(rows: Mapping[str, NDArray[np.uint8]]) -> "Figure":
    """The same images in several views, one row per view.

    Args:
        rows: Images by name of the view, uint8 ``(n, H, W)``; the same n in each.

    Returns:
        The figure.
    """
    with styled():
        columns = max(len(pictures) for pictures in rows.values())
        drawing = figure(9.0, 0.3 + 0.75 * len(rows))
        grid = drawing.add_gridspec(len(rows), columns)
        for line, (name, pictures) in enumerate(rows.items()):
            for column, picture in enumerate(pictures):
                axes = drawing.add_subplot(grid[line, column])
                show_picture(axes, picture)
                if column == 0:
                    axes.set_ylabel(clean(name, 24), fontsize=8, rotation=0, ha="right", va="center")
    return drawing
