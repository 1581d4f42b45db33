"""The search: each trial is a distillation, none sees the test set, and what came to an end is not done again."""

import json
import os
import pickle
import resource
import shutil
import sqlite3
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from statistics import median

import optuna
import pytest
import sqlalchemy
import torch
from torch import nn

import limbeck
from limbeck import DataSet, Ensemble, Examples, Search, tune
from limbeck.errors import ConfigError, FormatError, InterruptedRun, MismatchError, MissingExtraError, RunError
from limbeck.softtargets import SoftTargets
from limbeck.system.files import unseal_files
from limbeck.tuning import study
from limbeck.tuning.sampling import placed_sampler
from limbeck.tuning.study import connect, open_study, plan, told_of_storage, waiting
from limbeck.tuning.trials import Bench

SETTINGS = {"epochs": 3, "batch_size": 16, "learning_rate": 0.02, "precision": "float32", "device": "cpu"}
GRID = Search(grid=True, temperatures=(1.0, 4.0), hard_weights=(0.0, 0.5))
RANGES = Search(trials=7, temperatures=(1.0, 8.0), learning_rates=(1e-4, 0.1), baseline=False)
FREE = {name: value for name, value in SETTINGS.items() if name != "learning_rate"}


def examples(count, seed):
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(count, 5, generator=generator)
    noise = 0.7 * torch.randn(count, 3, generator=generator)
    return Examples.of(inputs, (inputs[:, :3] + noise).argmax(-1))


def data(**others):
    return DataSet(**{
        "name": "toy", "classes": ("a", "b", "c"), "train": examples(120, 0), "test": examples(40, 1),
        "validation": examples(90, 2), **others,
    })  # fmt: skip


@pytest.fixture(scope="module")
def teacher():
    net = nn.Linear(5, 3)
    with torch.no_grad():
        net.weight.copy_(2 * torch.eye(3, 5))
        net.bias.zero_()
    return net


def student(seed):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3))


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def no_drawing(request, monkeypatch):
    """No figures, but where a test looks at them."""
    if "drawn" not in request.fixturenames:
        monkeypatch.setattr("limbeck.tuning.results.write_search_report", lambda contents, path: path)


@pytest.fixture
def drawn():
    """Asks for figures."""


@pytest.fixture
def trained(monkeypatch):
    """What was trained, in order."""
    seen = []
    original = Bench.stage_of

    def stage_of(self, values, callback):
        seen.append(dict(values))
        return original(self, values, callback)

    monkeypatch.setattr(Bench, "stage_of", stage_of)
    return seen


def values(row):
    return tuple(row[name] for name in ("temperature", "hard_weight", "learning_rate", "epochs"))


def scores(run):
    names = ("state", "validation_errors", "validation_nll")
    return {values(row): tuple(row[name] for name in names) for row in run.trials}


@pytest.mark.parametrize("keep", ["best", "last"])
def test_each_trial_is_the_distillation_with_its_settings(teacher, keep):
    found = tune(teacher, student, data(), search=GRID, keep=keep, **SETTINGS)
    assert [values(row)[:2] for row in found.trials] == [(1, 0), (1, 0.5), (4, 0), (4, 0.5)]
    for row in found.trials:
        aims = {"temperature": row["temperature"], "hard_weight": row["hard_weight"]}
        run = limbeck.distill(teacher, student, data(), baseline=False, **aims, **SETTINGS)
        kept = run.history[-1]
        if keep == "best":
            kept = min(run.history, key=lambda epoch: (epoch["validation_errors"], epoch["validation_nll"]))
        assert row["validation_errors"] == kept["validation_errors"]
        assert row["validation_nll"] == pytest.approx(kept["validation_nll"], abs=1e-6)
        assert row["best_epoch"] == kept["epoch"]
    least = min(found.trials, key=lambda row: (row["validation_errors"], row["validation_nll"]))
    assert found.best == {
        name: least[name] for name in ("method", "temperature", "hard_weight", "learning_rate", "epochs")
    }
    assert found.folder is None


