"""Examples of one part that are in another, of every kind of source: against a dictionary of what they are made of."""

import numpy as np
import pandas
import pytest
import torch
from PIL import Image
from torch.utils.data import Subset

import limbeck
from limbeck import Examples
from limbeck.data.columns import Columns
from limbeck.data.duplicates import shared_examples, shared_groups
from limbeck.data.images import ImageArrays, ImageFiles
from limbeck.data.items import read_items
from limbeck.data.multi_label import MultiLabel
from limbeck.data.position_files import open_words
from limbeck.data.table import Table
from limbeck.data.text import Text
from limbeck.data.words import Words
from limbeck.options import ImagePresentation

FIRST = [3, 1, 4, 1, 5, 9, 2, 6]
SECOND = [7, 1, 8, 2, 8, 1, 10, 4]
"""What the examples of two parts are made of: the same number, the same example."""


def expected(some, others):
    known = {}
    for row, number in enumerate(others):
        known.setdefault(number, row)
    return [(row, known[number]) for row, number in enumerate(some) if number in known]


def texts(numbers, sign):
    return Text([f"a text{' ' * (1 + sign)}number\t{n}{' ' * sign}" for n in numbers])


def pairs(numbers, sign):
    return Text(["the same"] * len(numbers), [f"second {n}" for n in numbers])


def tables(numbers, sign):
    frame = pandas.DataFrame({"town": [f"t{n}" for n in numbers], "x": [n % 3 if n != 9 else None for n in numbers]})
    return Table.of(frame if sign else frame[["x", "town"]].astype({"x": "float32"}))


def columns(numbers, sign):
    ids = torch.tensor([[n, 7] for n in numbers])
    return Columns({"input_ids": ids, "weight": ids.float()})


def labels(numbers, sign):
    return MultiLabel(torch.tensor(numbers, dtype=torch.float32).view(-1, 1), 1)


def images(numbers, sign):
    return ImageArrays(torch.stack([torch.full((3, 4, 4), n, dtype=torch.uint8) for n in numbers]))


@pytest.mark.parametrize("make", [texts, pairs, tables, columns, labels, images])
def test_sources_in_memory(make):
    first, second = (Examples.of(make(numbers, sign)) for sign, numbers in ((0, FIRST), (1, SECOND)))
    rows, others = shared_examples(second, first)
    assert list(zip(rows.tolist(), others.tolist(), strict=True)) == expected(SECOND, FIRST)
    rows, others = shared_examples(first, first)
    assert [(r, o) for r, o in zip(rows.tolist(), others.tolist(), strict=True) if r != o] == [(3, 1)]
    part = second.take(torch.tensor([5, 0, 1]))
    assert shared_examples(part, first)[0].tolist() == [0, 2]
    assert not len(shared_examples(first, Examples.of(torch.zeros(2, 3)))[0])


def test_positions_are_the_same_where_their_sentences_are():
    first, second = (Examples.of(Words([["the", f"w{n}"] for n in numbers])) for numbers in (FIRST, SECOND))
    rows, others = shared_examples(second, first)
    wanted = [(2 * row + k, 2 * other + k) for row, other in expected(SECOND, FIRST) for k in range(2)]
    assert list(zip(rows.tolist(), others.tolist(), strict=True)) == wanted


def test_labels_of_the_same_example_are_told_apart():
    truth = torch.tensor([[0, 1], [1, 0], [1, 1]])
    some = Examples.of_labels(torch.tensor([[1.0], [2.0], [1.0]]), truth)
    rows, others = shared_examples(some, some)
    assert [(r, o) for r, o in zip(rows.tolist(), others.tolist(), strict=True) if r != o] == [(4, 0), (5, 1)]


@pytest.fixture
def files(tmp_path):
    """Images of which all files have one size, so that their bytes decide."""
    for n in range(12):
        Image.fromarray(np.full((5, 5), n, np.uint8)).save(tmp_path / f"{n}.bmp")
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / "large.bmp")
    return tmp_path


