"""What is odd about teachers is told by every way in, of members too, and nothing is told of right ones."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn

import limbeck
from limbeck import tuning
from limbeck.data.examples import Examples
from limbeck.evaluation.swapped_classes import describe_swapped, swapped_classes
from limbeck.models.output_kind import looks_like_probabilities, looks_like_sigmoids, looks_softened_twice
from limbeck.options import Augmentation, FineTuning, RankRule
from limbeck.options.search_space import Search
from limbeck.softtargets import Dense, SoftTargets, write_arrays
from limbeck.system.callbacks import Callback
from limbeck.system.devices import Device
from limbeck.teacher_warnings import tell_odd_teacher, tell_probabilities
from limbeck.teachers import StoredTargets, as_teacher

CPU = Device(torch.device("cpu"), "float32")
X = torch.randn(400, 8, generator=torch.Generator().manual_seed(0))
W = torch.randn(8, 4, generator=torch.Generator().manual_seed(1))
Y = (X @ W).argmax(1)
DATA = Examples.of(X, Y)


class Notes(Callback):
    def __init__(self):
        self.texts = []

    def on_warning(self, text):
        self.texts.append(text)


class Fixed(nn.Module):
    """The right teacher, but for what is done to its logits."""

    def __init__(self, change=lambda z: z, sure=4.0):
        super().__init__()
        self.change, self.sure = change, sure
        self.weight = nn.Parameter(W.clone())

    def forward(self, x):
        return self.change(self.sure * (x.to(self.weight.dtype) @ self.weight))


def swapped(z):
    return z[:, [0, 2, 1, 3]]


def of_logits(subject, role="teacher", data=DATA):
    notes = Notes()
    tell_probabilities(role, subject if role != "teacher" else as_teacher(subject), data, CPU, notes)
    return notes.texts


def of_classes(subject, temperature=4.0):
    notes = Notes()
    tell_odd_teacher(as_teacher(subject), DATA, Augmentation(), temperature, CPU, notes, classes="abcd")
    return notes.texts


def softmax(z):
    return z.softmax(-1)


@pytest.mark.parametrize(
    "teacher",
    [
        Fixed(softmax),
        Fixed(softmax).half(),
        Fixed(softmax).bfloat16(),
        Fixed(lambda z: z.half().softmax(-1).float()),
        Fixed(lambda z: (100 * z.softmax(-1)).round() / 100),
        Fixed(lambda z: z.log_softmax(-1).exp()),
        lambda x: (4 * x @ W).softmax(-1),
        lambda x: (4 * x @ W).softmax(-1).numpy(),
        StoredTargets(Fixed(softmax)(X).log_softmax(-1).detach(), DATA.index),
        StoredTargets((Fixed(softmax)(X) / 3).log_softmax(-1).detach(), DATA.index, temperature=3.0),
    ],
)
def test_a_softmax_at_the_end_is_told_whatever_the_teacher_is_and_among_members(teacher):
    (said,) = of_logits(teacher)
    assert "probabilities" in said and "leave out the softmax" in said
    both = of_logits(limbeck.Ensemble([Fixed(), teacher]))
    assert len(both) == 1 and both[0].startswith("the answers of the teacher (its part 2)")


def test_a_softmax_at_the_end_is_told_when_soft_targets_are_written_and_of_a_store_that_has_it(tmp_path):
    with pytest.warns(limbeck.LimbeckWarning, match="answers of the teacher look like probabilities"):
        SoftTargets.write(tmp_path / "twice", Fixed(softmax), DATA, classes="abcd")
    assert "softmax was applied to probabilities" in of_logits(SoftTargets.open(tmp_path / "twice").bind(DATA))[0]
    settings = {"classes": "abcd", "examples": 400, "encoding": Dense()}
    with pytest.warns(limbeck.LimbeckWarning, match="take their logarithm"):
        write_arrays(tmp_path / "arrays", [Fixed(softmax)(X).detach().numpy()], **settings)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        SoftTargets.write(tmp_path / "right", Fixed(), DATA, classes="abcd")
        assert of_logits(SoftTargets.open(tmp_path / "right").bind(DATA)) == []
        write_arrays(tmp_path / "logits", [Fixed()(X).detach().numpy()], **settings)
        write_arrays(tmp_path / "logs", [Fixed()(X).log_softmax(-1).detach().numpy()], **settings)


def test_a_softmax_over_the_examples_and_a_sigmoid_are_told_of_networks_that_know_nothing_too():
    raw = nn.Linear(8, 4)
    for role in ("student", "model", "teacher"):
        assert "along another axis" in of_logits(nn.Sequential(raw, nn.Softmax(0)), role)[0]
        assert "as after a sigmoid" in of_logits(nn.Sequential(raw, nn.Sigmoid()), role)[0]
        assert "as after a sigmoid" in of_logits(nn.Sequential(raw, nn.Sigmoid()).bfloat16(), role)[0]
        assert "look like probabilities" in of_logits(nn.Sequential(raw, nn.Softmax(-1)), role)[0]


def test_right_networks_are_told_nothing_of():
    ends = (
        lambda z: z,
        torch.relu,
        lambda z: 2 * z.sigmoid(),
        lambda z: z.sigmoid().mul_(3),
        lambda z: z.log_softmax(-1),
    )
    for number in range(600):
        generator = torch.Generator().manual_seed(number)
        classes, width = (2, 2, 3, 10)[number % 4], (1, 2, 8)[number % 3]
        x = torch.randn(64, width, generator=generator)
        z = x @ torch.randn(width, classes, generator=generator) * 10.0 ** (number % 5 - 2)
        z = z + torch.rand(classes, generator=generator)
        for rows in (z, z.relu(), z - z.amin(1, keepdim=True)):
            assert not looks_like_probabilities(rows) and not looks_like_sigmoids(rows)
            assert not looks_softened_twice(rows.log_softmax(-1))
    for end in ends:
        for sure in (0.01, 1.0, 30.0):
            assert of_logits(Fixed(end, sure)) == [] == of_logits(Fixed(end, sure), "student")
        assert of_classes(Fixed(end)) == []
    # Two classes of which one is 2.7 times as frequent, and a teacher that knows little more: odds about e.
    base = torch.stack([torch.ones(400), 0.001 * X[:, 0]], 1)
    assert not looks_softened_twice(base.log_softmax(-1))


def test_swapped_and_rolled_classes_are_told_of_teachers_and_of_each_member():
    (said,) = of_classes(Fixed(swapped))
    assert "the teacher answers class b as c, and class c as b" in said
    (said,) = of_classes(limbeck.Ensemble([Fixed(), Fixed(lambda z: z.roll(1, -1)), Fixed()]))
    assert "teacher (its part 2) answers class a as b, class b as c, class c as d, and class d as a" in said
    stored = StoredTargets(swapped(X @ W).log_softmax(-1), DATA.index)
    assert "class b as c" in of_classes(limbeck.Ensemble([Fixed(), stored]))[0]


def test_tune_compress_and_written_targets_tell_swapped_classes(tmp_path):
    match = "answers class 1 as 2, and class 2 as 1"
    train, val, short = (X[:300], Y[:300]), (X[300:], Y[300:]), {"epochs": 1, "precision": "float32"}
    with pytest.warns(limbeck.LimbeckWarning, match=match):
        SoftTargets.write(tmp_path / "store", Fixed(swapped), DATA, classes="0123")
    search = Search(grid=True, temperatures=(1,), hard_weights=(0.5,))
    with pytest.warns(limbeck.LimbeckWarning, match=match):
        tuning.tune(Fixed(swapped), nn.Linear(8, 4), train, val, search=search, **short)
    rule, tuned = RankRule(rank=(2,)), FineTuning(finetune_epochs=1)
    with pytest.warns(limbeck.LimbeckWarning, match=match):
        limbeck.compress(
            nn.Sequential(nn.Linear(8, 30), nn.ReLU(), nn.Linear(30, 4)), train, val,
            rule=rule, teacher=Fixed(swapped), finetuning=tuned,
        )  # fmt: skip


def test_classes_that_are_only_confused_guessed_or_always_the_same_are_not_swapped():
    generator = np.random.default_rng(0)
    for count in (2, 3, 10):
        labels = generator.integers(0, count, 1000)
        assert swapped_classes(labels, labels, count) == []
        assert swapped_classes(labels, np.full(1000, count - 1), count) == []
        for _ in range(200):
            few = labels[:60]
            assert swapped_classes(few, generator.integers(0, count, 60), count) == []
        blurred = np.where((labels < 2) & (generator.random(1000) < 0.5), 1 - labels, labels)
        assert swapped_classes(labels, blurred, count) == []
        order = np.roll(np.arange(count), 1)
        noisy = np.where(generator.random(1000) < 0.2, generator.integers(0, count, 1000), order[labels])
        (cycle,) = swapped_classes(labels, noisy, count)
        assert all(order[one] == other for one, other in zip(cycle, [*cycle[1:], cycle[0]], strict=True))
    assert describe_swapped([tuple(range(9))]).endswith("and so on (9 classes)")


class Own:
    classes = None

    def __init__(self, heeds, every=False, one=None):
        self.heeds, self.every_temperature = heeds, every
        if one is not None:
            self.temperature = one

    def log_probs(self, batch, temperature):
        return (4 * (batch.inputs @ W) / (temperature if self.heeds else 1)).log_softmax(-1)


def test_a_teacher_of_the_users_own_that_ignores_the_temperature_is_told():
    for every in (False, True):
        assert "same answers at temperature 4 as at 1" in of_classes(Own(False, every))[0]
        assert of_classes(Own(True, every)) == []
    assert of_classes(Own(False), 1.0) == [] == of_classes(Own(False, one=4.0))
    one_hot = Own(True)
    one_hot.log_probs = lambda batch, temperature: torch.eye(4)[(batch.inputs @ W).argmax(1)].log()
    assert of_classes(one_hot) == [], "certain answers are the same at every temperature"


def test_contradicting_labels_are_told_with_their_number():
    x, y = torch.cat([X[:60], X[:5]]), torch.cat([Y[:60], (Y[:5] + 1) % 4])
    with pytest.warns(limbeck.LimbeckWarning, match="5 of 65 training examples duplicate the inputs of an earlier one"):
        limbeck.train(nn.Linear(8, 4), (x, y), epochs=1, precision="float32")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = torch.cat([Y[:60], Y[:5]])
        limbeck.train(nn.Linear(8, 4), (x, again), epochs=1, precision="float32")


def test_a_layout_that_cannot_be_known_is_told_and_one_that_is_said_is_not():
    for shape in ((2, 3, 9, 3), (2, 1, 9, 3), (2, 4, 5, 3)):
        with pytest.warns(limbeck.LimbeckWarning, match=f"{shape[1]} x {shape[2]} pixels with 3 channels on the last"):
            Examples.of(np.zeros(shape, np.uint8))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for shape in ((2, 3, 9, 9), (2, 1, 3, 3), (2, 1, 9, 1), (2, 3, 9, 1), (2, 64, 1, 1), (2, 3, 9, 5)):
            assert Examples.of(np.zeros(shape, np.uint8)).shape == shape[1:]
        assert Examples.of(np.zeros((2, 3, 9, 3), np.uint8), layout="NHWC").shape == (3, 3, 9)
        assert Examples.of(np.zeros((2, 3, 9, 3), np.uint8), layout="NCHW").shape == (3, 9, 3)


@pytest.mark.parametrize("role", ["svd", "", " ", "int8", "svd + int8", "svd + fine-tune"])
def test_names_that_compressed_networks_have_are_refused(role):
    network, rule = nn.Sequential(nn.Linear(8, 30), nn.Linear(30, 4)), RankRule(rank=(2,))
    with pytest.raises(limbeck.LimbeckError, match="role"):
        limbeck.compress(network, (X, Y), rule=rule, role=role)
    with pytest.raises(limbeck.LimbeckError, match="before"):
        limbeck.compress(network, (X, Y), rule=rule, before={role: network})
    with pytest.raises(limbeck.LimbeckError, match="before holds 'original'"):
        limbeck.compress(network, (X, Y), rule=rule, before={"original": network})


def test_settings_of_a_fine_tuning_that_there_is_none_of_are_told():
    network, rule = nn.Sequential(nn.Linear(8, 30), nn.Linear(30, 4)), RankRule(rank=(2,))
    with pytest.raises(limbeck.LimbeckError, match="the teacher is for fine-tuning: give finetune_epochs"):
        limbeck.compress(network, (X, Y), rule=rule, teacher=Fixed())
    with pytest.warns(limbeck.LimbeckWarning, match="temperature, learning_rate belong to fine-tuning"):
        limbeck.compress(network, (X, Y), rule=rule, finetuning=FineTuning(temperature=2.0, learning_rate=0.1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        limbeck.compress(network, (X, Y), rule=rule, finetuning=FineTuning(seed=3, device="cpu"))


def test_swapped_classes_are_those_of_the_assignment_over_all_classes():
    random, many = np.random.default_rng(0), 0
    for _ in range(300):
        count = int(random.integers(3, 9))
        labels = random.integers(0, count - 1, 60)  # the last class has no example
        order = np.arange(count)
        moved = random.choice(count, 2, replace=False)
        order[moved] = order[moved[::-1]]
        predicted = np.where(
            random.random(60) < random.choice([0, 0.2, 0.6]), random.integers(0, count, 60), order[labels]
        )
        found = swapped_classes(labels, predicted, count)
        assert found == swapped_slowly(labels, predicted, count)
        many += bool(found)
    assert 50 < many < 250


def swapped_slowly(labels, predicted, count):
    """The definition, over the whole confusion matrix."""
    from scipy.optimize import linear_sum_assignment

    confusion = np.zeros((count, count), int)
    np.add.at(confusion, (labels, predicted), 1)
    _, chosen = linear_sum_assignment(confusion, maximize=True)
    goes, stays = confusion[np.arange(count), chosen], confusion.diagonal()
    sure = (goes - stays > 3 * np.sqrt(goes + stays)) & (stays <= confusion.sum(1) / 4) & (goes >= confusion.sum(1) / 2)
    cycles, seen = [], set()
    for first in range(count):
        cycle, place = [], first
        while place not in seen:
            seen.add(place)
            cycle.append(place)
            place = int(chosen[place])
        if len(cycle) > 1 and (goes >= stays)[cycle].all() and sure[cycle].sum() >= max(2, len(cycle) / 2):
            cycles.append(tuple(cycle))
    return cycles


def test_swapped_classes_of_very_many_are_found_without_a_matrix_of_all():
    count = 1_000_000  # whose matrix would take eight terabytes
    labels = np.repeat([5, 700_000, 999_999], 50)
    assert swapped_classes(labels, labels, count) == []
    assert swapped_classes(labels, np.repeat([700_000, 5, 999_999], 50), count) == [(5, 700_000)]


class Wide:
    """Answers that take memory: how many rows of a hundred thousand classes it is asked for at a time."""

    classes, every_temperature = None, True

    def __init__(self, count):
        self.count, self.asked = count, []

    def log_probs(self, batch, temperature):
        self.asked.append(len(batch.index))
        return torch.randn(len(batch.index), self.count).log_softmax(-1)


def test_teachers_of_many_classes_are_asked_for_few_rows_at_a_time(tmp_path):
    count, examples = 60_000, Examples.of(torch.randn(170, 8))
    names, looked = [str(k) for k in range(count)], Wide(count)
    tell_odd_teacher(as_teacher(looked), examples, Augmentation(), 1.0, CPU, Notes(), classes=names)
    assert max(looked.asked) * count <= 1 << 23
    stored = Wide(count)
    SoftTargets.write(tmp_path, stored, examples, classes=names, encoding="topk", k=3, temperature=1.0)
    assert max(stored.asked) * count <= 1 << 24 and sum(stored.asked) >= 170


def test_an_answer_that_is_not_a_number_is_not_the_same_as_others():
    broken = Own(True)
    broken.log_probs = lambda batch, temperature: torch.full((len(batch.index), 4), float("nan"))
    assert not any("the same output" in text for text in of_classes(broken))
