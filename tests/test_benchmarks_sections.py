"""The benchmark that makes numbers of descriptions: what is learnt from which texts, and who is beside whom."""

import sys
from pathlib import Path

import numpy as np
import pytest

import limbeck
import sections

FOLDER = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture(scope="module")
def rows():
    return sections.text_pair.packages(sections.text_pair.made_up(1200), fewest=60)


def test_packages_of_one_source_stay_together(rows):
    labels = np.array([int(row["label"][-1]) for row in rows])
    sources = np.array([row["source"] for row in rows])
    cut = sections.parts(labels, sources)
    assert sorted(np.concatenate(list(cut.values())).tolist()) == list(range(len(rows)))
    seen = [set(sources[chosen].tolist()) for chosen in cut.values()]
    assert not seen[0] & seen[1] and not seen[0] & seen[2] and not seen[1] & seen[2]
    assert len(cut["test"]) == pytest.approx(len(rows) / 5, rel=0.05)
    assert len(cut["val"]) == pytest.approx(len(rows) / 10, rel=0.05)


def test_what_the_numbers_are_is_learnt_from_training_texts_alone(rows):
    texts = np.array([row["text"] for row in rows], object)
    train = np.arange(600)
    before = sections.numbers(texts, train, 5)
    assert before.shape == (len(rows), 5) and before.dtype == np.float32
    np.testing.assert_allclose(before[train].std(0), 1, rtol=1e-3)
    texts[600:] = "other words"
    after = sections.numbers(texts, train, 5)
    np.testing.assert_allclose(before[train], after[train], rtol=1e-3, atol=1e-3)


def test_the_file_is_a_data_set(tmp_path, monkeypatch, capsys):
    file = tmp_path / "sections.npz"
    monkeypatch.setattr(sys, "argv", ["sections.py", str(file), "--quick"])
    sections.main()
    assert "4 sections; train 837, val 120, test 243" in capsys.readouterr().out
    data = limbeck.open_data(str(file))
    assert data.classes == ("part0", "part1", "part2", "part3")
    assert [len(part) for part in data.parts().values()] == [837, 120, 243]
    assert data.train.shape == (8,)