@pytest.mark.slow
def test_the_method_is_searched_too(teacher, tmp_path, drawn):
    both = Search(grid=True, methods=("kd", "logits"), temperatures=(1.0, 4.0), hard_weights=(0.0, 0.5))
    found = tune(teacher, student, data(), search=both, out=tmp_path / "grid", **SETTINGS)
    assert [(row["method"], row["temperature"]) for row in found.trials] == [
        ("kd", 1), ("kd", 1), ("kd", 4), ("kd", 4), ("logits", None), ("logits", None),
    ]  # fmt: skip
    for row in found.trials[4:]:
        run = limbeck.distill(
            teacher, student, data(), baseline=False, method="logits", hard_weight=row["hard_weight"], **SETTINGS
        )
        assert row["validation_errors"] == min(epoch["validation_errors"] for epoch in run.history)
    page = (tmp_path / "grid" / "report.html").read_text()
    assert ">logits<" in page
    kinds = Search(
        trials=12, methods=("logits", "kd"), temperatures=(1.0, 8.0), learning_rates=(1e-4, 0.1), baseline=False
    )
    drawn_ones = tune(teacher, student, data(), search=kinds, **FREE).trials
    assert {row["method"] for row in drawn_ones} == {"kd", "logits"}
    assert all((row["temperature"] is None) == (row["method"] == "logits") for row in drawn_ones)
    alone = Search(grid=True, methods=("logits",), hard_weights=(0.0,))
    only = tune(teacher, student, data(), search=alone, out=tmp_path / "one", **SETTINGS)
    assert "temperature" not in only.best and only.best["method"] == "logits"
    best = tomllib.loads((tmp_path / "one" / "best.toml").read_text())
    assert best["method"] == "logits" and "temperature" not in best


def test_a_store_of_an_arithmetic_mean_fixes_the_temperature(teacher, tmp_path):
    torch.manual_seed(3)
    two = Ensemble([teacher, nn.Linear(5, 3)])
    SoftTargets.write(tmp_path / "store", two, data().train, classes=data().classes, temperature=3.0)
    store = SoftTargets.open(tmp_path / "store")
    search = Search(trials=6, learning_rates=(1e-3, 0.1), baseline=False)
    found = tune(store, student, data(), search=search, **FREE)
    assert {row["temperature"] for row in found.trials} == {3.0}
    assert len({row["hard_weight"] for row in found.trials}) == 6
    assert found.best["temperature"] == 3.0
    with pytest.raises(ConfigError, match="valid only for temperature 3, and temperatures are 1 4"):
        tune(store, student, data(), search=GRID, **SETTINGS)
    for guide in (store, two):
        with pytest.raises(ConfigError, match="logits are not known for every class"):
            tune(guide, student, data(), search=Search(methods=("kd", "logits")), **SETTINGS)
    SoftTargets.write(tmp_path / "few", teacher, data().train, classes=data().classes, encoding="topk", k=1)
    with pytest.raises(ConfigError, match="logits are not known for every class"):
        tune(SoftTargets.open(tmp_path / "few"), student, data(), search=Search(methods=("logits",)), **SETTINGS)


class Forbidden:
    """A test set that nothing may be asked of."""

    def __getattribute__(self, name):
        raise AssertionError(f"the test set was asked for {name}")

    def __len__(self):
        raise AssertionError("the test set was counted")


def test_the_test_set_is_not_touched(teacher, tmp_path):
    watched = data()
    object.__setattr__(watched, "test", Forbidden())
    with pytest.raises(AssertionError, match="the test set"):
        limbeck.distill(teacher, student, watched, baseline=False, **SETTINGS)
    found = tune(teacher, student, watched, search=GRID, out=tmp_path / "search", **SETTINGS)
    others = Examples.of(torch.zeros(7, 5), torch.zeros(7, dtype=torch.int64))
    assert scores(found) == scores(tune(teacher, student, data(test=others), search=GRID, **SETTINGS))
    assert scores(found) == scores(tune(teacher, student, data(test=None), search=GRID, **SETTINGS))


