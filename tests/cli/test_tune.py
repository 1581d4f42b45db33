"""``limbeck tune``: the way from a store to settings that ``limbeck distill`` takes, and stops on it."""

import json
import os
import signal
import sqlite3
import time
import tomllib
from contextlib import closing

import numpy as np
import pytest
from launcher import finished, launch
from tiny_runs import tiny_arrays

SMALL = ("--hidden", 8, "--batch-size", 32, "--precision", "float32")
GRID = ("--grid", "--temperatures", 1, 4, "--hard-weights", 0, 0.5, "--learning-rate", 0.02, "--epochs", 2)


@pytest.fixture(scope="module")
def store(limbeck, tiny, teacher, tmp_path_factory):
    out = tmp_path_factory.mktemp("stores") / "targets"
    done = limbeck("soften", "--data", tiny, "--teacher", teacher, "--shift", 1, "--views", 2, "--out", out)
    assert done.code == 0, done.err
    return out


@pytest.fixture(scope="module")
def search(limbeck, tiny, store, tmp_path_factory):
    out = tmp_path_factory.mktemp("searches") / "grid"
    done = limbeck("tune", "--data", tiny, "--teacher-targets", store, *SMALL, *GRID, "--out", out)
    assert done.code == 0, done.err
    return done, out


def test_a_table_and_the_way_on(search):
    done, out = search
    metrics = json.loads((out / "metrics.json").read_text())
    lines = done.out.splitlines()
    assert len(lines) == 2 + 4 and "validation errors" in lines[0]
    assert lines[2].split()[0] == str(metrics["best"]["trial"])
    assert "4 complete; evaluated on 18 validation examples; the test set was not read" in done.err
    assert f"limbeck distill --config {out / 'best.toml'}" in done.err


def test_the_best_settings_go_through_distill_as_they_are(limbeck, search, tmp_path):
    _, out = search
    best = json.loads((out / "metrics.json").read_text())["best"]
    done = limbeck("distill", "--config", out / "best.toml", "--out", tmp_path / "student")
    assert done.code == 0, done.err
    history = [json.loads(line) for line in (tmp_path / "student" / "history.jsonl").read_text().splitlines()]
    reached = min((row["validation_errors"], row["validation_nll"]) for row in history)
    assert reached == (best["validation_errors"], pytest.approx(best["validation_nll"], abs=1e-7))
    config = tomllib.loads((tmp_path / "student" / "config.toml").read_text())
    assert (config["temperature"], config["hard_weight"]) == (best["temperature"], best["hard_weight"])
    assert (config["shift"], config["views"], config["student"], config["hidden"]) == (1, 2, "mlp", [8])
    assert (tmp_path / "student" / "baseline").exists()


def test_the_live_teacher_gives_what_its_store_gives(limbeck, tiny, teacher, search, tmp_path):
    done = limbeck(
        "tune", "--data", tiny, "--teacher", teacher, "--shift", 1, "--views", 2, *SMALL, *GRID,
        "--json", "--out", tmp_path / "live",
    )  # fmt: skip
    assert done.code == 0, done.err
    stored = json.loads((search[1] / "metrics.json").read_text())
    live = json.loads(done.out)
    for one, two in zip(live["trials"], stored["trials"], strict=True):
        assert one["validation_nll"] == pytest.approx(two["validation_nll"], abs=2e-3)  # float16 in the store


def test_its_report_is_drawn_anew(limbeck, search):
    page = search[1] / "report.html"
    before = page.read_text()
    page.unlink()
    done = limbeck("report", search[1])
    assert done.code == 0 and page.read_text() == before
    assert 'id="heat_map"' in before


