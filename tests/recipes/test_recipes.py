"""Every recipe runs in its small version, keeps what it has done, and reads the test set last."""

import functools
import json
import os
import re
import signal
import sys

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from limbeck.data import Examples, open_data
from limbeck.errors import ConfigError, InterruptedRun, RunError
from limbeck.options import Training
from limbeck.recipes import digits as recipes_on_digits
from limbeck.recipes import letters as recipes_on_letters
from limbeck.recipes import missing_digit
from limbeck.recipes.catalogue import RECIPES, recipe_named
from limbeck.recipes.digits import digits
from limbeck.recipes.findings import Findings, results_table, spread
from limbeck.recipes.reproduce import reproduce
from limbeck.recipes.series import Series, smaller
from limbeck.system.callbacks import Callback

TAUGHT = {
    "born-again": {"generation-1-100": "labels-0", "generation-3-300": "generation-2-200"},
    "assistants": {"direct-T4-1000": "teacher-0", "assisted-T4-1000": "assistant-T"},
}
"""Who teaches some of the networks of a recipe."""
NAMES = [recipe.name for recipe in RECIPES if recipe.stand_in]
LONG = {"mnist", "specialists", "born-again"}
"""Those of many trainings; the others go the same way through the same code."""


@pytest.fixture(scope="module", autouse=True)
def read_once():
    """MNIST is unpacked once for all tests here."""
    with pytest.MonkeyPatch.context() as patch:
        once = functools.cache(open_data)
        for module in (recipes_on_digits, recipes_on_letters):
            patch.setattr(module, "open_data", once)
        yield


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return tmp_path_factory.mktemp("reproduce")


