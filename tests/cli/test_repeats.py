"""The same command twice gives the same bytes, in two processes that order their sets differently."""

import json
import os
import subprocess
import sys

import numpy as np
from left_behind import content
from tiny_runs import tiny_arrays

from limbeck.runs import pages

CODE = """
import json, sys
from limbeck import cli
from limbeck.exporters.parity import judge_file
from limbeck.runs import compress_parity, pages
from limbeck.runs.measure import speed_of
from limbeck.system.files import replace_text
speed_of.__kwdefaults__["seconds"] = judge_file.__kwdefaults__["seconds"] = 0.001
pages.write_report = lambda contents, path: path
compress_parity.write_parity_page = lambda contents, path: replace_text(path, f"<p>{contents.title}")
for words in json.loads(sys.argv[1]):
    try:
        cli.main(words)
    except SystemExit as stop:
        if stop.code:
            raise
"""
TRAINING = ["--epochs", 2, "--batch-size", 32, "--precision", "float32", "--quiet"]


def test_the_same_commands_leave_the_same_bytes(limbeck, tmp_path, monkeypatch):
    monkeypatch.setattr(pages, "write_report", lambda contents, path: path)
    x, y = tiny_arrays(150)
    np.savez(tmp_path / "data.npz", x=x, y=y)
    data = ["--data", "../data.npz"]
    commands = [
        ["train", *data, "--hidden", 10, "--dropout", 0.2, "--shift", 1, "--members", 2, *TRAINING, "--out", "two"],
        ["distill", *data, "--teacher", "two", "--hidden", 6, "--shift", 1, *TRAINING, "--out", "student"],
        ["soften", *data, "--teacher", "two", "--temperature", 2, "--shift", 1, "--views", 2, "--encoding", "sampled",
         "--draws", 3, "--quiet", "--precision", "float32", "--out", "store"],
        ["compress", "student", "--energy", 0.7, "--finetune-epochs", 1, *data, "--quiet", "--out", "small"],
    ]  # fmt: skip
    here, there = tmp_path / "here", tmp_path / "there"
    for place in (here, there):
        place.mkdir()
    monkeypatch.chdir(here)
    for words in commands:
        done = limbeck(*words)
        assert done.code == 0, done.err
    order = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    code = [sys.executable, "-c", CODE, json.dumps([[str(word) for word in words] for words in commands])]
    env = {**os.environ, "PYTHONHASHSEED": order, "OMP_NUM_THREADS": "1"}
    again = subprocess.run(code, cwd=there, env=env, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    left = [content(place) for place in (here, there)]
    assert left[0] == left[1]
    names = " ".join(left[0])
    assert all(name in names for name in ("two/members", "student/baseline", "store/shard", "small/model")), names