def test_what_it_leaves(teacher, tmp_path, drawn):
    said = []
    out = tmp_path / "what? 100 % #1"
    found = tune(
        teacher, student, data(), search=GRID, out=out, settings={"student": "<b>"}, **SETTINGS, side_by_side=False,
        progress=lambda *state: said.append(state),
    )  # fmt: skip
    assert said == [(done, 4) for done in range(5)]
    assert json.loads((out / "metrics.json").read_text()) == found.metrics
    best = tomllib.loads((out / "best.toml").read_text())
    assert {name: best[name] for name in found.best} == found.best
    assert best["precision"] == "float32"
    page = (out / "report.html").read_text()
    assert "&lt;b&gt;" in page and "<b>" not in page
    for figure in ("heat_map", "trials", "settings"):
        assert f'id="{figure}"' in page and (out / "figures" / f"{figure}.svg").exists()
    assert "--resume continues" not in page


def test_a_stopped_search_goes_on_where_it_was(teacher, tmp_path, trained):
    whole = tune(teacher, student, data(), search=RANGES, **FREE)
    assert len({tuple(row.values()) for row in trained}) == len(trained) == 7
    trained.clear()

    class Stop(Exception):
        pass

    def stop_after_three(done, _):
        if done == 3:
            raise Stop

    out = tmp_path / "search"
    with pytest.raises(Stop):
        tune(teacher, student, data(), search=RANGES, out=out, progress=stop_after_three, **FREE)
    assert len(trained) == 3
    with pytest.raises(RunError, match="--resume"):
        tune(teacher, student, data(), search=RANGES, out=out, **FREE)
    # A process that was killed leaves a trial that seems to run.
    database = optuna.storages.RDBStorage(f"sqlite:///{out}/study.db")
    left = optuna.load_study(study_name="limbeck", storage=database, sampler=placed_sampler(0))
    dying = left.ask()
    rate = dying.suggest_float("learning_rate", 1e-4, 0.1, log=True)
    database.engine.dispose()
    again = tune(teacher, student, data(), search=RANGES, out=out, resume=True, **FREE)
    assert len(trained) == 7
    assert rate in [row["learning_rate"] for row in trained[3:]]
    assert {trial.state.name for trial in left.get_trials()} <= {"COMPLETE", "PRUNED"}
    assert dying.number == 3 and again.trials[3]["learning_rate"] == rate
    # It died between two draws: what it had drawn is kept, and the others are those it would have drawn.
    assert [values(row) for row in again.trials] == [values(row) for row in whole.trials]
    assert scores(again) == scores(whole)
    trained.clear()
    third = tune(teacher, student, data(), search=RANGES, out=out, resume=True, **FREE)
    assert trained == [] and third.best == again.best
    more = Search(trials=9, temperatures=RANGES.temperatures, learning_rates=RANGES.learning_rates, baseline=False)
    assert len(tune(teacher, student, data(), search=more, out=out, resume=True, **FREE).trials) == 9
    assert len(trained) == 2


def test_an_interrupted_search_ends_like_one_that_was_not(teacher, tmp_path):
    whole = tune(teacher, student, data(), search=RANGES, **FREE)
    out = tmp_path / "search"
    for turn, end in enumerate((1, 4)):

        def stop(done, _, end=end):
            if done == end:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            tune(teacher, student, data(), search=RANGES, out=out, resume=turn > 0, progress=stop, **FREE)
    parts = tune(teacher, student, data(), search=RANGES, out=out, resume=True, **FREE)
    assert [values(row) for row in parts.trials] == [values(row) for row in whole.trials]
    assert scores(parts) == scores(whole)