def cells(out):
    return {path: path.stat().st_mtime_ns for path in sorted((out / "quick").rglob("model.safetensors"))}


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow if name in LONG else ()) for name in NAMES])
def test_recipe_runs_writes_its_table_and_is_not_done_twice(name, out, monkeypatch):
    fitted, test_reads = [], []
    fit = Series.fit

    def watched(self, cell, make, objective, data, training, **more):
        assert data.test is None, "a training may not have the test set at hand"
        assert not test_reads, "trained after the test set was read"
        fitted.append(cell)
        return fit(self, cell, make, objective, data, training, **more)

    monkeypatch.setattr(Series, "fit", watched)
    note_test_reads(test_reads, monkeypatch)
    done = reproduce(name, out, command="limbeck reproduce ...", seeds=1, quick=True)
    assert fitted and test_reads
    recipe = recipe_named(name)
    text = done.markdown.read_text()
    for claim in recipe.claims:
        assert claim.what in text
        if not (name == "width-temperature" and claim.key in {"wide_spread", "widest_spread"}):
            assert done.findings.values[claim.key], claim.key
    assert "small version" in text and re.search(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", text)
    assert str(out) not in text and str(out) not in done.page.read_text()
    for figure in re.findall(r"\(([\w.-]+\.svg)\)", text):
        assert (done.markdown.parent / figure).read_text().startswith("<svg")
    assert json.loads((out / "quick" / name / "results.json").read_text())["values"].keys() == set(done.findings.values)
    assert not list((out / "quick").rglob("checkpoints")), "a finished cell keeps no states"

    for cell, teacher in TAUGHT.get(name, {}).items():
        assert f'teacher = "{teacher}' in (out / "quick" / name / cell / "config.toml").read_text()

    before = cells(out)
    test_reads.clear()
    leave_undrawn(monkeypatch)
    again = reproduce(name, out, command="limbeck reproduce ...", seeds=1, quick=True)
    assert cells(out) == before
    assert again.findings.values == done.findings.values


def leave_undrawn(monkeypatch):
    """Half of a second time is drawing what was drawn in the first."""
    for module in [module for name, module in sys.modules.items() if name.startswith("limbeck.recipes.")]:
        for name in [name for name in vars(module) if name.startswith("draw_")]:
            monkeypatch.setattr(module, name, lambda *_, **__: Figure())


def note_test_reads(reads, monkeypatch):
    """Note each time that test examples are shown to anything."""
    tests = []

    def noted_smaller(data, **counts):
        small = smaller(data, **counts)
        tests.append(small.test)
        return small

    as_seen = Examples.as_seen

    def noted_as_seen(self, rows):
        if any(self is test for test in tests):
            reads.append(len(self))
        return as_seen(self, rows)

    for module in (recipes_on_digits, recipes_on_letters):
        monkeypatch.setattr(module, "smaller", noted_smaller)
    monkeypatch.setattr(Examples, "as_seen", noted_as_seen)


def test_an_interrupted_series_goes_on_and_ends_in_the_same_numbers(tmp_path):
    class Stopping(Callback):
        def on_epoch(self, row):
            raise KeyboardInterrupt

    class Counting(Callback):
        def __init__(self, name):
            started.append(name)

    started: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        reproduce(
            "missing-digit",
            tmp_path / "a",
            command="",
            seeds=1,
            quick=True,
            callback_for=lambda name: Stopping() if "student-T4" in name else Counting(name),
        )
    assert [name.split(": ")[1] for name in started] == ["mnist-teacher-0", "student-T2-0"]
    started.clear()
    continued = reproduce("missing-digit", tmp_path / "a", command="", seeds=1, quick=True, callback_for=Counting)
    assert [name.split(": ")[1] for name in started] == ["student-T4-0"]
    whole = reproduce("missing-digit", tmp_path / "b", command="", seeds=1, quick=True)
    assert continued.findings.values == whole.findings.values


def test_a_signal_says_that_the_same_command_goes_on(tmp_path):
    class Signalled(Callback):
        def on_step(self, epoch, step, loss, accuracy, rate):
            raise AssertionError("too few steps for this")

        def on_epoch(self, row):
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(InterruptedRun, match="SIGTERM.*the same command continues") as caught:
        reproduce("missing-digit", tmp_path, command="", seeds=1, quick=True, callback_for=lambda name: Signalled())
    assert caught.value.exit_code == 128 + signal.SIGTERM
    assert list(tmp_path.rglob("checkpoints/*")), "what was done is kept"


def test_a_cell_with_other_settings_is_refused(tmp_path):
    reproduce("width-temperature", tmp_path, command="", seeds=1, quick=True)
    with pytest.raises(RunError, match="is finished with epochs = 3, and now it is 6"):
        reproduce("width-temperature", tmp_path, command="", seeds=1, quick=True, epochs_factor=2.0)
    series = Series(tmp_path, "width-temperature", quick=True)
    here = digits(series)
    with pytest.raises(RunError, match="was started with learning_rate"):
        series.train(
            "mnist-teacher",
            lambda seed: torch.nn.Linear(1, 1),
            here.data,
            Training(epochs=3, batch_size=32, learning_rate=0.5),
            augmentation=here.jitter,
            settings={"network": "mlp 1200 1200, dropout 0.4, max_norm 3"},
            shared=True,
        )


def test_the_transfer_sets_hold_what_they_should(tmp_path):
    here = digits(Series(tmp_path, "missing-digit", quick=True))
    labels = here.data.train.labels
    number = dict(zip(here.data.train.index.tolist(), labels.tolist(), strict=True))
    without, only = here.without(3).train, here.only(7, 8).train
    assert without.labels is None and only.labels is None
    assert {number[i] for i in without.index.tolist()} == set(range(10)) - {3}
    assert {number[i] for i in only.index.tolist()} == {7, 8}
    assert len(without) == int((labels != 3).sum())


def test_a_bias_that_is_too_low_is_found_again(tmp_path):
    # A network of which every class is as likely as it should be, spoilt in one.
    here = digits(Series(tmp_path, "missing-digit", quick=True))
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10))
    optimizer = torch.optim.AdamW(network.parameters(), 1e-2)
    inputs, labels = here.data.validation.as_seen(slice(None)), here.data.validation.labels
    for _ in range(60):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(inputs), labels).backward()
        optimizer.step()
    with torch.no_grad():
        network[-1].bias[3] -= 9.0
    case = missing_digit._CASES["missing-digit"]
    trial = missing_digit._trial(here, case, network)
    assert trial.by_prior == pytest.approx(9.0, abs=1.0) and trial.by_labels == pytest.approx(9.0, abs=3.0)
    assert trial.after_labels <= trial.after_prior < trial.before
    moved = trial.fixed(case, "prior")[-1].bias - network[-1].bias
    np.testing.assert_allclose(moved.detach().numpy(), np.eye(10)[3] * trial.by_prior, atol=1e-5)


