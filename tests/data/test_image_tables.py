"""CSV and parquet files that list image files."""

import os

import pytest
from image_makers import put, scene

from limbeck.data import image_reading
from limbeck.data.image_tables import open_image_table, open_image_table_inputs
from limbeck.data.images import ImageFiles
from limbeck.errors import FormatError

ROWS = [(f"deep/{number}.png", "cat" if number % 3 else "dog") for number in range(12)]


@pytest.fixture
def folder(tmp_path):
    for number, (name, _) in enumerate(ROWS):
        put(tmp_path, name, scene(9, 12, number))
    return tmp_path


def table(folder, header, rows):
    path = folder / "all.csv"
    path.write_text("\n".join([header, *(",".join(row) for row in rows)]))
    return path


@pytest.mark.parametrize("limit", [0, 1 << 20])
def test_paths_and_labels(folder, monkeypatch, limit):
    monkeypatch.setattr(image_reading, "_IN_MEMORY", limit)
    parts = ["train", "Valid", "test", "training"]
    rows = [(name, label, parts[number % 4]) for number, (name, label) in enumerate(ROWS)]
    data = open_image_table(table(folder, "path,label,split", rows))
    assert data.classes == ("cat", "dog")
    assert {name: len(part) for name, part in data.parts().items()} == {"train": 6, "validation": 3, "test": 3}
    assert data.test.labels.tolist() == [int(not number % 3) for number in (2, 6, 10)]
    assert isinstance(data.test.inputs, ImageFiles) is (limit == 0)
    if limit == 0:
        assert data.test.inputs.path(1) == folder / "deep/6.png"


def test_parquet_absolute_paths_and_another_root(folder):
    pytest.importorskip("pyarrow")
    import pyarrow
    from pyarrow import parquet

    names = [str(folder / name) if number % 2 else name for number, (name, _) in enumerate(ROWS)]
    (folder / "tables").mkdir()
    path = folder / "tables" / "all.parquet"
    parquet.write_table(pyarrow.table({"file": names, "y": [number % 2 for number in range(12)]}), path)
    data = open_image_table(path, image_column="file", label_column="y", root=folder, image_size=8)
    assert data.classes == ("0", "1") and data.train.shape == (3, 8, 8)
    assert len(data.train) + len(data.test) == 12
    unlabelled = open_image_table_inputs(path, image_column="file", root=folder)
    assert unlabelled.labels is None and unlabelled.shape == (3, 9, 12)


@pytest.mark.parametrize(
    ("row", "match"),
    [
        ("gone.png,cat,train", r"line 3 names 'gone.png', which is not in .*No such file"),
        (",cat,train", "line 3 has no path in column 'path'"),
        ("pipe.png,cat,train", "line 3 names 'pipe.png', which is not a regular file"),
        ("deep/1.png,,train", "no label in column 'label'"),
        ("deep/1.png,cat,holdout", "line 3 has 'holdout' in column 'split': known are train, val, test"),
    ],
)
def test_rows_that_cannot_be_used_are_named(folder, row, match):
    os.mkfifo(folder / "pipe.png")
    path = table(folder, "path,label,split", [("deep/0.png", "dog", "train"), tuple(row.split(","))])
    with pytest.raises(FormatError, match=match):
        open_image_table(path)


def test_tables_without_a_part_to_learn_from(folder):
    with pytest.raises(FormatError, match="no row has train"):
        open_image_table(table(folder, "path,label,split", [(*row, "test") for row in ROWS]))
    with pytest.raises(FormatError, match="holds no rows"):
        open_image_table(table(folder, "path,label", []))