def test_a_store_of_one_temperature_is_searched_for_the_rest(limbeck, tiny, teacher, tmp_path):
    out = tmp_path / "mean"
    done = limbeck("soften", "--data", tiny, "--teacher", teacher, teacher, "--temperature", 3, "--out", out)
    assert done.code == 0, done.err
    words = ("tune", "--data", tiny, "--teacher-targets", out, *SMALL, "--epochs", 1, "--trials", 2)
    done = limbeck(*words, "--out", tmp_path / "search")
    assert done.code == 0, done.err
    assert "The soft targets are valid only for temperature 3, so it is not searched" in done.err
    best = tomllib.loads((tmp_path / "search" / "best.toml").read_text())
    assert best["temperature"] == 3.0 and best["method"] == "kd"
    live = limbeck("tune", "--data", tiny, "--teacher", teacher, teacher, *SMALL, "--out", tmp_path / "live")
    assert live.code == 2 and "give that one as temperatures" in live.err and not (tmp_path / "live").exists()


def test_scores_are_matched_where_that_is_best(limbeck, tiny, teacher, store, tmp_path):
    words = ("--data", tiny, "--teacher-targets", store, *SMALL, "--epochs", 2, "--learning-rate", 0.02)
    grid = ("--grid", "--methods", "logits", "--hard-weights", 0, "--out", tmp_path / "grid")
    done = limbeck("tune", *words, *grid)
    assert done.code == 0, done.err
    assert "logits" in done.out
    best = json.loads((tmp_path / "grid" / "metrics.json").read_text())["best"]
    done = limbeck("distill", "--config", tmp_path / "grid" / "best.toml", "--no-baseline", "--out", tmp_path / "s")
    assert done.code == 0, done.err
    history = [json.loads(line) for line in (tmp_path / "s" / "history.jsonl").read_text().splitlines()]
    assert min(row["validation_errors"] for row in history) == best["validation_errors"]
    assert tomllib.loads((tmp_path / "s" / "config.toml").read_text())["method"] == "logits"
    topk = ("--encoding", "topk", "--k", 1, "--shift", 1, "--views", 2, "--out", tmp_path / "few")
    assert limbeck("soften", "--data", tiny, "--teacher", teacher, *topk).code == 0
    done = limbeck("distill", "--data", tiny, "--teacher-targets", tmp_path / "few", "--method", "logits", *SMALL,
                   "--out", tmp_path / "y")  # fmt: skip
    assert done.code == 2 and "logits are not known for every class" in done.err and not (tmp_path / "y").exists()


def test_only_with_resume_and_only_with_the_same_settings(limbeck, tiny, store, search):
    words = ("tune", "--data", tiny, "--teacher-targets", store, *SMALL)
    out = ("--out", search[1])
    assert "resume it with --resume" in limbeck(*words, *GRID, *out).err
    again = limbeck(*words, *GRID, *out, "--resume", "--json")
    assert json.loads(again.out) == json.loads((search[1] / "metrics.json").read_text())
    other = limbeck(*words, *GRID, "--weight-decay", 0.1, *out, "--resume")
    assert other.code == 2 and "--weight-decay" in other.err
    assert "was started with" in other.err


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--temperatures", 9, 3), "empty range: 9 is above 3"),
        (("--temperatures",), "temperatures"),
        (("--grid", "--trials", 3), "leave trials out"),
        (("--jobs", 0), "jobs must be at least 1"),
        (("--jobs", 1.5), "jobs"),
        (("--epoch-counts", 2.5), "epoch-counts"),
        (("--storage", "nosuch://x"), "storage nosuch://x cannot be used"),
        (("--study", "mine"), "no storage is given"),
        (("--teacher", "somewhere"), "give either --teacher or --teacher-targets"),
        (("--learning-rate", 0.1, "--learning-rates", 0.1, 0.2), "contradict"),
        (("--epochs", 3, "--epoch-counts", 1, 2), "contradict"),
        (("--validation", 0.05), "no soft targets are stored for example"),
        (("--shift", 2), "other images"),
        (("--temperature", 2), "--temperature"),
    ],
)
def test_mistakes_are_told_in_a_line_and_leave_nothing(limbeck, tiny, store, tmp_path, flags, says):
    out = tmp_path / "search"
    done = limbeck("tune", "--data", tiny, "--teacher-targets", store, *SMALL, *flags, "--out", out)
    assert done.code == 2, done.err
    assert done.err.count("\n") == 1 and done.err.startswith("limbeck: ") and says in done.err
    assert done.out == "" and not out.exists()


