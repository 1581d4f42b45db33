"""Labels of rows: one or several of each, in columns, lists and texts with separators; parts in files of their own."""

import json

import numpy as np
import pandas
import pytest
import torch
from PIL import Image

from limbeck import open_data
from limbeck.errors import ConfigError, DataError, FormatError, LimbeckError, MismatchError
from limbeck.options import DataOptions
from limbeck.runs.inputs import check_classes, teacher_for
from limbeck.softtargets import SoftTargets
from limbeck.softtargets.answer_files import read_answers
from limbeck.teachers.onnx_file import OnnxTeacher

NAMES = ("red", "round", "sweet")
TRUTH = np.array([[int(n % 2 == 0), int(n % 3 == 0), int(n % 5 < 2)] for n in range(40)])
HELD = [[name for name, flag in zip(NAMES, row, strict=True) if flag] for row in TRUTH]
VALUES = np.random.default_rng(0).normal(size=(40, 3)).round(3)


@pytest.fixture
def rows(tmp_path):
    """The same labels in each form that a file may have them in, with the settings that read it."""
    frame = pandas.DataFrame(VALUES, columns=["a", "b", "c"]).assign(fruit=[f"f{n}" for n in range(40)])
    columns = frame.assign(**{name: TRUTH[:, k] for k, name in enumerate(NAMES)})
    columns.to_csv(tmp_path / "columns.csv", index=False)
    frame.assign(kinds=[" ; ".join(held) for held in HELD]).to_csv(tmp_path / "joined.csv", index=False)
    frame.assign(kinds=HELD).to_parquet(tmp_path / "lists.parquet")
    columns.assign(**{name: columns[name].astype(bool) for name in NAMES}).to_parquet(tmp_path / "truth.parquet")
    return [
        (tmp_path / "columns.csv", {"label_columns": NAMES}),
        (tmp_path / "joined.csv", {"label_column": "kinds", "label_separator": ";"}),
        (tmp_path / "lists.parquet", {"label_column": "kinds"}),
        (tmp_path / "truth.parquet", {"label_columns": NAMES}),
        (frame.assign(kinds=HELD), {"label_column": "kinds"}),
    ]


def truth_of(data):
    """Whether each label holds, by the name of the example."""
    found = {}
    for part in data.parts().values():
        for name, which, label in zip(part.names, part.inputs.which, part.labels, strict=True):
            found.setdefault(name, [None] * len(NAMES))[which] = int(label)
    return found


def test_several_labels_of_a_table_s_rows_in_every_form(rows):
    for source, settings in rows:
        data = open_data(source, id_column="fruit", validation=0.2, **settings)
        assert data.classes == ("no", "yes") and data.outputs == NAMES
        assert truth_of(data) == {f"f{n}": TRUTH[n].tolist() for n in range(40)}
        assert data.train.inputs.base.presentation.width == 3
        assert not set(data.train.names) & set(data.validation.names)


