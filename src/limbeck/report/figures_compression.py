"""Figures of a compression: accuracy and file size by stage, and truncated spectra."""

__all__ = ["draw_points", "draw_spectra", "draw_spectrum", "draw_way", "explain_spectrum", "explain_way"]

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from limbeck.report.contents import Contents, Model, Singular
from limbeck.report.figures_style import INK, MUTED, clean, colour, figure, number, styled, tidy
from limbeck.report.label_places import Label, place_labels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_PANELS = 12
_KEPT, _LOST = "#0072b2", "#d55e00"


def draw_way(contents: Contents) -> "Figure | None":
    """Accuracy against file size, one point per stage, joined in order.

    Args:
        contents: What the report shows.

    Returns:
        The figure, or None where fewer than two stages have a size and an accuracy.
    """
    by_role = {model.role: model for model in contents.models}
    models = [by_role[role] for role in contents.way if role in by_role]
    points = [(model, *place) for model in models if (place := _place(model)) is not None]
    if len(points) < 2:
        return None
    roles = [model.role for model in contents.models]
    return draw_points(
        [
            (model.role, _details(model), colour(model.role, roles), size, accuracy)
            for model, size, accuracy in points
        ]
    )  # fmt: skip


def draw_points(points: Sequence[tuple[str, str, str, float, float]]) -> "Figure":
    """Points of accuracy against size, joined by arrows.

    Args:
        points: Name, details, colour, bytes and accuracy in per cent, in order; at least one.

    Returns:
        The figure.
    """
    sizes, rights = [point[3] for point in points], [point[4] for point in points]
    with styled():
        from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

        drawing = figure(9.0, 4.4)
        axes = drawing.add_subplot()
        axes.set_xscale("log")
        spread = max(max(sizes) / min(sizes), 3.0)
        axes.set_xlim(min(sizes) / spread**0.32, max(sizes) * spread**0.32)
        room = max(max(rights) - min(rights), 0.02 * max(rights), 1e-9)
        axes.set_ylim(min(rights) - 0.35 * room, max(rights) + 0.35 * room)
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{number(value)}B"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        for before, after in zip(points, points[1:], strict=False):
            arrow = {"arrowstyle": "-|>", "color": MUTED, "linewidth": 1.1, "shrinkA": 7, "shrinkB": 7}
            axes.annotate("", after[3:], before[3:], arrowprops=arrow)
        labels = []
        for name, details, shade, size, right in sorted(points, key=lambda point: -point[4]):
            axes.scatter([size], [right], s=90, color=shade, zorder=3, linewidth=0)
            heading = (clean(name, 34), {"fontsize": 9.5, "fontweight": "bold", "color": shade})
            labels.append(Label((size, right), [heading, (details, {"fontsize": 8.5, "color": MUTED})]))
        axes.set_xlabel("file size (bytes)")
        axes.set_title("Accuracy (%)")
        tidy(axes)
        axes.tick_params(which="minor", length=0)
        place_labels(axes, labels)
    return drawing


def _place(model: Model) -> tuple[float, float] | None:
    size, right = model.scores.get("file_bytes"), model.scores.get("accuracy")
    return None if not size or right is None else (float(size), 100 * float(right))


def _details(model: Model) -> str:
    parts = [f"{100 * float(model.scores['accuracy']):.2f} %", f"{number(float(model.scores['file_bytes']))}B"]
    if model.scores.get("latency_ms"):
        parts.append(f"{float(model.scores['latency_ms']):.2g} ms")
    return ", ".join(parts)


def explain_way(contents: Contents) -> str:
    """The caption of the stages.

    Args:
        contents: What the report shows.

    Returns:
        A paragraph.
    """
    words = "Higher is better, further left is smaller; the horizontal axis is logarithmic. Each arrow is one step"
    if any("svd" in role for role in contents.way):
        words += ": svd factorises a large layer into two thin ones"
    if any("pruned" in role for role in contents.way):
        words += ": pruned takes out the hidden units and channels whose absence changes the answers least"
    if any("svd" in role or "pruned" in role for role in contents.way):
        if any("fine-tune" in role for role in contents.way):
            words += ", fine-tune distils the result from the original network"
    if any("int8" in role for role in contents.way):
        words += ", int8 quantises the weights of linear layers to 8 bits"
    return words + ". Latency is that of one example."


def draw_spectrum(contents: Contents) -> "Figure | None":
    """Singular values of each layer, and its rank.

    Args:
        contents: What the report shows.

    Returns:
        The figure, or None where there are none.
    """
    return draw_spectra(contents.spectra) if contents.spectra else None


def draw_spectra(spectra: Sequence[Singular]) -> "Figure":
    """Singular values of layers, one panel per layer, up to twelve.

    Args:
        spectra: At least one.

    Returns:
        The figure.
    """
    shown = spectra[:_MOST_PANELS]
    columns = min(3, len(shown))
    rows = -(-len(shown) // columns)
    with styled():
        from matplotlib.ticker import MaxNLocator

        drawing = figure(9.0, 2.5 * rows + 0.2)
        for place, layer in enumerate(shown):
            axes = drawing.add_subplot(rows, columns, place + 1)
            values = np.asarray(layer.values, np.float64)
            scale = values[0] if len(values) and values[0] > 0 else 1.0
            shares = np.maximum(values / scale, 1e-6)
            ranks = np.arange(1, len(values) + 1)
            kept = len(values) if layer.rank is None else layer.rank
            axes.plot(ranks, shares, color=MUTED, linewidth=1.2)
            axes.fill_between(ranks[:kept], shares[:kept], 1e-6, color=_KEPT, alpha=0.25, linewidth=0)
            axes.fill_between(ranks[kept - 1 :], shares[kept - 1 :], 1e-6, color=_LOST, alpha=0.25, linewidth=0)
            if layer.rank is not None:
                axes.axvline(layer.rank, color=INK, linewidth=1.0)
            axes.set_yscale("log")
            axes.set_ylim(max(float(shares.min()) * 0.7, 1e-6), 1.5)
            axes.set_xlim(1, max(len(values), 2))
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
            ending = "whole" if layer.rank is None else f"rank {layer.rank} of {len(values)}"
            axes.set_title(f"{clean(layer.layer or 'the network', 22)}: {ending}")
            if place // columns == rows - 1:
                axes.set_xlabel("index of the singular value")
            tidy(axes)
            axes.tick_params(which="minor", length=0)
    return drawing


def explain_spectrum(contents: Contents) -> str:
    """The caption of the spectra.

    Args:
        contents: What the report shows.

    Returns:
        A paragraph.
    """
    words = (
        "The singular values of each layer as shares of the largest, on a logarithmic axis. Those left of the line "
        "were kept; those right of it were truncated. A layer is not factorised where two thin ones would not be "
        "smaller."
    )
    more = len(contents.spectra) - _MOST_PANELS
    return words if more <= 0 else f"{words} {more} more layers are not shown."
