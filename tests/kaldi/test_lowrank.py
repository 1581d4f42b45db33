"""Kaldi networks made smaller: against Kaldi's own outputs of such networks, and the older script's numbers."""

from pathlib import Path

import numpy as np
import pytest
import torch
from nnet1_generator import SIZES, write_relu_network

from limbeck.errors import DataError, FormatError, MismatchError
from limbeck.kaldi.formats import nnet1_components as nc
from limbeck.kaldi.formats.nnet1 import Nnet, dialect_of, read_nnet, read_nnet_bytes, write_nnet
from limbeck.kaldi.formats.table import read_ark
from limbeck.kaldi.forward import forward, propagate
from limbeck.kaldi.lowrank import as_module, calibration_frames, choose_ranks, compress_nnet
from limbeck.lowrank import look, plan_ranks
from limbeck.options import RankRule

KALDI = Path(__file__).parent.parent / "fixtures" / "kaldi"


def small_of(nnet, ranks):
    return compress_nnet(nnet, plan_ranks(look(as_module(nnet)), rank=ranks, only_smaller=False))


def product(parts):
    return parts[1].weight @ parts[0].weight


@pytest.mark.parametrize("name", ["relu.seed.txt", "relu.nnet.bin", "relu.nnet.txt"])
@pytest.mark.parametrize(("form", "ranks"), [("svd_full", {"0": 8, "2": 6}), ("svd_low", {"0": 3, "2": 4})])
def test_outputs_are_those_that_kaldi_gives(name, form, ranks, tmp_path):
    small = small_of(read_nnet(KALDI / name), ranks)
    frames, expected = (dict(read_ark(KALDI / file)) for file in ("raw3.txt.ark", f"relu.{form}.post.txt.ark"))
    transform = read_nnet(KALDI / "splice2.nnet.txt")
    for dialect in ("binary", "text", "legacy"):
        write_nnet(tmp_path / dialect, small if dialect == "legacy" else small.for_kaldi(), dialect=dialect)
        back = read_nnet(tmp_path / dialect)
        for key, value in expected.items():
            got = forward(back, frames[key], feature_transform=transform)
            np.testing.assert_allclose(got, value, rtol=0, atol=2e-5)
    kaldi = read_nnet(KALDI / f"relu.{form}.nnet.txt")
    assert [type(part) for part in small.for_kaldi().components] == [type(part) for part in kaldi.components]
    for place in (0, 3):
        ours, theirs = small.components[place : place + 2], kaldi.components[place : place + 2]
        np.testing.assert_allclose(product(ours), product(theirs), atol=2e-5)
        np.testing.assert_allclose(ours[1].bias, theirs[1].bias, atol=1e-6)


@pytest.mark.parametrize(("rank", "name"), [(4, "svd4"), (2, "svd2")])
def test_a_trained_sigmoid_network_becomes_the_one_that_kaldi_took(rank, name):
    nnet, kaldi = read_nnet(KALDI / "e2e/final.nnet"), read_nnet(KALDI / f"e2e/{name}.nnet.txt")
    small = compress_nnet(nnet, choose_ranks(as_module(nnet), RankRule(rank=(rank,)))[0])
    assert [(type(part), part.input_dim) for part in small.components] == [
        (type(part), part.input_dim) for part in kaldi.components
    ]
    transform = read_nnet(KALDI / "e2e/final.feature_transform")
    for _, frames in list(read_ark(KALDI / "e2e/feats.ark"))[:5]:
        ours, theirs = (forward(net, frames, feature_transform=transform) for net in (small, kaldi))
        np.testing.assert_allclose(ours, theirs, atol=2e-4)  # theirs has Kaldi's seven digits


def test_the_layout_of_the_older_dialect(tmp_path):
    write_nnet(tmp_path / "out", small_of(read_nnet(KALDI / "relu.seed.txt"), {"0": 3, "2": 4}), dialect="legacy")
    tags = [line for line in (tmp_path / "out").read_text().splitlines() if "<" in line]
    assert tags == [line for line in (KALDI / "relu.seed.svd.txt").read_text().splitlines() if "<" in line]
    # Each first half has a bias of zeros.
    parts = read_nnet(tmp_path / "out").components
    assert not parts[0].bias.any() and not parts[4].bias.any() and parts[2].bias.any()


def test_the_older_scripts_numbers_from_its_own_dialect(tmp_path):
    path = tmp_path / "am.txt"
    write_relu_network(path)
    nnet = read_nnet(path)
    assert dialect_of(path) == "legacy" and nnet.input_dim == 429 and nnet.output_dim == 913
    weights = [part.weight.size for part in nnet.components if isinstance(part, nc.AffineTransform)]
    assert sum(weights) == 949_248
    plan, spectrum = choose_ranks(as_module(nnet), RankRule(rank=(112, 117, 124, 232)))
    small = compress_nnet(nnet, plan, spectrum)
    matrices = [part.weight.size for part in small.components if hasattr(part, "weight")]
    assert len(matrices) == 8 and sum(matrices) == sum(layer.parameters_after for layer in plan.layers) == 621_080
    assert [part.tag for part in small.components if not hasattr(part, "weight")] == ["Relu", "Relu", "Relu", "Softmax"]


