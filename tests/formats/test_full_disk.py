"""A disk that is full or fails at any write: one line, and the file that was there is as it was."""

import errno
import os
from functools import partial

import numpy as np
import pytest
import torch

from limbeck.errors import LimbeckError
from limbeck.formats.idx import write_idx
from limbeck.formats.keras_h5 import DenseLayer, write_keras_h5
from limbeck.kaldi.formats.write import write_ark
from limbeck.system.files import replace_text
from limbeck.training.checkpoint import save_tensors

ROWS = np.arange(12, dtype=np.float32).reshape(3, 4)
WRITERS = {
    "a.h5": lambda path, scale: write_keras_h5(path, [DenseLayer("one", scale * ROWS, ROWS[0])]),
    "a.ark": lambda path, scale: write_ark(path, [("a", scale * ROWS), ("b", ROWS)]),
    "a.txt.ark": lambda path, scale: write_ark(path, [("a", scale * ROWS)], text=True),
    "a.idx": lambda path, scale: write_idx(path, scale * ROWS),
    "a.safetensors": lambda path, scale: save_tensors(path, {"a": scale * torch.ones(3)}),
    "a.txt": lambda path, scale: replace_text(path, str(scale)),
}


class Failing:
    """A file of which one write or flush fails; ``h5py`` writes through it too."""

    def __init__(self, file, count, number):
        self.file, self.count, self.number = file, count, number

    def __getattr__(self, name):
        found = getattr(self.file, name)
        return partial(self._counted, found) if name in {"write", "flush"} else found

    def _counted(self, go, *words):
        self.count[0] -= 1
        if self.count[0] == 0:
            raise OSError(self.number, os.strerror(self.number))
        return go(*words)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("name", sorted(WRITERS))
def test_nothing_half_written_is_left_where_a_write_fails(tmp_path, monkeypatch, name, number):
    path, count = tmp_path / name, [0]
    WRITERS[name](path, 1)
    before, fdopen, opened = path.read_bytes(), os.fdopen, open

    def failing(go, file, mode="r", *words, **more):
        made = go(file, mode, *words, **more)
        return Failing(made, count, number) if set(mode) & set("wx+") else made

    monkeypatch.setattr(os, "fdopen", partial(failing, fdopen))
    monkeypatch.setattr("limbeck.formats.idx.open", partial(failing, opened), raising=False)
    failed = 0
    while failed < 40:
        count[0] = failed + 1
        try:
            WRITERS[name](path, 2)
        except LimbeckError as error:
            assert str(path) in str(error) and "\n" not in str(error) and error.exit_code == 2
        else:
            break
        failed += 1
        assert path.read_bytes() == before
        assert list(tmp_path.iterdir()) == [path]
    assert failed >= 1
    assert path.read_bytes() != before
