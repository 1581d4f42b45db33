"""Figures of errors: examples on which models differ, confusion matrices, reliability diagrams."""

__all__ = [
    "differing_groups",
    "draw_confusions",
    "draw_disagreements",
    "draw_reliability",
    "explain_confusions",
    "explain_disagreements",
    "explain_reliability",
]

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from limbeck.evaluation.metrics import bin_confidence, confusion_matrix
from limbeck.report.contents import Contents, Model
from limbeck.report.figures_softness import label_matrix, ranked_pairs, show_picture
from limbeck.report.figures_style import INK, MUTED, clean, colour, figure, legend, number, styled, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLUMNS = 7
_SIDE = 1.05  # inches of an image
_MOST_CELLS = 32
_BINS = 15
_FEWEST = 10  # examples in a bin that is shown


def draw_disagreements(contents: Contents) -> "Figure | None":
    """Images on which models differ, or those that a single model gets wrong.

    Args:
        contents: What the report shows.

    Returns:
        The figure, or None where there are no images or nothing to show.
    """
    groups = [group for group in differing_groups(contents) if len(group[1])]
    if contents.images is None or not groups:
        return None
    models = contents.answering[:4]
    room = _SIDE + 0.82 + 0.165 * len(models)  # inches of a group: heading, true class, image, predictions
    width, height = 9.0, room * len(groups) - 0.2
    with styled():
        drawing = figure(width, height, arranged=False)
        for line, (title, rows) in enumerate(groups):
            top = height - room * line
            heading = f"{title}: {len(rows)} of {len(contents.truth)} {contents.judged_on} examples"
            drawing.text(0.1 / width, (top - 0.05) / height, heading, fontsize=10.5, va="top")
            if not _brief(contents):
                _name_roles(drawing, [m.role for m in contents.models], models, (top - 0.05) / height)
            for place, row in enumerate(rows[:_COLUMNS].tolist()):
                left = 0.15 + place * (width - 0.2) / _COLUMNS
                box = (left / width, (top - 0.5 - _SIDE) / height, _SIDE / width, _SIDE / height)
                axes = drawing.add_axes(box)
                show_picture(axes, contents.images[row])
                _answers(axes, contents, models, row)
    return drawing


def explain_disagreements(contents: Contents) -> str:
    """The caption of the gallery.

    Args:
        contents: What the report shows.

    Returns:
        A paragraph.
    """
    words = (
        "Above each image is its true class, below it each model's prediction and confidence; wrong predictions are in "
        "bold. "
    )
    if len(contents.answering) > 1:
        return words + (
            "In each group, the images come first on which the two models are most confident in their different "
            "predictions. An error on an ambiguous image says little; an error on a clear one says much."
        )
    return words + "The errors with the highest confidence come first."


def differing_groups(contents: Contents) -> list[tuple[str, NDArray[np.int64]]]:
    """Examples on which models differ, or that a single model gets wrong; the surest answers first.

    Args:
        contents: What the report shows.

    Returns:
        Headings with places among the examples, int64.
    """
    teacher, student, baseline = (contents.model(role) for role in ("teacher", "student", "baseline"))
    groups = []
    if student and baseline:
        groups += [_split(contents, student, baseline), _split(contents, baseline, student)]
    if student and teacher:
        groups += [_split(contents, teacher, student)]
        if not baseline:
            groups += [_split(contents, student, teacher)]
    if not groups and contents.answering:
        model = contents.answering[0]
        wrong = np.flatnonzero(model.predicted != contents.truth)
        order = wrong[np.argsort(-model.confidence[wrong], kind="stable")]
        groups = [(f"{model.role.capitalize()} wrong with high confidence", order)]
    return groups


def _split(contents: Contents, right: Model, wrong: Model) -> tuple[str, NDArray[np.int64]]:
    rows = np.flatnonzero((right.predicted == contents.truth) & (wrong.predicted != contents.truth))
    sure = np.minimum(right.confidence[rows], wrong.confidence[rows])
    return f"{right.role.capitalize()} right, {wrong.role} wrong", rows[np.argsort(-sure, kind="stable")]


def _brief(contents: Contents) -> bool:
    # Whether an answer leaves room for the role before it.
    return max(len(name) for name in contents.classes) <= 2 and all(len(m.role) <= 9 for m in contents.answering)


