"""Mixup and cutmix as functions of example and view: pinned draws, a slow version, and what must not count."""

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn
from torch.utils.data import Dataset

from limbeck import SoftTargets
from limbeck.data import Examples, Feed
from limbeck.data.columns import Columns
from limbeck.data.images import ImageArrays
from limbeck.data.items import read_items
from limbeck.data.mixing import Mixture, draw_mixture, refuse_mixing
from limbeck.data.multi_label import MultiLabel
from limbeck.data.positions import Positions
from limbeck.data.table import Table
from limbeck.data.text import Text
from limbeck.data.viewing import Viewing, in_parts
from limbeck.errors import ConfigError, DataError, MismatchError, SelfCheckError
from limbeck.kaldi.source.spliced import Spliced
from limbeck.keyed import uniform
from limbeck.losses import hard_target_loss
from limbeck.methods.own import OwnLoss, OwnObjective
from limbeck.options import Augmentation, ImagePresentation, OwnAugmentation
from limbeck.protocols import Batch, Loss, MixedLabels
from limbeck.teachers import StoredTargets
from limbeck.training.class_weights import Weighted
from limbeck.training.objective import DistillationObjective, LabelObjective, check_objective

draw = torch.Generator().manual_seed(0)
PIXELS = torch.randint(0, 256, (30, 3, 8, 10), dtype=torch.uint8, generator=draw)
LABELS = torch.arange(30) % 5
BOTH = Augmentation(shift=2, mixup=0.4, cutmix=1.0, view_seed=7)
READ = Augmentation(augment="standard", erasing=0.5, mixup=0.4, cutmix=1.0, view_seed=7)


def pictures():
    return Examples.of(PIXELS, LABELS)


def whole(viewing, view=0, size=30):
    order = torch.arange(30)
    batches = list(viewing.batches(order, in_parts(30, size), view))
    return torch.cat([batch.inputs for batch in batches]), batches


@pytest.mark.parametrize(
    ("settings", "partners", "shares", "box"),
    [
        ({"mixup": 0.2}, [31, 2, 28, 6], [0, 38317, 42203, 8], [0, 0, 0, 0]),
        ({"cutmix": 1.0}, [31, 2, 28, 6], [12843, 49252, 53998, 30597], [0, 0, 50967, 44927]),
        ({"mixup": 0.4, "cutmix": 1.0}, [31, 2, 28, 6], [94, 36043, 38400, 30597], [0, 0, 50967, 44927]),
    ],
)
def test_what_is_drawn_never_changes(settings, partners, shares, box):
    """Stores hold answers to these very mixtures."""
    keys = torch.tensor([0, 1, 7, 1 << 33])
    found = draw_mixture(keys, Augmentation(view_seed=11, **settings), view=3, among=50)
    assert found.partner.tolist() == partners
    assert (found.share * 65536).tolist() == shares
    assert (found.box[3] * 65536).tolist() == box


def slowly(number, view, augmentation, shown, partners):
    """One mixed image and its share, pixel by pixel, from the definition."""
    key = torch.tensor([number])
    first, second = (
        uniform(key, seed=augmentation.view_seed, view=view, draw=128 + place)[0].double().numpy() for place in (0, 1)
    )
    own, other = shown[number], shown[partners[int((first[1] + first[2] / 2**24) * len(partners))]]
    rank = (np.floor(first[0] * 4096) + 0.5) / 4096
    height, width = own.shape[1:]
    if first[3] < 0.5:
        share = float(np.float32(round(stats.beta.ppf(rank, 0.4, 0.4) * 65536) / 65536))
        return np.float32(share) * own + np.float32(1 - share) * other, share
    half = np.sqrt(1 - round(stats.beta.ppf(rank, 1, 1) * 65536) / 65536) / 2
    low, high = (np.round(np.clip(second[:2] + sign * half, 0, 1) * 65536) / 65536 for sign in (-1, 1))
    mixed = own.copy()
    for y in range(height):
        for x in range(width):
            if round(low[0] * height) <= y < round(high[0] * height) and (
                round(low[1] * width) <= x < round(high[1] * width)
            ):
                mixed[:, y, x] = other[:, y, x]
    return mixed, 1 - (high - low).prod()


