"""``limbeck export``, and ``run.export`` of runs in memory."""

import importlib
import inspect
import json
from pathlib import Path

import numpy as np
import pandas
import pytest
import torch
from exporter_makers import Elsewhere
from tiny_runs import tiny_arrays
from torch import nn

import limbeck
from limbeck import RankRule
from limbeck.exporters import registry
from limbeck.exporters.parity import judge_file
from limbeck.runs import export_request, parity_files
from limbeck.runs.model_export import run_options


@pytest.fixture(autouse=True)
def no_page(monkeypatch):
    monkeypatch.setitem(inspect.unwrap(judge_file).__kwdefaults__, "memory", False)
    monkeypatch.setattr(parity_files, "write_parity_page", lambda contents, path: path.write_text(contents.title))


def test_a_run_is_exported_with_its_own_held_out_examples(teacher, tmp_path, limbeck):
    out = tmp_path / "shipped"
    done = limbeck("export", teacher, "--to", "torch", "--temperature", 2, "--out", out, "--quiet")
    assert done.code == 0, done.err
    assert "predictions differ" in done.err and "0 of 20" in done.out
    parity = json.loads((out / "parity.json").read_text())
    metrics = json.loads((teacher / "metrics.json").read_text())
    found = parity["formats"]["torch"]
    assert parity["judged_on"] == metrics["judged_on"] == "test"
    assert found["original"]["accuracy"] == pytest.approx(metrics["model"]["accuracy"]) and parity["temperature"] == 2
    assert found["original"]["nll"] != pytest.approx(metrics["model"]["nll"], rel=1e-3)
    identity = json.loads((teacher / "identity.json").read_text())
    assert parity["data"] == {name: identity[name] for name in ("train", "validation", "test")}
    again = limbeck("export", teacher, "--to", "torch", "--out", out, "--quiet")
    assert again.code == 2 and "exists already" in again.err


def test_a_hub_folder_sees_rows_of_a_table_as_the_run_does(tmp_path, limbeck, monkeypatch):
    """Also of a file in which columns have other means, and another order of categories."""
    chance = np.random.default_rng(0)
    size, town = chance.normal(100, 30, 400), chance.choice(["x", "y", "z"], 400)
    frame = pandas.DataFrame({"size": size, "town": town, "kind": np.where((size > 100) ^ (town == "y"), "up", "down")})
    monkeypatch.chdir(tmp_path)
    frame[:300].to_csv("rows.csv", index=False)
    frame[300:].query("size > 100").sort_values("town", ascending=False).to_csv("large.csv", index=False)
    labels = ("--label-column", "kind")
    done = limbeck("train", "--data", "rows.csv", *labels, "--hidden", 16, "--epochs", 20, "--batch-size", 16,
                   "--learning-rate", 0.02, "--precision", "float32", "--out", "run", "--quiet")  # fmt: skip
    assert done.code == 0, done.err
    done = limbeck("export", "run", "--to", "hub", "--out", "shipped", "--quiet")
    assert done.code == 0, done.err
    found = []
    for place in ("run", "shipped/hub"):
        done = limbeck("evaluate", place, "--data", "rows.csv", "--test-data", "large.csv", *labels, "--json")
        assert done.code == 0, done.err
        found.append(json.loads(done.out))
        assert done.err == "" and found[-1]["test_examples"] == len(pandas.read_csv("large.csv"))
        done = limbeck("predict", place, "large.csv", "--out", f"{place.replace('/', '-')}.csv")
        assert done.code == 0, done.err
    assert found[0]["nll"] == found[1]["nll"] and found[0]["accuracy"] > 0.7
    assert Path("run.csv").read_text() == Path("shipped-hub.csv").read_text()
    assert '"size", "town" in this order' in Path("shipped/hub/README.md").read_text()
    done = limbeck("evaluate", "run", "--data", "rows.csv", *labels, "--json")
    assert done.err.startswith("on 30 test examples, the tenth of rows.csv") and "--test-data" in done.err
    assert json.loads(done.out)["test_examples"] == 30
    with Path("shipped/hub/config.json").open("a") as file:
        file.write(" ")
    done = limbeck("evaluate", "shipped/hub", "--data", "rows.csv", "--test-data", "large.csv", *labels)
    assert done.code == 2 and "config.json" in done.err