def test_files_of_one_size_are_compared_by_their_bytes_and_none_is_decoded(files, monkeypatch):
    monkeypatch.setattr(limbeck.data.images, "open_picture", lambda path: pytest.fail("an image was decoded"))
    (files / "copy.bmp").write_bytes((files / "1.bmp").read_bytes())
    shown = ImagePresentation.plain(4)
    first = ImageFiles(files, [*(f"{n}.bmp" for n in FIRST), "large.bmp"], shown)
    second = ImageFiles(files, [*(f"{n}.bmp" for n in SECOND), "copy.bmp"], shown)
    rows, others = shared_examples(Examples.of(second), Examples.of(first))
    assert list(zip(rows.tolist(), others.tolist(), strict=True)) == [*expected(SECOND, FIRST), (8, 1)]
    read = len(first._digests) + len(second._digests)
    assert read == 8 + 9  # each file of a size that the other has, once, and not the large one
    taken = Examples.of(second).take(torch.tensor([8, 1]))
    assert shared_examples(taken, Examples.of(first))[0].tolist() == [0, 1]
    assert len(first._digests) + len(second._digests) == read


class Folder(torch.utils.data.Dataset):
    """As torchvision's ImageFolder: ``samples`` lists the files, and reading one draws."""

    def __init__(self, root, names):
        self.samples = [(str(root / name), n % 2) for n, name in enumerate(names)]

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, number):
        image = torch.rand(3, 4, 4) + float(number)
        return image, self.samples[number][1]


def test_items_that_are_listed_files_are_compared_by_these(files):
    first, second = (Folder(files, [f"{n}.bmp" for n in numbers]) for numbers in (FIRST, SECOND))
    rows, others = shared_examples(read_items(Subset(second, [1, 0, 5])), read_items(first))
    assert list(zip(rows.tolist(), others.tolist(), strict=True)) == [(0, 1), (2, 1)]


class Lazy(torch.utils.data.Dataset):
    """Large items, read one by one; ``read`` counts how often."""

    def __init__(self, numbers):
        self.numbers, self.read = numbers, []

    def __len__(self):
        return len(self.numbers)

    def __getitem__(self, number):
        self.read.append(number)
        return torch.full((3, 2), float(self.numbers[number])), number % 2


def test_items_are_compared_by_what_was_read_for_their_labels(monkeypatch):
    monkeypatch.setattr(limbeck.data.items, "_IN_MEMORY", 0)
    sets = [Lazy(FIRST), Lazy(SECOND)]
    first, second = map(read_items, sets)
    before = [len(each.read) for each in sets]
    rows, others = shared_examples(second, first)
    assert list(zip(rows.tolist(), others.tolist(), strict=True)) == expected(SECOND, FIRST)
    assert [len(each.read) for each in sets] == before  # nothing was read again


def test_groups_on_both_sides():
    first = Examples.of(Text(["a", "b", "c"], groups=["anna", "bert", "anna"]))
    second = Examples.of(Text(["d", "e", "f"], groups=["bert", "carl", "bert"]))
    assert shared_groups(second, first) == (["bert"], 2)
    assert shared_groups(second, Examples.of(Text(["x"]))) == ([], 0)
    table = pandas.DataFrame({"x": [1, 2]})
    one, two = (Examples.of(Table.of(table, group=names)) for names in ([7, 8], [8, 8]))
    assert shared_groups(two, one) == (["8"], 2)


def test_a_run_tells_shared_texts_and_groups_of_files_that_were_given_apart(tmp_path):
    rows = [{"words": [f"w{n}", f"v{n}"], "tags": ["A", "B"], "author": f"a{n // 2}"} for n in range(30)]
    train, test = pandas.DataFrame(rows[:20]), pandas.DataFrame([rows[3], *rows[19:24]])
    data = open_words(train, words_column="words", group_column="author", test=test)
    heard = []
    callback = type("Heard", (limbeck.system.callbacks.Callback,), {"on_warning": lambda _, text: heard.append(text)})()
    limbeck.runs.data_warnings.tell_shared_examples(data, ["test"], callback)
    assert (
        "4 of 12 test examples are in the training set too, to the bit (the first is test example 0, which is "
        in heard[0]
    )
    assert "2 groups of test examples are in the training set too ('a1', 'a9'), with 4 of 12 test examples" in heard[1]
    assert len(heard) == 2