def test_it_is_what_a_slow_version_makes():
    rows = torch.tensor([12, 3, 29, 4, 8, 0, 17, 21, 5, 9])
    examples = pictures().take(rows)
    plain, _ = whole_of(Viewing(examples, Augmentation(shift=2, view_seed=7)), len(rows))
    shown = dict(zip(rows.tolist(), plain.numpy(), strict=True))
    (found, (batch,)) = whole_of(Viewing(examples, BOTH), len(rows))
    for place, number in enumerate(rows.tolist()):
        mixed, share = slowly(number, 1, BOTH, shown, sorted(shown))
        assert np.array_equal(found[place].numpy(), mixed)
        assert float(batch.mixed.share[place]) == pytest.approx(share, abs=2**-16)
    assert (batch.mixed.share > 0.5).any() and (batch.mixed.share < 0.5).any()


def whole_of(viewing, count):
    batches = list(viewing.batches(torch.arange(count), [slice(0, count)], 1))
    return batches[0].inputs, batches


@pytest.mark.parametrize("alpha", [0.2, 1.0, 3.0])
def test_shares_are_of_the_beta_distribution_and_partners_even(alpha):
    keys = torch.arange(40_000)
    found = draw_mixture(keys, Augmentation(mixup=alpha), view=2, among=50)
    # Kolmogorov and Smirnov's bound for 40,000 draws, and half a step of 4,096 quantiles; shares below 2**-17 are 0.
    places = np.linspace(1e-3, 1 - 1e-3, 999)
    below = np.searchsorted(np.sort(found.share.numpy()), places, side="right") / len(keys)
    assert np.abs(below - stats.beta(alpha, alpha).cdf(places)).max() < 1.63 / 200 + 1 / 4096
    assert stats.chisquare(np.bincount(found.partner.numpy(), minlength=50)).pvalue > 1e-3
    assert abs(np.corrcoef(found.share.numpy(), found.partner.numpy())[0, 1]) < 0.02
    cut = draw_mixture(keys, Augmentation(mixup=alpha, cutmix=alpha), view=2, among=50)
    assert abs(float(cut.boxed.float().mean()) - 0.5) < 0.01
    box = cut.box[cut.boxed].double()
    area = (box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1])
    assert torch.allclose(1 - area, cut.share[cut.boxed].double(), atol=2**-16)
    assert not cut.box[~cut.boxed].any()
    other = draw_mixture(keys, Augmentation(mixup=alpha), view=3, among=50)
    assert (other.partner == found.partner).float().mean() < 0.03


@pytest.mark.parametrize("augmentation", [BOTH, READ], ids=["in memory", "as read"])
def test_batch_size_order_and_workers_do_not_count(augmentation):
    wanted, (batch,) = whole(Viewing(pictures(), augmentation, workers=0), view=4)
    for size, workers in ((1, 0), (7, 1), (16, 4)):
        if augmentation is BOTH and workers:
            continue  # nothing is read
        found, batches = whole(Viewing(pictures(), augmentation, workers=workers), view=4, size=size)
        assert torch.equal(found, wanted)
        assert torch.equal(torch.cat([each.mixed.labels for each in batches]), batch.mixed.labels)
    order = torch.randperm(30, generator=torch.Generator().manual_seed(1))
    # Neither the order of a batch, nor that of the examples themselves: partners are chosen by number.
    shuffled = Viewing(pictures(), augmentation, workers=0).batch(order, 4)
    turned = Viewing(pictures().take(order), augmentation, workers=0).batch(torch.arange(30), 4)
    for other in (shuffled, turned):
        assert torch.equal(other.inputs, wanted[order])
        assert torch.equal(other.mixed.share, batch.mixed.share[order])
        assert torch.equal(other.mixed.labels, batch.mixed.labels[order])
    assert not torch.equal(Viewing(pictures(), augmentation, workers=0).batch(torch.arange(30), 5).inputs, wanted)


