"""Methods that compare the examples of a batch: slow versions as oracles, identities, and examples that are alike."""

import math
from pathlib import Path

import pytest
import torch
from torch import nn

from limbeck.data import Examples, Feed
from limbeck.errors import ConfigError, SelfCheckError
from limbeck.methods import Output, make_method
from limbeck.methods.rkd import RKD
from limbeck.methods.similarity import Similarity
from limbeck.methods.srd import SRD
from limbeck.models import CNN, CNNConfig
from limbeck.options import Training
from limbeck.protocols import Batch
from limbeck.system.devices import Device
from limbeck.teachers import ModelTeacher
from limbeck.training.checkpoint import load_latest
from limbeck.training.engine import fit
from limbeck.training.objective import DistillationObjective

CPU = Device(torch.device("cpu"), "float32")
FORMS = [
    ("rkd", {}),
    ("rkd", {"angle": 0.0}),
    ("rkd", {"distance": 0.0}),
    ("similarity", {}),
    ("srd", {}),
    ("srd", {"exponent": 2.5}),
]
SHAPES = [((3, 6, 6), (5, 3, 3)), ((6, 3), (4, 5)), ((3,), (5,))]


def drawn(count, shape, seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, *shape, generator=generator, dtype=torch.float64).to(dtype)


def prepared(name, options, mine, theirs):
    """The method, made for features of one kind, and what it gives and says of any of them."""
    method = make_method(name, {**options, "student_layers": "s", "teacher_layers": "t"})
    method.find_taps([], [])
    torch.manual_seed(0)
    method.prepare(said("s", mine), said("t", theirs))
    return method.to(mine.dtype)


def said(name, features):
    return Output(torch.zeros(len(features), 3, dtype=features.dtype), {name: features})


def value_and_slope(method, mine, theirs):
    leaf = mine.detach().requires_grad_()
    batch = Batch(torch.arange(len(mine)), 0, torch.zeros(len(mine), 1), None)
    value = method(said("s", leaf), said("t", theirs), batch)
    (slope,) = torch.autograd.grad(value.sum(), leaf)
    return value.detach(), slope


@pytest.mark.parametrize(("name", "options"), FORMS)
@pytest.mark.parametrize(("mine", "theirs"), SHAPES)
@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_formula_is_autograds_gradient_and_that_of_the_value(name, options, mine, theirs, count):
    s, t = drawn(count, mine, 1), drawn(count, theirs, 2)
    method = prepared(name, options, s, t)
    value, slope = value_and_slope(method, s, t)
    right = method.reference_gradient(said("s", s), said("t", t), None).features["s"]
    assert value.shape == (count,) and bool(value.isfinite().all())
    assert float((slope - right).abs().max()) <= 1e-6 * float(right.abs().max()) + 1e-12
    step = drawn(count, mine, 9)
    ahead, behind = (value_and_slope(method, s + sign * 1e-6 * step, t)[0].sum() for sign in (1, -1))
    expected = float((right * step).sum())
    assert float((ahead - behind) / 2e-6) == pytest.approx(
        expected, rel=1e-5, abs=1e-6 * float(right.abs().max()) + 1e-9
    )
    if count == 1:
        assert not bool(right.any())  # one example has nobody to be compared with


@pytest.mark.parametrize(("name", "options"), FORMS)
def test_examples_that_are_alike_and_layers_without_activity_have_a_gradient_of_the_usual_size(name, options):
    s, t = drawn(6, (4,), 1), drawn(6, (3,), 2)
    method = prepared(name, options, s, t)
    usual = float(value_and_slope(method, s, t)[1].abs().max())
    s[0] = 0
    s[2] = s[1]
    slope = value_and_slope(method, s, t)[1]
    right = method.reference_gradient(said("s", s), said("t", t), None).features["s"]
    torch.testing.assert_close(slope, right, rtol=1e-9, atol=1e-9)
    assert float(slope.abs().max()) < 20 * usual
    for same in (torch.zeros_like(s), torch.ones_like(s)):
        value, slope = value_and_slope(method, same, t)
        assert bool(value.isfinite().all()) and bool(slope.isfinite().all())
        assert bool(value_and_slope(method, s, torch.zeros_like(t))[1].isfinite().all())