def test_several_labels_of_texts_and_images(tmp_path):
    lines = [json.dumps({"text": f"w{n}", "kinds": held, "author": n // 4}) for n, held in enumerate(HELD)]
    (tmp_path / "some.jsonl").write_text("\n".join(lines))
    data = open_data(tmp_path / "some.jsonl", text_column="text", label_column="kinds", group_column="author")
    assert data.outputs == NAMES
    assert data.train.groups().unique().numel() + data.test.groups().unique().numel() == 10  # authors are the clusters
    assert not set((data.train.index // 12).tolist()) & set((data.test.index // 12).tolist())
    for n in range(40):
        Image.new("L", (4, 4), 6 * n).save(tmp_path / f"{n}.png")
    rows = [f'{n}.png,"{",".join(held)}"' for n, held in enumerate(HELD)]
    (tmp_path / "images.csv").write_text("\n".join(["file,kinds", *rows]))
    data = open_data(tmp_path / "images.csv", image_column="file", label_column="kinds", label_separator=",")
    assert truth_of(data) == {f"{n}.png": TRUTH[n].tolist() for n in range(40)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label_columns": ("red", "a")}, r"row 0 has 0\.126 in column 'a', and 0 or 1 is needed"),
        ({"label_columns": ("red", "blue")}, "has no column 'blue'"),
        ({"label_columns": NAMES, "label_column": "red"}, "label_columns are one column per label, and label_column"),
        ({"label_columns": NAMES, "label_separator": ";"}, "and label_separator is for a single column: leave it out"),
        ({"label_column": "b"}, "classes are needed, and regression is not supported"),
        ({"label_columns": ()}, "label_columns must be at least one column"),
        ({"label_column": "red", "label_separator": ""}, "label_separator must be at least one character"),
    ],
)
def test_labels_that_cannot_be_read_are_told(rows, change, message):
    with pytest.raises(LimbeckError, match=message):
        open_data(rows[0][0], **change)


def write(path, first, count, **more):
    """Rows of a table whose label is one of two, and which depends on nothing."""
    numbers = range(first, first + count)
    columns = {"x": [n / 8 for n in numbers], "town": [f"t{n % 3}" for n in numbers]}
    columns |= {"id": [f"r{n}" for n in numbers], "y": ["no" if n % 2 else "yes" for n in numbers]}
    frame = pandas.DataFrame(columns)
    frame.assign(**more).to_csv(path, index=False)
    return str(path)


@pytest.fixture
def parted(tmp_path):
    return {"data": write(tmp_path / "train.csv", 0, 20), "validation_data": write(tmp_path / "val.csv", 20, 6),
            "test_data": write(tmp_path / "held_out.csv", 26, 8)}  # fmt: skip


def test_parts_are_files_of_their_own(parted, tmp_path):
    data = open_data(DataOptions(**parted, id_column="id"))
    assert {name: len(part) for name, part in data.parts().items()} == {"train": 20, "validation": 6, "test": 8}
    assert data.test.names.tolist() == [f"r{n}" for n in range(26, 34)]
    assert [column.name for column in data.train.presentation.columns] == ["x", "town"]
    assert data.test.presentation == data.train.presentation and data.classes == ("no", "yes")
    without = open_data(DataOptions(**parted, leave_out=("town", "id")))
    assert [column.name for column in without.train.presentation.columns] == ["x"]
    folder = open_data(tmp_path, id_column="id", test_data=parted["test_data"])
    assert folder.identity() == data.identity() and folder.name == tmp_path.stem


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("test_data", {"y": "maybe"}, r"held_out.csv: has the label 'maybe', which no training row has"),
        ("test_data", {"note": 1}, r"held_out.csv: has the column 'note', which the training rows do not have"),
        ("data", {"note": 1}, r"val.csv: has no column 'note', which the training rows have"),
        ("validation_data", {"y": None}, r"val.csv: row 0 has no label in column 'y'"),
    ],
)
def test_parts_that_do_not_agree_are_refused_by_name(parted, part, change, message):
    path = pandas.read_csv(parted[part]).assign(**change).to_csv(parted[part], index=False)
    assert path is None
    with pytest.raises(FormatError, match=message):
        open_data(DataOptions(**parted, id_column="id"))


def test_a_part_that_is_there_twice_or_missing_is_refused(parted, tmp_path):
    with pytest.raises(ConfigError, match="there is a validation part in .* already, and validation_data"):
        open_data(tmp_path, validation_data=parted["test_data"])
    with pytest.raises(FormatError, match=r"gone.csv: there is no such file"):
        open_data(DataOptions(**{**parted, "test_data": str(tmp_path / "gone.csv")}))
    with pytest.raises(ConfigError, match="a mapping of tables needs one named train, and has dev"):
        open_data({"dev": pandas.DataFrame({"x": [1]})})
    frame = pandas.read_csv(parted["data"])
    both = open_data({"train": frame, "dev": frame[:4]}, id_column="id", test_data=parted["test_data"])
    assert [len(part) for part in both.parts().values()] == [20, 4, 8]


# Answers that exist already.


def answers(tmp_path, data, table, **settings):
    """Probabilities of the training examples as a file of answers has them."""
    path = tmp_path / "answers.csv"
    table.to_csv(path, index=False)
    several = data.outputs != data.classes
    saved = read_answers(path, classes=data.outputs, several=several, **settings)
    batch = data.train.unseen().batch(torch.arange(len(data.train)))
    return saved.teacher(data).log_probs(batch, 1.0).exp().numpy()


def test_answers_are_matched_by_names_in_any_order(parted, tmp_path):
    data = open_data(DataOptions(**{**parted, "validation_data": None}, id_column="id", validation=0.25))
    share = np.random.default_rng(1).uniform(size=20)
    table = pandas.DataFrame({"id": [f"r{n}" for n in range(20)], "prob_no": share, "prob_yes": 1 - share})
    wanted = [share[int(name[1:])] for name in data.train.names]
    for order in (range(20), np.random.default_rng(2).permutation(20)):
        assert np.allclose(answers(tmp_path, data, table.iloc[order])[:, 0], wanted, atol=1e-6)
    renamed = table.rename(columns={"id": "row key"}).sample(frac=1, random_state=0)
    assert np.allclose(answers(tmp_path, data, renamed, index_column="row key")[:, 0], wanted, atol=1e-6)
    assert np.allclose(answers(tmp_path, data, renamed, id_column="row key")[:, 0], wanted, atol=1e-6)
    some = [name for name in data.train.names][:4]
    missing = table[~table["id"].isin(some)]
    with pytest.raises(MismatchError, match=f"has no row for '{some[0]}', '{some[1]}', '{some[2]}' and 1 more; its"):
        answers(tmp_path, data, missing)
    with pytest.raises(FormatError, match="names 'r3', 'r4' more than once: one row for each is needed"):
        answers(tmp_path, data, pandas.concat([table, table[3:5]]))
    twice = write(tmp_path / "twice.csv", 0, 20, id=["same"] * 2 + [f"r{n}" for n in range(18)])
    other = open_data(DataOptions(data=twice, id_column="id", validation=0.0))
    with pytest.raises(FormatError, match="has examples named 'same' more than once|names 'same' more than once"):
        answers(tmp_path, other, table.assign(id=other_names(other, 20)))


def other_names(data, count):
    return [*data.train.names, *data.test.names][:count]


def test_answers_name_the_files_of_images_in_folders_and_lists(tmp_path):
    generator = np.random.default_rng(0)
    for n in range(20):
        folder = tmp_path / "images" / ("cat" if n % 2 else "dog")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 255, (6, 6), np.uint8)).save(folder / f"{n}.png")
    share = generator.uniform(size=20)
    table = pandas.DataFrame({"id": [f"{'cat' if n % 2 else 'dog'}/{n}.png" for n in range(20)], "cat": share,
                              "dog": 1 - share}).sample(frac=1, random_state=1)  # fmt: skip
    data = open_data(tmp_path / "images", validation=0.2)
    wanted = [share[int(name.split("/")[1][:-4])] for name in data.train.names]
    assert np.allclose(answers(tmp_path, data, table)[:, 0], wanted, atol=1e-6)
    elsewhere = table.assign(id=[f"/data/{name.split('/')[1]}" for name in table["id"]])
    assert np.allclose(answers(tmp_path, data, elsewhere)[:, 0], wanted, atol=1e-6)
    table.assign(label=[name[:3] for name in table["id"]]).to_csv(tmp_path / "images" / "list.csv", index=False)
    listed = open_data(tmp_path / "images" / "list.csv", image_column="id")
    wanted = [share[int(name.split("/")[1][:-4])] for name in listed.train.names]
    assert np.allclose(answers(tmp_path, listed, table)[:, 0], wanted, atol=1e-6)