@pytest.mark.parametrize("alpha", [{"mixup": 1.0}, {"cutmix": 1.0}])
def test_each_model_s_presentation_has_the_same_partner_share_and_box(alpha):
    large = ImagePresentation(size=(24, 30), mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4), crop_pct=1.0)
    small = ImagePresentation.plain((8, 10), channels=3)
    examples = pictures().with_presentation(small)
    rows = torch.arange(30)
    mixed = Viewing(examples, Augmentation(**alpha), presentations=[large], workers=0).batch(rows)
    later = Viewing(examples, Augmentation(**alpha), workers=0).batch(rows)
    assert torch.equal(mixed.seen_as(large), later.seen_as(large))
    drawn = draw_mixture(rows, Augmentation(**alpha), view=0, among=30)
    for presentation in (small, large):
        plain = Viewing(examples, presentations=[presentation], workers=0).batch(rows).seen_as(presentation)
        height, width = presentation.size
        for row in range(30):
            if "mixup" in alpha:
                weight = drawn.share[row].view(1, 1)
            else:
                top, left, bottom, right = (drawn.box[row] * torch.tensor([height, width] * 2)).round().int().tolist()
                weight = torch.ones(height, width)
                weight[top:bottom, left:right] = 0
            wanted = plain[row] * weight + plain[drawn.partner[row]] * (1 - weight)
            assert torch.equal(mixed.seen_as(presentation)[row], wanted)


def test_rows_of_tables_columns_and_items_are_mixed():
    numbers = torch.randn(30, 4, generator=torch.Generator().manual_seed(2))
    table = Table(
        {"a": numbers[:, 0].double().numpy(), "b": (np.arange(30) % 3).astype(np.int32)}, {"b": ("x", "y", "z")}
    )

    class Items(Dataset):
        targets = LABELS

        def __len__(self):
            return 30

        def __getitem__(self, number):
            return numbers[number] + torch.rand(()), int(LABELS[number])

    items = read_items(Items())
    assert items.random
    asked = Augmentation(mixup=1.0, view_seed=3)
    drawn = draw_mixture(torch.arange(30), asked, view=2, among=30)
    share = drawn.share.unsqueeze(-1)
    for inputs in (numbers, table, Columns({"x": numbers, "y": 2 * numbers}), items.inputs):
        examples = Examples.of(inputs, LABELS)
        kept = examples.drawn(asked)
        assert (type(kept) is OwnAugmentation) == examples.random and kept.mixup == 1.0
        alone = Augmentation(view_seed=3)
        plain, mixed = (Viewing(examples, each, workers=0).batch(torch.arange(30), 2) for each in (alone, asked))
        named = plain.inputs if isinstance(plain.inputs, dict) else {"": plain.inputs}
        found = mixed.inputs if isinstance(mixed.inputs, dict) else {"": mixed.inputs}
        for name, values in named.items():
            assert torch.equal(found[name], values * share + values[drawn.partner] * (1 - share))


REFUSED = [
    (Examples.of(torch.arange(6).view(3, 2)), {"mixup": 1.0}, "mixup 1: these examples are integers"),
    (Examples.of_labels(torch.rand(3, 2), [[1, 0]] * 3), {"mixup": 0.2}, "mixup 0.2: these examples are pairs of"),
    (Examples.of(torch.rand(3, 2)), {"cutmix": 1.0}, r"cutmix 1: cutmix is for images \(C, H, W\)"),
]


@pytest.mark.parametrize(("examples", "settings", "words"), REFUSED)
def test_what_has_no_mean_is_refused_by_name(examples, settings, words):
    with pytest.raises(ConfigError, match=words):
        Viewing(examples, Augmentation(**settings))


@pytest.mark.parametrize("source", [Text, Positions, MultiLabel, Spliced])
def test_other_sources_say_what_they_are(source):
    with pytest.raises(ConfigError, match=f"mixup 1: these examples are {source.unmixable}, of which there is no mean"):
        refuse_mixing(Augmentation(mixup=1.0), kind="", shape=(3,), unmixable=source.unmixable)


