"""Archives, IDX folders and folders of images as others write them."""

import gzip
import io
import os
import struct
import warnings

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from limbeck.data import open_data
from limbeck.data.data_set import as_transfer
from limbeck.data.opening import open_inputs
from limbeck.errors import ConfigError, FormatError, LimbeckError, LimbeckWarning, MismatchError
from limbeck.options import DataOptions

X = np.random.default_rng(0).integers(0, 256, (30, 6, 5)).astype(np.uint8)
Y = np.arange(30) % 3


def saved(folder, **arrays):
    np.savez(folder / "some.npz", **arrays)
    return folder / "some.npz"


@pytest.mark.parametrize(
    "names",
    [
        ("x_train", "y_train", "x_val", "y_val", "x_test", "y_test"),
        ("X_train", "y_train", "X_valid", "y_valid", "X_test", "y_test"),
        ("train_images", "train_labels", "val_images", "val_labels", "test_images", "test_labels"),
        ("x", "y", "x_validation", "y_validation", "x_test", "y_test"),
        ("data", "target", "dev_data", "dev_target", "testing_data", "testing_target"),
    ],
)
def test_arrays_under_the_names_that_others_give(tmp_path, names):
    arrays = (X, Y, X[:9], Y[:9], X[9:12], Y[9:12])
    data = open_data(saved(tmp_path, **dict(zip(names, arrays, strict=True))))
    for part, x, y in ((data.train, X, Y), (data.validation, X[:9], Y[:9]), (data.test, X[9:12], Y[9:12])):
        assert np.array_equal(part.inputs[:, 0].numpy(), x) and np.array_equal(part.labels.numpy(), y)
    assert data.classes == ("0", "1", "2")
    kept = open_data(DataOptions(data=str(tmp_path / "some.npz"), validation=0.5))
    assert len(kept.validation) == 9 and len(kept.train) == 30
    assert torch.equal(open_inputs(tmp_path / "some.npz").inputs, data.train.inputs)


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (Y[:, None], ("0", "1", "2")),
        (Y.astype(float), ("0", "1", "2")),
        (np.eye(3)[Y], ("0", "1", "2")),
        (np.eye(3, dtype=bool)[Y], ("0", "1", "2")),
        ((Y + 1).astype(np.uint64), ("1", "2", "3")),
        (np.array(["b", "c", "a"])[Y][:, None], ("a", "b", "c")),
        (np.array([b"b", b"c", b"a"])[Y], ("a", "b", "c")),
    ],
)
def test_labels_as_others_write_them(tmp_path, labels, classes):
    data = open_data(saved(tmp_path, x=X, y=labels, x_test=X, y_test=labels))
    assert data.classes == classes
    wanted = labels.argmax(1) if labels.ndim == 2 and labels.shape[1] == 3 else labels.reshape(-1)
    names = [str(n.decode() if isinstance(n, bytes) else n if isinstance(n, str) else int(n)) for n in wanted.tolist()]
    assert [data.classes[k] for k in data.train.labels] == names == [data.classes[k] for k in data.test.labels]