def test_two_processes_share_a_search(teacher, tmp_path):
    alone = tune(teacher, student, data(), search=GRID, **SETTINGS)
    store = tmp_path / "store"
    SoftTargets.write(store, teacher, data().train, classes=data().classes, dtype="float32")
    module = student(0)
    both = tune(
        SoftTargets.open(store), module, data(), search=GRID, out=tmp_path / "search", jobs=2, **SETTINGS
    )  # fmt: skip
    assert {key: value[:2] for key, value in scores(both).items()} == {
        key: value[:2] for key, value in scores(alone).items()
    }
    assert len(both.trials) == 4


def test_nobody_takes_a_trial_that_another_has(tmp_path):
    """Several connections that hurry; without a lock from the first read on, two of them take the same trial."""
    url = f"sqlite:///{tmp_path}/study.db"
    storage = connect(url, shared=False)
    plan(open_study(storage, "busy", {}), storage, [{}] * 40, alone=True)

    def take(_):
        study = optuna.load_study(study_name="busy", storage=connect(url, shared=False))
        taken = []
        while waiting(study):
            taken.append(study.ask())
        return [trial.number for trial in taken if "place" in trial.user_attrs]

    with ThreadPoolExecutor(4) as pool:
        taken = [number for numbers in pool.map(take, range(4)) for number in numbers]
    assert sorted(taken) == list(range(40))


def test_a_store_travels_as_its_folder(teacher, tmp_path):
    SoftTargets.write(tmp_path / "store", teacher, data().train, classes=data().classes)
    packed = pickle.dumps(SoftTargets.open(tmp_path / "store"))
    assert len(packed) < 1000
    assert pickle.loads(packed).classes == ("a", "b", "c")


def test_machines_meet_in_a_storage(teacher, tmp_path, trained):
    storage = f"sqlite:///{tmp_path}/shared.db"
    first = tune(teacher, student, data(), search=GRID, storage=storage, out=tmp_path / "one", **SETTINGS)
    assert len(trained) == 4
    second = tune(teacher, student, data(), search=GRID, storage=storage, out=tmp_path / "two", **SETTINGS)
    assert len(trained) == 4 and second.best == first.best
    assert not (tmp_path / "one" / "study.db").exists()
    other = {**SETTINGS, "batch_size": 32}
    with pytest.raises(RunError, match="'limbeck' was begun with batch_size = 16, and now it is 32"):
        tune(teacher, student, data(), search=GRID, storage=storage, out=tmp_path / "three", **other)
    assert not (tmp_path / "three").exists()
    tune(teacher, student, data(), search=GRID, storage=storage, study="wide", **other)
    assert len(trained) == 8


def test_in_a_storage_a_trial_without_signs_of_life_is_run_again(teacher, tmp_path, trained):
    url = f"sqlite:///{tmp_path}/shared.db"

    def stop(done, _):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tune(teacher, student, data(), search=GRID, storage=url, progress=stop, **SETTINGS)
    storage = connect(url, shared=True)
    with pytest.warns(UserWarning, match="Heartbeat"):
        dying = optuna.load_study(study_name="limbeck", storage=storage).ask()
    storage.record_heartbeat(dying._trial_id)
    early = tune(teacher, student, data(), search=GRID, storage=url, **SETTINGS)
    assert len(trained) == 3 and early.metrics["counts"]["left"] == 1
    with closing(sqlite3.connect(tmp_path / "shared.db")) as database, database:
        database.execute("update trial_heartbeats set heartbeat = datetime(heartbeat, '-1 day')")
    found = tune(teacher, student, data(), search=GRID, storage=url, **SETTINGS)
    assert len(found.trials) == len(trained) == 4


