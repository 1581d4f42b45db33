"""What a teacher sees where a student sees augmented views: the same, others, or the examples as they are."""

import dataclasses
import tomllib

import pytest
import torch
from torch import nn
from torch.utils.data import Dataset

import limbeck
from limbeck import SoftTargets
from limbeck.data import Examples, Feed
from limbeck.data.items import read_items
from limbeck.data.viewing import Viewing
from limbeck.errors import ConfigError, MismatchError, RunError
from limbeck.options import Augmentation, Distillation
from limbeck.protocols import Teaching
from limbeck.training.objective import DistillationObjective

draw = torch.Generator().manual_seed(0)
PIXELS = torch.randint(0, 256, (24, 1, 6, 6), dtype=torch.uint8, generator=draw)
LABELS = torch.arange(24) % 3
SHIFTED = Augmentation(shift=2, view_seed=4)
FAST = {"epochs": 3, "batch_size": 8, "precision": "float32", "baseline": False, "hard_weight": 0.0, "workers": 0}

pytestmark = pytest.mark.filterwarnings("ignore:the teacher is right")


def pictures():
    return Examples.of(PIXELS, LABELS)


def network():
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 3))


class Recording(nn.Module):
    """A teacher that remembers what it was shown."""

    def __init__(self):
        super().__init__()
        self.net, self.seen = network(), []

    def forward(self, x):
        self.seen.append(x.detach().clone())
        return self.net(x)


def rows_in(shown, viewing, views):
    """Whether each image that was shown is among some views."""
    known = {each.numpy().tobytes() for view in views for each in viewing.batch(torch.arange(24), view).inputs}
    return [image.numpy().tobytes() in known for batch in shown for image in batch]


@pytest.mark.parametrize("live", [True, False])
@pytest.mark.parametrize("start", [0, 2])
def test_each_batch_has_the_teacher_s_view_beside_the_student_s(live, start):
    counted = dataclasses.replace(SHIFTED, views=2)
    others = Augmentation(shift=2, view_seed=5)
    for view, shown in (("independent", others), ("fixed", None)):
        feed = Feed(pictures(), batch_size=10, seed=3, augmentation=counted, teaching=Teaching(view, live))
        plain = Feed(pictures(), batch_size=10, seed=3, augmentation=counted)
        wanted = Viewing(pictures(), shown)
        for epoch in range(3):
            pairs = zip(feed.batches(epoch, start=start), plain.batches(epoch, start=start), strict=True)
            for batch, alone in pairs:
                assert torch.equal(batch.inputs, alone.inputs) and torch.equal(batch.index, alone.index)
                taught = batch.for_teacher
                assert torch.equal(taught.index, batch.index) and taught.source == batch.source
                assert taught.view == (epoch % 2 if view == "independent" else 0)
                if live:
                    assert torch.equal(taught.inputs, wanted.batch(batch.index, taught.view).inputs)
                    assert torch.equal(taught.head(2).inputs, taught.inputs[:2])
                else:
                    assert taught.inputs.numel() == 0  # a mistake that looks at them would be seen
        assert next(plain.batches(0)).for_teacher.inputs.numel()


def test_only_plain_images_are_shown_for_the_fixed_view_and_other_views_for_the_independent():
    for view, shown in (("fixed", None), ("independent", Augmentation(shift=2, view_seed=5)), ("consistent", SHIFTED)):
        teacher = Recording()
        objective = DistillationObjective(teacher, temperature=2.0, hard_weight=0.0, teacher_view=view)
        objective.teacher.model.seen.clear()
        feed = Feed(pictures(), batch_size=8, seed=0, augmentation=SHIFTED, teaching=objective.teaching)
        for epoch in range(3):
            for batch in feed.batches(epoch):
                objective(torch.zeros(8, 3), batch)
        found = objective.teacher.model.seen
        assert sum(map(len, found)) == 72
        assert all(rows_in(found, Viewing(pictures(), shown), range(3 if shown else 1)))
        assert objective.fingerprint()["teacher_view"] == view
    assert DistillationObjective(teacher, temperature=2.0, hard_weight=1.0, teacher_view="fixed").teaching is None


def run(teacher, view, augmentation=SHIFTED, **settings):
    held = Examples.of(255 - PIXELS[:9], LABELS[:9]).numbered_from(100)
    return limbeck.distill(
        teacher, network(), pictures(), held, teacher_view=view, augmentation=augmentation, **{**FAST, **settings}
    )