def test_a_budget_at_the_older_scripts_size_has_the_smaller_error(tmp_path):
    nnet = write_relu_network(tmp_path / "am.txt", decays=(0.4, 1.0, 0.7, 1.2))
    generator = np.random.default_rng(1)
    scales = np.arange(1, 430) ** -0.5
    seen, fresh = (np.float32(generator.standard_normal((count, 429)) * scales) for count in (1500, 500))
    scores = Nnet(nnet.components[:-1])
    wanted = propagate(scores, fresh)

    def error(rule, frames=None, metric=None):
        plan, spectrum = choose_ranks(as_module(nnet), rule, frames, metric=metric)
        small = Nnet(compress_nnet(nnet, plan, spectrum).components[:-1])
        found = sum(part.weight.size for part in small.components if hasattr(part, "weight"))
        return found, float(np.square(propagate(small, fresh) - wanted).sum(1).mean())

    by_hand = error(RankRule(rank=(112, 117, 124, 232)))
    frames = torch.from_numpy(seen)
    budget = 621_080 + sum(SIZES[1:])
    for metric in (None, "outputs"):
        size, lost = error(RankRule(parameters=budget), frames, metric)
        assert 0.98 * 621_080 < size <= 621_080 == by_hand[0]
        assert lost < 0.6 * by_hand[1]


@pytest.mark.parametrize(
    "middle",
    [
        nc.Sigmoid(30), nc.Tanh(30), nc.Relu(30), nc.LengthNormComponent(30), nc.HiddenSoftmax(30), nc.Dropout(30),
        nc.ParametricRelu(np.float32([0.5] * 30), np.float32([0.1] * 30)), nc.Maxout(60, 30),
        nc.Copy(40, tuple(range(30))), nc.AddShift(np.ones(30, np.float32)), nc.Rescale(np.full(30, 2, np.float32)),
        nc.Linear(30),
    ],
    ids=lambda part: part.tag,
)  # fmt: skip
def test_the_torch_module_computes_what_the_forward_pass_does(middle):
    floats = np.random.default_rng(0).standard_normal
    first = nc.AffineTransform(np.float32(floats((middle.input_dim, 20))), np.float32(floats(middle.input_dim)))
    last = nc.LinearTransform(np.float32(floats((5, middle.output_dim))))
    nnet, frames = Nnet((first, middle, last, nc.Softmax(5))), np.float32(floats((7, 20)))
    got = as_module(nnet)(torch.from_numpy(frames)).detach().numpy()
    np.testing.assert_allclose(got, forward(nnet, frames, no_softmax=True), rtol=1e-4, atol=1e-4)
    # And with activations that are carried over as they are, at full rank nothing changes.
    ranks = {"0": min(first.weight.shape), "2": min(last.weight.shape)}
    same = small_of(nnet, ranks)
    assert same.components[2] == middle and isinstance(same.components[4], nc.LinearTransform)
    np.testing.assert_allclose(propagate(same, frames), propagate(nnet, frames), atol=1e-5)


def test_learning_rates_are_carried_over_and_a_limit_on_norms_is_not():
    weight = np.random.default_rng(0).standard_normal((30, 40)).astype(np.float32)
    small = small_of(Nnet((nc.AffineTransform(weight, np.ones(30, np.float32), 0.5, 0.25, 3.0),)), {"0": 4})
    first, second = small.components
    assert (first.learn_rate, second.learn_rate, second.bias_learn_rate, second.max_norm) == (0.5, 0.5, 0.25, 0.0)


def test_dialects_are_told_apart(tmp_path):
    assert dialect_of(KALDI / "relu.nnet.bin") == "binary"
    assert dialect_of(KALDI / "relu.nnet.txt") == "text"
    assert dialect_of(KALDI / "relu.seed.txt") == "legacy"
    (tmp_path / "bare").write_text("<AffineTransform> 1 1 [ 1 ] [ 1 ] ")
    assert dialect_of(tmp_path / "bare") == "text"
    with pytest.raises(FormatError):
        dialect_of(tmp_path / "none")


def test_frames_are_checked_and_drawn_by_the_seed():
    nnet, transform = read_nnet(KALDI / "relu.nnet.bin"), read_nnet(KALDI / "splice2.nnet.txt")
    frames = [calibration_frames(KALDI / "raw3.txt.ark", nnet, transform=transform, count=6, seed=s) for s in (0, 0, 1)]
    assert frames[0].shape == (6, 15) and torch.equal(frames[0], frames[1]) and not torch.equal(frames[0], frames[2])
    with pytest.raises(MismatchError, match="feature transform missing"):
        calibration_frames(KALDI / "raw3.txt.ark", nnet)
    splice = Nnet((nc.Splice(15, (0, 0)), nc.LinearTransform(np.ones((4, 30), np.float32))))
    with pytest.raises(DataError, match="cannot pass a <Splice>"):
        choose_ranks(as_module(splice), RankRule(parameters=0.5), frames[0])


def test_a_plan_of_another_network_and_a_network_without_matrices():
    nnet, other = read_nnet(KALDI / "relu.nnet.bin"), read_nnet(KALDI / "e2e/final.nnet")
    plan, spectrum = choose_ranks(as_module(nnet), RankRule(rank=(2,)))
    with pytest.raises(MismatchError, match="make a plan for it"):
        compress_nnet(other, plan, spectrum)
    with pytest.raises(DataError, match="nothing to make smaller"):
        choose_ranks(as_module(read_nnet_bytes(b"<relu> 4 4\n<softmax> 4 4\n")), RankRule(rank=(2,)))
