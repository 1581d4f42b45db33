"""Label placement: no label overlaps another label, a point, or the edge."""

__all__ = ["Box", "Label", "free_place", "place_labels"]

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Annotation

_BESIDE = 11.0
"""Points between a marker's centre and its label."""
_LINE = 12.0
"""Points from one line of a label to the next."""
_RADIUS = 6.0
"""Points around a marker that no label covers."""
_FAR = 14.0
"""Points that a label may be moved up or down before a line leads to it."""


@dataclass(frozen=True)
class Box:
    """A rectangle in any units, its sides parallel to the axes."""

    left: float
    bottom: float
    right: float
    top: float

    def meets(self, other: "Box") -> bool:
        """Whether two boxes have an area in common.

        Args:
            other: Another box.

        Returns:
            Whether they overlap; boxes that touch do not.

        Example:
            >>> Box(0, 0, 2, 1).meets(Box(1, 0, 3, 1)), Box(0, 0, 1, 1).meets(Box(1, 0, 2, 1))
            (True, False)
        """
        return (
            self.left < other.right and other.left < self.right and self.bottom < other.top and other.bottom < self.top
        )

    def within(self, other: "Box") -> bool:
        """Whether it lies in another box wholly."""
        return (
            other.left <= self.left
            and self.right <= other.right
            and other.bottom <= self.bottom
            and self.top <= other.top
        )


@dataclass(frozen=True)
class Label:
    """The label of a point.

    Attributes:
        point: Where the point is, in the units of the axes.
        lines: Each line with its matplotlib settings.
    """

    point: tuple[float, float]
    lines: Sequence[tuple[str, dict[str, Any]]]


def free_place(
    size: tuple[float, float], point: tuple[float, float], taken: Sequence[Box], room: Box, *, side: int = 1
) -> tuple[int, float]:
    """Place a label beside its point, moved up or down as little as needed.

    Args:
        size: Width and height of the label.
        point: The point that it belongs to.
        taken: Boxes to avoid.
        room: Box to stay within, if possible.
        side: 1 to try the right side of the point first, -1 for the left one.

    Returns:
        The side that was chosen, 1 or -1, and how far up the label's middle is moved; the first place tried where all
        are taken.

    Example:
        >>> free_place((30, 20), (50, 50), [], Box(0, 0, 100, 100))
        (1, 0.0)
        >>> free_place((30, 20), (50, 50), [Box(60, 35, 100, 65)], Box(0, 0, 100, 100))
        (-1, 0.0)
    """
    places = list(_places(side, size[1], room.top - room.bottom))
    for inside in (True, False):
        for chosen, up in places:
            box = box_at(size, point, chosen, up)
            if (box.within(room) or not inside) and not any(box.meets(other) for other in taken):
                return chosen, up
    return places[0]


def _places(side: int, height: float, tallest: float) -> Iterator[tuple[int, float]]:
    """Sides and shifts, the nearest first."""
    shift = 0.0
    while shift <= tallest:
        for chosen in (side, -side):
            yield from {(chosen, shift): None, (chosen, -shift): None}
        shift += height / 4


def box_at(size: tuple[float, float], point: tuple[float, float], side: int, up: float) -> Box:
    """The box of a label on a side of its point."""
    (width, height), (x, y) = size, point
    near = x + side * _BESIDE
    left, right = sorted((near, near + side * width))
    return Box(left, y + up - height / 2, right, y + up + height / 2)


def place_labels(axes: "Axes", labels: Sequence[Label]) -> "list[list[Annotation]]":
    """Draw the labels of points without overlaps.

    The limits of the axes must be set before. A label that had to move away from its point gets a line to it.

    Args:
        axes: The axes of the points.
        labels: The label of each point.

    Returns:
        The annotations of each label, one per line.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    drawing = axes.get_figure(root=True)
    assert drawing is not None, "axes are part of a figure"
    renderer = FigureCanvasAgg(drawing).get_renderer()  # type: ignore[no-untyped-call]
    drawing.draw_without_rendering()  # applies the layout
    unit = drawing.dpi / 72
    corners = axes.get_window_extent(renderer)
    room = Box(*(value / unit for value in corners.extents))
    points = [tuple(value / unit for value in axes.transData.transform(label.point)) for label in labels]
    taken = [Box(x - _RADIUS, y - _RADIUS, x + _RADIUS, y + _RADIUS) for x, y in points]
    written = []
    for label, (x, y) in zip(labels, points, strict=True):
        lines = [
            axes.annotate(text, label.point, (0, 0), textcoords="offset points", va="center", **settings)
            for text, settings in label.lines
        ]
        width = max(line.get_window_extent(renderer).width / unit for line in lines)
        size = (width, _LINE * len(lines))
        side, up = free_place(size, (x, y), taken, room, side=-1 if x > (room.left + room.right) / 2 else 1)
        taken.append(box_at(size, (x, y), side, up))
        for number, line in enumerate(lines):
            line.set_position((_BESIDE * side, up + _LINE * ((len(lines) - 1) / 2 - number)))
            line.set_horizontalalignment("left" if side > 0 else "right")
            line.set_in_layout(False)
        if abs(up) > _FAR:
            leader = {"arrowstyle": "-", "color": "#9aa5b1", "linewidth": 0.7, "shrinkA": 0, "shrinkB": 5}
            axes.annotate("", label.point, (_BESIDE * side, up), textcoords="offset points", arrowprops=leader)
        written.append(lines)
    return written