def test_tables_say_what_was_reached_and_what_not():
    recipe = recipe_named("mnist")
    table = results_table(recipe, Findings({"teacher": [74.0, 75.0], "distilled": [75.0]}, {"teacher": "note"}))
    rows = {row[0]: row for row in table.rows}
    teacher = rows[recipe.claim("teacher").what]
    assert teacher[1] == "67" and teacher[4] == "74, 75" and teacher[5] == "75: reached" and teacher[6] == "note"
    assert teacher[2] == "64 (Foffano et al.), 108 (shriramsb)"
    assert rows[recipe.claim("distilled").what][5] == "74: missed"
    assert rows[recipe.claim("jittered").what][2:6] == ("", "not measured", "", "65: open")
    without = results_table(recipe_named("ensemble"), Findings({}))
    assert "older replications" in table.heading and "older replications" not in without.heading


def test_spread_of_seeds_is_students_interval():
    # By hand: mean 72, standard error 2 / sqrt(3), t(2, 0.975) = 4.3027
    half = 4.302652729911275 * 2 / np.sqrt(3)
    assert spread([70, 72, 74]) == f"72.0 ({72 - half:.1f} to {72 + half:.1f})"


def test_the_catalogue_is_whole():
    assert len(set(NAMES)) == len(NAMES)
    for recipe in RECIPES:
        assert len({claim.key for claim in recipe.claims}) == len(recipe.claims)
        assert recipe.data in {None, "emnist-letters.mat", "so762"} and recipe.about[-1] in ".?"
    assert recipe_named("missing-digit").claim("plain").paper == 206
    assert recipe_named("seven-eight").claim("labels").paper == 13.2


@pytest.mark.parametrize(
    ("name", "more", "said"),
    [
        ("missing-digits", {}, "did you mean missing-digit"),
        ("xyz", {}, "there are mnist"),
        ("mnist", {"data": "x.mat"}, "leave --data out"),
        ("ensemble", {}, "--data"),
        ("mnist", {"seeds": 0}, "seeds must be"),
        ("mnist", {"epochs_factor": 0.0}, "epochs_factor must be"),
        ("mnist", {"jobs": 0}, "jobs must be"),
    ],
)
def test_reproduce_refuses(tmp_path, name, more, said):
    with pytest.raises(ConfigError, match=said):
        reproduce(name, tmp_path / "new", command="", **more)
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_specialists_trained_beside_each_other_are_those_trained_one_by_one(tmp_path):
    one = reproduce("specialists", tmp_path / "one", command="", seeds=1, quick=True)
    two = reproduce("specialists", tmp_path / "two", command="", seeds=1, quick=True, jobs=2)
    assert one.findings.values == two.findings.values


def test_shares_are_not_drawn_among_accuracies(monkeypatch):
    from limbeck.recipes import reproduce as module

    drawn = []
    monkeypatch.setattr(module, "draw_results", lambda names, *_: drawn.append(names))
    recipe = recipe_named("ensemble")
    values = {claim.key: [90.0] for claim in recipe.claims}
    (figure,) = module._beside(recipe, Findings(values))
    assert figure.title == "At a glance" and len(drawn[0]) == len(recipe.claims) - 1
    assert not any("share" in name for name in drawn[0])
    assert module._beside(recipe_named("speech"), Findings({"teacher": [38.0], "teacher_wer": [50.0]})) == []
    assert not recipe.claim("kept").fewer_is_better and not recipe.claim("single").fewer_is_better
