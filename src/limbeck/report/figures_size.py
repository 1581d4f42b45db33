"""Figures of size: weights to scale, and errors against size."""

__all__ = ["draw_networks", "draw_tradeoff", "explain_networks", "explain_tradeoff"]

import math
from typing import TYPE_CHECKING

from limbeck.report.contents import Contents, Layer, Model
from limbeck.report.figures_style import INK, MUTED, clean, colour, figure, number, styled, tidy
from limbeck.report.label_places import Label, place_labels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDTH = 9.0
_LEFT = 1.75  # inches for the names
_ROW = _WIDTH - _LEFT - 0.1  # inches for the rectangles
_LETTER = 0.063  # inches per letter in a layer's label
_GAP = 0.14
_TALLEST = 1.9
_FLATTEST = 4.0  # a matrix is drawn at most this many times longer than wide, with its area kept


def draw_networks(contents: Contents) -> "Figure | None":
    """Every layer's weights as a rectangle, all models to one scale.

    Args:
        contents: What the report shows.

    Returns:
        The figure, or None where no model's layers are known.
    """
    models = [model for model in contents.models if _weighty(model)]
    if not models:
        return None
    roles = [model.role for model in contents.models]
    scale = min(_fitting_scale(model) for model in models)
    heights = [max(0.62, max(_sides(layer, scale)[1] for layer in _weighty(model))) + 0.55 for model in models]
    with styled():
        drawing = figure(_WIDTH, sum(heights) + 0.1, arranged=False)
        axes = drawing.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, _WIDTH), ylim=(0, sum(heights) + 0.1))
        axes.axis("off")
        bottom = sum(heights)
        for model, height in zip(models, heights, strict=True):
            bottom -= height
            _draw_model(axes, model, scale, bottom, height, colour(model.role, roles))
    return drawing


def explain_networks(contents: Contents) -> str:
    """The caption of the diagram.

    Args:
        contents: What the report shows.

    Returns:
        A paragraph.
    """
    words = (
        "Each rectangle is a layer. Its area is the number of its weights, for all models to one scale, "
        "and its height is the number of units or channels that it feeds (very long ones are drawn "
        "shorter and wider, with the same area)."
    )
    teacher, student = (_parameters(contents, role) for role in ("teacher", "student"))
    if teacher and student:
        words += f" The student has {student / teacher * 100:.3g} % of the teacher's weights."
    return words


def _weighty(model: Model) -> list[Layer]:
    return [layer for layer in model.layers if layer.parameters > 0]


def _sides(layer: Layer, scale: float) -> tuple[float, float]:
    # Width and height in inches of a layer's rectangle; the area is proportional to its parameters.
    units = min(max(1, layer.shape[0] if layer.shape else 1), layer.parameters)
    height = min(max(units, math.sqrt(layer.parameters / _FLATTEST)), math.sqrt(layer.parameters * _FLATTEST))
    return layer.parameters / height * scale, height * scale


def _labels(model: Model) -> list[tuple[str, str]]:
    # Name and size under each rectangle; empty where there is no room for all of them.
    layers = _weighty(model)
    shapes = ["×".join(map(str, layer.shape)) for layer in layers]
    labels = [
        (clean(layer.name, 16), f"{clean(shape, 14)} · {number(layer.parameters)}")
        for layer, shape in zip(layers, shapes, strict=True)
    ]
    letters = sum(max(map(len, label)) for label in labels)
    return labels if letters * _LETTER + len(labels) * _GAP < 0.85 * _ROW else [("", "")] * len(labels)


def _rooms(model: Model, scale: float) -> list[float]:
    # Inches across that each layer takes, with the gap after it.
    return [
        max(_sides(layer, scale)[0], _LETTER * max(len(name), len(size))) + (_GAP if name else 0.03)
        for layer, (name, size) in zip(_weighty(model), _labels(model), strict=True)
    ]


def _row_width(model: Model, scale: float) -> float:
    return sum(_rooms(model, scale)) + 0.08 * (_copies(model) - 1)


def _copies(model: Model) -> int:
    return min(model.members, 4)


def _fitting_scale(model: Model) -> float:
    # The largest scale, in inches a unit, at which a model's row fits.
    low, high = 0.0, _TALLEST / max(_sides(layer, 1.0)[1] for layer in _weighty(model))
    for _ in range(40):
        middle = (low + high) / 2
        if _row_width(model, middle) <= _ROW:
            low = middle
        else:
            high = middle
    return low


