"""Learning curves: errors and loss by epoch."""

__all__ = ["draw_learning_curves", "explain_learning_curves"]

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from limbeck.report.contents import Contents, Model
from limbeck.report.figures_style import colour, figure, legend, styled, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DASHES = {"baseline": (0, (4, 1.5))}


def draw_learning_curves(contents: Contents) -> "Figure | None":
    """Validation errors and training loss of every model, by epoch.

    Args:
        contents: What the report shows.

    Returns:
        The figure, or None where no model has a history.
    """
    panels = [panel for panel in (_validation(contents), _loss(contents)) if panel[1]]
    if not panels:
        return None
    with styled():
        drawing = figure(9.0, 3.5)
        shown: dict[str, object] = {}
        for place, (title, curves) in enumerate(panels):
            axes = drawing.add_subplot(1, len(panels), place + 1)
            for model, epochs, values in curves:
                (line,) = axes.plot(
                    epochs,
                    values,
                    color=colour(model.role, [m.role for m in contents.models]),
                    linestyle=_DASHES.get(model.role, "-"),
                    marker="o" if len(epochs) < 3 else None,
                    markersize=4,
                )
                shown.setdefault(model.role, line)
            axes.set_title(title)
            axes.set_xlabel("epoch")
            _scale(axes, [value for _, _, values in curves for value in values])
            tidy(axes)
        legend(drawing, list(shown.values()), list(shown))
    return drawing


def explain_learning_curves(contents: Contents) -> str:
    """The caption of the learning curves.

    Args:
        contents: What the report shows.

    Returns:
        A paragraph.
    """
    words = (
        "The validation set is not used for training; fewer errors are better. A validation curve that rises while the "
        "training loss still falls means overfitting."
    )
    if contents.temperature is not None and {"student", "baseline"} <= {model.role for model in contents.models}:
        words += (
            " The level of the student's loss is not comparable with the others', because it is measured against the "
            "teacher's soft targets; only its shape counts."
        )
    return words if contents.images is not None else words.replace("pictures", "examples")


_Curve = tuple[Model, list[float], list[float]]


def _validation(contents: Contents) -> tuple[str, list[_Curve]]:
    curves = [_curve(model, "validation_errors") for model in contents.models]
    if any(values for _, _, values in curves):
        return "Validation errors", [curve for curve in curves if curve[2]]
    shares = [_curve(model, "validation_accuracy") for model in contents.models]
    return "Validation error rate (%)", [(m, e, [100 * (1 - v) for v in values]) for m, e, values in shares if values]


def _loss(contents: Contents) -> tuple[str, list[_Curve]]:
    curves = [_curve(model, "train_loss") for model in contents.models]
    return "Training loss (nats per example)", [curve for curve in curves if curve[2]]


def _curve(model: Model, name: str) -> _Curve:
    epochs, values = [], []
    for place, row in enumerate(model.history):
        value = _finite(row, name)
        if value is not None:
            epoch = _finite(row, "epoch")
            epochs.append(place + 1 if epoch is None else epoch)
            values.append(value)
    return model, epochs, values


def _finite(row: Mapping[str, float | int | None], name: str) -> float | None:
    value = row.get(name)
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _scale(axes: "Axes", values: list[float]) -> None:
    """A logarithmic axis where values span a factor above 8, else one that starts near 0."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if axes.get_xlim()[1] - axes.get_xlim()[0] < 1:  # a single epoch
        middle = round(sum(axes.get_xlim()) / 2)
        axes.set_xlim(middle - 1, middle + 1)
        axes.set_xticks([middle])
    low, high = min(values), max(values)
    if low > 0 and high / low > 8:
        axes.set_yscale("log")
        axes.set_ylim(low * 0.85, high * 1.15)
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.tick_params(which="minor", length=0)
    elif low >= 0:
        axes.set_ylim(0, high * 1.08 or 1)
