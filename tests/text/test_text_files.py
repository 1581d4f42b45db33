"""Texts in files: CSV, JSON lines and parquet, parts of a folder, groups, and what is told of errors."""

import json

import pytest
import torch

from limbeck.data import cut_validation
from limbeck.data.label_columns import class_labels
from limbeck.data.text_files import open_text, open_text_inputs
from limbeck.errors import DataError, FormatError

ROWS = [
    {"text": f'word {n}, "quoted"\nand ünï', "label": n % 3, "author": f"a{n // 4}", "second": f"s{n}"}
    for n in range(60)
]


def write(path, rows=ROWS):
    if path.suffix == ".parquet":
        import pyarrow
        from pyarrow import parquet

        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    elif path.suffix == ".jsonl":
        path.write_text("\n".join(json.dumps(row) for row in rows) + "\n\n")
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows))
    else:
        import csv

        with open(path, "w", newline="") as stream:
            writer = csv.DictWriter(stream, list(rows[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    return path


def all_rows(data):
    """Every text with the name of its class, over all parts."""
    return sorted(
        (part.inputs.texts[row], data.classes[part.labels[row]])
        for part in data.parts().values()
        for row in range(len(part))
    )


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.json", "a.parquet", "a.CSV"])
def test_every_kind_of_file_holds_the_same(tmp_path, name):
    data = open_text(write(tmp_path / name), pair_column="second", group_column="author")
    assert data.name == "a" and data.classes == ("0", "1", "2")
    assert all_rows(data) == sorted((row["text"], str(row["label"])) for row in ROWS)
    assert set(data.parts()) == {"train", "test"}
    whole = open_text_inputs(tmp_path / name, pair_column="second", group_column="author")
    assert list(whole.inputs.pairs) == [row["second"] for row in ROWS] and whole.labels is None
    assert whole.groups().tolist() == [n // 4 for n in range(60)]


def test_groups_stay_together_in_all_parts(tmp_path):
    data = cut_validation(open_text(write(tmp_path / "a.csv"), group_column="author"), 0.2)
    authors = [set(part.inputs.names_of_groups) for part in data.parts().values()]
    assert len(authors) == 3 and sum(map(len, authors)) == len(set.union(*authors)) == 15
    assert [len(part) for part in data.parts().values()] == [44, 12, 4] or len(data.test) in {4, 8}
    without = open_text(tmp_path / "a.csv")
    assert without.test.labels.bincount().tolist() == [2, 2, 2]  # by class where nothing stays together


def test_the_parts_of_a_folder(tmp_path):
    write(tmp_path / "train.csv", ROWS[:30])
    write(tmp_path / "dev.jsonl", ROWS[30:40])
    write(tmp_path / "Test.parquet", ROWS[40:])
    (tmp_path / "README.md").write_text("nothing")
    data = open_text(tmp_path)
    assert {name: len(part) for name, part in data.parts().items()} == {"train": 30, "test": 20, "validation": 10}
    assert all_rows(data) == sorted((row["text"], str(row["label"])) for row in ROWS)
    numbers = torch.cat([part.index for part in data.parts().values()])
    assert len(numbers.unique()) == 60
    write(tmp_path / "val.csv", ROWS[:3])
    with pytest.raises(FormatError, match=r"holds two validation files, dev.jsonl and val.csv"):
        open_text(tmp_path)
    (tmp_path / "train.csv").unlink()
    (tmp_path / "val.csv").unlink()
    with pytest.raises(FormatError, match=r"holds no training file: train.csv, train.tsv"):
        open_text(tmp_path)


def test_class_names_are_sorted_numbers_by_size():
    assert class_labels([1, 2.0, True, "b"]) == [1, 2, "True", "b"]


@pytest.mark.parametrize(
    ("labels", "names"),
    [([10, 9, -2], ("-2", "9", "10")), (["b", "a", "c"], ("a", "b", "c")), ([1.0, 0.0, 2.0], ("0", "1", "2"))],
)
def test_labels_as_people_write_them(tmp_path, labels, names):
    rows = [{"text": "x", "label": labels[n % 3]} for n in range(30)]
    for kind in ("a.jsonl", "a.parquet"):
        assert open_text(write(tmp_path / kind, rows)).classes == names
    chosen = open_text(tmp_path / "a.jsonl", classes=names[::-1])
    assert chosen.classes == names[::-1]
    assert all_rows(chosen) == all_rows(open_text(tmp_path / "a.jsonl"))
    with pytest.raises(FormatError, match="which is not among the classes"):
        open_text(tmp_path / "a.jsonl", classes=names[:2])


def told(path, content, **settings):
    """The one line that is told of a file."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(FormatError) as caught:
        open_text(path, **settings)
    message = str(caught.value)
    assert message.startswith(str(path)) and "\n" not in message
    return message.removeprefix(str(path))


def test_errors_name_columns_lines_and_offsets(tmp_path):
    csv, jsonl = tmp_path / "a.csv", tmp_path / "a.jsonl"
    assert told(csv, "body,label\nx,1\n") == ": has no column 'text': its columns are 'body', 'label'"
    assert "has no column 'author'" in told(csv, "text,label\nx,1\n", group_column="author")
    assert told(csv, "text,label\nx,1\ny\n").startswith(": line 3 has 1 fields, and the header has 2")
    assert told(csv, 'text,label\n"two\nlines",1\ny,\n') == ": line 4 has no label in column 'label'"
    assert told(csv, b"text,label\ngood,1\nf\xfcr,0\n").startswith(" at byte 19: is not UTF-8 in line 3 (byte 0xfc): ")
    assert "byte 0xff" in told(csv, "text,label\nx,1\n".encode("utf-16"))
    assert "a header line" in told(csv, "")
    assert told(csv, "text,label\n") == ": holds no rows"
    assert "two columns 'text'" in told(csv, "text,text,label\nx,y,1\n")
    assert "has 1 class" in told(csv, "text,label\nx,1\ny,1\n")
    assert ": line 2: " in told(csv, 'text,label\n"x,1\n')
    good = '{"text": "x", "label": 1}\n'
    assert told(jsonl, good + "{text: 1}\n").startswith(": line 2 is not valid JSON")
    assert told(jsonl, good + "\n[1]\n") == ": line 3 is a list, and an object with named values is needed"
    assert told(jsonl, good + '{"label": 0}\n').startswith(": line 2 has no text in column 'text'")
    assert told(jsonl, good + '{"text": NaN, "label": 0}\n').startswith(": line 2 has no text in column 'text'")
    assert told(jsonl, good + '{"text": 7, "label": 0}\n').startswith(": line 2 has 7 in column 'text'")
    assert told(jsonl, good + '{"text": "x", "label": null}\n') == ": line 2 has no label in column 'label'"
    half = good + '{"text": "x", "label": 0.5}\n'
    assert "the label 0.5 in column 'label': classes are needed, and regression is not supported" in told(jsonl, half)
    halves = "text,label\n" + "x,1\ny,0.25\n" * 3
    assert "column 'label' holds '0.25' and other numbers that are not whole: classes are needed" in told(csv, halves)
    assert "text 1 holds half a surrogate pair" in told(jsonl, good + '{"text": "\\ud800", "label": 0}\n')
    assert told(jsonl, "") == ": holds no records"
    assert "not a parquet file" in told(tmp_path / "a.parquet", "PAR1 is not enough")
    assert "not a file of records" in told(tmp_path / "a.txt", "text")
    with pytest.raises(FormatError, match=r"a\.tsv: there is no such file"):
        open_text(tmp_path / "a.tsv")
    with pytest.raises(DataError):
        class_labels([None])


def test_semicolons_a_byte_order_mark_and_long_fields(tmp_path):
    path = tmp_path / "a.csv"
    long = "x" * 200_000
    path.write_text("\ufefftext;label\n" + f"a, b;1\n{long};0\n" * 5, encoding="utf-8")
    data = open_text(path)
    assert all_rows(data) == sorted([("a, b", "1"), (long, "0")] * 5)
