"""Tables: what is read, how rows are encoded, and that the encoder is fitted on training rows alone and kept."""

import gzip
import json

import numpy as np
import pandas
import pytest
import torch

import limbeck
from limbeck.data.splits import cut_validation
from limbeck.data.table import Table
from limbeck.data.table_encoding import CategoryColumn, NumberColumn, TableEncoding
from limbeck.data.table_files import open_table, open_table_inputs
from limbeck.errors import DataError, FormatError, MismatchError

FRAME = pandas.DataFrame(
    {
        "age": [20.0, 40.0, None, 60.0],
        "count": [1, 2, 3, 10],
        "town": ["B", "A", None, "B"],
        "member": [True, False, True, True],
    }
)


def seen(table, rows=None, presentation=None):
    rows = torch.arange(len(table)) if rows is None else torch.tensor(rows)
    return table.fetch(rows, rows, presentations=(presentation,))[0]


def test_numbers_are_standardised_gaps_are_filled_and_marked_and_categories_get_a_unit_each():
    ages = np.array([20, 40, 40, 60])  # the median, 40, stands in the gap
    rows = seen(Table.of(FRAME)).numpy()
    assert np.allclose(rows[:, 0], (ages - 40) / np.std([20, 40, 60]), atol=1e-6)
    assert rows[:, 1].tolist() == [0, 0, 1, 0]
    assert np.allclose(rows[:, 2], (FRAME["count"] - 4) / FRAME["count"].std(ddof=0), atol=1e-6)
    assert rows[:, 3:7].tolist() == [[0, 0, 1, 0], [0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0]]  # gap, A, B, unseen
    assert np.allclose(rows[:, 7], (np.array([1, 0, 1, 1]) - 0.75) / np.std([1, 0, 1, 1]), atol=1e-6)


def test_what_training_rows_do_not_have_gets_a_unit_of_its_own():
    table = Table.of(FRAME)
    new = pandas.DataFrame({"member": [False], "town": ["C"], "count": [None], "age": [1e3]})
    rows = seen(Table.of(new).with_presentation(table.presentation)).numpy()[0]
    assert rows[3:7].tolist() == [0, 0, 0, 1]
    assert rows[2] == pytest.approx((2.5 - 4) / FRAME["count"].std(ddof=0))  # the median, and no mark for it
    without_gaps = Table.of(FRAME.iloc[[0, 1, 3]])
    assert seen(Table.of(FRAME).with_presentation(without_gaps.presentation)).numpy()[2, -4:-1].tolist() == [0, 0, 1]
    codes = TableEncoding(table.presentation.columns, "codes")
    found = seen(table, presentation=codes)
    assert found["categories"].flatten().tolist() == [2, 1, 0, 2] and found["numbers"].shape == (4, 4)


def test_a_constant_column_an_empty_one_and_large_numbers_do_no_harm():
    frame = pandas.DataFrame({"one": [7, 7, 7], "none": [np.nan] * 3, "time": [1e15, 1e15 + 2, 1e15 + 4]})
    rows = seen(Table.of(frame)).numpy()
    assert rows[:, 0].tolist() == [0, 0, 0] and rows[:, 1].tolist() == [0, 0, 0] and rows[:, 2].tolist() == [1, 1, 1]
    assert np.allclose(rows[:, 3], [-1.2247449, 0, 1.2247449])


def test_the_encoder_is_fitted_on_the_training_rows_alone():
    frame = pandas.DataFrame({"x": np.arange(40.0), "town": ["A", "B"] * 20})
    whole = limbeck.DataSet("some", ("no", "yes"), limbeck.Examples.of(Table.of(frame), [0, 1] * 20))
    data = cut_validation(whole, 0.25)
    kept = frame.iloc[data.train.index.numpy()]
    first = data.train.inputs.presentation.columns[0]
    assert first.mean == pytest.approx(kept["x"].mean()) and first.std == pytest.approx(kept["x"].std(ddof=0))
    assert data.validation.inputs.presentation == data.train.inputs.presentation
    # How rows are encoded is no part of what the data are.
    assert data.train.source == whole.train.source
    assert whole.train.digest == limbeck.Examples.of(Table.of(frame), [0, 1] * 20).digest


