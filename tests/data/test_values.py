"""Inputs and labels of every type of number: kept, widened or refused by one rule."""

import numpy as np
import pytest
import scipy.sparse
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import nn

import limbeck
from limbeck.data import DataSet, Examples, Views
from limbeck.data.values import as_inputs, as_labels
from limbeck.errors import ConfigError, DataError, LimbeckError, MismatchError
from limbeck.evaluation.prediction import predict
from limbeck.options import Augmentation


@pytest.mark.parametrize(
    ("kind", "becomes"),
    [
        *(("u1", torch.uint8), ("i4", torch.int32), (">i4", torch.int32), ("i8", torch.int64), ("u8", torch.int64)),
        *((name, torch.int64) for name in ("i1", "i2", "u2", ">u2", "u4")),
        *((name, torch.float32) for name in ("?", "f2", ">f2", "f4", "f8", "g")),
    ],
)
def test_what_becomes_of_each_type(kind, becomes):
    values = np.asfortranarray(np.array([[0, 1], [1, 1], [0, 0]]).astype(kind))
    examples = Examples.of(values)
    assert examples.inputs.dtype == becomes
    scale = 255 if kind == "u1" else 1
    seen = examples.as_seen(torch.tensor([2, 0]))
    assert seen.dtype == (torch.float32 if kind == "u1" else becomes)
    assert (scale * seen).tolist() == [[0, 0], [0, 1]]


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16, torch.float64])
def test_tensors_of_other_floating_types_are_seen_as_float32(kind):
    weights = nn.Parameter(torch.ones(2, 3, dtype=kind))
    assert Examples.of(weights).as_seen(slice(None)).dtype == torch.float32
    assert not Examples.of(weights).inputs.requires_grad


DTYPES = st.one_of(
    hnp.boolean_dtypes(),
    hnp.integer_dtypes(endianness="?"),
    hnp.unsigned_integer_dtypes(endianness="?"),
    hnp.floating_dtypes(endianness="?"),
    hnp.complex_number_dtypes(),
    hnp.unicode_string_dtypes(min_len=1, max_len=3),
    hnp.byte_string_dtypes(min_len=1, max_len=3),
    hnp.datetime64_dtypes(),
    hnp.timedelta64_dtypes(),
    st.just(np.dtype(object)),
    st.just(np.dtype([("a", "i4")])),
)
ARRAYS = DTYPES.flatmap(
    lambda dtype: (
        st.builds(
            lambda shape: np.zeros(shape, dtype), hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
        )
        if dtype.kind in "OV"
        else hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
    )
)


@given(ARRAYS, ARRAYS)
def test_any_arrays_are_examples_or_refused_in_one_line(inputs, labels):
    try:
        examples = Examples.of(inputs, labels)
    except LimbeckError as error:
        assert "\n" not in str(error)
    else:
        assert len(examples.labels) == len(inputs) and int(examples.labels.min()) >= 0
        assert examples.labels.dtype == torch.int64
        assert examples.as_seen(slice(None)).isfinite().all()


@pytest.mark.parametrize(
    "labels",
    [
        [2, 0, 1],
        np.array([[2], [0], [1]], ">i2"),
        np.array([2.0, 0.0, 1.0], np.float16),
        np.array([2, 0, 1], np.uint64),
        np.eye(3)[[2, 0, 1]],
        np.eye(3, dtype=bool)[[2, 0, 1]],
        torch.eye(3, dtype=torch.bfloat16)[[2, 0, 1]],
        [np.int8(2), np.int8(0), np.int8(1)],
    ],
)
def test_labels_in_many_forms(labels):
    assert as_labels(labels, 3).tolist() == [2, 0, 1]


def test_two_classes_as_booleans():
    assert as_labels([True, False], 2).tolist() == [1, 0]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 0.5], "integers.*example 1 has 0.5"),
        ([0, np.nan], "integers.*example 1 has nan"),
        ([0, np.inf], "integers.*example 1 has inf"),
        ([0, -100], "smallest is -100, of example 1"),
        (["cat", "dog"], "name them with classes="),
        (np.array(["cat", 3], object), "name them with classes="),
        (np.array([0, 2**63], np.uint64), "9223372036854775808"),
        (np.array(["2020", "2021"], "M8[s]"), "type datetime64"),
        ([[0.5, 0.5], [0, 1]], "one-hot.*example 0"),
        ([[1, 1], [0, 1]], "one-hot.*example 0"),
        ([[0, 1], [0, 0]], "one-hot.*example 1"),
        ([0, 1, 2], r"there are 2 inputs, and labels have shape \(3,\)"),
        ([[0, 1, 0], [0]], "cannot be made into one array"),
        (np.ma.masked_equal([0, 1], 1), "masked"),
    ],
)
def test_labels_that_are_not_class_numbers(labels, message):
    with pytest.raises(DataError, match=message):
        as_labels(labels, 2)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (np.zeros((2, 3), complex), "real numbers|must be numbers"),
        (torch.zeros(2, 3, dtype=torch.complex64), "real numbers"),
        (torch.eye(3).to_sparse(), "dense"),
        (torch.zeros(2, 3, device="meta"), "dense"),
        (np.array([["a"]]), "must be numbers"),
        ([[1, 2], [3]], "one array"),
        (np.array(3.0), "at least one example"),
        (np.full((2, 2), 2**63, np.uint64), "2\\*\\*63"),
    ],
)
def test_inputs_that_are_not_numbers(inputs, message):
    with pytest.raises(DataError, match=message):
        as_inputs(inputs)