def test_names_of_classes_put_labels_in_order(tmp_path):
    names = np.array(["zebra", "cat", "dog"])
    data = open_data(saved(tmp_path, x=X, y=names[Y], classes=names))
    assert data.classes == ("zebra", "cat", "dog")
    first = {
        name: int(data.train.labels[data.train.index == k][0]) for k, name in enumerate(names) if k in data.train.index
    }
    assert first.items() <= {"zebra": 0, "cat": 1, "dog": 2}.items() and first


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": X, "x_train": X, "y": Y}, "x and x_train, and which to use is ambiguous"),
        ({"x": X, "y": Y, "x_val": X}, "x_val without the labels"),
        ({"x": X, "y": Y, "test_labels": Y}, "test_labels without the inputs"),
        ({"x": X, "y": Y, "weights": Y}, "not known: weights"),
        ({"x_train": X}, "has no array y"),
        ({"x": X, "y": Y / 2}, "y: labels must be integers"),
        ({"x": X, "y": Y.astype("M8[s]")}, "y: labels must be numbers, and are of type datetime64"),
        ({"x": X, "y": Y.astype(complex)}, "y: labels must be numbers"),
        ({"x": X, "y": Y.astype(np.uint64) + 2**63}, "y: labels hold 9223372036854775810"),
        ({"x": X, "y": Y, "x_test": X, "y_test": Y.astype(str)}, "y is of type int64 and y_test is of type <U21"),
        ({"x": X, "y": Y, "x_test": X / 255, "y_test": Y}, "uint8 images, and test examples are floating-point"),
        ({"x": X, "y": Y, "x_val": X, "y_val": Y + 1}, "y_val has the class '3'"),
        ({"x": X, "y": np.array(["a", "b", "c"])[Y], "classes": np.array(["a", "b"])}, "'c', which is not among"),
        ({"x": X, "y": Y + 1, "classes": np.array(["a", "b", "c"])}, "labels run from 1 to 3"),
        ({"x": X, "y": Y, "classes": np.array([["a"]])}, "list of names"),
        ({"x": X[..., None], "y": Y, "x_test": X, "y_test": Y}, "--layout NHWC"),
        ({"x": np.zeros((30, 8, 8, 3), np.uint8), "y": Y}, "--layout NHWC"),
        ({"x": np.array(3), "y": Y}, r"x: at least one example .* shape \(\)"),
        ({"x": np.zeros((0, 3)), "y": np.zeros(0)}, "x: at least one example"),
    ],
)
def test_archives_that_are_not_clear_are_refused_in_one_line(tmp_path, arrays, message):
    path = saved(tmp_path, **arrays)
    with pytest.raises(FormatError, match=message) as caught:
        open_data(path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


def test_a_layout_turns_the_arrays_of_an_archive(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (30, 8, 8, 3)).astype(np.uint8)
    path = saved(tmp_path, x_train=images, y_train=Y, x_test=images, y_test=Y)
    data = open_data(DataOptions(data=str(path), layout="NHWC", validation=0))
    assert np.array_equal(data.train.inputs.numpy(), np.moveaxis(images, -1, 1))
    assert torch.equal(open_inputs(path, options=DataOptions(layout="NHWC")).inputs, data.test.inputs)
    with pytest.raises(ConfigError, match="layout is for an archive of arrays"):
        open_data(tmp_path, layout="NHWC")
    with pytest.raises(ConfigError, match="image_size is for .*a folder of images"):
        open_data(path, image_size=4)
    with pytest.raises(ConfigError, match="layout must be"):
        DataOptions(layout="HWC")


SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)
KINDS = st.sampled_from("? i1 >i2 u4 u8 i8 f2 >f4 f8 g c8 M8[s] m8[D] U2 S2".split())
ARRAYS = KINDS.flatmap(lambda kind: hnp.arrays(np.dtype(kind), SHAPES))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from(["x", "y", "x_test", "y_test", "y_val", "x_val", "classes"]), ARRAYS))
def test_any_archive_is_a_data_set_or_refused(tmp_path, arrays):
    path = saved(tmp_path, **{"x": np.zeros((3, 2)), "y": np.arange(3), **arrays})
    try:
        data = open_data(path)
    except LimbeckError as error:
        assert str(path) in str(error)
    else:
        assert all(int(part.labels.max()) < len(data.classes) for part in data.parts().values())


def idx(array):
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


def as_emnist(folder, prefix="emnist-letters-", labels=Y + 1):
    folder.mkdir(exist_ok=True)
    for part, x, y in (("train", X, labels), ("test", X[:6], labels[:6])):
        (folder / f"{prefix}{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(x.transpose(0, 2, 1))))
        (folder / f"{prefix}{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(y)))
    return folder


def test_emnist_under_its_own_names_is_upright(tmp_path):
    data = open_data(as_emnist(tmp_path / "gzip"))
    assert data.classes == ("1", "2", "3") and data.notes
    assert np.array_equal(data.train.inputs[:, 0].numpy(), X) and np.array_equal(data.train.labels.numpy(), Y)
    assert len(data.test) == 6
    as_emnist(tmp_path / "gzip", "emnist-digits-")
    with pytest.raises(FormatError, match="several data sets, emnist-digits, emnist-letters: put"):
        open_data(tmp_path / "gzip")


def test_files_of_other_sets_are_not_turned(tmp_path):
    data = open_data(as_emnist(tmp_path / "own", prefix=""))
    assert np.array_equal(data.train.inputs[:, 0].numpy(), X.transpose(0, 2, 1)) and not data.notes


def images(root, layout, size=(6, 5)):
    for name, grey in layout.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB" if isinstance(grey, tuple) else "L", size, grey).save(root / name)
    return root


def parts(*names, classes=("cat", "dog")):
    return {f"{part}/{name}/{k}.png": k for part in names for name in classes for k in range(8)}


@pytest.mark.parametrize("names", [("train", "val"), ("Train", "Valid"), ("training", "validation"), ("TRAIN", "dev")])
def test_a_folder_of_validation_is_the_validation_set(tmp_path, names):
    data = open_data(images(tmp_path, parts(*names)))
    assert len(data.validation) == 16 and len(data.train) + len(data.test) == 16
    cut = open_data(DataOptions(data=str(tmp_path), validation=0.25))
    assert torch.equal(cut.validation.inputs, data.validation.inputs)
    all_three = open_data(images(tmp_path, parts("testing")))
    assert {name: len(part) for name, part in all_three.parts().items()} == dict.fromkeys(data.parts(), 16)


def test_classes_that_are_named_like_parts(tmp_path):
    assert open_data(images(tmp_path / "a", parts("train", "bus", classes=("",)))).classes == ("bus", "train")
    assert open_data(images(tmp_path / "b", parts("train", "test", classes=("",)))).classes == ("test", "train")
    alone = open_data(images(tmp_path / "c", parts("train", "extra")))
    assert alone.classes == ("cat", "dog") and "extra are not read" in alone.notes[0]


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        (parts("train") | parts("val", classes=("cat", "cow")), "train and val have different classes: cow, dog"),
        (parts("train", "val", "Valid"), "names of one part"),
        (parts("val", "test"), "a folder inside the class test.*named train, val and test"),
        (parts("train") | {"test/1.png": 1}, "test: it has no sub-folders"),
    ],
)
def test_layouts_that_are_not_clear(tmp_path, layout, message):
    with pytest.raises(FormatError, match=message):
        open_data(images(tmp_path, layout))