def test_an_encoding_is_kept_as_json_and_a_damaged_one_is_refused():
    encoding = Table.of(FRAME).presentation
    kept = json.loads(json.dumps(encoding.to_dict()))
    assert TableEncoding.from_dict(kept) == encoding and hash(encoding) == hash(TableEncoding.from_dict(kept))
    for change in ({"columns": []}, {"categories": "other"}, {"columns": [{"name": "x", "mean": 0.0, "std": 0.0,
                   "median": 0.0, "marked": False}]}, {"columns": [{"name": "x"}]}, {"columns": 3}):  # fmt: skip
        with pytest.raises(DataError, match="invalid encoding of table rows"):
            TableEncoding.from_dict({**kept, **change})


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        ({"x": [1.0, np.inf]}, "column 'x' has the value inf in row 1"),
        ({"x": [None, 1.0, 1e300]}, r"column 'x' has the value 1e\+300 in row 2, and numbers up to 3.4e\+38 are known"),
        ({"when": pandas.to_datetime(["2020-01-01", "2020-01-02"])}, "holds times: give numbers"),
        ({"x": [[1], [2]]}, "column 'x' holds a list"),
        ({"x": [np.ones(2), np.ones(3)]}, r"column 'x' holds a list.*leave_out=\['x'\]"),
        ({"x": [pandas.Series([1, 2]), None]}, "column 'x' holds a Series"),
        ({"x": [torch.ones(2), None]}, "column 'x' holds a Tensor"),
        ({"name": [f"person {number}" for number in range(1500)]}, "1,500 different texts in 1,500 rows"),
        ({}, "at least one row"),
    ],
)
def test_columns_that_are_neither_numbers_nor_categories_are_refused(frame, message):
    with pytest.raises(DataError, match=message):
        Table.of(pandas.DataFrame(frame))


def test_a_model_refuses_a_table_of_other_columns():
    encoding = TableEncoding((NumberColumn("x", 0.0, 0.01, 0.0, False), CategoryColumn("town", ("A",))))
    for frame, message in (
        ({"x": [1]}, "categories in column 'town', and the table has no such"),
        ({"x": ["1"], "town": ["A"]}, "numbers in column 'x', and the table has '1' there, as text: correct it"),
        (
            {"x": [0.0, -3e38], "town": ["A"] * 2},
            r"'x' has the value -3e\+38, and .* have 0 with .* 0.01",
        ),
        (
            {"x": ["2.5", None, "high"], "town": ["A"] * 3},
            "numbers in column 'x', and the table has 'high' there",
        ),
    ):
        with pytest.raises(MismatchError, match=message):
            seen(Table.of(pandas.DataFrame(frame)), presentation=encoding)


def test_a_column_of_categories_may_be_all_numbers_or_gaps_in_some_rows():
    encoding = TableEncoding((CategoryColumn("code", ("", "1", "x")),))
    for values, units in (([1, 2], [1, 3]), ([1.0, None], [1, 0]), ([None, None], [0, 0]), (["x", "1"], [2, 1])):
        found = seen(Table.of(pandas.DataFrame({"code": values})), presentation=encoding)
        assert found.argmax(1).tolist() == units