def test_poor_trials_are_stopped_and_only_those(teacher, tmp_path):
    search = Search(trials=12, hard_weights=(0.1,), temperatures=(2.0,), learning_rates=(1e-5, 0.2), baseline=False)
    settings = {**FREE, "epochs": 6}
    tune(teacher, student, data(), search=search, out=tmp_path / "search", **settings)
    database = optuna.storages.RDBStorage(f"sqlite:///{tmp_path}/search/study.db")
    trials = optuna.load_study(study_name="limbeck", storage=database).trials
    stopped = [trial for trial in trials if trial.state.name == "PRUNED"]
    assert stopped
    for trial in trials:
        before = [other for other in trials[: trial.number] if other.state.name == "COMPLETE"]
        for step in trial.intermediate_values:
            best = min(value for at, value in trial.intermediate_values.items() if at <= step)
            poor = len(before) >= 5 and step >= 2 and best > median(o.intermediate_values[step] for o in before)
            last = step == max(trial.intermediate_values)
            assert (trial in stopped and last) == (poor and step < 6), (trial.number, step)
    database.engine.dispose()
    unpruned = Search(
        trials=7, hard_weights=(0.1,), temperatures=(2.0,), learning_rates=(1e-5, 0.2), prune=False, baseline=False
    )
    assert {row["reports"] for row in tune(teacher, student, data(), search=unpruned, **settings).trials} == {6}


def test_epochs_are_searched_and_compared_by_tenths(teacher):
    search = Search(grid=True, epoch_counts=(2, 20), temperatures=(2.0,), hard_weights=(0.0,))
    settings = {name: value for name, value in SETTINGS.items() if name != "epochs"}
    found = tune(teacher, student, data(), search=search, **settings)
    assert [(row["epochs"], row["reports"]) for row in found.trials] == [(2, 2), (20, 10)]


def test_a_trial_that_diverges_is_told_apart(teacher):
    wild = Search(grid=True, temperatures=(1.0,), hard_weights=(0.5,), learning_rates=(0.02, 1e38))
    found = tune(teacher, student, data(), search=wild, **FREE)
    assert [row["state"] for row in found.trials] == ["complete", "diverged"]
    assert found.best["learning_rate"] == 0.02
    with pytest.raises(RunError, match="no trial came to its end: each became infinite"):
        tune(
            teacher, student, data(),
            search=Search(grid=True, temperatures=(1.0,), hard_weights=(0.5,), learning_rates=(1e38,)), **FREE,
        )  # fmt: skip


def test_time_that_is_up_leaves_the_rest_waiting(teacher, tmp_path):
    short = Search(trials=5, timeout_minutes=1e-9, baseline=False)
    with pytest.raises(RunError, match="no trial came to its end: give it more time"):
        tune(teacher, student, data(), search=short, out=tmp_path / "search", **FREE)
    assert (
        len(
            tune(
                teacher,
                student,
                data(),
                search=Search(trials=5, baseline=False),
                out=tmp_path / "search",
                resume=True,
                **FREE,
            ).trials
        )
        == 5
    )


def test_unlabelled_examples_and_ensembles(teacher):
    bare = data(train=examples(120, 0).without_labels(), test=None)
    found = tune(teacher, student, bare, search=Search(grid=True, temperatures=(2.0,)), **SETTINGS)
    assert [row["hard_weight"] for row in found.trials] == [0]
    two = Ensemble([teacher, nn.Linear(5, 3)])
    with pytest.raises(
        ConfigError, match="an arithmetic mean's soft targets hold for one temperature alone: give that one"
    ):
        tune(two, student, data(), search=GRID, **SETTINGS)
    one = Search(grid=True, temperatures=(2.0,), hard_weights=(0.1,))
    row = tune(two, student, data(), search=one, **SETTINGS).trials[0]
    run = limbeck.distill(two, student, data(), baseline=False, temperature=2.0, hard_weight=0.1, **SETTINGS)
    assert row["validation_errors"] == min(epoch["validation_errors"] for epoch in run.history)


