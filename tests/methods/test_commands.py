"""``limbeck methods``, ``limbeck taps``, and methods on the command line."""

import json

import numpy as np
import pytest
from tiny_runs import run_here

from limbeck.options.methods import METHODS


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    tmp_path = tmp_path_factory.mktemp("data")
    draw = np.random.default_rng(0)
    labels = np.arange(40) % 3
    images = draw.normal(size=(40, 1, 8, 8)).astype(np.float32) + labels[:, None, None, None]
    np.savez(tmp_path / "tiny.npz", train_inputs=images, train_labels=labels)
    return tmp_path / "tiny.npz"


def test_methods_are_listed_with_their_options():
    done = run_here("methods", "--json")
    found = json.loads(done.out)
    assert done.code == 0 and list(found)[: len(METHODS)] == list(METHODS)
    assert found["dkd"]["options"] == {"temperature": 4.0, "alpha": 1.0, "beta": 8.0}
    assert all(each["what"].endswith(".") for each in found.values())


def test_layers_are_listed_with_their_shapes(tiny):
    done = run_here("taps", "mlp", "--data", tiny, "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert [layer["name"] for layer in found if layer["stage"]] and found[-1]["shape"] == [3]


LIMITS = ("--epochs", 1, "--hidden", 4, "--device", "cpu", "--precision", "float32", "--quiet")


@pytest.fixture(scope="module")
def teacher(tiny):
    folder = tiny.parent / "teacher"
    made = run_here("train", "--data", tiny, "--out", folder, *LIMITS)
    assert made.code == 0, made.err
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--loss", "kl"), "--loss is called --method now"),
        (("--method", "dkb"), "there is no method 'dkb': did you mean dkd?"),
        (("--method", "dkd", "--method-options", "betta=3"), "method dkd has no option 'betta': did you mean beta?"),
        (("--method", "nowhere.py:loss"), "there is no file nowhere.py"),
    ],
)
def test_wrong_methods_are_told_in_a_line(tiny, teacher, tmp_path, words, said):
    given = ("--data", tiny, "--teacher", teacher, "--out", tmp_path / "run")
    done = run_here("distill", *given, *words, *LIMITS)
    assert done.code == 2 and said in done.err and "Traceback" not in done.err
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_method_with_options_in_a_file_and_on_the_command_line(tiny, teacher, tmp_path):
    (tmp_path / "mine.py").write_text(
        "def loss(logits, teacher, labels):\n    return (logits.log_softmax(-1) - teacher).square().mean(-1)\n"
    )
    for method in ("kd:1+dkd:0.5", f"{tmp_path}/mine.py:loss"):
        options = ("--method-options", "beta=2") if "dkd" in method else ()
        out = tmp_path / ("sum" if options else "own")
        named = ("--method", method, *options, "--no-baseline")
        done = run_here("distill", "--data", tiny, "--teacher", teacher, *named, *LIMITS, "--out", out)
        assert done.code == 0, done.err
        config = (out / "config.toml").read_text()
        assert f'method = "{method}"' in config and ("beta=2" in config) == bool(options)


@pytest.mark.slow
def test_fitnets_in_two_stages_on_the_command_line(tiny, teacher, tmp_path):
    """It resumes, and another length of the first stage is refused."""
    two = ("--method", "fitnets", "--method-options", "stages=2", "hint_epochs=1", "--temperature", 2)
    given = ("distill", "--data", tiny, "--teacher", teacher, *two, *LIMITS[2:], "--out", tmp_path / "run")
    for more in ((), ("--resume",)):
        done = run_here(*given, "--epochs", 3, *more)
        assert done.code == 0 and "has no effect" not in done.err, done.err
    rows = [json.loads(line) for line in (tmp_path / "run" / "history.jsonl").read_text().splitlines()]
    beside = (tmp_path / "run" / "baseline" / "history.jsonl").read_text().splitlines()
    assert [row["stage"] for row in rows] == [1, 2, 2] and len(beside) == 3
    short = run_here(*given[:-1], tmp_path / "short", "--epochs", 1)
    assert short.code == 2 and "nothing is left for the second stage" in short.err