@pytest.mark.parametrize("kind", ["sparse", "pyarrow", "masked", "wide", "swapped", "objects"])
def test_columns_of_other_types_are_the_same_numbers_and_categories(kind):
    plain = pandas.DataFrame({"x": [1.5, 2.0, 3.0, 1.5], "n": [1, 2, 3, 4], "town": ["A", "B", None, "A"]})
    given = {
        "sparse": lambda: plain.assign(x=pandas.arrays.SparseArray(plain["x"])),
        "pyarrow": lambda: plain.convert_dtypes(dtype_backend="pyarrow"),
        "masked": lambda: plain.convert_dtypes(),
        "wide": lambda: plain.astype({"x": np.longdouble}),
        "swapped": lambda: plain.astype({"x": ">f8", "n": ">i4"}),
        "objects": lambda: plain.assign(town=["A", "B", pandas.NA, "A"]),
    }[kind]()
    assert torch.equal(seen(Table.of(given)), seen(Table.of(plain)))
    raw = Table.of(given).fetch(torch.arange(4), torch.arange(4), presentations=[Table.of(given).raw])[0]
    assert raw["x"].double().tolist() == plain["x"].tolist()


def test_raw_columns_come_back_as_they_were():
    frame = FRAME.assign(kind=pandas.Categorical([3, 5, 3, None]), small=np.array([1, 2, 3, 4], np.int8))
    table = Table.of(frame).select(torch.tensor([3, 0, 2]))
    found = table.raw.frame(seen(table, presentation=table.raw))
    pandas.testing.assert_frame_equal(found, frame.iloc[[3, 0, 2]].reset_index(drop=True), check_categorical=False)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_files_become_data_sets_with_labels_groups_and_gaps(tmp_path, kind):
    frame = FRAME.assign(y=["no", "yes", "no", "yes"], patient=[7, 7, 8, 9], note="x")
    path = tmp_path / f"rows.{kind}"
    frame.to_csv(path, index=False) if kind == "csv" else frame.to_parquet(path)
    data = open_table(path, label_column="y", group_column="patient", leave_out=["note"])
    assert data.classes == ("no", "yes") and data.train.labels.tolist() == [0, 1, 0, 1]
    assert data.train.groups().tolist() == [0, 0, 1, 2]
    assert torch.equal(seen(data.train.inputs), seen(Table.of(FRAME)))
    assert len(open_table_inputs(path, label_column="y", leave_out=["note", "patient"])) == 4
    for change, error, message in (
        ({"label_column": "z"}, FormatError, "has no column 'z'"),
        ({"leave_out": ["z"]}, FormatError, "has no column 'z'"),
        ({"label_column": "age"}, FormatError, "row 2 has no label in column 'age'"),
    ):
        with pytest.raises(error, match=message):
            open_table(path, **{"label_column": "y", **change})
    frame.assign(y=[0.5, 1.25, 2, 3]).to_csv(tmp_path / "real.csv", index=False)
    with pytest.raises(
        FormatError, match="the label 0.5 in column 'y': classes are needed, and regression is not supported"
    ):
        open_table(tmp_path / "real.csv")


def table_of(count, seed):
    generator = np.random.default_rng(seed)
    frame = pandas.DataFrame({"x": generator.normal(5, 3, count), "z": generator.normal(size=count)})
    frame["town"] = generator.choice(["A", "B", "C"], count)
    labels = ((frame["x"] > 5) ^ (frame["town"] == "C")).astype(int)
    return frame.mask(pandas.DataFrame(generator.random((count, 3)) < 0.05, columns=frame.columns)), labels


def test_a_pipeline_sees_the_raw_columns_and_the_student_the_encoded_ones(tmp_path):
    compose, ensemble = pytest.importorskip("sklearn.compose"), pytest.importorskip("sklearn.ensemble")
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    train, test = table_of(150, 0), table_of(60, 1)
    encoder = compose.ColumnTransformer(
        [("town", OneHotEncoder(handle_unknown="ignore"), ["town"])], remainder="passthrough"
    )
    forest = make_pipeline(encoder, ensemble.RandomForestClassifier(10, random_state=0)).fit(*train)
    with pytest.warns(limbeck.LimbeckWarning, match="more confident on training examples.*cross_val_predict"):
        run = limbeck.distill(
            forest, "mlp", train, test, test=test, epochs=3, precision="float32", out=tmp_path / "run"
        )
    assert run.metrics["teacher"]["test_errors"] == int((forest.predict(test[0]) != test[1]).sum())
    assert run.metrics["teacher"]["title"] == "Pipeline"
    # What was saved encodes rows as the run did, whatever else is in the table.
    again = limbeck.load(tmp_path / "run")
    assert again.presentation == run.student.presentation
    other = limbeck.Examples.of(Table.of(test[0].iloc[:7]), test[1].iloc[:7].to_numpy())
    with torch.no_grad():
        expected = run.student(seen(Table.of(test[0]), range(7), run.student.presentation)).argmax(1)
    found = limbeck.evaluate(again, other.with_presentation(again.presentation))
    assert found["test_errors"] == int((expected != other.labels).sum())


