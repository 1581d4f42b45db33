"""The budget's division against trying everything."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck.errors import ConfigError
from limbeck.lowrank.allocation import Curve, allot


def best_of_all(curves, budget):
    best = np.inf
    for places in itertools.product(*(range(len(curve.costs)) for curve in curves)):
        cost = sum(curve.costs[place] for curve, place in zip(curves, places, strict=True))
        if cost <= budget:
            best = min(best, sum(curve.losses[place] for curve, place in zip(curves, places, strict=True)))
    return best


@st.composite
def curve(draw, choices=6):
    steps = draw(st.lists(st.integers(1, 9), min_size=1, max_size=choices))
    drops = draw(st.lists(st.floats(0, 10), min_size=len(steps), max_size=len(steps)))
    return Curve(np.cumsum(steps), np.cumsum(drops[::-1])[::-1] - drops[-1])


@settings(deadline=None)
@given(st.lists(curve(), min_size=1, max_size=2), st.integers(0, 60))
def test_one_or_two_layers_are_exact(curves, spare):
    budget = sum(int(c.costs[0]) for c in curves) + spare
    places = allot(curves, budget)
    assert sum(c.costs[p] for c, p in zip(curves, places, strict=True)) <= budget
    loss = sum(c.losses[p] for c, p in zip(curves, places, strict=True))
    assert np.isclose(loss, best_of_all(curves, budget), atol=1e-9)


@settings(deadline=None, max_examples=60)
@given(st.lists(curve(5), min_size=3, max_size=4), st.integers(0, 60))
def test_more_layers_stay_within_a_step_of_the_best(curves, spare):
    budget = sum(int(c.costs[0]) for c in curves) + spare
    places = allot(curves, budget)
    assert sum(c.costs[p] for c, p in zip(curves, places, strict=True)) <= budget
    loss = sum(c.losses[p] for c, p in zip(curves, places, strict=True))
    largest_step = max(float(c.losses[0] - c.losses[-1]) for c in curves)
    assert loss <= best_of_all(curves, budget) + largest_step + 1e-9


def test_spectra_of_real_size_reach_the_best_closely():
    # With three falling spectra of equal cost a step, the best is to take the largest drops.
    generator = np.random.default_rng(0)
    drops = [np.sort(generator.exponential(size=200))[::-1] for _ in range(3)]
    curves = [Curve(np.arange(201), d.sum() - np.append(0, np.cumsum(d))) for d in drops]
    places = allot(curves, 150)
    kept = sum(d[:place].sum() for d, place in zip(drops, places, strict=True))
    assert sum(places) == 150 and np.isclose(kept, np.sort(np.concatenate(drops))[::-1][:150].sum())


def test_nothing_is_spent_for_nothing():
    level = Curve(np.array([1, 2, 3]), np.array([1.0, 0.0, 0.0]))
    assert allot([level, level], 100) == [1, 1]
    assert allot([], 0) == []


def test_too_small_a_budget_says_the_smallest():
    with pytest.raises(ConfigError, match="below the smallest possible, 5"):
        allot([Curve(np.array([5, 6]), np.array([1.0, 0.0]))], 4)
