"""Saved answers as teachers: what is checked, how rows are keyed, and top-k answers against whole rows."""

import numpy as np
import pandas
import pytest
import torch
from torch import nn

import limbeck
from limbeck.data import DataSet
from limbeck.data.splits import cut_validation
from limbeck.errors import DataError, LimbeckWarning, MismatchError
from limbeck.teachers.answer_kinds import guessed_kind, kind_of

GENERATOR = np.random.default_rng(3)
X = torch.from_numpy(GENERATOR.normal(size=(60, 5)).astype(np.float32))
Y = torch.arange(60) % 4
LOGITS = GENERATOR.normal(size=(60, 4)).astype(np.float32) * 3
NAMES = ("a", "b", "c", "d")
EXAMPLES = limbeck.Examples.of(X, Y)


def softmax(logits, temperature=1.0):
    powers = np.exp(logits.astype(np.float64) / temperature)
    return powers / powers.sum(1, keepdims=True)


PROBS = softmax(LOGITS)
from_array = limbeck.SoftTargets.from_array


def asked(teacher, rows, temperature=1.0, examples=EXAMPLES):
    return teacher.log_probs(examples.batch(torch.tensor(list(rows))), temperature).exp().numpy()


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_probabilities_their_logarithms_and_logits_are_the_same_teacher(temperature):
    expected = softmax(LOGITS, temperature)[[7, 2]]
    for given in ({"probs": PROBS}, {"log_probs": np.log(PROBS)}, {"logits": LOGITS}, {"logits": np.log(PROBS)}):
        teacher = from_array(**given, examples=EXAMPLES)
        assert np.allclose(asked(teacher, [7, 2], temperature), expected, atol=1e-6)
        assert teacher.has_logits


def read_only(array):
    array = array.copy()
    array.setflags(write=False)
    return array


@pytest.mark.parametrize(
    "stored", [lambda a: a.astype(">f8"), lambda a: a.astype(">f4"), lambda a: a.astype(np.longdouble), read_only]
)
def test_arrays_of_every_layout_are_the_same_teacher(stored):
    assert np.allclose(asked(from_array(probs=stored(PROBS), examples=EXAMPLES), range(60)), PROBS, atol=1e-6)
    linear = X.numpy()[:, :4] * 2
    found = limbeck.predict(lambda x: stored(2 * x.numpy()[:, :4]), X, classes=NAMES).probabilities
    assert np.allclose(found, softmax(linear), atol=1e-6)

    class Looked:
        classes = NAMES

        def log_probs(self, batch, temperature):
            return stored(np.log(softmax(LOGITS[batch.index.numpy()], temperature)))[::-1][::-1]

    assert np.allclose(limbeck.predict(Looked(), X).probabilities, PROBS, atol=1e-6)


def test_answers_that_are_no_numbers_are_refused_by_name():
    for odd in (LOGITS.astype(object), LOGITS.astype("M8[s]"), LOGITS.astype(complex)):
        with pytest.raises(DataError, match="logits of the teacher <lambda> must be numbers, and are of type"):
            limbeck.predict(lambda x, odd=odd: odd[: len(x)], X)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"logits": PROBS}, "second softmax would flatten them; give them as probs"),
        ({"probs": LOGITS}, "they look like logits: give them as logits"),
        ({"probs": np.log(PROBS)}, "look like log-probabilities: give them as log_probs"),
        ({"log_probs": PROBS}, "look like probabilities: give them as probs"),
        ({"log_probs": LOGITS}, "sums to .* after exp; they look like logits"),
        ({"probs": 100 * PROBS}, "percentages: divide them by 100"),
        ({"probs": 1 / (1 + np.exp(-LOGITS))}, "after a sigmoid"),
        ({"probs": PROBS[:, :3]}, "classes or decimals are missing"),
        ({"logits": np.where(np.arange(60)[:, None] == 9, np.inf, LOGITS)}, "row 9 of"),
        ({"probs": PROBS[:50]}, "50 rows of saved answers, and 60 examples"),
        ({"probs": PROBS, "logits": LOGITS}, "exactly one of probs, log_probs and logits: 2"),
        ({"probs": PROBS, "classes": ["a", "b"]}, "4 columns, and there are 2 classes"),
        ({"probs": PROBS, "index": np.zeros(60, int)}, "names example 0 twice"),
        ({"probs": PROBS, "index": np.arange(60) + 1}, "no row for 1 of 60 examples, the first is example 0"),
        ({"probs": PROBS, "index": np.arange(60) / 2}, "one whole number for each of 60 rows"),
        ({"probs": [["x", "y"]] * 60}, "must be numbers"),
    ],
)
def test_what_is_not_what_it_is_said_to_be_is_refused_with_its_cure(given, message):
    with pytest.raises(DataError, match=message):
        from_array(**given, examples=EXAMPLES)


