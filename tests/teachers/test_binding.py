"""Answers and data that belong together: sources, numbers, and teachers that refuse other data at any depth."""

import copy
import dataclasses
import pickle

import pytest
import torch
from torch import nn

import limbeck
from limbeck import Ensemble, Examples, SoftTargets
from limbeck.data import DataSet, Feed
from limbeck.data.splits import cut_validation, subset
from limbeck.errors import MismatchError
from limbeck.options import Augmentation
from limbeck.specialists import Committee
from limbeck.teachers import ModelTeacher, StoredTargets, UserTeacher, as_teacher

CLASSES = ("0", "1", "2")
generator = torch.Generator().manual_seed(0)
X = torch.randn(400, 6, generator=generator)
W = torch.randn(6, 3, generator=generator)
Y = (X @ W).argmax(1)
TRAIN, HELD = (X[:300], Y[:300]), (X[300:], Y[300:])
FAST = {"epochs": 2, "batch_size": 50, "precision": "float32", "hard_weight": 0.0, "baseline": False}


def knowing():
    net = nn.Linear(6, 3)
    net.weight.data, net.bias.data = W.T * 3, torch.zeros(3)
    return net


class Table:
    """A user's own teacher that looks answers up by number and never looks at the inputs."""

    classes = None

    def __init__(self, logits):
        self.logits, self.asked = logits, []

    def log_probs(self, batch, temperature):
        self.asked.append(batch.index)
        return (self.logits[batch.index] / temperature).log_softmax(-1)


@pytest.fixture
def store(tmp_path):
    SoftTargets.write(tmp_path / "store", knowing(), Examples.of(*TRAIN), classes=CLASSES)
    return SoftTargets.open(tmp_path / "store")


def test_a_source_is_of_inputs_and_numbers_and_not_of_labels():
    whole = Examples.of(*TRAIN)
    assert whole.source == whole.without_labels().source == Examples.of(TRAIN[0]).source
    part = whole.take(torch.tensor([5, 2]))
    assert part.source == part.to("cpu").source == part.take(torch.tensor([0])).source == whole.source
    assert part.whole().source != whole.source
    assert Examples.of(TRAIN[0][torch.randperm(300)]).source != whole.source
    assert whole.numbered_from(300).source != whole.source
    assert whole.batch(slice(0, 3)).source == next(Feed(whole, batch_size=5, seed=0).batches(0)).source == whole.source
    assert whole.batch(slice(0, 9)).head(3).source == whole.batch(slice(0, 3)).to("cpu").source == whole.source


def test_numbers_are_unique_over_all_parts():
    parts = {"train": Examples.of(*TRAIN), "validation": Examples.of(*HELD), "test": Examples.of(*TRAIN)}
    data = DataSet("d", CLASSES, **parts)
    numbers = torch.cat([part.index for part in data.parts().values()])
    assert len(numbers.unique()) == len(numbers) == 700
    assert torch.equal(data.train.index, torch.arange(300)), "those of training examples stay: stores are kept by them"
    # Parts cut out of one set have numbers of their own already, and one source.
    cut = cut_validation(DataSet("d", CLASSES, Examples.of(*TRAIN), test=Examples.of(*HELD)), 50)
    assert cut.train.source == cut.validation.source == Examples.of(*TRAIN).source
    numbers = torch.cat([part.index for part in cut.parts().values()])
    assert len(numbers.unique()) == 400 and set(cut.test.index.tolist()) == set(range(300, 400))
    assert torch.equal(subset(cut, 20).test.index, cut.test.index)


