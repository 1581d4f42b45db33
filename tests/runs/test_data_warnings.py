"""What is odd about models and data is told by every command that meets it, and the test set is read last."""

import warnings

import numpy as np
import pytest
import torch
from tiny_runs import FAST, run_here, tiny_arrays
from torch import nn

import limbeck
from limbeck import tuning
from limbeck.data.examples import Examples
from limbeck.data.trained_rows import TrainedRows
from limbeck.errors import FormatError, LimbeckWarning
from limbeck.models import MLP, MLPConfig
from limbeck.options.search_space import Search
from limbeck.runs import compress_plan, compress_stages, compressing
from limbeck.runs.data_warnings import tell_shared_examples
from limbeck.runs.measure import speed_of


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setitem(speed_of.__kwdefaults__, "seconds", 0.002)


def network():
    torch.manual_seed(0)
    return MLP(MLPConfig(input_shape=(4,), classes=2, hidden=(30,)))


def some(seed):
    x = torch.randn(60, 4, generator=torch.Generator().manual_seed(seed))
    return x, (x[:, 0] > 0).long()


def mixed(other):
    """Twenty examples of the training set among others."""
    return tuple(torch.cat([mine[:20], theirs]) for mine, theirs in zip(some(0), some(other), strict=True))


SOFTENED = "answers of the {} look like probabilities"


def test_evaluate_tells_a_softmax_at_the_end():
    ended = nn.Sequential(network(), nn.Softmax(dim=-1))
    with pytest.warns(LimbeckWarning, match=SOFTENED.format("model")):
        limbeck.evaluate(ended, Examples.of(*some(1)))
    with pytest.warns(LimbeckWarning, match=SOFTENED.format("teacher")):
        limbeck.evaluate(network(), Examples.of(*some(1)), teacher=ended)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        limbeck.evaluate(network(), Examples.of(*some(1)), teacher=network())


OWN = """
import torch


def softened(input_shape, classes):
    layers = torch.nn.Flatten(), torch.nn.Linear(64, classes), torch.nn.Softmax(dim=-1)
    return torch.nn.Sequential(*layers)
"""