def test_rounded_rows_are_taken_and_made_to_sum_to_one():
    rows = [(PROBS.round(4), 2e-3), (PROBS.astype(np.float16), 2e-3), (PROBS.round(2), 2e-2)]
    for rounded, near in [*rows, (PROBS.round(3).astype(np.float32), 2e-3)]:
        assert guessed_kind(rounded) == kind_of(rounded) == "probs"
        found = asked(from_array(probs=rounded, examples=EXAMPLES), list(range(60)))
        assert np.allclose(found.sum(1), 1, atol=1e-6)
        assert np.allclose(found, PROBS, atol=near)
    hard = np.eye(4)[Y]
    assert asked(from_array(probs=hard, examples=EXAMPLES), [5], 4.0).tolist() == [[0, 1, 0, 0]]
    assert [kind_of(rows) for rows in (PROBS, np.log(PROBS), LOGITS)] == ["probs", "log_probs", "logits"]


def test_values_that_a_softmax_would_flatten_are_not_guessed_to_be_logits():
    """Such as answers after a sigmoid, with classes left out, and percentages."""
    sigmoid = 1 / (1 + np.exp(-LOGITS))
    for values in (sigmoid, PROBS[:, :3], 100 * PROBS, (100 * PROBS).round()):
        assert kind_of(values) == "logits" and guessed_kind(values) == "probs"
        with pytest.raises(DataError, match="sums to"):
            from_array(probs=values, examples=EXAMPLES)
    for values in (LOGITS, np.abs(LOGITS) + 1, LOGITS.round(1)):
        assert guessed_kind(values) == "logits"
    assert guessed_kind(np.log(PROBS)) == "log_probs"
    uneven = PROBS.round(2)
    uneven[7, 0] += 0.2
    with pytest.raises(DataError, match="row 7 sums to 1.2"):
        from_array(probs=uneven, examples=EXAMPLES)


@pytest.mark.parametrize("decimals", [1, 2, 3])
def test_rounded_log_probabilities_are_taken(decimals):
    rounded = np.log(PROBS).round(decimals)
    assert kind_of(rounded) == "log_probs"
    found = asked(from_array(log_probs=rounded, examples=EXAMPLES), list(range(60)))
    assert np.allclose(found, PROBS, atol=0.5 * 10**-decimals)
    with pytest.raises(DataError, match="to 1.* after exp; they look like logits"):
        from_array(log_probs=rounded + 0.2, examples=EXAMPLES)
    rounded[3] = [0, -np.inf, -np.inf, -np.inf]
    assert asked(from_array(log_probs=rounded, examples=EXAMPLES), [3]).tolist() == [[1, 0, 0, 0]]


def test_rows_are_keyed_by_their_index_and_columns_by_their_names():
    order = GENERATOR.permutation(60)
    teacher = from_array(probs=PROBS[order], index=order, examples=EXAMPLES)
    assert np.allclose(asked(teacher, [11, 3]), PROBS[[11, 3]], atol=1e-6)
    frame = pandas.DataFrame(PROBS[:, ::-1], columns=list(NAMES[::-1]))
    teacher = from_array(probs=frame, classes=NAMES, examples=EXAMPLES)
    assert np.allclose(asked(teacher, [11, 3]), PROBS[[11, 3]], atol=1e-6)
    with pytest.raises(MismatchError, match="columns of the saved answers are not the classes: 'e'"):
        from_array(probs=frame, classes=("b", "c", "d", "e"), examples=EXAMPLES)


@pytest.mark.parametrize("columns", [3, 5])
def test_answers_of_another_number_of_classes_are_refused_before_anything_is_trained(columns, tmp_path):
    saved = from_array(logits=np.zeros((60, columns)) + np.arange(columns), examples=EXAMPLES)
    pair, net, out = ((X, Y), (X + 1, Y)), nn.Linear(5, 4), tmp_path / "out"
    rule, fine = limbeck.RankRule(energy=0.9), limbeck.FineTuning(finetune_epochs=1)
    for call in (
        lambda: limbeck.distill(saved, net, *pair, out=out),
        lambda: limbeck.distill(limbeck.Ensemble([saved, net], mean="geometric"), net, *pair, out=out),
        lambda: limbeck.tune(saved, net, *pair, out=out),
        lambda: limbeck.compare_methods(saved, "mlp", *pair, test=(X + 2, Y), out=out),
        lambda: limbeck.compress(net, *pair, rule=rule, teacher=saved, finetuning=fine),
    ):
        with pytest.raises(MismatchError, match=f"the teacher has {columns} classes, and .* has 4"):
            call()
    assert not out.exists()


