"""The scripts of examples/ on tables, saved answers and labels, each run on tiny data in a folder of its own."""

import runpy
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pandas
import pytest
import torch

import limbeck

SCRIPTS = Path(__file__).parents[1] / "examples"


@pytest.fixture
def run_script(tmp_path, monkeypatch, capsys):
    """Run a script in a folder of its own, with few epochs; what it printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(limbeck, "distill", partial(limbeck.distill, epochs=2, precision="float32"))

    def run(name):
        lines = (SCRIPTS / name).read_text().splitlines()
        code = [line for line in lines if line.strip() and not line.startswith('"""')]
        assert len(code) <= 10
        runpy.run_path(str(SCRIPTS / name))
        return capsys.readouterr().out

    return run


def test_a_forest_becomes_a_network(run_script, tmp_path):
    pytest.importorskip("sklearn")
    generator = np.random.default_rng(0)
    frame = pandas.DataFrame(generator.normal(size=(160, 3)), columns=["a", "b", "c"])
    frame["y"] = (frame["a"] > frame["b"]).astype(int)
    frame[:100].to_csv("train.csv", index=False)
    frame[100:].to_csv("val.csv", index=False)
    frame[100:].drop(columns="y").to_csv("new.csv", index=False)
    assert "validation errors" in run_script("forest.py")
    assert len(pandas.read_csv("predictions.csv")) == 60
    assert (tmp_path / "runs/forest/metrics.json").is_file()


def test_saved_answers_teach(run_script, tmp_path):
    generator = np.random.default_rng(0)
    x = generator.normal(size=(120, 6)).astype(np.float32)
    logits = x @ generator.normal(size=(6, 8)) * 2
    probs = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.savez("data.npz", x=x, y=np.arange(120) % 8)
    ids = np.argsort(-probs, 1)[:, :5]
    np.savez("top5.npz", probs=np.take_along_axis(probs, ids, 1), ids=ids)
    run_script("saved_answers.py")
    assert (tmp_path / "runs/saved/metrics.json").is_file()


def test_several_labels_at_a_time(run_script, monkeypatch, tmp_path):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(90, 4, generator=generator)
    y = (x[:, :3] > 0).int()
    parts = {"train": slice(0, 50), "val": slice(50, 70), "test": slice(70, 90)}
    np.savez("tags.npz", **{f"{name}_{part}": each[rows].numpy() for part, rows in parts.items()
                            for name, each in (("x", x), ("y", y))})  # fmt: skip
    Path("own.py").write_text("from torch import nn\nteacher = nn.Linear(4, 3)\n")
    monkeypatch.delitem(sys.modules, "own", raising=False)
    assert "test errors" in run_script("multi_label.py")
    assert len(pandas.read_csv("tags.csv")) == 20
    monkeypatch.delitem(sys.modules, "own", raising=False)
