"""Predictions for new examples: the model's own answers, named, in each form of file, in bounded memory."""

import csv
import io
import json

import numpy as np
import pandas
import pytest
import torch
from torch import nn

import limbeck
from limbeck.data.table import Table
from limbeck.errors import ConfigError, DataError, FormatError, LimbeckError, LimbeckWarning, MismatchError, RunError
from limbeck.evaluation import prediction
from limbeck.models import MLP, MLPConfig
from limbeck.softtargets.answer_files import read_answers

X = torch.randn(50, 6, generator=torch.Generator().manual_seed(0))
NET = nn.Linear(6, 3)
NAMES = ("ant", "bee", "cat")
with torch.no_grad():
    PROBS = NET(X).softmax(-1).numpy()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    model = MLP(MLPConfig(input_shape=(6,), classes=3, hidden=(4,))).eval()
    limbeck.save_model(folder, model, classes=NAMES)
    with torch.no_grad():
        return folder, model(X).softmax(-1).numpy()


def test_predictions_are_the_model_s_own_answers():
    found = limbeck.predict(NET, X, classes=NAMES)
    assert len(found) == 50 and found.classes == NAMES and list(found.ids) == list(range(50))
    np.testing.assert_allclose(found.probabilities, PROBS, atol=1e-6)
    assert found.labels == [NAMES[number] for number in PROBS.argmax(1)]
    assert limbeck.predict(NET, (X, torch.zeros(50)), device="cpu").labels[0] == str(PROBS[0].argmax())
    both = limbeck.Ensemble([NET, NET], mean="geometric")
    np.testing.assert_allclose(limbeck.predict(both, X, classes=NAMES).probabilities, PROBS, atol=1e-6)


def test_an_answer_that_is_not_a_number_is_no_prediction(tmp_path):
    """Where a network computes infinity less infinity, the first class has no more to say for it than another."""
    huge = X[:5].clone()
    huge[3] = 3e38
    twice = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 3))
    twice[0].weight.data = 10 * torch.eye(6)
    twice[1].weight.data = torch.tensor([[1.0, -1, 0, 0, 0, 0]]).repeat(3, 1)
    found = limbeck.predict(twice, huge, classes=NAMES)
    for asked in (lambda: found.labels, lambda: found.write(tmp_path / "out.csv")):
        with pytest.raises(DataError, match=r"answer to example 3 is not a number .*, as to 1 of these 5: are its"):
            asked()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["csv", "parquet", "jsonl"])
@pytest.mark.parametrize("top", [None, 2])
def test_each_form_of_file_holds_them(run, tmp_path, kind, top):
    folder, probs = run
    path = tmp_path / f"out.{kind}"
    assert limbeck.predict(folder, X).write(path, top=top) == 50
    frame = {"csv": pandas.read_csv, "parquet": pandas.read_parquet,
             "jsonl": lambda p: pandas.read_json(p, lines=True)}[kind](path)  # fmt: skip
    assert frame["id"].tolist() == list(range(50))
    if top is None:
        assert list(frame.columns) == ["id", "label", "prob_ant", "prob_bee", "prob_cat"]
        np.testing.assert_allclose(frame[[f"prob_{name}" for name in NAMES]].to_numpy(), probs, atol=1e-6)
        assert frame["label"].tolist() == [NAMES[number] for number in probs.argmax(1)]
    else:
        assert list(frame.columns) == ["id", "class_1", "prob_1", "class_2", "prob_2"]
        np.testing.assert_allclose(frame[["prob_1", "prob_2"]].to_numpy(), -np.sort(-probs, 1)[:, :2], atol=1e-6)
        assert frame["class_1"].tolist() == [NAMES[number] for number in probs.argmax(1)]
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_blocks_follow_each_other_and_are_small(monkeypatch, tmp_path):
    monkeypatch.setattr(prediction, "_fitting", lambda *_: 7)
    found, seen = limbeck.predict(NET, X, classes=NAMES), []
    sizes = [len(ids) for ids, _ in found.blocks(lambda done, count: seen.append((done, count)))]
    assert sizes == [7] * 7 + [1] and seen[-1] == (50, 50)
    found.write(tmp_path / "out.parquet")
    assert pandas.read_parquet(tmp_path / "out.parquet")["id"].tolist() == list(range(50))
    stream = io.StringIO()
    found.write(stream, kind="jsonl")
    rows = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert rows[49]["id"] == 49 and rows[8]["prob_bee"] == pytest.approx(PROBS[8, 1], abs=1e-6)


def test_a_write_that_fails_leaves_nothing(tmp_path, monkeypatch):
    found = limbeck.predict(NET, X, classes=NAMES)
    with pytest.raises(RunError, match="cannot write"):
        found.write(tmp_path / "missing" / "out.csv")

    def stop(done, count):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        found.write(tmp_path / "out.csv", progress=stop)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda run: limbeck.predict(run, X[:, :5]), MismatchError, r"cannot take an example of shape \(5,\)"),
        (lambda run: limbeck.predict(run, X, classes=["a", "b"]), MismatchError, "outputs 3 classes"),
        (lambda run: limbeck.predict(run, "nothing.npz"), FormatError, "no such file"),
        (
            lambda run: limbeck.predict(run, X, classes=NAMES).write("x.txt"),
            ConfigError,
            "must have the extension .csv, .parquet",
        ),
        (lambda run: limbeck.predict(run, X).write("x.csv", top=4), ConfigError, "top must be from 1 to 3"),
        (lambda run: limbeck.predict(run, "x.npz", id_column="id"), ConfigError, "id_column is for rows of files"),
    ],
)
def test_what_does_not_fit_is_told_in_a_line(run, call, error, message):
    with pytest.raises(error, match=message):
        call(run[0])


