"""Hashes of training inputs, and what they recognise."""

import shutil

import numpy as np
import pytest
import torch
from image_makers import put, scene
from safetensors.torch import save_file

from limbeck.data import image_reading
from limbeck.data.examples import Examples
from limbeck.data.image_folders import open_folder
from limbeck.data.trained_rows import _MOST, TrainedRows, trained_rows
from limbeck.errors import FormatError


def found_rows(kept, examples):
    return kept.find(examples)[0].tolist()


def test_small_sets_are_told_row_by_row():
    generator = torch.Generator().manual_seed(0)
    every = torch.randint(0, 256, (500, 1, 8, 8), dtype=torch.uint8, generator=generator)
    kept = trained_rows(Examples.of(every[:300]))
    test = Examples.of(every[200:])
    assert kept.find(test)[1] == 300
    assert found_rows(kept, test) == list(range(100))
    assert found_rows(kept, test.one_by_one()) == list(range(100)), "images in memory as a source are the same"
    assert found_rows(kept, Examples.of(every[200:].float())) == [], "numbers of another type are other inputs"


def test_how_large_inputs_are_is_kept_of_what_is_no_token():
    assert trained_rows(Examples.of(torch.randint(1, 90, (40, 5)))).size is None
    assert trained_rows(Examples.of(torch.full((40, 5), 2.0))).size == 2.0
    for unknown in (torch.zeros(40, 5), torch.ones(19, 5)):
        assert trained_rows(Examples.of(unknown)).size is None


def test_of_a_large_set_a_fair_share_is_told():
    train = torch.arange(100_000, dtype=torch.float32)[:, None].expand(-1, 2).contiguous()
    kept = trained_rows(Examples.of(train))
    assert len(kept.hashes) == _MOST
    test = Examples.of(torch.cat([train[:20_000], -1 - train[:20_000]]))
    rows, known = kept.find(test)
    assert (rows < 20_000).all(), "nothing is told that was not there"
    share = _MOST / 100_000
    # The count is binomial: five standard deviations.
    assert abs(len(rows) - 20_000 * share) < 5 * (20_000 * share) ** 0.5
    assert abs(known - 40_000 * share) < 5 * (40_000 * share) ** 0.5


def test_inputs_are_sampled_fairly_whatever_their_marks(monkeypatch):
    """Marks may be sizes of files, and the smallest files are no random sample."""
    monkeypatch.setattr("limbeck.data.trained_rows.hash_rows", lambda rows: rows.view(np.uint64)[:, 0])
    train = Examples.of(torch.arange(65_536)[:, None])
    kept = trained_rows(train)
    rows = kept.find(train)[0]
    counts = np.bincount(rows // 4096, minlength=16)
    expected = len(rows) / 16
    assert ((counts - expected) ** 2 / expected).sum() < 45, "chi-squared of 15 degrees of freedom, p = 1e-4"


@pytest.mark.parametrize("limit", [0, 1 << 20])
def test_images_in_files_are_compared_by_their_bytes(tmp_path, monkeypatch, limit):
    monkeypatch.setattr(image_reading, "_IN_MEMORY", limit)
    for part, seeds in (("train", range(20)), ("test", range(100, 110))):
        for seed in seeds:
            put(tmp_path / part / str(seed % 2), f"{seed}.png", scene(20, 20, seed=seed))
    shutil.copy(tmp_path / "train/0/4.png", tmp_path / "test/0/another name.png")
    data = open_folder(tmp_path)
    rows = trained_rows(data.train).find(data.test)[0]
    held = isinstance(data.test.inputs, torch.Tensor)
    assert held == bool(limit)
    every = [data.test.as_seen(torch.tensor([row])) for row in range(len(data.test))]
    known = [data.train.as_seen(torch.tensor([row])) for row in range(len(data.train))]
    same = [row for row, one in enumerate(every) if any(torch.equal(one, other) for other in known)]
    assert rows.tolist() == same
    assert len(same) == 1


def test_nothing_is_kept_where_all_share_a_mark():
    assert trained_rows(Examples.of(torch.zeros(_MOST + 1, 3))) is None


def test_the_file_holds_all_of_it(tmp_path):
    kept = trained_rows(Examples.of(torch.randn(20_000, 3, generator=torch.Generator().manual_seed(1))))
    kept.write(tmp_path / "rows.safetensors")
    again = TrainedRows.read(tmp_path / "rows.safetensors")
    assert again.bound == kept.bound < 1 << 63
    assert np.array_equal(again.hashes, kept.hashes)


def test_damaged_files_are_refused(tmp_path):
    path = tmp_path / "rows.safetensors"
    kept = trained_rows(Examples.of(torch.eye(3)))
    kept.write(path)
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(FormatError, match=r"rows\.safetensors"):
            TrainedRows.read(path)
    save_file({"hashes": torch.zeros(3), "bound": torch.zeros(1, dtype=torch.int64)}, path)
    with pytest.raises(FormatError, match="int64"):
        TrainedRows.read(path)
    save_file({"hashes": torch.zeros(3, dtype=torch.int64)}, path)
    with pytest.raises(FormatError, match=r"rows\.safetensors"):
        TrainedRows.read(path)


def test_fewer_files_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(image_reading, "_IN_MEMORY", 0)
    monkeypatch.setattr("limbeck.data.trained_rows._OF_FILES", 10)
    for seed in range(40):
        put(tmp_path / "train" / str(seed % 2), f"{seed}.png", scene(20, 20, seed=seed))
        put(tmp_path / "test" / str(seed % 2), f"{seed}.png", scene(20, 20, seed=seed))
    data = open_folder(tmp_path)
    kept = trained_rows(data.train)
    assert len(kept.hashes) <= 10
    assert kept is trained_rows(data.train), "sampled once"
    rows, known = kept.find(data.test)
    assert len(rows) == known == len(kept.hashes) > 0