def _name_roles(drawing: "Figure", roles: list[str], models: tuple[Model, ...], height: float) -> None:
    place = 0.985
    for model in reversed(models):
        name = clean(model.role, 16)
        shade = _text_colour(model, roles)
        drawing.text(place, height, name, color=shade, fontsize=8.5, fontweight="bold", ha="right", va="top")
        place -= 0.0095 * (len(name) + 2)


def _text_colour(model: Model, roles: list[str]) -> str:
    return MUTED if model.role == "baseline" else colour(model.role, roles)


def _answers(axes: "Axes", contents: Contents, models: tuple[Model, ...], row: int) -> None:
    roles = [model.role for model in contents.models]
    axes.set_title(f"true: {clean(contents.classes[contents.truth[row]], 12)}", fontsize=8.5, pad=3, loc="center")
    for line, model in enumerate(models):
        name = clean(contents.classes[model.predicted[row]], 10)
        role = f"{model.role}: " if _brief(contents) else ""
        wrong = model.predicted[row] != contents.truth[row]
        axes.annotate(
            f"{role}{name}  {model.confidence[row] * 100:.0f} %",
            (0.5, 0),
            (0, -4 - 11.5 * line),
            xycoords="axes fraction",
            textcoords="offset points",
            ha="center",
            va="top",
            fontsize=8,
            color=_text_colour(model, roles),
            fontweight="bold" if wrong else "normal",
        )


