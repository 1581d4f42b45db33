"""The scripts of examples/kaldi: from networks in an experiment's folder to a small one, with the words of both."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from limbeck.kaldi.decoding.scoring import word_errors
from limbeck.kaldi.formats.lines import read_table
from limbeck.kaldi.formats.nnet1 import read_nnet, write_nnet
from limbeck.kaldi.formats.table import read_ark
from limbeck.kaldi.formats.write import write_ark
from limbeck.kaldi.nnet3.model import read_nnet3

ROOT = Path(__file__).parents[2]
E2E = ROOT / "tests" / "fixtures" / "kaldi" / "e2e"
SCRIPTS = {
    "nnet1_ensemble.sh": {
        "--hidden 256 256 --epochs 20": "--hidden 128 --epochs 20 --precision float32 --no-baseline",
        "--finetune-epochs 5": "--finetune-epochs 5 --precision float32",
    },
    "nnet3_low_rank.sh": {
        "energy-threshold=0.8": "bottleneck-dim=3",
        "--epochs 5": "--epochs 20 --batch-size 64 --learning-rate 0.01 --precision float32",
    },
}
"""What is made smaller in each for the tests."""


def make_data(folder, keys, jobs):
    """A data directory whose features lie in an archive for each job."""
    folder.mkdir(parents=True)
    features, said, script = dict(read_ark(E2E / "feats.ark")), read_table(E2E / "text"), []
    for job in range(jobs):
        part = {key: features[key] for key in keys[job::jobs]}
        write_ark(folder / f"raw_fbank.{job + 1}.ark", part, scp=folder / "part.scp")
        script += (folder / "part.scp").read_text().splitlines()
        (folder / "part.scp").unlink()
    (folder / "feats.scp").write_text("".join(f"{line}\n" for line in sorted(script)))
    (folder / "utt2spk").write_text("".join(f"{key} {key[:-1]}\n" for key in keys))
    (folder / "text").write_text("".join(f"{key} {' '.join(said[key])}\n" for key in keys))


@pytest.fixture
def here(tmp_path):
    """A recipe's folder: two networks, alignments, a graph, training and test data."""
    keys = sorted(read_table(E2E / "text"))
    make_data(tmp_path / "data" / "train", keys[:60], 2)
    make_data(tmp_path / "data" / "test", keys[60:], 1)
    files = {
        "dnn_a": {"final.feature_transform": "final.feature_transform", "ali_train_pdf.counts": "ali_train_pdf.counts"},
        "dnn_b": {},
        "ali": {"ali.1.gz": "ali.1.gz", "mono.mdl": "final.mdl"},
        "graph": {"HCLG.fst": "HCLG.fst", "words.txt": "words.txt"},
    }
    for name, kept in files.items():
        (tmp_path / "exp" / name).mkdir(parents=True)
        for source, target in kept.items():
            shutil.copy(E2E / source, tmp_path / "exp" / name / target)
    for name, source in (("dnn_a", "final.nnet"), ("dnn_b", "svd4.nnet.txt")):
        write_nnet(tmp_path / "exp" / name / "final.nnet", read_nnet(E2E / source))
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "limbeck").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m limbeck "$@"\n')
    (tmp_path / "bin" / "limbeck").chmod(0o755)
    return tmp_path


@pytest.mark.parametrize("name", SCRIPTS)
def test_it_is_short_and_the_page_shows_it(name):
    text = (ROOT / "examples" / "kaldi" / name).read_text()
    assert sum(not line.startswith("#") for line in text.splitlines() if line) <= 15
    assert all(old in text for old in SCRIPTS[name])
    shown = "".join(f"    {line}".rstrip() + "\n" for line in text.splitlines())
    assert shown in (ROOT / "docs" / "kaldi.md").read_text()


def run_script(here, name):
    text = (ROOT / "examples" / "kaldi" / name).read_text()
    for old, new in SCRIPTS[name].items():
        text = text.replace(old, new)
    (here / "run.sh").write_text(text)
    path = f"{here / 'bin'}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "run.sh"], cwd=here, env={**os.environ, "PATH": path}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_network_of_nnet3_is_made_smaller_and_finds_the_words_again(here, limbeck):
    exp = here / "exp"
    for name in ("tdnn_a", "tdnn_b"):
        (exp / name).mkdir()
    first = ROOT / "tests" / "fixtures" / "kaldi" / "nnet3" / "am.mdl"
    trained = limbeck(
        "kaldi", "nnet3-finetune", first, exp / "tdnn_a" / "final.mdl", "--teacher", first, "--hard-weight", 1,
        "--data", here / "data" / "train", "--ali", exp / "ali", "--epochs", 15, "--batch-size", 64,
        "--learning-rate", 0.01, "--precision", "float32", "--quiet",
    )  # fmt: skip
    assert trained.code == 0, trained.err
    shutil.copy(exp / "tdnn_a" / "final.mdl", exp / "tdnn_b" / "final.mdl")
    run_script(here, "nnet3_low_rank.sh")
    rates = [json.loads((exp / name).read_text())["wer"]
             for name in ("tdnn_a/final.json", "tdnn_small/svd.json", "tdnn_small/final.json")]  # fmt: skip
    assert rates[0] == 0 and rates[1] > 0.2 and rates[2] < 0.1
    before, after = (read_nnet3(exp / name / "final.mdl") for name in ("tdnn_a", "tdnn_small"))
    assert after.nnet.parameter_count < 0.5 * before.nnet.parameter_count
    assert (after.priors == before.priors).all()


@pytest.mark.slow
def test_two_networks_become_a_small_one_that_finds_the_words(here):
    run_script(here, "nnet1_ensemble.sh")
    exp, said = here / "exp", read_table(here / "data" / "test" / "text")
    assert json.loads((exp / "dnn_a" / "decode_test.json").read_text())["wer"] == 0  # as Kaldi's decoder on the first
    found = json.loads((exp / "dnn_small" / "decode_test.json").read_text())
    counted = [word_errors(tuple(said[key]), tuple(words))
               for key, words in read_table(exp / "dnn_small" / "decode_test.txt").items()]  # fmt: skip
    assert len(counted) == 20 and found["words"] == sum(map(len, said.values())) == 78
    errors = [sum(getattr(one, name) for one in counted) for name in ("insertions", "deletions", "substitutions")]
    assert errors == [found[name] for name in ("insertions", "deletions", "substitutions")]
    assert found["wer"] < 0.2
    small = read_nnet(exp / "dnn_small" / "final.nnet")
    assert (small.input_dim, small.output_dim) == (20, 6)
    assert small.parameter_count <= 0.5 * (20 * 128 + 128 + 128 * 6 + 6) + 2 * 128  # ReLUs of nnet1 have slopes
    held = json.loads((exp / "targets" / "manifest.json").read_text())
    assert held["plan"]["temperature"] == 1 and small.components[-1].tag == "Softmax"