def test_a_store_trains_on_its_own_examples_alone(store):
    run = limbeck.distill(store, nn.Linear(6, 3), TRAIN, HELD, **{**FAST, "epochs": 30, "learning_rate": 0.05})
    assert run.metrics["student"]["accuracy"] > 0.9
    shuffled = torch.randperm(300, generator=torch.Generator().manual_seed(1))
    for train, more in (
        ((TRAIN[0][shuffled], TRAIN[1][shuffled]), {}),
        (TRAIN, {"transfer": torch.randn(300, 6)}),
        (HELD, {}),
    ):
        for teacher in (
            store,
            Ensemble([store, knowing()], mean="geometric"),
            Ensemble([Ensemble([knowing(), store])], mean="geometric"),
        ):
            with pytest.raises(MismatchError, match="other examples"):
                limbeck.distill(teacher, nn.Linear(6, 3), train, HELD, **more, **FAST)
    with pytest.raises(MismatchError, match="other examples"):
        limbeck.compress(
            nn.Linear(6, 3), HELD, HELD, rule=limbeck.RankRule(rank=(1,)), teacher=store,
            finetuning=limbeck.FineTuning(finetune_epochs=1, precision="float32"),
        )  # fmt: skip
    with pytest.raises(MismatchError, match="other examples"):
        limbeck.evaluate(knowing(), Examples.of(*HELD), teacher=store)
    with pytest.raises(MismatchError, match="other examples"):
        limbeck.evaluate(Ensemble([store]), Examples.of(*HELD))
    agreed = limbeck.evaluate(knowing(), Examples.of(*TRAIN), teacher=store)
    assert agreed["agreement_with_teacher"] == 1.0


def test_a_batch_of_other_data_is_refused_without_bind_too(store):
    other = Examples.of(HELD[0]).batch(slice(0, 5))
    for teacher in (store, Ensemble([knowing(), store])):
        with pytest.raises(MismatchError, match="other data"):
            teacher.log_probs(other, 1.0)


def test_a_store_of_a_part_serves_that_part_and_other_parts_of_it(tmp_path):
    whole = Examples.of(*TRAIN)
    part = whole.take(torch.arange(0, 300, 2))
    SoftTargets.write(tmp_path, knowing(), part, classes=CLASSES)
    store = SoftTargets.open(tmp_path, examples=part)
    bound = store.bind(part.take(torch.tensor([3, 9])))
    assert bound.log_probs(part.batch(slice(0, 4)), 1.0).shape == (4, 3)
    with pytest.raises(MismatchError, match="example 299 "):
        store.bind(whole)
    # A store of an earlier version knows the part that it was written for, and not what that was taken from.
    store.store.plan = dataclasses.replace(store.store.plan, source=None)
    old = SoftTargets(store.store)
    assert old.bind(part).log_probs(part.batch(slice(0, 4)), 1.0).shape == (4, 3)
    with pytest.raises(MismatchError, match="other examples"):
        old.bind(whole.take(torch.arange(0, 300, 3)))


def test_views_are_checked_inside_an_ensemble(tmp_path):
    pictures = Examples.of(torch.randint(0, 256, (20, 6, 6), dtype=torch.uint8), torch.arange(20) % 3)
    net = nn.Sequential(nn.Flatten(), nn.Linear(36, 3))
    shifted = Augmentation(shift=1, views=2, view_seed=3)
    SoftTargets.write(tmp_path, net, pictures, classes=CLASSES, augmentation=shifted)
    both = Ensemble([SoftTargets.open(tmp_path), net], mean="geometric")
    both.bind(pictures, shifted)
    for other in (None, Augmentation(shift=1, views=2, view_seed=4), Augmentation(shift=2, views=2, view_seed=3)):
        with pytest.raises(MismatchError, match="other images"):
            limbeck.distill(both, net, pictures, HELD_PICTURES, augmentation=other, **FAST)


HELD_PICTURES = Examples.of(torch.randint(0, 256, (9, 6, 6), dtype=torch.uint8), torch.arange(9) % 3)


def test_a_teacher_with_stored_answers_is_not_judged_on_other_examples(store):
    stored = StoredTargets(knowing()(TRAIN[0]).detach().log_softmax(-1), torch.arange(300))
    for teacher in (store, stored, Table(knowing()(TRAIN[0]).detach()), Ensemble([store, knowing()])):
        temperature = 4.0
        run = limbeck.distill(teacher, nn.Linear(6, 3), TRAIN, HELD, temperature=temperature, **FAST)
        assert "teacher" not in run.metrics and "agreement_with_teacher" not in run.metrics["student"]
    assert stored.source is None, "what was given is as it was"
    live = limbeck.distill(Ensemble([knowing(), knowing()]), nn.Linear(6, 3), TRAIN, HELD, **FAST)
    assert live.metrics["teacher"]["accuracy"] == 1.0