def test_the_commands_tell_a_softmax_at_the_end(tmp_path, monkeypatch):
    (tmp_path / "ends_in_softmax.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    x, y = tiny_arrays()
    np.savez(tmp_path / "tiny.npz", x=x, y=y)
    data, model = ("--data", tmp_path / "tiny.npz"), "ends_in_softmax:softened"
    done = run_here("train", *data, *FAST[:2], *FAST[4:], "--model", model, "--out", tmp_path / "run")
    assert done.code == 0, done.err
    done = run_here("evaluate", tmp_path / "run", *data, "--model", model)
    assert done.code == 0 and SOFTENED.format("model") in done.err, done.err
    done = run_here(
        "soften", *data, "--teacher", tmp_path / "run", "--teacher-model", model, "--out", tmp_path / "soft"
    )
    assert done.code == 0 and SOFTENED.format("teacher") in done.err, done.err


def test_compress_tells_examples_that_training_shares_and_reads_the_test_set_last(monkeypatch):
    order, told, judge = [], compressing.tell_shared_examples, compressing._judge
    small = compress_stages.to_int8
    monkeypatch.setattr(compress_stages, "to_int8", lambda *a, **k: order.append("int8") or small(*a, **k))
    monkeypatch.setattr(compressing, "_judge", lambda *a, **k: order.append("judge") or judge(*a, **k))
    for module in (compress_plan, compressing):
        monkeypatch.setattr(
            module, "tell_shared_examples", lambda data, parts, hears: order.append(*parts) or told(data, parts, hears)
        )
    with pytest.warns(LimbeckWarning) as caught:
        limbeck.compress(network(), some(0), mixed(1), test=mixed(2), int8=True)
    said = [str(each.message) for each in caught]
    for part in ("validation", "test"):
        assert [text for text in said if text.startswith(f"20 of 80 {part} examples are in the training set too")]
    assert order == ["validation", "int8", "test", "judge"]


def test_tune_tells_examples_that_training_shares():
    teacher = nn.Linear(4, 2)
    torch.nn.init.eye_(teacher.weight)
    search = Search(grid=True, temperatures=(1,), hard_weights=(0.5,))
    with pytest.warns(LimbeckWarning, match="20 of 80 validation examples are in the training set too"):
        tuning.tune(teacher, nn.Linear(4, 2), some(0), mixed(1), search=search, epochs=1)


@pytest.mark.parametrize(("factor", "words"), [(255.0, "larger"), (1 / 255, "smaller")])
def test_test_inputs_on_another_scale(factor, words):
    x = torch.rand(300, 4, generator=torch.Generator().manual_seed(0))
    y = (x[:, 0] > 0.5).long()
    train = limbeck.Examples.of(x[:100], y[:100])
    parts = {"same": x[100:200], "other": factor * x[:100], "few": factor * x[100:110]}
    parts["outliers"] = torch.cat([x[100:199], torch.full((1, 4), 1e9)])
    for name, inputs in parts.items():
        told = []
        hears = type("Hears", (limbeck.Callback,), {"on_warning": lambda self, text: told.append(text)})()  # noqa: B023
        data = limbeck.DataSet("some", ("0", "1"), train, limbeck.Examples.of(inputs, y[: len(inputs)]))
        tell_shared_examples(data, ["test"], hears)
        assert len(told) == (name == "other"), name
        assert all(f"are {words} than those of the training examples by a factor of about 255" in each for each in told)


def test_inputs_on_another_scale_than_those_that_a_network_was_trained_on(tmp_path):
    """Such as the same pixels as other numbers, which are not divided by 255."""
    pixels = torch.randint(0, 256, (60, 1, 2, 2), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(60) % 2
    net = MLP(MLPConfig(input_shape=(1, 2, 2), classes=2, hidden=(4,)))  # it takes whole numbers too
    limbeck.train(net, (pixels, labels), out=tmp_path / "run", **QUICK)
    rows = limbeck.load(tmp_path / "run", model=net).trained_on
    assert TrainedRows.read(tmp_path / "run" / "model" / "trained_rows.safetensors").size == rows.size
    assert rows.size == pytest.approx(0.57, abs=0.08)
    told = r"inputs for the (model|teacher) are larger than .* by a factor of about 255 .*; pixels .* given as uint8"
    for other in (pixels.long(), pixels.float()):
        loaded = limbeck.load(tmp_path / "run", model=net)
        with pytest.warns(LimbeckWarning, match=told):
            limbeck.evaluate(loaded, Examples.of(other, labels))
        with pytest.warns(LimbeckWarning, match=told):
            limbeck.predict(loaded, other)
        with pytest.warns(LimbeckWarning, match=told):
            limbeck.distill(loaded, net, (other.float(), labels), **QUICK)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        limbeck.predict(loaded, pixels)
        limbeck.predict(loaded, pixels[:30].float() / 255)
    assert TrainedRows(rows.hashes, 3).joined(rows).size == rows.size
    TrainedRows(rows.hashes, 3, -1.0).write(tmp_path / "odd")
    with pytest.raises(FormatError, match="one number above 0 as size"):
        TrainedRows.read(tmp_path / "odd")


def split(train, test):
    parts = {"train": train, "validation": some(8), "test": test}
    return limbeck.DataSet("some", ("no", "yes"), **{name: Examples.of(*part) for name, part in parts.items()})


QUICK = {"epochs": 1, "batch_size": 20, "precision": "float32", "device": "cpu"}
SEEN = r"the teacher was trained on 20 of 80 test examples \(the first is test example 0\)"


def test_a_teacher_that_was_trained_on_test_examples_is_told(tmp_path):
    limbeck.train(network(), split(some(0), some(1)), out=tmp_path / "teacher", **QUICK)
    teacher = limbeck.load(tmp_path / "teacher")
    with pytest.warns(LimbeckWarning, match=SEEN):
        run = limbeck.distill(teacher, network(), split(some(2), mixed(3)), out=tmp_path / "student", **QUICK)
    assert any("the teacher was trained on 20 of 80" in each for each in run.metrics["warnings"])
    with pytest.warns(LimbeckWarning, match="the model was trained on 20 of 80"):
        limbeck.evaluate(tmp_path / "teacher", split(some(2), mixed(3)))
    with pytest.warns(LimbeckWarning, match="the network was trained on 20 of 80"):
        limbeck.compress(teacher, split(some(2), mixed(3)), int8=True, out=tmp_path / "small")
    with pytest.warns(LimbeckWarning, match="the model was trained on 20 of 80"):
        limbeck.evaluate(tmp_path / "small", split(some(2), mixed(3)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        limbeck.evaluate(tmp_path / "teacher", split(some(2), some(1)))


def test_members_and_students_that_saw_test_examples_are_told(tmp_path):
    limbeck.train(lambda seed: network(), split(some(0), some(1)), out=tmp_path / "two", members=2, **QUICK)
    with pytest.warns(LimbeckWarning, match=SEEN):
        limbeck.distill(limbeck.load(tmp_path / "two"), network(), split(some(2), mixed(3)), **QUICK)
    limbeck.train(network(), split(some(0), some(1)), out=tmp_path / "start", **QUICK)
    with pytest.warns(LimbeckWarning, match="the student was trained on 20 of 80"):
        limbeck.distill(network(), limbeck.load(tmp_path / "start"), split(some(2), mixed(3)), **QUICK)


def test_what_a_network_was_trained_on_before_is_remembered(tmp_path):
    limbeck.train(network(), split(some(0), some(1)), out=tmp_path / "first", **QUICK)
    limbeck.train(limbeck.load(tmp_path / "first"), split(some(5), some(1)), out=tmp_path / "second", **QUICK)
    for seed in (0, 5):
        known = limbeck.load(tmp_path / "second").trained_on.find(Examples.of(*some(seed)))
        assert len(known[0]) == known[1] == 60
    assert not len(limbeck.load(tmp_path / "second").trained_on.find(Examples.of(*some(3)))[0])


def test_a_teacher_from_elsewhere_may_know_a_test_set_that_is_cut_here(tmp_path):
    x, y = some(0)
    np.savez(tmp_path / "some.npz", x=x.numpy(), y=y.numpy())
    told = []

    class Hears(limbeck.Callback):
        def on_note(self, text):
            told.append(text)

    cut = limbeck.open_data(tmp_path / "some.npz")
    limbeck.distill(network(), network(), cut, callbacks=Hears(), **QUICK)
    assert [each for each in told if "6 test examples were set aside" in each]
    told.clear()
    limbeck.train(network(), cut, out=tmp_path / "teacher", **QUICK)
    limbeck.distill(limbeck.load(tmp_path / "teacher"), network(), cut, callbacks=Hears(), **QUICK)
    limbeck.distill(network(), network(), split(some(0), some(1)), callbacks=Hears(), **QUICK)
    assert not [each for each in told if "set aside" in each]
