"""Collections of texts as examples: what is a text, and that a table on the disk gives what strings in memory do."""

import pickle

import numpy as np
import pandas
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset

from limbeck.data import Examples
from limbeck.data.conversion import as_examples
from limbeck.data.text import Strings, Text
from limbeck.data.text_items import ArrowStrings, TextFields, text_fields
from limbeck.errors import DataError, LimbeckWarning
from limbeck.runs.inputs import as_data_set

TEXTS = ["ein Text", "", "größer", "日本", "x" * 300] * 7
LABELS = [number % 2 for number in range(35)]


@pytest.fixture(scope="module")
def table():
    datasets = pytest.importorskip("datasets")
    features = {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["bad", "good"])}
    return datasets.Dataset.from_dict({"text": TEXTS, "label": LABELS}, features=datasets.Features(features))


def test_a_column_on_the_disk_is_the_strings_it_holds(table):
    column, held = ArrowStrings(table, "text"), Strings(TEXTS)
    rows = [34, 3, 3, 0, 17]
    for one, other in ((column, held), (column.select(rows), held.select(rows))):
        assert list(one) == list(other) and one[1:4] == other[1:4] and one[2] == other[2]
        assert one.lengths.tolist() == other.lengths.tolist() and len(one) == len(other)
        assert b"".join(one.content()) == b"".join(other.content())
    with pytest.raises(IndexError):
        column[35]
    assert list(pickle.loads(pickle.dumps(column))) == TEXTS
    assert column[5:5] == [] and Text(column).groups() is None


def test_chosen_and_shuffled_rows_of_a_data_set_are_those_rows(table):
    chosen = table.shuffle(seed=1).select(range(20))
    column = ArrowStrings(chosen, "text")
    assert list(column) == list(chosen["text"]) and column[7] == chosen[7]["text"]
    assert column.lengths.tolist() == [len(text.encode()) for text in chosen["text"]]


@pytest.mark.parametrize("form", ["table", "rows", "pairs", "columns", "frame", "stream", "loader", "own"])
def test_texts_are_the_same_examples_however_they_come(form, table):
    class Own(Dataset):
        def __len__(self):
            return 35

        def __getitem__(self, number):
            return {"idx": number, "sentence": TEXTS[number], "label": np.int64(LABELS[number])}

    class Stream(IterableDataset):
        def __iter__(self):
            return zip(TEXTS, LABELS, strict=True)

    frame = pandas.DataFrame({"text": TEXTS, "label": LABELS})
    given = {
        "table": table,
        "rows": frame.to_dict("records"),
        "pairs": list(zip(TEXTS, LABELS, strict=True)),
        "columns": (TEXTS, LABELS),
        "frame": (frame["text"], frame["label"]),
        "stream": Stream(),
        "loader": DataLoader(Own(), batch_size=4),
        "own": Own(),
    }[form]
    found, expected = as_examples(given), Examples.of(Text(TEXTS), LABELS)
    assert isinstance(found.inputs, Text) and found.labels.tolist() == LABELS
    assert found.source == expected.source and found.take(torch.tensor([3])).inputs.texts[0] == TEXTS[3]


def test_names_of_classes_come_with_a_data_set_and_its_parts(table):
    datasets = pytest.importorskip("datasets")
    parts = datasets.DatasetDict(train=table, dev=table.select([1, 2, 3]), unsupervised=table)
    with pytest.warns(LimbeckWarning, match="ignored parts unsupervised: only train, validation and test are read"):
        data = as_data_set(parts, None, None, None)
    assert data.classes == ("bad", "good") and len(data.validation) == 3 and data.test is None


@pytest.mark.parametrize(
    ("item", "fields"),
    [
        ({"premise": "a", "hypothesis": "b", "label": 1}, TextFields("premise", "hypothesis", "label")),
        ({"text": "a"}, TextFields("text")),
        ({"text": "a", "label": "pos"}, TextFields("text", None, "label")),
        ({"text": "a", "title": "b", "label": 1}, None),
        ({"text": "a", "stars": 3, "label": 1}, None),
        ({"image": 3, "caption": "a"}, None),
        (("a", "b"), None),
        ("a text", None),
    ],
)
def test_which_strings_are_the_text(item, fields):
    assert text_fields(item) == fields


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"text": "a", "label": 0}, {"text": None, "label": 1}], "list: text 1 is missing"),
        ([{"text": "a", "label": 0}, {"text": 3, "label": 1}], "list: text 1 is 3, a int"),
        ([{"text": "a", "label": 0}, {"review": "b", "label": 1}], "item 1 of the list has other fields than item 0"),
        ([{"text": "a", "label": 0}, {"text": "b", "label": None}], "item 1 of the list has no label"),
        ([{"text": "a", "label": "x"}, {"text": "b", "label": "y"}], "labels must be numbers"),
    ],
)
def test_what_is_wrong_with_texts_is_one_line(rows, words):
    with pytest.raises(DataError, match=words):
        as_examples(rows)


def test_a_missing_text_in_a_table_is_told_by_its_row(table):
    datasets = pytest.importorskip("datasets")
    with pytest.raises(DataError, match="Dataset: text 1 is missing"):
        as_examples(datasets.Dataset.from_dict({"text": ["a", None], "label": [0, 1]}))


def test_texts_that_are_drawn_are_refused_and_errors_of_items_are_told():
    class Drawn(Dataset):
        def __len__(self):
            return 40

        def __getitem__(self, number):
            if self.fails and number == 17:
                raise KeyError("seventeen")
            return f"a text {torch.rand(())}" if not self.fails else "a text", 0

    Drawn.fails = False
    with pytest.raises(DataError, match="item 0 of the Drawn differs when it is read again"):
        as_examples(Drawn())
    Drawn.fails = True
    with pytest.raises(DataError, match="item 17 of the Drawn cannot be read: KeyError: 'seventeen'"):
        as_examples(Drawn())