def test_an_epoch_is_continued_at_any_step():
    feed = Feed(pictures(), batch_size=7, seed=2, augmentation=BOTH)
    every = list(feed.batches(3))
    for start in range(len(every)):
        for batch, wanted in zip(feed.batches(3, start=start), every[start:], strict=True):
            assert torch.equal(batch.inputs, wanted.inputs) and torch.equal(batch.mixed.share, wanted.mixed.share)


def test_token_ids_beside_numbers_are_refused_by_name():
    examples = Examples.of({"values": torch.rand(3, 2), "input_ids": torch.ones(3, 2, dtype=torch.int64)})
    with pytest.raises(DataError, match="input input_ids is torch.int64"):
        Viewing(examples, Augmentation(mixup=1.0)).batch(torch.arange(3))


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
@pytest.mark.parametrize("value", [-1, 0.001, 101, float("nan")])
def test_shares_out_of_range_are_refused(name, value):
    with pytest.raises(ConfigError, match=f"{name} must be 0 for none, or from 0.01 to 100"):
        Augmentation(**{name: value})


class Sums(nn.Module):
    """A teacher whose answers do not depend on the size of the batch, in its last bit neither."""

    def forward(self, x):
        return torch.stack([x[:, 0, place // 3, place % 3] * 3 for place in range(5)], -1)


@pytest.mark.filterwarnings("ignore:the teacher is right")
@pytest.mark.parametrize("augmentation", [BOTH, READ], ids=["in memory", "as read"])
def test_stored_answers_are_live_ones_and_serve_no_part(tmp_path, augmentation):
    counted = Augmentation(**{**vars(augmentation), "views": 2})
    examples, net = pictures(), Sums()
    card = SoftTargets.write(
        tmp_path, net, examples, classes="abcde", augmentation=counted, dtype="float32", batch_size=13
    )
    assert card.teacher_accuracy is None  # a mixture has no class to be right about
    store = SoftTargets.open(tmp_path, examples=examples, teacher=net).bind(examples, counted)
    assert store.augmentation == counted
    for epoch in range(3):
        for batch in Feed(examples, batch_size=8, seed=5, augmentation=counted, workers=0).batches(epoch):
            live = net(batch.inputs).log_softmax(-1)
            assert torch.equal(store.log_probs(batch, 1.0), live.log_softmax(-1))  # as a store softens what it holds
    part = examples.take(torch.arange(20))
    with pytest.raises(MismatchError, match="partners of mixup and cutmix are chosen among the 30 examples"):
        SoftTargets.open(tmp_path, examples=part)
    with pytest.raises(MismatchError, match="partners of mixup and cutmix are chosen among the 30 examples"):
        store.bind(part, counted)
    with pytest.raises(MismatchError, match="mixup is 0.0 here and 0.4"):
        store.bind(examples, Augmentation(**{**vars(counted), "mixup": 0.0}))
    memory = StoredTargets(torch.zeros(2, 30, 5).log_softmax(-1), torch.arange(30), source=examples.source)
    with pytest.raises(MismatchError, match="among all 30 examples that were answered, and these are 20"):
        memory.bind(part, counted)


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(4)
    shares = torch.rand(40, generator=generator)
    mixed = MixedLabels((torch.arange(40) * 3 + 1) % 7, shares)
    return Batch(torch.arange(40), 0, torch.randn(40, 5, generator=generator), torch.arange(40) % 7, mixed=mixed)


TEACHER = nn.Linear(5, 7)
OBJECTIVES = [
    LabelObjective(0.1),
    DistillationObjective(TEACHER, temperature=4.0, hard_weight=1.0),
    DistillationObjective(TEACHER, temperature=4.0, hard_weight=0.3, label_smoothing=0.1),
    DistillationObjective(TEACHER, temperature=100.0, hard_weight=0.3),
    DistillationObjective(TEACHER, method="logits", hard_weight=0.5),
]


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_labels_are_mixed_and_the_objective_proves_itself(objective, batch):
    logits = torch.randn(40, 7, generator=torch.Generator().manual_seed(6))
    check_objective(objective, batch, 7)
    mixed = batch.mixed

    def of(labels):
        return objective(logits, Batch(batch.index, 0, batch.inputs, labels)).per_example

    wanted = mixed.share * of(batch.labels) + (1 - mixed.share) * of(mixed.labels)
    assert torch.allclose(objective(logits, batch).per_example, wanted, rtol=1e-5, atol=1e-5)


def own_loss(logits, teacher, labels):
    return hard_target_loss(logits, labels) + (logits.log_softmax(-1) - teacher).square().mean(-1)


@pytest.mark.parametrize(
    "objective",
    [
        DistillationObjective(TEACHER, method=OwnLoss(own_loss, classes=7), hard_weight=0.0),
        OwnObjective(hard_target_loss, classes=7),
        Weighted(LabelObjective(), [5, 1, 2, 3, 4, 5, 6]),
        Weighted(DistillationObjective(TEACHER, hard_weight=0.3), [5, 1, 2, 3, 4, 5, 6]),
    ],
    ids=["own method", "own objective", "weighted labels", "weighted distillation"],
)
def test_losses_of_one_s_own_and_weights_of_classes_are_mixed_too(objective, batch):
    logits = torch.randn(40, 7, generator=torch.Generator().manual_seed(6))
    getattr(objective, "prove", lambda batch, classes: check_objective(objective, batch, classes))(batch, 7)
    mixed, inner = batch.mixed, getattr(objective, "inner", objective)

    def of(labels):
        return inner(logits, Batch(batch.index, 0, batch.inputs, labels)).per_example

    wanted = mixed.share * of(batch.labels) + (1 - mixed.share) * of(mixed.labels)
    if inner is not objective:
        own, others = (objective.weights[labels] for labels in (batch.labels, mixed.labels))
        wanted = wanted * (mixed.share * own + (1 - mixed.share) * others)
    assert torch.allclose(objective(logits, batch).per_example, wanted, rtol=1e-5, atol=1e-5)


def test_a_loss_that_forgets_the_partner_is_refused(batch):
    class Forgetful(LabelObjective):
        def __call__(self, logits, batch):
            return Loss(hard_target_loss(logits, batch.labels))

    with pytest.raises(SelfCheckError, match="differs from its formula"):
        check_objective(Forgetful(), batch, 7)


def test_most_of_a_mixture_counts_as_its_class(batch):
    main = batch.main_labels
    for row in range(40):
        own = float(batch.mixed.share[row]) >= 0.5
        assert main[row] == (batch.labels if own else batch.mixed.labels)[row]
    assert torch.equal(batch.head(3).main_labels, main[:3])


def test_a_mixture_with_itself_is_itself_and_whole_boxes_are_the_partner():
    both = torch.rand(4, 3, 6, 6, generator=torch.Generator().manual_seed(9))
    zero, ones = torch.zeros(2, dtype=torch.int64), torch.ones(2, dtype=torch.bool)
    box = torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.5, 0.5, 0.5, 0.5]])
    found = Mixture(zero, torch.tensor([0.0, 1.0]), box, ones).blend(both, cut=True)
    assert torch.equal(found[0], both[2]) and torch.equal(found[1], both[1])
    averaged = Mixture(zero, torch.tensor([1.0, 0.25]), box, ~ones).blend(torch.cat((both[:2], both[:2])), cut=False)
    assert torch.equal(averaged[0], both[0]) and torch.allclose(averaged[1], both[1], rtol=1e-6)


def test_images_in_memory_are_not_cropped_for_a_mixture():
    source = ImageArrays(PIXELS)
    mixed = Augmentation(mixup=1.0)
    rows = torch.arange(30)
    assert torch.equal(source.fetch(rows, rows, augmentation=mixed)[0], source.fetch(rows, rows)[0])