def weights(found):
    return torch.cat([each.flatten() for each in found.student.parameters()])


@pytest.mark.parametrize("view", ["consistent", "independent", "fixed"])
def test_a_store_of_the_teacher_s_views_gives_the_student_of_the_live_teacher(tmp_path, view):
    counted = dataclasses.replace(SHIFTED, views=2)
    answered = counted.for_teacher(view)
    SoftTargets.write(tmp_path, network(), pictures(), classes="012", augmentation=answered, dtype="float32")
    live, stored = (run(teacher, view, counted) for teacher in (network(), SoftTargets.open(tmp_path)))
    assert torch.allclose(weights(live), weights(stored), atol=1e-5)
    others = {"consistent", "independent", "fixed"} - {view}
    for other in others:
        with pytest.raises(MismatchError, match="other images than the teacher did"):
            run(SoftTargets.open(tmp_path), other, counted)
        assert not torch.allclose(weights(run(network(), other, counted)), weights(live), atol=1e-4)


def test_live_and_kept_answers_are_the_same():
    """Fixed answers are kept where more epochs use them, and asked for at each step where there is one."""
    long, short = (run(network(), "fixed", epochs=epochs, schedule="constant") for epochs in (3, 1))
    assert long.history[0]["train_loss"] == pytest.approx(short.history[0]["train_loss"], rel=1e-4)


class Moving(Dataset):
    targets = LABELS

    def __len__(self):
        return 24

    def __getitem__(self, number):
        return PIXELS[number].float() / 255 + torch.rand(()), int(LABELS[number])


@pytest.mark.parametrize(
    ("view", "augmentation", "words"),
    [
        ("fixed", None, "teacher_view is fixed, and there is no augmentation"),
        ("independent", Augmentation(), "teacher_view is independent, and there is no augmentation"),
        ("fixed", Augmentation(shift=2, mixup=0.2), "need a teacher that sees the same mixture"),
        ("independent", Augmentation(cutmix=1.0), "need a teacher that sees the same mixture"),
        ("other", SHIFTED, "teacher_view must be .*consistent.*fixed.*independent.*, and is 'other'"),
    ],
)
def test_what_makes_no_sense_is_refused(view, augmentation, words):
    with pytest.raises(ConfigError, match=words):
        run(network(), view, augmentation)


def test_transforms_of_the_user_s_own_have_no_plain_view():
    items = read_items(Moving())
    assert items.random
    held = Examples.of(PIXELS.float(), LABELS).numbered_from(100)
    with pytest.raises(ConfigError, match="the data set's own random transforms"):
        limbeck.distill(network(), network(), items, held, teacher_view="fixed", **FAST)
    feed = Feed(items, batch_size=24, seed=0, teaching=Teaching("independent", live=True), workers=0)
    batch = next(feed.batches(0))
    assert not torch.equal(batch.inputs, batch.for_teacher.inputs)
    assert torch.equal(batch.for_teacher.inputs, Viewing(items, Augmentation(view_seed=1)).batch(batch.index).inputs)


def test_it_is_kept_and_refused_when_a_run_is_resumed_with_another(tmp_path):
    run(network(), "fixed", out=tmp_path / "run", epochs=2)
    with open(tmp_path / "run" / "config.toml", "rb") as stream:
        kept = tomllib.load(stream)
    assert kept["teacher_view"] == "fixed" and kept["mixup"] == 0.0
    with pytest.raises(RunError, match="started with teacher_view = 'fixed', and now it is 'independent'"):
        run(network(), "independent", out=tmp_path / "run", epochs=2, resume=True)
    assert Distillation(teacher_view="fixed").teacher_view == "fixed"


def test_mixtures_are_learnt_with_and_without_labels(tmp_path):
    mixed = Augmentation(shift=1, mixup=0.4, cutmix=1.0, views=2)
    found = run(network(), "consistent", mixed, hard_weight=0.3, baseline=True, label_smoothing=0.1)
    assert found.baseline is not None and found.history[-1]["train_loss"] > 0
    run(network(), "consistent", mixed, out=tmp_path / "run", epochs=2)
    with pytest.raises(RunError, match="started with mixup = 0.4, and now it is 0.2"):
        run(network(), "consistent", dataclasses.replace(mixed, mixup=0.2), out=tmp_path / "run", epochs=2, resume=True)
