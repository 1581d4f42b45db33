"""A store as a teacher, beside the live one that wrote it."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from limbeck.data import Examples, Feed
from limbeck.errors import ConfigError, FormatError, MismatchError, UserCodeError
from limbeck.options import Augmentation, ImagePresentation
from limbeck.protocols import Batch
from limbeck.softtargets import SoftTargets, Store, teacher_digest
from limbeck.teachers import Ensemble, ModelTeacher
from limbeck.training.objective import DistillationObjective, check_objective

CLASSES = tuple("abcdefg")


def network(seed=0, scale=3.0):
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 7))
    with torch.no_grad():
        net[1].running_mean += 0.2
        net[4].weight *= scale * 3
    return net


def pictures(count=50, seed=0):
    generator = np.random.default_rng(seed)
    return Examples.of(generator.integers(0, 256, (count, 8, 8), dtype=np.uint8), generator.integers(0, 7, count))


def divergence(exact, stored):
    return float((exact.double().exp() * (exact.double() - stored.double())).sum(-1).mean())


VIEWS = [
    None,
    Augmentation(shift=2, views=3, view_seed=11),
    Augmentation(rotate=20, shift=1.5, scale=0.2, views=2),
]


def test_a_teacher_with_a_presentation_of_its_own_is_asked_again_as_it_was_asked(tmp_path):
    live = network()
    live.presentation = ImagePresentation(size=8, mean=(0.5,), std=(0.2,), crop_pct=0.8, channels=1)
    SoftTargets.write(tmp_path, live, pictures(), classes=CLASSES, dtype="float32")
    assert len(SoftTargets.open(tmp_path, examples=pictures(), teacher=live).classes) == 7


@pytest.mark.parametrize("augmentation", VIEWS, ids=["plain", "shifted", "turned"])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_every_batch_of_a_training_finds_the_teachers_answers(tmp_path, monkeypatch, augmentation, dtype):
    live, examples = ModelTeacher(network(), CLASSES), pictures().take(torch.randperm(50)[:37])
    SoftTargets.write(
        tmp_path, live, examples, classes=CLASSES, augmentation=augmentation, dtype=dtype, batch_size=8, shard_bytes=200
    )
    targets = SoftTargets.open(tmp_path, examples=examples, teacher=live)
    assert targets.classes == CLASSES
    targets.check_views(augmentation)
    feed = Feed(examples, batch_size=10, augmentation=targets.augmentation, seed=123)
    for epoch in range(4):
        for batch in feed.batches(epoch):
            for temperature in (0.7, 1.0, 4.0, 20.0):
                exact, stored = live.log_probs(batch, temperature), targets.log_probs(batch, temperature)
                # What is held softened is what is looked up and softened row by row.
                with monkeypatch.context() as small:
                    small.setattr("limbeck.softtargets.teacher._SOFTENED_BYTES", 0)
                    assert torch.equal(targets.log_probs(batch, temperature), stored)
                assert stored.dtype == torch.float32
                torch.testing.assert_close(stored.exp(), exact.exp(), atol=3e-3 if dtype == "float16" else 1e-5, rtol=0)
                assert abs(divergence(exact, stored)) < 1e-5


def test_different_views_have_different_answers(tmp_path):
    augmentation = Augmentation(shift=2, views=2)
    SoftTargets.write(tmp_path, network(), pictures(), classes=CLASSES, augmentation=augmentation)
    targets, index = SoftTargets.open(tmp_path), torch.arange(50)
    answers = [targets.log_probs(Batch(index, view, torch.empty(0), None), 1.0) for view in (0, 1)]
    assert not torch.allclose(answers[0], answers[1], atol=0.1)


@pytest.mark.parametrize("mean", ["geometric", "arithmetic"])
def test_an_arithmetic_mean_serves_its_temperature_alone(tmp_path, mean):
    live, examples = Ensemble([network(0), network(1)], mean=mean, weights=[1, 3]), pictures()
    batch = Batch(examples.index, 0, examples.as_seen(slice(None)), None)
    if mean == "arithmetic":
        with pytest.raises(ConfigError, match="set temperature"):
            SoftTargets.write(tmp_path, live, examples, classes=CLASSES)
    for encoding, k in (("dense", None), ("topk", 6)):
        folder = tmp_path / encoding
        temperature = 4.0 if mean == "arithmetic" else None
        card = SoftTargets.write(
            folder, live, examples, classes=CLASSES, temperature=temperature, encoding=encoding, k=k
        )
        targets = SoftTargets.open(folder, examples=examples, teacher=live)
        assert targets.store.plan.mean == mean
        assert set(card.divergence) == ({"4"} if mean == "arithmetic" else {"1", "4", "20"})
        assert abs(divergence(live.log_probs(batch, 4.0), targets.log_probs(batch, 4.0))) < 1e-5
        if mean == "arithmetic":
            with pytest.raises(MismatchError, match=r"temperature 4\.0 alone, and 2\.0"):
                targets.log_probs(batch, 2.0)
        else:
            assert abs(divergence(live.log_probs(batch, 2.0), targets.log_probs(batch, 2.0))) < 1e-5


@pytest.mark.parametrize("settings", [{}, {"encoding": "topk", "k": 2}, {"encoding": "sampled", "draws": 5}], ids=str)
def test_the_objectives_own_check_passes(tmp_path, settings):
    examples = pictures()
    SoftTargets.write(tmp_path, network(), examples, classes=CLASSES, **settings)
    temperature = 1.0 if "draws" in settings else 4.0
    objective = DistillationObjective(SoftTargets.open(tmp_path), temperature=temperature, hard_weight=0.1)
    batch = Batch(examples.index, 0, examples.as_seen(slice(None)), examples.labels)
    check_objective(objective, batch, 7)


def test_sampled_targets_average_to_the_teachers(tmp_path):
    live, examples = ModelTeacher(network()), pictures(20)
    SoftTargets.write(tmp_path, live, examples, classes=CLASSES, encoding="sampled", draws=2000, proposal=0.8)
    targets = SoftTargets.open(tmp_path, examples=examples, teacher=live)
    batch = Batch(examples.index, 0, examples.as_seen(slice(None)), None)
    torch.testing.assert_close(targets.log_probs(batch, 1.0).exp(), live.log_probs(batch, 1.0).exp(), atol=0.06, rtol=0)
    with pytest.raises(MismatchError, match="temperature"):
        targets.log_probs(batch, 2.0)


def test_the_card_knows_the_teachers_accuracy(tmp_path):
    net, examples = network(), pictures()
    card = SoftTargets.write(tmp_path / "a", net, examples, classes=CLASSES)
    with torch.no_grad():
        right = (net.eval()(examples.as_seen(slice(None))).argmax(1) == examples.labels).double().mean()
    assert card.teacher_accuracy == pytest.approx(float(right))
    without = SoftTargets.write(tmp_path / "b", net, examples.without_labels(), classes=CLASSES)
    assert without.teacher_accuracy is None


def test_examples_that_are_not_stored_are_refused(tmp_path):
    examples = pictures().take(torch.tensor([3, 9, 20]))
    SoftTargets.write(tmp_path, network(), examples, classes=CLASSES)
    targets = SoftTargets.open(tmp_path)
    for number in (4, 21, -1, 10**9):
        with pytest.raises(MismatchError, match=f"example {number} "):
            targets.log_probs(Batch(torch.tensor([9, number]), 0, torch.empty(0), None), 1.0)
    for view in (1, -1):
        with pytest.raises(MismatchError, match=f"view {view} "):
            targets.log_probs(Batch(torch.tensor([9]), view, torch.empty(0), None), 1.0)
    assert targets.log_probs(Batch(torch.tensor([], dtype=torch.int64), 0, torch.empty(0), None), 1.0).shape == (0, 7)


def test_other_data_and_other_teachers_are_refused_with_both_digests(tmp_path):
    examples, net = pictures(), network()
    SoftTargets.write(tmp_path, net, examples, classes=CLASSES)
    SoftTargets.open(tmp_path, examples=examples.without_labels(), teacher=ModelTeacher(net))
    other = pictures(seed=1)
    with pytest.raises(MismatchError, match=f"{examples.digest}.*{other.digest}"):
        SoftTargets.open(tmp_path, examples=other)
    with pytest.raises(MismatchError, match=f"{teacher_digest(net)}.*{teacher_digest(network(1))}"):
        SoftTargets.open(tmp_path, teacher=network(1))


def test_a_teacher_that_answers_otherwise_is_refused(tmp_path):
    examples, net = pictures(), network()

    class Elsewhere:
        """A teacher without a digest of its own."""

        classes = CLASSES

        def log_probs(self, batch, temperature):
            return ModelTeacher(network(7)).log_probs(batch, temperature)

    for settings in ({}, {"encoding": "topk", "k": 2}):
        folder = tmp_path / str(len(settings))
        augmentation = Augmentation(shift=1, views=2)
        SoftTargets.write(folder, net, examples, classes=CLASSES, augmentation=augmentation, **settings)
        SoftTargets.open(folder, examples=examples, teacher=net)
        with pytest.raises(MismatchError, match="outputs differ from"):
            SoftTargets.open(folder, examples=examples, teacher=Elsewhere())


def test_training_with_other_views_is_refused(tmp_path):
    augmentation = Augmentation(shift=1, rotate=5, views=2, view_seed=3)
    SoftTargets.write(tmp_path, network(), pictures(), classes=CLASSES, augmentation=augmentation)
    targets = SoftTargets.open(tmp_path)
    assert targets.augmentation == augmentation
    for changes in ({"shift": 2}, {"rotate": 4}, {"views": 3}, {"views": None}, {"view_seed": 4}):
        with pytest.raises(MismatchError, match=next(iter(changes))):
            targets.check_views(dataclasses.replace(augmentation, **changes))
    with pytest.raises(MismatchError, match="shift"):
        targets.check_views(None)


@pytest.mark.parametrize(
    "settings",
    [
        {"views": 2},
        {"views": 2, "augmentation": Augmentation(shift=1, views=3)},
        {"k": 3},
        {"encoding": "topk"},
        {"encoding": "sampled"},
        {"encoding": "gzip"},
        {"encoding": "dense", "draws": 3},
        {"dtype": "float64"},
        {"encoding": "topk", "k": 7},
    ],
    ids=str,
)
def test_settings_that_contradict_are_refused(tmp_path, settings):
    with pytest.raises(ConfigError):
        SoftTargets.write(tmp_path, network(), pictures(), classes=CLASSES, **settings)


def test_other_classes_are_refused(tmp_path):
    with pytest.raises(MismatchError, match="names the classes"):
        SoftTargets.write(tmp_path, ModelTeacher(network(), "gfedcba"), pictures(), classes=CLASSES)
    with pytest.raises(MismatchError, match="8 classes"):
        SoftTargets.write(tmp_path, network(), pictures(), classes="abcdefgh")


def test_a_failing_teacher_is_asked_only_what_is_missing(tmp_path):
    examples, augmentation = pictures(), Augmentation(shift=2, views=3)

    class Failing:
        """Answers some batches, then fails."""

        classes, teacher_digest = CLASSES, "0" * 64

        def __init__(self, answers):
            self.left, self.net, self.asked = answers, ModelTeacher(network()), []

        def log_probs(self, batch, temperature):
            if not self.left:
                raise OSError("the machine is gone")
            self.left -= 1
            self.asked.append((batch.view, int(batch.index[0])))
            return self.net.log_probs(batch, temperature)

    settings = {"classes": CLASSES, "augmentation": augmentation, "batch_size": 16, "shard_bytes": 14 * 20}
    SoftTargets.write(tmp_path / "whole", Failing(99), examples, **settings)
    with pytest.raises(UserCodeError, match="log_probs of Failing raised OSError on inputs of shape .*machine is gone"):
        SoftTargets.write(tmp_path / "again", Failing(9), examples, **settings)
    with pytest.raises(FormatError, match="incomplete"):
        SoftTargets.open(tmp_path / "again")
    second = Failing(99)
    SoftTargets.write(tmp_path / "again", second, examples, **settings)
    # Of 9 answers 2 were to know it by.
    assert second.asked[0] == (1, 16)  # 98 rows came: four shards of 20, and row 80 is in the batch that starts at 16
    for path in (tmp_path / "whole").iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()


def test_digests_tell_weights_and_structure_apart():
    net = network()
    digest = teacher_digest(net)
    assert digest == teacher_digest(ModelTeacher(net)) == teacher_digest(network().eval())
    changed = network()
    with torch.no_grad():
        changed[4].bias[0] += 1e-6
    stride, momentum = network(), network()
    stride[0].padding = (1, 1)
    momentum[1].running_var[0] += 1e-3
    twins = [nn.Sequential(nn.Linear(2, 2), nn.ReLU()), nn.Sequential(nn.Linear(2, 2), nn.GELU())]
    twins[1].load_state_dict(twins[0].state_dict())
    ensembles = [
        Ensemble([net, changed], mean="geometric"),
        Ensemble([changed, net], mean="geometric"),
        Ensemble([net, changed], mean="arithmetic"),
        Ensemble([net, changed], mean="geometric", weights=[1, 2]),
    ]
    found = [teacher_digest(each) for each in (net, changed, stride, momentum, *twins, *ensembles)]
    assert len(set(found)) == len(found)
    assert all(isinstance(each, str) and len(each) == 64 for each in found)


def test_a_store_can_be_softened_again(tmp_path):
    examples, live = pictures(), Ensemble([network(0), network(1)])
    SoftTargets.write(tmp_path / "wide", live, examples, classes=CLASSES, temperature=3.0, dtype="float32")
    wide = SoftTargets.open(tmp_path / "wide")
    SoftTargets.write(tmp_path / "small", wide, examples, classes=CLASSES, encoding="topk", k=3)
    small = SoftTargets.open(tmp_path / "small", teacher=live)
    assert small.temperature == 3.0
    assert small.teacher_digest == teacher_digest(live)
    with pytest.raises(MismatchError, match="alone"):
        SoftTargets.write(tmp_path / "x", wide, examples, classes=CLASSES, temperature=2.0)


def test_rows_may_lie_on_the_device(tmp_path, monkeypatch):
    examples = pictures()
    SoftTargets.write(tmp_path, network(), examples, classes=CLASSES, encoding="topk", k=3, shard_bytes=100)
    there, here = SoftTargets.open(tmp_path).to("meta"), SoftTargets.open(tmp_path).to("cpu")
    assert {name: tuple(values.shape) for name, values in there._resident.items()} == {
        "ids": (50, 3),
        "gaps": (50, 2),
        "tail": (50, 2),
        "place": (50, 2),
    }
    rows = np.arange(50)
    here._resident = here._tensors(here.store.span(0, 50))
    batch = Batch(examples.index.flip(0), 0, torch.empty(0), None)
    plain = SoftTargets(Store(tmp_path, mapped_bytes=0)).log_probs(batch, 2.0)
    monkeypatch.setattr("limbeck.softtargets.teacher._SOFTENED_BYTES", 0)
    torch.testing.assert_close(here.log_probs(batch, 2.0), plain)
    reference = Store(tmp_path).log_probs(rows[::-1].copy(), temperature=2.0)
    np.testing.assert_allclose(plain.exp().numpy(), np.exp(reference), atol=1e-6)


def test_the_profile_of_sorted_examples_knows_every_class(tmp_path, monkeypatch):
    monkeypatch.setattr("limbeck.softtargets.tail._SAMPLE_ROWS", 28)
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(7).repeat_interleave(40)
    inputs = 4 * torch.nn.functional.one_hot(labels, 7) + torch.randn(280, 7, generator=generator)
    settings = {"classes": CLASSES, "encoding": "topk", "k": 2, "batch_size": 5}
    SoftTargets.write(tmp_path / "sorted", nn.Identity(), Examples.of(inputs, labels), **settings)
    means = Store(tmp_path / "sorted").codec.profile.means
    # Each top-1 class was seen, mostly far ahead: all others lie below it, and never one of them as high as it.
    counts = np.bincount(inputs.argmax(1).numpy(), minlength=7)
    assert (counts > 30).all()
    assert (means[~np.eye(7, dtype=bool)] < -2).all()


def test_topk_targets_are_not_rounded_by_autocast(tmp_path):
    torch.manual_seed(0)
    examples = Examples.of(torch.randn(20, 5))
    net = nn.Linear(5, 30)
    SoftTargets.write(tmp_path / "s", net, examples, classes=[str(k) for k in range(30)], encoding="topk", k=4)
    targets = SoftTargets.open(tmp_path / "s", examples=examples)
    batch = examples.batch(torch.arange(20))
    plain = targets.log_probs(batch, 2.0)
    targets.to("cpu")
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(targets.log_probs(batch, 2.0), plain)


def test_targets_that_were_moved_stay_there_when_they_are_bound(tmp_path):
    examples = Examples.of(torch.randn(6, 4), torch.arange(6) % 3)
    SoftTargets.write(tmp_path / "store", torch.nn.Linear(4, 3), examples, classes="abc")
    moved = SoftTargets.open(tmp_path / "store").to("meta")
    bound = moved.bind(examples)
    assert moved.device.type == bound.device.type == "meta"
    assert bound.store is moved.store and bound._resident["scores"].device.type == "meta"


def test_a_batch_of_no_examples_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="batch_size must be at least 1, and is 0"):
        SoftTargets.write(tmp_path, network(), pictures(), classes=CLASSES, batch_size=0)
    assert not list(tmp_path.iterdir())
