"""The Pareto front of a compression's stages in size, latency and errors."""

__all__ = ["draw_pareto", "explain_pareto", "undominated"]

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from limbeck.report.contents import Contents, Model
from limbeck.report.figures_style import MUTED, clean, colour, figure, number, styled, tidy
from limbeck.report.label_places import Label, place_labels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Point = tuple[float, float, float]


def undominated(points: Sequence[Point]) -> list[bool]:
    """Which points are Pareto-optimal: no other is as good in all and better in one.

    Args:
        points: Size, time and errors of each; lower is better.

    Returns:
        Whether it is on the Pareto front.

    Example:
        >>> undominated([(1, 5, 3), (2, 4, 3), (2, 5, 3), (1, 5, 3)])
        [True, True, False, True]
    """

    def beats(one: Point, other: Point) -> bool:
        return one != other and all(a <= b for a, b in zip(one, other, strict=True))

    return [not any(beats(other, point) for other in points) for point in points]


def draw_pareto(contents: Contents) -> "Figure | None":
    """Error rate against size and against latency; points of the Pareto front are filled.

    Args:
        contents: What the report shows.

    Returns:
        The figure, or None where the run is not a compression or fewer than two models have all three.
    """
    found = [(model, place) for model in contents.models if (place := _place(model)) is not None]
    if not contents.way or len(found) < 2:
        return None
    front = undominated([place for _, place in found])
    roles = [model.role for model in contents.models]
    with styled():
        drawing = figure(9.0, 3.9)
        panels = drawing.subplots(1, 2, sharey=True)
        for axis, (axes, heading) in enumerate(zip(panels, ("file size (bytes)", "ms per example"), strict=True)):
            values = [place[axis] for _, place in found]
            errors = [place[2] for _, place in found]
            _scale(axes, values, errors, "B" if axis == 0 else "")
            labels = []
            for (model, place), best in zip(found, front, strict=True):
                shade = colour(model.role, roles)
                axes.scatter(
                    [place[axis]], [place[2]], s=80, zorder=3, linewidth=1.6,
                    edgecolor=shade, facecolor=shade if best else "white",
                )  # fmt: skip
                name = (clean(model.role, 24), {"fontsize": 9, "fontweight": "bold" if best else "normal"})
                labels.append(Label((place[axis], place[2]), [name]))
            here = undominated([(place[axis], 0.0, place[2]) for _, place in found])
            steps = sorted((place[axis], place[2]) for (_, place), best in zip(found, here, strict=True) if best)
            dashes: dict[str, Any] = {"color": MUTED, "linewidth": 1, "linestyle": (0, (3, 2)), "zorder": 1}
            axes.step(*zip(*steps, strict=True), where="post", **dashes)
            axes.set_xlabel(heading)
            tidy(axes)
            axes.tick_params(which="minor", length=0)
            place_labels(axes, labels)
        panels[0].set_title(f"{contents.judged_on.capitalize()} error rate (%) and size")
        panels[1].set_title("and latency")
    return drawing


def explain_pareto(contents: Contents) -> str:
    """The caption of the figure.

    Args:
        contents: What the report shows.

    Returns:
        A paragraph.
    """
    found = [(model, place) for model in contents.models if (place := _place(model)) is not None]
    front = undominated([place for _, place in found])
    beaten = [clean(model.role, 24) for (model, _), best in zip(found, front, strict=True) if not best]
    words = (
        "Lower and further left is better; horizontal axes are logarithmic. Filled points are on the Pareto front of "
        "size, latency and errors; small differences of errors and times may be chance. The dashed line is the front "
        "of each diagram alone."
    )
    return f"{words} Dominated: {', '.join(beaten)}." if beaten else words


def _place(model: Model) -> Point | None:
    size, time, right = (model.scores.get(name) for name in ("file_bytes", "latency_ms", "accuracy"))
    if not size or not time or right is None:
        return None
    return float(size), float(time), 100 * (1 - float(right))


def _scale(axes: "Axes", values: Sequence[float], errors: Sequence[float], unit: str) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_xscale("log")
    spread = max(max(values) / min(values), 3.0)
    axes.set_xlim(min(values) / spread**0.35, max(values) * spread**0.35)
    room = max(max(errors) - min(errors), 0.05 * max(errors), 1e-9)
    axes.set_ylim(max(0, min(errors) - 0.5 * room), max(errors) + 0.5 * room)
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if spread < 30 else (1.0,)))

    def shown(value: float, _: object) -> str:
        return f"{number(value)}{unit}" if unit else f"{value:.3g}"

    axes.xaxis.set_major_formatter(FuncFormatter(shown))
    axes.xaxis.set_minor_formatter(NullFormatter())
