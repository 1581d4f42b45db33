"""The commands end to end on tiny data, and what they promise about their output."""

import dataclasses
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny_runs import FAST, tiny_arrays

import limbeck as package
import limbeck.data
from limbeck.errors import ConfigError
from limbeck.options import Augmentation, DataOptions, Distillation, ModelOptions, Network, Training
from limbeck.report import write_report
from limbeck.runs import pages, train


def weights(run: Path) -> bytes:
    return (run / "model" / "model.safetensors").read_bytes()


def rows(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]


@pytest.fixture
def good(limbeck):
    """Run a command that must succeed."""

    def run(*words):
        done = limbeck(*words)
        assert done.code == 0, done.err
        return done

    return run


@pytest.fixture(scope="module")
def student(limbeck, tiny, teacher, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "student"
    done = limbeck("distill", "--data", tiny, "--teacher", teacher, *FAST, "--json", "--out", out)
    assert done.code == 0, done.err
    assert json.loads(done.out) == json.loads((out / "metrics.json").read_text())
    return out


def test_what_training_leaves(teacher):
    assert {path.name for path in teacher.iterdir()} >= {
        "config.toml", "history.jsonl", "timings.jsonl", "checkpoints", "model", "metrics.json", "report.html",
    }  # fmt: skip
    assert [row["epoch"] for row in rows(teacher)] == [1, 2]
    config = json.loads((teacher / "model" / "config.json").read_text())
    assert config["id2label"] == {"0": "one", "1": "two", "2": "three"}
    # 200 examples: a tenth is the test set, and a tenth of the rest is for validation.
    metrics = json.loads((teacher / "metrics.json").read_text())
    assert metrics["judged_on"] == "test" and metrics["model"]["test_examples"] == 20
    assert metrics["model"]["parameters"] == 64 * 8 + 8 + 8 * 3 + 3
    assert not [*teacher.rglob("*.partial")]


def test_scores_follow_from_the_weights(good, tiny, teacher):
    """Evaluate by hand, from the file of weights alone, on the test examples that the data set names."""
    told = json.loads(good("evaluate", teacher, "--data", tiny, "--json").out)
    found = load_file(teacher / "model" / "model.safetensors")
    first, second = (tuple(found[f"{name}.{part}"] for part in ("weight", "bias")) for name in _linear_names(found))
    test = package.open_data(tiny).test
    hidden = torch.relu(test.inputs.flatten(1) / 255 @ first[0].T + first[1])
    answers = (hidden @ second[0].T + second[1]).argmax(1)
    assert told["test_errors"] == int((answers != test.labels).sum())
    written = json.loads((teacher / "metrics.json").read_text())["model"]
    for name in ("test_errors", "accuracy", "nll", "ece", "parameters", "file_bytes", "multiply_adds"):
        assert told[name] == written[name], name
    assert told["file_bytes"] == (teacher / "model" / "model.safetensors").stat().st_size


def _linear_names(tensors) -> list[str]:
    return sorted({name.rsplit(".", 1)[0] for name in tensors})


def test_what_distillation_measures(student):
    metrics = json.loads((student / "metrics.json").read_text())
    assert {"teacher", "baseline", "student", "verdict"} <= set(metrics)
    for role in ("teacher", "baseline", "student"):
        assert {"test_errors", "parameters", "accuracy", "nll", "ece", "latency_ms"} <= set(metrics[role])
    assert metrics["student"]["agreement_with_teacher"] <= 1
    assert metrics["verdict"]["sentence"]
    assert (student / "baseline" / "model" / "model.safetensors").exists()


def test_a_baseline_starts_and_ends_like_training(good, tiny, student, tmp_path):
    """The baseline is what `train` gives with the same flags, to the bit; the student is not."""
    good("train", "--data", tiny, *FAST, "--out", tmp_path / "alone")
    assert weights(tmp_path / "alone") == weights(student / "baseline") != weights(student)


def test_the_same_command_gives_the_same_bytes(good, tiny, teacher, student, tmp_path):
    good("train", "--data", tiny, *FAST, "--out", tmp_path / "teacher")
    words = ("--data", tiny, "--teacher", teacher, *FAST)
    good("distill", *words, "--out", tmp_path / "student")
    for first, again in ((teacher, tmp_path / "teacher"), (student, tmp_path / "student")):
        assert weights(first) == weights(again)
        assert (first / "history.jsonl").read_bytes() == (again / "history.jsonl").read_bytes()
    good("train", "--data", tiny, *FAST, "--seed", 1, "--out", tmp_path / "other")
    assert weights(tmp_path / "other") != weights(teacher)


def test_a_config_starts_the_same_run_again(good, tiny, teacher, tmp_path):
    own = tmp_path / "first"
    flags = ("--dropout", 0.2, "--max-norm", 2.0, "--shift", 1, "--views", 2, "--optimizer", "sgd", "--momentum", 0.5)
    good("train", "--data", tiny, *FAST, *flags, "--schedule", "exponential", "--decay", 0.7, "--out", own)
    good("train", "--config", own / "config.toml", "--out", tmp_path / "again")
    assert weights(own) == weights(tmp_path / "again")
    assert (own / "config.toml").read_bytes() == (tmp_path / "again" / "config.toml").read_bytes()
    good("train", "--config", own / "config.toml", "--epochs", 1, "--out", tmp_path / "shorter")
    assert len(rows(tmp_path / "shorter")) == 1
    distilled = ("--teacher", teacher, teacher, "--mean", "geometric", "--hard-weight", 0.3)
    good("distill", "--data", tiny, *FAST, *distilled, "--no-baseline", "--out", tmp_path / "student")
    good("distill", f"--config={tmp_path / 'student' / 'config.toml'}", "--out", tmp_path / "student-again")
    assert weights(tmp_path / "student") == weights(tmp_path / "student-again")


def test_a_config_names_every_setting(student):
    config = tomllib.loads((student / "config.toml").read_text())
    kinds = (DataOptions, Network, Training, Augmentation, Distillation)
    values = [kind() for kind in kinds]
    names = {field.name: getattr(value, field.name) for value in values for field in dataclasses.fields(value)}
    assert {name for name, value in names.items() if value is not None} <= set(config)
    assert config["temperature"] == 4.0 and config["hidden"] == [8] and config["baseline"] is True


def test_resuming_a_finished_run_changes_no_weight(good, limbeck, tiny, tmp_path):
    words = ("train", "--data", tiny, *FAST, "--out", tmp_path / "run")
    good(*words)
    before = weights(tmp_path / "run"), (tmp_path / "run" / "history.jsonl").read_bytes()
    good(*words, "--resume")
    assert (weights(tmp_path / "run"), (tmp_path / "run" / "history.jsonl").read_bytes()) == before
    good("train", "--data", tiny, *FAST, "--out", tmp_path / "fresh", "--resume")
    assert weights(tmp_path / "fresh") == before[0]


def test_settings_of_a_run_in_python_do_not_train_another_network_by_themselves(good, limbeck, tiny, tmp_path):
    x, y = tiny_arrays(60)
    brief = {"epochs": 1, "batch_size": 32, "precision": "float32", "progress": False}
    train(ModelOptions(hidden=(5,)), (x, y), out=tmp_path / "python", **brief)
    config = ("train", "--config", tmp_path / "python" / "config.toml", "--out", tmp_path / "again")
    for more in ((), ("--data", tiny), ("--hidden", 5)):
        done = limbeck(*config, *more)
        assert done.code == 2 and "is of a run in Python" in done.err and not (tmp_path / "again").exists()
    good(*config, "--data", tiny, "--hidden", 5)
    assert json.loads((tmp_path / "again" / "model" / "config.json").read_text())["hidden"] == [5]


def test_a_report_without_its_data_says_so_on_the_terminal(good, limbeck, tmp_path, monkeypatch):
    x, y = tiny_arrays(60)
    np.savez(tmp_path / "rows.npz", x=x, y=y)
    monkeypatch.chdir(tmp_path)
    good("train", "--data", "rows.npz", *FAST, "--out", "run")
    assert good("report", "run").err.count("\n") <= 1
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    said = good("report", tmp_path / "run").err
    assert "shows no examples" in said and "rows.npz" in said and "where the run was started" in said


def test_an_ensemble_tells_its_gain(good, tiny, tmp_path):
    out = tmp_path / "three"
    done = good("train", "--data", tiny, *FAST, "--members", 3, "--out", out)
    metrics = json.loads((out / "metrics.json").read_text())
    rates = [member["error_rate"] for member in metrics["members"]]
    assert len(rates) == 3
    assert metrics["gain"]["over_mean"] == pytest.approx(np.mean(rates) - metrics["model"]["error_rate"])
    assert metrics["gain"]["over_best"] == pytest.approx(min(rates) - metrics["model"]["error_rate"])
    assert f"{100 * metrics['gain']['over_mean']:.2f} points" in done.err
    assert len({weights(out / "members" / str(number)) for number in (1, 2, 3)}) == 3
    again = json.loads(good("evaluate", out, "--data", tiny, "--json").out)
    assert again["nll"] == metrics["model"]["nll"]
    good("distill", "--data", tiny, "--teacher", out, *FAST, "--no-baseline", "--out", tmp_path / "student")
    told = json.loads((tmp_path / "student" / "metrics.json").read_text())
    assert told["teacher"]["nll"] == pytest.approx(metrics["model"]["nll"])
    assert "baseline" not in told and told["verdict"] is None


def test_several_seeds(good, tiny, teacher, student, tmp_path):
    out = tmp_path / "seeds"
    good("distill", "--data", tiny, "--teacher", teacher, *FAST, "--seeds", 2, "--no-side-by-side", "--out", out)
    metrics = json.loads((out / "metrics.json").read_text())
    assert [row["seed"] for row in metrics["seeds"]] == [0, 1]
    assert weights(out) == weights(student)
    assert weights(out / "seeds" / "2") != weights(out)
    assert metrics["verdict"]["sentence"]


def test_several_teachers(good, tiny, teacher, tmp_path):
    other = tmp_path / "other"
    good("train", "--data", tiny, *FAST, "--model", "cnn", "--channels", 4, "--seed", 1, "--out", other)
    words = ("distill", "--data", tiny, "--teacher", teacher, other, *FAST, "--no-baseline")
    answers = {}
    for mean in ("arithmetic", "geometric"):
        good(*words, "--mean", mean, "--out", tmp_path / mean)
        answers[mean] = load_file(tmp_path / mean / "answers.safetensors")["teacher"]
    parts = []
    for folder in (teacher, other):
        model = package.load(folder)
        inputs = package.open_data(tiny).test.inputs / 255
        parts.append(model(inputs).detach().log_softmax(1))
    arithmetic = torch.stack(parts).exp().mean(0).log()
    geometric = torch.stack(parts).mean(0).log_softmax(1)
    torch.testing.assert_close(answers["arithmetic"], arithmetic, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(answers["geometric"], geometric, atol=1e-5, rtol=1e-5)
    assert weights(tmp_path / "arithmetic") != weights(tmp_path / "geometric")


def test_an_unlabelled_transfer_set(good, tiny, teacher, student, tmp_path):
    path = tmp_path / "unlabelled.npz"
    np.savez(path, x=tiny_arrays(180, seed=9)[0])  # as many steps as the training set has: the baseline is the same
    words = ("distill", "--data", tiny, "--teacher", teacher, *FAST, "--transfer", path, "--hard-weight", 0)
    good(*words, "--out", tmp_path / "out")
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["student"]["agreement_with_teacher"] > 0.4
    assert weights(tmp_path / "out" / "baseline") == weights(student / "baseline")
    assert "train_accuracy" not in rows(tmp_path / "out")[0]


def test_a_run_is_evaluated_on_its_own_test_set_unless_data_are_named(good, limbeck, tmp_path):
    data, out = tmp_path / "own.npz", tmp_path / "run"
    x, y = tiny_arrays(60)
    np.savez(data, x=x, y=y, x_test=x[:20], y_test=y[:20])
    written = json.loads(good("train", "--data", data, *FAST, "--json", "--out", out).out)["model"]
    told = json.loads(good("evaluate", out, "--json").out)
    assert (told["test_errors"], told["test_examples"]) == (written["test_errors"], 20)
    layers = json.loads(good("taps", out, "--json").out)
    assert layers[0]["shape"] == [64]
    np.savez(data, x=x, y=y, x_test=x[:20], y_test=y[20:40])
    refusal = limbeck("evaluate", out)
    assert refusal.code == 2 and f"{data} has changed since {out} was trained" in refusal.err
    good("evaluate", out, "--data", data)
    data.unlink()
    refusal = limbeck("evaluate", out)
    assert refusal.code == 2 and f"{out} names its data, which cannot be opened: give --data" in refusal.err
    refusal = limbeck("evaluate", out / "model")
    assert refusal.code == 2 and "does not name the data that it was trained on: give --data" in refusal.err


def test_layers_are_listed_on_data_that_fit(good, limbeck, tiny, teacher, own_module, tmp_path):
    refusal = limbeck("taps", teacher, "--data", "mnist")
    assert refusal.code == 2 and "from mnist (name the model's data with --data)" in refusal.err
    good("train", "--data", tiny, "--model", f"{own_module}:net", "--epochs", 1, "--out", tmp_path / "own")
    refusal = limbeck("taps", tmp_path / "own")
    assert refusal.code == 2 and f"limbeck taps {own_module}:net --data" in refusal.err


def test_a_data_set_without_a_test_set(good, limbeck, teacher, tmp_path):
    path = tmp_path / "five.npz"
    x, y = tiny_arrays(5)
    np.savez(path, x=x, y=y, classes=np.array(["one", "two", "three"]))
    done = good("train", "--data", path, "--validation", 0, *FAST, "--json", "--out", tmp_path / "out")
    assert json.loads(done.out)["judged_on"] is None
    refusal = limbeck("evaluate", teacher, "--data", path, "--validation", 0)
    assert refusal.code == 2 and "no test set" in refusal.err


def test_a_network_of_ones_own(good, limbeck, tiny, own_module, tmp_path):
    own = f"{own_module}:net"
    out = tmp_path / "own"
    brief = ("--epochs", 2, "--precision", "float32", "--learning-rate", 0.02)
    good("train", "--data", tiny, "--model", own, *brief, "--members", 2, "--out", out)
    written = json.loads((out / "metrics.json").read_text())["model"]
    told = json.loads(good("evaluate", out, "--data", tiny, "--model", own, "--json").out)
    assert told["nll"] == pytest.approx(written["nll"])
    assert told["parameters"] == written["parameters"] == 2 * (64 * 6 + 6 + 6 * 3 + 3)
    refusal = limbeck("evaluate", out, "--data", tiny)
    assert refusal.code == 2 and own in refusal.err and "--model" in refusal.err
    words = ("distill", "--data", tiny, "--teacher", out, "--student", own, *brief)
    refusal = limbeck(*words, "--out", tmp_path / "student")
    assert refusal.code == 2 and not (tmp_path / "student").exists()
    good(*words, "--teacher-model", own, "--out", tmp_path / "student")
    metrics = json.loads((tmp_path / "student" / "metrics.json").read_text())
    assert metrics["teacher"]["nll"] == pytest.approx(written["nll"])
    good("report", tmp_path / "student")
    again = ("distill", "--config", tmp_path / "student" / "config.toml", "--out", tmp_path / "again")
    refusal = limbeck(*again)
    assert refusal.code == 2 and "executes no code" in refusal.err
    good(*again, "--student", own, "--teacher-model", own)
    assert weights(tmp_path / "student") == weights(tmp_path / "again")


def test_tensorboard_has_every_number_of_the_history(good, tiny, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    out = tmp_path / "out"
    good("train", "--data", tiny, *FAST, "--log", "tensorboard", "--out", out)
    assert {folder.name for folder in (out / "tensorboard").iterdir()} == {"model", "run"}
    events = EventAccumulator(str(out / "tensorboard" / "model"))
    events.Reload()
    for row in rows(out):
        for name in ("train_loss", "validation_nll", "learning_rate"):
            value = next(event.value for event in events.Scalars(name) if event.step == row["epoch"])
            assert value == pytest.approx(row[name], rel=1e-6)


def test_a_report_that_opens_alone(good, student, monkeypatch):
    """With its figures, drawn anew from the folder; it names nothing outside itself."""
    monkeypatch.setattr(pages, "write_report", write_report)
    (student / "report.html").unlink(missing_ok=True)
    done = good("report", student)
    page = (student / "report.html").read_text()
    assert str(student / "report.html") in done.err and done.out == ""
    assert set(re.findall(r'src="([^,"]*)', page)) == {"data:image/svg+xml;base64"} and "<link" not in page
    assert json.loads((student / "metrics.json").read_text())["verdict"]["sentence"][:30] in page
    assert [*(student / "figures").glob("*.svg")]


def test_data_is_listed_and_described(good, tiny):
    assert "mnist" in good("data").out
    assert set(json.loads(good("data", "--json").out)) >= {"mnist", "FILE.mat", "FILE.npz"}
    told = json.loads(good("data", tiny, "--json").out)
    assert told["classes"] == ["one", "two", "three"] and told["shape"] == [1, 8, 8]
    assert told["examples"] == {"train": 180, "test": 20}
    shown = good("data", tiny).out
    for name, label in zip(("one", "two", "three"), range(3), strict=True):
        counts = [str(int((part.labels == label).sum())) for part in package.open_data(tiny).parts().values()]
        assert re.search(rf"{name}\W+{counts[0]}\W+{counts[1]}", shown), shown


def test_names_are_shown_as_they_are(good, tmp_path):
    """Brackets and colons mean something to what draws the tables, and must not here."""
    path = tmp_path / "odd.npz"
    x, y = tiny_arrays()
    np.savez(path, x=x, y=y, classes=np.array(["[/x]", "[red]a", ":smile:"]))
    shown = good("data", path).out
    assert "[/x]" in shown and "[red]a" in shown and ":smile:" in shown


def test_quiet_where_there_is_no_terminal(good, tiny, teacher, tmp_path):
    done = good("train", "--data", tiny, *FAST, "--out", tmp_path / "run")
    assert len(done.err.splitlines()) == 1 and "report.html" in done.err
    done = good("train", "--data", tiny, *FAST, "--json", "--out", tmp_path / "json")
    assert done.err == ""
    assert json.loads(done.out) == json.loads((tmp_path / "json" / "metrics.json").read_text())


def test_the_quickstart_takes_a_seed(limbeck, tmp_path, monkeypatch):
    from limbeck.recipes import quickstart as recipe

    def stop(out, settings, **_):
        asked.append(settings)
        raise ConfigError("enough")

    asked = []
    monkeypatch.setattr(recipe, "quickstart", stop)
    monkeypatch.setattr(recipe, "expected_seconds", lambda settings: 151.4)
    done = limbeck("quickstart", "--out", tmp_path, "--seed", "3")
    assert done.code == 2 and "about 2 min 31 s on this machine" in done.err
    assert limbeck("quickstart", "--out", tmp_path).code == 2
    with_seed, plain = asked
    assert plain == recipe.Quickstart()
    assert with_seed.teacher_training == dataclasses.replace(plain.teacher_training, seed=3)
    assert with_seed.student_training == dataclasses.replace(plain.student_training, seed=3)
    assert dataclasses.replace(with_seed, teacher_training=None, student_training=None) == dataclasses.replace(
        plain, teacher_training=None, student_training=None
    )


@pytest.mark.slow
def test_the_quickstart_ends_with_a_page_to_try_and_the_report_links_to_it(limbeck, tmp_path, monkeypatch):
    from limbeck.recipes.quickstart import Quickstart

    small = Quickstart(
        data=DataOptions(data="mnist", validation=200, train_examples=600),
        teacher=ModelOptions(model="mlp", hidden=(16,)),
        teacher_training=Training(epochs=1, batch_size=100),
        student=ModelOptions(model="mlp", hidden=(8,)),
        student_training=Training(epochs=1, batch_size=100),
    )
    monkeypatch.setattr(Quickstart, "with_seed", lambda self, seed: small)
    monkeypatch.setattr(pages, "write_report", write_report)
    done = limbeck("quickstart", "--quiet", "--out", tmp_path / "run")
    assert done.code == 0, done.err
    page = tmp_path / "run" / "try" / "model.html"
    assert str(page) in done.err.replace("\n", "") + done.out.replace("\n", "")
    assert "8-10" in page.read_text() and 'href="try/model.html"' in (tmp_path / "run" / "report.html").read_text()
    verdict = json.loads((tmp_path / "run" / "metrics.json").read_text())["verdict"]["sentence"]
    assert verdict[:40] in page.read_text()
    before = page.stat().st_mtime_ns
    assert limbeck("quickstart", "--quiet", "--resume", "--out", tmp_path / "run").code == 0
    assert page.stat().st_mtime_ns == before


@pytest.mark.parametrize("command", ["quickstart", "train", "distill", "evaluate", "report", "reproduce", "data"])
def test_help_shows_examples(good, command):
    shown = good(command, "--help").out
    assert f"limbeck {command} " in shown.replace("Usage: limbeck", "")
    assert "Usage" in shown and "--json" in shown or command == "report"


def test_help_and_version(good):
    shown = good("--help").out
    for command in ("quickstart", "train", "distill", "evaluate", "report", "reproduce", "data"):
        assert re.search(rf"\b{command}\b", shown)
    assert package.__version__ in good("--version").out


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["data"], ["train", "--frob"]])
def test_help_imports_nothing_heavy(words):
    code = """
import sys
from limbeck.cli import main
try:
    main(sys.argv[1:])
except SystemExit:
    pass
heavy = {"torch", "matplotlib", "scipy", "numpy", "h5py", "PIL", "accelerate", "jinja2"} & set(sys.modules)
sys.exit(f"imported: {sorted(heavy)}" if heavy else 0)
"""
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_python_and_the_command_line_agree(good, tiny, teacher, tmp_path):
    """The same run, asked for from Python, ends in the same weights."""
    from limbeck.models import from_options
    from limbeck.options import ModelOptions

    data = package.data.cut_validation(package.open_data(tiny), 0.1)

    def make(seed):
        return from_options(ModelOptions(hidden=(8,)), input_shape=data.train.shape, classes=3, seed=seed)

    run = package.train(make, data, epochs=2, batch_size=32, precision="float32", learning_rate=0.02)
    for name, value in load_file(teacher / "model" / "model.safetensors").items():
        assert torch.equal(run.model.state_dict()[name], value)