def words(folder, out, *flags):
    return [
        "tune", "--data", folder / "data.npz", "--teacher-targets", folder / "targets", "--hidden", 64,
        "--batch-size", 8, "--precision", "float32", "--grid", "--temperatures", 1, 4, "--hard-weights", 0, 0.5,
        "--epochs", 2, "--out", out, *flags,
    ]  # fmt: skip


def states(out):
    """What became of the trials so far; read without disturbing who is writing them."""
    if not (out / "study.db").exists():
        return []
    try:
        with closing(sqlite3.connect(f"file:{out}/study.db?mode=ro", uri=True, timeout=30)) as database:
            return [state for (state,) in database.execute("select state from trials")]
    except sqlite3.OperationalError:
        return []  # the tables are being made


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGKILL, marks=pytest.mark.slow)])
@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_stopped_process_goes_on_to_the_same_results(limbeck, teacher, tmp_path, number, jobs):
    x, y = tiny_arrays(400)
    np.savez(tmp_path / "data.npz", x=x, y=y, classes=np.array(["one", "two", "three"]))
    done = limbeck("soften", "--data", tmp_path / "data.npz", "--teacher", teacher, "--out", tmp_path / "targets")
    assert done.code == 0, done.err
    out = tmp_path / "parts"
    alone = ("--jobs", jobs, "--no-side-by-side")  # so that some are done before others begin
    run = launch(tmp_path / "log", *words(tmp_path, out, *alone))
    deadline = time.monotonic() + 120
    while "COMPLETE" not in states(out):
        assert run.process.is_alive() and time.monotonic() < deadline, run.said
        time.sleep(0.02)
    os.kill(run.process.pid, number)
    code = finished(run)
    if number == signal.SIGKILL:
        assert code == -number
    else:
        assert code == 128 + number, run.said
        assert "--resume continues" in run.said and "Traceback" not in run.said and run.said.count("\n") == 1
    assert states(out).count("COMPLETE") < 4
    again = limbeck(*words(tmp_path, out, *alone, "--resume", "--json"))
    assert again.code == 0, again.err
    after = states(out)
    # Several processes may ask for one more than there are.
    assert after.count("COMPLETE") == 4 and set(after) <= {"COMPLETE", "FAIL"} and after.count("FAIL") <= jobs - 1
    whole = limbeck(*words(tmp_path, tmp_path / "whole", "--no-side-by-side", "--json"))
    assert whole.code == 0, whole.err
    names = ("temperature", "hard_weight", "validation_errors", "validation_nll")
    found, expected = json.loads(again.out)["trials"], json.loads(whole.out)["trials"]
    assert sorted(tuple(row[name] for name in names) for row in found) == [
        tuple(row[name] for name in names) for row in expected
    ]


@pytest.mark.slow
def test_a_methods_own_options_are_searched_from_the_command_line(limbeck, tiny, teacher, tmp_path):
    given = ("tune", "--data", tiny, "--teacher", teacher, *SMALL, "--shift", 1, "--teacher-view", "fixed")
    options = (
        "--method",
        "dkd",
        "--method-options",
        "alpha=2",
        "beta=1:16",
        "--trials",
        2,
        "--epochs",
        2,
        "--no-baseline",
    )
    done = limbeck(*given, *options, "--learning-rates", 0.02, "--out", tmp_path / "search")
    assert done.code == 0, done.err
    assert "dkd.alpha=2" in done.out and "dkd.beta=" in done.out
    best = tomllib.loads((tmp_path / "search" / "best.toml").read_text())
    assert best["teacher_view"] == "fixed" and best["method_options"][0] == "dkd.alpha=2"
    again = limbeck(
        "distill", "--config", tmp_path / "search" / "best.toml", "--no-baseline", "--out", tmp_path / "run"
    )
    assert again.code == 0, again.err
    both = limbeck(*given, "--method", "dkd", "--methods", "kd", "logits", "--out", tmp_path / "both")
    assert both.code == 2 and "--method and --methods contradict each other" in both.err
