"""Data sets by name and path: the same pictures out of every format."""

import gzip
import io
import struct
import warnings

import numpy as np
import pytest
import scipy.io
import torch
from PIL import Image

from limbeck.data import open_data
from limbeck.data.opening import open_inputs
from limbeck.errors import DataError, FormatError, LimbeckWarning
from limbeck.options import DataOptions

RANDOM = np.random.default_rng(0)
Y, Y_TEST = np.arange(40) % 4, np.arange(8) % 4
X, X_TEST = (RANDOM.integers(0, 256, (count, 28, 28)).astype(np.uint8) for count in (40, 8))


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


def as_idx(folder, *, packed: bool, dotted: bool):
    folder = folder / "digits"
    folder.mkdir()
    parts = {"train-images-idx3": X, "train-labels-idx1": Y, "t10k-images-idx3": X_TEST, "t10k-labels-idx1": Y_TEST}
    for stem, array in parts.items():
        name = f"{stem}-ubyte".replace("-idx", ".idx") if dotted else f"{stem}-ubyte"
        path = folder / (f"{name}.gz" if packed else name)
        path.write_bytes(gzip.compress(idx(array)) if packed else idx(array))
    return folder


def as_mat(folder):
    def part(x, y):
        return {"images": x.transpose(0, 2, 1).reshape(len(x), 784), "labels": (y + 1).astype(np.uint8)[:, None]}

    mapping = np.array([[k + 1, ord("A") + k, ord("a") + k] for k in range(4)], np.uint8)
    path = folder / "letters.mat"
    scipy.io.savemat(path, {"dataset": {"train": part(X, Y), "test": part(X_TEST, Y_TEST), "mapping": mapping}})
    return path


def as_npz(folder):
    path = folder / "some.npz"
    np.savez(path, x=X, y=Y, x_test=X_TEST, y_test=Y_TEST)
    return path


def as_pictures(folder):
    for part, x, y in (("train", X, Y), ("test", X_TEST, Y_TEST)):
        for number, (picture, label) in enumerate(zip(x, y, strict=True)):
            path = folder / "pictures" / part / f"class-{label}" / f"{number:03}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(path)
    return folder / "pictures"


FORMATS = {
    "idx": lambda folder: as_idx(folder, packed=False, dotted=False),
    "idx.gz": lambda folder: as_idx(folder, packed=True, dotted=False),
    "dotted idx": lambda folder: as_idx(folder, packed=False, dotted=True),
    "mat": as_mat,
    "npz": as_npz,
    "pictures": as_pictures,
}


def by_bytes(examples):
    return sorted((picture.numpy().tobytes(), int(label)) for picture, label in zip(*examples, strict=True))


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_gives_the_same_pictures(tmp_path, kind):
    data = open_data(FORMATS[kind](tmp_path))
    for part, x, y in ((data.train, X, Y), (data.test, X_TEST, Y_TEST)):
        assert part.inputs.dtype == torch.uint8 and part.shape == (1, 28, 28)
        expected = (torch.from_numpy(x)[:, None], torch.from_numpy(y))
        assert by_bytes((part.inputs, part.labels)) == by_bytes(expected)
    assert data.classes == {
        "mat": ("Aa", "Bb", "Cc", "Dd"),
        "pictures": tuple(f"class-{k}" for k in range(4)),
    }.get(kind, tuple("0123"))


def test_mnist_is_mnist():
    data = open_data("mnist")
    assert data.name == "mnist" and data.classes == tuple("0123456789")
    assert data.train.labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert data.test.labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert data.train.class_counts(10) == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]


def test_a_test_set_is_cut_once_and_stratified(tmp_path):
    path = tmp_path / "all.npz"
    np.savez(path, x=X, y=Y)
    first, again = open_data(path), open_data(path)
    assert len(first.train) == 36 and first.test.class_counts(4) == [1, 1, 1, 1]
    assert torch.equal(first.test.index, again.test.index)
    numbers = torch.cat((first.train.index, first.test.index)).sort().values
    assert torch.equal(numbers, torch.arange(40))
    assert torch.equal(first.train.inputs[:, 0], torch.from_numpy(X)[first.train.index])


def test_options_cut_validation_and_keep_some(tmp_path):
    path = as_npz(tmp_path)
    data = open_data(DataOptions(data=str(path), validation=0.2, train_examples=0.5))
    assert (len(data.train), len(data.validation), len(data.test)) == (16, 8, 8)
    assert data.validation.class_counts(4) == [2, 2, 2, 2] and data.train.class_counts(4) == [4, 4, 4, 4]
    assert not set(data.train.index.tolist()) & set(data.validation.index.tolist())
    counted = open_data(DataOptions(data=str(path), validation=8, train_examples=16))
    assert torch.equal(counted.train.index, data.train.index)
    assert open_data(DataOptions(data=str(path), validation=0)).validation is None