def test_stored_targets_belong_to_what_they_were_bound_to():
    train, other = Examples.of(*TRAIN), Examples.of(*HELD)
    named = StoredTargets(torch.zeros(300, 3).log_softmax(-1), torch.arange(300), source=train.source)
    with pytest.raises(MismatchError, match="belong to other data"):
        named.bind(other)
    with pytest.raises(MismatchError, match="other data"):
        named.log_probs(other.batch(slice(0, 3)), 1.0)
    unnamed = StoredTargets(torch.zeros(300, 3).log_softmax(-1), torch.arange(300))
    with pytest.raises(MismatchError, match="belong to other data"):
        unnamed.bind(train).bind(other)
    with pytest.raises(MismatchError, match="2 views"):
        unnamed.bind(train, Augmentation(shift=1, views=2))
    with pytest.raises(MismatchError, match="no soft targets are stored"):
        StoredTargets(torch.zeros(2, 3).log_softmax(-1), torch.arange(2)).bind(train)


def test_a_users_own_table_is_found_out_and_one_that_looks_at_inputs_is_not():
    train, other = Examples.of(*TRAIN), Examples.of(*HELD)
    table = as_teacher(Table(torch.randn(300, 3))).bind(train)
    assert isinstance(table, UserTeacher) and not table.teacher.asked
    with pytest.raises(MismatchError, match="Table looks its answers up"):
        table.bind(other)
    with pytest.raises(MismatchError, match="other data"):
        table.log_probs(other.batch(slice(0, 2)), 1.0)

    class Looks:
        classes = None
        net = knowing()

        def log_probs(self, batch, temperature):
            return (self.net(batch.inputs) / temperature).log_softmax(-1).detach()

    looks = as_teacher(Looks()).bind(train)
    assert torch.equal(
        looks.bind(other).log_probs(other.batch(slice(0, 2)), 1.0), Looks().log_probs(other.batch(slice(0, 2)), 1.0)
    )

    class Fails(Looks):
        def log_probs(self, batch, temperature):
            raise ValueError("no such example")

    with pytest.raises(MismatchError, match="no such example"):
        limbeck.distill(Fails(), nn.Linear(6, 3), TRAIN, HELD, **FAST)


def test_a_table_is_asked_about_training_numbers_alone():
    """Whatever a run does besides training, it never looks up another part's example in the table."""
    table = Table(knowing()(TRAIN[0]).detach())
    limbeck.distill(table, nn.Linear(6, 3), TRAIN, HELD, test=HELD, **FAST)
    assert torch.cat(table.asked).max() < 300


def test_an_ensemble_moves_all_its_members():
    committee = Committee(nn.Linear(2, 3), [nn.Linear(2, 2)], [(1,)], [2.0])
    stored = StoredTargets(torch.zeros(2, 3).log_softmax(-1), torch.arange(2))
    moved = Ensemble([committee, nn.Linear(2, 3), stored, Ensemble([stored])]).to("meta")
    assert committee.generalist.weight.device.type == "meta"
    assert moved.members[1].model.weight.device.type == "meta"
    assert moved.members[2].values.device.type == moved.members[3].members[0].values.device.type == "meta"
    assert stored.values.device.type == "cpu", "what was given stays where it was"


class Counting(nn.Module):
    """Counts how often it is asked about a batch of a training; ``noise`` makes its answers differ each time."""

    def __init__(self, noise):
        super().__init__()
        self.net, self.noise, self.asked = knowing(), noise, 0

    def forward(self, x):
        self.asked += len(x) == FAST["batch_size"]
        return self.net(x) + self.noise * torch.randn(len(x), 3)


def test_answers_that_change_are_not_kept():
    """One answer kept for a whole run would be another teacher than the one that was given."""
    asked = {}
    for noise in (0.0, 0.5):
        teacher = ModelTeacher(Counting(noise))
        limbeck.distill(teacher, nn.Linear(6, 3), TRAIN, HELD, **{**FAST, "epochs": 6})
        asked[noise] = teacher.model.asked
    assert asked[0.0] <= 3 and asked[0.5] >= 6 * 6


def test_copies_of_bound_teachers_stay_bound(store):
    bound = store.bind(Examples.of(*TRAIN))
    again = pickle.loads(pickle.dumps(bound))
    assert again.source == bound.source == copy.copy(bound).source