def test_rows_of_a_table_are_encoded_as_the_training_rows_were(tmp_path):
    generator = np.random.default_rng(0)
    frame = pandas.DataFrame({"x": generator.normal(5, 2, 60), "town": generator.choice(["A", "B"], 60)})
    labels = (frame["x"] > 5).astype(int)
    encoding = Table.of(frame).presentation
    model = MLP(MLPConfig(input_shape=(encoding.width,), classes=2, hidden=(4,))).eval()
    model.presentation = encoding
    limbeck.save_model(tmp_path / "m", model, classes=["no", "yes"])
    new = frame.iloc[5:9].assign(customer=["k", "l", "m", "n"], when="2020-01-01", y=labels.iloc[5:9])
    new.loc[6, "town"] = "C"
    new[["when", "town", "y", "customer", "x"]].to_csv(tmp_path / "new.csv", index=False)
    unknown = r"1 of 4 rows have a category in column 'town' .* such as 'C'"
    with pytest.warns(LimbeckWarning, match=unknown):
        found = limbeck.predict(tmp_path / "m", tmp_path / "new.csv", id_column="customer")
    with pytest.warns(LimbeckWarning, match=unknown):
        limbeck.evaluate(tmp_path / "m", limbeck.Examples.of(Table.of(new[["x", "town"]]), new["y"].to_numpy()))
    new.assign(town=[None, *new["town"][1:]]).to_csv(tmp_path / "gap.csv", index=False)
    with pytest.warns(LimbeckWarning, match="2 of 4 rows .* in column 'town' .* such as"):
        limbeck.predict(tmp_path / "m", tmp_path / "gap.csv")
    new.assign(x=["1", "2", "high", "3"]).to_csv(tmp_path / "text.csv", index=False)
    with pytest.raises(MismatchError, match=r"text.csv: .* numbers in column 'x', and the table has 'high' there"):
        limbeck.predict(tmp_path / "m", tmp_path / "text.csv")
    rows = (new["x"].to_numpy() - frame["x"].mean()) / frame["x"].std(ddof=0)
    units = [[town == "A", town == "B", town == "C"] for town in new["town"]]
    with torch.no_grad():
        expected = model(torch.tensor(np.column_stack([rows, units]), dtype=torch.float32)).softmax(-1).numpy()
    np.testing.assert_allclose(found.probabilities, expected, atol=1e-6)
    assert list(found.ids) == ["k", "l", "m", "n"]
    with pytest.warns(LimbeckWarning, match=unknown):
        np.testing.assert_allclose(limbeck.predict(tmp_path / "m", new).probabilities, expected, atol=1e-6)
    limbeck.predict(tmp_path / "m", new.assign(town="A"))  # all known: no warning
    new.drop(columns=["town"]).to_csv(tmp_path / "less.csv", index=False)
    with pytest.raises(MismatchError, match=r"less.csv has no column 'town': .*the model takes that column"):
        limbeck.predict(tmp_path / "m", tmp_path / "less.csv")
    (tmp_path / "less.npz").touch()
    with pytest.raises(MismatchError, match="is not a .csv or .parquet file"):
        limbeck.predict(tmp_path / "m", tmp_path / "less.npz")
    with pytest.raises(FormatError, match=r"gone\.csv: there is no such file"):
        limbeck.predict(tmp_path / "m", tmp_path / "gone.csv")
    with pytest.raises(LimbeckError, match="has no column 'z'"):
        limbeck.predict(tmp_path / "m", tmp_path / "new.csv", id_column="z")


def test_images_are_named_by_their_files(tmp_path):
    image = pytest.importorskip("PIL.Image")
    model = MLP(MLPConfig(input_shape=(1, 4, 4), classes=2, hidden=(4,))).eval()
    limbeck.save_model(tmp_path / "m", model, classes=["no", "yes"])
    pixels = np.random.default_rng(0).integers(0, 255, (3, 4, 4), np.uint8)
    (tmp_path / "new" / "more").mkdir(parents=True)
    names = ["a.png", "b.png", "more/c.png"]
    for name, each in zip(names, pixels, strict=True):
        image.fromarray(each).save(tmp_path / "new" / name)
    found = limbeck.predict(tmp_path / "m", tmp_path / "new")
    assert sorted(found.ids) == names
    with torch.no_grad():
        expected = model(torch.from_numpy(pixels)[:, None] / 255).softmax(-1).numpy()
    order = [names.index(name) for name in found.ids]
    np.testing.assert_allclose(found.probabilities, expected[order], atol=1e-6)


def test_predictions_are_answers_that_a_store_is_written_from(run, tmp_path):
    folder, probs = run
    limbeck.predict(folder, X).write(tmp_path / "out.csv")
    data = limbeck.DataSet("some", NAMES, limbeck.Examples.of(X))
    teacher = read_answers(tmp_path / "out.csv", classes=NAMES, index_column="id").teacher(data)
    found = teacher.log_probs(data.train.batch(torch.arange(50)), 1.0).exp().numpy()
    np.testing.assert_allclose(found, probs, atol=1e-5)
    with open(tmp_path / "out.csv", newline="") as file:
        assert next(csv.reader(file))[0] == "id"