@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        ({"jobs": 0}, ConfigError, "jobs must be at least 1, and is 0"),
        ({"jobs": 2}, ConfigError, "several jobs meet in a database"),
        ({"jobs": 2, "ray": "local", "out": True}, ConfigError, "give one of them"),
        ({"ray": "10.0.0.1:6379"}, ConfigError, "a database that all reach: give storage"),
        ({"jobs": 2, "student": lambda seed: student(seed), "out": True}, ConfigError, "cannot be sent to another"),
        ({"study": "mine"}, ConfigError, "no storage is given"),
        ({"storage": "nonsense"}, ConfigError, "storage nonsense cannot be used"),
        ({"storage": "nosuch://me:secret@host/db"}, ConfigError, "storage nosuch://me:.{3}@host/db cannot be used"),
        ({"storage": "sqlite:////nowhere/at/all.db"}, ConfigError, "unable to open database file"),
        ({"search": Search(learning_rates=(0.1,))}, ConfigError, "learning_rate and learning_rates contradict"),
        ({"search": Search(epoch_counts=(1, 2))}, ConfigError, "epochs and epoch_counts contradict"),
        ({"augmentation": limbeck.Augmentation(shift=1)}, ConfigError, "set views"),
        ({"train": data(validation=None)}, ConfigError, "labelled validation examples"),
        ({"teacher": nn.Linear(5, 4)}, MismatchError, "4 classes"),
        ({"train": data(classes=("a", "b", "z")), "teacher": "store"}, MismatchError, "'c'"),
        ({"warmup_epochs": 9}, ConfigError, "warmup_epochs"),
        ({"epochs": 0}, ConfigError, "epochs must be at least 1"),
    ],
)
def test_what_cannot_be_done_is_refused_and_leaves_nothing(teacher, tmp_path, given, error, says):
    given = {"teacher": teacher, "student": student, "train": data(), "search": GRID, **SETTINGS, **given}
    out = tmp_path / "search"
    if given["teacher"] == "store":
        SoftTargets.write(tmp_path / "store", teacher, data().train, classes=data().classes)
        given["teacher"] = SoftTargets.open(tmp_path / "store")
    if given.pop("out", False) or given.get("jobs", 1) < 2:
        given["out"] = out
    with pytest.raises(error, match=says) as caught:
        tune(given.pop("teacher"), given.pop("student"), given.pop("train"), **given)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not out.exists() or not (out / "metrics.json").exists()


def test_a_search_of_other_data_or_teacher_is_refused(teacher, tmp_path):
    out = tmp_path / "search"
    tune(teacher, student, data(), search=GRID, out=out, **SETTINGS)
    for others, says in (
        ({"train": examples(120, 5)}, "begun with training examples = '[0-9a-f]+', and now it is '[0-9a-f]+'"),
        ({"validation": examples(90, 5)}, "begun with validation examples"),
    ):
        with pytest.raises(RunError, match=says):
            tune(teacher, student, data(**others), search=GRID, out=out, resume=True, **SETTINGS)
    with pytest.raises(RunError, match="begun with teacher"):
        tune(nn.Linear(5, 3), student, data(), search=GRID, out=out, resume=True, **SETTINGS)
    with pytest.raises(RunError, match="temperatures"):
        other = Search(grid=True, temperatures=(1.0, 5.0), hard_weights=(0.0, 0.5))
        tune(teacher, student, data(), search=other, out=out, resume=True, **SETTINGS)
    with pytest.raises(RunError, match="epochs"):
        tune(teacher, student, data(), search=GRID, out=out, resume=True, **{**SETTINGS, "epochs": 4})
    strange = f"sqlite:///{tmp_path}/strange.db"
    optuna.create_study(storage=strange, study_name="limbeck").enqueue_trial({})
    with pytest.raises(RunError, match="not one of limbeck tune"):
        tune(teacher, student, data(), search=GRID, storage=strange, **SETTINGS)


