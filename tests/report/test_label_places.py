"""Labels of points in figures: boxes as the renderer sees them must not overlap, for random and for equal values."""

import dataclasses

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Annotation

from limbeck.report import Contents, Model
from limbeck.report.figures_compression import draw_points
from limbeck.report.figures_size import draw_tradeoff
from limbeck.report.label_places import Box, box_at, free_place


def boxes(drawing):
    """The box of each label as it is drawn, and the axes."""
    renderer = FigureCanvasAgg(drawing).get_renderer()
    drawing.draw_without_rendering()
    (axes,) = drawing.axes
    texts = [text for text in axes.texts if isinstance(text, Annotation) and text.get_text()]
    found = [Box(*text.get_window_extent(renderer).extents) for text in texts]
    return found, Box(*axes.get_window_extent(renderer).extents), axes


def assert_apart(drawing):
    found, room, axes = boxes(drawing)
    assert len(found) >= 4
    for number, box in enumerate(found):
        assert box.within(dataclasses.replace(room, left=room.left - 1, right=room.right + 1))
        assert not any(box.meets(other) for other in found[:number])
    for marks in axes.collections:
        for x, y in axes.transData.transform(marks.get_offsets()):
            assert not any(box.meets(Box(x - 4, y - 4, x + 4, y + 4)) for box in found)


def contents(sizes, errors):
    roles = ("teacher", "baseline", "student", *(f"student {number}" for number in range(9)))
    models = [
        Model(role, role, scores={"parameters": size, "accuracy": 1 - wrong, "latency_ms": size / 1e6})
        for role, size, wrong in zip(roles, sizes, errors, strict=False)
    ]
    return Contents(title="Sizes", created="2026-01-01", classes=("a", "b"), models=tuple(models))


def test_equal_errors_are_labelled_apart():
    assert_apart(draw_tradeoff(contents((2_395_210, 101_770, 101_770), (0.0111, 0.0154, 0.0111))))
    assert_apart(draw_tradeoff(contents((101_770, 101_770, 101_770), (0.0111, 0.0111, 0.0111))))


@pytest.mark.parametrize("seed", range(6))
def test_random_values_are_labelled_apart(seed):
    draw = np.random.default_rng(seed)
    count = int(draw.integers(2, 6))
    sizes = np.round(10 ** draw.uniform(4, 4 + 3 * draw.random(), count))
    errors = np.round(draw.uniform(0.01, 0.01 + 0.1 * draw.random() ** 3, count), 3)
    assert_apart(draw_tradeoff(contents(sizes.tolist(), errors.tolist())))
    points = [
        (f"stage {number}", "97.31 %, 120 kB, 0.3 ms", "#0072b2", size, 100 - 100 * wrong)
        for number, (size, wrong) in enumerate(zip(sizes.tolist(), errors.tolist(), strict=True))
    ]
    assert_apart(draw_points(points))


def test_a_place_is_the_nearest_that_is_free():
    """Against all places on a fine grid."""
    draw, room = np.random.default_rng(0), Box(0, 0, 200, 100)
    moved = 0
    for _ in range(60):
        corners = draw.uniform(0, 160, (5, 2))
        taken = [Box(x, y / 2, x + 40, y / 2 + 20) for x, y in corners.tolist()]
        point, size = tuple(draw.uniform(40, 100, 2).tolist()), (30.0, 12.0)
        side, up = free_place(size, point, taken, room)
        moved += up != 0

        def free(side, up, point=point, size=size, taken=taken):
            box = box_at(size, point, side, up)
            return box.within(room) and not any(box.meets(other) for other in taken)

        assert free(side, up)
        nearer = np.arange(-abs(up), abs(up), 3.0)
        assert not any(free(one, shift) for one in (1, -1) for shift in nearer if abs(shift) < abs(up))
    assert 10 < moved < 60
