"""Comparisons of methods: equal care for every arm, one look at the test set, claims that are corrected."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from torch import nn

import limbeck
from limbeck.comparing import cells as cells_module
from limbeck.comparing import comparison as comparison_module
from limbeck.comparing.arms import Arm, Settings, arms_for, weights_of
from limbeck.comparing.cells import Found
from limbeck.comparing.page import _answer, comparison_table
from limbeck.comparing.rows import judge_arms
from limbeck.errors import ConfigError, FormatError, RunError
from limbeck.methods import make_method
from limbeck.options import Training
from limbeck.options.comparison import Comparison

ARMS = ("labels", "labels-smoothed", "labels-longer", "kd")
MADE = []
"""Seeds and initial weights of students."""


def examples(count, seed):
    inputs = torch.randn(count, 4, generator=torch.Generator().manual_seed(seed))
    return inputs, (inputs[:, 0] * inputs[:, 1] > 0).long()


def small(seed):
    made = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    MADE.append((seed, tuple(made[0].weight.flatten().tolist())))
    return made


def larger(seed):
    return nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2))


def compare(out, **more):
    given = {"comparison": Comparison(methods=("kd",), trials=2, seeds=2), "epochs": 1, "learning_rate": 0.01} | more
    teacher = given.pop("teacher", None) or make_teacher()
    train = given.pop("train", examples(64, 1))
    student = given.pop("student", small)
    return limbeck.compare_methods(teacher, student, train, examples(40, 2), test=examples(50, 3), out=out, **given)


def make_teacher(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """A comparison, and how often the test set was answered, and when."""
    out, asked = tmp_path_factory.mktemp("compared") / "out", []
    true = cells_module.answers_of
    with pytest.MonkeyPatch.context() as patch:

        def counted(model, part):
            asked.append((len(part), sorted(path.name for path in out.glob("search/*/*/cell.json"))))
            return true(model, part)

        patch.setattr(cells_module, "answers_of", counted)
        return compare(out), asked


def test_every_arm_draws_as_many_settings_and_the_same_learning_rates():
    training = Training(epochs=4, learning_rate=0.01)
    drawn = {arm.name: arm.draw(training, 8, 5) for arm in arms_for(["kd", "logits", "kd+dkd:0.5"])}
    rates = [[one.learning_rate for one in found] for found in drawn.values()]
    assert all(one == rates[0] for one in rates)
    assert len(set(rates[0])) == 8
    assert all(0.01 / 3 <= rate <= 0.03 for rate in rates[0])
    assert rates[0][0] == 0.01
    assert {one.epochs for one in drawn["labels longer"]} == {8}
    assert {one.epochs for name, found in drawn.items() for one in found if name != "labels longer"} == {4}
    assert all(one.hard_weight == 1 for one in drawn["labels"])
    assert all(0.02 <= one.label_smoothing <= 0.3 for one in drawn["labels smoothed"])
    assert {one.temperature for one in drawn["logits"]} == {None}
    assert all(1 <= one.temperature <= 8 for one in drawn["kd"])
    assert min(one.temperature for one in drawn["kd"]) < 2.5
    assert max(one.hard_weight for one in drawn["kd"]) > 0.6


def test_drawn_options_are_options_of_the_method_around_its_authors_weights():
    found = Arm("kd+dkd:0.5", "kd+dkd:0.5").draw(Training(epochs=1), 6, 0)
    assert dict(found[0].options) == weights_of("kd+dkd:0.5") == {"dkd.alpha": 1.0, "dkd.beta": 8.0}
    for one in found:
        assert 2 <= dict(one.options)["dkd.beta"] <= 32
        method = make_method("kd+dkd:0.5", options=[f"{name}={value!r}" for name, value in one.options])
        assert method.parts[1].beta == dict(one.options)["dkd.beta"]


def found_with(wrong, seconds=1.0):
    return Found(0, 0.0, seconds, tuple(np.flatnonzero(wrong).tolist()))


def test_searches_that_end_at_an_edge_are_told(compared):
    found, _ = compared
    rates = sorted(
        one.learning_rate for one in Arm("labels").draw(Training(epochs=1, learning_rate=0.01), 2, 1_000_003)
    )
    chosen = [
        json.loads(path.read_text())["settings"]["learning_rate"] for path in found.folder.glob("seeds/*/0/cell.json")
    ]
    assert found.metrics["edge"] == {"smallest": chosen.count(rates[0]), "largest": chosen.count(rates[1])}
    told = _answer(found.rows, {**found.metrics, "edge": {"smallest": 1, "largest": 3}})
    assert "3 of 4 arms chose the largest learning rate" in told
    assert "smallest" not in told


def test_rows_say_what_helps_what_hurts_and_what_is_open():
    chance = np.random.default_rng(0)
    seeds, count = 4, 2000
    rates = {"labels": 0.10, "labels smoothed": 0.10, "kd": 0.06, "dkd": 0.15}
    trained = {
        arm: [found_with(chance.random(count) < rate, 2.0 if arm == "dkd" else 1.0) for _ in range(seeds)]
        for arm, rate in rates.items()
    }
    rows = judge_arms(dict.fromkeys(rates, Settings(0.1, 1)), dict.fromkeys(rates, 3), trained, count)
    assert [row.verdict for row in rows] == ["", "not shown", "helps", "hurts"]
    assert rows[3].against_kd.low > 0
    assert rows[3].p_value_kd < 0.05
    assert rows[2].against_kd is None
    mean = np.mean(rows[2].errors) / count - np.mean(rows[0].errors) / count
    assert rows[2].against_labels.estimate == pytest.approx(mean)
    assert [row[7] for row in comparison_table(rows, count).rows] == ["1.00", "1.00", "1.00", "2.00"]


def test_arms_that_are_equal_are_seldom_called_different():
    """Holm's correction: of 200 comparisons of six equal arms hardly one in twenty may claim anything at all."""
    chance, count, claims = np.random.default_rng(1), 300, 0
    names = ["labels", "a", "b", "c", "d", "e"]
    for _ in range(100):
        hardness = chance.random(count) < 0.5
        trained = {name: [found_with((chance.random(count) < 0.4) & hardness) for _ in range(3)] for name in names}
        rows = judge_arms(dict.fromkeys(names, Settings(0.1, 1)), dict.fromkeys(names, 0), trained, count)
        claims += any(row.verdict in {"helps", "hurts"} for row in rows)
    assert claims <= 10  # 5 on average at most; 11 or more would happen once in a hundred times


