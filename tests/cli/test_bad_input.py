"""What is wrong with what was given is said in one line, with exit code 2, and leaves nothing behind."""

import contextlib
import errno
import fcntl
import gzip
import io
import json
import os
import resource
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_runs import FAST, sealed_again, tiny_arrays

from limbeck.cli import main
from limbeck.runs.folder import RunFolder


def listing(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b""
        for path in sorted(folder.rglob("*"))
    }


@pytest.fixture
def refused(limbeck, tmp_path):
    """Run a command that must fail as a user's mistake does, and check all that this promises."""

    def check(*words, says, out: Path | None = None, leaves: Path | None = None) -> str:
        before = None if leaves is None else listing(leaves)
        done = limbeck(*words)
        lines = done.err.splitlines()
        assert done.code == 2, done.err
        assert len(lines) == 1 and lines[0].startswith("limbeck: "), done.err
        assert "Traceback" not in done.err and "internal error" not in done.err
        assert done.out == ""
        for word in says if isinstance(says, list) else [says]:
            assert str(word) in lines[0], (word, lines[0])
        if out is not None:
            assert not out.exists() or leaves is not None
        if leaves is not None:
            assert listing(leaves) == before
        assert not [*tmp_path.rglob("*.partial")]
        return lines[0]

    return check


@pytest.fixture
def out(tmp_path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def train_refused(refused, out):
    def check(data, *flags, says):
        return refused("train", "--data", data, *FAST, *flags, "--out", out, says=says, out=out)

    return check


# Files of data.


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


@pytest.fixture
def idx_folder(tmp_path) -> Path:
    folder = tmp_path / "digits"
    folder.mkdir()
    for part, count in (("train", 60), ("t10k", 12)):
        x, y = tiny_arrays(count)
        (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(x)))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(idx(y))
    return folder


def test_the_idx_folder_is_good(limbeck, idx_folder):
    done = limbeck("data", idx_folder, "--json")
    assert json.loads(done.out)["examples"] == {"train": 60, "test": 12}


IMAGES, LABELS = "train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte"


