"""Digests of files in ``SHA256SUMS``: what ``sha256sum`` says of them, and that damage anywhere is noticed."""

import itertools
import random
import shutil
import subprocess
from functools import partial

import numpy as np
import pytest
import torch
from left_behind import content
from tiny_runs import FAST, run_here, tiny_arrays

import limbeck
from limbeck.errors import FormatError
from limbeck.models import MLP, MLPConfig
from limbeck.options import FineTuning, RankRule
from limbeck.runs.compressing import compress
from limbeck.runs.folder import RunFolder
from limbeck.runs.measure import speed_of
from limbeck.runs.models import load
from limbeck.runs.pages import gather
from limbeck.system import checksums, files

NET = MLPConfig(input_shape=(4,), classes=2, hidden=(6,))


@pytest.fixture(scope="module", autouse=True)
def quick():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(speed_of.__kwdefaults__, "seconds", 0.002)
        yield


def network(seed):
    torch.manual_seed(seed)
    return MLP(NET)


def data(seed=0):
    x = torch.randn(60, 4, generator=torch.Generator().manual_seed(seed))
    return x, (x[:, 0] > 0).long()


def students(out, **more):
    """A run with every kind of part: a student, a baseline, and both again of another seed."""
    settings = {"epochs": 2, "batch_size": 8, "precision": "float32", "learning_rate": 2.0, "seeds": 2}
    return limbeck.distill(network(7), network, data(), data(1), test=data(2), out=out, **{**settings, **more})


def smaller(out, **more):
    rule, tuning = RankRule(rank=(2,)), FineTuning(finetune_epochs=1, batch_size=16, precision="float32")
    return compress(
        network(7), data(), data(1), rule=rule, metric="divergence", finetuning=tuning, int8=True, out=out, **more
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    students(folder / "distill")
    smaller(folder / "compress")
    return folder


def test_every_list_is_one_of_sha256sum(runs):
    lists = sorted(runs.rglob("SHA256SUMS"))
    for path in lists:
        said = subprocess.run(
            ["sha256sum", "--strict", "-c", path.name], cwd=path.parent, capture_output=True, text=True
        )
        assert said.returncode == 0 and said.stdout.count(": OK") == len(path.read_text().splitlines()) > 0, path
    assert {str(path.parent.relative_to(runs)) for path in lists} >= {
        "distill", "distill/model", "distill/baseline", "distill/baseline/model", "distill/seeds/2/model",
        "compress", "compress/model", "compress/svd/model", "compress/svd-fine-tune",
    }  # fmt: skip


def test_every_file_that_is_read_is_listed(runs):
    """All that a run leaves is listed beside it, but checkpoints, which hold their own digest, and the lock."""
    for path in runs.rglob("*"):
        if path.is_file() and "checkpoints" not in path.parts and path.name not in {".lock", "SHA256SUMS"}:
            assert path.name in (checksums.read_sums(path.parent) or {}), path


READERS = {
    "metrics.json": lambda run: gather(RunFolder(run)),
    "answers.safetensors": lambda run: gather(RunFolder(run)),
    "last.safetensors": lambda run: checksums.check_file(run / "last.safetensors"),
    "spectrum.safetensors": lambda run: limbeck.runs.ranks.read_plan(run),
    "singular_values.safetensors": lambda run: gather(RunFolder(run)),
    "plan.json": lambda run: limbeck.runs.ranks.read_plan(run),
    "config.toml": lambda run: RunFolder(run).config(),
    "history.jsonl": lambda run: RunFolder(run).history(),
    "timings.jsonl": lambda run: RunFolder(run).history(),
    "config.json": lambda run: load(run.parent),
    "model.safetensors": lambda run: load(run.parent),
}


@pytest.mark.parametrize("name", sorted(READERS))
def test_a_flipped_bit_in_any_file_is_noticed(runs, name):
    found = sorted(runs.rglob(name))
    assert found
    chance = random.Random(name)
    for path in found:
        whole = path.read_bytes()
        try:
            for _ in range(3):
                place = chance.randrange(len(whole))
                path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << chance.randrange(8)]) + whole[place + 1 :])
                with pytest.raises(FormatError, match=rf"{path.name}.* does not match its digest"):
                    READERS[name](path.parent)
        finally:
            path.write_bytes(whole)