def test_answers_to_whole_data_serve_the_training_examples_that_are_left():
    data = cut_validation(DataSet("some", NAMES, EXAMPLES), 0.25)
    teacher = from_array(probs=PROBS, examples=data).bind(data.train)
    rows = data.train.index[[4, 9]]
    assert np.allclose(asked(teacher, [4, 9], examples=data.train), PROBS[rows], atol=1e-6)
    own = from_array(probs=PROBS[data.train.index], examples=data).bind(data.train)
    assert np.allclose(asked(own, [4, 9], examples=data.train), PROBS[rows], atol=1e-6)
    with pytest.raises(MismatchError, match=r"50 rows of saved answers, and 45 examples \(60 with those set aside"):
        from_array(probs=PROBS[:50], examples=data)


def test_saved_answers_refuse_other_data_and_another_number_of_examples():
    other = limbeck.Examples.of(X + 1)
    with pytest.raises(MismatchError, match="belong to other data"):
        from_array(probs=PROBS, examples=EXAMPLES).bind(other)
    with pytest.raises(MismatchError, match="60 rows of saved answers, and 40 examples"):
        from_array(probs=PROBS).bind(limbeck.Examples.of(X[:40]))
    first_used = from_array(probs=PROBS).bind(EXAMPLES)
    with pytest.raises(MismatchError, match="belong to other data"):
        first_used.bind(other)


def top(k):
    ids = np.argsort(-PROBS, 1)[:, :k]
    return np.take_along_axis(PROBS, ids, 1), ids


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_top_k_answers_are_whole_rows_with_an_even_tail(temperature):
    values, ids = top(2)
    full = np.repeat((1 - values.sum(1, keepdims=True)) / 2, 4, 1)
    np.put_along_axis(full, ids, values, 1)
    expected = softmax(np.log(full), temperature)
    named = np.asarray(NAMES, dtype=object)[ids]
    for given in ({"probs": values, "ids": ids}, {"log_probs": np.log(values), "ids": named}):
        teacher = from_array(**given, classes=NAMES, examples=EXAMPLES)
        assert np.allclose(asked(teacher, [8, 1], temperature), expected[[8, 1]], atol=1e-6)
        assert not teacher.has_logits
    assert teacher.fingerprint != from_array(probs=values, ids=ids[:, ::-1], classes=NAMES).fingerprint


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": None}, r"how many classes there are: give classes"),
        ({"ids": top(2)[1] + 2}, r"and there are 4"),
        ({"ids": np.zeros((60, 2), int)}, "names a class twice"),
        ({"ids": np.full((60, 2), "x")}, "name the class 'x', which the data do not have"),
        ({"ids": top(3)[1]}, "do not fit"),
        ({"probs": top(2)[0] * 3}, r"and at most 1 is possible"),
        ({"probs": None, "logits": top(2)[0]}, "save log_softmax over all classes"),
    ],
)
def test_top_k_answers_that_cannot_be_are_refused(change, message):
    given = {"probs": top(2)[0], "ids": top(2)[1], "classes": NAMES, "examples": EXAMPLES} | change
    with pytest.raises(DataError, match=message):
        from_array(**given)


def test_a_top_k_that_was_scaled_to_one_is_told():
    values, ids = top(2)
    with pytest.warns(LimbeckWarning, match="the other classes get nothing"):
        from_array(probs=values / values.sum(1, keepdims=True), ids=ids, classes=NAMES)


def test_saved_answers_train_the_student_that_their_teacher_trains():
    net, student = nn.Linear(5, 4), nn.Linear(5, 4)
    settings = {"epochs": 2, "precision": "float32", "baseline": False, "classes": NAMES}
    with torch.no_grad():
        saved = from_array(logits=net(X).numpy())
        ids = net(X).argsort(1, descending=True)[:, :3]
        top3 = from_array(log_probs=net(X).log_softmax(1).gather(1, ids), ids=ids, classes=NAMES)
    whole, *others = [limbeck.distill(each, student, (X, Y), **settings).student for each in (net, saved, top3)]
    for other in others:  # of four classes the top three leave one, whose mass is then known
        assert torch.allclose(other.weight, whole.weight, atol=1e-5)