def test_parts_of_other_sizes_and_colours(tmp_path):
    images(tmp_path, parts("train", "test"))
    images(tmp_path, {"test/cat/0.png": (9, 8, 7)})
    data = open_data(tmp_path)
    assert data.train.shape == data.test.shape == (3, 5, 6)
    images(tmp_path, {name: 1 for name in parts("test")}, size=(9, 9))
    with pytest.raises(FormatError, match=r"train/cat/0.png: it has 5 x 6 .*test/cat/0.png has 9 x 9: .*--image-size"):
        open_data(tmp_path)


@pytest.mark.parametrize("layout", [{"1.png": 1, "2.png": 2}, {"all/1.png": 1, "all/2.png": 2},
    {"1.png": 1, "some/2.png": 2}, {"a/b/1.png": 1, "a/c/2.png": 2}])  # fmt: skip
def test_images_without_classes_are_a_transfer_set(tmp_path, layout):
    found = open_inputs(images(tmp_path, layout))
    assert found.labels is None and found.inputs[:, 0, 0, 0].tolist() == [1, 2]
    (tmp_path / "notes.txt").touch()
    with pytest.warns(LimbeckWarning, match=r"1 other files were skipped, such as .*notes\.txt"):
        open_inputs(tmp_path)


def test_a_transfer_set_with_classes_is_its_training_part(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(open_inputs(images(tmp_path, parts("train", "test")))) == 16


def test_a_transfer_set_of_other_inputs_is_blamed_itself(tmp_path):
    """Else the message names the data set, or a flag that has nothing to do with it."""
    data = open_data("mnist")
    np.savez(tmp_path / "large.npz", x=np.zeros((4, 32, 32), np.uint8))
    with pytest.raises(MismatchError, match=r"transfer \(--transfer\): .*large.npz has uint8 images of \(1, 32, 32\)"):
        open_inputs(tmp_path / "large.npz", like=data)
    with pytest.raises(MismatchError, match=r"transfer \(--transfer\) has uint8 images .*those of mnist are"):
        as_transfer(open_inputs(tmp_path / "large.npz"), data, "transfer (--transfer)")


def test_a_transfer_set_beside_a_table_is_read_without_its_test_rows(tmp_path):
    for name, text in (("rows", "x,y\n1,a\n2,b\n" * 9), ("test", "x,y\n1,a\n"), ("new", "z\n1\n")):
        (tmp_path / f"{name}.csv").write_text(text.replace("\nx,y", ""))
    np.savez(tmp_path / "new.npz", x=np.zeros((4, 8, 8), np.uint8))
    options = DataOptions(data=str(tmp_path / "rows.csv"), test_data=str(tmp_path / "test.csv"), label_column="y")
    known = {"new.npz": "the model encodes rows of a table", "new.csv": ".*column 'x'"}
    for name, said in known.items():
        with pytest.raises(MismatchError, match=f"{name} does not fit rows: {said}"):
            open_inputs(tmp_path / name, like=open_data(options), options=options)


def test_other_files_are_counted(tmp_path):
    images(tmp_path, {f"{name}/{k}.png": k for name in "ab" for k in range(2)})
    for name in ("a/notes.txt", "b/Thumbs.db", "a/.DS_Store", "list.csv"):
        (tmp_path / name).touch()
    assert open_data(tmp_path).notes[0].startswith("2 other files were skipped, such as")


@pytest.mark.parametrize("where", ["x" * 300, "a/" * 3000, "nothing"])
def test_paths_that_cannot_be(where, tmp_path):
    for read in (open_data, open_inputs, lambda path: open_data(DataOptions(data=str(path)))):
        with pytest.raises(FormatError, match="no such file"):
            read(tmp_path / where)


def test_names_that_are_not_utf8(tmp_path):
    buffer = io.BytesIO()
    Image.new("L", (2, 2)).save(buffer, "PNG")
    for name in (b"a\xff/1.png", b"b/\xfe.png"):
        path = os.path.join(os.fsencode(tmp_path), name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(buffer.getvalue())
    with pytest.raises(LimbeckError, match="not valid text"):
        open_data(tmp_path)
