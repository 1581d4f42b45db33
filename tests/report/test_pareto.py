"""The Pareto front against a slow loop, and the figure that shows it."""

import itertools

import numpy as np
import pytest

from limbeck.report import Contents, Model
from limbeck.report.figures_pareto import draw_pareto, explain_pareto, undominated


@pytest.mark.parametrize("seed", range(3))
def test_the_front_against_a_slow_loop(seed):
    points = [tuple(row) for row in np.random.default_rng(seed).integers(0, 4, (30, 3)).tolist()]
    slow = [True] * len(points)
    for i, j in itertools.permutations(range(len(points)), 2):
        no_worse = sum(points[j][axis] <= points[i][axis] for axis in range(3)) == 3
        better = any(points[j][axis] < points[i][axis] for axis in range(3))
        if no_worse and better:
            slow[i] = False
    assert undominated(points) == slow and any(slow) and not all(slow)


def model(role, size, time, right):
    return Model(role, role, None, (), {"file_bytes": size, "latency_ms": time, "accuracy": right})


def test_the_figure_is_of_compressions_and_names_what_is_beaten():
    models = (model("original", 4e5, 0.12, 0.985), model("svd", 4.1e5, 0.13, 0.97), model("int8", 1e5, 0.11, 0.98))
    shown = Contents(title="x", created="y", classes=("a", "b"), models=models, way=("original", "svd", "int8"))
    drawing = draw_pareto(shown)
    assert len(drawing.axes) == 2
    filled = [list(part.get_facecolor()[0]) != [1, 1, 1, 1] for part in drawing.axes[0].collections]
    assert filled == [True, False, True]
    assert explain_pareto(shown).endswith("Dominated: svd.")
    plain = Contents(title="x", created="y", classes=("a", "b"), models=models)
    assert draw_pareto(plain) is None