def draw_confusions(contents: Contents) -> "Figure | None":
    """The confusion matrix of every model.

    Args:
        contents: What the report shows.

    Returns:
        The figure, or None where no model has predictions.
    """
    models = contents.answering[:4]
    if not models:
        return None
    count = len(contents.classes)
    tables = [confusion_matrix(model.predicted, contents.truth, count) for model in models]
    wrong = [np.where(np.eye(count, dtype=bool), 0, table) for table in tables]
    roles = [model.role for model in contents.models]
    pairs = count > _MOST_CELLS
    columns = len(models) if len(models) == 1 or (len(models) == 3 and count <= 12) else 2
    lines = -(-len(models) // columns)
    side = 9.0 / columns
    with styled():
        drawing = figure(9.0 if columns > 1 else 6.5, (4.0 if pairs else min(side, 5.6) + 0.6) * lines)
        for place, (model, table) in enumerate(zip(models, wrong, strict=True)):
            axes = drawing.add_subplot(lines, columns, place + 1)
            title = f"{clean(model.role, 20)}: {table.sum()} errors"
            if pairs:
                ranked_pairs(axes, contents, table.astype(np.float64), 12, colour(model.role, roles), percent=False)
            else:
                _matrix(axes, contents, table, max(int(t.max()) for t in wrong), colour(model.role, roles))
                if place % columns:
                    axes.set_ylabel("")
            axes.set_title(title, color=INK)
    return drawing


def explain_confusions(contents: Contents) -> str:
    """The caption of the confusion matrices.

    Args:
        contents: What the report shows.

    Returns:
        A paragraph.
    """
    if len(contents.classes) > _MOST_CELLS:
        return "The most frequent confusions with their counts: true class, then predicted class."
    return (
        f"Each row is a true class, each column a predicted class; the darker a cell, the more {contents.judged_on} "
        f"examples of that row were predicted so. The diagonal (right predictions) is left out so that the errors can "
        f"be seen. All models share one colour scale."
    )


def _matrix(axes: "Axes", contents: Contents, table: NDArray[np.int64], top: int, shade: str) -> None:
    from matplotlib.colors import LinearSegmentedColormap

    count = len(contents.classes)
    shades = LinearSegmentedColormap.from_list("errors", ["#ffffff", shade]).with_extremes(bad="#e9edf1")
    shown = np.where(np.eye(count, dtype=bool), np.nan, table.astype(np.float64))
    # The square root keeps single errors visible beside the commonest confusion.
    axes.imshow(np.sqrt(shown), cmap=shades, vmin=0, vmax=max(1.0, top**0.5))
    label_matrix(axes, contents)
    axes.set_xlabel("answer")
    axes.set_xticks(np.arange(count + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(count + 1) - 0.5, minor=True)
    axes.grid(visible=True, which="minor", color="#eef1f4", linewidth=0.6)
    axes.tick_params(which="minor", length=0)
    if count <= 12:
        for i, j in np.argwhere(table):
            text = number(table[i, j])
            axes.text(j, i, text, ha="center", va="center", fontsize=7 if len(text) < 3 else 5.5, color=INK)


def draw_reliability(contents: Contents) -> "Figure | None":
    """The reliability diagrams of the models.

    Args:
        contents: What the report shows.

    Returns:
        The figure, or None where no model has predictions.
    """
    if not contents.answering:
        return None
    fitted = [(model, _fitted(model)) for model in contents.answering]
    with styled():
        drawing = figure(9.0, 3.7)
        if any(temperature is not None for _, temperature in fitted):
            left, after, right = drawing.subplots(1, 3)
            _diagram(after, contents, fitted)
            after.set_title("After temperature scaling")
        else:
            left, right = drawing.subplots(1, 2)
        handles = _diagram(left, contents, [(model, 1.0) for model in contents.answering])
        left.set_ylabel("accuracy")
        left.set_title("Reliability")
        labels = []
        for model, temperature in fitted:
            bins = bin_confidence(model.confidence, model.predicted == contents.truth, _BINS)
            right.stairs(
                bins.counts, bins.edges, color=colour(model.role, [each.role for each in contents.models]),
                linewidth=1.6, baseline=None,
            )  # fmt: skip
            labels.append(f"{clean(model.role, 20)}, calibration error {_error(bins.expected_error)}")
            if temperature is not None:
                scaled = bin_confidence(model.sure_at(temperature), model.predicted == contents.truth, _BINS)
                labels[-1] += f", {_error(scaled.expected_error)} at T = {temperature:.3g}"
        _count_axis(right)
        right.set(xlim=(0, 1), xlabel="confidence: top-1 probability")
        right.set_title("Examples by confidence")
        tidy(right, grid="y")
        legend(drawing, handles, labels)
    return drawing


def _fitted(model: Model) -> float | None:
    """The temperature fitted on validation, where the evaluation is not on validation."""
    value = model.scores.get("calibration_temperature")
    judged = model.scores.get("calibrated_ece") is not None
    return float(value) if judged and isinstance(value, int | float) and 0 < value < np.inf else None


def _error(share: float) -> str:
    return f"{share * 100:.2g} %"


def _diagram(axes: "Axes", contents: Contents, models: Sequence[tuple[Model, float | None]]) -> list[Any]:
    """Accuracy against confidence at each model's temperature; models without one are left out."""
    axes.plot([0, 1], [0, 1], color="#b4bcc5", linewidth=1, linestyle=(0, (3, 2)))
    handles: list[Any] = []
    for model, temperature in models:
        if temperature is None:
            continue
        sure = model.confidence if temperature == 1 else model.sure_at(temperature)
        bins = bin_confidence(sure, model.predicted == contents.truth, _BINS)
        shade, full = colour(model.role, [each.role for each in contents.models]), bins.counts >= _FEWEST
        axes.plot(bins.confidence[full], bins.accuracy[full], color=shade, linewidth=1.2)
        sizes = 10 + 55 * np.sqrt(bins.counts[full] / bins.counts.max())
        handles.append(
            axes.scatter(bins.confidence[full], bins.accuracy[full], s=sizes, color=shade, linewidth=0, zorder=3)
        )
    axes.set(xlim=(0, 1.02), ylim=(0, 1.04), xlabel="confidence: top-1 probability")
    tidy(axes, grid="both")
    return handles


def explain_reliability(contents: Contents) -> str:
    """The caption of the reliability diagrams.

    Args:
        contents: What the report shows.

    Returns:
        A paragraph.
    """
    return (
        "Of the predictions with 80 % confidence, 80 % should be right: then the points lie on the dashed line. Points "
        f"below it mean an overconfident model, points above it an underconfident one. Large points stand for many "
        f"examples; small ones vary by chance, and those of fewer than {_FEWEST} are left out. The calibration error "
        f"is the mean distance from the line, weighted by examples, over 15 bins of equal width."
        + (
            " The middle diagram is after temperature scaling: one temperature per model, fitted on validation, "
            "changes the confidence and no predicted class."
            if any(_fitted(model) is not None for model in contents.answering)
            else ""
        )
    )


def _count_axis(axes: "Axes") -> None:
    from matplotlib.ticker import FuncFormatter, NullFormatter

    axes.set_yscale("symlog", linthresh=1)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
    axes.yaxis.set_minor_formatter(NullFormatter())
