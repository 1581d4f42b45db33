import itertools

import pytest

from limbeck.errors import ConfigError
from limbeck.options.search_space import Search, combinations

DEFAULTS = {"learning_rate": 0.001, "epochs": 10}


def axes(search, **others):
    return {axis.name: axis for axis in search.axes(**{**DEFAULTS, **others})}


def test_a_grid_has_every_combination_once_and_temperatures_side_by_side():
    lists = {"temperatures": (8.0, 1.0), "hard_weights": (0.0, 0.5), "learning_rates": (0.1,), "epoch_counts": (2, 1)}
    points = combinations(Search(grid=True, **lists).axes(**DEFAULTS))
    assert {tuple(point.values()) for point in points} == set(itertools.product(("kd",), *lists.values()))
    assert len(points) == 8
    assert [point["temperature"] for point in points] == [1.0] * 4 + [8.0] * 4


def test_what_is_not_named_is_searched_around_the_defaults_or_fixed():
    found = axes(Search())
    assert found["temperature"].values == (1, 20) and found["hard_weight"].values == (0, 0.9)
    assert found["learning_rate"].values == pytest.approx((0.0001, 0.01))
    assert found["epochs"].fixed and found["epochs"].values == (10,)
    assert [axis.scale for axis in found.values()] == ["choice", "log", "linear", "log", "whole"]
    grid = axes(Search(grid=True))
    assert grid["temperature"].values == (1, 2, 4, 8, 16) and grid["hard_weight"].values == (0, 0.1, 0.5, 0.9)
    assert grid["learning_rate"].values == (0.001,)


def test_matched_scores_have_no_temperature_to_combine_with():
    search = Search(grid=True, methods=("kd", "logits"), temperatures=(1.0, 4.0), hard_weights=(0.0, 0.5))
    points = combinations(search.axes(**DEFAULTS))
    assert [(p["method"], p.get("temperature"), p["hard_weight"]) for p in points] == [
        ("kd", 1.0, 0.0), ("kd", 1.0, 0.5), ("kd", 4.0, 0.0), ("kd", 4.0, 0.5), ("logits", None, 0.0),
        ("logits", None, 0.5),
    ]  # fmt: skip
    assert all("temperature" not in point for point in points[4:])


def test_soft_targets_of_one_temperature_fix_it():
    assert axes(Search(), only_temperature=3.0)["temperature"].values == (3,)
    assert axes(Search(temperatures=(3.0,)), only_temperature=3.0)["temperature"].fixed
    with pytest.raises(ConfigError, match="valid only for temperature 3, and temperatures are 1 8"):
        axes(Search(temperatures=(1.0, 8.0)), only_temperature=3.0)


def test_without_labels_they_have_no_weight():
    assert axes(Search(), labelled=False)["hard_weight"].values == (0,)
    with pytest.raises(ConfigError, match=r"hard_weights are 0\.1, and the training set has no labels"):
        axes(Search(hard_weights=(0.1,)), labelled=False)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"temperatures": ()}, "temperatures must be above 0 and finite, at least one, and are none"),
        ({"temperatures": (0.0, 4.0)}, "temperatures must be above 0"),
        ({"temperatures": (1.0, float("inf"))}, "temperatures must be above 0 and finite"),
        ({"temperatures": (float("nan"),)}, "temperatures must be above 0 and finite"),
        ({"temperatures": (8.0, 2.0)}, "temperatures are an empty range: 8 is above 2"),
        ({"temperatures": (2.0, 2.0)}, "temperatures repeat a value: 2 2"),
        (
            {"temperatures": (1.0, 2.0, 4.0)},
            "temperatures are the lowest and the highest value, and 3 are given: 1 2 4",
        ),
        ({"hard_weights": (0.0, 1.5)}, r"hard_weights must be in \[0, 1\]"),
        ({"hard_weights": (-0.1,)}, r"hard_weights must be in \[0, 1\]"),
        ({"learning_rates": (0.0,)}, "learning_rates must be above 0"),
        ({"epoch_counts": (0, 5)}, "epoch_counts must be whole numbers of at least 1"),
        ({"epoch_counts": (2.5,)}, "epoch_counts must be a whole number"),
        ({"grid": True, "trials": 5}, "a grid tries each combination once: leave trials out"),
        ({"methods": ()}, "methods must be named, once each, and are none"),
        ({"methods": ("kd", "kd")}, "methods must be named, once each, and are kd kd"),
        ({"methods": ("hinge",)}, "there is no method 'hinge'"),
        ({"methods": ("logits",), "temperatures": (1.0, 4.0)}, "has no temperature: leave temperatures out"),
        ({"trials": 0}, "trials must be at least 1, and is 0"),
        ({"timeout_minutes": 0.0}, "timeout_minutes must be above 0"),
    ],
)
def test_what_cannot_be_searched_is_refused(settings, says):
    with pytest.raises(ConfigError, match=says):
        Search(**settings)