def test_the_test_set_is_read_after_the_last_choice_and_once_per_training(compared):
    found, asked = compared
    assert [size for size, _ in asked] == [50] * 8
    assert all(len(done) == 4 * 2 for _, done in asked)
    assert found.examples == 50
    for path in found.folder.glob("search/*/*/cell.json"):
        assert json.loads(path.read_text())["wrong"] is None


def test_validation_chooses_and_final_seeds_are_fresh(compared):
    found, _ = compared
    for row, name in zip(found.rows, ARMS, strict=True):
        tried = [json.loads(path.read_text()) for path in sorted(found.folder.glob(f"search/{name}/*/cell.json"))]
        best = min(tried, key=lambda one: (one["errors"], one["nll"]))
        finals = [json.loads(path.read_text()) for path in sorted(found.folder.glob(f"seeds/{name}/*/cell.json"))]
        assert all(one["settings"] == best["settings"] for one in finals)
        assert [len(one["wrong"]) for one in finals] == list(row.errors)
        assert row.validation_errors == best["errors"]
        assert {one["seed"] for one in tried}.isdisjoint({one["seed"] for one in finals})
    assert (found.folder / "results" / "methods.md").read_text().count("\n| ") == 10
    assert "cannot be resolved" in (found.folder / "report.html").read_text()


def test_arms_of_a_seed_begin_with_the_same_weights_and_make_as_many_steps(compared):
    found, _ = compared
    first = {}
    for seed, weights in MADE:
        first.setdefault(seed, set()).add(weights)
    assert {0, 1} < set(first)
    assert all(len(weights) == 1 for weights in first.values())
    assert len(set.union(*first.values())) == len(first)
    counts = [len((found.folder / "seeds" / name / "0" / "history.jsonl").read_text().splitlines()) for name in ARMS]
    assert counts == [1, 1, 2, 1]