@pytest.mark.parametrize(("name", "options"), FORMS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_features_of_any_size_and_precision_give_numbers(name, options, dtype):
    for size in (0.0, 1e-6, 1.0, 1e4 if dtype != torch.float32 else 1e30):
        for count in (1, 4):
            s, t = size * drawn(count, (3, 2, 2), 1, dtype), size * drawn(count, (5,), 2, dtype)
            method = prepared(name, options, s.float(), t.float())
            leaf = s.float().requires_grad_()
            batch = Batch(torch.arange(count), 0, torch.zeros(count, 1), None)
            assert method(said("s", s), said("t", t), batch).dtype == torch.float32
            with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
                value = method(said("s", leaf), said("t", t), batch)
            assert value.dtype == torch.float32 and bool(value.isfinite().all()), (size, value)
            (slope,) = torch.autograd.grad(value.sum(), leaf)
            assert bool(slope.isfinite().all()), (size, slope)


def test_rkd_is_the_mean_of_hubers_function_over_pairs_and_triples():
    s, t = drawn(4, (3,), 1), drawn(4, (5,), 2)
    huber = nn.SmoothL1Loss()

    def distances(x):
        found = [[float((a - b).norm()) for b in x] for a in x]
        mean = sum(map(sum, found)) / 12
        return torch.tensor([[each / mean for each in row] for row in found], dtype=torch.float64)

    def cosine(a, b):
        length = a.norm() * b.norm()
        return (a * b).sum() / length if length > 0 else length

    def angles(x):
        return torch.stack([cosine(a - v, b - v) for v in x for a in x for b in x])

    expected = 2 * huber(distances(s), distances(t)) + 3 * huber(angles(s), angles(t))
    method = prepared("rkd", {"distance": 2.0, "angle": 3.0}, s, t)
    torch.testing.assert_close(value_and_slope(method, s, t)[0].mean(), expected)
    # A turn, a shift and a common factor change no relation.
    turn, _ = torch.linalg.qr(drawn(3, (3,), 3))
    assert float(value_and_slope(method, s, 7 * s @ turn + 1)[0].abs().max()) < 1e-12
    near = 1000 + 1e-3 * drawn(4, (3,), 4, torch.float32)
    alike = prepared("rkd", {}, near, near)
    exact = near.double() - 1000
    assert float(value_and_slope(alike, near, (exact / 1e-3).float())[0].abs().max()) < 1e-6


def test_similarity_compares_rows_of_length_one():
    s, t = drawn(5, (3, 2, 2), 1), drawn(5, (7,), 2)
    method = prepared("similarity", {"gamma": 1.0}, s, t)
    grams = [each.flatten(1) @ each.flatten(1).T for each in (s, t)]
    off = nn.functional.normalize(grams[0]) - nn.functional.normalize(grams[1])
    value = value_and_slope(method, s, t)[0]
    torch.testing.assert_close(value.mean(), off.square().sum() / 25)
    assert float(value_and_slope(method, s, 3 * s)[0].abs().max()) < 1e-20


def test_srd_is_the_logarithm_of_a_distance_of_batch_normalised_features():
    s, t = drawn(6, (3, 4, 4), 1), drawn(6, (5, 2, 2), 2)
    method = prepared("srd", {}, s, t)
    sides = [nn.BatchNorm1d(5, eps=1e-4, affine=False, dtype=torch.float64) for _ in range(2)]
    mine = method.projections[0](s.mean((2, 3)))
    off = sides[0](mine) - sides[1](t.mean((2, 3)))
    expected = 2 * off.abs().pow(4).sum().log()
    torch.testing.assert_close(value_and_slope(method, s, t)[0], expected.detach().expand(6))


def small_cnn(channels, seed):
    torch.manual_seed(seed)
    return CNN(CNNConfig(input_shape=(1, 12, 12), classes=3, channels=channels, hidden=(8,), padding=True))


def feed(**more):
    inputs = torch.randn(32, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    return Feed(Examples.of(inputs, torch.arange(32) % 3), batch_size=8, seed=0, **more)


def objective(method):
    return DistillationObjective(ModelTeacher(small_cnn((6, 8), 1)), method=method, hard_weight=0.5)


@pytest.mark.parametrize("name", ["rkd", "similarity", "srd+kd"])
def test_a_student_learns_it_and_the_batch_is_not_divided(name, tmp_path):
    student, taught = small_cnn((4, 6), 2), objective(name)
    assert taught.coupled
    done = fit(student, taught, feed(), Training(epochs=3, learning_rate=0.01), CPU, folder=tmp_path)
    assert done.history[-1]["train_loss"] < done.history[0]["train_loss"]
    own = [key for key in load_latest(tmp_path)[0] if key.startswith("own.")]
    assert len(own) == (1 if "srd" in name else 0)
    with pytest.raises(ConfigError, match="accumulate is 2"):
        fit(student, taught, feed(accumulate=2), Training(epochs=1), CPU)


@pytest.mark.parametrize("options", [{"distance": 0.0, "angle": 0.0}, {"angle": -1.0}, {"angle": math.inf}])
def test_weights_out_of_range_are_told_in_a_line(options):
    with pytest.raises(ConfigError, match="method rkd.*angle must be"):
        make_method("rkd", options)


class DistancesNotNormalised(RKD):
    """Distances as they are."""

    def forward(self, student, teacher, batch):
        ((s, t),) = self.pairs(student, teacher)
        away = [torch.cdist(each.flatten(1), each.flatten(1)) for each in (s.mean((2, 3)), t.mean((2, 3)))]
        alone = RKD(distance=0.0, angle=self.angle)
        alone.student_taps, alone.teacher_taps = self.student_taps, self.teacher_taps
        return self.distance * nn.functional.smooth_l1_loss(*away, reduction="none").mean(1) + alone(
            student, teacher, batch
        )


class SquaresForHuber(RKD):
    """Squared errors in the place of Huber's function."""

    def _value(self, mine, theirs):
        from limbeck.methods.rkd import _angles, _distances

        off, turned = _distances(mine) - _distances(theirs), _angles(mine) - _angles(theirs)
        return self.distance * off.square().mean(1) + self.angle * turned.square().mean((1, 2))


class RepeatsExplode(RKD):
    """Differences divided by a length that is 0 where an example comes twice."""

    def _value(self, mine, theirs):
        def angles(x):
            away = nn.functional.normalize(x.unsqueeze(0) - x.unsqueeze(1), dim=2)
            return away @ away.transpose(1, 2)

        off = angles(mine) - angles(theirs)
        huber = nn.functional.smooth_l1_loss(off, torch.zeros_like(off), reduction="none")
        return RKD(distance=self.distance, angle=0.0)._value(mine, theirs) + self.angle * huber.mean((1, 2))


class NormalisedBeforeTheProduct(Similarity):
    """Cosines of activations in the place of normalised rows of products."""

    def forward(self, student, teacher, batch):
        ((s, t),) = self.pairs(student, teacher)
        unit = [nn.functional.normalize(each.flatten(1)) for each in (s, t)]
        return self.gamma * (unit[0] @ unit[0].T - unit[1] @ unit[1].T).square().mean(1)


class ProductOverItsNorm(Similarity):
    """The whole matrix over its norm, as in a first guess of the paper."""

    def forward(self, student, teacher, batch):
        ((s, t),) = self.pairs(student, teacher)
        grams = [each.flatten(1) @ each.flatten(1).T for each in (s, t)]
        return self.gamma * (grams[0] / grams[0].norm() - grams[1] / grams[1].norm()).square().mean(1)


class OverTheBatchOnce(Similarity):
    """The sum of squares over N, and not over N squared."""

    def forward(self, student, teacher, batch):
        return len(batch.index) * super().forward(student, teacher, batch)


class SilentRowsExplode(Similarity):
    """Rows divided by a length that is 0 where a layer says nothing of an example."""

    def forward(self, student, teacher, batch):
        ((s, t),) = self.pairs(student, teacher)
        rows = [nn.functional.normalize(each.flatten(1) @ each.flatten(1).T) for each in (s, t)]
        return self.gamma * (rows[0] - rows[1]).square().mean(1)


class StudentAloneNormalised(SRD):
    """The teacher's side as it is, as with a normalisation that is in evaluation mode."""

    def forward(self, student, teacher, batch):
        ((s, t),) = self.pairs(student, teacher)
        said = self.projections[0](s.mean((2, 3)))
        off = (said - said.mean(0)) / (said.var(0, correction=0) + 1e-4).sqrt() - t.mean((2, 3))
        return self.weight * off.abs().pow(4).sum().log().expand(len(s))


class WithoutTheLogarithm(SRD):
    """The sum of powers itself."""

    def forward(self, student, teacher, batch):
        return super().forward(student, teacher, batch).exp()


class VarianceOverOneLess(SRD):
    """The unbiased variance."""

    def forward(self, student, teacher, batch):
        ((s, t),) = self.pairs(student, teacher)
        both = (self.projections[0](s.mean((2, 3))), t.mean((2, 3)))
        off = [(each - each.mean(0)) / (each.var(0) + 1e-4).sqrt() for each in both]
        return self.weight * (off[0] - off[1]).abs().pow(4).sum().log().expand(len(s))


MISTAKES = [
    kind
    for kind in list(globals().values())
    if isinstance(kind, type) and kind.__module__ == __name__ and issubclass(kind, RKD | Similarity | SRD)
]


def test_the_page_names_every_mistake():
    page = (Path(__file__).parents[2] / "docs" / "common-mistakes.md").read_text()
    assert [kind.__name__ for kind in MISTAKES if f"`{kind.__name__}`" not in page] == []


@pytest.mark.parametrize("kind", MISTAKES, ids=lambda kind: kind.__name__)
def test_each_mistake_stops_the_run_before_its_first_step(kind):
    student = small_cnn((4, 6), 2)
    before = student[0].weight.detach().clone()
    with pytest.raises(SelfCheckError, match="differs from its formula.*nothing was trained"):
        fit(student, objective(kind()), feed(), Training(epochs=1), CPU)
    assert torch.equal(student[0].weight, before)
