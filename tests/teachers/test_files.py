"""Teachers in files: ONNX networks by onnxruntime, estimators by skops, and kinds of one's own."""

import json
import pickle

import numpy as np
import pytest
import torch
from torch import nn

import limbeck
from limbeck import Examples
from limbeck.data.input_contract import input_contract, read_contract
from limbeck.data.table_encoding import TableEncoding
from limbeck.data.table_files import examples_of_frame
from limbeck.errors import FormatError, LimbeckWarning, MismatchError
from limbeck.evaluation.prediction import predict
from limbeck.options import ImagePresentation
from limbeck.protocols import Batch
from limbeck.teachers import as_teacher
from limbeck.teachers.adapters import _ADAPTERS, register_teacher
from limbeck.teachers.estimator_file import _read
from limbeck.teachers.onnx_file import OnnxTeacher

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
X = torch.randn(60, 6, generator=torch.Generator().manual_seed(0))
Y = (X @ torch.randn(6, 3, generator=torch.Generator().manual_seed(1))).argmax(1)
WEIGHT = np.random.default_rng(2).normal(size=(6, 3)).astype(np.float32)
SHORT = {"epochs": 2, "precision": "float32", "baseline": False}
FLOAT = onnx.TensorProto.FLOAT


def write(path, *, batch="n", output="out", softmax=False, kind=FLOAT, names=("x",), metadata=None, columns=3):
    """A network of one matrix over the sum of its inputs."""
    nodes = [onnx.helper.make_node("Cast", [name], [f"{name}_f"], to=FLOAT) for name in names]
    nodes.append(onnx.helper.make_node("Sum", [f"{name}_f" for name in names], ["sum"]))
    nodes.append(onnx.helper.make_node("MatMul", ["sum", "w"], ["z" if softmax else output]))
    if softmax:
        nodes.append(onnx.helper.make_node("Softmax", ["z"], [output], axis=1))
    graph = onnx.helper.make_graph(
        nodes,
        "net",
        [onnx.helper.make_tensor_value_info(name, kind, [batch, 6]) for name in names],
        [onnx.helper.make_tensor_value_info(output, FLOAT, [batch, columns])],
        [onnx.numpy_helper.from_array(WEIGHT[:, :columns], "w")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8)
    if metadata:
        onnx.helper.set_model_props(model, metadata)
    onnx.save(model, path)
    return path


def asked(teacher, inputs, temperature=1.0):
    count = len(inputs) if isinstance(inputs, torch.Tensor) else len(next(iter(inputs.values())))
    return teacher.log_probs(Batch(torch.arange(count), 0, inputs, None), temperature)


def expected(inputs, temperature=1.0):
    return (inputs.float() @ torch.from_numpy(WEIGHT) / temperature).log_softmax(-1)


@pytest.mark.parametrize("batch", ["n", None, 1, 4, 64])
@pytest.mark.parametrize("softmax", [False, True])
def test_any_batch_axis_and_logits_or_probabilities(tmp_path, batch, softmax):
    teacher = OnnxTeacher(write(tmp_path / "net.onnx", batch=batch, softmax=softmax))
    torch.testing.assert_close(asked(teacher, X[:10], 2.0), expected(X[:10], 2.0), atol=1e-5, rtol=1e-5)
    assert teacher.has_logits is not softmax
    again = pickle.loads(pickle.dumps(teacher))  # as other processes get it
    torch.testing.assert_close(asked(again, X[:3]), expected(X[:3]), atol=1e-5, rtol=1e-5)


def test_an_output_is_what_its_name_says(tmp_path):
    named = OnnxTeacher(write(tmp_path / "a.onnx", output="probabilities"))
    with pytest.raises(limbeck.LimbeckError, match="named as probabilities.*export the logits"):
        asked(named, X[:5])
    assert OnnxTeacher(write(tmp_path / "b.onnx", output="logits")).has_logits
    with pytest.raises(FormatError, match=r"has no output \(examples, classes\)"):
        network = onnx.load(write(tmp_path / "c.onnx", output="c"))
        network.graph.node.append(onnx.helper.make_node("ArgMax", ["c"], ["number"], axis=1, keepdims=0))
        number = onnx.helper.make_tensor_value_info("number", onnx.TensorProto.INT64, ["n"])
        network.graph.output[0].CopyFrom(number)
        onnx.save(network, tmp_path / "c.onnx")
        OnnxTeacher(tmp_path / "c.onnx")


def test_inputs_are_matched_by_name_and_type(tmp_path):
    teacher = OnnxTeacher(write(tmp_path / "net.onnx", names=("ids", "mask"), kind=onnx.TensorProto.INT64))
    ids = torch.randint(0, 5, (4, 6))
    inputs = {"mask": torch.ones(4, 6, dtype=torch.long), "other": ids, "ids": ids}
    torch.testing.assert_close(asked(teacher, inputs), expected(ids + 1), atol=1e-5, rtol=1e-5)
    for odd, message in (({"ids": ids}, "takes the inputs ids, mask, and the examples have ids"),
                         (ids, "takes the inputs ids, mask, and the examples are one tensor"),
                         ({"ids": ids[:, :5], "mask": ids}, r"takes ids of shape \(6\)")):  # fmt: skip
        with pytest.raises(MismatchError, match=message):
            asked(teacher, odd)
    alone = OnnxTeacher(write(tmp_path / "one.onnx"))
    torch.testing.assert_close(asked(alone, X[:4].reshape(4, 1, 2, 3)), expected(X[:4]), atol=1e-5, rtol=1e-5)


def test_names_of_classes_in_the_file_are_matched(tmp_path):
    path = write(tmp_path / "net.onnx", metadata={"id2label": '{"0": "c", "1": "a", "2": "b"}'})
    teacher = OnnxTeacher(path, ["a", "b", "c"])
    torch.testing.assert_close(asked(teacher, X[:4]), expected(X[:4])[:, [1, 2, 0]], atol=1e-5, rtol=1e-5)
    assert OnnxTeacher(path).classes == ("c", "a", "b")
    with pytest.raises(MismatchError, match="names the classes c, a, b, and the data have a, b, d"):
        OnnxTeacher(path, ["a", "b", "d"])


def test_a_file_teaches_as_its_network_does(tmp_path):
    net, student = nn.Linear(6, 3, bias=False), nn.Linear(6, 3)
    net.weight.data = torch.from_numpy(WEIGHT.T.copy())
    path = write(tmp_path / "net.onnx", batch=7)
    runs = [limbeck.distill(each, student, (X, Y), **SHORT) for each in (net, path, str(path))]
    for run in runs[1:]:
        torch.testing.assert_close(run.student.weight, runs[0].student.weight, atol=1e-5, rtol=1e-5)
    with pytest.raises(MismatchError, match="outputs 2 classes"):
        limbeck.distill(write(tmp_path / "two.onnx", columns=2), student, (X, Y), **SHORT)


def test_an_exported_file_sees_rows_as_its_metadata_say(tmp_path):
    """Whatever the order and the scale of the columns of other data are, and whichever categories they have."""
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": [90.0, 120, None, 80], "b": [0.001, 0, 0.002, 5], "town": ["x", "y", "y", "x"]})
    table = examples_of_frame(frame).inputs
    seen = table.presentation
    contract = input_contract(torch.zeros(2, 6), seen, pixels=False)
    path = write(tmp_path / "net.onnx", metadata={"input": json.dumps(contract)})
    other = frame[["town", "b", "a"]].iloc[:2].replace({"town": {"y": "z"}})
    encoded = seen.encode(
        {"a": np.array([90.0, 120]), "b": np.array([0.001, 0]), "town": np.array([0, -1])}, {"town": ["x"]}
    )
    torch.testing.assert_close(predict(as_teacher(path), examples_of_frame(other)), expected(encoded))
    with pytest.raises(MismatchError, match="numbers in column 'a', and the table has no such column"):
        predict(as_teacher(path), examples_of_frame(frame[["b", "town"]]))
    write(path, metadata={"input": json.dumps({**contract, "columns": 3})})
    with pytest.raises(FormatError, match="metadata 'input' cannot be read"):
        as_teacher(path)
    codes = TableEncoding(seen.columns, "codes")
    shown = codes.encode(table.values, table.categories)
    assert read_contract(input_contract(shown, codes, pixels=False)) == (codes, False)
    for other in ("no JSON", "[1]", '{"kind": "other"}'):  # of files from elsewhere
        write(path, metadata={"input": other})
        assert as_teacher(path).presentation is None


@pytest.mark.parametrize("inside", [False, True])
def test_an_exported_file_sees_images_as_its_metadata_say(tmp_path, inside):
    """Resized and normalised, or as bytes where normalisation is inside."""
    seen = ImagePresentation(size=(2, 3), crop_pct=0.8, channels=1, mean=(0.4,), std=(0.2,))
    contract = input_contract(torch.zeros(2, 1, 2, 3), seen, pixels=inside)
    kind = onnx.TensorProto.UINT8 if inside else FLOAT
    path = write(tmp_path / "net.onnx", kind=kind, metadata={"input": json.dumps(contract)})
    examples = Examples.of(torch.randint(0, 256, (5, 1, 8, 9), dtype=torch.uint8))
    shown = examples.batch(slice(0, 5)).seen_as(seen).flatten(1)
    shown = ((shown * 0.2 + 0.4) * 255).round() if inside else shown
    both = limbeck.Ensemble([path, path], mean="geometric")
    for teacher in (as_teacher(path), both):
        torch.testing.assert_close(predict(teacher, examples), expected(shown))
    if not inside:
        net = nn.Sequential(nn.Flatten(), nn.Linear(6, 3, bias=False))
        net[1].weight.data = torch.from_numpy(WEIGHT.T.copy())
        net.presentation = seen
        student, data = nn.Sequential(nn.Flatten(), nn.Linear(72, 3)), (examples.inputs, torch.arange(5) % 3)
        runs = [limbeck.distill(each, student, data, **SHORT) for each in (net, path)]
        torch.testing.assert_close(runs[1].student[1].weight, runs[0].student[1].weight, atol=1e-5, rtol=1e-5)


def test_fractions_are_not_cut_to_whole_numbers(tmp_path):
    path = write(tmp_path / "net.onnx", kind=onnx.TensorProto.INT64)
    torch.testing.assert_close(asked(OnnxTeacher(path), X[:4].round()), expected(X[:4].round()))
    with pytest.raises(MismatchError, match="takes x as whole numbers, and the examples have fractions"):
        asked(OnnxTeacher(path), X[:4])
    contract = input_contract(torch.zeros(2, 1, 2, 3), ImagePresentation.plain((2, 3), channels=1), pixels=True)
    path = write(tmp_path / "bytes.onnx", kind=onnx.TensorProto.UINT8, metadata={"input": json.dumps(contract)})
    with pytest.raises(limbeck.LimbeckError, match=r"takes pixels, and the examples hold 255: .* numbers on \[0, 1\]"):
        asked(OnnxTeacher(path), torch.full((2, 1, 2, 3), 255.0))


def test_files_that_are_no_teachers_are_told_in_a_line(tmp_path):
    sklearn = pytest.importorskip("sklearn.linear_model")
    skops = pytest.importorskip("skops.io")
    for name in ("damaged.onnx", "damaged.skops"):
        (tmp_path / name).write_bytes(b"PK\x03\x04 nothing")
        with pytest.raises(FormatError, match="damaged"):
            as_teacher(tmp_path / name)
        with pytest.raises(FormatError, match="there is no such file"):
            as_teacher(tmp_path / f"no {name}")
    with pytest.raises(limbeck.LimbeckError, match="executes what it says: save it with skops"):
        as_teacher(tmp_path / "model.pkl")
    skops.dump(sklearn.LinearRegression().fit(X, Y), tmp_path / "regression.skops")
    with pytest.raises(FormatError, match="holds a LinearRegression without predict_proba"):
        as_teacher(tmp_path / "regression.skops")


class Unknown:
    """A type that skops does not know."""

    def predict_proba(self, rows):
        raise AssertionError


def test_an_estimator_s_file_teaches_and_unknown_types_are_not_loaded(tmp_path):
    ensemble, skops = pytest.importorskip("sklearn.ensemble"), pytest.importorskip("skops.io")
    forest = ensemble.RandomForestClassifier(5, random_state=0).fit(X.numpy(), Y.numpy())
    skops.dump(forest, tmp_path / "forest.skops")
    student = nn.Linear(6, 3)
    runs = [limbeck.distill(each, student, (X, Y), **SHORT) for each in (forest, tmp_path / "forest.skops")]
    assert torch.equal(runs[0].student.weight, runs[1].student.weight)
    links = forest.estimators_[3].tree_.__getstate__()["nodes"]["left_child"]
    assert links[0] == 1
    state = forest.estimators_[3].tree_.__getstate__()
    state["nodes"]["left_child"][0] = 10**6
    forest.estimators_[3].tree_.__setstate__(state)
    skops.dump(forest, tmp_path / "forest.skops")
    with pytest.raises(FormatError, match="holds a tree whose nodes lead outside of it"):
        as_teacher(tmp_path / "forest.skops")
    skops.dump(Unknown(), tmp_path / "odd.skops")
    with pytest.raises(FormatError, match="Unknown, which could execute code, and was not loaded"):
        as_teacher(tmp_path / "odd.skops")


def test_an_estimator_fitted_on_the_training_rows_is_told_and_one_out_of_fold_is_not(recwarn):
    ensemble = pytest.importorskip("sklearn.ensemble")
    noisy = torch.where(torch.rand(60, generator=torch.Generator().manual_seed(0)) < 0.3, (Y + 1) % 3, Y)
    forest = ensemble.RandomForestClassifier(20, random_state=0).fit(X[:40].numpy(), noisy[:40].numpy())
    parts = ((X[:40], noisy[:40]), (X[40:], noisy[40:]))
    with pytest.warns(LimbeckWarning, match=r"more confident on training examples \(0\.\d+ on average\)"):
        limbeck.distill(forest, nn.Linear(6, 3), *parts, **SHORT)
    within = ((X[:30], noisy[:30]), (X[30:40], noisy[30:40]))  # it was fitted on the validation rows too
    with pytest.warns(LimbeckWarning, match=r"more confident on training examples .* than on test examples"):
        limbeck.distill(forest, nn.Linear(6, 3), *within, test=parts[1], **SHORT)
    recwarn.clear()
    apart = ensemble.RandomForestClassifier(20, random_state=0).fit(torch.randn(60, 6).numpy(), np.arange(60) % 3)
    limbeck.distill(apart, nn.Linear(6, 3), *parts, **SHORT)
    assert not [each for each in recwarn if "more confident" in str(each.message)]


def test_a_kind_of_one_s_own_is_one_class():
    class Constant:
        classes = None
        takes = staticmethod(lambda given: given == "the first")

        def __init__(self, given, classes=None):
            self.count = len(classes)

        def log_probs(self, batch, temperature):
            return torch.tensor([[8.0, *[0.0] * (self.count - 1)]]).log_softmax(-1).expand(len(batch.index), -1)

    register_teacher(Constant)
    try:
        assert asked(as_teacher("the first", ["a", "b"]), X[:2]).argmax(1).tolist() == [0, 0]
    finally:
        _ADAPTERS.remove(Constant)


def test_a_pipeline_that_fills_gaps_and_encodes_categories_is_a_teacher(tmp_path):
    """Imputers keep a dtype, and votes a bunch, which skops does not know."""
    pandas, skops = pytest.importorskip("pandas"), pytest.importorskip("skops.io")
    from sklearn.compose import make_column_transformer
    from sklearn.ensemble import RandomForestClassifier, VotingClassifier
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    draw = np.random.default_rng(0)
    table = pandas.DataFrame({"a": draw.normal(size=80), "b": draw.normal(size=80), "c": draw.choice(list("xyz"), 80)})
    table.loc[::7, "b"] = np.nan
    columns = make_column_transformer(
        (make_pipeline(SimpleImputer(), StandardScaler()), ["a", "b"]), (OneHotEncoder(handle_unknown="ignore"), ["c"])
    )
    forest, line = RandomForestClassifier(5, random_state=0), LogisticRegression()
    votes = VotingClassifier([("forest", forest), ("line", line)], voting="soft")
    fitted = make_pipeline(columns, votes).fit(table, np.where(table.a > 0, "yes", "no"))
    skops.dump(fitted, tmp_path / "pipe.skops")
    read = _read(str(tmp_path / "pipe.skops"))
    np.testing.assert_allclose(read.predict_proba(table), fitted.predict_proba(table))