@pytest.mark.parametrize(
    "name, spoil, says",
    [
        (LABELS, lambda b: b[:-1], ["truncated", LABELS]),
        (LABELS, lambda b: b[:6], ["truncated", LABELS]),
        (LABELS, lambda b: b"", [LABELS]),
        (LABELS, lambda b: b"PK" + b[2:], [LABELS]),
        (LABELS, lambda b: b[:3] + b"\x03" + b[4:], [LABELS]),
        (LABELS, lambda b: b + b"\0", ["trailing", LABELS]),
        (LABELS, lambda b: idx(np.zeros(59)), ["60 images", "59 labels"]),
        (LABELS, lambda b: idx(np.arange(60) % 3 * 2), ["test labels hold 1", "digits"]),
        (IMAGES, lambda b: b[: len(b) // 2], ["truncated", IMAGES]),
        (IMAGES, lambda b: b[:-4], ["truncated", IMAGES]),
        (IMAGES, lambda b: b[:40] + bytes([b[40] ^ 255]) + b[41:], [IMAGES]),
        (IMAGES, lambda b: gzip.compress(b"\x89PNG" + bytes(60)), [IMAGES]),
        (IMAGES, lambda b: gzip.compress(idx(np.zeros((0, 8, 8)))), ["0 images"]),
        (IMAGES, None, ["is missing", "train-images-idx3-ubyte"]),
        (
            "t10k-labels-idx1-ubyte",
            lambda b: idx(np.full(12, 7)),
            ["test labels hold 7", "training labels do not"],
        ),
    ],
)
def test_bad_idx_files(train_refused, idx_folder, name, spoil, says):
    path = idx_folder / name
    if spoil is None:
        path.unlink()
    else:
        path.write_bytes(spoil(path.read_bytes()))
    train_refused(idx_folder, says=says)


def test_an_empty_idx_set(train_refused, idx_folder):
    (idx_folder / IMAGES).write_bytes(gzip.compress(idx(np.zeros((0, 8, 8)))))
    (idx_folder / LABELS).write_bytes(idx(np.zeros(0)))
    train_refused(idx_folder, says=["digits", "no images"])


def npz(**arrays) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


X, Y = tiny_arrays()
NAMES = np.array(["one", "two", "three"])


def with_nan(value: float) -> np.ndarray:
    x = X.astype(np.float32)
    x[7, 0, 0] = value
    return x


@pytest.mark.parametrize(
    "arrays, says",
    [
        ({"x": X}, "no array y"),
        ({"y": Y}, "no array x"),
        ({"x": X, "y": Y, "z": Y}, "z"),
        ({"x": X, "y": Y, "x_test": X}, "x_test without the labels"),
        ({"x": X, "y": Y[:-1]}, ["200 inputs", "(199,)"]),
        ({"x": X, "y": np.stack([Y, Y])}, ["200 inputs", "(2, 200)"]),
        ({"x": X[:0], "y": Y[:0]}, "at least one example"),
        ({"x": X[:, :0], "y": Y}, "(200, 0, 8)"),
        ({"x": np.array(3), "y": Y}, "shape ()"),
        ({"x": with_nan(np.nan), "y": Y}, ["1 of 200", "example 7", "NaN"]),
        ({"x": with_nan(np.inf), "y": Y}, ["1 of 200", "example 7", "infinite"]),
        ({"x": X.astype(np.float64) * 1e300, "y": Y}, "infinite"),
        ({"x": X.astype(np.complex64), "y": Y}, ["inputs", "complex64"]),
        ({"x": X.astype("U3"), "y": Y}, ["inputs", "U3"]),
        ({"x": X, "y": Y + 0.5}, ["labels", "integers", "has 0.5"]),
        ({"x": X, "y": np.where(Y == 0, np.nan, Y)}, ["labels", "integers", "has nan"]),
        ({"x": X, "y": NAMES[Y], "classes": NAMES[1:]}, ["'one'", "not among the classes"]),
        ({"x": X, "y": Y * 0}, "1 class"),
        ({"x": X, "y": Y, "classes": NAMES[:2]}, ["label 2", "example 2", "0 to 1"]),
        ({"x": X, "y": Y - 1, "classes": NAMES}, ["at least 0", "-1"]),
        ({"x": X, "y": Y % 2, "classes": NAMES}, ["no example of class 'three'", "add some"]),
        ({"x": X, "y": Y, "classes": np.array("abc")}, ["classes", "shape ()"]),
        ({"x": X, "y": Y, "classes": NAMES[None]}, ["classes", "(1, 3)"]),
        ({"x": X, "y": Y, "classes": NAMES[[0, 1, 1]]}, ["'two'", "a unique name"]),
        ({"x": X, "y": Y, "classes": np.array(["a", "b", "\ud800"])}, ["class name", "rename it"]),
        ({"x": X, "y": Y, "x_test": X[:, :7], "y_test": Y}, ["(1, 8, 8)", "(1, 7, 8)"]),
        ({"x": X, "y": Y, "x_test": X, "y_test": Y + 1}, ["y_test", "'3'"]),
        ({"x": X, "y": Y, "x_test": X[:0], "y_test": Y[:0]}, "at least one example"),
    ],
)
def test_bad_arrays(train_refused, tmp_path, arrays, says):
    path = tmp_path / "bad.npz"
    path.write_bytes(npz(**arrays))
    train_refused(path, says=[path, *([says] if isinstance(says, str) else says)])


@pytest.mark.parametrize(
    "spoil",
    [
        lambda b: b"",
        lambda b: b"no archive",
        lambda b: b[: len(b) // 2],
        lambda b: b[:-1],
        lambda b: b[:200] + bytes([b[200] ^ 1]) + b[201:],
    ],
)
def test_bad_archives(train_refused, tmp_path, spoil):
    path = tmp_path / "bad.npz"
    path.write_bytes(spoil(npz(x=X, y=Y)))
    train_refused(path, says=path)


def test_an_archive_with_a_pickle(train_refused, tmp_path):
    path = tmp_path / "bad.npz"
    path.write_bytes(npz(x=np.array([{"a": 1}] * 4, dtype=object), y=Y[:4]))
    train_refused(path, says=[path, "nothing is unpickled"])


def emnist(labels_off: int = 0, short: int = 0) -> bytes:
    def part(count: int, off: int = 0) -> dict[str, np.ndarray]:
        y = np.arange(count) % 3 + 1
        return {"images": np.zeros((count, 784), np.uint8), "labels": (y + off).astype(np.uint8)[:, None]}

    train = part(30, labels_off)
    train["labels"] = train["labels"][: 30 - short]
    mapping = np.array([[1, 97, 65], [2, 98, 66], [3, 99, 67]], np.uint8)
    buffer = io.BytesIO()
    struct_ = {"train": train, "test": part(6), "mapping": mapping}
    scipy.io.savemat(buffer, {"dataset": struct_}, do_compression=True)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        emnist()[:-20],
        emnist()[:150],
        b"",
        b"MATLAB 7.3" + bytes(600),
        emnist()[:300] + b"\xff\xff" + emnist()[302:],
        emnist(labels_off=1),
        emnist(short=1),
    ],
)
def test_bad_mat_files(train_refused, tmp_path, content):
    path = tmp_path / "letters.mat"
    path.write_bytes(content)
    train_refused(path, says=path)


def test_the_mat_file_is_good(limbeck, tmp_path):
    path = tmp_path / "letters.mat"
    path.write_bytes(emnist())
    assert json.loads(limbeck("data", path, "--json").out)["examples"] == {"train": 30, "test": 6}


@pytest.fixture
def pictures(tmp_path) -> Path:
    for k, name in enumerate(("cat", "dog")):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for number in range(12):
            Image.fromarray(X[3 * number + k]).save(tmp_path / "pets" / name / f"{number}.png")
    return tmp_path / "pets"


@pytest.mark.parametrize(
    "name, content, says",
    [
        ("cat/3.png", b"", "3.png"),
        ("cat/3.png", b"GIF89a no picture", "3.png"),
        ("cat/3.png", "half", "3.png"),
        ("cat/3.png", "larger", "9"),
        ("notes.npz/a.txt", b"text", "notes.npz"),
    ],
)
def test_bad_pictures(train_refused, limbeck, pictures, name, content, says):
    assert json.loads(limbeck("data", pictures, "--json").out)["classes"] == ["cat", "dog"]
    path = pictures / name
    path.parent.mkdir(exist_ok=True)
    if content == "half":
        path.write_bytes(path.read_bytes()[:60])
    elif content == "larger":
        Image.fromarray(np.zeros((9, 8), np.uint8)).save(path)
    else:
        path.write_bytes(content)
    train_refused(pictures, says=says)


@pytest.mark.parametrize(
    "data, says",
    [("nosuch", ["nosuch", "mnist"]), (__file__, ["test_bad_input.py", ".npz"]), ("/dev/null", "/dev/null")],
)
def test_no_data(train_refused, data, says):
    train_refused(data, says=says)


# Flags and settings.


@pytest.mark.parametrize(
    "flags, says",
    [
        (["--decay", 0.9], ["decay", "exponential"]),
        (["--momentum", 0.5], ["momentum", "adamw"]),
        (["--plateau-patience", 3], ["--plateau-patience", "plateau"]),
        (["--channels", 8], ["channels", "mlp", "cnn"]),
        (["--batch-norm"], ["--batch-norm", "mlp"]),
        (["--model", "resnet"], ["resnet", "package.module:function"]),
        (["--model", "cnn", "--channels", 4, 4, 4], ["8x8", "3 layers", "padding"]),
        (["--dropout", 1], ["dropout", "[0, 1)"]),
        (["--members", 0], "members"),
        (["--validation", 0.001], ["validation", "0 of"]),
        (["--validation", 1.5], ["validation", "1.5"]),
        (["--validation", 5000], ["validation", "5000"]),
        (["--train-examples", 0.0001], ["--train-examples", "use more"]),
        (["--train-examples", 2], ["--train-examples", "3 classes"]),
        (["--train-examples", 9999], ["--train-examples", "9999"]),
        (["--device", "nonsense"], ["device nonsense"]),
        (["--device", "cuda:99"], ["device cuda:99"]),
        (["--warmup-epochs", 3], ["--warmup-epochs", "epochs"]),
        (["--seed", -1], "seed"),
        (["--optimizer", "sgd", "--learning-rate", 1e30], "smaller learning rate"),
    ],
)
def test_settings_that_cannot_be(refused, tiny, out, flags, says):
    kept = [flag for flag in FAST if not ("--learning-rate" in flags and flag in {"--learning-rate", 0.02})]
    refused("train", "--data", tiny, *kept, *flags, "--out", out, says=says, out=out)


@pytest.mark.parametrize(
    "words, says",
    [
        (["train", "--out", "q", "--nonsense", 3], ["--nonsense", "limbeck train --help"]),
        (["train"], ["--out", "limbeck train --help"]),
        (["train", "--out"], ["--out", "limbeck train --help"]),
        (["distill"], ["--out", "limbeck distill --help"]),
        (["distill", "--teacher", "a"], ["--out", "limbeck distill --help"]),
        (["evaluate"], ["RUN", "limbeck evaluate --help"]),
        (["report"], ["RUN", "limbeck report --help"]),
        (["frobnicate"], ["frobnicate", "limbeck --help"]),
        (["train", "--out", "q", "--epochs", "many"], ["--epochs", "many"]),
        (["train", "--out", "q", "--epochs", 2.5], ["--epochs", "whole number", "2.5"]),
        (["train", "--out", "q", "--hidden", 8, 2.5], ["--hidden", "whole number", "2.5"]),
        (["train", "--out", "q", "--schedule", "steep"], ["--schedule", "steep", "cosine"]),
        (["train", "--out", "q", "extra"], "limbeck train has no place for 'extra': leave it out"),
        (["train", "--out", "q", "--epochs", 2, "--epochs", 3], "--epochs is given more than once"),
        (["train", "--out", "-q"], "-q after --out is taken for a flag: write --out=-q"),
        (["train", "--out", "q", "--seed", "-1e3"], "--seed must be a whole number, and is '-1e3'"),
        (["data", "--image-size", "big"], ["--image-size", "big"]),
        (["train", "--config"], ["--config needs a file"]),
        (["train", "--config", ""], ["--config needs a file"]),
        (["train", "--out", ""], "--out is an empty text: is a variable of the shell unset?"),
        (["predict", "q", ""], "DATA is an empty text"),
        (["distill", "--out", "q", "--teacher", "a", ""], "--teacher is an empty text"),
    ],
)
def test_words_that_are_no_command(refused, tmp_path, monkeypatch, words, says):
    monkeypatch.chdir(tmp_path)
    refused(*words, says=says, leaves=tmp_path)


@pytest.mark.parametrize(
    "content, says",
    [
        ("frobs = 3", ["frobs"]),
        ("epochs = 'many'", ["epochs", "many"]),
        ("epochs = 2.5", ["epochs", "2.5"]),
        ("epochs = [1, 2]", ["epochs"]),
        ("quiet = 'perhaps'", ["quiet"]),
        ("schedule = 'steep'", ["schedule", "steep"]),
        ("dropout = 7.0", ["dropout"]),
        ("[training]\nepochs = 3", ["[training]", "top-level"]),
        ("batch_size = 3\nbatch-size = 4", ["batch-size", "twice"]),
        ("epochs = ", ["not valid TOML"]),
        ("epochs = 1\nepochs = 2", ["not valid TOML"]),
        (b"\xff\xfe", ["not UTF-8", "iconv"]),
        (None, ["No such file"]),
    ],
)
def test_bad_config(refused, tiny, tmp_path, out, content, says):
    path = tmp_path / "run.toml"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    line = refused("train", "--data", tiny, "--config", path, "--out", out, says=says, out=out)
    assert str(path) in line or "epochs" in line or "dropout" in line or "quiet" in line or "schedule" in line


@pytest.mark.parametrize(
    "function, says",
    [
        ("own_package.nets:absent", "absent"),
        ("own_package.nowhere:net", ["own_package.nowhere", "PYTHONPATH"]),
        ("own_package.broken:net", ["own_package.broken", "SyntaxError"]),
        ("own_package.nets:fails", ["ZeroDivisionError"]),
        ("own_package.nets:no_module", ["str", "torch.nn.Module"]),
        ("own_package.nets:calls", ["own_package.nets:calls"]),
        ("own_package.nets:too_many", ["5 classes", "3"]),
        ("own_package.nets:chokes", ["(1, 8, 8)"]),
        (":net", [":net"]),
        ("own_package.nets:", ["own_package.nets:"]),
    ],
)
def test_bad_models_of_ones_own(refused, tiny, out, own_module, function, says):
    flags = ("--epochs", 1, "--precision", "float32")
    refused("train", "--data", tiny, "--model", function, *flags, "--out", out, says=says, out=out)


# Teachers.


@pytest.fixture
def broken_teacher(teacher, tmp_path) -> Path:
    return Path(shutil.copytree(teacher, tmp_path / "teacher"))


@pytest.fixture
def distill_refused(refused, tiny, out):
    def check(teacher, *flags, says, data=None):
        words = ("--data", data or tiny, "--teacher", teacher, *FAST, *flags, "--out", out)
        return refused("distill", *words, says=says, out=out)

    return check


@pytest.mark.parametrize(
    "classes, says",
    [
        (["one", "two"], ["2 classes", "3 classes"]),
        (["one", "two", "four"], ["class 2", "'three'", "'four'"]),
        (["two", "one", "three"], ["class 0", "'one'", "'two'", "order"]),
    ],
)
def test_a_teacher_with_other_classes(refused, distill_refused, teacher, tmp_path, classes, says):
    path = tmp_path / "other.npz"
    x, y = tiny_arrays(90, len(classes))
    np.savez(path, x=x, y=y, classes=np.array(classes))
    said = says if len(classes) == 3 else ["3 classes", "has 2"]
    distill_refused(teacher, data=path, says=[teacher, *said])
    refused("evaluate", teacher, "--data", path, says=[teacher, *said])
    del says


def test_a_teacher_for_other_pictures(distill_refused, teacher, tmp_path):
    path = tmp_path / "other.npz"
    np.savez(path, x=X[:, :7], y=Y, classes=NAMES)
    distill_refused(teacher, data=path, says=[teacher, "(1, 7, 8)"])


def test_a_teacher_without_names_but_too_many_answers(distill_refused, broken_teacher, tmp_path):
    config = json.loads((broken_teacher / "model" / "config.json").read_text())
    del config["id2label"]
    (broken_teacher / "model" / "config.json").write_text(json.dumps(config))
    sealed_again(broken_teacher)
    path = tmp_path / "other.npz"
    np.savez(path, x=X, y=Y % 2)
    distill_refused(broken_teacher, data=path, says=[broken_teacher, "3 classes", "has 2"])


def weights(change):
    def apply(folder: Path) -> None:
        path = folder / "model" / "model.safetensors"
        tensors = load_file(path)
        change(tensors)
        save_file(tensors, path)

    return apply


def content(name: str, change):
    def apply(folder: Path) -> None:
        path = folder / name
        path.write_bytes(change(path.read_bytes()))

    return apply


@pytest.mark.parametrize(
    "spoil, says",
    [
        (lambda folder: shutil.rmtree(folder), ["not a run with a model"]),
        (lambda folder: shutil.rmtree(folder / "model"), ["is the run finished?"]),
        (lambda folder: (folder / "model" / "model.safetensors").unlink(), ["model.safetensors", "missing"]),
        (content("model/model.safetensors", lambda b: b[:-1]), ["model.safetensors", "truncated"]),
        (content("model/model.safetensors", lambda b: b[:7]), ["model.safetensors", "truncated"]),
        (content("model/model.safetensors", lambda b: b""), ["model.safetensors", "truncated"]),
        (content("model/model.safetensors", lambda b: b"\xff" * len(b)), ["model.safetensors", "corrupt"]),
        (weights(lambda t: t.pop(next(iter(t)))), ["model.safetensors", "does not fit"]),
        (weights(lambda t: t.update(more=torch.ones(2))), ["model.safetensors", "does not fit"]),
        (weights(lambda t: t.update({k: v[:2].contiguous() for k, v in t.items()})), ["model.safetensors", "fit"]),
        (content("model/config.json", lambda b: b"{"), ["config.json", "JSON"]),
        (content("model/config.json", lambda b: b"[]"), ["config.json", "JSON object"]),
        (content("model/config.json", lambda b: b.replace(b'"mlp"', b'"gpt"')), ["config.json", "'gpt'"]),
        (content("model/config.json", lambda b: b.replace(b'"hidden"', b'"wide"')), ["config.json", "wide"]),
        (content("model/config.json", lambda b: b.replace(b"\n    8\n", b'\n    "x"\n')), ["config.json"]),
    ],
)
def test_a_teacher_that_cannot_be_read(refused, tiny, distill_refused, broken_teacher, spoil, says):
    spoil(broken_teacher)
    sealed_again(broken_teacher)
    distill_refused(broken_teacher, says=[broken_teacher, *says])
    refused("evaluate", broken_teacher, "--data", tiny, says=[broken_teacher, *says])


@pytest.mark.parametrize(
    "value", [b"{}", b"[3]", b'{"members": 0, "mean": "arithmetic"}', b'{"members": 2, "mean": "harmonic"}', b"{"]
)
def test_a_bad_list_of_members(distill_refused, broken_teacher, value):
    (broken_teacher / "ensemble.json").write_bytes(value)
    distill_refused(broken_teacher, says="ensemble.json")


def test_an_ensemble_without_its_members(distill_refused, broken_teacher):
    (broken_teacher / "ensemble.json").write_bytes(b'{"members": 2, "mean": "arithmetic"}')
    distill_refused(broken_teacher, says="members/1")


def test_hard_labels_without_labels(distill_refused, teacher, tmp_path):
    path = tmp_path / "unlabelled.npz"
    np.savez(path, x=X)
    distill_refused(teacher, "--transfer", path, says=["--hard-weight", "0.1", "0"])
    np.savez(path, x=with_nan(np.nan))
    distill_refused(teacher, "--transfer", path, "--hard-weight", 0, says=[path, "NaN"])
    np.savez(path, x=X[:, :5])
    distill_refused(teacher, "--transfer", path, "--hard-weight", 0, says=["(1, 5, 8)", "(1, 8, 8)"])
    np.savez(path, z=X)
    distill_refused(teacher, "--transfer", path, "--hard-weight", 0, says=[path, "no array x"])


@pytest.mark.parametrize(
    "flags, says",
    [
        (["--seeds", 0], "seeds"),
        (["--temperature", 0], "temperature"),
        (["--hard-weight", 1.5], "--hard-weight"),
        (["--student", "cnn", "--channels", 4, 4, 4], "8x8"),
        (["--student", "gpt"], "gpt"),
        (["--weights", 3], "--weights say how much each of several teachers counts in their mean, and there is one"),
        (["--method", "kd:0"], "method 'kd:0' gives kd the weight 0: give a positive one, or leave kd out"),
    ],
)
def test_distillation_that_cannot_be(distill_refused, teacher, flags, says):
    distill_refused(teacher, *flags, says=says)


# Folders.


def test_an_output_folder_that_exists(refused, tiny, teacher, tmp_path):
    line = refused("train", "--data", tiny, *FAST, "--out", teacher, says=[teacher, "--resume"], leaves=teacher)
    assert "exists" in line
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    for more in ((), ("--resume",)):
        refused("train", "--data", tiny, *FAST, *more, "--out", tmp_path / "mine", says="--out", leaves=tmp_path)


def test_an_output_that_is_a_file(refused, tiny, tmp_path):
    (tmp_path / "file").write_text("mine")
    refused("train", "--data", tiny, *FAST, "--out", tmp_path / "file", says=["file", "folder"], leaves=tmp_path)
    below = tmp_path / "file" / "run"
    refused("train", "--data", tiny, *FAST, "--out", below, says=[below, "Not a directory"], leaves=tmp_path)


def test_a_failure_leaves_folders_as_they_were(refused, tiny, tmp_path):
    deep = tmp_path / "a" / "b" / "c"
    flags = ("--data", tiny, *FAST, "--model", "cnn", "--channels", 4, 4, 4)
    refused("train", *flags, "--out", deep, says="8x8", leaves=tmp_path)
    deep.mkdir(parents=True)
    refused("train", *flags, "--out", deep, says="8x8", leaves=tmp_path)


@pytest.fixture
def read_only():
    """A folder in which this process may make nothing."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o555)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield folder
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(0o755)
        shutil.rmtree(folder)


def test_a_parent_that_is_read_only(refused, limbeck, teacher, tmp_path, request):
    inputs = Path(tempfile.mkdtemp())
    try:
        inputs.chmod(0o755)
        np.savez(inputs / "tiny.npz", x=X, y=Y)
        limbeck("data", inputs / "tiny.npz", "--json")  # all that is imported late is imported as root
        folder = request.getfixturevalue("read_only")
        words = ("train", "--data", inputs / "tiny.npz", *FAST, "--out", folder / "run")
        done = limbeck(*words)
        assert done.code == 2 and done.err.count("\n") == 1, done.err
        assert str(folder / "run") in done.err and "Permission denied" in done.err
        assert list(folder.iterdir()) == []
    finally:
        if os.getuid() == 0:
            os.seteuid(0)
        shutil.rmtree(inputs)


def test_a_folder_in_use(refused, tiny, tmp_path, out):
    out.mkdir()
    holder = os.open(out / ".lock", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(holder, fcntl.LOCK_EX)
        for more in ((), ("--resume",)):
            refused("train", "--data", tiny, *FAST, *more, "--out", out, says=[out, "in use"], leaves=tmp_path)
    finally:
        os.close(holder)


def test_a_folder_in_use_by_another_process(refused, tiny, teacher, tmp_path):
    out = shutil.copytree(teacher, tmp_path / "copy")
    code = "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX); print(1, flush=True); input()"
    holder = subprocess.Popen(
        [sys.executable, "-S", "-c", code, out / ".lock"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert holder.stdout.readline() == b"1\n"
        refused("train", "--data", tiny, *FAST, "--resume", "--out", out, says=[out, "in use"], leaves=tmp_path)
    finally:
        holder.communicate(b"\n")


@pytest.mark.parametrize(
    "flags, says",
    [
        (["--seed", 5], ["seed", "0", "5"]),
        (["--learning-rate", 0.5], ["--learning-rate"]),
        (["--hidden", 9], ["hidden", "[8]", "[9]"]),
        (["--validation", 0.2], ["validation"]),
        (["--shift", 1], ["shift"]),
    ],
)
def test_resuming_with_other_settings(refused, tiny, teacher, tmp_path, flags, says):
    out = shutil.copytree(teacher, tmp_path / "copy")
    kept = list(FAST)
    if flags[0] in kept:
        place = kept.index(flags[0])
        del kept[place : place + 2]
    words = ("train", "--data", tiny, *kept, *flags, "--resume", "--out", out)
    refused(*words, says=[out, *says, "--out"], leaves=tmp_path)


def test_resuming_another_command(refused, tiny, teacher, tmp_path):
    out = shutil.copytree(teacher, tmp_path / "copy")
    words = ("distill", "--data", tiny, "--teacher", teacher, *FAST, "--resume", "--out", out)
    refused(*words, says=f"{out} is of limbeck train, and limbeck distill does not resume it", leaves=tmp_path)
    words = ("tune", "--data", tiny, "--teacher", teacher, "--resume", "--out", out)
    refused(*words, says="limbeck tune does not resume it: resume it with limbeck train, or", leaves=tmp_path)
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "shard-00000.safetensors").touch()
    words = ("train", "--data", tiny, *FAST, "--resume", "--out", tmp_path / "store")
    refused(*words, says="store is of limbeck soften, and limbeck train does not resume it", leaves=tmp_path)


def killed_in_training(run: Path, copy: Path) -> Path:
    """A copy of a run as a kill before its end leaves it."""
    shutil.copytree(run, copy)
    RunFolder(copy).unseal_stage()
    shutil.rmtree(copy / "model")
    return copy


def test_resuming_with_other_data(refused, tiny, teacher, tmp_path):
    out = killed_in_training(teacher, tmp_path / "copy")
    x, y = tiny_arrays(seed=3)
    before = tiny.read_bytes()
    try:
        np.savez(tiny, x=x, y=y, classes=NAMES)
        refused(
            "train",
            "--data",
            tiny,
            *FAST,
            "--resume",
            "--out",
            out,
            says=f"was begun with other training data: {tiny} has changed since, and had digest",
            leaves=tmp_path,
        )
    finally:
        tiny.write_bytes(before)


@pytest.mark.parametrize("name", ["config.toml", "checkpoints/latest.safetensors"])
def test_resuming_a_damaged_run(refused, limbeck, tiny, teacher, tmp_path, name):
    out = killed_in_training(teacher, tmp_path / "copy")
    (out / "checkpoints" / "previous.safetensors").unlink()
    path = out / name
    path.write_bytes(path.read_bytes()[:37].replace(b"#", b""))
    refused("train", "--data", tiny, *FAST, "--resume", "--out", out, says=path, leaves=tmp_path)


@pytest.mark.parametrize("name", ["metrics.json", "config.toml", "history.jsonl", "answers.safetensors"])
def test_reporting_a_damaged_run(refused, teacher, tmp_path, name):
    out = Path(shutil.copytree(teacher, tmp_path / "copy"))
    path = out / name
    path.write_bytes(path.read_bytes()[:37].replace(b"#", b""))
    refused("report", out, says=path, leaves=tmp_path)
    path.unlink()
    if name in {"metrics.json", "config.toml"}:
        refused("report", out, says=out, leaves=tmp_path)


def test_reporting_a_run_whose_data_have_changed(limbeck, tiny, teacher, tmp_path):
    out, before = Path(shutil.copytree(teacher, tmp_path / "copy")), tiny.read_bytes()
    (out / "report.html").unlink()
    x, y = tiny_arrays(400)
    try:
        np.savez(tiny, x=x, y=y, classes=NAMES)
        assert limbeck("report", out).code == 0
        tiny.unlink()
        assert limbeck("report", out).code == 0
        assert (out / "report.html").exists()
    finally:
        tiny.write_bytes(before)


def test_reporting_no_run(refused, tmp_path):
    refused("report", tmp_path / "nosuch", says=["nosuch", "a run folder?"], leaves=tmp_path)
    refused("report", tmp_path, says=[tmp_path], leaves=tmp_path)


# Disks.


@contextlib.contextmanager
def no_room_for(size: int):
    """Files of this process cannot grow beyond a size, as on a full disk; not longer, for pytest writes too."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("size", [100, 2000, 200_000])
def test_a_file_that_cannot_grow(refused, tiny, tmp_path, out, size):
    flags = ("--data", tiny, "--epochs", 1, "--hidden", 2000, "--precision", "float32", "--out", out)
    with no_room_for(size):
        refused("train", *flags, says=[out, "cannot write", "make room"], leaves=tmp_path)


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "limbeck-test", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("this user cannot mount a disk")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("hidden, begun", [(2000, False), (500, False), (120, True)])
def test_a_full_disk(refused, tiny, small_disk, hidden, begun):
    """Full at the first checkpoint, nothing is left; full at a later one, the run can be continued."""
    out = small_disk / "run"
    flags = ("--data", tiny, "--epochs", 3, "--hidden", hidden, "--precision", "float32", "--out", out)
    refused("train", *flags, says=[out, "No space left", "make room"])
    assert not [*small_disk.rglob("*.partial")]
    assert out.exists() == begun
    if begun:
        assert (out / "checkpoints" / "latest.safetensors").exists()
        assert not (out / "model" / "model.safetensors").exists()


def test_a_disk_that_fills_up_under_any_write(refused, limbeck, tiny, tmp_path, monkeypatch):
    """Let the n-th flush to the disk fail, for every n that a run has."""
    real, count, fail_at = os.fsync, [0], [10**9]

    def fsync(handle):
        count[0] += 1
        if count[0] == fail_at[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    words = ("train", "--data", tiny, *FAST[2:], "--epochs", 1, "--out")
    assert limbeck(*words, tmp_path / "good").code == 0
    total = count[0]
    assert total >= 10
    whole = (tmp_path / "good" / "model" / "model.safetensors").read_bytes()
    for number in range(1, total + 1):
        count[0], fail_at[0] = 0, number
        out = tmp_path / f"run-{number}"
        refused(*words, out, says=["cannot write", out, "No space left", "make room"])
        fail_at[0] = 10**9
        assert limbeck(*words, out, "--resume").code == 0
        assert (out / "model" / "model.safetensors").read_bytes() == whole


def test_an_output_stream_that_is_full(tiny):
    """The exit code tells, with one line, and Python adds none of its own at its end."""
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    code = "import sys; from limbeck.cli import main; main(sys.argv[1:])"
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", code, "data", "--json"], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("limbeck: ") and "No space left" in done.stderr


@pytest.mark.parametrize(
    "words", ["--version", "--help", "methods", "info --help", "data {tiny}", "predict {teacher} {tiny}"]
)
def test_streams_that_are_closed_are_written_to_nowhere(tiny, teacher, monkeypatch, words):
    """As in ``limbeck data digits.npz >&- 2>&-``, where Python has None for a stream."""
    for name in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    main(words.format(tiny=tiny, teacher=teacher).split())
    assert not sys.stdin.read()
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        stream.close()


def test_closed_output_is_no_fault_of_a_process(tmp_path):
    command = [sys.executable, "-m", "limbeck", "--version"]
    done = subprocess.run(command, preexec_fn=lambda: os.close(1), stderr=subprocess.PIPE, check=False)
    assert done.returncode == 0 and not done.stderr