def test_other_data_and_pixels(tiny, teacher, tmp_path, limbeck):
    x, y = tiny_arrays(40, seed=7)
    np.savez(tmp_path / "new.npz", x=x, y=y, x_test=x, y_test=y, classes=np.array(["one", "two", "three"]))
    words = ("--to", "torch", "--data", tmp_path / "new.npz", "--with-preprocessing", "--json", "--quiet")
    done = limbeck("export", teacher, *words, "--parity-examples", 25, "--out", tmp_path / "out")
    assert done.code == 0, done.err
    found = json.loads(done.out)["formats"]["torch"]
    assert found["examples"] == 25 and found["inputs"] == ["pixels"] and found["output"] == "probabilities"
    shown = limbeck("predict", teacher, tmp_path / "new.npz")
    first = [float(each) for each in shown.out.splitlines()[1].split(",")[-3:]]
    pixels = torch.from_numpy(x[:1, None])
    ask = torch.export.load(tmp_path / "out" / "model.pt2").module()
    np.testing.assert_allclose(ask(pixels)[0], first, atol=1e-5)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--to", "tflite"], "there is no format 'tflite'"),
        (["--to", "torch", "--margin", "0"], "margin must be above 0"),
        (["--to", "torch", "--data", "nowhere.npz"], "there is no such file"),
        (["--to", "torch", "--finetune-epochs", "1"], "is for formats that round, such as int8"),
        (["--to", "torch", "--calibrate", "--temperature", "2"], "leave one of them out"),
    ],
)
def test_wrong_calls_are_told_in_a_line(teacher, tmp_path, limbeck, flags, message):
    done = limbeck("export", teacher, *flags, "--out", tmp_path / "out")
    assert done.code == 2 and message in " ".join(done.err.split()), done.err
    assert not list(tmp_path.iterdir())


def test_data_of_another_kind_than_the_runs_are_blamed_themselves(teacher, tmp_path, limbeck):
    (tmp_path / "rows.csv").write_text("x,label\n1,a\n2,b\n")
    done = limbeck("export", teacher, "--to", "onnx", "--data", tmp_path / "rows.csv", "--out", tmp_path / "out")
    assert done.code == 2 and "--data:" in done.err and "is a table, and" in " ".join(done.err.split()), done.err


def test_named_data_are_not_replaced_by_the_test_rows_of_the_run(tmp_path):
    for name in ("rows", "new", "held"):
        (tmp_path / f"{name}.csv").write_text("x,label\n1,a\n2,b\n")
    named = {name: str(tmp_path / f"{name}.csv") for name in ("rows", "new", "held")}
    text = f"data = {json.dumps(named['rows'])}\ntest_data = {json.dumps(named['held'])}\nlabel_column = 'label'\n"
    (tmp_path / "config.toml").write_text(text)
    assert run_options(tmp_path).test_data == named["held"]
    found = run_options(tmp_path, data=named["new"])
    assert (found.data, found.test_data, found.label_column) == (named["new"], None, "label")


def test_what_is_cheap_to_refuse_is_refused_before_data_are_read(teacher, tmp_path, limbeck, monkeypatch):
    def read(*given, **options):
        raise AssertionError("data were read")

    for command in ("export", "compress"):  # the package has functions of these names
        monkeypatch.setattr(importlib.import_module(f"limbeck.cli.{command}"), "open_examples", read)
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "x").write_text("x")
    for words, message in (
        (("export", teacher, "--to", "onx", "--out", tmp_path / "new"), "did you mean onnx"),
        (("export", teacher, "--to", "torch", "--out", tmp_path / "there"), "there exists already"),
        (("export", teacher, "--to", "torch", "--margin", "500", "--out", tmp_path / "new"), "below 100"),
        (("compress", teacher, "--rank", "2", "--margin", "500", "--out", tmp_path / "new"), "below 100"),
        (("compress", teacher, "--rank", "2", "--out", tmp_path / "there"), "there exists already"),
    ):
        done = limbeck(*words)
        assert done.code == 2 and message in " ".join(done.err.split()), done.err
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_a_missed_margin_has_the_cures_that_the_formats_take(teacher, tmp_path, limbeck):
    for kind, tuned in (("torch", False), ("int8", True)):
        done = limbeck("export", teacher, "--to", kind, "--margin", "0.01", "--out", tmp_path / kind, "--quiet")
        assert done.code == 2 and "compare on more examples" in done.err
        assert ("--finetune-epochs" in done.err) == tuned, done.err


def test_a_refused_export_is_a_fault_of_ours(teacher, tmp_path, limbeck, monkeypatch):
    wrong = Elsewhere("torch", after=lambda z: z.flip(1))
    monkeypatch.setattr(export_request, "exporter_named", lambda name: wrong)
    done = limbeck("export", teacher, "--to", "torch", "--out", tmp_path / "out", "--quiet")
    assert done.code == 1 and "the export is refused, and no model is kept" in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["out.refused"]
    assert "torch" in registry.exporters()


def test_runs_in_memory_export_themselves(tmp_path):
    x, y = tiny_arrays()
    data = (x[:120], y[:120]), (x[120:], y[120:])

    def made():
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, 3))

    trained = limbeck.train(made, *data, epochs=1, precision="float32")
    distilled = limbeck.distill(trained.model, made, *data, epochs=1, precision="float32", baseline=False)
    smaller = limbeck.compress(distilled.student, *data, rule=RankRule(rank=(3,)), int8=True)
    for name, run in (("train", trained), ("distill", distilled), ("compress", smaller)):
        done = run.export(tmp_path / name, ["torch"])
        found = done.parity["formats"]["torch"]
        assert done.parity["judged_on"] == "validation" and found["examples"] == 80
        assert found["flips"]["count"] == found["flips"]["ties"], done
