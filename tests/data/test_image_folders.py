"""Folders of image files as data sets: what is held in memory, what is decoded as it is wanted, and what is told."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from image_makers import put, scene
from tiny_runs import run_here

from limbeck.data import image_reading
from limbeck.data.feed import Feed
from limbeck.data.image_folders import open_folder, open_folder_inputs
from limbeck.data.images import ImageFiles
from limbeck.data.opening import open_inputs
from limbeck.errors import FormatError
from limbeck.options import ImagePresentation

RENAMED_NET = """
import torch
from limbeck.options import ImagePresentation


def net(input_shape, classes):
    made = torch.nn.Sequential(torch.nn.AvgPool2d(4), torch.nn.Flatten(), torch.nn.Linear(48, classes))
    made.presentation = ImagePresentation(size=16)
    return made
"""


def make(root, parts=("",), *, count=4, sizes=((20, 20),), kind="png", grey=False):
    for part in parts:
        for label, name in enumerate(("cat", "dog")):
            for number in range(count):
                size = sizes[number % len(sizes)]
                put(root / part, f"{name}/{number}.{kind}", scene(*size, 100 * label + number, grey))
    return root


@pytest.mark.parametrize("parts", [("train", "val", "test"), ("train", "valid"), ("training", "testing")])
@pytest.mark.parametrize("limit", [0, 1 << 20])
def test_parts_are_found_whether_images_are_held_or_not(tmp_path, monkeypatch, parts, limit):
    monkeypatch.setattr(image_reading, "_IN_MEMORY", limit)
    data = open_folder(make(tmp_path, parts))
    known = {"train": "train", "training": "train", "val": "validation", "valid": "validation"}
    assert set(data.parts()) == {known.get(part, "test") for part in parts}
    for part in data.parts().values():
        assert part.labels.tolist() == [0] * 4 + [1] * 4 and part.shape == (3, 20, 20)
        assert isinstance(part.inputs, ImageFiles) is (limit == 0)
    assert ("decoded as they are wanted" if limit == 0 else "held in memory") in data.notes[-1]


def test_the_same_pixels_are_held_or_decoded(tmp_path):
    root = make(tmp_path, sizes=((30, 50), (61, 40)), kind="jpg")
    held = open_folder(root, 16)
    plain = open_folder(root, presentation=ImagePresentation.plain(16))
    rows = slice(0, 8)
    assert isinstance(held.train.inputs, torch.Tensor)
    assert torch.equal(held.train.as_seen(rows), plain.train.as_seen(rows))


@pytest.mark.parametrize(
    ("sizes", "size", "crop_pct"),
    [(((120, 130), (300, 120)), (224, 224), 0.875), (((120, 130),), (224, 224), 0.875), (((20, 30),), (20, 30), 1.0)],
)
def test_a_size_is_chosen_by_looking(tmp_path, monkeypatch, sizes, size, crop_pct):
    monkeypatch.setattr(image_reading, "_IN_MEMORY", 0)
    data = open_folder(make(tmp_path, sizes=sizes, grey=True))
    assert data.train.inputs.presentation == ImagePresentation(size=size, crop_pct=crop_pct, channels=1)


def test_small_images_of_several_sizes_need_one(tmp_path, monkeypatch):
    root = make(tmp_path, sizes=((20, 20), (20, 24)))
    for limit in (0, 1 << 20):
        monkeypatch.setattr(image_reading, "_IN_MEMORY", limit)
        with pytest.raises(FormatError, match=r"1\.png: it has 20 x 24 .*0\.png has 20 x 20: resize all, as with"):
            open_folder(root)
    assert open_folder(root, 10).train.shape == (3, 10, 10)


def test_an_odd_size_that_was_not_looked_at(tmp_path, monkeypatch):
    monkeypatch.setattr(image_reading, "_LOOKED_AT", 2)
    for side in (20, 120):
        root = make(tmp_path / str(side), sizes=((side, side),))
        put(root, "cat/1.png", scene(side, side + 9))
        if side == 20:
            with pytest.raises(FormatError, match=r"1\.png: it has 20 x 29"):
                open_folder(root)
        else:
            assert open_folder(root).train.shape == (3, 224, 224)


def test_transfer_sets_are_seen_as_the_data_are(tmp_path, monkeypatch):
    flat = tmp_path / "flat"
    for number in range(3):
        put(flat, f"deeper/{number}.jpg", scene(30, 40, number))
    assert open_folder_inputs(flat).labels is None
    data = open_folder(make(tmp_path / "data", sizes=((30, 40), (50, 40))), presentation=ImagePresentation(size=12))
    found = open_inputs(flat, like=data)
    assert found.inputs.presentation == data.train.inputs.presentation and len(found) == 3
    assert found.shape == data.train.shape and found.kind == data.train.kind


def test_colour_in_one_part_makes_all_coloured(tmp_path):
    root = make(tmp_path, ("train",), grey=True)
    make(root, ("test",))
    data = open_folder(root)
    assert data.train.shape == data.test.shape == (3, 20, 20)
    grey = np.asarray(data.train.inputs)
    assert (grey[:, 0] == grey[:, 1]).all() and (grey[:, 0] == grey[:, 2]).all()


def test_a_corrupt_file_is_named_while_it_is_looked_at(tmp_path, monkeypatch):
    root = make(tmp_path)
    (root / "dog" / "3.png").write_bytes(b"nothing")
    for limit in (0, 1 << 20):
        monkeypatch.setattr(image_reading, "_IN_MEMORY", limit)
        with pytest.raises(FormatError, match=r"dog/3\.png: not an image"):
            open_folder(root)


def test_a_folder_that_was_renamed_continues_and_a_file_that_went_is_named(tmp_path, monkeypatch):
    """Digests say that the images are the same; a file that is gone stops the run, which continues when it is back."""
    monkeypatch.chdir(tmp_path)
    for number in range(12):
        put(tmp_path, f"photos/{'ab'[number % 2]}/{number}.jpg", scene(114 + number % 3, 120, number))
    (tmp_path / "renamed_net.py").write_text(RENAMED_NET)
    monkeypatch.syspath_prepend(str(tmp_path))
    words = ("--model", "renamed_net:net", "--augment", "standard", "--batch-size", 4, "--precision", "float32",
             "--workers", 0, "--quiet")  # fmt: skip
    assert run_here("train", "--data", "photos", *words, "--epochs", 3, "--out", "whole").code == 0
    whole = Feed.batches

    def batches(self, epoch, *, start=0):
        yield from whole(self, epoch, start=start)
        if epoch == 1:
            (tmp_path / "photos/a").rename("aside")

    monkeypatch.setattr(Feed, "batches", batches)
    gone = run_here("train", "--data", "photos", *words, "--epochs", 3, "--out", "run")
    assert gone.code == 2
    assert re.search(r"limbeck: photos/a/\d+\.jpg: cannot be read: No such file or directory$", gone.err.strip())
    monkeypatch.setattr(Feed, "batches", whole)
    Path("aside").rename("photos/a")
    Path("photos").rename("pictures")
    again = run_here("train", "--data", "pictures", *words, "--epochs", 3, "--resume", "--out", "run")
    assert again.code == 0, again.err
    weights = "model/model.safetensors"
    assert (tmp_path / "run" / weights).read_bytes() == (tmp_path / "whole" / weights).read_bytes()
    for number in range(0, 12, 2):
        put(tmp_path, f"pictures/a/{number}.jpg", scene(114, 121, 50 + number))
    other = run_here("train", "--data", "pictures", *words, "--epochs", 3, "--resume", "--out", "run")
    assert other.code == 2 and re.search("digest .* now: resume with the data", other.err)
