"""Names that are no text, paths that are too long or too deep: told in a line, before hours are spent."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_runs import FAST, run_here, tiny_arrays

import limbeck
from limbeck import tuning
from limbeck.errors import DataError, RunError
from limbeck.models import MLP, MLPConfig
from limbeck.runs.folder import RunFolder
from limbeck.runs.measure import speed_of
from limbeck.system.files import make_folder, read_json
from limbeck.system.locks import hold

BAD = "caf\udce9"
"""How Python holds the byte E9 of a file's name that is not UTF-8."""


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setitem(speed_of.__kwdefaults__, "seconds", 0.002)


@pytest.fixture
def no_step(monkeypatch):
    """Fail where a step of a training is made: what is wrong is told before."""
    monkeypatch.setattr("limbeck.runs.stages.fit", lambda *_, **__: pytest.fail("a training began"))


def network(seed=0):
    torch.manual_seed(seed)
    return MLP(MLPConfig(input_shape=(4,), classes=3, hidden=(5,)))


def some(classes):
    inputs = torch.rand(30, 4, generator=torch.Generator().manual_seed(0))
    return inputs, torch.arange(30) % 3


WAYS = {
    "train": lambda classes, out: limbeck.train(network(), some(classes), classes=classes, epochs=1, out=out),
    "distill": lambda classes, out: limbeck.distill(
        network(1), network(), some(classes), classes=classes, epochs=1, out=out
    ),
    "compress": lambda classes, out: limbeck.compress(network(), some(classes), classes=classes, int8=True, out=out),
    "tune": lambda classes, out: tuning.tune(
        network(1), network(), some(classes), some(classes), classes=classes, out=out
    ),
    "data set": lambda classes, out: limbeck.DataSet("mine", classes, limbeck.Examples.of(*some(classes))),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "classes, says",
    [
        (("a", "b", BAD), r"class name 'caf\\udce9' is not valid text"),
        (np.array(["a", BAD, "c"]), r"class name 'caf\\udce9' is not valid text"),
        ((0, 1, 2), "class name 0 is not text"),
        ((b"a", b"\xe9", b"c"), "class name b'a' is not text"),
        (("a", ["b"], "c"), r"class name \['b'\] is not text"),
    ],
)
def test_class_names_that_are_no_text_are_told_before_training(tmp_path, no_step, way, classes, says):
    with pytest.raises(DataError, match=says):
        WAYS[way](classes, tmp_path / "run")
    assert not list(tmp_path.iterdir())


def odd_archive(place, names):
    x, y = tiny_arrays()
    np.savez(place / "odd.npz", x=x, y=y, classes=np.array(names))
    return place / "odd.npz"


def odd_photos(place):
    for number, name in enumerate((b"a", b"caf\xe9")):
        folder = os.path.join(os.fsencode(place / "photos"), name)
        os.makedirs(folder)
        for each in range(4):
            picture = Image.fromarray(np.full((8, 8), 40 * number + each, np.uint8))
            picture.save(os.fsdecode(os.path.join(folder, b"%d.png" % each)))
    return place / "photos"


@pytest.mark.parametrize(
    "make, says",
    [
        (lambda place: odd_archive(place, ["a", "b", BAD]), "not valid text"),
        (lambda place: odd_archive(place, [b"a", b"b", b"\xe9"]), "not UTF-8"),
        (odd_photos, "not valid text"),
    ],
)
def test_class_names_of_files_that_are_no_text_are_told_before_training(tmp_path, no_step, make, says):
    data = make(tmp_path)
    done = run_here("train", "--data", data, *FAST, "--out", tmp_path / "run")
    assert done.code == 2 and done.err.count("\n") == 1 and says in done.err and str(data) in done.err
    assert not (tmp_path / "run").exists()


def test_a_run_folder_whose_name_is_no_text_is_told_before_training(tmp_path, no_step):
    with pytest.raises(RunError, match=r"not valid UTF-8.*choose another out \(--out\)"):
        limbeck.train(network(), some(3), epochs=1, out=tmp_path / BAD)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "path", ["/".join("d" * 1500), "/".join("d" * 3000), "x" * 300], ids=["deep", "deeper", "long"]
)
def test_a_path_that_cannot_be_made_is_told_before_training(tmp_path, no_step, path):
    sys.setrecursionlimit(max(limit := sys.getrecursionlimit(), 2000))  # as torch.compile does
    with pytest.raises(RunError, match="choose a shorter path|too long"):
        limbeck.train(network(), some(3), epochs=1, out=tmp_path / path)
    with pytest.raises(RunError, match="choose a shorter path|too long"):
        make_folder(tmp_path / path)
    assert not list(tmp_path.iterdir())
    sys.setrecursionlimit(limit)


@pytest.fixture
def nested(tmp_path):
    """A run in which folders are nested deeper than Python recurses; ``shutil`` could not remove them."""
    limbeck.train(network(), some(3), epochs=1, precision="float32", out=tmp_path / "run")
    here = os.open(tmp_path / "run", os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    yield tmp_path / "run"
    subprocess.run(["rm", "-rf", tmp_path / "run" / "d"], check=True)


def test_a_run_that_holds_folders_nested_1500_deep_is_continued(nested):
    run = RunFolder(nested)
    with run.open("train", run.config(), resume=True, identity=read_json(nested / "identity.json")):
        assert run.history()


def test_a_lock_in_a_folder_far_below_is_noticed(tmp_path):
    below = tmp_path / "run" / "a" / "b"
    below.mkdir(parents=True)
    with hold(below), pytest.raises(RunError, match="lies in"), hold(tmp_path / "run"):
        pass