def test_a_comparison_continues_to_the_same_rows_and_trains_only_what_is_missing(compared, tmp_path, monkeypatch):
    whole, _ = compared
    monkeypatch.setattr(comparison_module, "arms_for", lambda methods: [Arm("labels"), Arm("kd", "kd")])
    true, made = comparison_module.train_cell, []

    def stopped(cell, bench):
        if len(made) == 3:
            raise KeyboardInterrupt
        made.append(cell.folder)
        return true(cell, bench)

    monkeypatch.setattr(comparison_module, "train_cell", stopped)
    with pytest.raises(KeyboardInterrupt):
        compare(tmp_path / "out")
    monkeypatch.setattr(comparison_module, "train_cell", true)
    with pytest.raises(RunError, match="--resume"):
        compare(tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("out/search/*/*/cell.json")}
    assert len(before) == 3
    again = compare(tmp_path / "out", resume=True)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    seconds = [dataclasses.replace(row, seconds=0.0) for row in again.rows]
    alike = [dataclasses.replace(row, seconds=0.0) for row in whole.rows if row.name in {"labels", "kd"}]
    assert [row.errors for row in seconds] == [row.errors for row in alike]
    assert [row.settings for row in seconds] == [row.settings for row in alike]
    assert [row.against_labels for row in seconds] == [row.against_labels for row in alike]


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"teacher": make_teacher(1), "resume": True}, RunError, "was begun with another teacher: digest"),
        ({"train": examples(64, 9), "resume": True}, RunError, "was begun with other training data: digest"),
        ({"epochs": 2, "resume": True}, RunError, r"is finished with epochs = 1, and now it is 2: .*\(--out\)"),
        ({"batch_size": 7, "resume": True}, RunError, "was started with batch_size = .*, and now it is 7: .*--out"),
        ({"seed": 5, "resume": True}, RunError, "was started with seed = 0, and now it is 5"),
        ({"student": larger, "resume": True}, RunError, "was begun with another student"),
        ({"comparison": Comparison(methods=("kd",), trials=3, seeds=2)}, RunError, "begun with trials = 2, and now"),
        ({"comparison": Comparison(methods=("kd",), trials=2, seeds=3)}, RunError, "begun with seeds = 2, and now"),
        ({"comparison": Comparison(methods=("logits",), trials=2, seeds=2)}, RunError, "methods = kd, and now kd is"),
    ],
)
def test_another_comparison_in_the_folder_is_refused(compared, change, error, says):
    before = {path: path.stat().st_mtime_ns for path in compared[0].folder.rglob("*")}
    with pytest.raises(error, match=says):
        compare(compared[0].folder, **{"resume": True} | change)
    assert {path: path.stat().st_mtime_ns for path in compared[0].folder.rglob("*")} == before


def test_methods_may_be_added_and_no_seeds_once_there_are_results(tmp_path, monkeypatch):
    monkeypatch.setattr(comparison_module, "train_cell", lambda cell, bench: Found(3, 0.0, 1.0, (0, 1)))

    def asked(*methods, seeds=2):
        return compare(tmp_path / "out", comparison=Comparison(methods=methods, trials=1, seeds=seeds), resume=True)

    monkeypatch.setattr(comparison_module, "judge_arms", lambda *_, **__: 1 / 0)
    for methods, seeds in ((("kd", "dkd"), 3), (("kd",), 2)):  # nothing was seen yet
        with pytest.raises(ZeroDivisionError):
            asked(*methods, seeds=seeds)
    monkeypatch.setattr(comparison_module, "judge_arms", judge_arms)
    assert asked("kd").metrics["added"] == []
    found = asked("nkd", "kd")
    assert found.metrics["added"] == ["nkd"] and [row.name for row in found.rows][3:] == ["nkd", "kd"]
    assert "nkd was added after results were known" in (tmp_path / "out" / "report.html").read_text()
    assert asked("kd", "nkd", "dist").metrics["added"] == ["nkd", "dist"]
    with pytest.raises(RunError, match="kd nkd dist, and now nkd dist are left out"):
        asked("kd")


def test_a_damaged_cell_is_named(compared, tmp_path):
    file = next(compared[0].folder.glob("search/kd/1/cell.json"))
    kept = file.read_text()
    try:
        file.write_text("{}")
        with pytest.raises(FormatError, match=r"cell\.json"):
            compare(compared[0].folder, resume=True)
    finally:
        file.write_text(kept)


def test_what_cannot_be_compared_is_refused_before_anything_is_written(tmp_path):
    out = tmp_path / "out"
    with pytest.raises(ConfigError, match="the module no_such_module cannot be imported"):
        compare(out, comparison=Comparison(methods=("no_such_module:x",)))
    assert not out.exists()
    with pytest.raises(ConfigError, match="no such validation examples"):
        limbeck.compare_methods(make_teacher(), small, examples(64, 1), test=examples(9, 2), out=out)
    with pytest.raises(ConfigError, match="function of the seed"):
        limbeck.compare_methods(make_teacher(), small(0), examples(64, 1), examples(9, 3), test=examples(9, 2), out=out)
    with pytest.raises(ConfigError, match="seeds"):
        Comparison(seeds=1)
    with pytest.raises(ConfigError, match="did you mean"):
        Comparison(methods=("kdd",))
    assert not out.exists()