def test_saved_answers_of_several_labels(rows, tmp_path):
    source, settings = rows[0]
    data = open_data(source, id_column="fruit", **settings)
    logits = np.random.default_rng(3).normal(size=(40, 3)) * 3
    held = 1 / (1 + np.exp(-logits))
    wanted = [held[int(name[1:]), which] for name, which in zip(data.train.names, data.train.inputs.which, strict=True)]
    named = pandas.DataFrame(held, columns=[f"prob_{name}" for name in NAMES]).assign(id=[f"f{n}" for n in range(40)])
    shuffled = named.sample(frac=1, random_state=0)
    assert np.allclose(answers(tmp_path, data, shuffled)[:, 1], wanted, atol=1e-6)
    plain = pandas.DataFrame(held, columns=NAMES)
    assert np.allclose(answers(tmp_path, data, plain)[:, 1], wanted, atol=1e-6)
    scores = pandas.DataFrame(logits, columns=NAMES)
    assert np.allclose(answers(tmp_path, data, scores)[:, 1], wanted, atol=1e-6)
    for kind, values in (("probs", held), ("logits", logits), ("log_probs", np.log(held))):
        teacher = SoftTargets.from_array(**{kind: values}, examples=data)
        batch = data.train.unseen().batch(torch.arange(len(data.train)))
        assert np.allclose(teacher.log_probs(batch, 1.0).exp()[:, 1], wanted, atol=1e-6)
        cooled = teacher.log_probs(batch, 3.0).exp()[:, 1].numpy()
        assert np.allclose(cooled, 1 / (1 + (1 / np.array(wanted) - 1) ** (1 / 3)), atol=1e-5)
    for kind, values, message in (
        ("logits", held, "as after a sigmoid: a second one would flatten them; give them as probs"),
        ("probs", logits, "which is not a probability of a label: are they logits?"),
        ("probs", held[:, :2], "have 2 columns, and there are 3 labels"),
        ("probs", held[:-1], "there are 39 rows of saved answers, and 36 examples"),
    ):
        with pytest.raises(DataError, match=message):
            SoftTargets.from_array(**{kind: values}, examples=data)