def test_a_column_of_labels_that_was_not_named_is_told(tmp_path):
    rows = "".join(f"{number},{number % 2}\n" for number in range(12))
    (tmp_path / "t.csv").write_text("x,y\n" + rows)
    (told,) = open_table(tmp_path / "t.csv").notes
    assert "'y'" in told and "--label-column" in told
    assert open_table(tmp_path / "t.csv", label_column="y").notes == ()


@pytest.mark.parametrize(("count", "ends"), [(20, "'c18', 'c19'"), (21, "'c17', ... (21 columns), 'c20'")])
def test_many_columns_are_listed_with_their_number(tmp_path, count, ends):
    names = [f"c{number}" for number in range(count)]
    (tmp_path / "t.csv").write_text(",".join(names) + "\n" + ",".join(["1"] * count) + "\n")
    with pytest.raises(limbeck.LimbeckError, match="which column holds the labels") as refused:
        open_table(tmp_path / "t.csv")
    assert str(refused.value).endswith(ends)


def test_a_column_of_numbers_with_a_few_texts_names_the_row(tmp_path):
    rows = [f"{number / 7},{'ab'[number % 2]}" for number in range(3000)]
    rows[5] = "strong,a"
    path = tmp_path / "wine.csv"
    path.write_text("\n".join(["alcohol,label", *rows]))
    with pytest.raises(FormatError, match=r"'alcohol' has numbers, but for 1 of 3,000 rows: row 5 .* has 'strong'"):
        open_table(path, label_column="label")
    path.write_text("\n".join(["alcohol,label", *rows[:400]]))
    with pytest.warns(limbeck.LimbeckWarning, match=r"as 400 categories, .* row 5 .* has 'strong'; if quantities"):
        open_table(path, label_column="label")
    path.write_text("\n".join(["alcohol,label", *rows[6:40], "alcohol,label", *rows[50:60]]))
    with pytest.raises(FormatError, match=r"row 34 .* is the header again: take it out"):
        open_table(path, label_column="label")
    path.write_text("\n".join(["name,label", *(f"n{number},{'ab'[number % 2]}" for number in range(3000))]))
    with pytest.raises(
        FormatError, match=r"are no categories: leave it out, leave_out=\['name'\] \(--leave-out name\)"
    ):
        open_table(path, label_column="label")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b,y\n1,2,3,n\n4,5,6,p\n", "line 2 has 4 fields, and the header has 3: .*R: row.names=FALSE"),
        ("a,b,y\n1,2,n\n4,5,6,p\n", "line 3 has 4 fields, and the header has 3"),
        ('a,y\n"1\n2",n\n\n4\n', "line 5 has 1 field, and the header has 2: was it cut off"),
        ("a;y\n1;n\n4\n", "line 3 has 1 field, and the header has 2"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_rows_with_more_or_fewer_fields_than_the_header_are_refused(tmp_path, text, message, packed):
    path = tmp_path / f"t.csv{'.gz' if packed else ''}"
    path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    with pytest.raises(FormatError, match=message):
        open_table(path, label_column="y")


def test_gaps_at_the_end_of_a_row_empty_lines_and_separators_after_the_last_field_are_taken(tmp_path):
    path = tmp_path / "t.csv"
    for text in ("y,b\nn,\n\n \np,6\n", "y,b\nn,,\np,6,\n"):
        path.write_text(text)
        table = open_table(path, label_column="y").train.inputs
        assert np.array_equal(table.values["b"], [np.nan, 6], equal_nan=True)


def test_frames_and_arrays_are_not_mixed_and_a_model_of_rows_takes_no_array():
    """An array has no columns to encode: it would be taken as encoded rows."""
    frame = pandas.DataFrame({"a": np.arange(20.0), "b": np.arange(20.0) % 7})
    labels, array = np.arange(20) % 2, frame.to_numpy()
    for train, validation in (((frame, labels), (array, labels)), ((array, labels), (frame, labels))):
        with pytest.raises(DataError, match="give all parts as DataFrames, or all as tensors"):
            limbeck.train(torch.nn.Linear(2, 2), train, validation, epochs=1)
    model = torch.nn.Linear(2, 2)
    model.presentation = Table.of(frame).presentation
    for call in (
        lambda: limbeck.predict(model, array),
        lambda: limbeck.evaluate(model, limbeck.Examples.of(array, labels)),
        lambda: limbeck.distill(model, torch.nn.Linear(2, 2), (array, labels), epochs=1),
        lambda: limbeck.evaluate(model, limbeck.Examples.of_labels(array, np.eye(2)[labels].astype(int))),
    ):
        with pytest.raises(MismatchError, match="by their columns, 'a', 'b', .*: give a DataFrame with these columns"):
            call()
    assert len(limbeck.predict(model, frame).labels) == 20


def test_numbers_are_categories_where_it_is_said(tmp_path):
    """Such as postcodes: one-hot, the same as whole numbers, with gaps and in a file without them."""
    path, other = tmp_path / "t.csv", tmp_path / "test.csv"
    path.write_text("y,code,x\n" + "".join(f"{'np'[row % 2]},{[7, 30, ''][row % 3]},{row}\n" for row in range(12)))
    other.write_text("y,code,x\nn,30,1\np,8,2\n")
    data = limbeck.open_data(path, label_column="y", category_columns=("code",), test_data=str(other), validation=0)
    assert data.train.inputs.presentation.columns[0] == CategoryColumn("code", ("", "30", "7"))
    assert seen(data.test.inputs)[:, :4].tolist() == [[0, 1, 0, 0], [0, 0, 0, 1]]
    raw = data.train.inputs.raw
    assert raw.frame(seen(data.train.inputs, presentation=raw))["code"].tolist()[:2] == [7, 30]
    model = torch.nn.Linear(5, 2)
    model.presentation = data.train.inputs.presentation
    frame = pandas.read_csv(other)
    assert len(limbeck.predict(model, frame.drop(columns="y")).labels) == 2
    with pytest.raises(limbeck.LimbeckError, match="has no column 'postcode'"):
        limbeck.open_data(path, label_column="y", category_columns=("postcode",))


def test_words_that_csv_files_have_for_gaps_are_no_names_of_classes(tmp_path):
    """With a separator, a row of the label NA would silently have no label."""
    path = tmp_path / "rows.csv"
    path.write_text("x,label,g\n1,yes,p\n\n2,NA,p\n3,no,None\n")
    for settings in ({}, {"label_separator": ";"}):
        with pytest.raises(FormatError, match="row 1 has 'NA' in column 'label', which stands for a missing value in"):
            open_table(path, **settings)
    path.write_text("x,label,g\n1,yes,p\n2,no,p\n3,no,None\n")
    with pytest.raises(FormatError, match="row 2 has 'None' in column 'g', which stands for a missing value"):
        open_table(path, group_column="g")
    path.write_text("x,label,g\n1,yes,p\n2,,p\n3,no,q\n")
    with pytest.raises(FormatError, match="row 1 has no label in column 'label'"):
        open_table(path)
    assert open_table(path, label_separator=";").train.labels is not None
    pandas.DataFrame({"x": [1, 2], "label": ["NA", "yes"]}).to_parquet(tmp_path / "rows.parquet")
    assert open_table(tmp_path / "rows.parquet").classes == ("NA", "yes")