@pytest.mark.parametrize("trouble", ["the folder is gone", "the disk is full"])
def test_a_study_that_cannot_be_kept_ends_in_a_line(teacher, tmp_path, monkeypatch, trouble):
    out, original, begun = tmp_path / "search", Bench.stage_of, []
    most = resource.getrlimit(resource.RLIMIT_FSIZE)

    def stage_of(self, values, callback):
        begun.append(1)
        if len(begun) == 3 and trouble == "the folder is gone":
            shutil.rmtree(out)
        elif len(begun) == 3:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, most[1]))
        return original(self, values, callback)

    with monkeypatch.context() as patch:
        patch.setattr(Bench, "stage_of", stage_of)
        try:
            with pytest.raises(RunError, match=r"study in sqlite:///.*study.db cannot be kept: .*--resume") as caught:
                tune(teacher, student, data(), search=GRID, out=out, side_by_side=False, **SETTINGS)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, most)
    assert "\n" not in str(caught.value) and "SQL:" not in str(caught.value)
    if trouble == "the disk is full":
        again = tune(teacher, student, data(), search=GRID, out=out, resume=True, side_by_side=False, **SETTINGS)
        assert scores(again) == scores(tune(teacher, student, data(), search=GRID, side_by_side=False, **SETTINGS))