def test_estimators_of_several_labels_in_both_forms_of_scikit_learn(rows):
    ensemble = pytest.importorskip("sklearn.ensemble")
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.multioutput import MultiOutputClassifier

    data = open_data(rows[0][0], leave_out=("fruit",), label_columns=NAMES)
    constant = np.column_stack([TRUTH[:, 0], np.zeros(40, int), TRUTH[:, 2]])
    batch = data.train.batch(torch.arange(len(data.train)))
    for made, truth in (
        (ensemble.RandomForestClassifier(5, random_state=0), TRUTH),
        (MultiOutputClassifier(LogisticRegression()), TRUTH),
        (OneVsRestClassifier(LogisticRegression()), TRUTH),
        (ensemble.RandomForestClassifier(5, random_state=0), constant),
    ):
        made.fit(VALUES, truth)
        found = teacher_for(made, data).bind(data.train).log_probs(batch, 1.0).exp().numpy()
        given = made.predict_proba(VALUES)
        if isinstance(given, list):
            given = np.stack([each[:, 1] if each.shape[1] == 2 else np.zeros(40) for each in given], 1)
        wanted = given[(data.train.index // 3).numpy(), (data.train.index % 3).numpy()]
        assert np.allclose(found[:, 1], wanted, atol=1e-6) and np.allclose(found.sum(1), 1)
    two = MultiOutputClassifier(LogisticRegression()).fit(VALUES, TRUTH[:, :2])
    with pytest.raises(MismatchError, match="has 2 labels, and the data have 3"):
        teacher_for(two, data).bind(data.train).log_probs(batch, 1.0)
    with pytest.raises(DataError, match="is a regressor, and regression is not supported: give a classifier"):
        teacher_for(ensemble.RandomForestRegressor(2).fit(VALUES, VALUES[:, 0]), data)


@pytest.mark.parametrize("ending", ["logits", "sigmoid"])
def test_onnx_files_of_several_labels(rows, tmp_path, ending):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(3, 3), *([torch.nn.Sigmoid()] if ending == "sigmoid" else [])).eval()
    onnx = pytest.importorskip("onnx")
    weight, bias = (each.detach().numpy() for each in (net[0].weight, net[0].bias))
    nodes = [onnx.helper.make_node("Gemm", ["x", "w", "b"], ["z"], transB=1)]
    nodes.append(onnx.helper.make_node("Sigmoid" if ending == "sigmoid" else "Identity", ["z"], ["out"]))
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        nodes, "net", [value("x", 1, ["n", 3])], [value("out", 1, ["n", 3])],
        [onnx.numpy_helper.from_array(weight, "w"), onnx.numpy_helper.from_array(bias, "b")],
    )  # fmt: skip
    made = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(made, tmp_path / "net.onnx")
    data = open_data(rows[0][0], leave_out=("fruit",), label_columns=NAMES)
    teacher = teacher_for(OnnxTeacher(tmp_path / "net.onnx"), data).bind(data.train)
    batch = data.train.batch(torch.arange(len(data.train)))
    rows_seen = data.train.inputs.base.fetch(torch.arange(40), torch.arange(40))[0]
    with torch.no_grad():
        answered = net(rows_seen)
    held = answered if ending == "sigmoid" else torch.sigmoid(answered)
    wanted = held[data.train.index // 3, data.train.index % 3]
    assert torch.allclose(teacher.log_probs(batch, 1.0).exp()[:, 1], wanted, atol=1e-6)


def test_models_of_other_labels_are_refused_by_name(rows):
    from limbeck.data.multi_label import ManyLabels

    data = open_data(rows[0][0], label_columns=NAMES, leave_out=("fruit",))
    model = torch.nn.Linear(3, 3)
    model.presentation = ManyLabels(("round", "red", "sweet"))
    with pytest.raises(MismatchError, match="has the labels round, red, sweet, and .* has red, round, sweet"):
        check_classes("teacher", model, data)
