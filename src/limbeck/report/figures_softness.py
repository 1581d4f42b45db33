"""Figures of dark knowledge: softened outputs, and class similarities.

Axes: ``N`` evaluation examples, ``K`` classes.
"""

__all__ = [
    "dark_knowledge",
    "draw_dark_knowledge",
    "draw_temperature",
    "explain_dark_knowledge",
    "explain_temperature",
    "label_matrix",
    "ranked_pairs",
    "show_picture",
]

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from limbeck.report.contents import Contents, Model
from limbeck.report.figures_style import INK, MUTED, clean, colour, figure, legend, number, styled, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TEMPERATURES = (1.0, 2.0, 5.0, 10.0, 20.0)
_MOST_BARS = 10  # classes in a bar chart
_MOST_CELLS = 32  # classes in a heat map
_ENOUGH = 20_000_000  # probabilities to average: above, every k-th example is used


def show_picture(axes: "Axes", picture: NDArray[np.uint8]) -> None:
    """Draw an image without axes."""
    axes.imshow(picture, cmap="gray_r" if picture.ndim == 2 else None, vmin=0, vmax=255, interpolation="none")
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(True)
        spine.set_color("#c4ccd4")


def draw_temperature(contents: Contents) -> "Figure | None":
    """Softened outputs for three images at five temperatures, teacher beside student.

    Args:
        contents: What the report shows.

    Returns:
        The figure, or None where no model has predictions.
    """
    models = _taught(contents)
    if not models:
        return None
    rows = _telling_examples(contents, models[0])
    temperatures = _temperatures(contents)
    columns = len(TEMPERATURES) + 1
    with styled():
        upright = max(len(name) for name in contents.classes) <= 2
        drawing = figure(9.0, 0.75 + (1.35 if upright else 1.85) * len(rows))
        grid = drawing.add_gridspec(len(rows), columns, width_ratios=[0.8] + [1] * (columns - 1))
        handles = []
        for line, row in enumerate(rows):
            _show_example(drawing.add_subplot(grid[line, 0]), contents, row)
            order = _shown_classes(contents, models[0], row)
            highest = max(float(model.softened(np.array([row]), 1.0).max()) for model in models)
            top = next(limit for limit in (0.1, 0.2, 0.5, 1.0) if highest <= limit or limit == 1)
            for column, temperature in enumerate(temperatures):
                axes = drawing.add_subplot(grid[line, column + 1])
                handles = [
                    axes.bar(
                        np.arange(len(order)) + (place - (len(models) - 1) / 2) * 0.42,
                        model.softened(np.array([row]), temperature)[0, order],
                        width=0.42 if len(models) > 1 else 0.7,
                        color=colour(model.role),
                    )
                    for place, model in enumerate(models)
                ]
                _label_classes(axes, contents, order)
                axes.set_ylim(0, top)
                ticks = [0, top / 2, top]
                axes.set_yticks(ticks, [f"{tick:g}" if column == 0 else "" for tick in ticks])
                tidy(axes)
                if line == 0:
                    used = " (used)" if temperature == contents.temperature else ""
                    axes.set_title(f"T = {temperature:g}{used}", loc="center")
        legend(drawing, handles, [model.role for model in models])
        if contents.images is None:
            drawing.supylabel("probability", fontsize=9, color=MUTED)
    return drawing


def explain_temperature(contents: Contents) -> str:
    """The caption of the softened outputs.

    Args:
        contents: What the report shows.

    Returns:
        A paragraph.
    """
    words = (
        f"Each row is a {contents.judged_on} example that the teacher gets right: the first two are those with the "
        f"lowest confidence, the last is a typical one. Bars are the probability of each class. At T = 1 a typical "
        f"output is one bar, and says no more than the label does. A higher temperature divides the logits and raises "
        f"the small bars: they show which wrong classes are likely and which are not, and that is what the student "
        f"learns from."
    )
    if len(contents.classes) > _MOST_BARS:
        few = _MOST_BARS - 2
        words += f" Of {len(contents.classes)} classes, the teacher's top {few} are shown."
    if contents.temperature is not None:
        words += f" This student was taught at T = {contents.temperature:g}."
    if not contents.model("teacher"):
        words = words.replace("the teacher", "the model").replace(", and that is what the student learns from", "")
    return words


def _temperatures(contents: Contents) -> list[float]:
    # The ladder of temperatures, with the nearest rung replaced by the one that was used.
    ladder, used = list(TEMPERATURES), contents.temperature
    if used is not None and used not in ladder:
        nearest = min(range(1, len(ladder)), key=lambda k: abs(math.log(ladder[k] / used)))
        ladder[nearest] = used
    return sorted(ladder)


def _taught(contents: Contents) -> list[Model]:
    pair = [model for role in ("teacher", "student") if (model := contents.model(role))]
    return pair or list(contents.answering[:1])