def _draw_model(axes: "Axes", model: Model, scale: float, bottom: float, height: float, shade: str) -> None:
    from matplotlib.patches import Rectangle

    layers = _weighty(model)
    middle = bottom + 0.4 + (height - 0.55) / 2
    total = sum(layer.parameters for layer in layers) * model.members
    axes.text(0.05, middle + 0.17, clean(model.role, 18), fontsize=11, fontweight="bold", color=shade, va="center")
    axes.text(0.05, middle - 0.05, f"{number(total)} weights", fontsize=9, color=INK, va="center")
    if model.members > 1:
        axes.text(0.05, middle - 0.25, f"{model.members} of these networks", fontsize=8.5, color=MUTED, va="center")
    left = _LEFT
    for layer, (name, size), room in zip(layers, _labels(model), _rooms(model, scale), strict=True):
        wide, tall = _sides(layer, scale)
        centre = left + room / 2
        corner = centre - wide / 2
        for copy in reversed(range(_copies(model))):
            axes.add_patch(
                Rectangle(
                    (corner + 0.04 * copy, middle - tall / 2 + 0.04 * copy),
                    max(wide, 0.012),
                    max(tall, 0.012),
                    facecolor=shade,
                    alpha=0.85 if copy == 0 else 0.35,
                    edgecolor="white" if min(wide, tall) > 0.05 else shade,
                    linewidth=0.6,
                )
            )
        under = middle - tall / 2 - 0.06
        axes.text(centre, under, name, fontsize=8, ha="center", va="top")
        axes.text(centre, under - 0.15, size, fontsize=7.5, ha="center", va="top", color=MUTED)
        left += room


def _parameters(contents: Contents, role: str) -> float | None:
    for model in contents.models:
        if model.role == role:
            stated = model.scores.get("parameters")
            return float(stated) if stated else sum(layer.parameters for layer in model.layers) * model.members or None
    return None


def draw_tradeoff(contents: Contents) -> "Figure | None":
    """Error rate of every model against its size.

    Args:
        contents: What the report shows.

    Returns:
        The figure, or None where fewer than two models have a size and errors, or where
        :func:`~limbeck.report.figures_compression.draw_way` shows them.
    """
    points = _points(contents)
    if len(points) < 2 or contents.way:
        return None
    roles = [model.role for model in contents.models]
    sizes, errors = [size for _, size, _ in points], [wrong for _, _, wrong in points]
    with styled():
        from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

        drawing = figure(9.0, 3.7)
        axes = drawing.add_subplot()
        axes.set_xscale("log")
        spread = max(max(sizes) / min(sizes), 3.0)
        axes.set_xlim(min(sizes) / spread**0.3, max(sizes) * spread**0.3)
        room = max(max(errors) - min(errors), 0.05 * max(errors), 1e-9)
        axes.set_ylim(max(0, min(errors) - 0.4 * room), max(errors) + 0.4 * room)
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
        axes.xaxis.set_minor_formatter(NullFormatter())
        _draw_gain(axes, points)
        labels = []
        for model, size, wrong in sorted(points, key=lambda point: point[2]):
            shade = colour(model.role, roles)
            axes.scatter([size], [wrong], s=90, color=shade, zorder=3, linewidth=0)
            name = (clean(model.role, 20), {"fontsize": 9.5, "fontweight": "bold", "color": shade})
            labels.append(Label((size, wrong), [name, (_details(model, wrong), {"fontsize": 8.5, "color": MUTED})]))
        axes.set_xlabel("weights" if _by_parameters(contents) else "file size (bytes)")
        axes.set_title(f"{contents.judged_on.capitalize()} error rate (%)")
        tidy(axes)
        axes.tick_params(which="minor", length=0)
        place_labels(axes, labels)
    return drawing


def explain_tradeoff(contents: Contents) -> str:
    """The caption of the trade-off.

    Args:
        contents: What the report shows.

    Returns:
        A paragraph.
    """
    words = "Lower is better, further left is smaller; the horizontal axis is logarithmic."
    if {"student", "baseline"} <= {model.role for model, _, _ in _points(contents)}:
        words += (
            " Student and baseline are the same network with the same training budget, so they have the same size, and "
            "the arrow between them is the effect of the teacher's soft targets."
        )
    return words


def _by_parameters(contents: Contents) -> bool:
    return sum(bool(model.scores.get("parameters")) for model in contents.models) >= 2


def _points(contents: Contents) -> list[tuple[Model, float, float]]:
    key = "parameters" if _by_parameters(contents) else "file_bytes"
    points = []
    for model in contents.models:
        size, right = model.scores.get(key), model.scores.get("accuracy")
        if size and right is not None:
            points.append((model, float(size), 100 * (1 - float(right))))
    return points


def _draw_gain(axes: "Axes", points: list[tuple[Model, float, float]]) -> None:
    by_role = {model.role: (size, wrong) for model, size, wrong in points}
    if "student" in by_role and "baseline" in by_role:
        arrow = {"arrowstyle": "-|>", "color": MUTED, "linewidth": 1.2, "shrinkA": 7, "shrinkB": 7}
        axes.annotate("", by_role["student"], by_role["baseline"], arrowprops=arrow)


def _details(model: Model, wrong: float) -> str:
    parts = [f"{wrong:.2f} %"]
    if model.scores.get("parameters"):
        parts.append(f"{number(float(model.scores['parameters']))} weights")
    if model.scores.get("latency_ms"):
        parts.append(f"{float(model.scores['latency_ms']):.2g} ms per example")
    return ", ".join(parts)
