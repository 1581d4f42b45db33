"""What is wrong with a command line is told before data are read."""

import numpy as np
import pytest

import limbeck.data.opening as opening


@pytest.fixture
def unread(monkeypatch, tmp_path):
    """Data that nobody may read."""
    np.savez(tmp_path / "data.npz", x=np.zeros((20, 4), np.float32), y=np.zeros(20, np.int64))

    def read(*_, **__):
        raise AssertionError("the data were read")

    monkeypatch.setattr(opening, "_open", read)
    monkeypatch.setattr("limbeck.data.open_data", read)
    return tmp_path / "data.npz"


def command(words, data, out):
    return [*words, "--data", data, "--out", out]


@pytest.mark.parametrize(
    "words",
    [["train"], ["distill", "--teacher", "t"], ["mutual"], ["tune", "--teacher", "t"],
     ["compare-methods", "--teacher", "t"]],
    ids=lambda words: words[0],
)  # fmt: skip
def test_a_folder_that_is_taken(limbeck, unread, tmp_path, words):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "file").write_text("")
    done = limbeck(*command(words, unread, tmp_path / "out"))
    assert done.code == 2 and str(tmp_path / "out") in done.err and "the data were read" not in done.err


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--method", "dkd", "--method-options", "betta=2"], ["betta", "beta"]),
        (["--method", "dkd", "--method-options", "beta=much"], ["beta", "much"]),
        (["--method", "kd:1+attention:10", "--student", "mlp"], ["--method kd:1+attention:10", "--student mlp", "cnn"]),
        (["--method", "attention"], ["--student mlp"]),
        (["--method", "kdd"], ["kdd", "kd"]),
    ],
)  # fmt: skip
def test_methods_their_options_and_students(limbeck, unread, tmp_path, words, parts):
    done = limbeck(*command(["distill", "--teacher", "t", *words], unread, tmp_path / "out"))
    assert done.code == 2 and "the data were read" not in done.err and len(done.err.splitlines()) == 1
    for part in parts:
        assert part in done.err
    assert not (tmp_path / "out").exists()


def test_what_may_be_right_goes_on_to_the_data(limbeck, unread, tmp_path):
    done = limbeck(*command(["distill", "--teacher-targets", "t", "--method", "attention", "--student", "cnn"],
                            unread, tmp_path / "out"))  # fmt: skip
    assert "the data were read" in done.err