def _telling_examples(contents: Contents, model: Model) -> list[int]:
    right = np.flatnonzero(model.predicted == contents.truth)
    if len(right) == 0:
        right = np.arange(len(contents.truth))
    order = right[np.argsort(model.confidence[right], kind="stable")]
    return list(dict.fromkeys([*order[:2].tolist(), int(order[len(order) // 2])]))


def _shown_classes(contents: Contents, model: Model, row: int) -> NDArray[np.int64]:
    count = len(contents.classes)
    if count <= _MOST_BARS:
        return np.arange(count)
    likely = np.argsort(-model.softened(np.array([row]), 1.0)[0], kind="stable")
    return np.sort(likely[: _MOST_BARS - 2])


def _label_classes(axes: "Axes", contents: Contents, order: NDArray[np.int64]) -> None:
    names = [clean(contents.classes[k], 9) for k in order]
    upright = max(map(len, names)) <= 2
    axes.set_xticks(range(len(order)), names, rotation=0 if upright else 90, fontsize=7.5)


def _show_example(axes: "Axes", contents: Contents, row: int) -> None:
    name = clean(contents.classes[contents.truth[row]], 12)
    if contents.images is None:
        axes.axis("off")
        axes.text(0.5, 0.5, f"example {row}\ntrue class\n{name}", ha="center", va="center", fontsize=8.5)
    else:
        show_picture(axes, contents.images[row])
        axes.set_xlabel(f"true: {name}", fontsize=8.5, color=INK)


def dark_knowledge(model: Model, labels: NDArray[np.int64], classes: int, temperature: float) -> NDArray[np.float64]:
    r"""The distribution of a model's wrong-class probability, for each true class.

    .. math::
        S_{ij} = \frac{\sum_{n : y_n = i} p_{nj}}{\sum_{n : y_n = i} \sum_{k \ne i} p_{nk}}, \quad j \ne i

    Args:
        model: The model.
        labels: True classes :math:`y`, int64 ``(N,)``.
        classes: Number of classes, K.
        temperature: T of the softened probabilities :math:`p`.

    Returns:
        Shares of the wrong classes' mass, true class by wrong class, ``(K, K)``; rows sum to 1, NaN on the
        diagonal and in the rows of classes without examples.
    """
    rows = np.arange(0, len(labels), max(1, -(-len(labels) * classes // _ENOUGH)))
    rows = rows[np.argsort(labels[rows], kind="stable")]
    mass = np.zeros((classes, classes))
    step = max(1, (1 << 21) // classes)
    for start in range(0, len(rows), step):
        part = rows[start : start + step]
        present, first = np.unique(labels[part], return_index=True)
        mass[present] += np.add.reduceat(model.softened(part, temperature), first, axis=0)
    np.fill_diagonal(mass, 0)
    total = mass.sum(-1, keepdims=True)
    shares: NDArray[np.float64] = np.divide(mass, total, out=np.full_like(mass, np.nan), where=total > 0)
    np.fill_diagonal(shares, np.nan)
    return shares


def _source(contents: Contents) -> tuple[Model, float] | None:
    model = contents.model("teacher") or next(iter(contents.answering), None)
    return None if model is None or len(contents.classes) < 3 else (model, contents.temperature or 4.0)


def draw_dark_knowledge(contents: Contents) -> "Figure | None":
    """Class similarities of the teacher, and images that resemble another class.

    Args:
        contents: What the report shows.

    Returns:
        The figure, or None where no model has predictions or there are only two classes.
    """
    source = _source(contents)
    if source is None:
        return None
    model, temperature = source
    count = len(contents.classes)
    shares = dark_knowledge(model, contents.truth, count, temperature)
    if np.isnan(shares).all():
        return None
    with styled():
        if count > _MOST_CELLS:
            drawing = figure(9.0, 5.2)
            ranked_pairs(drawing.add_subplot(), contents, np.nan_to_num(shares), 20, colour(model.role), percent=True)
            return drawing
        if contents.images is None:
            drawing = figure(6.6, 5.4)
            _shares_map(drawing, drawing.add_subplot(), contents, shares)
            return drawing
        drawing = figure(9.0, 5.0)
        left, right = drawing.subfigures(1, 2, squeeze=False, width_ratios=[1.75, 1])[0]
        _shares_map(drawing, left.add_subplot(), contents, shares)
        right.suptitle("Right, but similar to …", x=0.02, ha="left", fontsize=10.5)
        for place, (row, other, share) in enumerate(_lookalikes(contents, model, temperature)):
            axes = right.add_subplot(3, 2, place + 1)
            show_picture(axes, contents.images[row])
            true = clean(contents.classes[contents.truth[row]], 10)
            kin = f"with {share * 100:.0f} % of {clean(contents.classes[other], 10)}"
            axes.set_xlabel(f"{true}, {kin}" if len(true) + len(kin) < 18 else f"{true},\n{kin}", fontsize=8.5)
    return drawing


def explain_dark_knowledge(contents: Contents) -> str:
    """The caption of the class similarities.

    Args:
        contents: What the report shows.

    Returns:
        A paragraph.
    """
    source = _source(contents)
    if source is None:
        return ""
    model, temperature = source
    words = (
        f"Of the probability that the {model.role} gives to wrong classes at T = {temperature:g}, this is "
        f"the share of each wrong class, averaged over the {contents.judged_on} examples of each true class. A label "
        f"has no such information: for it, all wrong classes are equally wrong. "
    )
    if len(contents.classes) > _MOST_CELLS:
        return words + "The twenty strongest pairs are shown, true class first."
    words += "A dark cell is a wrong class that resembles the true one of its row."
    if contents.images is not None:
        words += (
            f" On the right are examples that the {model.role} gets right, with the wrong class they come "
            "closest to and its softened probability."
        )
    return words


def _shares_map(drawing: "Figure", axes: "Axes", contents: Contents, shares: NDArray[np.float64]) -> None:
    from matplotlib.colors import LinearSegmentedColormap

    shades = ["#f4f8fb", "#8fc1de", "#0072b2", "#013a5c"]
    blues = LinearSegmentedColormap.from_list("shares", shades).with_extremes(bad="#ffffff")
    top = float(np.nanmax(shares))
    image = axes.imshow(shares * 100, cmap=blues, vmin=0, vmax=top * 100)
    bar = drawing.colorbar(image, ax=axes, shrink=0.75, pad=0.02, label="share of wrong-class probability (%)")
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0)
    label_matrix(axes, contents)
    if len(contents.classes) <= 12:
        for i, j in np.argwhere(np.nan_to_num(shares) >= 0.095):
            dark = shares[i, j] > 0.45 * top
            text = f"{shares[i, j] * 100:.0f}"
            axes.text(j, i, text, ha="center", va="center", fontsize=8, color="white" if dark else INK)


def label_matrix(axes: "Axes", contents: Contents) -> None:
    """Name the rows and columns of a matrix of classes."""
    names = [clean(name, 12) for name in contents.classes]
    upright = max(map(len, names)) <= 2
    size = 8.5 if len(names) <= 16 else 7
    axes.set_xticks(range(len(names)), names, rotation=0 if upright else 90, fontsize=size)
    axes.set_yticks(range(len(names)), names, fontsize=size)
    axes.tick_params(length=0)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    for spine in axes.spines.values():
        spine.set_visible(False)


def ranked_pairs(
    axes: "Axes", contents: Contents, values: NDArray[np.float64], most: int, shade: str, *, percent: bool
) -> None:
    """The largest entries off the diagonal of a matrix of classes, as bars."""
    from matplotlib.ticker import MaxNLocator

    count = len(contents.classes)
    flat = np.where(np.eye(count, dtype=bool), 0, values).ravel()
    first = np.argpartition(-flat, min(most, flat.size - 1))[:most]
    first = first[np.lexsort((first, -flat[first]))]
    first = first[flat[first] > 0]
    letters = 22 if percent else 13
    short = [clean(name, letters) for name in contents.classes]
    names = [f"{short[k // count]} → {short[k % count]}" for k in first]
    heights = flat[first] * (100 if percent else 1)
    axes.barh(range(len(first)), heights, color=shade, height=0.7)
    axes.set_yticks(range(len(first)), names, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("share of wrong-class probability (%)" if percent else f"{contents.judged_on} errors")
    for place, height in enumerate(heights):
        axes.annotate(
            f"{height:.2g}" if percent else number(height),
            (height, place),
            (3, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            color=MUTED,
        )
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=not percent))
    tidy(axes, grid="x")


def _lookalikes(contents: Contents, model: Model, temperature: float) -> list[tuple[int, int, float]]:
    # For six true classes, the rightly predicted example that is closest to a wrong class.
    right = np.flatnonzero(model.predicted == contents.truth)
    unsure = right[np.argsort(model.confidence[right], kind="stable")][:400]
    if len(unsure) == 0:
        return []
    probs = model.softened(unsure, temperature)
    probs[np.arange(len(unsure)), contents.truth[unsure]] = 0
    other, share = probs.argmax(-1), probs.max(-1)
    found: list[tuple[int, int, float]] = []
    seen: set[int] = set()
    for place in np.argsort(-share, kind="stable").tolist():
        true = int(contents.truth[unsure[place]])
        if true not in seen:
            seen.add(true)
            found.append((int(unsure[place]), int(other[place]), float(share[place])))
    return found[:6]