def test_a_flipped_bit_anywhere_in_a_list_is_noticed(runs):
    path = runs / "distill" / "model" / "SHA256SUMS"
    whole = path.read_bytes()
    try:
        for place, bit in itertools.product(range(len(whole)), range(0, 8, 3)):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :])
            with pytest.raises(FormatError):
                load(path.parent)
            with pytest.raises(FormatError, match="SHA256SUMS"):  # and by the run that the model is in
                load(path.parent.parent)
    finally:
        path.write_bytes(whole)


def test_another_runs_model_is_not_taken_for_this_ones(runs, tmp_path):
    run = shutil.copytree(runs / "distill", tmp_path / "run")
    shutil.rmtree(run / "model")
    shutil.copytree(runs / "distill" / "baseline" / "model", run / "model")
    with pytest.raises(FormatError, match="SHA256SUMS"):
        load(run)


def test_what_a_file_lists_and_is_gone_is_named(runs, tmp_path):
    run = shutil.copytree(runs / "distill", tmp_path / "run")
    (run / "answers.safetensors").unlink()
    with pytest.raises(FormatError, match=r"answers\.safetensors: is missing"):
        gather(RunFolder(run))


def test_a_run_of_before_is_read_with_a_warning_and_sealed_when_it_is_continued(runs, tmp_path):
    run = shutil.copytree(runs / "distill", tmp_path / "run")
    for path in run.rglob("SHA256SUMS"):
        path.unlink()
    with pytest.warns(UserWarning, match="has no SHA256SUMS"):
        load(run)
    with pytest.warns(UserWarning, match="has no SHA256SUMS"):
        students(run, resume=True)
    assert content(run)["SHA256SUMS"] == [name for name in content(runs / "distill")["SHA256SUMS"] if "/" not in name]


class Killed(BaseException):
    """What a kill looks like: nothing after it runs, nothing is cleaned up."""


@pytest.mark.parametrize("every", [7, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("make", [partial(students, seeds=1), smaller], ids=["students", "smaller"])
def test_a_kill_between_any_two_writes_changes_no_bit(tmp_path, monkeypatch, make, every):
    """Each write in turn is the last of a process; the run is then continued, and once more from its end."""
    monkeypatch.setattr("limbeck.runs.folder.give_up", lambda _: None)
    write = files.replace_bytes
    make(tmp_path / "whole")
    whole = content(tmp_path / "whole")

    def count_down(left):
        def replace(path, octets):
            nonlocal left
            left -= 1
            if left < 0:
                raise Killed
            write(path, octets)

        for module in (files, limbeck.training.checkpoint, limbeck.runs.models, limbeck.lowrank.spectrum):
            monkeypatch.setattr(module, "replace_bytes", replace)

    for kill in itertools.count(0, every):
        out = tmp_path / str(kill)
        count_down(kill)
        try:
            make(out, resume=True)
        except Killed:
            count_down(10**6)
            make(out, resume=True)
            assert content(out) == whole, kill
            continue
        break
    assert kill > 20
    for more in range(0, 12, every):  # a finished run that is opened again, and killed
        count_down(more)
        try:
            make(out, resume=True)
        except Killed:
            count_down(10**6)
            make(out, resume=True)
        assert content(out) == whole, more


def test_settings_of_a_run_that_were_edited_are_not_taken(tmp_path):
    x, y = tiny_arrays(90)
    np.savez(tmp_path / "tiny.npz", x=x, y=y)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("limbeck.runs.pages.write_report", lambda contents, path: path)
        words = ("train", "--data", tmp_path / "tiny.npz", *FAST, "--quiet", "--out", tmp_path / "run")
        assert run_here(*words).code == 0
        config = tmp_path / "run" / "config.toml"
        config.write_text(config.read_text().replace("epochs = 2", "epochs = 3"))
        for again in (
            (*words, "--resume"),
            ("report", tmp_path / "run"),
            ("compress", tmp_path / "run", "--rank", 2, "--out", tmp_path / "small"),
            ("train", "--config", config, "--out", tmp_path / "other"),
        ):
            done = run_here(*again)
            assert done.code == 2 and "config.toml" in done.err and "does not match its digest" in done.err, done.err
            assert len(done.err.splitlines()) == 1