@pytest.mark.parametrize("kind", [scipy.sparse.csr_matrix, scipy.sparse.coo_array])
def test_sparse_matrices_are_refused_wherever_they_are(kind):
    net, dense, labels = nn.Linear(3, 2), np.eye(3, dtype=np.float32), np.array([0, 1, 1])
    for call in (
        lambda: limbeck.train(net, (kind(dense), labels)),
        lambda: limbeck.train(net, (dense, kind(labels[None]))),
        lambda: limbeck.evaluate(net, (kind(dense), labels)),
        lambda: limbeck.predict(net, kind(dense)),
        lambda: limbeck.fix_bias(net, unlabelled=kind(dense)),
    ):
        with pytest.raises(DataError, match=r"are a sparse matrix of scipy: give a dense array, as from \.toarray"):
            call()


def test_a_single_row_may_be_read_backwards():
    rows = np.arange(6, dtype=np.float32).reshape(2, 3)[::-1]
    assert torch.equal(as_inputs(rows[:1]), torch.tensor([[3.0, 4.0, 5.0]]))


@pytest.mark.parametrize(
    "shape",
    [(1, 4, 4), (3, 8, 8), (4, 8, 8), (3, 5, 3), (1, 28, 1), (32, 3, 3), (16, 4, 4), (9, 1, 1), (5, 7, 8), (1, 1, 1)],
)
def test_channels_second_are_taken_as_they_are(shape):
    values = torch.rand(2, *shape)
    assert torch.equal(as_inputs(values), values) and torch.equal(as_inputs(values, layout="NCHW"), values)


@pytest.mark.parametrize("shape", [(8, 8, 3), (8, 8, 1), (28, 20, 1), (7, 8, 4), (3, 3, 3), (4, 4, 4), (3, 3, 1)])
@pytest.mark.parametrize("kind", [np.uint8, np.float32, np.int64])
def test_what_may_have_its_channels_last_needs_a_layout(shape, kind):
    values = np.random.default_rng(0).integers(0, 9, (2, *shape)).astype(kind)
    with pytest.raises(DataError, match="--layout NHWC"):
        Examples.of(values)
    turned = Examples.of(values, layout="NHWC").inputs
    assert np.array_equal(turned.numpy(), np.moveaxis(values, -1, 1)) and turned.is_contiguous()
    assert np.array_equal(Examples.of(values, layout="NCHW").inputs.numpy(), values)


def test_layouts_that_cannot_be():
    with pytest.raises(ConfigError, match="leave it out"):
        Examples.of(np.zeros((2, 8, 8), np.uint8), layout="NHWC")
    with pytest.raises(ConfigError, match="'HWC'"):
        Examples.of(np.zeros((2, 8, 8, 3)), layout="HWC")


def test_parts_of_different_types_are_refused():
    pixels = np.zeros((2, 4, 4), np.uint8)
    with pytest.raises(DataError, match="training examples are uint8 images, and test examples are floating-point"):
        DataSet("d", ("a", "b"), Examples.of(pixels, [0, 1]), Examples.of(pixels[:, None] / 255, [0, 1]))
    with pytest.raises(DataError, match="integers"):
        DataSet("d", ("a", "b"), Examples.of([[1], [2]], [0, 1]), Examples.of([[1.0], [2.0]], [0, 1]))


def test_integers_have_no_views():
    with pytest.raises(DataError, match=r"torch\.int64: leave augmentation out"):
        Views(Examples.of(torch.zeros(2, 1, 4, 4, dtype=torch.int64)), Augmentation(shift=1))


class Bag(nn.Module):
    """The mean of embeddings, which takes integers alone."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.hidden, self.output = nn.EmbeddingBag(50, 8), nn.Linear(8, 8), nn.Linear(8, 2)

    def forward(self, ids):
        return self.output(self.hidden(self.embedding(ids)).relu())


def token_ids(kind):
    return torch.randint(0, 50, (40, 12), generator=torch.Generator().manual_seed(0), dtype=kind), torch.arange(40) % 2


@pytest.mark.slow
def test_token_ids_reach_an_embedding_in_all_that_a_run_does(tmp_path):
    part = token_ids(torch.int64)
    run = limbeck.distill(Bag(), Bag(), part, part, epochs=1, out=tmp_path, precision="float32")
    loaded = limbeck.load(tmp_path, model=Bag())
    assert torch.equal(run.student(part[0]), loaded(part[0]))
    small = limbeck.compress(run.student, part, part, rule=limbeck.RankRule(rank=(2,)), int8=True)
    assert list(small.metrics["stages"]) == ["original", "svd", "svd + int8"]


def test_narrow_token_ids_reach_an_embedding():
    for kind in (torch.int32, torch.int16):
        ids, labels = token_ids(kind)
        net = Bag()
        assert torch.equal(predict(net, Examples.of(ids, labels)), net(ids.long()).log_softmax(1))


def test_a_model_of_floating_point_numbers_is_told_of_integers():
    with pytest.raises(MismatchError, match="inputs are integers: give floating-point numbers"):
        limbeck.train(nn.Linear(12, 2), token_ids(torch.int64), epochs=1, precision="float32")


@pytest.mark.parametrize("make", ["mlp", "cnn"])
def test_networks_of_limbeck_take_integers_as_numbers(make):
    from limbeck.models import build

    shape = (6,) if make == "mlp" else (1, 12, 12)
    net = build({"model_type": make, "input_shape": shape, "classes": 2, "hidden": (4,)})
    values = torch.randint(0, 9, (3, *shape))
    assert torch.equal(net(values), net(values.float()))