@pytest.mark.parametrize(
    "labels, classes",
    [
        (np.array([7, -3, 7, 100])[Y], ("-3", "7", "100")),
        (np.array(["b", "a", "c", "b"])[Y], ("a", "b", "c")),
        (Y.astype(np.uint64), tuple("0123")),
        (Y.astype(">i2"), tuple("0123")),
        (Y % 2 == 0, ("False", "True")),
    ],
)
def test_labels_of_many_kinds(tmp_path, labels, classes):
    path = tmp_path / "named.npz"
    np.savez(path, x=X, y=labels, x_test=X, y_test=labels)
    data = open_data(path)
    assert data.classes == classes
    assert [data.classes[k] for k in data.test.labels] == [str(label) for label in labels]


@pytest.mark.parametrize("kind", ["u1", "u2", ">u2", "i8", "f2", "f8", ">f4", "g", "?"])
def test_inputs_of_many_kinds(tmp_path, kind):
    path = tmp_path / "numbers.npz"
    values = (X % 2).astype(kind)
    np.savez(path, x=values, y=Y, x_test=values, y_test=Y)
    data = open_data(path)
    seen = data.train.as_seen(slice(None))
    scale = 255 if kind == "u1" else 1
    assert seen.dtype == (torch.int64 if np.dtype(kind).kind in "ui" and kind != "u1" else torch.float32)
    torch.testing.assert_close(
        (scale * seen).float().flatten(1), torch.from_numpy((X % 2).astype(np.float32)).flatten(1)
    )


def test_unlabelled_inputs(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, x=X)
    assert open_inputs(path).labels is None and len(open_inputs(path)) == 40
    labelled = open_inputs(as_idx(tmp_path, packed=True, dotted=False))
    assert labelled.labels is None and torch.equal(labelled.inputs[:, 0], torch.from_numpy(X))
    np.savez(path, y=Y)
    with pytest.raises(FormatError, match="no array x: it holds y"):
        open_inputs(path)


def test_pictures_are_resized_on_request(tmp_path):
    folder = as_pictures(tmp_path)
    Image.fromarray(np.full((9, 17), 200, np.uint8)).save(folder / "train" / "class-0" / "odd.png")
    with pytest.raises(FormatError, match="odd"):
        open_data(folder)
    data = open_data(folder, image_size=14)
    assert data.train.shape == (1, 14, 14) and len(data.train) == 41


def test_pictures_of_other_classes_in_the_test_set(tmp_path):
    folder = as_pictures(tmp_path)
    (folder / "test" / "class-3").rename(folder / "test" / "class-9")
    with pytest.raises(FormatError, match=r"class-3, class-9"):
        open_data(folder)


def test_every_cut_of_an_archive_is_refused(tmp_path):
    buffer = io.BytesIO()
    np.savez(buffer, x=X[:8, :4, :4], y=Y[:8])
    path = tmp_path / "cut.npz"
    for size in range(0, len(buffer.getvalue()), 7):
        path.write_bytes(buffer.getvalue()[:size])
        with pytest.raises(FormatError, match=r"cut\.npz"):
            open_data(path)


def test_every_cut_of_idx_files_is_refused(tmp_path):
    folder = as_idx(tmp_path, packed=False, dotted=False)
    path = folder / "t10k-labels-idx1-ubyte"
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(FormatError, match="t10k-labels"):
            open_data(folder)


def test_messages_name_the_path_once(tmp_path):
    path = tmp_path / "some.npz"
    np.savez(path, x=X, y=Y, classes=np.array(["a", "b"]))
    with pytest.raises(FormatError) as caught:
        open_data(path)
    assert str(caught.value).startswith(f"{path}: label 3 of train example 3 is outside")


def test_a_class_that_vanishes_from_training(tmp_path):
    path = tmp_path / "rare.npz"
    np.savez(path, x=X, y=np.where(np.arange(40) == 0, 0, 1 + Y % 2), classes=np.array(["rare", "a", "b"]))
    with pytest.raises(DataError, match="'rare'|too few"):
        open_data(DataOptions(data=str(path), validation=0.0, train_examples=2))


def test_a_share_for_validation_beside_validation_examples_is_told(tmp_path):
    path = tmp_path / "some.npz"
    np.savez(path, x_train=X, y_train=Y, x_val=X_TEST, y_val=Y_TEST)
    with pytest.warns(LimbeckWarning, match="validation is 0.2, and has no effect: some has 8 validation examples"):
        open_data(path, validation=0.2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(open_data(path).validation) == len(open_data(path, validation=0.1).validation) == 8
