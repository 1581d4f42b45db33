"""The search of a method's own options: in ranges that the method names, as distill takes them, and nothing unused."""

import json

import pytest
import torch
from torch import nn

import limbeck
from limbeck import Augmentation, DataSet, Examples, Search, tune
from limbeck.errors import ConfigError
from limbeck.methods import make_method, method_class
from limbeck.options.methods import METHODS
from limbeck.options.search_space import combinations
from limbeck.tuning.option_axes import option_axes

SETTINGS = {"epochs": 2, "batch_size": 32, "learning_rate": 0.02, "precision": "float32", "device": "cpu"}


@pytest.fixture(autouse=True)
def no_drawing(monkeypatch):
    monkeypatch.setattr("limbeck.tuning.results.write_search_report", lambda contents, path: path)


def examples(count, seed):
    inputs = torch.randn(count, 5, generator=torch.Generator().manual_seed(seed))
    return Examples.of(inputs, inputs[:, :3].argmax(-1))


def data():
    return DataSet(name="toy", classes=("a", "b", "c"), train=examples(64, 0), test=None, validation=examples(50, 2))


def net(seed):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3))


@pytest.mark.parametrize("name", METHODS)
def test_ranges_are_of_options_and_hold_what_the_authors_chose(name):
    kind = method_class(name)
    defaults = kind.option_defaults()
    for option, limits in kind.ranges.items():
        assert limits.low < defaults[option] < limits.high
        for value in limits[:2]:
            assert make_method(name, {option: value}).options[option] == value
    weights = {option for option, value in defaults.items() if isinstance(value, float)}
    assert weights - {"temperature", "anneal", "exponent"} == set(kind.ranges), "each weight is searched"
    assert all(limits.log for limits in kind.ranges.values())


def test_axes_are_those_of_the_methods_that_are_searched():
    def names(methods, *options, **more):
        return {axis.name: axis.values for axis in option_axes(Search(methods=methods, method_options=options, **more))}

    assert names(("kd", "logits")) == {}
    assert names(("kd:1+dkd:0.5",), "alpha=1") == {"dkd.alpha": (1,), "dkd.beta": (0.5, 50)}
    assert names(("dkd",), "beta=1:4", search_options=False) == {"dkd.beta": (1.0, 4.0)}
    assert names(("dkd",), grid=True) == {} and names(("dkd",), "beta=1,4", grid=True) == {"dkd.beta": (1, 4)}
    assert names(("dist",), "variant=code,paper", search_options=False) == {"dist.variant": ("code", "paper")}
    assert names(("attention",), "student_layers=1,2", "teacher_layers=0,1", search_options=False) == {
        "attention.student_layers": ("1,2",), "attention.teacher_layers": ("0,1",),
    }  # fmt: skip
    assert set(names(("fitnets",), "stages=2")) == {"fitnets.stages", "fitnets.weight", "fitnets.anneal"}
    axes = Search(methods=("dkd", "logits"), method_options=("beta=2:3",)).axes(
        learning_rate=0.1,
        epochs=2,
        options=option_axes(Search(methods=("dkd", "logits"), method_options=("beta=2:3",))),
    )
    for point in combinations(axes):
        assert ("dkd.alpha" in point) == ("dkd.beta" in point) == ("temperature" in point) == (point["method"] == "dkd")


@pytest.mark.parametrize(
    ("methods", "options", "grid", "says"),
    [
        (("kd",), ("beta=1",), False, "method kd has no option 'beta'"),
        (("dkd", "dist"), ("beta=1",), False, "dkd and dist each have an option beta"),
        (("dkd",), ("beta=4:1",), False, "an empty range: 4 is not below 1"),
        (("dkd",), ("beta=1:x",), False, "LOW:HIGH are numbers"),
        (("dkd",), ("beta=1,2",), False, "a list is for a grid"),
        (("dkd",), ("beta=1:2",), True, "a grid needs a list"),
        (("dkd",), ("beta=-1:2",), False, "option beta must be at least 0"),
        (("attention",), (), True, "hard_weights hold 0, at which nothing would train"),
        (("fitnets",), ("stages=2", "hint_epochs=2"), False, "nothing is left for the second stage"),
    ],
)
def test_what_cannot_be_searched_is_told_in_a_line(methods, options, grid, says):
    search = Search(methods=methods, method_options=options, grid=grid, hard_weights=(0.0, 0.5))
    with pytest.raises(ConfigError, match=says) as caught:
        tune(net(9), net, data(), search=search, **SETTINGS)
    assert "\n" not in str(caught.value)