def test_a_damaged_study_is_said_to_be_so(teacher, tmp_path):
    out = tmp_path / "search"
    tune(teacher, student, data(), search=GRID, out=out, **SETTINGS)
    (out / "study.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(FormatError, match=r"study\.db: does not match its digest"):
        tune(teacher, student, data(), search=GRID, out=out, resume=True, **SETTINGS)
    unseal_files(out, ["study.db"])  # as in a search that was killed
    with pytest.raises(ConfigError, match=r"study\.db cannot be used: .*not a database"):
        tune(teacher, student, data(), search=GRID, out=out, resume=True, **SETTINGS)


def test_without_optuna_the_install_command_is_named(teacher, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'limbeck\[tune\]'"):
        tune(teacher, student, data(), search=GRID, **SETTINGS)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_ray_cluster_works_on_a_search(teacher, tmp_path):
    pytest.importorskip("ray")
    alone = tune(teacher, student, data(), search=GRID, **SETTINGS)
    found = tune(teacher, student(0), data(), search=GRID, out=tmp_path / "search", ray="local", **SETTINGS)
    assert scores(found) == scores(alone)


def test_errors_behind_each_other_in_a_circle_are_told_as_they_are():
    first, second = ValueError("first"), KeyError("second")
    first.__cause__, second.__context__ = second, first
    with pytest.raises(ValueError, match="first"), told_of_storage("sqlite:///study.db"):
        raise first
    stopped = InterruptedRun("stopped", 15)
    stopped.__context__ = second
    second.__cause__ = stopped
    with pytest.raises(InterruptedRun, match="stopped"), told_of_storage("sqlite:///study.db"):
        raise stopped


@pytest.mark.parametrize("fatal", ["CREATE TABLE studies", "CREATE UNIQUE INDEX", "CREATE TABLE trials", "INSERT INTO"])
def test_a_kill_while_tables_are_made_leaves_a_study_that_is_one(tmp_path, fatal):
    """Killed before one of Optuna's statements: the unique index on names is there all the same afterwards."""
    url = study.address_of(tmp_path / "study.db")

    def die(_, __, statement, *___):
        if statement.strip().startswith(fatal):
            os._exit(9)

    child = os.fork()
    if not child:
        sqlalchemy.event.listen(sqlalchemy.engine.Engine, "before_cursor_execute", die)
        study.connect(url, shared=False)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    (tmp_path / ".study.db.1.partial-journal").touch()
    for _ in range(2):
        study.open_study(study.connect(url, shared=False), "one", {"a": 1})
    with closing(sqlite3.connect(tmp_path / "study.db")) as database:
        assert database.execute("select count(*) from studies").fetchone() == (1,)
        with pytest.raises(sqlite3.IntegrityError):
            database.execute("insert into studies (study_name) values ('one')")
    assert [path.name for path in tmp_path.iterdir()] == ["study.db"]


def test_tables_are_made_once_by_whoever_is_first(tmp_path, monkeypatch):
    url = study.address_of(tmp_path / "shared.db")
    (tmp_path / "shared.db").touch()  # opened by somebody who wrote nothing
    database = study.connect(url, shared=True)
    for name in ("one", "two"):
        study.open_study(database, name, {"a": 1})
    # As another process saw it a moment before.
    real = Path.exists
    monkeypatch.setattr(Path, "exists", lambda self: self.name != "shared.db" and real(self))
    study._make_tables(url, shared=True)
    monkeypatch.undo()
    assert {one.study_name for one in study.connect(url, shared=True).get_all_studies()} == {"one", "two"}
    assert [path.name for path in tmp_path.iterdir()] == ["shared.db"]


def test_a_study_that_is_two_is_told_of(tmp_path):
    url = study.address_of(tmp_path / "study.db")
    study.open_study(study.connect(url, shared=False), "limbeck", {})
    with closing(sqlite3.connect(tmp_path / "study.db")) as database:
        database.execute("drop index ix_studies_study_name")
        database.execute("insert into studies (study_name) values ('limbeck')")
        database.commit()
    with pytest.raises(RunError, match="Multiple rows"), study.told_of_storage(url):
        study.open_study(study.connect(url, shared=False), "limbeck", {})


def test_the_baselines_learning_rate_is_searched_with_as_many_trials_on_labels_alone(teacher, tmp_path, trained, drawn):
    """A verdict on a searched student against an unsearched baseline would favour the student."""
    grid = Search(grid=True, temperatures=(4.0,), hard_weights=(0.0, 0.5), learning_rates=(1e-3, 0.02, 0.3))
    found = tune(teacher, student, data(), search=grid, out=tmp_path / "both", side_by_side=False, **FREE)
    beside = trained[6:]
    assert [(row["hard_weight"], row["learning_rate"]) for row in beside] == [(1, 1e-3), (1, 0.02), (1, 0.3)]
    alone = {
        rate: limbeck.train(student, data(), **{**SETTINGS, "learning_rate": rate}).history
        for rate in (1e-3, 0.02, 0.3)
    }
    errors = {rate: min(row["validation_errors"] for row in history) for rate, history in alone.items()}
    tried = {row["learning_rate"]: row["validation_errors"] for row in found.metrics["baseline"]["trials"]}
    assert tried == errors, "each is the training on labels that the baseline will be"
    assert found.best["searched"] == "both" and errors[found.best["baseline_learning_rate"]] == min(errors.values())
    best = tomllib.loads((tmp_path / "both" / "best.toml").read_text())
    assert best["baseline_learning_rate"] == found.best["baseline_learning_rate"]
    aims = {name: value for name, value in found.best.items() if name != "epochs"}
    run = limbeck.distill(teacher, student, data(), epochs=3, batch_size=16, precision="float32", **aims)
    expected = limbeck.train(student, data(), **{**SETTINGS, "learning_rate": aims["baseline_learning_rate"]})
    assert run.metrics["baseline"]["test_errors"] == expected.metrics["model"]["test_errors"]
    assert "were tuned" not in run.verdict.sentence
    # Resumed, nothing is tried again.
    again = tune(teacher, student, data(), search=grid, out=tmp_path / "both", resume=True, **FREE)
    assert len(trained) == 9 and again.best == found.best


def test_a_search_for_the_student_alone_is_said_in_the_verdict(teacher):
    drawn_alone = Search(trials=2, temperatures=(4.0,), hard_weights=(0.5,), baseline=False)
    found = tune(teacher, student, data(), search=drawn_alone, **SETTINGS)
    assert found.best["searched"] == "student" and "baseline" not in found.metrics
    run = limbeck.distill(teacher, student, data(), precision="float32", batch_size=16, **found.best)
    assert "the baseline's were not" in run.verdict.sentence == run.metrics["verdict"]["sentence"]
    fixed = tune(teacher, student, data(), search=GRID, **SETTINGS)
    assert "searched" not in fixed.best, "one learning rate for both: nothing was chosen for the student alone"