def reached(run):
    return min((row["validation_errors"], row["validation_nll"]) for row in run.history)


@pytest.mark.parametrize("method", ["dkd", "rkd"])
def test_each_trial_is_the_distillation_with_its_options(method, tmp_path):
    option = {"dkd": "beta", "rkd": "distance"}[method]
    hot = (2.0,) if method == "dkd" else None
    options = (f"{option}=2,30",)
    grid = Search(grid=True, methods=(method,), method_options=options, hard_weights=(0.5,), temperatures=hot)
    found = tune(net(9), net, data(), search=grid, out=tmp_path / "grid", **SETTINGS)
    assert {row[f"{method}.{option}"] for row in found.trials} == {2, 30}
    assert (method == "rkd") == all(row["temperature"] is None for row in found.trials)
    row = found.trials[-1]
    aims = {"method": method, "method_options": {option: row[f"{method}.{option}"]}, "hard_weight": 0.5}
    if method == "dkd":
        aims["temperature"] = row["temperature"]
    run = limbeck.distill(net(9), net, data(), baseline=False, **aims, **SETTINGS)
    assert (row["validation_errors"], pytest.approx(row["validation_nll"], abs=1e-6)) == reached(run)
    best = limbeck.distill(net(9), net, data(), baseline=False, batch_size=32, precision="float32", **found.best)
    least = min((row["validation_errors"], row["validation_nll"]) for row in found.trials)
    assert reached(best)[0] == least[0] and f"{method}.{option}=" in found.best["method_options"][0]
    assert "method_options" in (tmp_path / "grid" / "best.toml").read_text()
    assert json.loads((tmp_path / "grid" / "metrics.json").read_text())["best"][f"{method}.{option}"] in {2, 30}


def test_nothing_is_drawn_that_a_method_does_not_use():
    search = Search(trials=6, methods=("dkd", "logits", "similarity"), prune=False, baseline=False)
    short = {"epochs": 1, "batch_size": 32, "precision": "float32", "device": "cpu"}
    rows = tune(net(9), net, data(), search=search, **short).trials
    assert {row["method"] for row in rows} >= {"dkd", "similarity"}
    for row in rows:
        own = {name for name, value in row.items() if "." in name and value is not None}
        assert own == {"dkd": {"dkd.alpha", "dkd.beta"}, "similarity": {"similarity.gamma"}}.get(row["method"], set())
        assert (row["temperature"] is not None) == (row["method"] == "dkd")
        assert row["method"] != "similarity" or 100 < row["similarity.gamma"] < 1e5


def test_a_teacher_sees_the_view_that_is_asked_for():
    images = torch.randn(48, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    seen = Examples.of(images, images.flatten(1)[:, :3].argmax(1))
    pictures = DataSet(name="toy", classes=("a", "b", "c"), train=seen, test=None, validation=seen)
    teacher = nn.Sequential(nn.Flatten(), nn.Linear(36, 3))
    grid = Search(grid=True, temperatures=(2.0,), hard_weights=(0.0,))
    views = {"augmentation": Augmentation(shift=2, views=2)}

    def student(seed):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), nn.Linear(36, 3))

    losses = {}
    for view in ("consistent", "fixed", "independent"):
        found = tune(teacher, student, pictures, search=grid, teacher_view=view, **views, **SETTINGS).trials[0]
        aims = {"temperature": 2.0, "hard_weight": 0.0, "baseline": False, "teacher_view": view}
        run = limbeck.distill(teacher, student, pictures, **aims, **views, **SETTINGS)
        assert (found["validation_errors"], pytest.approx(found["validation_nll"], abs=1e-6)) == reached(run)
        losses[view] = found["validation_nll"]
    assert len(set(losses.values())) == 3
    drawn = Augmentation(shift=2)  # any number of views: the example as it is needs one answer
    assert tune(teacher, student, pictures, search=grid, teacher_view="fixed", augmentation=drawn, **SETTINGS).trials
